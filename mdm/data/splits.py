"""Stage one, data: segments → batches, with the test fold sealed until a checkpoint is chosen.

`Splits` hands out training and validation batches, and the test batches only in exchange for a
`Selection`: the record of which checkpoint was chosen, on validation, and where it lies. Everything that is
estimated from data here (scaling, known words, mean label) is estimated on the training fold.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch.utils.data import DataLoader, Sampler

from mdm.data.base import FOLDS, UNLABELED, Ragged, Segments
from mdm.data.batches import Fold, InOrder, Joined, Repeated, Shuffled, as_is
from mdm.data.checks import check
from mdm.data.views import Reading, View, for_each
from mdm.seeds import derive
from mdm.types import Batch, DataSpec


@dataclass(frozen=True)
class Selection:
    """The outcome of choosing on validation: the key to the test fold."""

    checkpoint: Path
    epoch: int
    metric: str
    value: float


class Splits:
    """Batches of one data set for one run.

    segments: the table
    batch_size: rows per batch
    seed: the run's seed; the batch order of epoch e is a function of (seed, e) alone
    text: which kind of text is the language modality (a key of ``segments.text``), or None for no language
    modalities: names to use; None for all that the data hold
    folds: a division to use instead of the data's own
    scale: audio, video and given word vectors, per feature over training frames: ``standard`` (zero mean, unit
        variance), ``maxabs`` (as the MFN line does for FACET), or ``none``; one for all, or modality → its own
    max_steps: keep at most so many steps (the MFN line keeps 20); None keeps all; one for all, or modality → its own
    keep: which steps a cut keeps, the ``last`` (the MFN line) or the ``first`` ones (what fits into a file of fixed length)
    padding: ``masked``, a segment has its own length; ``official``, as in most published code, frames and word vectors are filled
        up to ``max_steps`` with zeros that are read as steps, in front with keep=last and behind with keep=first. Since the length
        is the same for all, no prediction depends on its neighbours. Token ids are masked either way
    order: ``shuffled`` anew for each epoch, or ``once`` for all of them (MFN and MFM)
    last_batch: ``keep`` what is left over for the last batch of an epoch, or ``drop`` it
    by_length: train on batches of segments of like length: less padding, which transformers pay for, and batches that are
        a little less random
    unlabeled: unlabelled segments that join each labelled one in a training batch, for models that learn from them
    overfit: so many training batches, or this share of them, the same in every epoch and for critics; None for all
    workers: processes that prepare batches; 0 reads in the main process, the fastest for sets of MOSI's size

    Raises ValueError if a fold is empty, a modality or text kind is not there, or an argument is out of range.
    """

    def __init__(
        self,
        segments: Segments,
        batch_size: int = 32,
        seed: int = 0,
        text: str | None = "words",
        modalities: list[str] | None = None,
        folds: Callable[[Segments], Shaped[np.ndarray, " n"]] | None = None,
        scale: str | Mapping[str, str] = "standard",
        max_steps: int | Mapping[str, int | None] | None = None,
        keep: str = "last",
        padding: str = "masked",
        order: str = "shuffled",
        last_batch: str = "keep",
        workers: int = 0,
        by_length: bool = False,
        unlabeled: int = 0,
        overfit: int | float | None = None,
    ):
        if batch_size < 2:
            raise ValueError(f"batch_size must be at least 2 (a batch of one has no statistics), but is {batch_size}.")
        check(segments)
        fold = segments.fold if folds is None else divided(segments, folds)
        rows = {name: np.flatnonzero(fold == name) for name in FOLDS}
        empty = [name for name in FOLDS if len(rows[name]) == 0]
        if empty:
            raise ValueError(
                f"{segments.name}: each of train, valid and test must hold a segment, but {', '.join(empty)} hold none; "
                "check the folds of the store, or declare a division with data.folds."
            )
        rows[UNLABELED] = np.flatnonzero(fold == UNLABELED)
        if unlabeled < 0 or (unlabeled and len(rows[UNLABELED]) == 0):
            raise ValueError(
                f"data.unlabeled asks for {unlabeled} unlabelled segments per labelled one, but {segments.name} has "
                f"{len(rows[UNLABELED])} in its fold unlabeled; set it to 0, or add such segments (data.segments.unlabeled)."
            )
        chosen = choose(segments, text, modalities)
        unseen = [name for name, ragged in chosen.items() if not ragged.lengths_of(rows["train"]).any()]
        if unseen:
            raise ValueError(
                f"{segments.name}: a modality must occur in the training fold to be learned, but {', '.join(unseen)} does not; "
                "declare another division with data.folds, or leave it out with data.modalities."
            )
        self.segments, self.batch_size, self.seed, self.workers = segments, batch_size, seed, workers
        self._rows, self._text, self._sealed = rows, text, True
        train = rows["train"]
        if order not in ("shuffled", "once") or last_batch not in ("keep", "drop"):
            raise ValueError(
                f"order must be shuffled or once and last_batch keep or drop, but {order!r} and {last_batch!r} came; set "
                "data.order and data.last_batch."
            )
        if last_batch == "drop" and len(train) < batch_size:
            raise ValueError(
                f"last_batch=drop leaves no batch of {batch_size} among {len(train)} training segments; set data.last_batch=keep, "
                "or a smaller data.batch_size."
            )
        known = {"language", *segments.modalities}
        scales, most = for_each("scale", scale, chosen, known), for_each("max_steps", max_steps, chosen, known)
        self._views = {
            name: View(ragged, train, Reading(scales[name], most[name], keep, padding)) for name, ragged in chosen.items()
        }
        kinds = {text if name == "language" else name for name in chosen}
        self.spec = DataSpec(
            features={name: view.feature for name, view in self._views.items()},
            targets=segments.targets,
            label_range=segments.label_range,
            label_mean=tuple(float(x) for x in segments.label[train].mean(0)),
            aligned=kinds <= set(segments.aligned) or len(kinds) == 1,
            train_ids=tuple(segments.ids[i] for i in train),
        )
        self.sizes = {name: len(r) for name, r in rows.items() if name in FOLDS or unlabeled}
        self._unlabeled, self._overfit, self._order, self._last_batch = unlabeled, overfit, order, last_batch
        self._lengths = None
        if by_length:
            self._lengths = np.max([ragged.lengths_of(train) for ragged in chosen.values()], axis=0)

    def train(self, stream: str = "order", epoch: int = 0) -> DataLoader[Batch]:
        """Shuffled training batches; ``stream`` names the order, so that a critic's own batches move no others.

        ``epoch``: where a run (re)starts. Lightning makes the first iterator before it tells the sampler the epoch.
        """
        n, seed = len(self._rows["train"]), derive(self.seed, "order" if self._overfit else stream)
        drop, once = self._last_batch == "drop", self._order == "once" and stream == "order"
        order: Shuffled | Joined = Shuffled(n, self.batch_size, seed, epoch, self._lengths, drop, once)
        if isinstance(order, Shuffled) and self._unlabeled:
            order = Joined(order, len(self._rows[UNLABELED]), self._unlabeled)
        joined = UNLABELED if self._unlabeled else None
        return self._loader("train", Repeated(order, self._overfit) if self._overfit else order, joined)

    def in_order(self, fold: str) -> DataLoader[Batch]:
        """One fold once, in order, for measuring; of the data that a run learns and chooses from, not the test fold.

        Raises ValueError for that one: it opens with a selection.
        """
        if fold == "test" and self._sealed:
            raise ValueError("The test fold opens only after a checkpoint was chosen on validation: use open_test(selection).")
        return self._loader(fold, InOrder(len(self._rows[fold]), max(self.batch_size, 256)))

    def like(self, segments: Segments) -> Splits:
        """Other segments read as these are: the same modalities, scaling and known words, all from this training fold.

        Raises ValueError if the other segments lack a modality or have other features.
        """
        other = copy.copy(self)
        check(segments)
        features = {**segments.text, **segments.modalities}
        other._views = {}
        for name, view in self._views.items():
            kind = str(self._text) if name == "language" else name
            ragged = features.get(kind)
            if ragged is None or not view.reads(ragged):
                raise ValueError(
                    f"New segments must have the features of the training data, but {segments.name}'s {kind} is "
                    f"{'missing' if ragged is None else 'of another width or vocabulary'}; prepare them in the same way."
                )
            other._views[name] = view.of(ragged)
        other.segments, other._sealed = segments, segments.card_hash == self.segments.card_hash
        other._lengths, other._unlabeled = None, 0
        other._rows = {fold: np.flatnonzero(segments.fold == fold) for fold in FOLDS}
        other.sizes = {name: len(r) for name, r in other._rows.items()}
        return other

    def every(self) -> DataLoader[Batch]:
        """All segments once, in order, whichever fold they are in: for new ones (`like`).

        Raises ValueError for the run's own, among which are those of the test fold.
        """
        if self._sealed:
            raise ValueError(
                "The test fold opens only after a checkpoint was chosen on validation, so a run's own data are read fold by fold; "
                "use batches(fold)."
            )
        rows = np.arange(len(self.segments))
        order = InOrder(len(rows), max(self.batch_size, 256))
        return self._batches(rows, len(rows), order)

    def valid(self) -> DataLoader[Batch]:
        """The validation fold, in order."""
        return self.in_order("valid")

    def open_test(self, selection: Selection) -> DataLoader[Batch]:
        """The test fold, in order, once a checkpoint has been chosen on validation.

        Raises ValueError if the selection names no checkpoint on disk.
        """
        if not Path(selection.checkpoint).is_file():
            raise ValueError(
                f"The test fold opens only after a checkpoint was chosen on validation, but {selection.checkpoint} does not "
                "exist; train first."
            )
        return self._loader("test", InOrder(len(self._rows["test"]), max(self.batch_size, 256)))

    def describe(self, fold: str) -> dict[str, Any]:
        """ids, groups, words and marks of a fold's segments, in order (no labels)."""
        rows = self._rows[fold]
        return {
            "id": [self.segments.ids[i] for i in rows],
            "group": self.segments.group[rows].tolist(),
            **{mark: flags[rows].tolist() for mark, flags in self.segments.marks.items()},
        }

    def words_at_steps(self, i: int) -> list[str]:
        """The word at each step of segment i as a run reads it, cut and padded; data must be aligned and hold words."""
        view = next(iter(self._views.values()))
        return view.reading.place(self.segments.words(i).split(), "", view.feature.zeros_read)

    def _loader(self, fold: str, order: Sampler[list[int]], joined: str | None = None) -> DataLoader[Batch]:
        rows = self._rows[fold] if joined is None else np.concatenate([self._rows[fold], self._rows[joined]])
        return self._batches(rows, len(self._rows[fold]), order)

    def _batches(self, rows: Int[np.ndarray, " rows"], labelled: int, order: Sampler[list[int]]) -> DataLoader[Batch]:
        return DataLoader(
            Fold(self.segments, self._views, rows, labelled),
            batch_sampler=order,
            collate_fn=as_is,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            # Without a generator of its own a loader draws a seed from the global one at every epoch.
            generator=torch.Generator().manual_seed(0),
        )


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


def divided(segments: Segments, folds: Callable[[Segments], Shaped[np.ndarray, " n"]]) -> Shaped[np.ndarray, " n"]:
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
