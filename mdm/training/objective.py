"""Stage four: a penalty and how its critic is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer

from mdm.penalties.base import CriticBatches, Interleave, Penalty

OptimizerFactory = Callable[[Iterable[Any]], Optimizer]


@dataclass(frozen=True)
class CriticTraining:
    """How the critic of a penalty is trained.

    optimizer: makes the critic's optimiser from its parameters
    steps: of the critic per step of the backbone (Unroll = 10 in paper 000)
    batches: where a critic's rows come from. ``fresh``, a new batch for every step, encoded and fused for it, as Algorithm 1
        reads; ``shared``, the current batch, re-paired for every step; ``replay``, representations of earlier batches of this
        epoch as they were then, which cost nothing
    interleave: ``batch``, critic steps within every step of the backbone; ``epoch``, before an epoch of the backbone, ``steps``
        passes of the critic over fresh batches (one pass in paper 001)
    gradient_clip: largest gradient norm, or None: clipping breaks DV and NWJ critics

    Raises ValueError on options that do not go together.
    """

    optimizer: OptimizerFactory
    steps: int = 10
    batches: CriticBatches = "replay"
    interleave: Interleave = "batch"
    gradient_clip: float | None = None

    def __post_init__(self) -> None:
        if self.steps < 1 or (self.interleave == "epoch" and self.batches != "fresh"):
            raise ValueError(
                "A critic takes at least 1 step, and one that trains before the backbone's epoch needs fresh batches, but "
                f"steps={self.steps}, batches={self.batches} and interleave={self.interleave} came; set penalty.critic."
            )


@dataclass(frozen=True)
class Objective:
    """A penalty and how its critic is trained: None if it has no critic.

    measure_only: train the critic and report its estimate, but add nothing to the loss

    Raises ValueError if only one of penalty and ``critic`` has a critic.
    """

    penalty: Penalty
    critic: CriticTraining | None = None
    measure_only: bool = False

    def __post_init__(self) -> None:
        has_critic, name = next(self.penalty.parameters(), None) is not None, type(self.penalty).__name__
        if has_critic and self.critic is None:
            raise ValueError(f"The critic of {name} must be trained, but critic=null came; set penalty.critic.")
        if not has_critic and self.critic is not None:
            raise ValueError(f"{name} has no critic to train with these options, but {self.critic} came; use penalty.critic=null.")
