"""What a critic is shown: views of batches, joined, taken apart and kept for later steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from mdm.backbones.base import Backbone
from mdm.penalties.base import View
from mdm.training.product import batch_lengths, detach_all, product, shifts
from mdm.training.ranks import Alone, Ranks
from mdm.types import Batch, Encoded, Fusion


@dataclass(frozen=True)
class Here:
    """A batch and what the backbone made of it; lengths [modalities, batch] where products are drawn."""

    batch: Batch
    encoded: Encoded
    fusion: Fusion
    lengths: np.ndarray | None


class Passes:
    """Batches on their way through the backbone, on one device or several.

    shifts: where re-pairings are drawn from
    """

    def __init__(self, backbone: Backbone):
        self.backbone = backbone
        self.ranks: Alone | Ranks = Alone()
        self.shifts = np.random.default_rng(0)

    def look_at(self, batch: Batch, products: int) -> Here:
        """What the backbone makes of a batch, with lengths if samples of the product are to be drawn."""
        encoded = self.ranks.encode(self.backbone, batch)
        return Here(batch, encoded, self.ranks.fuse(self.backbone, encoded), batch_lengths(batch) if products else None)

    def view(self, here: Here, products: int) -> View:
        """The batch, and so many samples of the product, fused in one call."""
        if not products:
            return View(here.fusion, None, here.batch.label)
        assert here.lengths is not None
        index = np.concatenate([shifts(here.lengths, self.shifts) for _ in range(products)], axis=1)
        fusion = self.ranks.fuse(self.backbone, product(here.encoded, index, here.lengths))
        return View(here.fusion, fusion, here.batch.label)

    @torch.no_grad()
    def view_detached(self, here: Here, products: int) -> View:
        """The same, from which no gradient reaches the backbone."""
        return self.view(Here(here.batch, detach_all(here.encoded), here.fusion.detach(), here.lengths), products)

    def view_anew(self, batch: Batch, products: int, gradient: bool) -> View:
        """What the backbone makes of a batch as it is now, which leaves no trace in it; ``gradient``: whether one reaches it."""
        with torch.set_grad_enabled(gradient), keeping_buffers(self.backbone):
            here = self.look_at(batch, products)
            return self.view(here, products) if gradient else self.view_detached(here, products)


class Recent:
    """The last views of an epoch, as they were when the backbone stepped on them; begins empty in each epoch."""

    size = 16

    def __init__(self, seed: int):
        self.views: list[View] = []
        self.rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self.views)

    def keep(self, view: View) -> None:
        self.views = [*self.views[-self.size + 1 :], view]

    def draw(self) -> View:
        """One of them, for a critic step."""
        return self.views[self.rng.integers(len(self.views))]

    def last(self, rows: int) -> View:
        """The latest ones together, of about so many rows, or as many as there are."""
        return join_views(self.views[-max(1, round(rows / len(self.views[-1].label))) :])


@contextmanager
def single_precision() -> Iterator[None]:
    """New tensors are of single precision, as critics are, whatever the precision of the backbone."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class keeping_buffers:
    """Put a module's buffers (BatchNorm's running statistics) back afterwards."""

    def __init__(self, module: nn.Module):
        self.module = module

    def __enter__(self) -> None:
        self.saved = [(buffer, buffer.clone()) for buffer in self.module.buffers()]

    def __exit__(self, *_: object) -> None:
        with torch.no_grad():
            for buffer, value in self.saved:
                if not torch.equal(buffer, value):  # what was only read may be part of a graph that is still needed
                    buffer.copy_(value)


def endless(loader: DataLoader[Batch], epoch: int) -> Iterator[Batch]:
    """Batches without end; the order of each pass is a function of (loader's seed, epoch, pass)."""
    passes = 0
    while True:
        loader.batch_sampler.set_epoch(epoch * 1000 + passes)  # type: ignore[union-attr]
        yield from loader
        passes += 1


def select_samples(view: View, first: int, stop: int, held: int) -> View:
    """A view with the samples first … stop − 1 of the ``held`` samples of the product that it has."""
    if view.product is None or first == stop:
        return View(view.joint, None, view.label)
    size = len(view.product.z) // held
    return View(view.joint, view.product[first * size : stop * size], view.label)


def join_views(views: list[View]) -> View:
    """Views of consecutive batches as one."""

    products = [v.product for v in views if v.product is not None]
    return View(
        Fusion.cat([v.joint for v in views]), Fusion.cat(products) if products else None, torch.cat([v.label for v in views])
    )
