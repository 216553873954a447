"""The examples in docstrings print what they say, and each penalty has one."""

import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import mdm.penalties
from mdm.penalties.base import Penalty

PACKAGE = Path(mdm.penalties.__file__).resolve().parents[1]
WITH_EXAMPLES = sorted(
    ".".join(("mdm", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_print_what_they_say(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0


def test_each_penalty_has_an_example():
    modules = [importlib.import_module(f"mdm.penalties.{each.name}") for each in pkgutil.iter_modules(mdm.penalties.__path__)]
    members = {
        member
        for module in modules
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, Penalty) and not inspect.isabstract(member)
    }
    assert len(members) >= 7
    assert [member.__name__ for member in members if ">>> " not in (member.__doc__ or "")] == []
