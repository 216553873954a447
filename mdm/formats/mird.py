"""Stage one, data: ``mosi.pkl`` and ``mosei.pkl`` of MIRD (Qian et al.'s (2024) repository)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mdm.data.base import Segments
from mdm.formats.base import RawSegment, assemble
from mdm.formats.columns import Columns
from mdm.formats.contents import Contents
from mdm.formats.pickles import load_folds
from mdm.formats.values import decode_text, first_label, split_words

KEYS = {"audio": "audio", "video": "video"}


def recognize_mird(contents: Contents) -> str:
    """Why these are MIRD's columns, "" if they are not."""
    needed = {"raw_text", "labels", *KEYS.values()}
    return f"three folds of the columns {', '.join(sorted(needed))}" if needed <= contents.columns else ""


def read_mird(
    source: str | Path, *, label_range: Sequence[float] = (-3.0, 3.0), clip_labels: bool = False, name: str = ""
) -> Segments:
    """One pickle {train, valid, test} → raw_text [n], audio [n, time, dim], video [n, time, dim], labels [n].

    Nothing is aligned; the file holds no lengths, so each modality's zeros in front and behind are cut. Sentences
    are split into words at white space, Chinese and Japanese ones into characters. The file names no videos: each
    segment is a group of its own, so a new division into folds cannot keep a speaker on one side.

    Raises ValueError if the file is missing, is no plain pickle, or has another form.
    """
    folds, files, left = load_folds(source, "mird")
    rows = []
    for fold, content in folds.items():
        columns = Columns(content, "labels", f"format=mird: {fold}")
        for k in range(columns.n):
            own = f"{fold}_{k}"
            label = first_label(columns["labels"][k], f"format=mird: {own}")
            words = split_words(decode_text(columns["raw_text"][k], f"format=mird: {own}, raw_text"))
            rows.append(RawSegment(own, fold, own, label, {"words": words, **columns.vectors(k, KEYS, aligned=False)}))
    return assemble(
        rows,
        format="mird",
        source=source,
        files=files,
        options={},
        label_range=label_range,
        clip_labels=clip_labels,
        name=name,
        notes=left,
    )
