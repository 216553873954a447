"""Stage one, data: ``*_data.pkl`` and ``*_data_noalign.pkl`` of MulT (Tsai et al., ACL 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mdm.data.base import Segments
from mdm.formats.base import RawSegment, assemble
from mdm.formats.columns import Columns
from mdm.formats.pickles import load_folds
from mdm.formats.values import first_label, identify

KEYS = {"vectors": "text", "audio": "audio", "video": "vision"}


def read_mult(
    source: str | Path,
    *,
    aligned: bool | None = None,
    label_range: Sequence[float] = (-3.0, 3.0),
    clip_labels: bool = False,
    name: str = "",
) -> Segments:
    """One pickle {train, valid, test} → vision, text (word vectors), audio [n, time, dim], labels [n, 1, 1], id [n, …].

    Padding is zeros in front. ``aligned``: whether the three share their steps; by default they do where they
    have equally many (50, 50, 50), and do not in the ``noalign`` files (50, 375, 500). Aligned segments
    lose only steps that are zero in all three; others lose each modality's own padding.

    Raises ValueError if the file is missing, is no plain pickle, or has another form.
    """
    folds, files = load_folds(source, "mult")
    tables = {fold: Columns(content, "labels", f"format=mult: {fold}") for fold, content in folds.items()}
    if aligned is None:
        aligned = all(len(columns.steps(KEYS.values())) < 2 for columns in tables.values())
    rows = []
    for fold, columns in tables.items():
        for k in range(columns.n):
            segment, group = identify(columns["id"][k], f"{columns.where} segment {k}")
            label = first_label(columns["labels"][k], f"format=mult: {segment}")
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
        aligned=tuple(KEYS) if aligned else (),
    )
