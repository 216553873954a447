"""What a config may build: each place its own kind, of this package, torch or an installed package, and of plain values."""

import inspect
import sys
import types
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from mdm.backbones.ef_lstm import EFLSTM
from mdm.data.base import Segments
from mdm.data.synthetic import synthetic
from mdm.hints import is_plain
from mdm.runs import members
from mdm.runs.kinds import KINDS, MAPPINGS, list_arguments
from mdm.runs.members import make, resolve
from mdm.types import DataSpec, Feature

ROOT = Path(__file__).resolve().parents[1]
SPEC = DataSpec({"audio": Feature(2), "video": Feature(3)}, ("y",), (-3.0, 3.0), (0.0,), True)


def node_of(key, **values):
    """A node where its key is."""
    cfg = OmegaConf.create()
    OmegaConf.update(cfg, key, values, force_add=True)
    return OmegaConf.select(cfg, key)


def targets():
    """(key, target) of every member that a file under configs names."""

    def walk(node, key):
        if isinstance(node, dict):
            if "_target_" in node:
                yield key, node["_target_"]
            for name, inner in node.items():
                yield from walk(inner, f"{key}.{name}" if key else name)

    for path in (ROOT / "configs").rglob("*.yaml"):
        if "hydra" not in path.parts and path.parent.name != "configs":
            yield from walk(OmegaConf.to_container(OmegaConf.load(path)), "")


@pytest.mark.parametrize(("key", "target"), sorted(set(targets())))
def test_every_member_of_configs_is_of_its_place_alone(key, target):
    member = resolve(target, key)
    kind = members.find_kind(key)
    for name, argument in list_arguments(member).items():
        assert name in kind.given or is_plain(argument.hint), f"{target}: no YAML has a value for {name}"
    for other, admits in KINDS.items():
        if admits is not kind:
            with pytest.raises(ValueError, match=f"but its _target_ is '{target}'"):
                resolve(target, f"x.{other}.one" if other in MAPPINGS else f"x.{other}")


def test_a_key_where_nothing_is_built():
    for key in ("model", "loggers", "trainer.callbacks", ""):
        with pytest.raises(ValueError, match="is none of these; remove its _target_"):
            make(OmegaConf.create({"_target_": "torch.nn.L1Loss"}) if not key else node_of(key, _target_="torch.nn.L1Loss"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hidden": 12.5}, "model.backbone.hidden must be a whole number of at least 1 or a mapping"),
        ({"dropout": 2}, "model.backbone.dropout must be a finite number between 0 and 1, but is 2"),
        ({"hiden": 3}, "did you mean model.backbone.hidden"),
        ({"spec": 3}, "has no key spec"),
        ({"variant": "both"}, "^model.backbone.variant: expected one of concat, separate, got 'both'"),
        (
            {"hidden": 10**15},
            "model.backbone must have values of which mdm.backbones.ef_lstm.EFLSTM can be built, but has .*RuntimeError",
        ),
    ],
)
def test_values_of_which_nothing_can_be_built(values, message):
    with pytest.raises(ValueError, match=message) as raised:
        make(node_of("model.backbone", _target_="mdm.backbones.ef_lstm.EFLSTM", **values), spec=SPEC)
    assert "\n" not in str(raised.value)


def test_lists_are_tuples_and_the_rest_is_passed_on():
    made = make(
        node_of("model.optimizer", _target_="torch.optim.Adam", betas=[0.5, 0.6]), params=[torch.nn.Parameter(torch.ones(1))]
    )
    assert made.defaults["betas"] in ((0.5, 0.6), [0.5, 0.6])
    assert isinstance(make(node_of("x.backbone", _target_="mdm.backbones.ef_lstm.EFLSTM"), spec=SPEC), EFLSTM)


def test_a_stand_in_takes_what_synthetic_takes():
    """All but the targets; by `Annotated[Any, synthetic]`."""
    mine = list_arguments(resolve("mdm.data.standin.standin", "data.segments"))
    assert set(inspect.signature(synthetic).parameters) < set(mine)
    assert mine["rho"] == list_arguments(synthetic)["rho"]


# ---- installed packages


@pytest.fixture
def installed(monkeypatch):
    """A package that declares members and has more than these; as if installed."""
    module = types.ModuleType("magpie")

    class Magpie(EFLSTM.__bases__[0]):
        def __init__(self, spec: DataSpec, feathers: int = 3):
            super().__init__()
            self.feathers = feathers

        def encode(self, batch):
            raise NotImplementedError

        def fuse(self, encoded):
            raise NotImplementedError

    def nest(twigs: int = 3) -> Segments:
        raise RuntimeError("no twigs")

    class Hidden(Magpie):
        pass

    for found in (Magpie, nest, Hidden):
        found.__module__ = "magpie"
        setattr(module, found.__name__, found)
    monkeypatch.setitem(sys.modules, "magpie", module)
    entries = [
        EntryPoint("bird", "magpie:Magpie", members.GROUP),
        EntryPoint("nest", "magpie:nest", members.GROUP),
        EntryPoint("system", "os:system", members.GROUP),
        EntryPoint("broken", "magpie_that_is_not_there:X", members.GROUP),
    ]
    monkeypatch.setattr(members, "entry_points", lambda group: entries if group == members.GROUP else [])
    members.find_declared.cache_clear()
    yield module
    members.find_declared.cache_clear()


def test_a_declared_member_is_built_in_its_place(installed):
    made = make(node_of("model.backbone", _target_="magpie.Magpie", feathers=7), spec=SPEC)
    assert made.feathers == 7
    with pytest.raises(ValueError, match=r"model\.backbone\.feathers must be a whole number, but is 'x'"):
        make(node_of("model.backbone", _target_="magpie.Magpie", feathers="x"), spec=SPEC)
    with pytest.raises(ValueError, match=r"data\.segments must have values .*RuntimeError: no twigs"):
        make(node_of("data.segments", _target_="magpie.nest"))


@pytest.mark.parametrize(
    ("key", "target"),
    [
        *(("penalty.objective", "magpie.Magpie"), ("model.backbone", "magpie.nest"), ("model.backbone", "magpie.Hidden")),
        *(
            ("model.backbone", "os.system"),
            ("data.segments", "os.system"),
            ("model.backbone", "bird"),
            ("model.backbone", "magpie:Magpie"),
        ),
    ],
)
def test_a_declaration_does_not_open_another_place(installed, key, target):
    with pytest.raises(ValueError, match=f"{key} must be .* but its _target_ is '{target}'"):
        resolve(target, key)


def test_a_broken_package_is_named(installed):
    with pytest.raises(
        ValueError, match=r"is the entry point broken of mdm\.members, but magpie_that_is_not_there:X cannot be imported"
    ):
        resolve("magpie_that_is_not_there.X", "model.backbone")
