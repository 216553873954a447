"""The examples in docstrings print what they say, and each class that a user meets has one.

A user meets the members that the configs name and the statistics of tables, their contracts, and what these are built from and
exchange. None is listed here: each is found by being named in a config, by lying in a folder, or in an annotation of one that was
found. These need no example:

- what a declaration is read into (`mdm.sweeps`, `mdm.tables`, the options of a study): an experiment's file is the example;
- what comes out of a finished run (`mdm.load`): the README has it, and a study has the command that reads its runs instead;
- loggers that need a package which not everybody has.
"""

import doctest
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml
from hydra.utils import get_object

from mdm.backbones.base import Backbone
from mdm.data.splits import Splits
from mdm.metrics import Metric
from mdm.penalties.base import Penalty
from mdm.runs.loggers import Logger
from mdm.statistics.verdicts import Statistic, list_statistics
from mdm.studies import Study

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mdm"
WITH_EXAMPLES = sorted(
    ".".join(("mdm", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)
CONTRACTS = (Backbone, Penalty, Splits, Metric, Statistic, Study, Logger)
DECLARED = ("mdm.sweeps.", "mdm.tables.", "mdm.study", "mdm.studies.", "mdm.reference.")


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_print_what_they_say(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0


def find_targets(node: Any) -> Iterator[str]:
    """Every ``_target_`` of ours in a config."""
    if isinstance(node, dict):
        if str(node.get("_target_", "")).startswith("mdm."):
            yield node["_target_"]
        for inner in node.values():
            yield from find_targets(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from find_targets(inner)


def find_classes(hint: Any) -> Iterator[type]:
    """The classes of ours in an annotation, in whatever containers."""
    if inspect.isclass(hint) and hint.__module__.startswith("mdm."):
        yield hint
    for inner in get_args(hint):
        for each in inner if isinstance(inner, list | tuple) else (inner,):
            yield from find_classes(each)


def find_exchanged(cls: type, found: dict[type, None]) -> None:
    """A class, and those in the annotations of its constructor, fields, properties and public methods."""
    if cls in found:
        return
    found[cls] = None
    methods = [method for name, method in vars(cls).items() if name == "__init__" or not name.startswith("_")]
    for each in [cls, *methods]:
        inner = getattr(each, "__func__", getattr(each, "fget", getattr(each, "func", each)))
        hints = get_type_hints(inner) if inspect.isclass(inner) or inspect.isfunction(inner) else {}
        for hint in hints.values():
            for other in find_classes(hint):
                find_exchanged(other, found)


def find_public() -> list[Any]:
    """All classes and functions that a user meets."""
    names = {t for path in sorted((ROOT / "configs").rglob("*.yaml")) for t in find_targets(yaml.safe_load(path.read_text()))}
    members = [get_object(name) for name in sorted(names)]
    found: dict[type, None] = {}
    statistics = [type(each) for each in list_statistics().values()]
    for cls in [*CONTRACTS, *statistics, *filter(inspect.isclass, members)]:
        find_exchanged(cls, found)
    return [*found, *(each for each in members if not inspect.isclass(each))]


PUBLIC = find_public()


def test_each_class_that_a_user_meets_has_an_example():
    expected = [each for each in PUBLIC if not f"{each.__module__}.".startswith(DECLARED) and not needs_package(each)]
    assert {"LMF", "synthetic", "KFold", "Hsic", "Wilcoxon", "Metric", "Batch", "Fusion", "DataSpec", "View", "Logger"} <= {
        each.__name__ for each in expected
    }
    assert [f"{each.__module__}.{each.__name__}" for each in expected if ">>> " not in (each.__doc__ or "")] == []


def needs_package(each: Any) -> bool:
    return inspect.isclass(each) and issubclass(each, Logger) and not inspect.isabstract(each)


def is_study(each: Any) -> bool:
    return inspect.isclass(each) and issubclass(each, Study) and not inspect.isabstract(each)


@pytest.mark.parametrize("study", [pytest.param(each, id=each.__name__) for each in PUBLIC if is_study(each)])
def test_each_study_has_a_command_that_runs_it(study):
    """Each ``mdm study`` of its docstring names an experiment, or a study, whose file declares this class."""
    source = f"{inspect.getmodule(study).__doc__}\n{study.__doc__}"
    commands = [line.split() for line in source.splitlines() if line.strip().startswith("mdm study ")]
    assert commands
    for command in commands:
        given = dict(word.split("=", 1) for word in command if "=" in word and not word.startswith("["))
        assert f"{study.__module__}.{study.__name__}" in find_study(given)


def find_study(given: dict[str, str]) -> str:
    """What the files that a command line names declare as the study."""
    if "study" in given:
        return (ROOT / "configs" / "study" / f"{given['study']}.yaml").read_text()
    experiment = (ROOT / "configs" / "experiment" / f"{given['experiment']}.yaml").read_text()
    named = [line.split(":")[1].strip() for line in experiment.splitlines() if "override /study:" in line or "- /study:" in line]
    return experiment + "".join((ROOT / "configs" / "study" / f"{name}.yaml").read_text() for name in named)
