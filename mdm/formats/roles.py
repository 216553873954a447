"""Stage one, data: which file of a folder plays which role, and by how much its rows lie beside their intervals."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdm.formats.base import require_file

DEFAULTS = {
    "labels": "*Label*.csd",
    "words": "*TimestampedWords*.csd",
    "vectors": "*WordVectors*.csd",
    "audio": "*COVAREP*.csd",
    "video": "*Facet*.csd",
    "folds": "*folds*.json",
    "transcripts": "*label.csv",
}
"""Role → the pattern of its file in the SDK's folders."""
OPTIONAL = ("words", "vectors", "audio", "video", "transcripts")
OFFSETS = ("row_offset", "seconds_offset")


@dataclass(frozen=True)
class Role:
    """How one file is read.

    pattern: file name or pattern, None where the role is left out
    row_offset: the values of row k + row_offset belong to the interval of row k
    seconds_offset: seconds to add to every interval
    stated: the offsets that the user gave, 0 included; a join that the user states is not refused
    """

    pattern: str | None
    row_offset: int = 0
    seconds_offset: float = 0.0
    stated: frozenset[str] = frozenset()

    @property
    def offsets(self) -> dict[str, float]:
        return {"row_offset": self.row_offset, "seconds_offset": self.seconds_offset}


def parse_role(source: Path, role: str, given: Any) -> Role:
    """A role from its option: a name or pattern, null, or a mapping of ``file``, ``row_offset``, ``seconds_offset``.

    Raises ValueError on anything else.
    """
    if given is None and role in OPTIONAL:
        return Role(None)
    if not isinstance(given, Mapping):
        return Role(check_pattern(source, role, given))
    unknown = sorted(set(map(str, given)) - {"file", *OFFSETS})
    rows, seconds = given.get("row_offset", 0), given.get("seconds_offset", 0.0)
    number = type(seconds) in (int, float) and abs(seconds) < 1e6
    if unknown or type(rows) is not int or not number:
        raise ValueError(
            f"format=csd: option {role} must be a file name, or have the keys file, row_offset (a whole number) and seconds_offset "
            f"(a number), but is {dict(given)!r:.120}; write options.{role}.row_offset=1."
        )
    file = given.get("file", DEFAULTS.get(role))
    return Role(check_pattern(source, role, file), rows, float(seconds), frozenset(map(str, given)) - {"file"})


def check_pattern(source: Path, role: str, pattern: Any) -> str:
    """The pattern. Raises ValueError unless it is one that stays within the folder."""
    if not isinstance(pattern, str):
        raise ValueError(
            f"format=csd: option {role} must be a file name or pattern, but is {pattern!r:.120}; check the options' names."
        )
    if not pattern or Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        raise ValueError(
            f"format=csd: option {role} must name a file within {source}, but is {pattern!r:.80}; put it there and pass its name."
        )
    return pattern


def find_file(source: Path, role: str, pattern: str | None) -> Path | None:
    """The file that plays a role; None if that is left out, or if a pattern of an optional role matches nothing."""
    if pattern is None:
        return None
    exact = source / pattern
    try:
        matches = [exact] if os.path.lexists(exact) else sorted(source.glob(pattern))
    except ValueError as error:
        raise ValueError(f"format=csd: option {role} must be a file name or pattern, but is {pattern!r} ({error}).") from None
    if len(matches) > 1:
        raise ValueError(
            f"format=csd: one file must play the role of {role}, but {', '.join(m.name for m in matches)} match; "
            f"pass options.{role}=<file>."
        )
    if not matches and not (role in OPTIONAL and "*" in pattern):
        raise ValueError(
            f"format=csd needs a file for {role}, but nothing in {source} matches {pattern!r:.80}; pass options.{role}=<file> "
            "(or correct the option's name: unknown options are modalities)."
        )
    return require_file(matches[0], f"format=csd: {role}") if matches else None
