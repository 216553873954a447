"""Before everything: does a plain value from YAML keep an annotation, and how is that annotation put in words?

The leaves are beartype's; what it does not do is done here: it looks at one item of a list, takes true for a number and a word for
a sequence of letters, and knows no ranges. A list stands for a tuple, since YAML has no tuples; numbers are finite.
"""

from __future__ import annotations

import difflib
import math
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from beartype import BeartypeConf
from beartype.door import is_bearable

TOWER = BeartypeConf(is_pep484_tower=True)
"""An int is a float, as everywhere in Python."""
LISTS, MAPPINGS = (list, tuple, Sequence, Iterable), (dict, Mapping)
"""What a list, and a mapping, of YAML may stand for."""
LARGEST = 2**63 - 1
"""Of a whole number that torch can hold."""


@dataclass(frozen=True)
class Range:
    """Metadata of a number: ``Annotated[int, Range(1)]``. ``strict``: neither end is in it.

    >>> Range(0, strict=True).admits(0), str(Range(1, 10))
    (False, 'between 1 and 10')
    """

    low: float = -math.inf
    high: float = math.inf
    strict: bool = False
    advice: str = ""

    def admits(self, value: Any) -> bool:
        if not isinstance(value, int | float):
            return True
        return self.low < value < self.high if self.strict else self.low <= value <= self.high

    def __str__(self) -> str:
        low, high = (f"{end:,g}" if abs(end) < 1e6 else f"{end:,.0f}" for end in (self.low, self.high))
        if self.high == math.inf:
            return f"above {low}" if self.strict else f"of at least {low}"
        return f"between {low} and {high}" + (", neither of them" if self.strict else "")


Size = Annotated[int, Range(1)]
Count = Annotated[int, Range(0)]
Depth = Annotated[int, Range(1, 1_000)]
"""Of what is built one after the other."""
Width = Annotated[int, Range(1, 10_000)]
Rows = Annotated[int, Range(1, 1_000_000, advice="larger data belong into a store")]
"""Of data that are drawn into memory."""
Share = Annotated[float, Range(0, 1)]
Positive = Annotated[float, Range(0, strict=True)]


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain value keeps an annotation, in every part."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return fits(value, args[0]) and all(each.admits(value) for each in args[1:] if hasattr(each, "admits"))
    if origin in (Union, types.UnionType):
        return any(fits(value, each) for each in args)
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in args)
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if hint is Any or hint is object:
        return True
    if isinstance(value, list | tuple):
        if origin is tuple and args[-1:] != (...,):
            return len(value) == len(args) and all(map(fits, value, args))
        return (origin in LISTS and all(fits(each, args[0]) for each in value)) or hint in LISTS
    if isinstance(value, Mapping):
        return (origin in MAPPINGS and all(fits(k, args[0]) and fits(v, args[1]) for k, v in value.items())) or hint in MAPPINGS
    if origin is not None or hint in (*LISTS, *MAPPINGS) or isinstance(value, bool) != (hint is bool):
        return False
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > LARGEST:
        return False
    return is_bearable(value, hint, conf=TOWER)


def describe(hint: Any) -> str:
    """An annotation in words: ``a whole number of at least 1 or null``.

    >>> describe(Size | None)
    'a whole number of at least 1 or null'
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        words = [str(each) for each in args[1:] if hasattr(each, "admits")]
        return " ".join([describe(args[0]), *words])
    if origin in (Union, types.UnionType):
        known = [each for each in args if not is_runtime(each)]
        return " or ".join(dict.fromkeys(describe(each) for each in known))
    if origin is Literal:
        *most, last = (str(each) for each in args)
        return f"{', '.join(most)} or {last}" if most else last
    if origin is tuple and args[-1:] != (...,):
        return f"a list of {len(args)} ({'; '.join(describe(each) for each in args)})"
    if origin in LISTS:
        return f"a list (each {describe(args[0])})"
    if origin in MAPPINGS:
        return f"a mapping (to each name {describe(args[1])})"
    named = {
        int: "a whole number",
        float: "a finite number",
        bool: "true or false",
        str: "a text",
        type(None): "null",
        Any: "any value",
    }
    named |= {Mapping: "a mapping", Sequence: "a list"}
    return named.get(hint, getattr(hint, "__name__", str(hint)))


def find_advice(hint: Any) -> str:
    """The advice that an annotation gives on a value that breaks it; empty if it gives none."""
    for each in get_args(hint):
        found = getattr(each, "advice", "") or find_advice(each)
        if found:
            return found
    return ""


def is_runtime(hint: Any) -> bool:
    """Whether an annotation is of an object that YAML cannot write, such as a tensor or a path."""
    return isinstance(hint, type) and hint not in (int, float, bool, str, list, dict, tuple, type(None))


def is_plain(hint: Any) -> bool:
    """Whether some value of YAML may keep an annotation."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return is_plain(args[0])
    if origin in (Union, types.UnionType):
        return any(is_plain(each) for each in args)
    if origin is Literal:
        return True
    if origin is not None:
        return origin in (*LISTS, *MAPPINGS) and all(is_plain(each) for each in args if each is not ...)
    return hint in (Any, int, float, bool, str, list, dict, tuple, type(None))


def format_value(value: Any) -> str:
    """A value for a message: on one line, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:100]}…"


def require(key: str, value: Any, hint: Any) -> None:
    """Raise ValueError, naming the key, unless a plain value keeps an annotation."""
    if not fits(value, hint):
        if options := list_options(hint):
            require_option(key, value, options)
        do = find_advice(hint) or f"set {key} so"
        raise ValueError(f"{key} must be {describe(hint)}, but is {format_value(value)}; {do}.")


def list_options(hint: Any) -> tuple[Any, ...]:
    """The options of a Literal, which may be left out (``| None``); none of another annotation."""
    parts = [each for each in get_args(hint) if each is not type(None)] if get_origin(hint) in (Union, types.UnionType) else [hint]
    return get_args(parts[0]) if len(parts) == 1 and get_origin(parts[0]) is Literal else ()


def require_option(name: str, value: Any, options: Any) -> None:
    """Raise ValueError, naming the argument, unless a value is one of its options.

    options: a Literal, or the names themselves
    """
    known = get_args(options) if get_origin(options) is Literal else tuple(options)
    if value not in known:
        raise ValueError(f"{name}: expected one of {', '.join(map(str, known))}, got {format_value(value)}; choose one of them.")


def require_known(key: str, given: Iterable[Any], known: Iterable[str], of: str) -> None:
    """Raise ValueError, naming the key and similar known ones, if one of these names is unknown.

    key: what holds the names, with its dot, or nothing
    """
    names = list(known)
    for name in given:
        if name not in names:
            said, close = format_value(name)[1:-1], difflib.get_close_matches(str(name), names, 3)
            other = (
                f"did you mean {' or '.join(key + each for each in close)}?"
                if close
                else f"known are {', '.join(names) or 'none'}."
            )
            raise ValueError(f"{of} has no key {said}, got {key}{said}, which nothing would read; {other}")
