"""Stage one, data: one modality as a run reads it, a padded batch at a time, with all that it learns from the training fold."""

from __future__ import annotations

import copy
import mmap
from collections.abc import Collection, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped

from mdm.data.base import PADDING, UNKNOWN, Ragged, Segments
from mdm.data.rows import Held, Rows, take
from mdm.types import Feature, Sequence

MAPPED_AT_MOST = 64 * 2**20
"""Bytes of a mapped file that may stay in memory. Of larger files the pages are given back after every batch: the system maps
up to 2 MiB around each row that is read, so that even counting what was read would let a large store fill the memory."""
HELD_AT_MOST = 512 * 2**20
"""Bytes of one modality of one fold that are held in memory, scaled once. Of more, each batch is read and scaled by itself."""


Scale = Literal["standard", "maxabs", "none"]
Keep = Literal["last", "first"]
Padding = Literal["masked", "official"]
Option = TypeVar("Option")


@dataclass(frozen=True)
class Reading:
    """How the steps of a modality are read; see `mdm.data.splits.Splits`.

    Raises ValueError on max_steps below 1, and on padding=official without max_steps.
    """

    scale: Scale = "standard"
    max_steps: int | None = None
    keep: Keep = "last"
    padding: Padding = "masked"

    def __post_init__(self) -> None:
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, but is {self.max_steps}; leave it null to keep all steps.")
        if self.padding == "official" and self.max_steps is None:
            raise ValueError(
                "padding=official fills every segment with zeros up to one length, but max_steps=null says none; set "
                "data.max_steps to the length of the authors' file."
            )

    def place(self, steps: list[str], blank: str, zeros_read: bool) -> list[str]:
        """The steps of one segment as `ModalityReader` reads them, with blanks for zeros.

        >>> Reading(max_steps=3, padding="official").place(["so", "good"], "", zeros_read=True)
        ['', 'so', 'good']
        """
        most, last = self.max_steps, self.keep == "last"
        if most is None:
            return steps
        cut = steps[-most:] if last else steps[:most]
        blanks = [blank] * (most - len(cut)) * zeros_read
        return blanks + cut if last else cut + blanks


class ModalityReader:
    """One modality of a fold as a run reads it: scaled, cut and padded.

    What is learned of it, and the rows that it has, are those of ``train``.
    """

    def __init__(self, ragged: Ragged, train: Int[np.ndarray, " rows"], reading: Reading):
        self.reading = reading
        # A tokenizer's pieces are masked in every code; only frames and word vectors are read where there are none.
        zeros = reading.padding == "official" and not ragged.tokens
        self.feature = replace(describe_feature(ragged, train), steps=reading.max_steps if zeros else None)
        self.shift: np.ndarray | None = None
        self.factor: np.ndarray | None = None
        if not ragged.tokens:
            self.shift, self.factor = measure_scaling(ragged, train, reading.scale)
        self._hold(take(ragged, train))

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
        self.codes = code_words(rows.vocabulary, self.feature.vocabulary) if rows.vocabulary else None
        self.rows = rows if rows.nbytes > HELD_AT_MOST else Held(self._convert(rows.read_all()), rows.lengths)

    def _convert(self, steps: Shaped[np.ndarray, "*shape"]) -> Shaped[np.ndarray, "*shape"]:
        """Steps as they are stored → as a model reads them."""
        if self.shift is not None and self.factor is not None:
            steps = (steps - self.shift) * self.factor
        if self.feature.tokens:
            steps = steps.astype(np.int64) if self.codes is None else self.codes[steps]
        return steps

    def __call__(self, rows: Int[np.ndarray, " batch"]) -> Sequence:
        """Padded behind, to the longest of these rows; where zeros are read, to ``max_steps`` on the side that a cut takes from."""
        lengths = self.rows.lengths_of(rows)
        most, last, zeros = self.reading.max_steps, self.reading.keep == "last", self.feature.zeros_read
        if most is not None:
            lengths = np.minimum(lengths, most)
        time = most if zeros and most is not None else max(int(lengths.max(initial=0)), 1)
        mask = np.arange(time) < lengths[:, None]
        if isinstance(self.rows, Held):
            return Sequence(self.rows.pad_part(rows, lengths, time, last, zeros and last), torch.from_numpy(mask | zeros))
        values = self._convert(self.rows.read_part(rows, lengths, time, last))
        values[~mask] = PADDING
        if zeros and last:
            behind = (np.arange(time) + lengths[:, None]) % time  # the zeros, then the steps
            values = np.take_along_axis(values, behind[:, :, None], axis=1)
        return Sequence(torch.from_numpy(values), torch.from_numpy(mask | zeros))


def choose(segments: Segments, text: str | None, modalities: list[str] | None) -> dict[str, Ragged]:
    """The features that a run uses, by modality: language first.

    Raises ValueError if something asked for is not in the data.
    """
    features: dict[str, Ragged] = {}
    if text is not None and segments.text:
        if text not in segments.text:
            raise ValueError(
                f"{segments.name} carries text as {', '.join(segments.text)}, but data.text={text} was asked for; choose one "
                "of these (null for a run without language)."
            )
        features["language"] = segments.text[text]
    features |= segments.modalities
    if modalities is not None:
        absent = [m for m in modalities if m not in features]
        if absent or not modalities:
            raise ValueError(
                f"{segments.name} has the modalities {', '.join(features)}, but {', '.join(absent) or 'none'} was asked for; "
                "set data.modalities to a non-empty choice of these."
            )
        features = {m: r for m, r in features.items() if m in modalities}
    if not features:
        raise ValueError(f"{segments.name}: a run needs at least one modality, but data.text=null leaves none; set data.text.")
    return features


def for_each(
    option: str, value: Option | Mapping[str, Option], chosen: Collection[str], known: Collection[str]
) -> dict[str, Option]:
    """A setting of the data that is one for all modalities, or modality → its own.

    chosen: the modalities of the run; known: those of the data, which a mapping may name too

    Raises ValueError if a mapping lacks one that is chosen, or names one that is not there.
    """
    if not isinstance(value, Mapping):
        return dict.fromkeys(chosen, value)
    absent, unknown = [m for m in chosen if m not in value], [m for m in value if m not in known]
    if absent or unknown:
        raise ValueError(
            f"{option} must be one for all, or one for each of {', '.join(chosen)}, but {dict(value)} "
            f"{'lacks ' + ', '.join(absent) if absent else 'names ' + ', '.join(unknown)}; set data.{option}."
        )
    return {m: value[m] for m in chosen}


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
    """Id in one vocabulary → id of the same word in another; UNKNOWN if the other lacks the word. Reserved ids stay."""
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
