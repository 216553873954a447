"""The examples in the docstrings print what they say."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["crossed", "jackknife", "signed_rank", "symmetry"])
def test_examples_print_what_they_say(name):
    found = doctest.testmod(importlib.import_module(f"mdm.statistics.{name}"))
    assert found.attempted > 0
    assert found.failed == 0
