"""Stage one, data: CMU-MOSI, CMU-MOSEI and POM as the CMU-MultimodalSDK distributes them (.csd files).

Frames → words → labelled segments, by the SDK's rules: a row belongs to an interval that it overlaps by more
than 1e-5 s; a word's frames are averaged; a word without frames gets zeros; segments stay that every
sequence reaches. Two departures, both where the SDK leaves holes: a frame that is not finite counts as zeros in its
word's mean, rather than wiping it out; and a word at the edge of a segment brings the mean of all its
frames, whereas the SDK may drop one modality's row there and shift those that follow.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mdm.data.base import Segments
from mdm.data.checks import check_names
from mdm.formats.alignment import Cut, Track
from mdm.formats.base import TEXT, RawSegment, assemble, refuse_nothing_finite, require_file, require_folder, split_by_fold
from mdm.formats.sequences import ComputationalSequence, hdf5_process

PAUSE = "sp"


def read_csd(
    source: str | Path,
    *,
    labels: str = "*Label*.csd",
    words: str | None = "*TimestampedWords*.csd",
    vectors: str | None = "*WordVectors*.csd",
    audio: str | None = "*COVAREP*.csd",
    video: str | None = "*Facet*.csd",
    folds: str = "*folds*.json",
    align: str = "words",
    keep_pauses: bool = False,
    unify: bool = True,
    max_steps: int | None = None,
    side: str = "left",
    targets: Mapping[str, int] | None = None,
    label_range: Sequence[float] = (-3.0, 3.0),
    clip_labels: bool = False,
    name: str = "",
    **others: Any,
) -> Segments:
    """A folder: labels .csd, folds .json {train, valid (or dev), test: [videos]}, any of words, vectors, audio, video .csd.

    labels, words, vectors, audio, video, folds, others: file names or patterns in the folder. What matches a
        default is used, and nothing need match but labels and folds; null leaves a feature out; any further option
        is a modality of that name
    align: ``words``, one step per word in every feature; ``none``, words and frames as they lie in the segment
    keep_pauses: keep the words ``sp``, which stand for silence
    unify: drop segments that some sequence does not reach at all; otherwise these lack that modality (those without
        words are dropped in either case where steps are words)
    max_steps, side: at most so many steps of a feature, cut on the left (the last stay, as in the SDK) or on the right
    targets: name → column of the labels; by default column 0 is ``sentiment``

    Segment k of a video, in the file's order, is ``video[k]``, and its group is the video. Videos in no fold
    keep the fold ``""``.

    Raises ValueError if a file is missing, ambiguous or damaged, if a fold is missing, names a video
    without labels or shares one with another fold, or if an option has another value.
    """
    source = require_folder(Path(source), "format=csd")
    targets = dict(targets or {"sentiment": 0})
    _check_options(align, side, max_steps, targets, others)
    roles = {"labels": labels, "words": words, "vectors": vectors, "audio": audio, "video": video, **others}
    paths = {role: _find(source, role, pattern) for role, pattern in {**roles, "folds": folds}.items()}
    found = {role: path for role, path in paths.items() if path is not None}
    if not {"words", "vectors"} & set(found) and align == "words":
        raise ValueError("format=csd: align=words needs words or vectors, but neither came; add one or pass options.align=none.")
    rows: list[RawSegment] = []
    dropped: list[str] = []
    bad: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    sequences = {role: path for role, path in found.items() if role != "folds"}
    with hdf5_process(list(sequences.values())) as process:
        files = {role: ComputationalSequence(path, process, text=role == "words") for role, path in sequences.items()}
        label_file = files.pop("labels")
        fold_of = _folds(found["folds"], label_file.videos)
        for video_id in label_file.videos:
            tracks = {}
            for role, file in files.items():
                track = file.track(video_id)
                if track is not None:
                    tracks[role] = _clean(track, role, bad, seen).by_time()
            if "words" in tracks and not keep_pauses:
                tracks["words"] = tracks["words"].only(tracks["words"].features != PAUSE)
            cut = Cut(tracks, align == "words", max_steps, side)
            for row in _rows(video_id, fold_of.get(video_id, ""), label_file, targets, cut):
                if row.features and (len(row.features) == len(files) or not unify):
                    rows.append(row)
                else:
                    dropped.append(row.id)
    for role in seen:
        refuse_nothing_finite("format=csd", role, bad[role], seen[role])
    return assemble(
        rows,
        format="csd",
        source=source,
        files=list(found.values()),
        options={
            "roles": {role: path.name for role, path in found.items()},
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
    )


def _rows(video: str, fold: str, labels: ComputationalSequence, targets: Mapping[str, int], cut: Cut) -> list[RawSegment]:
    """The labelled segments of one video, in the file's order, with whatever features reach them."""
    label = labels.track(video)
    assert label is not None
    width = label.features.shape[1]
    if width <= max(targets.values()):
        raise ValueError(
            f"{labels.path.name} has {width} columns of labels, but targets asks for {targets}; pass "
            "options.targets.<name>=<column>, counted from 0."
        )
    columns = list(targets.values())
    # a file that was aligned before has the segments' names already
    names = [entry if "[" in entry else f"{video}[{k}]" for k, entry in enumerate(label.entries)]
    return [
        RawSegment(segment, fold, video, values[columns], cut.segment(*interval))
        for segment, interval, values in zip(names, label.intervals, label.features, strict=True)
    ]


def _clean(track: Track, role: str, bad: Counter[str], seen: Counter[str]) -> Track:
    """The track with values that are not finite as 0, and the two counts raised; words as they are."""
    if role == "words":
        return track
    wrong = ~np.isfinite(track.features)
    bad[role] += int(wrong.sum())
    seen[role] += wrong.size
    return Track(track.intervals, np.where(wrong, np.float32(0), track.features), track.entries)


def _find(source: Path, role: str, pattern: Any) -> Path | None:
    """The file that plays a role; None if that is left out, or if a pattern of an optional role matches nothing."""
    usual = role in (*TEXT, "audio", "video")
    if pattern is None and usual:
        return None
    if not isinstance(pattern, str):
        raise ValueError(f"format=csd: option {role} must be a file name or pattern, but is {pattern!r}; check the options' names.")
    if not pattern or Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        raise ValueError(
            f"format=csd: option {role} must name a file within {source}, but is {pattern!r:.80}; put it there and pass its name."
        )
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
    if not matches and not (usual and "*" in pattern):
        raise ValueError(
            f"format=csd needs a file for {role}, but nothing in {source} matches {pattern!r:.80}; pass options.{role}=<file> "
            "(or correct the option's name: unknown options are modalities)."
        )
    return require_file(matches[0], f"format=csd: {role}") if matches else None


def _folds(path: Path, videos: Sequence[str]) -> dict[str, str]:
    """video → fold. Raises ValueError on a fold missing, overlapping, or naming a video that has no labels."""
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
    if unknown:
        raise ValueError(
            f"{path.name}: folds must name videos that have labels, but {len(unknown)} have none ({', '.join(unknown[:5])}); "
            "remove them, or pass options.folds of the same data set."
        )
    return fold_of


def _check_options(align: str, side: str, max_steps: int | None, targets: Mapping[str, int], others: Mapping[str, Any]) -> None:
    if align not in ("words", "none"):
        raise ValueError(f"format=csd: align must be words or none, but is {align!r}; pass options.align=words.")
    if side not in ("left", "right"):
        raise ValueError(f"format=csd: side must be left or right, but is {side!r}; pass options.side=left.")
    if max_steps is not None and (not isinstance(max_steps, int) or max_steps < 1):
        raise ValueError(f"format=csd: max_steps must be a number from 1, or null, but is {max_steps!r}; correct it.")
    if not all(isinstance(column, int) and column >= 0 for column in targets.values()):
        raise ValueError(f"format=csd: targets must map names to columns of the labels, from 0, but is {targets}; correct it.")
    check_names("format=csd", "further modalities", others)
    if "tokens" in others:
        raise ValueError("format=csd: no modality may be called tokens, which is a kind of text; choose another name.")
