"""Stage one, data: what is known of a public data set, whatever file it is read from: a profile, ``configs/profile/<name>.yaml``.

A profile fills in the reader's options that the user did not give, names the targets, and is checked against what was read. A new
one is a YAML file, in the package's configs or in those that an installed package declares (`mdm.compose`).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from mdm.compose import find_configs, find_declared_configs
from mdm.data.base import FOLDS, Segments
from mdm.formats.options import check_options
from mdm.hints import require_known, require_option

logger = logging.getLogger(__name__)
FOLDER = "profile"
FEWER = 0.05
"""Readers leave out some segments: those without words, or that a modality does not reach."""
Unit = Literal["video", "clip"]


@dataclass(frozen=True)
class Profile:
    """What is known of a data set.

    title: its name, for people
    names: words by which files and folders call it
    label_range: the scale of its labels
    targets: names of the targets, where a reader finds as many
    unit: what a segment is; of whole videos, each is a group of its own, and nothing is amiss
    tokenizer: whose ids ``tokens`` are, for the data card
    counts: segments of train, valid and test in files in circulation (or videos, in the SDK's lists of folds)
    options: format → options of its reader
    """

    title: str
    names: Sequence[str]
    label_range: Sequence[float]
    targets: Sequence[str] = ()
    unit: Unit = "clip"
    tokenizer: str = ""
    counts: Sequence[Sequence[int]] = ()
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def load_profiles() -> dict[str, Profile]:
    """Name → profile. Raises ValueError, naming the file, on one that is no profile."""
    folders = [find_configs() / FOLDER, *(folder / FOLDER for folder in find_declared_configs())]
    return {path.stem: read_profile(path) for folder in folders for path in sorted(folder.glob("*.yaml"))}


def read_profile(path: Path) -> Profile:
    """One profile. Raises ValueError, naming the file, on an unknown key, one that lacks, or a value of another kind."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(
            f"{path}: a profile must be YAML, but cannot be read ({str(error).splitlines()[0]}); correct it."
        ) from None
    if not isinstance(content, dict) or not {"title", "names", "label_range"} <= set(content):
        raise ValueError(f"{path}: a profile must have title, names and label_range, but is {content!r:.80}; correct it.")
    require_known("", content, Profile.__dataclass_fields__, str(path))
    check_options(Profile, content, str(path))
    return Profile(**content)


def choose_profile(name: str) -> Profile:
    """The profile of a name. Raises ValueError, naming those there are, if there is none."""
    profiles = load_profiles()
    require_option("profile", name, profiles)
    return profiles[name]


def fill_options(profile: Profile, format: str, accepted: Collection[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a reader: the profile's, and over these the user's own.

    accepted: the reader's; a profile's range of labels goes to any that has one
    """
    own: dict[str, Any] = {"label_range": list(profile.label_range)} if "label_range" in accepted else {}
    own |= profile.options.get(format, {})
    for key, value in given.items():
        known = own.get(key)
        own[key] = {**known, **value} if isinstance(known, Mapping) and isinstance(value, Mapping) and key != "targets" else value
    return own


def apply_profile(name: str, profile: Profile, segments: Segments) -> Segments:
    """Segments with the profile's names of targets, and with what it knows in the data card.

    Where a fold is smaller by more than `FEWER` than in every file in circulation, this is warned of and in the card, as
    ``folds_published``.
    """
    facts: dict[str, Any] = {"profile": name}
    if profile.tokenizer and "tokens" in segments.text:
        facts["tokenizer"] = profile.tokenizer
    sizes = [int((segments.fold == fold).sum()) for fold in FOLDS]
    whole = [all(size >= (1 - FEWER) * count for size, count in zip(sizes, counts, strict=True)) for counts in profile.counts]
    if profile.counts and not any(whole):
        facts["folds_published"] = [", ".join(map(str, counts)) for counts in profile.counts]
        logger.warning(
            "%s: the folds have %s segments, and those of %s in circulation %s; is this all of it?",
            *(segments.name, ", ".join(map(str, sizes)), profile.title, " or ".join(facts["folds_published"])),
        )
    source = dict(segments.source)
    if profile.unit == "video" and len(set(segments.group.tolist())) == len(segments):
        source.pop("groups", None)
    targets = tuple(profile.targets) if len(profile.targets) == len(segments.targets) else segments.targets
    return replace(segments, targets=targets, source={**source, **facts})
