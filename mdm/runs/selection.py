"""Which epoch is chosen, and when training has ended: functions of the curve's validation metric alone."""

from __future__ import annotations

import numpy as np

from mdm.metrics import evaluate, find_metric, pick_best
from mdm.runs.options import TrainerOptions
from mdm.training.curve import name_metric
from mdm.types import DataSpec


def check_select(select: str, spec: DataSpec) -> None:
    """Raise ValueError unless a checkpoint can be chosen by this metric."""
    ends = np.array([[end] * len(spec.targets) for end in spec.label_range])
    names = list(evaluate(ends, ends, spec.label_range, spec.targets))
    if select not in names:
        raise ValueError(f"A checkpoint is chosen by one of {', '.join(names)}, got {select}; set trainer.select.")
    low, high = spec.label_range
    # Necessary of one-hot labels, and enough for labels that are not meant to be: otherwise every epoch would score NaN.
    if find_metric(select).joint and abs(sum(spec.label_mean) - (len(spec.targets) - 1) * low - high) > 1e-3:
        raise ValueError(
            f"Accuracy is of labels that name one class each, but the training labels of {', '.join(spec.targets)} do not; choose "
            "another metric in trainer.select."
        )


def has_ended(curve: list[dict[str, float]], options: TrainerOptions) -> bool:
    """Whether training has ended: all epochs done, the time used up, or none of the last ``patience`` better than the best before.

    A function of the curve, so that a run that was resumed ends where it would have ended.
    """
    if not curve:
        return False
    waited = len(curve) - 1 - find_best_row(curve, options)
    late = sum(row["seconds"] for row in curve) >= options.seconds
    return late or len(curve) >= options.epochs or (options.patience is not None and waited >= options.patience)


def find_best_row(curve: list[dict[str, float]], options: TrainerOptions) -> int:
    """Index of the epoch with the best validation metric; ties go to the earlier one, and NaN is worse than any number."""
    return pick_best([row[name_metric(options.select)] for row in curve], options.select)
