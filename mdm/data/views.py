"""Stage one, data: one modality as a run reads it, a padded batch at a time, with all that it learns from the training fold."""

from __future__ import annotations

import copy
import mmap
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from mdm.data.base import PADDING, UNKNOWN, Ragged
from mdm.types import Feature, Sequence

MAPPED_AT_MOST = 64 * 2**20
"""Bytes of a mapped file that may stay in memory. Of larger files the pages are given back after every batch: the system maps
up to 2 MiB around each row that is read, so that even counting what was read would let a large store fill the memory."""


class ModalityReader:
    """One modality as a run reads it: scaled and cut to its last steps."""

    def __init__(self, ragged: Ragged, train: Int[np.ndarray, " rows"], scale: str, max_steps: int | None):
        self.ragged, self.max_steps = ragged, max_steps
        self.feature = Feature(ragged.dim, ragged.tokens, ragged.vocabulary, unseen_tokens(ragged, train))
        self.shift: np.ndarray | None = None
        self.factor: np.ndarray | None = None
        if not ragged.tokens:
            self.shift, self.factor = measure_scaling(ragged, train, scale)

    def of(self, ragged: Ragged) -> ModalityReader:
        """Other sequences read in the same way."""
        other = copy.copy(self)
        other.ragged = ragged
        return other

    def __call__(self, rows: Int[np.ndarray, " batch"]) -> Sequence:
        """Padded behind, to the longest of these rows."""
        ends, lengths = self.ragged.offsets[rows + 1], self.ragged.lengths_of(rows)
        if self.max_steps is not None:
            lengths = np.minimum(lengths, self.max_steps)
        steps = np.arange(max(int(lengths.max(initial=0)), 1))
        mask = steps < lengths[:, None]
        values = self.ragged.values[np.where(mask, (ends - lengths)[:, None] + steps, 0)]
        release(self.ragged.values)
        if self.shift is not None and self.factor is not None:
            values = (values - self.shift) * self.factor
        if self.ragged.tokens:
            values = values.astype(np.int64)
        values[~mask] = PADDING
        return Sequence(torch.from_numpy(values), torch.from_numpy(mask))


def measure_scaling(
    ragged: Ragged, train: Int[np.ndarray, " rows"], scale: str
) -> tuple[Float[np.ndarray, " dim"], Float[np.ndarray, " dim"]] | tuple[None, None]:
    """What to subtract from each feature and what to multiply it with, from these rows; None and None to leave it as it is."""
    if scale == "standard":
        mean, std = moments(ragged, train)
        return mean.astype(np.float32), (1 / np.where(std > 1e-6, std, 1)).astype(np.float32)
    if scale == "maxabs":
        largest = np.max([np.abs(ragged[i]).max(0, initial=0) for i in train], axis=0)
        return np.zeros(ragged.dim, np.float32), (1 / np.where(largest > 0, largest, 1)).astype(np.float32)
    if scale != "none":
        raise ValueError(f"scale must be standard, maxabs or none, but is {scale!r}; set data.scale.")
    return None, None


def unseen_tokens(ragged: Ragged, train: Int[np.ndarray, " rows"]) -> frozenset[int]:
    """Ids of words that do not occur in these rows; empty for vectors and for a tokenizer's ids."""
    if not ragged.vocabulary:
        return frozenset()
    occurring = np.unique(np.concatenate([ragged[i] for i in train]))
    return frozenset(np.setdiff1d(np.arange(UNKNOWN + 1, len(ragged.vocabulary)), occurring).tolist())


def moments(ragged: Ragged, rows: Int[np.ndarray, " rows"]) -> tuple[Float[np.ndarray, " dim"], Float[np.ndarray, " dim"]]:
    """Mean and standard deviation of each feature over all real steps of these rows, in one pass."""
    count, mean, square = 0, np.zeros(ragged.dim), np.zeros(ragged.dim)
    for k, i in enumerate(rows):
        if k % 32 == 0:
            release(ragged.values)
        steps = ragged[i].astype(np.float64)
        if len(steps) == 0:
            continue
        # Chan's update: no cancellation, whatever the features' scale.
        delta, total = steps.mean(0) - mean, count + len(steps)
        square += ((steps - steps.mean(0)) ** 2).sum(0) + delta**2 * (count * len(steps) / total)
        mean += delta * (len(steps) / total)
        count = total
    return mean, np.sqrt(square / max(count, 1))


def release(array: np.ndarray) -> None:
    """Give a large mapped file's pages back to the system, whose file cache keeps them; nothing for other arrays."""
    if array.nbytes <= MAPPED_AT_MOST:
        return
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    if base is not None:
        base.madvise(mmap.MADV_DONTNEED)
