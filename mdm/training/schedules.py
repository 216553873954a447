"""Before the learner: learning-rate schedules, functions of how far training has come, and of what validation has said.

Being functions of the step and of the curve alone, they have no state to save.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mdm.hints import Count, require_option
from mdm.training.curve import name_metric

End = Literal["last", "full"]


@dataclass(frozen=True)
class Progress:
    """How far training has come before a step of the backbone.

    step: steps that were taken; steps: those of the whole training
    full_steps: how many there would be if the last batch of an epoch, where it has fewer rows, made none

    >>> Progress(step=3, steps=12, full_steps=10).step
    3
    """

    step: int
    steps: int
    full_steps: int


class Linear:
    """Rise linearly from 0 to 1 over the first ``warmup`` of training, then fall linearly to 0 at its end.

    warmup: 0.1 is what MAG and BERT fine-tuning use. 1.0 is what MAG's code did until December 2021, and WSA-BERT's and MIRD's
        still do: with the numbers of warm-up and of all steps interchanged, the rate rises for the whole run
    end: where training ends. ``last``, at its last step (default); ``full``, after as many steps as it has full batches, as in the
        code of these three, whose last steps then have a rate of 0

    Raises ValueError unless ``warmup`` is in [0, 1], and on another end.

    >>> [round(Linear(0.5)(Progress(step, 4, 4)), 2) for step in range(4)]
    [0.0, 0.5, 1.0, 0.5]
    """

    def __init__(self, warmup: float = 0.1, end: End = "last"):
        if not 0 <= warmup <= 1:
            raise ValueError(f"warmup is a share of training in [0, 1], but is {warmup}; set model.schedule.warmup.")
        require_option("end", end, End)
        self.warmup, self.end = warmup, end

    def __call__(self, progress: Progress) -> float:
        """The factor of every rate."""
        # A run that has no full batch has its steps all the same.
        steps = (progress.full_steps if self.end == "full" else 0) or progress.steps
        share = progress.step / steps
        if share >= 1:
            return 0.0
        if share < self.warmup:
            return share / self.warmup
        return (1 - share) / (1 - self.warmup)


@dataclass(frozen=True)
class Plateau:
    """Multiply the rates by ``factor`` when a metric of validation has not improved for more than ``patience`` epochs.

    As ``torch.optim.lr_scheduler.ReduceLROnPlateau``, told the metric after every epoch: an epoch is better if it is below
    (1 − threshold) times the best, and after a reduction the count begins anew.

    metric: one that is lower where it is better
    threshold: by how much of itself the best must be improved

    Raises ValueError unless 0 < factor < 1, patience >= 0 and 0 <= threshold < 1.

    >>> Plateau(factor=0.1, patience=1)([{"valid/mae": value} for value in (1.0, 0.9, 0.95, 0.95)])
    0.1
    """

    factor: float
    patience: Count
    metric: str = "mae"
    threshold: float = 1e-4

    def __post_init__(self) -> None:
        if not (0 < self.factor < 1 and self.patience >= 0 and 0 <= self.threshold < 1):
            raise ValueError(
                f"A plateau has a factor in (0, 1), patience >= 0 and a threshold in [0, 1), but factor={self.factor}, "
                f"patience={self.patience}, threshold={self.threshold} came; set model.plateau.*."
            )

    def __call__(self, curve: Sequence[Mapping[str, float]]) -> float:
        """The factor of every rate after these epochs."""
        best, waited, factor = float("inf"), 0, 1.0
        for row in curve:
            value, waited = row[name_metric(self.metric)], waited + 1
            if value < best * (1 - self.threshold):
                best, waited = value, 0
            if waited > self.patience:
                factor, waited = factor * self.factor, 0
        return factor
