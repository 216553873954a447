"""Stage one, data: ``mosi.pkl``, ``pom.pkl`` and ``iemocap.pkl`` of LMF (Liu et al., ACL 2018) and of TFN's public code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mdm.data.base import Segments
from mdm.formats.base import ALIASES, RawSegment, assemble, require_file, split_by_fold
from mdm.formats.columns import Columns, name_targets
from mdm.formats.contents import Contents
from mdm.formats.pickles import load_pickle
from mdm.formats.values import format_value, read_matrix, read_numbers, trim

KEYS = {"vectors": ("glove", "text"), "audio": ("covarep",), "video": ("facet",)}
"""Feature → possible names of its column."""
LABELS = "label"


def recognize_lmf(contents: Contents) -> str:
    """Why these are LMF's columns, "" if they are not."""
    per_emotion = contents.pickled if isinstance(contents.pickled, Mapping) else {}
    inner = [Contents(contents.path, "pickle", pickled=value) for value in per_emotion.values()]
    for each in (contents, *(found for found in inner if found.folds)):
        if {"covarep", "facet", LABELS} <= each.columns:
            several = "" if each is contents else ", one set for each emotion"
            return f"three folds of the columns covarep, facet and label{several}"
    return ""


def read_lmf(
    source: str | Path,
    *,
    emotion: str | None = None,
    targets: Mapping[str, int] | None = None,
    label_range: Sequence[float] | None = None,
    clip_labels: bool = False,
    name: str = "",
) -> Segments:
    """One pickle {train, valid, test} → covarep and facet [n, dim] or [n, time, dim], glove (or text) [n, time, dim], label [n, …].

    IEMOCAP's has such a dictionary for each emotion; ``emotion`` says which is read.
    targets: name → column of the label. By default the only column is ``sentiment``, or that emotion; two columns of which each
        segment marks one (no, yes) are one target, whether it is there; more such columns ``class_0``, ``class_1``, …

    A covarep or facet of one row for a segment (a mean over time) is one step. Where all three have equally many steps they are
    aligned, and a segment loses the steps at its ends that are zero in all; else each loses its own. The file names no videos:
    each segment is a group of its own. ``label_range`` must be given where labels have more than two values.

    Raises ValueError if the file is missing, is no plain pickle, or has another form, or if it has emotions and none is
    chosen.
    """
    source = require_file(Path(source), "format=lmf")
    content = load_pickle(source)
    content = choose_emotion(content, emotion, source.name)
    folds = split_by_fold(content, source.name, further=True)
    tables = {fold: Columns(columns, LABELS, f"format=lmf: {fold}") for fold, columns in folds.items()}
    labels = {fold: read_table(columns) for fold, columns in tables.items()}
    binary = targets is None and all(map(is_no_or_yes, labels.values()))
    columns_read = {emotion or "sentiment": 1} if binary else name_targets(targets, labels, "lmf")
    rows, same = [], False
    for fold, columns in tables.items():
        keys = {feature: find_column(columns, feature, names) for feature, names in KEYS.items()}
        whole = {feature: [as_steps(value, f"{columns.where}, {key}") for value in columns[key]] for feature, key in keys.items()}
        same = len({len(steps[0]) for steps in whole.values() if steps}) == 1 if fold == "train" else same
        for k in range(columns.n):
            own = f"{fold}_{k}"
            arrays = {feature: steps[k] for feature, steps in whole.items()}
            cut = trim(*arrays.values()) if same else tuple(trim(array)[0] for array in arrays.values())
            label = labels[fold][k, list(columns_read.values())]
            rows.append(RawSegment(own, fold, own, label, dict(zip(arrays, cut, strict=True))))
    return assemble(
        rows,
        format="lmf",
        source=source,
        files=[source],
        options={"emotion": emotion, "targets": columns_read},
        label_range=label_range,
        clip_labels=clip_labels,
        name=name,
        targets=tuple(columns_read),
        aligned=tuple(KEYS) if same else (),
    )


def is_no_or_yes(y: Float[np.ndarray, "n columns"]) -> bool:
    """Whether labels have two columns, of which each segment marks one by a 1."""
    return y.shape[1] == 2 and bool(np.isin(y, (0, 1)).all() and (y.sum(1) == 1).all())


def choose_emotion(content: Any, emotion: str | None, where: str) -> Any:
    """The folds of the emotion. Raises ValueError if there are emotions and none is chosen, or none and one is."""
    inner = content if isinstance(content, Mapping) and not any(str(key) in ALIASES for key in content) else {}
    emotions = [str(key) for key, value in inner.items() if isinstance(value, Mapping) and set(map(str, value)) & set(ALIASES)]
    if emotion is None and not emotions:
        return content
    if emotion not in emotions:
        have = f"has {', '.join(emotions)}" if emotions else "has folds and no emotions"
        do = f"pass options.emotion=<one of {', '.join(emotions)}>" if emotions else "leave options.emotion out"
        raise ValueError(f"{where}: an emotion must be one of the file's, but it {have}, and emotion is {emotion}; {do}.")
    return content[emotion]


def find_column(columns: Columns, feature: str, names: Sequence[str]) -> str:
    """Its name in this file; the first possible one, which is then missed, where it has none."""
    return next((name for name in names if name in columns), names[0])


def as_steps(value: Any, where: str) -> Float[np.ndarray, "time dim"]:
    """A segment's rows; a single vector is one step."""
    array = read_numbers(value)
    return read_matrix(value if array is None or array.ndim != 1 else array[None], where)


def read_table(columns: Columns) -> Float[np.ndarray, "n columns"]:
    """The labels of a fold as [segments, columns]. Raises ValueError unless they are numbers, equally many for each segment."""
    numbers = read_numbers(columns[LABELS])
    if numbers is None:
        raise ValueError(f"{columns.where}: labels must be numbers, but are {format_value(columns[LABELS])}; check the labels.")
    return numbers.reshape(columns.n, -1)
