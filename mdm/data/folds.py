"""Stage one, data: declared divisions of segments into train, valid and test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Shaped

from mdm.data.base import UNLABELED, Segments
from mdm.hints import Count, Size, require_option

Incomplete = Literal["train", "drop"]


@dataclass(frozen=True)
class KFold:
    """Seeded k-fold over the complete segments: those that have every modality.

    Part ``fold`` is tested, the next part (cyclically) is the validation fold, the rest trains. Whole groups
    (videos, speakers) go to one part. Segments that lack a modality train (``incomplete="train"``) or
    stay out (``"drop"``); they are never validated or tested on, so that a score always means all modalities.
    ``seed`` belongs to the division, not to the run: all runs of one comparison share it.

    Raises ValueError unless k ≥ 3, 0 ≤ fold < k and there are at least k complete groups.

    >>> from mdm.data.synthetic import synthetic
    >>> fold = KFold(k=5, fold=0)(synthetic(train=60, valid=20, test=20))
    >>> sorted(set(fold.tolist()))
    ['test', 'train', 'valid']
    """

    k: Size = 5
    fold: Count = 0
    seed: Count = 0
    incomplete: Incomplete = "train"

    def __post_init__(self) -> None:
        if self.k < 3 or not 0 <= self.fold < self.k:
            raise ValueError(
                f"k-fold needs k >= 3 parts (train, valid, test) and 0 <= fold < k, but k={self.k}, fold={self.fold} came; "
                "set data.folds.k and data.folds.fold."
            )
        require_option("incomplete", self.incomplete, Incomplete)

    def __call__(self, segments: Segments) -> Shaped[np.ndarray, " n"]:
        """Fold name of each segment."""
        complete = np.all([r.lengths > 0 for r in segments.features.values()], axis=0)
        groups = np.unique(segments.group[complete])
        if len(groups) < self.k:
            raise ValueError(
                f"{segments.name}: {self.k}-fold needs at least {self.k} groups of complete segments, but there are "
                f"{len(groups)}; use fewer parts (data.folds.k)."
            )
        parts = np.array_split(np.random.default_rng(self.seed).permutation(groups), self.k)
        fold = np.where(complete, "train", "train" if self.incomplete == "train" else "").astype("U5")
        fold[complete & np.isin(segments.group, parts[self.fold])] = "test"
        fold[complete & np.isin(segments.group, parts[(self.fold + 1) % self.k])] = "valid"
        # An incomplete segment of a tested or validated video would carry its speaker into training.
        fold[~complete & np.isin(segments.group, np.concatenate([parts[self.fold], parts[(self.fold + 1) % self.k]]))] = ""
        return fold


def divide(segments: Segments, folds: Callable[[Segments], Shaped[np.ndarray, " n"]]) -> Shaped[np.ndarray, " n"]:
    """A division of the labelled segments; the unlabelled stay so, but for those of tested and validated videos, which are left
    out: they would carry their speakers into training."""
    labelled = segments.fold != UNLABELED
    if labelled.all():
        return folds(segments)
    fold = np.full(len(segments), UNLABELED)
    fold[labelled] = folds(segments.rows(np.flatnonzero(labelled)))
    held_out = segments.group[np.isin(fold, ["valid", "test"])]
    fold[~labelled & np.isin(segments.group, held_out)] = ""
    return fold
