"""Stage one, data: the rows of one fold, and of no other.

A fold that is handed to training must not lead to the rows of another, not by ``.base`` of an array either. So its sequences are
copies where the data are in memory (the whole table is dropped once it is divided). Where they lie in a store they are read from
its file range by range: a mapped array would lead to all of it.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from mdm.data.base import Ragged


class File:
    """An open file of a store, read in ranges. It stays the same file when another file takes its name.

        file = File(Path("data/mosi/audio.values.npy"))
        file.read(128, 20)          # the 20 bytes from byte 128 on

    Raises ValueError where a copy in another process finds another file under the name, or the file has become shorter.
    """

    def __init__(self, path: Path):
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, start: int, size: int) -> bytes:
        found = os.pread(self._descriptor, size, start)
        while 0 < len(found) < size and (more := os.pread(self._descriptor, size - len(found), start + len(found))):
            found += more
        if len(found) < size:
            raise ValueError(f"{self.path} must have {start + size} bytes, but has become shorter; prepare the store again.")
        return found

    @property
    def identity(self) -> tuple[int, int, int]:
        """Inode, size and time of change."""
        status = os.fstat(self._descriptor)
        return status.st_ino, status.st_size, status.st_mtime_ns

    def __reduce__(self) -> tuple[Callable[..., File], tuple[Any, ...]]:
        return reopen, (self.path, self.identity)


def reopen(path: Path, identity: tuple[int, int, int]) -> File:
    """The same file in another process. Raises ValueError if it is another one."""
    file = File(path)
    if file.identity != identity:
        raise ValueError(f"{path} must not change while a run reads it, but has; prepare the store again, or run again.")
    return file


class Filed:
    """Sequences of some rows of a store's feature, each read when it is asked for; what `Ragged` is in memory.

    starts: [n] byte at which each begins; lengths: [n] steps; width: of a step, () for token ids
    """

    def __init__(
        self,
        file: File,
        starts: Int[np.ndarray, " n"],
        lengths: Int[np.ndarray, " n"],
        width: tuple[int, ...],
        dtype: np.dtype[Any],
        vocabulary: tuple[str, ...],
    ):
        self.file, self.starts, self.lengths = file, starts, lengths
        self.width, self.dtype, self.vocabulary = width, dtype, vocabulary
        self.tokens = not width
        self._bytes = dtype.itemsize * int(np.prod(width, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.starts)

    def lengths_of(self, rows: Int[np.ndarray, " k"]) -> Int[np.ndarray, " k"]:
        """Numbers of steps of some sequences."""
        return self.lengths[rows]

    def read_part(
        self, rows: Int[np.ndarray, " k"], lengths: Int[np.ndarray, " k"], time: int, last: bool
    ) -> Shaped[np.ndarray, "k time *dim"]:
        """The last, or the first, so many steps of some sequences, behind them zeros."""
        values = np.zeros((len(rows), time, *self.width), self.dtype)
        first = self.starts[rows] + ((self.lengths[rows] - lengths) * self._bytes if last else 0)
        for k, (start, length) in enumerate(zip(first.tolist(), lengths.tolist(), strict=True)):
            if length:
                read = np.frombuffer(self.file.read(start, length * self._bytes), self.dtype)
                values[k, :length] = read.reshape(length, *self.width)
        return values


Rows = Ragged | Filed
"""Sequences of one fold."""


def take(ragged: Ragged, rows: Int[np.ndarray, " k"]) -> Rows:
    """Some of the sequences, in this order, from which no way leads to the others."""
    values = ragged.values
    if isinstance(values, np.memmap) and isinstance(values.base, mmap.mmap) and values.filename is not None:
        step = values.dtype.itemsize * int(np.prod(values.shape[1:], dtype=np.int64))
        starts = values.offset + ragged.offsets[rows] * step
        file = File(Path(values.filename))
        return Filed(file, starts, ragged.lengths_of(rows), values.shape[1:], values.dtype, ragged.vocabulary)
    return Ragged.of([ragged[i] for i in rows], ragged.vocabulary, 0 if ragged.tokens else ragged.dim)
