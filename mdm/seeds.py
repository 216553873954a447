"""Random streams that do not disturb one another.

One run seed names many streams: weights, batch order, critic weights, shifts, … A stream's draws are a
function of (seed, name) alone, so that switching a penalty on moves no other draw and two penalties with
one seed are a true pair.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


def derive(seed: int, name: str, index: int = 0) -> int:
    """A 63-bit seed for the stream ``name`` (and, say, epoch ``index``) of a run.

    Raises ValueError if ``seed`` or ``index`` is negative.
    """
    if seed < 0 or index < 0:
        raise ValueError(f"A seed must be a non-negative integer, got {min(seed, index)}; use seed=0, 1, 2, …")
    words = np.random.SeedSequence([seed, zlib.crc32(name.encode()), index]).generate_state(2, np.uint32)
    return (int(words[0]) << 31) | (int(words[1]) >> 1)


def generator(seed: int, name: str, index: int = 0) -> torch.Generator:
    """A torch generator (CPU) of its own for one stream."""
    return torch.Generator().manual_seed(derive(seed, name, index))


class Stream:
    """A stretch of torch's global generators that belongs to one purpose.

    Dropout and weight initialisation can only draw from the global generators; inside ``with
    stream.active():`` those are this stream's, and afterwards they are as they were. ``state`` (tensors)
    can be saved and set again.

    >>> stream, before = Stream(0, "dropout"), torch.get_rng_state()
    >>> with stream.active():
    ...     noise = torch.rand(3)
    >>> bool((torch.get_rng_state() == before).all())  # nothing outside was disturbed
    True
    """

    def __init__(self, seed: int, name: str):
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(derive(seed, name))
            self.state = global_state()

    @contextmanager
    def active(self) -> Iterator[None]:
        outer = global_state()
        set_global_state(self.state)
        try:
            yield
        finally:
            self.state = global_state()
            set_global_state(outer)


def global_state() -> list[Tensor]:
    """States of torch's global generators: CPU first, then each CUDA device in use."""
    states = [torch.get_rng_state()]
    if torch.cuda.is_initialized():
        states += torch.cuda.get_rng_state_all()
    return states


def set_global_state(states: list[Tensor]) -> None:
    """Put back what `global_state` returned (tensors may come from a checkpoint on any device)."""
    torch.set_rng_state(states[0].cpu())
    if len(states) > 1:
        torch.cuda.set_rng_state_all([state.cpu() for state in states[1:]])
