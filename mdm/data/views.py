"""Stage one, data: one modality as a run reads it, a padded batch at a time, with all that it learns from the training fold."""

from __future__ import annotations

import copy
import mmap
from collections.abc import Sequence as Items
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from mdm.data.base import PADDING, UNKNOWN, Ragged
from mdm.data.rows import Rows, take
from mdm.types import Feature, Sequence

MAPPED_AT_MOST = 64 * 2**20
"""Bytes of a mapped file that may stay in memory. Of larger files the pages are given back after every batch: the system maps
up to 2 MiB around each row that is read, so that even counting what was read would let a large store fill the memory."""


class ModalityReader:
    """One modality of a fold as a run reads it: scaled and cut to its last steps.

    What is learned of it, and the rows that it has, are those of ``train``.
    """

    def __init__(self, ragged: Ragged, train: Int[np.ndarray, " rows"], scale: str, max_steps: int | None):
        self.max_steps = max_steps
        self.feature = describe_feature(ragged, train)
        self._hold(take(ragged, train))
        self.shift: np.ndarray | None = None
        self.factor: np.ndarray | None = None
        if not ragged.tokens:
            self.shift, self.factor = measure_scaling(ragged, train, scale)

    def fits(self, ragged: Ragged) -> bool:
        """Whether other sequences can be read in the same way: vectors as wide, words, or token ids that reach no further."""
        own = self.feature
        if ragged.tokens != own.tokens or bool(ragged.vocabulary) != bool(own.vocabulary):
            return False
        return bool(own.vocabulary) or (ragged.dim <= own.dim + own.others if own.tokens else ragged.dim == own.dim)

    def of(self, rows: Rows) -> ModalityReader:
        """Other sequences (that `fits`) read in the same way."""
        other = copy.copy(self)
        other._hold(rows)
        return other

    def _hold(self, rows: Rows) -> None:
        self.rows = rows
        self.codes = code_words(rows.vocabulary, self.feature.vocabulary) if rows.vocabulary else None

    def __call__(self, rows: Int[np.ndarray, " batch"]) -> Sequence:
        """Padded behind, to the longest of these rows."""
        lengths = self.rows.lengths_of(rows)
        if self.max_steps is not None:
            lengths = np.minimum(lengths, self.max_steps)
        time = max(int(lengths.max(initial=0)), 1)
        mask = np.arange(time) < lengths[:, None]
        values = self.rows.read_last(rows, lengths, time)
        if self.shift is not None and self.factor is not None:
            values = (values - self.shift) * self.factor
        if self.rows.tokens:
            values = values.astype(np.int64) if self.codes is None else self.codes[values]
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


def describe_feature(ragged: Ragged, train: Int[np.ndarray, " rows"]) -> Feature:
    """What a model is told of a modality: all but ``others`` and the end of the vocabulary is a function of these rows.

    Words get ids by their order in the alphabet, first those of these rows. Ids of a tokenizer stay as they are.
    """
    if not ragged.tokens:
        return Feature(ragged.dim)
    here = np.unique(np.concatenate([ragged[i] for i in train]))
    if not ragged.vocabulary:
        dim = int(here.max(initial=UNKNOWN)) + 1
        return Feature(dim, tokens=True, others=ragged.dim - dim)
    reserved = ragged.vocabulary[: UNKNOWN + 1]
    known = sorted({ragged.vocabulary[k] for k in here if k > UNKNOWN})
    others = sorted(set(ragged.vocabulary[UNKNOWN + 1 :]) - set(known))
    return Feature(len(reserved) + len(known), True, (*reserved, *known, *others), len(others))


def code_words(vocabulary: Items[str], known: Items[str]) -> Int[np.ndarray, " ids"]:
    """Id in one vocabulary → id of the same word in another; UNKNOWN where that has not the word. Reserved ids stay."""
    index = {word: i for i, word in enumerate(known) if i > UNKNOWN}
    return np.array([k if k <= UNKNOWN else index.get(word, UNKNOWN) for k, word in enumerate(vocabulary)], dtype=np.int64)


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
