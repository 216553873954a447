"""Options of a study that have options of their own: plain values, held to a dataclass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

from mdm.runs.config import check_value


@dataclass(frozen=True)
class Keeps:
    """Metadata of an option: ``Annotated[Mapping[str, Any], Keeps(Mapping[str, Law])]``, whose values keep the dataclass Law."""

    hint: Any


def check_option(key: str, value: Any, hint: Any) -> None:
    """Raise ValueError, naming the key, unless a plain value keeps its annotation, and that of `Keeps`."""
    kept = [each.hint for each in get_args(hint)[1:] if isinstance(each, Keeps)] if get_origin(hint) is Annotated else []
    check_value(key, value, kept[0] if kept else hint)
