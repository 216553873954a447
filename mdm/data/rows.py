"""Stage one, data: the rows of one fold, and of no other.

A fold that is handed to training must not lead to the rows of another, not by ``.base`` of an array either. So its sequences are
copies: all of them at once where they are few (`Held`), else a batch at a time, from a store's file range by range: a mapped array
would lead to all of it.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from mdm.data.base import PADDING, Ragged


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

    @property
    def nbytes(self) -> int:
        return int(self.lengths.sum()) * self._bytes

    def read_all(self) -> Shaped[np.ndarray, "steps *dim"]:
        """Every step, end to end."""
        read = (
            self.file.read(start, n * self._bytes) for start, n in zip(self.starts.tolist(), self.lengths.tolist(), strict=True)
        )
        return np.frombuffer(b"".join(read), self.dtype).reshape(-1, *self.width)

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


class Held:
    """Sequences of one fold in memory, as a model reads them: of a batch nothing is left to do but to put steps in their places.

    steps: [total, *dim], end to end; lengths: [n]

    >>> held = Held(np.array([[1.0], [2.0], [3.0]], np.float32), np.array([1, 2]))
    >>> held.pad_part(np.array([1, 0]), np.array([2, 1]), 2, last=True).squeeze(-1)
    tensor([[2., 3.],
            [1., 0.]])
    """

    def __init__(self, steps: Shaped[np.ndarray, "total *dim"], lengths: Int[np.ndarray, " n"]):
        self.lengths = lengths
        self._ends = np.cumsum(lengths) + 1
        padding = np.full((1, *steps.shape[1:]), PADDING, steps.dtype)
        self._steps = torch.from_numpy(np.concatenate([padding, steps]))

    def __len__(self) -> int:
        return len(self.lengths)

    def lengths_of(self, rows: Int[np.ndarray, " k"]) -> Int[np.ndarray, " k"]:
        """Numbers of steps of some sequences."""
        return self.lengths[rows]

    def pad_part(
        self, rows: Int[np.ndarray, " k"], lengths: Int[np.ndarray, " k"], time: int, last: bool, front: bool = False
    ) -> Shaped[Tensor, "k time *dim"]:
        """The last, or the first, so many steps of some sequences, with padding behind or in ``front`` of them."""
        first = self._ends[rows] - (lengths if last else self.lengths[rows])
        steps = np.arange(time) - (time - lengths[:, None] if front else 0)
        index = np.where((steps >= 0) & (steps < lengths[:, None]), first[:, None] + steps, 0)
        return self._steps.index_select(0, torch.from_numpy(index.ravel())).unflatten(0, index.shape)


Rows = Ragged | Filed
"""Sequences of one fold as they are stored."""


def take(ragged: Ragged, rows: Int[np.ndarray, " k"]) -> Rows:
    """Some of the sequences, in this order, from which no way leads to the others."""
    values = ragged.values
    if isinstance(values, np.memmap) and isinstance(values.base, mmap.mmap) and values.filename is not None:
        step = values.dtype.itemsize * int(np.prod(values.shape[1:], dtype=np.int64))
        starts = values.offset + ragged.offsets[rows] * step
        file = File(Path(values.filename))
        return Filed(file, starts, ragged.lengths_of(rows), values.shape[1:], values.dtype, ragged.vocabulary)
    return Ragged.of([ragged[i] for i in rows], ragged.vocabulary, 0 if ragged.tokens else ragged.dim)
