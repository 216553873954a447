"""Stage one, data: ``*_data.pkl`` and ``*_data_noalign.pkl`` of MulT (Tsai et al., ACL 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mdm.data.base import Segments
from mdm.formats.base import RawSegment, assemble
from mdm.formats.columns import Columns
from mdm.formats.contents import Contents
from mdm.formats.pickles import load_folds
from mdm.formats.values import first_label, format_value, identify, read_numbers

KEYS = {"vectors": "text", "audio": "audio", "video": "vision"}
EMOTIONS = ("neutral", "happy", "sad", "angry")
"""IEMOCAP's, in the order in which MulT's code evaluates them."""


def recognize_mult(contents: Contents) -> str:
    """Why these are MulT's columns, "" if they are not."""
    needed = {"labels", *KEYS.values()}
    return f"three folds of the columns {', '.join(sorted(needed))}" if needed <= contents.columns - {"raw_text"} else ""


def read_mult(
    source: str | Path,
    *,
    aligned: bool | None = None,
    label_range: Sequence[float] = (-3.0, 3.0),
    clip_labels: bool = False,
    name: str = "",
) -> Segments:
    """One pickle {train, valid, test} → vision, text (word vectors), audio [n, time, dim], labels [n, 1, 1], id [n, …].

    IEMOCAP's has labels [n, 4, 2], for each emotion a 1 at no or at yes: four targets of 0 and 1. It names no segments;
    these are called ``fold_k``, and each is a group of its own.

    Padding is zeros in front. ``aligned``: whether the three share their steps; by default they do where the training fold
    has equally many (50, 50, 50), and do not in the ``noalign`` files (50, 375, 500). Aligned segments
    lose only steps that are zero in all three; others lose each modality's own padding.

    Raises ValueError if the file is missing, is no plain pickle, or has another form.
    """
    folds, files, left = load_folds(source, "mult")
    tables = {fold: Columns(content, "labels", f"format=mult: {fold}") for fold, content in folds.items()}
    if aligned is None:
        aligned = len(tables["train"].steps(KEYS.values())) < 2
    emotions = tables["train"].n > 0 and np.shape(tables["train"]["labels"][0]) == (len(EMOTIONS), 2)
    rows = []
    for fold, columns in tables.items():
        for k in range(columns.n):
            own = f"{fold}_{k}"
            segment, group = identify(columns["id"][k], f"{columns.where} segment {k}") if "id" in columns else (own, own)
            read = read_emotions if emotions else first_label
            label = read(columns["labels"][k], f"format=mult: {segment}")
            rows.append(RawSegment(segment, fold, group, label, columns.vectors(k, KEYS, aligned)))
    return assemble(
        rows,
        format="mult",
        source=source,
        files=files,
        options={"aligned": aligned},
        label_range=label_range,
        clip_labels=clip_labels,
        name=name,
        targets=EMOTIONS if emotions else ("sentiment",),
        aligned=tuple(KEYS) if aligned else (),
        notes=left,
    )


def read_emotions(value: Any, where: str) -> Float[np.ndarray, "4"]:
    """1 where yes is marked. Raises ValueError unless each emotion has a 1 in one place and 0 in the other."""
    marked = read_numbers(value)
    if marked is None or marked.shape != (len(EMOTIONS), 2) or not (np.isin(marked, (0, 1)).all() and (marked.sum(1) == 1).all()):
        raise ValueError(
            f"{where}'s label must mark no or yes for each of {', '.join(EMOTIONS)}, but is {format_value(value)}; "
            "check the labels."
        )
    return marked[:, 1]
