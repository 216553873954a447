"""Whether a plain value keeps an annotation, in every part, and what is said if not."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import torch

from mdm.hints import Count, Positive, Range, Share, Size, describe, fits, is_plain, require, require_known

FITS = [
    (1, int),
    (1, float),
    (1.5, float),
    (True, bool),
    ("a", str),
    (None, int | None),
    (None, Any),
    (0, Count),
    (1, Size),
    (0.0, Share),
    (1, Share),
    (1e-9, Positive),
    ([1, 2], tuple[int, int]),
    ([1, 2], tuple[float, ...]),
    ([], Sequence[int]),
    ([1], list[int]),
    ([[1], []], Sequence[Sequence[int]]),
    ({"a": 1}, Mapping[str, int]),
    ({}, dict[str, int]),
    (3, int | Mapping[str, int]),
    ({"a": 3}, int | Mapping[str, int]),
    ("a", Literal["a", "b"]),
    (1, Literal[1]),
    ("x", str | Path),
    (0.5, float | torch.Tensor),
    ([0.9, 1], tuple[float | torch.Tensor, float | torch.Tensor]),
    ({"a": [1]}, Mapping),
    ([1], Sequence),
    ([1, "a"], Iterable[Any]),
]
BREAKS = [
    (True, int),
    (True, float),
    (False, Count),
    (1, bool),
    ("1", int),
    (1.0, int),
    (None, int),
    (float("nan"), float),
    (2**63, int),
    (float("inf"), Any),
    (float("-inf"), Positive),
    (0, Size),
    (-1, Count),
    (1.01, Share),
    (-0.01, Share),
    (0, Positive),
    (10**400, float),
    ("ab", Sequence[str]),
    ("ab", list[str]),
    ([1, 2, 3], tuple[int, int]),
    ([1, "a"], tuple[int, ...]),
    ([1] * 99 + ["a"], list[int]),
    ([1, True], Sequence[int]),
    ([[1], ["a"]], Sequence[Sequence[int]]),
    ({"a": "b"}, Mapping[str, int]),
    ({"a": 1, "b": True}, Mapping[str, int]),
    ({1: 1}, Mapping[str, int]),
    ({"a": 0}, Size | Mapping[str, Size]),
    ([("a", 1)], Mapping[str, int]),
    (True, Literal[1]),
    ("c", Literal["a", "b"]),
    ("x", Path),
    (0.5, torch.Tensor),
    ([0.5], torch.Tensor),
    ({}, int),
    ([], int),
    ("a", Mapping),
    ("a", Sequence),
    ([float("nan")], list[float]),
    (True, int | None),
    (1, str | bool),
    ({"a": {"b": float("inf")}}, Mapping[str, Mapping[str, float]]),
]


@pytest.mark.parametrize(("value", "hint"), FITS)
def test_fits(value, hint):
    assert fits(value, hint)
    require("a.key", value, hint)


@pytest.mark.parametrize(("value", "hint"), BREAKS)
def test_breaks(value, hint):
    assert not fits(value, hint)
    with pytest.raises(
        ValueError, match=r"^a\.key( must be .+, but is .+; set a\.key so|: expected one of .+, got .+; choose one of them)\.$"
    ):
        require("a.key", value, hint)


def test_in_words():
    assert describe(Size | None) == "a whole number of at least 1 or null"
    assert describe(float | torch.Tensor) == "a finite number"
    assert describe(Share | Mapping[str, Share]) == (
        "a finite number between 0 and 1 or a mapping (to each name a finite number between 0 and 1)"
    )
    assert describe(tuple[float, int]) == "a list of 2 (a finite number; a whole number)"
    assert describe(Literal["a", "b", "c"]) == "a, b or c"
    assert describe(Sequence[bool]) == "a list (each true or false)"
    assert describe(Annotated[int, Range(0, 10, strict=True)]) == "a whole number between 0 and 10, neither of them"


def test_advice_is_given():
    with pytest.raises(ValueError, match=r"^a must be a whole number of at least 2 or null, but is 1; use two\.$"):
        require("a", 1, Annotated[int, Range(2, advice="use two")] | None)


def test_which_annotations_yaml_can_keep():
    assert all(
        is_plain(hint) for hint in (int, Size, str | Path, Sequence[Sequence[str]] | None, Mapping[str, float], Any, Literal["a"])
    )
    assert not any(is_plain(hint) for hint in (Path, torch.Tensor, Sequence[Path], dict[str, torch.Tensor], type))


def test_unknown_names():
    with pytest.raises(ValueError, match=r"^x has no key wieght, got x\.wieght, .*; did you mean x\.weight\?$"):
        require_known("x.", ["name", "wieght"], ["name", "weight"], "x")
    with pytest.raises(ValueError, match=r"got .*, which nothing would read; known are name\.$"):
        require_known("x.", ["q"], ["name"], "x")


def test_long_values_are_cut():
    with pytest.raises(ValueError, match="a must be") as raised:
        require("a", "x\n" * 10_000, int)
    assert len(str(raised.value)) < 300
    assert "\n" not in str(raised.value)
