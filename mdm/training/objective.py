"""Stage four: a penalty and how its critic is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer

from mdm.penalties.base import Penalty

OptimizerFactory = Callable[[Iterable[Any]], Optimizer]


@dataclass
class Objective:
    """A penalty and how its critic is trained.

    critic_steps: steps of the critic per step of the backbone (Unroll = 10 in paper 000)
    critic_batches: where a critic's rows come from. ``fresh``, a new batch for every step, encoded and fused for it, as
        Algorithm 1 reads; ``shared``, the current batch, re-paired for every step; ``replay``, representations of earlier
        batches of this epoch as they were then, which cost nothing
    interleave: ``batch``, critic steps within every step of the backbone; ``epoch``, before an epoch of the backbone,
        critic_steps passes of the critic over fresh batches (one pass in paper 001)
    optimizer: makes the critic's optimiser from its parameters; never clipped, which breaks DV and NWJ critics
    measure_only: train the critic and report its estimate, but add nothing to the loss
    """

    penalty: Penalty
    critic_steps: int = 10
    critic_batches: str = "shared"
    interleave: str = "batch"
    optimizer: OptimizerFactory | None = None
    measure_only: bool = False

    def __post_init__(self) -> None:
        if self.critic_batches not in ("fresh", "shared", "replay") or self.interleave not in ("batch", "epoch"):
            raise ValueError(
                "critic_batches is fresh, shared or replay and interleave is batch or epoch, but "
                f"{self.critic_batches!r} and {self.interleave!r} came; set penalty.critic_batches and penalty.interleave."
            )
        if self.interleave == "epoch" and self.critic_batches != "fresh":
            raise ValueError(
                "A critic that trains before the backbone's epoch has no batch to share, so interleave=epoch needs "
                f"critic_batches=fresh, but {self.critic_batches} came; set penalty.critic_batches=fresh."
            )
        if self.trains and (self.critic_steps < 1 or self.optimizer is None):
            raise ValueError(
                f"A penalty with a critic needs critic_steps >= 1 and an optimizer, but critic_steps={self.critic_steps} and "
                f"optimizer={self.optimizer}; set penalty.critic_steps and penalty.optimizer."
            )

    @property
    def trains(self) -> bool:
        """Whether there is a critic to train."""
        return next(self.penalty.parameters(), None) is not None
