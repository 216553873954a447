"""Stage one, data: options from a command line, held to the annotations of the function that they are for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from beartype import BeartypeConf
from beartype.door import is_bearable

from mdm.hints import list_options, require_option

WHOLE_IS_NUMBER = BeartypeConf(is_pep484_tower=True)
NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", NoneType: "null", Any: "anything"}


def check_options(function: Callable[..., Any], given: Mapping[str, Any], where: str, prefix: str = "") -> None:
    """Raises ValueError for the first of the options whose value is not what the function's signature says."""
    hints = get_type_hints(function)
    rest = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.VAR_KEYWORD]
    for key, value in given.items():
        hint = hints[key] if key in hints and key not in rest else hints[rest[0]]
        if options := list_options(hint):
            if value is not None or not is_admitted(hint, None):
                require_option(f"{where}: option {key}", value, options)
        elif not is_admitted(hint, value):
            raise ValueError(f"{where}: option {key} must be {describe_type(hint)}, but is {value!r:.80}; correct {prefix}{key}.")


def is_admitted(hint: Any, value: Any) -> bool:
    """Whether a value is of a type; a bool is no number, a text no list, and each entry counts (beartype looks at one of them)."""

    def fits(wrap: Callable[[Any], Any], entry: Any) -> bool:
        fitting, anything, number = (is_bearable(wrap(e), hint, conf=WHOLE_IS_NUMBER) for e in (entry, object(), 2))
        return fitting and (anything or not number or not isinstance(entry, bool))

    if isinstance(value, str):
        return is_bearable("some text", hint) or (get_origin(hint) is Literal and value in get_args(hint))
    if isinstance(value, list | tuple):
        return is_bearable([], hint) and all(fits(lambda entry: [entry], entry) for entry in value)
    if isinstance(value, dict):
        return is_bearable({}, hint) and all(
            fits(lambda entry, key=key: {key: entry}, entry)  # type: ignore[misc]
            for key, entry in value.items()
        )
    return fits(lambda entry: entry, value)


def describe_type(hint: Any) -> str:
    """A type for people to read."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(describe_type(part) for part in parts)
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if len(parts) == 1:
        return f"a list, each entry {describe_type(parts[0])}"
    if len(parts) == 2:
        return "a mapping" if parts[1] is Any else f"a mapping, each value {describe_type(parts[1])}"
    return NAMES.get(hint, getattr(hint, "__name__", str(hint)))
