"""Stage one, data: the store, prepared data on disk, memory-mapped and without padding.

A store is a folder: ``manifest.json`` (the data card and what `Segments` needs), ``segments.npz`` (ids,
folds, groups, labels, marks) and, for each feature, ``<feature>.values.npy`` and
``<feature>.offsets.npy``. It holds no pickle, opens without reading the arrays, and appears in one
rename: a killed writer leaves no store behind.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mdm.data.base import Ragged, Segments, check, digest

VERSION = 1


def write_store(
    segments: Segments, out: str | Path, overwrite: bool = False, progress: Callable[[str], Any] = lambda feature: None
) -> Path:
    """Write segments as a store, atomically; ``progress`` is called with each finished file's name.

    Raises ValueError if the segments break their contract, or if ``out`` exists and ``overwrite`` is
    false. Nothing appears at ``out`` before all of it is on disk.
    """
    out = Path(out)
    check(segments)
    if out.exists() and not overwrite:
        raise ValueError(f"A store must not replace another silently, but {out} exists; remove it or pass overwrite=true.")
    out.parent.mkdir(parents=True, exist_ok=True)
    for stale in out.parent.glob(f".{out.name}.*.partial"):
        shutil.rmtree(stale)
    partial = out.parent / f".{out.name}.{os.getpid()}.partial"
    partial.mkdir()
    try:
        digests = {}
        for feature, ragged in segments.features.items():
            np.save(partial / f"{feature}.values.npy", ragged.values, allow_pickle=False)
            np.save(partial / f"{feature}.offsets.npy", ragged.offsets, allow_pickle=False)
            digests[feature] = digest(ragged.values, ragged.offsets)
            progress(feature)
        np.savez(
            partial / "segments.npz",
            allow_pickle=False,
            ids=np.array(segments.ids),
            fold=segments.fold.astype("U5"),
            group=segments.group.astype(str),
            label=segments.label.astype(np.float32),
            **{f"mark.{mark}": flags.astype(bool) for mark, flags in segments.marks.items()},
        )
        progress("segments")
        manifest = {
            "version": VERSION,
            "card": {**segments.card, "digests": digests},
            "text": list(segments.text),
            "modalities": list(segments.modalities),
            "vocabulary": {f: list(r.vocabulary) for f, r in segments.features.items() if r.vocabulary},
        }
        (partial / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False))
        progress("manifest")
        if out.exists():
            old = out.parent / f".{out.name}.{os.getpid()}.old.partial"
            out.rename(old)
            partial.rename(out)
            shutil.rmtree(old)
        else:
            partial.rename(out)
    finally:
        if partial.exists():
            shutil.rmtree(partial)
    return out


def open_store(path: str | Path) -> Segments:
    """Open a store; arrays are memory-mapped, so this costs no more for a large one.

    Raises ValueError if there is no store, if it is of another version, or if a file of it is missing
    or of another shape than the manifest says.
    """
    path = Path(path)
    if not (path / "manifest.json").is_file():
        raise ValueError(
            f"A store is a folder with a manifest.json, but {path} has none; make one with "
            f"`python scripts/prepare.py format=<name> source=<files> out={path}` or set paths.data."
        )
    try:
        manifest = json.loads((path / "manifest.json").read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}/manifest.json must be JSON, but is not ({error}); prepare the store again.") from None
    if manifest.get("version") != VERSION:
        raise ValueError(
            f"{path}: this code reads stores of version {VERSION}, but this one says {manifest.get('version')}; prepare it again."
        )
    card = manifest["card"]

    def load(file: str, mapped: bool = True) -> Any:
        try:
            return np.load(path / file, mmap_mode="r" if mapped else None, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: a store must hold {file}, but it cannot be read ({error}); prepare it again.") from None

    def ragged(feature: str) -> Ragged:
        values, offsets = load(f"{feature}.values.npy"), load(f"{feature}.offsets.npy", mapped=False)
        if len(offsets) != card["segments"] + 1 or offsets[-1] != len(values):
            raise ValueError(
                f"{path}: {feature} must hold {card['segments']} sequences, but its files disagree; prepare the store again."
            )
        return Ragged(values, offsets, tuple(manifest["vocabulary"].get(feature, ())))

    table = load("segments.npz", mapped=False)
    return Segments(
        name=card["name"],
        ids=tuple(table["ids"].tolist()),
        fold=table["fold"],
        group=table["group"],
        label=table["label"],
        targets=tuple(card["targets"]),
        label_range=tuple(card["label_range"]),
        modalities={feature: ragged(feature) for feature in manifest["modalities"]},
        text={feature: ragged(feature) for feature in manifest["text"]},
        aligned=tuple(card["aligned"]),
        marks={key[5:]: table[key] for key in table.files if key.startswith("mark.")},
        truth=card["truth"],
        source=card["source"],
        digests=card["digests"],
    )
