"""Stage one, data: what a file or folder is, told by its content: which formats read it, and which data set it is."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path

from mdm.formats.base import require_existing
from mdm.formats.contents import Contents, describe, examine
from mdm.formats.profiles import Profile, load_profiles
from mdm.formats.readers import formats

MOST = 20
"""Files of a folder that no format knows as a whole, at which one looks one by one."""


@dataclass(frozen=True)
class Recognized:
    """What lies at a path.

    formats: format → why it reads this; none, one, or several between which only the user can choose
    profiles: data set → why it is this one; likewise
    parts: file of a folder that no format reads as a whole → what it is by itself
    """

    contents: Contents
    formats: dict[str, str]
    profiles: dict[str, str]
    parts: dict[str, Recognized]

    @property
    def format(self) -> str | None:
        """The format, where there is one only."""
        return next(iter(self.formats)) if len(self.formats) == 1 else None

    @property
    def profile(self) -> str | None:
        """The profile, where there is one only."""
        return next(iter(self.profiles)) if len(self.profiles) == 1 else None


def recognize(source: str | Path) -> Recognized:
    """Look at a file or a folder.

    Raises ValueError if nothing is there, or if it is a pointer, a web page, empty, or cut off.
    """
    path = require_existing(Path(source), "What is to be prepared")
    contents = examine(path)
    found = recognize_contents(contents)
    if found.formats or contents.kind != "folder":
        return found
    parts: dict[str, Recognized] = {}
    for name in [name for name in contents.files if (path / name).is_file() and name not in contents.bad][:MOST]:
        try:
            part = recognize_contents(examine(path / name))
        except ValueError as error:
            contents.bad[name] = str(error)
            continue
        if part.formats:
            parts[name] = part
    return Recognized(contents, {}, {}, parts)


def recognize_contents(contents: Contents) -> Recognized:
    """What each format, and each profile, says of what was found."""
    reasons = {}
    for name, reader in formats().items():
        says = getattr(import_module(reader.__module__), f"recognize_{name}", None)
        if says is not None and (why := says(contents)):
            reasons[name] = why
    return Recognized(contents, reasons, find_profiles(contents, load_profiles()) if reasons else {}, {})


def find_profiles(contents: Contents, profiles: Mapping[str, Profile]) -> dict[str, str]:
    """Profile → why it is this data set: by the sizes of its folds, else by its name; two where these disagree."""
    counts = contents.count()
    sizes = {name for name, profile in profiles.items() if list(counts) in [list(each) for each in profile.counts]}
    names = {name for name, profile in profiles.items() if set(profile.names) & find_words(contents)}
    chosen = sizes & names or sizes | names
    told = ", ".join(map(str, counts))
    return {
        name: f"its folds have the sizes {told} of {profiles[name].title}"
        if name in sizes
        else f"a name says {profiles[name].title}"
        for name in profiles
        if name in chosen
    }


def find_words(contents: Contents) -> set[str]:
    """The words of the path's last two names and of the files' names, in small letters; neighbours are also taken together."""
    found: set[str] = set()
    for name in (*contents.path.resolve().parts[-2:], *contents.files):
        words = re.findall(r"[a-z]+\d*|\d+", name.lower())
        found |= {*words, *("".join(pair) for pair in pairwise(words))}
    return found


def format_recognized(found: Recognized) -> str:
    """What was found, for people: what it is, why, and the command that reads it, or what stands in the way."""
    contents = found.contents
    lines = []
    for name, why in found.formats.items():
        lines.append(f"{contents.path}: format={name} ({why}).")
    lines += [f"  profile={name}: {why}." for name, why in found.profiles.items()]
    if len(found.formats) > 1:
        lines.append(f"Several formats fit; pass format=<one of {', '.join(found.formats)}>.")
    if len(found.profiles) > 1:
        lines.append(f"Several data sets fit; pass profile=<one of {', '.join(found.profiles)}>; without one, pass format too.")
    if found.formats and not found.profiles:
        lines.append(
            f"  No public data set was recognised; for one, pass profile=<one of {', '.join(load_profiles())}>, else the range "
            "of its labels, options.label_range=[low,high]."
        )
    lines += [f"  {name} is {what}." for name, what in contents.bad.items()]
    if found.format:
        lines.append(f"  {render_command(found)}")
    for name, part in found.parts.items():
        lines.append(f"{contents.path / name}: format={', '.join(part.formats)} ({next(iter(part.formats.values()))}).")
    if found.parts:
        lines.append("No format reads the folder as a whole; pass one of these files.")
    if not found.formats and not found.parts:
        lines.append(f"{contents.path}: {describe(contents)}; no format reads this.")
    return "\n".join(lines)


def render_command(found: Recognized, out: str = "") -> str:
    """The command that prepares what was found."""
    out = out or f"data/{found.profile or found.contents.path.resolve().stem}"
    profile = f" profile={found.profile}" if found.profile else ""
    return f"mdm prepare format={found.format}{profile} source={shlex.quote(str(found.contents.path))} out={shlex.quote(out)}"
