"""Stage one, data: a store is written (`mdm.data.store` reads it), in one rename and by one writer at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mdm.data.base import Segments, digest
from mdm.data.checks import check
from mdm.data.store import MANIFEST, TABLE, VERSION, digest_of_table, digest_of_words
from mdm.ownership import own

PARTIAL, REPLACED = "partial", "replaced"
"""In a writer's own folder: the store that it writes, and the one that it replaces."""


def write_store(
    segments: Segments, out: str | Path, overwrite: bool = False, progress: Callable[[str], Any] = lambda feature: None
) -> Path:
    """Write segments as a store, atomically; ``progress`` is called with each finished file's name.

    Raises ValueError if the segments break their contract, or if ``out`` exists and ``overwrite`` is
    false. Nothing appears at ``out`` before all of it is on disk.
    """
    out = Path(out)
    check(segments)
    writing = out.parent / f".{out.name}.writing"
    with own(writing):
        recover(writing, out)
        if out.exists() and not (overwrite and (out / MANIFEST).is_file()):
            raise ValueError(
                f"A store must not replace anything silently, but {out} exists; remove it, or pass overwrite=true if it is a store."
            )
        partial, replaced = writing / PARTIAL, writing / REPLACED
        try:
            partial.mkdir()
            write_files(segments, partial, progress)
            if out.exists():
                out.rename(replaced)
            partial.rename(out)
        finally:
            recover(writing, out)
    return out


def write_files(segments: Segments, folder: Path, progress: Callable[[str], Any]) -> None:
    """All files of a store."""
    digests = {}
    for feature, ragged in segments.features.items():
        np.save(folder / f"{feature}.values.npy", ragged.values, allow_pickle=False)
        np.save(folder / f"{feature}.offsets.npy", ragged.offsets, allow_pickle=False)
        digests[feature] = digest(ragged.values, ragged.offsets)
        progress(feature)
    np.savez(
        folder / TABLE,
        allow_pickle=False,
        ids=np.array(segments.ids),
        fold=segments.fold.astype(str),
        group=segments.group.astype(str),
        label=segments.label.astype(np.float32),
        **{f"mark.{mark}": flags.astype(bool) for mark, flags in segments.marks.items()},
        **{f"unimodal.{modality}": label.astype(np.float32) for modality, label in segments.unimodal.items()},
    )
    progress("segments")
    manifest = {
        "version": VERSION,
        "card": {**segments.card, "digests": digests},
        "text": list(segments.text),
        "modalities": list(segments.modalities),
        "vocabulary": {f: list(r.vocabulary) for f, r in segments.features.items() if r.vocabulary},
        "digests": {TABLE: digest_of_table(segments), "vocabulary": digest_of_words(segments)},
        "card_hash": replace(segments, digests=digests).card_hash,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")
    progress("manifest")


def recover(writing: Path, out: Path) -> None:
    """Clear up after a writer of ``out``, this or a killed one: drop what it had begun, put back what it was replacing."""
    if (writing / REPLACED).exists() and not out.exists():
        (writing / REPLACED).rename(out)
    for left in (writing / PARTIAL, writing / REPLACED):
        if left.exists():
            shutil.rmtree(left)
