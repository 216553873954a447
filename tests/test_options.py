"""An argument with options has a Literal for its annotation, and every way of giving it another value ends in one message.

The members are those that the configs name, the arguments those with such an annotation: a new one is tested by being there.
"""

import inspect
import re
from functools import partial
from pathlib import Path
from typing import Literal, get_args, get_type_hints

import pytest
import torch
import yaml
from hydra.utils import get_object

import mdm.estimators
from mdm.data.splits import Splits
from mdm.data.synthetic import synthetic
from mdm.data.views import Scale
from mdm.formats.prepare import formats
from mdm.hints import list_options, require, require_option
from mdm.runs.kinds import KINDS, list_arguments
from mdm.runs.members import check_member

ROOT = Path(__file__).resolve().parents[1]
ODD = "no such option"


def find_members(node, key=""):
    """Every mapping with a target of ours, and its key."""
    if isinstance(node, dict):
        if str(node.get("_target_", "")).startswith("mdm."):
            yield key, node
        for name, inner in node.items():
            yield from find_members(inner, f"{key}.{name}" if key else name)


MEMBERS = {
    (node["_target_"], key.rpartition(".")[2] if "loggers" not in key else key): node
    for group in ("data", "model", "penalty", "logger")
    for path in sorted((ROOT / "configs" / group).glob("*.yaml"))
    for key, node in find_members(yaml.safe_load(path.read_text()))
}
CHOICES = [
    pytest.param(key, node, name, list_options(argument.hint), id=f"{target.rpartition('.')[2]}.{name}")
    for (target, key), node in MEMBERS.items()
    for name, argument in list_arguments(get_object(target)).items()
    if list_options(argument.hint)
]


def message(name, options):
    return rf"(^|\.){name}: expected one of {re.escape(', '.join(options))}, got '{ODD}'; choose one of them\.$"


def test_there_are_such_arguments():
    assert len(CHOICES) > 20


@pytest.mark.parametrize(("key", "node", "name", "options"), CHOICES)
def test_a_config_with_another_value_is_refused(key, node, name, options):
    with pytest.raises(ValueError, match=message(name, options)):
        check_member(key, {**node, name: ODD})


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """What a run gives to its members."""
    spec = Splits(synthetic(train=40, valid=20, test=20), batch_size=8, text="words", scale="none").spec
    dims = {"language": 4, "audio": 4, "video": 4}
    return {
        **{"spec": spec, "seed": 0, "weight": 1.0, "z_dim": 8, "unimodal_dims": dims, "part_dims": {}},
        "save_dir": str(tmp_path_factory.mktemp("log")),
    }


@pytest.mark.parametrize(("key", "node", "name", "options"), CHOICES)
def test_a_constructor_refuses_another_value(key, node, name, options, given):
    """As it stands, without the checks of types that only tests have."""
    called = get_object(node["_target_"])
    taken = {each: given[each] for each in KINDS[key.split(".")[-2 if "loggers" in key else -1]].given if each in given}
    values = {each: value for each, value in node.items() if each != "_target_"} | taken | {name: ODD}
    build = partial(inspect.unwrap(called.__init__), called.__new__(called)) if inspect.isclass(called) else inspect.unwrap(called)
    with pytest.raises(ValueError, match=message(name, options)):
        build(**values)


SPLITS = [each for each, argument in list_arguments(Splits).items() if list_options(argument.hint)]


@pytest.mark.parametrize("name", [*SPLITS, "scale"])
def test_the_data_of_a_run_refuse_another_value(name):
    options = list_options(list_arguments(Splits)[name].hint) or get_args(Scale)
    make = partial(inspect.unwrap(Splits.__init__), Splits.__new__(Splits), synthetic(train=40, valid=20, test=20))
    for value in (ODD, {"language": options[0], "audio": ODD, "video": options[0]} if name == "scale" else ODD):
        with pytest.raises(ValueError, match=message(name, options)):
            make(**{name: value})


FUNCTIONS = [
    pytest.param(called, name, list_options(hint), id=f"{called.__name__}.{name}")
    for called in [*formats().values(), *(getattr(mdm.estimators, each) for each in mdm.estimators.__all__)]
    if inspect.isfunction(called)
    for name, hint in get_type_hints(inspect.unwrap(called)).items()
    if list_options(hint)
]


def test_there_are_such_functions():
    assert {each.id.partition(".")[0] for each in FUNCTIONS} >= {"read_csd", "f_divergence", "gaussian_entropy", "orthogonality"}


@pytest.mark.parametrize(("called", "name", "options"), FUNCTIONS)
def test_a_function_refuses_another_value(called, name, options, tmp_path):
    rows = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    given = {"source": tmp_path, "h": rows, "a": rows, "b": rows, "classes": [rows], "joint": rows[:, 0], "product": rows[:, 1]}
    with pytest.raises(ValueError, match=message(name, options)):
        inspect.unwrap(called)(
            **{each: given[each] for each in inspect.signature(called).parameters if each in given}, **{name: ODD}
        )


def test_options_by_hand():
    require_option("head", "mlp", Literal["mlp", "linear"])
    require_option("head", "mlp", ["mlp"])
    require("model.head", None, Literal["mlp"] | None)
    with pytest.raises(ValueError, match=r"^head: expected one of mlp, linear, got 'cnn'; choose one of them\.$"):
        require_option("head", "cnn", Literal["mlp", "linear"])
    for hint in (Literal["mlp", "linear"], Literal["mlp", "linear"] | None):
        assert list_options(hint) == ("mlp", "linear")
        with pytest.raises(ValueError, match=r"^model\.head: expected one of mlp, linear, got 3; choose one of them\.$"):
            require("model.head", 3, hint)
    assert list_options(str) == list_options(bool | Literal["warn"]) == ()
