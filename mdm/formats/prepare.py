"""Stage one, data: files of a named format → store, and the data card for people to read."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table

from mdm.data.base import FOLDS, FORBIDDEN, Segments
from mdm.data.leaks import Groups, describe_leaks, warn_of_copies
from mdm.data.store import MANIFEST, open_store
from mdm.data.writing import write_store
from mdm.formats.download import download as fetch
from mdm.formats.options import check_options
from mdm.formats.profiles import apply_profile, choose_profile, fill_options
from mdm.formats.readers import Reader, formats


def help_text() -> str:
    """Each format: what it reads, and its options with their defaults."""
    lines = []
    for name, reader in formats().items():
        options = [str(p).split(": ")[0] + _default(p) for p in _options(reader)]
        lines += [f"  {name}", f"      {(reader.__doc__ or '').splitlines()[0]}", f"      options: {', '.join(options)}"]
    return "\n".join(lines)


def prepare(
    format: str,
    source: str | Path,
    out: str | Path,
    *,
    name: str = "",
    overwrite: bool = False,
    groups: Groups = "apart",
    profile: str | None = None,
    download: str | None = None,
    options: Mapping[str, Any] | None = None,
    progress: Callable[[str], Any] = lambda stage: None,
) -> Segments:
    """Read files of a format and write them as a store; returns the store, opened.

    groups: ``shared`` lets a group (a video, a speaker) be in several of the files' folds, and the card counts such groups
    profile: what is known of a public data set (`mdm.formats.profiles`): options that were not given, and names of targets
    download: a data set to fetch into ``source`` first (format csd only)
    options: the reader's own keyword arguments
    progress: called with the name of each finished step

    Raises ValueError if the format, the profile or an option is unknown or of another type, if ``out`` exists and may not be
    overwritten or cannot be written (before anything is read), if a group is in several folds, if the disk fails, and whatever
    the reader or the store refuses. Nothing appears at ``out`` then.
    """
    readers = formats()
    if format not in readers:
        raise ValueError(f"format must be one of {', '.join(readers)}, but is {format!r:.60}; `--help` says what each reads.")
    options = dict(options or {})
    accepted = {parameter.name: parameter for parameter in _options(readers[format])}
    free = any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values())
    unknown = [key for key in options if not isinstance(key, str) or key in ("source", "name") or not (free or key in accepted)]
    if unknown:
        raise ValueError(
            f"format={format} has the options {', '.join(accepted)}, but {', '.join(map(str, unknown))} came; correct the name."
        )
    known = choose_profile(profile) if profile else None
    if known:
        options = fill_options(known, format, accepted, options)
    check_options(readers[format], options, f"format={format}", "options.")
    check_out(Path(out), overwrite)
    if download:
        if format != "csd":
            raise ValueError(f"download fetches .csd files, but format is {format}; pass format=csd.")
        fetch(download, source)
        progress("download")
    try:
        segments = readers[format](source, name=name, **options)
    except OSError as error:
        raise ValueError(
            f"format={format}: {error.filename or source} must be readable, but is not ({error.strerror or error}); look at its "
            "permissions and its disk."
        ) from None
    if profile and known:
        segments = apply_profile(profile, known, segments)
    segments = replace(segments, source={**segments.source, **describe_leaks(segments, groups)})
    warn_of_copies(segments, segments.fold)
    progress("read")
    try:
        return open_store(write_store(segments, out, overwrite=overwrite, progress=progress))
    except OSError as error:
        raise ValueError(
            f"{out}: the store must be written there, but cannot be ({error.strerror or error}), and nothing was left; free some "
            "space, or pass another out."
        ) from None


def check_out(out: Path, overwrite: bool) -> None:
    """Raises ValueError if a store cannot be written there, before anything is read for it."""
    if FORBIDDEN.search(out.name) or not out.name:
        raise ValueError(f"out must end in the name of a folder, but is {str(out)!r:.80}; pass out=<folder>.")
    try:
        there = exists(out)
        if there and not overwrite:
            raise ValueError(f"A store must not replace another silently, but {out} exists; remove it or pass overwrite=true.")
        if there and not (out / MANIFEST).is_file():
            raise ValueError(f"overwrite=true replaces stores only, but {out} is none; remove it, or pass another out.")
        nearest = next(parent for parent in out.absolute().parents if exists(parent))
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            came = "may not be written" if nearest.is_dir() else "is no folder"
            raise ValueError(f"out must lie in a folder that can be written, but {nearest} {came}; pass another out.")
    except OSError as error:
        raise ValueError(f"out must be the path of a folder, but {out} is none ({error.strerror}); pass another out.") from None


def exists(path: Path) -> bool:
    """Whether anything is there, a broken link included. Raises OSError where nothing can be."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def card_view(card: Mapping[str, Any]) -> Group:
    """The data card as two tables."""
    source, features, folds = card["source"], card["features"], card["folds"]
    per_fold = ", ".join(f"{fold} {folds[fold]}" for fold in FOLDS)
    observed, mean = (", ".join(f"{x:.4g}" for x in card[key]) for key in ("label_observed", "label_mean_train"))
    facts = Table(title=f"Data card: {card['name']}", show_header=False)
    facts.add_row("segments", f"{card['segments']} ({per_fold}, in no fold {card['segments'] - sum(folds.values())})")
    facts.add_row("targets", f"{', '.join(card['targets'])}; declared {card['label_range']}, observed [{observed}]")
    facts.add_row("training mean", mean)
    facts.add_row("aligned", ", ".join(card["aligned"]) or "nothing")
    for key, value in source.items():
        if key not in ("files", "options", "cleaned", "joins"):
            facts.add_row(key.replace("_", " "), _brief(value))
    for joined, measured in source.get("joins", {}).items():
        for what, found in measured.items():
            facts.add_row(f"join of {joined}: {what.replace('_', ' ')}", _brief(found).replace("_", " "))
    for option, value in source["options"].items():
        facts.add_row(f"options.{option}", _brief(value))
    for file, digest in source["files"].items():
        facts.add_row(file, f"sha256 {digest[:16]}…")
    lengths = Table(
        "feature",
        "kind",
        "dim",
        "segments",
        "lacking (train,\nvalid, test)",
        "steps (min,\nmedian, max)",
        "not finite,\nset to 0",
    )
    for feature, entry in features.items():
        missing = ", ".join(str(entry["missing"][fold]) for fold in FOLDS)
        steps = ", ".join(map(str, entry["length_min_median_max"]))
        cleaned = str(source["cleaned"].get(feature, "–"))
        lengths.add_row(feature, entry["kind"], str(entry["dim"]), str(entry["segments"]), missing, steps, cleaned)
    return Group(facts, lengths)


def _options(reader: Reader) -> list[inspect.Parameter]:
    """A reader's options: its keyword arguments but ``name``, which all share."""
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return [p for p in inspect.signature(reader).parameters.values() if p.kind is not positional and p.name != "name"]


def _default(parameter: inspect.Parameter) -> str:
    return "" if parameter.default is parameter.empty else f"={parameter.default}"


def _brief(value: Any) -> str:
    """A fact on one line; of a long list, how many and the first few."""
    if isinstance(value, list) and len(value) > 3:
        return f"{len(value)}: {', '.join(map(str, value[:3]))}, …"
    if isinstance(value, dict):
        return ", ".join(f"{key}={_brief(entry)}" for key, entry in value.items()) or "none"
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
