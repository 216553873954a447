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
from zipfile import BadZipFile

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
    recover(out)
    if out.exists() and not (overwrite and (out / "manifest.json").is_file()):
        raise ValueError(
            f"A store must not replace anything silently, but {out} exists; remove it, or pass overwrite=true if it is a store."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
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
            fold=segments.fold.astype(str),
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
        (partial / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")
        progress("manifest")
        if out.exists():
            old = out.parent / f".{out.name}.{os.getpid()}.replaced"
            out.rename(old)
            partial.rename(out)
            shutil.rmtree(old)
        else:
            partial.rename(out)
    finally:
        if partial.exists():
            shutil.rmtree(partial)
    return out


def recover(out: Path) -> None:
    """Clear up after writers of ``out`` that were killed: drop what they had begun, put back what they were replacing."""
    for left in out.parent.glob(f".{out.name}.*"):
        pid, _, kind = left.name.removeprefix(f".{out.name}.").partition(".")
        if kind not in ("partial", "replaced") or not pid.isdigit() or Path(f"/proc/{pid}").exists():
            continue  # another name, or a writer that is still at work
        if kind == "replaced" and not out.exists():
            left.rename(out)
        else:
            shutil.rmtree(left)


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
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        if manifest.get("version") == VERSION:
            segments = read_store(path, manifest)
    except (OSError, EOFError, BadZipFile, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path}: a store's files must be whole, but reading them failed ({type(error).__name__}: {error}); prepare it again."
        ) from None
    if manifest.get("version") != VERSION:
        raise ValueError(
            f"{path}: this code reads stores of version {VERSION}, but this one says {manifest.get('version')}; prepare it again."
        )
    n = manifest["card"]["segments"]
    short = [f for f, r in segments.features.items() if len(r) != n or r.offsets[-1] != len(r.values)]
    if short or not n == len(segments) == len(segments.label) == len(segments.fold):
        wrong = ", ".join(short) or "segments.npz"
        raise ValueError(f"{path}: every file must hold {n} segments, but {wrong} does not; prepare the store again.")
    return segments


def read_store(path: Path, manifest: dict[str, Any]) -> Segments:
    """The reading itself; raises whatever a damaged file makes of it."""
    card = manifest["card"]

    def ragged(feature: str) -> Ragged:
        values = np.load(path / f"{feature}.values.npy", mmap_mode="r", allow_pickle=False)
        offsets = np.load(path / f"{feature}.offsets.npy", allow_pickle=False)
        return Ragged(values, offsets, tuple(manifest["vocabulary"].get(feature, ())))

    table = np.load(path / "segments.npz", allow_pickle=False)
    features = {feature: ragged(feature) for feature in (*manifest["text"], *manifest["modalities"])}
    return Segments(
        name=card["name"],
        ids=tuple(table["ids"].tolist()),
        fold=table["fold"],
        group=table["group"],
        label=table["label"],
        targets=tuple(card["targets"]),
        label_range=tuple(card["label_range"]),
        modalities={feature: features[feature] for feature in manifest["modalities"]},
        text={feature: features[feature] for feature in manifest["text"]},
        aligned=tuple(card["aligned"]),
        marks={key[5:]: table[key] for key in table.files if key.startswith("mark.")},
        truth=card["truth"],
        source=card["source"],
        digests=card["digests"],
    )
