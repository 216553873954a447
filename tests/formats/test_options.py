"""Options are what a signature says: each type, with what is admitted and what is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pytest

from mdm.formats.features import FAR, count_far_values
from mdm.formats.options import check_options, describe_type, is_admitted


def reader(
    source: str,
    *,
    flag: bool = False,
    perhaps: bool | None = None,
    count: int = 1,
    most: int | None = None,
    share: float = 0.5,
    word: str = "",
    pair: Sequence[float] = (0.0, 1.0),
    columns: Mapping[str, int] | None = None,
    **others: Any,
) -> None:
    """What a reader looks like."""


GOOD: dict[str, list[Any]] = {
    "flag": [True, False],
    "perhaps": [True, None],
    "count": [0, -3, 10**30],
    "most": [5, None],
    "share": [1, 0.5, float("nan")],
    "word": ["", "a", "3"],
    "pair": [[0, 1.5], [], (1, 2)],
    "columns": [{"a": 1}, {}, None],
    "anything": [True, None, [True], {"a": True}, "x", 3],
}
BAD: dict[str, tuple[list[Any], str]] = {
    "flag": ([1, 0, "true", None, [True], 1.0], "true or false"),
    "perhaps": ([0, "null", {}], "true or false or null"),
    "count": ([True, 1.0, "1", None, [1]], "a whole number"),
    "most": ([False, 2.5, ""], "a whole number or null"),
    "share": ([True, "0.5", None, 1j], "a number"),
    "word": ([3, None, True, ["a"], b"a"], "a text"),
    "pair": (
        ["ab", "", 3, None, [0, "1"], [0, None], [True, 1], [[0], [1]], {0: 1}, [0] * 99 + ["x"]],
        "a list, each entry a number",
    ),
    "columns": ([[], "a", {"a": 1.5}, {"a": True}, {1: 1}, {"a": "1"}, 3], "a mapping, each value a whole number or null"),
}


@pytest.mark.parametrize(("option", "value"), [(option, value) for option, values in GOOD.items() for value in values])
def test_what_is_admitted(option: str, value: Any) -> None:
    check_options(reader, {option: value}, "format=x")


@pytest.mark.parametrize(("option", "value"), [(option, value) for option, (values, _) in BAD.items() for value in values])
def test_what_is_not(option: str, value: Any) -> None:
    with pytest.raises(
        ValueError, match=rf"^format=x: option {option} must be {BAD[option][1]}, but is .*; correct options\.{option}\.$"
    ):
        check_options(reader, {option: value}, "format=x", "options.")


def test_every_entry_of_a_long_list_counts() -> None:
    """Beartype looks at one entry of a list at random, which would let 999 of 1000 calls pass."""
    assert is_admitted(Sequence[float], [0.0] * 1000)
    assert not any(is_admitted(Sequence[float], [0.0] * k + ["x"] + [0.0] * (999 - k)) for k in range(0, 1000, 37))


def test_types_for_people() -> None:
    assert describe_type(int | None) == "a whole number or null"
    assert describe_type(Sequence[str]) == "a list, each entry a text"
    assert describe_type(Mapping[str, float]) == "a mapping, each value a number"
    assert describe_type(bytes) == "bytes"
    assert describe_type(Literal["apart", "shared"]) == "one of apart, shared"
    assert is_admitted(Literal["apart", "shared"], "shared")
    assert not is_admitted(Literal["apart", "shared"], "some text")


# Values far beyond their column ---------------------------------------------------------------------------


def test_far_values_are_counted_by_column() -> None:
    values = np.random.default_rng(0).normal(size=(1000, 4)).astype(np.float32)
    assert count_far_values(values) == {}
    values[3, 1], values[4:6, 2], values[7, 3] = 1e30, -3e8, 0.9 * FAR * np.median(np.abs(values[:, 3]))
    assert count_far_values(values) == {"1": 1, "2": 2}


def test_a_column_of_zeros_and_a_column_of_one_size_are_not_far() -> None:
    values = np.zeros((1000, 3), np.float32)
    values[:, 1] = 1e30
    values[5, 2] = 1e30
    assert count_far_values(values) == {}  # the only value of a column is as large as its values usually are


def test_far_values_between_the_rows_that_are_looked_at_are_found() -> None:
    values = np.ones((200_001, 1), np.float32)
    values[1] = 1e7
    assert count_far_values(values) == {"0": 1}
    assert count_far_values(np.zeros((0, 2), np.float32)) == {}
