"""Stage one, data: CMU-MOSI, CMU-MOSEI and POM as the CMU-MultimodalSDK distributes them (.csd files).

Frames → words → labelled segments, by the SDK's rules: a row belongs to an interval that it overlaps by more
than 1e-5 s; a word's frames are averaged; a word without frames gets zeros; segments stay that every
sequence reaches. Two departures, both where the SDK leaves holes: a frame that is not finite counts as zeros in its
word's mean, rather than wiping it out; and a word at the edge of a segment brings the mean of all its
frames, whereas the SDK may drop one modality's row there and shift those that follow.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mdm.data.base import Segments
from mdm.data.checks import check_names
from mdm.formats.alignment import Cut, Side, Track
from mdm.formats.base import RawSegment, assemble, require_folder, split_by_fold
from mdm.formats.contents import Contents
from mdm.formats.features import ABSURD, refuse_nothing_finite
from mdm.formats.joins import PAUSE, JoinMeter, read_transcripts, refuse_displaced
from mdm.formats.roles import DEFAULTS, Role, find_file, parse_role
from mdm.formats.sequences import ComputationalSequence, hdf5_process
from mdm.hints import require_option

Align = Literal["words", "none"]

logger = logging.getLogger(__name__)


def recognize_csd(contents: Contents) -> str:
    """Why this is a folder of the SDK's files, "" if it is not."""
    labels = [file for file in contents.files if fnmatch(file, DEFAULTS["labels"])]
    return f"a folder with {labels[0]}" if labels else ""


def read_csd(
    source: str | Path,
    *,
    labels: str | Mapping[str, Any] = DEFAULTS["labels"],
    words: str | Mapping[str, Any] | None = DEFAULTS["words"],
    vectors: str | Mapping[str, Any] | None = DEFAULTS["vectors"],
    audio: str | Mapping[str, Any] | None = DEFAULTS["audio"],
    video: str | Mapping[str, Any] | None = DEFAULTS["video"],
    folds: str = DEFAULTS["folds"],
    transcripts: str | None = DEFAULTS["transcripts"],
    align: Align = "words",
    keep_pauses: bool = False,
    unify: bool = True,
    max_steps: int | None = None,
    side: Side = "left",
    targets: Mapping[str, int] | None = None,
    label_range: Sequence[float] = (-3.0, 3.0),
    clip_labels: bool = False,
    name: str = "",
    **others: Any,
) -> Segments:
    """A folder: labels .csd, folds .json {train, valid (or dev), test: [videos]}, any of words, vectors, audio, video .csd.

    labels, words, vectors, audio, video, folds, others: file names or patterns in the folder. What matches a
        default is used, and nothing need match but labels and folds; null leaves a feature out; any further option
        is a modality of that name. Instead of a name, ``{file, row_offset, seconds_offset}``: values come from so many rows
        later, intervals are so many seconds later (``words.row_offset=1`` for CMU-MOSI's words in circulation)
    transcripts: a table (csv) of the segments' sentences, with which the words are compared
    align: ``words``, one step per word in every feature; ``none``, words and frames as they are in the segment
    keep_pauses: keep the words ``sp``, which stand for silence
    unify: drop segments that some sequence does not reach at all; otherwise these lack that modality (those without
        words are dropped in either case where steps are words)
    max_steps, side: at most so many steps of a feature, cut on the left (the last stay, as in the SDK) or on the right
    targets: name → column of the labels; by default column 0 is ``sentiment``

    Segment k of a video, in the file's order, is ``video[k]``, and its group is the video. Videos in no fold
    keep the fold ``""``.

    What is joined by time is measured (`mdm.formats.joins`), and written into the data card under ``joins``.

    Raises ValueError if a file is missing, ambiguous or damaged, if a fold is missing, names mostly videos
    without labels or shares one with another fold, if a feature fits clearly better at another offset and the user has stated
    none, or if an option has another value.
    """
    source = require_folder(Path(source), "format=csd")
    targets = dict(targets or {"sentiment": 0})
    require_option("align", align, Align)
    require_option("side", side, Side)
    _check_options(max_steps, targets, others)
    given = {"labels": labels, "words": words, "vectors": vectors, "audio": audio, "video": video, **others}
    given |= {"folds": folds, "transcripts": transcripts}
    roles = {role: parse_role(source, role, option) for role, option in given.items()}
    paths = {role: find_file(source, role, how.pattern) for role, how in roles.items()}
    found = {role: path for role, path in paths.items() if path is not None}
    if not {"words", "vectors"} & set(found) and align == "words":
        raise ValueError("format=csd: align=words needs words or vectors, but neither came; add one or pass options.align=none.")
    rows: list[RawSegment] = []
    dropped: list[str] = []
    bad: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    sequences = {role: path for role, path in found.items() if role not in ("folds", "transcripts")}
    with hdf5_process(list(sequences.values())) as process:
        files = {role: ComputationalSequence(path, process, text=role == "words") for role, path in sequences.items()}
        label_file = files.pop("labels")
        fold_of, without_labels = _folds(found["folds"], label_file.videos)
        tables = {video: _labels(label_file, video, targets, roles["labels"]) for video in label_file.videos}
        segments = [segment for label in tables.values() for segment in label.entries]
        meter = JoinMeter(read_transcripts(found["transcripts"], segments) if "transcripts" in found else {})
        for video_id, label in tables.items():
            tracks = {}
            for role, file in files.items():
                track = file.track(video_id)
                if track is not None:
                    how = roles[role]
                    tracks[role] = _clean(track, role, bad, seen).displace(how.row_offset, how.seconds_offset).by_time()
            meter.add(label.entries, label.intervals, tracks)
            if "words" in tracks and not keep_pauses:
                tracks["words"] = tracks["words"].only(tracks["words"].features != PAUSE)
            cut = Cut(tracks, align == "words", max_steps, side)
            for segment, interval, values in zip(label.entries, label.intervals, label.features, strict=True):
                features = cut.segment(*interval)
                if features and (len(features) == len(files) or not unify):
                    rows.append(RawSegment(segment, fold_of.get(video_id, ""), video_id, values, features))
                else:
                    dropped.append(segment)
    for role in seen:
        refuse_nothing_finite("format=csd", role, bad[role], seen[role])
    joins = meter.facts()
    refuse_displaced(joins, roles)
    return assemble(
        rows,
        format="csd",
        source=source,
        files=list(found.values()),
        options={
            "roles": {role: path.name for role, path in found.items()},
            "displaced": {role: how.offsets for role, how in roles.items() if any(how.offsets.values())},
            **{"align": align, "keep_pauses": keep_pauses, "unify": unify, "max_steps": max_steps, "side": side},
            "targets": targets,
        },
        label_range=label_range,
        clip_labels=clip_labels,
        name=name,
        targets=tuple(targets),
        aligned=tuple(files) if align == "words" else (),
        cleaned={role: bad[role] for role in seen},
        dropped=dropped,
        notes={"joins": joins, **({"folds_without_labels": without_labels} if without_labels else {})},
    )


def _labels(file: ComputationalSequence, video: str, targets: Mapping[str, int], role: Role) -> Track:
    """The labels of one video, in the file's order, each entry the name of its segment."""
    label = file.track(video)
    assert label is not None
    label = label.displace(role.row_offset, role.seconds_offset)
    width = label.features.shape[1]
    if width <= max(targets.values()):
        raise ValueError(
            f"{file.path.name} has {width} columns of labels, but targets asks for {targets}; pass "
            "options.targets.<name>=<column>, counted from 0."
        )
    # a file that was aligned before has the segments' names already
    names = tuple(entry if "[" in entry else f"{video}[{k}]" for k, entry in enumerate(label.entries))
    return Track(label.intervals, label.features[:, list(targets.values())], names)


def _clean(track: Track, role: str, bad: Counter[str], seen: Counter[str]) -> Track:
    """The track with values that are not finite as 0, and the two counts raised; words as they are."""
    if role == "words":
        return track
    wrong = ~(np.abs(track.features) < ABSURD)
    bad[role] += int(wrong.sum())
    seen[role] += wrong.size
    return Track(track.intervals, np.where(wrong, np.float32(0), track.features), track.entries)


def _folds(path: Path, videos: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """video → fold, and the videos named that have no labels, which official lists have some of: they are warned of and left.

    Raises ValueError on a fold missing, overlapping, or naming no video, or mostly videos, without labels.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, or too deep
        raise ValueError(
            f"{path.name} must be JSON, but is not ({error}); it maps train, valid and test to lists of videos."
        ) from None
    folds = split_by_fold(content, path.name)
    fold_of: dict[str, str] = {}
    for fold, members in folds.items():
        if not isinstance(members, list) or not all(isinstance(video, str) for video in members):
            raise ValueError(f"{path.name}: {fold} must be a list of video names, but is {members!r:.60}; correct it.")
        shared = [video for video in members if fold_of.get(video, fold) != fold]
        if shared:
            raise ValueError(
                f"{path.name}: no video may be in two folds, but {', '.join(shared[:3])} (of {len(shared)}) is in {fold} and "
                f"{fold_of[shared[0]]}; a speaker would be tested on who was trained on. Remove one."
            )
        fold_of |= dict.fromkeys(members, fold)
    unknown = sorted(set(fold_of) - set(videos))
    for fold, members in folds.items():
        if members and 2 * len(set(members) - set(videos)) > len(set(members)):
            raise ValueError(
                f"{path.name}: folds must name videos that have labels, but {len(set(members) - set(videos))} of {len(members)} in "
                f"{fold} have none ({', '.join(unknown[:5])}); pass options.folds of the same data set."
            )
    if unknown:
        logger.warning(
            "%s names %d videos that have no labels, and they are left: %s.", path.name, len(unknown), ", ".join(unknown[:5])
        )
    return {video: fold for video, fold in fold_of.items() if video in set(videos)}, unknown[:100]


def _check_options(max_steps: int | None, targets: Mapping[str, int], others: Mapping[str, Any]) -> None:
    if max_steps is not None and (not isinstance(max_steps, int) or max_steps < 1):
        raise ValueError(f"format=csd: max_steps must be a number from 1, or null, but is {max_steps!r}; correct it.")
    if not all(isinstance(column, int) and column >= 0 for column in targets.values()):
        raise ValueError(f"format=csd: targets must map names to columns of the labels, from 0, but is {targets}; correct it.")
    check_names("format=csd", "further modalities", others)
    if "tokens" in others:
        raise ValueError("format=csd: no modality may be called tokens, which is a kind of text; choose another name.")
