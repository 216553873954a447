"""Stage one, data: the store, prepared data on disk, memory-mapped and without padding.

A store is a folder: ``manifest.json`` (the data card, what `Segments` needs, digests), ``segments.npz`` (ids,
folds, groups, labels, unimodal labels, marks) and, for each feature, ``<feature>.values.npy`` and
``<feature>.offsets.npy``. It holds no pickle, opens without reading the arrays (once they are verified), and appears in one
rename: a killed writer leaves no store behind.
"""

from __future__ import annotations

import json
import stat
import tokenize
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.lib.format import open_memmap

from mdm.data.base import Ragged, Segments, digest
from mdm.data.checks import check_names

VERSION = 3
MANIFEST, TABLE, VERIFIED = "manifest.json", "segments.npz", ".verified.json"


def open_store(path: str | Path) -> Segments:
    """Open a store; arrays are memory-mapped, so this costs no more for a large one.

    Its values are held to the digests of the manifest once after each change of a file: what was found to be right, by size, times
    and inode, is noted in ``.verified.json`` beside them (where the folder can be written; elsewhere each opening reads all).

    Raises ValueError if there is no store, if it is of another version, or if a file of it is missing, damaged or not the one
    that was written.

    >>> import tempfile
    >>> from mdm.data.gaussian import gaussian
    >>> from mdm.data.writing import write_store
    >>> path = Path(tempfile.mkdtemp()) / "store"
    >>> store = write_store(gaussian(train=8, valid=4, test=4), path)
    >>> len(open_store(store))
    16
    """
    path = Path(path)
    manifest, before = read_manifest(path)
    segments = read_store(path, manifest)
    if before != _verified(path):
        check_digests(path, manifest, segments)
        if fingerprint(path, manifest) == before:  # nobody wrote meanwhile
            _note_verified(path, before)
    return segments


def verify_store(path: str | Path) -> Segments:
    """Open a store and hold all of its values to the digests of its manifest, whatever was found before.

    Raises ValueError as `open_store` does.
    """
    path = Path(path)
    manifest, _ = read_manifest(path)
    segments = read_store(path, manifest)
    check_digests(path, manifest, segments)
    return segments


def read_manifest(path: Path) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """The manifest of a store, and the `fingerprint` of its files. Raises ValueError if it cannot be read."""
    if not (path / MANIFEST).is_file():
        raise ValueError(
            f"A store is a folder with a {MANIFEST}, but {path} has none; make one with "
            f"`mdm prepare format=<name> source=<files> out={path}` or set paths.data."
        )
    with report_damage(path, MANIFEST):
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if not isinstance(manifest, dict):
            raise ValueError(f"it holds a {type(manifest).__name__}")
    if manifest.get("version") != VERSION:
        raise ValueError(
            f"{path}: this code reads stores of version {VERSION}, but this one says {manifest.get('version')}; prepare it again."
        )
    with report_damage(path, MANIFEST):
        names = [*manifest["text"], *manifest["modalities"]]
        check_names(str(path), "features", names)
        strange = [key for key in ("card", "vocabulary", "digests") if not isinstance(manifest[key], dict)]
        if strange or not isinstance(manifest["card_hash"], str) or manifest["card"]["digests"].keys() != set(names):
            raise ValueError(f"it has no proper {', '.join(strange) or 'digests'}")
    return manifest, fingerprint(path, manifest)


@contextmanager
def report_damage(path: Path, file: str) -> Iterator[None]:
    """Whatever a damaged file makes of its reading is one ValueError that names the file."""
    try:
        yield
    except (
        *(OSError, EOFError, BadZipFile, ArithmeticError, LookupError, MemoryError, NotImplementedError, RecursionError),
        *(AttributeError, SyntaxError, TypeError, ValueError, tokenize.TokenError, zlib.error),
    ) as error:
        raise ValueError(
            f"{path}: a store's files must be whole, but reading them failed at {file} ({type(error).__name__}: {error}); "
            "prepare it again."
        ) from None


def fingerprint(path: Path, manifest: dict[str, Any]) -> dict[str, list[int]]:
    """File → size, times of change and inode, of all files of a store. Raises ValueError if one is no regular file."""
    features = [
        f"{feature}.{part}.npy" for feature in (*manifest["text"], *manifest["modalities"]) for part in ("values", "offsets")
    ]
    found = {}
    for file in (MANIFEST, TABLE, *features):
        with report_damage(path, file):
            status = (path / file).stat()
            if not stat.S_ISREG(status.st_mode):
                raise ValueError("it is no regular file")
        found[file] = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    return found


def _verified(path: Path) -> Any:
    """The fingerprint under which the store was last found right; None where there is none that can be read."""
    try:
        return json.loads((path / VERIFIED).read_bytes()) if (path / VERIFIED).is_file() else None
    except (OSError, ValueError, RecursionError):
        return None


def _note_verified(path: Path, found: dict[str, list[int]]) -> None:
    """Keep a fingerprint for the next opening, in one rename; a folder that cannot be written is verified again instead."""
    temporary = path / f"{VERIFIED}.{uuid4().hex}"
    with suppress(OSError):
        try:
            temporary.write_text(json.dumps(found))
            temporary.replace(path / VERIFIED)
        finally:
            temporary.unlink(missing_ok=True)


def read_store(path: Path, manifest: dict[str, Any]) -> Segments:
    """The table of a store, its arrays mapped. Raises ValueError on a file that is not what the manifest and `write_store` say."""
    table = read_table(path)
    features = {feature: read_ragged(path, feature, manifest) for feature in (*manifest["text"], *manifest["modalities"])}
    with report_damage(path, MANIFEST):
        card = manifest["card"]
        n, low_high = card["segments"], tuple(float(bound) for bound in card["label_range"])
        if len(low_high) != 2 or type(n) is not int:
            raise ValueError("its card has no range of labels or no number of segments")
        segments = Segments(
            name=str(card["name"]),
            ids=tuple(table["ids"].tolist()),
            fold=table["fold"],
            group=table["group"],
            label=table["label"],
            targets=tuple(map(str, card["targets"])),
            label_range=(low_high[0], low_high[1]),
            modalities={feature: features[feature] for feature in manifest["modalities"]},
            text={feature: features[feature] for feature in manifest["text"]},
            aligned=tuple(map(str, card["aligned"])),
            marks={key[5:]: flags for key, flags in table.items() if key.startswith("mark.")},
            unimodal={key[9:]: label for key, label in table.items() if key.startswith("unimodal.")},
            truth=dict(card["truth"]),
            source=dict(card["source"]),
            digests={str(feature): str(value) for feature, value in card["digests"].items()},
        )
    short = [f for f, r in features.items() if len(r) != n or r.offsets[-1] != len(r.values)]
    if short or any(len(column) != n for column in table.values()):
        wrong = ", ".join(short) or TABLE
        raise ValueError(f"{path}: every file must hold {n} segments, but {wrong} does not; prepare the store again.")
    return segments


def read_table(path: Path) -> dict[str, np.ndarray]:
    """The columns of segments.npz, each of the type that `write_store` gave it."""
    with report_damage(path, TABLE):
        with ZipFile(path / TABLE) as archive:
            packed = [entry.filename for entry in archive.infolist() if entry.compress_size != entry.file_size]
        if packed:
            raise ValueError(f"{packed[0]} is compressed")
        with np.load(path / TABLE, allow_pickle=False) as archive:
            table = {key: archive[key] for key in archive.files}
        for key, column in table.items():
            kinds = {"label": "f4", "unimodal": "f4", "ids": "U", "fold": "U", "group": "U", "mark": "b1"}
            what, dot, _ = key.partition(".")
            kind = kinds.get(what, "") if bool(dot) == (what in ("mark", "unimodal")) else ""
            if (
                not kind
                or column.ndim != (2 if what in ("label", "unimodal") else 1)
                or kind not in (column.dtype.kind, column.dtype.str[1:])
            ):
                raise ValueError(f"{key} is {column.dtype} {list(column.shape)}")
        if {"ids", "fold", "group", "label"} - table.keys():
            raise ValueError("a column is missing")
    return table


def read_ragged(path: Path, feature: str, manifest: dict[str, Any]) -> Ragged:
    """One feature, its values mapped."""
    with report_damage(path, f"{feature}.values.npy"):
        values = open_memmap(path / f"{feature}.values.npy", mode="r")
        if (values.dtype.str, values.ndim) not in (("<f4", 2), ("<i4", 1)):
            raise ValueError(f"it is {values.dtype} {list(values.shape)}")
    with report_damage(path, f"{feature}.offsets.npy"):
        # mapped first, so that a header that promises more than the file has is refused before anything is allocated
        offsets: np.ndarray = open_memmap(path / f"{feature}.offsets.npy", mode="r")
        if offsets.dtype.str != "<i8" or offsets.ndim != 1 or len(offsets) == 0:
            raise ValueError(f"it is {offsets.dtype} {list(offsets.shape)}")
        offsets = np.array(offsets)
    with report_damage(path, MANIFEST):
        words = manifest["vocabulary"].get(feature, [])
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError(f"the vocabulary of {feature} is no list of words")
    return Ragged(values, offsets, tuple(words))


def check_digests(path: Path, manifest: dict[str, Any], segments: Segments) -> None:
    """Raises ValueError, naming the file, unless every value of a store is the one that was written."""
    for file, came, written in _digests(manifest, segments):
        if came != written:
            raise ValueError(
                f"{path}: a store must hold what was written into it, but {file} has changed since (its digest is another than the "
                "manifest's); prepare it again."
            )


def _digests(manifest: dict[str, Any], segments: Segments) -> Iterator[tuple[str, str, Any]]:
    """(file, its digest, the manifest's) for each part of a store, the values first: what follows is computed from them."""
    for feature, ragged in segments.features.items():
        own = digest(ragged.values, ragged.offsets)
        yield f"{feature}.values.npy or {feature}.offsets.npy", own, segments.digests[feature]
    yield TABLE, digest_of_table(segments), manifest["digests"].get(TABLE)
    yield f"{MANIFEST} (vocabulary)", digest_of_words(segments), manifest["digests"].get("vocabulary")
    yield f"{MANIFEST} (card)", json.dumps(segments.card, sort_keys=True), json.dumps(manifest["card"], sort_keys=True)
    yield f"{MANIFEST} (card_hash)", segments.card_hash, manifest["card_hash"]


def digest_of_table(segments: Segments) -> str:
    """One digest of all columns of segments.npz."""
    return digest(
        segments.label.astype(np.float32),
        *(np.array(column, dtype=str) for column in (segments.ids, segments.fold, segments.group, list(segments.marks))),
        *(flags.astype(bool) for flags in segments.marks.values()),
        *(label.astype(np.float32) for label in segments.unimodal.values()),
    )


def digest_of_words(segments: Segments) -> str:
    """One digest of all vocabularies."""
    return digest(*(np.array(r.vocabulary, dtype=str) for r in segments.features.values()))
