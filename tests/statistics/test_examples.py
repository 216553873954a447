"""The examples in the docstrings print what they say."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "name",
    ["statistics.crossed", "statistics.jackknife", "statistics.signed_rank", "statistics.symmetry", "metrics.base", "metrics.sums"],
)
def test_examples_print_what_they_say(name):
    found = doctest.testmod(importlib.import_module(f"mdm.{name}"))
    assert found.attempted > 0
    assert found.failed == 0
