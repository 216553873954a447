"""Stage one, data: rows of a fold → batches; the order of an epoch is a function of (seed, epoch)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int
from torch.utils.data import DataLoader, Dataset, Sampler

from mdm.data.base import Segments
from mdm.data.views import ModalityReader
from mdm.types import Batch, Context

Order = Literal["shuffled", "once"]
LastBatch = Literal["keep", "drop"]
PLACE = re.compile(r"\[(\d+)\]$")
SMALLEST_BATCH = 4
"""A last batch with fewer rows joins the one before it: BatchNorm must not see one row, and samples of the
product of marginals need at least as many rows as modalities."""


class Fold(Dataset[Batch]):
    """Rows of one fold, read a whole batch at a time. It holds these rows alone, and nothing of it leads to others.

    described: ids, groups and marks of each row; labelled: how many have a label, before those that have none; None: all
    context: whether batches bring the videos of their segments, as far as they are in this fold
    """

    def __init__(
        self,
        segments: Segments,
        rows: Int[np.ndarray, " rows"],
        views: dict[str, ModalityReader],
        labelled: int | None = None,
        context: bool = False,
    ):
        self.views, self.labelled = views, len(rows) if labelled is None else labelled
        self.ids = tuple(segments.ids[i] for i in rows)
        self.label = torch.from_numpy(np.array(segments.label[rows], dtype=np.float32))
        self.unimodal = {m: torch.from_numpy(np.array(label[rows], dtype=np.float32)) for m, label in segments.unimodal.items()}
        self.described: dict[str, Any] = {
            "id": list(self.ids),
            "group": segments.group[rows].tolist(),
            **{mark: flags[rows].tolist() for mark, flags in segments.marks.items()},
        }
        self.videos = order_videos(self.ids, self.described["group"]) if context else None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitems__(self, indices: list[int]) -> Batch:
        rows = np.array(indices, dtype=np.int64)
        sequences = {name: view(rows) for name, view in self.views.items()}
        labelled = None if self.labelled == len(self) else sum(i < self.labelled for i in indices)
        unimodal = {m: label[rows] for m, label in self.unimodal.items()}
        context = None if self.videos is None else self._find_context([self.videos[i] for i in indices], rows)
        return Batch(tuple(self.ids[i] for i in indices), sequences, self.label[rows], labelled, unimodal, context)

    def _find_context(self, videos: list[np.ndarray], rows: Int[np.ndarray, " batch"]) -> Context:
        every = np.unique(np.concatenate(videos))
        index = np.zeros((len(videos), max(map(len, videos))), dtype=np.int64)
        mask = np.arange(index.shape[1]) < np.array([len(video) for video in videos])[:, None]
        index[mask] = np.searchsorted(every, np.concatenate(videos))
        own = np.array([int(np.flatnonzero(video == row)[0]) for video, row in zip(videos, rows, strict=True)])
        sequences = {name: view(every) for name, view in self.views.items()}
        return Context(sequences, torch.from_numpy(index), torch.from_numpy(mask), torch.from_numpy(own))


def order_videos(ids: tuple[str, ...], groups: list[Any]) -> list[np.ndarray]:
    """For each row the rows of its group, by the number k of ``video[k]``, and as they come where a name has none.

    >>> [video.tolist() for video in order_videos(("a[1]", "b[0]", "a[0]"), ["a", "b", "a"])]
    [[2, 0], [1], [2, 0]]
    """
    number = [int(found[1]) if (found := PLACE.search(name)) else 0 for name in ids]
    members: dict[Any, list[int]] = {}
    for i in sorted(range(len(ids)), key=number.__getitem__):
        members.setdefault(groups[i], []).append(i)
    arrays = {group: np.array(rows) for group, rows in members.items()}
    return [arrays[group] for group in groups]


def return_batch(batch: Any) -> Any:
    """The dataset makes whole batches; nothing is left to collate."""
    return batch


def cut_batches(order: list[int], batch_size: int, drop: bool = False) -> list[list[int]]:
    """Consecutive batches; a tail of fewer than SMALLEST_BATCH rows joins the batch before it, or any smaller one is dropped."""
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    if drop:
        return [batch for batch in batches if len(batch) == batch_size]
    if len(batches) > 1 and len(batches[-1]) < min(SMALLEST_BATCH, batch_size):
        tail = batches.pop()
        batches[-1] = batches[-1] + tail
    return batches


class Shuffled(Sampler[list[int]]):
    """Batches in an order that is a function of (seed, epoch), so that a resumed run sees what it would have seen.

    lengths: if given, rows are sorted by length within runs of CHUNK batches, which then come in random order
    drop: leave out what is left over for a last, smaller batch
    once: every epoch has the order of the first

    Lightning calls ``set_epoch`` before each epoch, on a loader's ``batch_sampler.sampler``.
    """

    CHUNK = 16

    def __init__(
        self,
        rows: int,
        batch_size: int,
        seed: int,
        epoch: int = 0,
        lengths: Int[np.ndarray, " rows"] | None = None,
        drop: bool = False,
        once: bool = False,
    ):
        self.rows, self.batch_size, self.seed, self.epoch, self.lengths = rows, batch_size, seed, epoch, lengths
        self.drop, self.once = drop, once
        self.sampler = self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, 0 if self.once else self.epoch])
        order = rng.permutation(self.rows)
        if self.lengths is None:
            return iter(cut_batches(order.tolist(), self.batch_size, self.drop))
        # A stable sort of a random order: ties stay random.
        order = order[np.lexsort((self.lengths[order], np.arange(self.rows) // (self.CHUNK * self.batch_size)))]
        batches = cut_batches(order.tolist(), self.batch_size, self.drop)
        return iter([batches[i] for i in rng.permutation(len(batches))])

    def __len__(self) -> int:
        return len(cut_batches(list(range(self.rows)), self.batch_size, self.drop))


class Joined(Sampler[list[int]]):
    """Each batch of an order, with ``per`` unlabelled rows for each of its rows behind them.

    labelled: the order of the labelled rows, whose indices are 0 … n−1; the unlabelled ones follow them. In an epoch the unlabelled
        pass in random order, all of them before any comes again; not by length, even where the labelled are
    """

    def __init__(self, labelled: Shuffled, unlabeled: int, per: int):
        self.labelled, self.unlabeled, self.per = labelled, unlabeled, per
        self.sampler = self

    def set_epoch(self, epoch: int) -> None:
        self.labelled.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.labelled.seed, self.labelled.epoch, 1])
        rows = self.labelled.rows
        passes = -(-self.per * rows // self.unlabeled)
        order = rows + np.concatenate([rng.permutation(self.unlabeled) for _ in range(passes)])
        taken = 0
        for batch in self.labelled:
            more = self.per * len(batch)
            yield batch + order[taken : taken + more].tolist()
            taken += more

    def __len__(self) -> int:
        return len(self.labelled)


class Repeated(Sampler[list[int]]):
    """The first batches of an order's first epoch, the same in every epoch: what a model must be able to learn by heart.

    batches: how many, or which share of the order; at least one is kept
    """

    def __init__(self, order: Shuffled | Joined, batches: int | float):
        order.set_epoch(0)
        number = max(1, int(batches * len(order))) if isinstance(batches, float) else batches
        self.batches = list(order)[:number]
        self.sampler = self

    def set_epoch(self, epoch: int) -> None:
        """Every epoch is the first."""

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class InOrder(Sampler[list[int]]):
    """Batches in the fold's own order."""

    def __init__(self, rows: int, batch_size: int):
        self.rows, self.batch_size = rows, batch_size

    def __iter__(self) -> Iterator[list[int]]:
        return iter(cut_batches(list(range(self.rows)), self.batch_size))

    def __len__(self) -> int:
        return len(cut_batches(list(range(self.rows)), self.batch_size))


def load_batches(fold: Fold, order: Sampler[list[int]], workers: int) -> DataLoader[Batch]:
    """The batches of a fold in an order; they know nothing of the `mdm.data.splits.Splits` that they are of."""
    return DataLoader(
        fold,
        batch_sampler=order,
        collate_fn=return_batch,
        num_workers=workers,
        persistent_workers=workers > 0,
        # Without a generator of its own a loader draws a seed from the global one at every epoch.
        generator=torch.Generator().manual_seed(0),
    )
