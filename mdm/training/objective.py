"""Stage four: a penalty and how its critic is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer

from mdm.penalties.base import CriticBatches, Interleave, Penalty
from mdm.training.steps import Accumulation, Clipping

OptimizerFactory = Callable[[Iterable[Any]], Optimizer]


@dataclass(frozen=True)
class CriticTraining:
    """How the critic of a penalty is trained.

    optimizer: makes the critic's optimiser from its parameters
    steps: of the critic per step of the backbone (Unroll = 10 in Colombo et al., 2021)
    batches: where a critic's rows come from. ``fresh``, a new batch for every step, encoded and fused for it, as Algorithm 1
        reads; ``shared``, the current batch, re-paired for every step; ``replay``, representations of earlier batches of this
        epoch as they were then, which cost nothing; in the first batch of an epoch, that batch, re-paired once for all steps
    interleave: ``batch``, critic steps within every step of the backbone; ``after``, behind it, so that the backbone reads a critic
        of the batch before, as in MIRD's code, and a ``shared`` batch is encoded anew for every step; ``epoch``, before an epoch of
        the backbone, ``steps`` passes of the critic over fresh batches (one pass in Han et al., 2021)
    share: of a pass, for ``epoch``: MMIM's code makes half a pass on MOSEI
    gradient_clip: largest gradient norm, or None: clipping breaks DV and NWJ critics

    Raises ValueError on options that do not go together.

    >>> import torch
    >>> CriticTraining(torch.optim.Adam, steps=5, batches="fresh").interleave
    'batch'
    """

    optimizer: OptimizerFactory
    steps: int = 10
    batches: CriticBatches = "replay"
    interleave: Interleave = "batch"
    share: float = 1.0
    gradient_clip: float | None = None

    def __post_init__(self) -> None:
        if self.steps < 1 or (self.interleave == "epoch" and self.batches != "fresh"):
            raise ValueError(
                "A critic takes at least 1 step, and one that trains before the backbone's epoch needs fresh batches, but "
                f"steps={self.steps}, batches={self.batches} and interleave={self.interleave} came; set penalty.critic."
            )
        if not 0 < self.share <= 1 or (self.share < 1 and self.interleave != "epoch"):
            raise ValueError(
                "A critic that trains before the backbone's epoch may do so for a share of a pass in (0, 1], and no other, but "
                f"share={self.share} and interleave={self.interleave} came; set penalty.critic.share."
            )


@dataclass(frozen=True)
class Objective:
    """A penalty and how its critic is trained: None if it has no critic.

    measure_only: train the critic and report its estimate, but add nothing to the loss

    Raises ValueError if only one of penalty and ``critic`` has a critic.

    >>> from mdm.penalties.hsic import Hsic
    >>> Objective(Hsic(weight=0.1, z_dim=8, unimodal_dims={"audio": 4, "video": 4})).critic is None
    True
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


def critics_of(
    objectives: Mapping[str, Objective], interleave: Interleave | None = None
) -> list[tuple[str, Penalty, CriticTraining]]:
    """The objectives that have a critic, or those whose critic trains at this moment: name, penalty, how."""
    trained = [(name, o.penalty, o.critic) for name, o in objectives.items() if o.critic is not None]
    return [one for one in trained if interleave in (None, one[2].interleave)]


def check_together(clipping: Clipping, accumulation: Accumulation, objectives: Mapping[str, Objective]) -> None:
    """Raise ValueError unless critics that are clipped with the backbone reach it, and it has no gradient of its own just then."""
    reaches = {name: critic.batches == "fresh" or critic.interleave == "after" for name, _, critic in critics_of(objectives)}
    if clipping.together and not (all(reaches.values()) and accumulation.batches == 1):
        raise ValueError(
            "Critics are clipped with the backbone where each of their steps encodes a batch, so with critic.batches=fresh or "
            "critic.interleave=after, and one batch makes a step, but "
            f"{', '.join(name for name, fits in reaches.items() if not fits) or 'no critic'} has others, and "
            f"trainer.accumulate_grad_batches={accumulation.batches}; use trainer.gradient_clip_over=backbone."
        )
