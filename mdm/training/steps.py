"""Before the learner: how the gradients of batches become steps of the backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Accumulation:
    """Which batches of an epoch make one step together.

    batches: per step
    combine: ``mean``, the gradient of a step is the mean of its batches', and the last ones of an epoch, fewer, make one too
        (default); ``sum``, their sum, as in the codes of Self-MM and MMSA, where batches that are left over make none

    >>> [Accumulation(4, combine).count_steps(10) for combine in ("mean", "sum")]
    [3, 2]
    """

    batches: int = 1
    combine: Literal["mean", "sum"] = "mean"

    def count_steps(self, batches: int) -> int:
        """Steps in an epoch of so many batches."""
        return batches // self.batches if self.combine == "sum" else -(-batches // self.batches)

    def divide_by(self, index: int, batches: int) -> int:
        """What the loss of a batch, counted from 0, is divided by before its gradient is added."""
        first = index - index % self.batches
        return 1 if self.combine == "sum" else min(self.batches, batches - first)

    def begins(self, index: int) -> bool:
        """Whether a batch is the first of a step."""
        return index % self.batches == 0

    def ends(self, index: int, batches: int) -> bool:
        """Whether a step follows a batch."""
        return (index + 1) % self.batches == 0 or (self.combine == "mean" and index + 1 == batches)


@dataclass(frozen=True)
class Clipping:
    """How far gradients may go.

    limit: of the norm of all entries together, or of each entry; None: no limit
    by: ``norm`` or ``value``
    over: whose gradients count in the norm. ``backbone``, those of the backbone; critics have a limit of their own (default).
        ``all``, those of critics too, in the steps of both, as in MMIM's code: a critic's loss then reaches the backbone, whose
        gradient shortens the critic's

    Raises ValueError if critics are to count in anything but a norm.

    >>> Clipping(1.0).over
    'backbone'
    """

    limit: float | None = None
    by: Literal["norm", "value"] = "norm"
    over: Literal["backbone", "all"] = "backbone"

    def __post_init__(self) -> None:
        if self.over == "all" and (self.limit is None or self.by != "norm"):
            raise ValueError(
                "trainer.gradient_clip_over=all is of a norm of gradients, but "
                f"gradient_clip={self.limit} and gradient_clip_by={self.by} came; set a norm, or use gradient_clip_over=backbone."
            )

    @property
    def together(self) -> bool:
        """Whether critics are clipped with the backbone."""
        return self.over == "all"

    def clip_norm(self, module: nn.Module) -> None:
        """Shorten the gradients of a module together, so that their norm is at most the limit."""
        assert self.limit is not None
        nn.utils.clip_grad_norm_(module.parameters(), self.limit)


EACH_BATCH, NO_CLIPPING = Accumulation(), Clipping()


def add_up(terms: Mapping[str, Tensor], epoch: int) -> Tensor:
    """The sum of the terms of a loss.

    Raises ValueError, naming those that are not finite.
    """
    total = torch.stack(list(terms.values())).sum()
    if not torch.isfinite(total):
        bad = [name for name, value in terms.items() if not torch.isfinite(value)]
        raise ValueError(
            f"Every loss term must be finite, but {', '.join(bad) or 'their sum'} is not, in epoch {epoch}; no weight was changed "
            "by it. Lower model.optimizer.lr or penalty.weight, or look at the data card."
        )
    return total


def check_critic(losses: Sequence[Tensor], name: str, epoch: int) -> None:
    """Raise ValueError unless the losses of a critic's steps are finite; asked once, because a device has to finish first."""
    if not torch.stack(list(losses)).isfinite().all():
        raise ValueError(
            f"A critic's loss must be finite, but that of {name} is not, in epoch {epoch}. An unbounded critic diverges at strong "
            "dependence: use penalty.objective.training=logistic, output=tanh, or a smaller penalty.critic.optimizer.lr."
        )
