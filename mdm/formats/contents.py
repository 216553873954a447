"""Stage one, data: what is at a path, read once, so that each format can say whether it is its own.

A format that can tell says so in a function ``recognize_<name>`` beside its reader: `Contents` → why it is this format, "" where it
is not. Names of files only lead to what is looked at; what decides is inside.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mdm.data.base import FOLDS
from mdm.formats.base import ALIASES
from mdm.formats.damage import HDF5, describe_archive, describe_damage
from mdm.formats.pickles import load_pickle
from mdm.formats.sequences import ask_hdf5, hdf5_process

TABLES = {".csv": ",", ".tsv": "\t"}
PICKLES = (".pkl", ".pickle", ".p", ".data", ".dat")


@dataclass(frozen=True)
class Contents:
    """What lies at a path.

    kind: folder, pickle, HDF5, table, archive, numpy or other
    files: the names in a folder
    pickled: what a pickle holds; of a folder, what its train.pkl, dev.pkl (or valid.pkl) and test.pkl hold, by their names
    header: the columns of a table, or of the first table of a folder
    bad: name → what is wrong with it (`describe_damage`, or the refusal of a pickle)
    """

    path: Path
    kind: str
    files: tuple[str, ...] = ()
    pickled: Any = None
    header: tuple[str, ...] = ()
    bad: dict[str, str] = field(default_factory=dict)

    @property
    def folds(self) -> dict[str, Any]:
        """What a pickle has for train, valid and test; empty unless it has all three."""
        if not isinstance(self.pickled, Mapping):
            return {}
        found = {ALIASES[str(key)]: value for key, value in self.pickled.items() if str(key) in ALIASES}
        return {fold: found[fold] for fold in FOLDS} if set(found) == set(FOLDS) else {}

    @property
    def columns(self) -> set[str]:
        """The columns that all folds have; none where a fold is no dictionary."""
        tables = list(self.folds.values())
        if not tables or not all(isinstance(table, Mapping) for table in tables):
            return set()
        return set.intersection(*({str(key) for key in table} for table in tables))

    @property
    def fields(self) -> int:
        """Of folds that are lists of ``((field, …), label[, id])``: how many fields; 0 where they are something else."""
        lists = list(self.folds.values())
        if not lists or not all(isinstance(items, list | tuple) and items for items in lists):
            return 0
        first = lists[0][0]
        whole = isinstance(first, list | tuple) and len(first) in (2, 3) and isinstance(first[0], list | tuple)
        return len(first[0]) if whole else 0

    def count(self) -> tuple[int, ...]:
        """Segments of train, valid and test, in the SDK's list of folds videos; () where the files do not tell."""
        labels = [name for part in ALIASES if (name := f"y_{part}.h5") in self.files]
        if len(labels) == len(FOLDS):
            return count_rows([self.path / name for name in labels])
        lists = [name for name in self.files if re.search(r"folds.*\.json$", name)]
        if len(lists) == 1 and not self.folds:
            return count_listed(self.path / lists[0])
        sizes = []
        for fold in self.folds.values():
            column = next((c for c in fold.values() if is_column(c)), ()) if isinstance(fold, Mapping) else fold
            sizes.append(len(column) if is_column(column) else 0)
        return tuple(sizes) if all(sizes) else ()


def count_rows(files: Sequence[Path]) -> tuple[int, ...]:
    """Rows of the first dataset of each HDF5 file; () where one cannot be read."""
    try:
        with hdf5_process(files) as process:
            arrays = [ask_hdf5(process, "first", path) for path in files]
    except ValueError:  # the reader says what is wrong
        return ()
    return tuple(len(array) for array in arrays) if all(array is not None and array.ndim for array in arrays) else ()


def count_listed(path: Path) -> tuple[int, ...]:
    """Members of the three folds that a JSON file lists; () where it does not."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):  # the reader says what is wrong
        return ()
    listed = Contents(path, "pickle", pickled=content).folds
    return tuple(len(members) for members in listed.values()) if all(isinstance(m, list) for m in listed.values()) else ()


def is_column(value: Any) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)


def examine(path: Path) -> Contents:
    """Look at a file or a folder. Raises ValueError if a file is a pointer, a web page, cut off or empty."""
    if not path.is_dir():
        return examine_file(path)
    files = tuple(sorted(entry.name for entry in path.iterdir() if not entry.name.startswith(".")))
    bad = {name: what for name in files if (path / name).is_file() and (what := describe_damage(path / name))}
    pickled = {}
    for name in files:
        if Path(name).stem in ALIASES and Path(name).suffix in PICKLES and name not in bad:
            try:
                pickled[Path(name).stem] = load_pickle(path / name)
            except ValueError as error:
                bad[name] = str(error)
    table = next((name for name in files if Path(name).suffix in TABLES and name not in bad), None)
    header = read_header(path / table) if table else ()
    return Contents(path, "folder", files, pickled or None, header, bad)


def examine_file(path: Path) -> Contents:
    """Look at one file. Raises ValueError as `examine` does."""
    if what := describe_damage(path):
        raise ValueError(f"{path}: data were expected, but it is {what}.")
    with path.open("rb") as file:
        head = file.read(16)
    suffix = path.suffix.lower()
    if head.startswith(HDF5):
        return Contents(path, "HDF5")
    if describe_archive(path):
        return Contents(path, "archive")
    if head.startswith(b"\x93NUMPY"):
        return Contents(path, "numpy")
    if head[:1] == b"\x80" or suffix in PICKLES:
        return Contents(path, "pickle", pickled=load_pickle(path))
    if suffix in TABLES:
        return Contents(path, "table", header=read_header(path))
    return Contents(path, "other")


def read_header(path: Path) -> tuple[str, ...]:
    """The first line of a table; nothing where it is no text."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return tuple(next(csv.reader(file, delimiter=TABLES[path.suffix.lower()]), []))
    except (UnicodeDecodeError, csv.Error):
        return ()


def describe(contents: Contents) -> str:
    """What was found, in a line or a few, for a file that no format knows."""
    if contents.kind == "pickle":
        return "a pickle of " + "\n  ".join(outline(contents.pickled))
    if contents.kind == "folder":
        shown = ", ".join(contents.files[:12]) + (f", … ({len(contents.files)} in all)" if len(contents.files) > 12 else "")
        return f"a folder of {shown or 'nothing'}"
    if contents.kind == "table":
        return f"a table with the columns {', '.join(contents.header)}"
    if contents.kind == "archive":
        return f"{describe_archive(contents.path)}; unpack it first (torch's .pt files are such; convert them where you trust them)"
    return {"HDF5": "an HDF5 file", "numpy": "an array of numpy's"}.get(contents.kind, "a file of a kind that is not known here")


def outline(value: Any, depth: int = 0) -> Iterator[str]:
    """A few lines on the structure of a pickle."""
    if isinstance(value, Mapping):
        keys = ", ".join(str(key)[:30] for key in list(value)[:8])
        yield f"a dictionary of {len(value)} ({keys}{', …' if len(value) > 8 else ''})"
        parts = [(str(key)[:30], entry) for key, entry in list(value.items())[: 12 if depth else 1]]
    elif isinstance(value, list | tuple):
        yield f"a {type(value).__name__} of {len(value)}"
        parts = [("first", value[0])] if len(value) else []
    else:
        yield f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
        return
    for key, entry in parts if depth < 3 else []:
        first, *rest = outline(entry, depth + 1)
        yield f"{key}: {first}"
        yield from (f"  {line}" for line in rest)
