"""Dropout that keeps everything, or the same columns as in a frozen run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional as F

from mdm.backbones.tfn import CheapDropout

Drop = Callable[[Tensor, float], Tensor]


@contextmanager
def dropping(drop: Drop, order: Tensor | None = None) -> Iterator[None]:
    """Every dropout that acts is this function of (tensor, rate)."""

    def functional(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        return drop(input, p) if training and p else input

    def cheap(self: CheapDropout, input: Tensor) -> Tensor:
        if not self.training or not self.p:
            return input
        if order is None:
            return drop(input, self.p)
        found = torch.empty_like(input)
        found[:, order] = drop(input[:, order], self.p)
        return found

    with mock.patch.object(F, "dropout", functional), mock.patch.object(CheapDropout, "forward", cheap):
        yield


def keep_all(input: Tensor, p: float) -> Tensor:
    return input


def drop_columns(input: Tensor, p: float) -> Tensor:
    """Of the last axis, d wide, coordinate j stays iff u_j ≥ p, with u of a generator that (d, p) seeds."""
    d = input.shape[-1]
    kept = torch.rand(d, generator=torch.Generator().manual_seed(1000 * d + round(1000 * p))) >= p
    return input * kept / (1 - p)
