"""Which runs diverged? By a rule that was fixed before any test fold was seen, and that reads training and validation alone.

A run that diverges is not one of a system's usual runs, and a single one hides what all the others show. Its pair is left out and
counted, and a star then speaks of runs that pass the rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mdm.metrics import find_metric
from mdm.tables.gather import Run

STOPPED = ("Every loss term must be finite", "A critic's loss must be finite")
"""How the learner's errors begin that stop a run whose loss is not finite."""


def find_stopped(runs: Sequence[Run]) -> tuple[int, ...]:
    """Seeds of runs that failed because a loss was not finite, and so left no record."""
    return tuple(run.seed for run in runs if run.state == "failed" and any(text in run.error for text in STOPPED))


def find_diverged(runs: Sequence[Run]) -> tuple[int, ...]:
    """Seeds of finished runs of one row that diverged: by validation alone, at the epoch that it chose.

    They have no finite value of the metric that chose their checkpoint; or, while other runs of the row have, they have learned
    nothing: they predict a constant, or their value of that metric is no better than that of the mean of the training labels. A row
    of which no run has learned anything is meant so (a floor), or is as bad as that, and is compared as it is.
    """
    lost = [find_chosen_score(run.record, "valid") is None for run in runs]
    idle = [learned_nothing(run.record) for run in runs]
    some = not all(a or b for a, b in zip(lost, idle, strict=True))
    return tuple(run.seed for run, gone, flat in zip(runs, lost, idle, strict=True) if gone or (flat and some))


def learned_nothing(record: Mapping[str, Any]) -> bool:
    """Whether a run's predictions for validation are a constant, or no better than the mean of the training labels."""
    own, floor = find_chosen_score(record, "valid"), find_chosen_score(record, "valid_of_train_mean")
    if predicts_constant(record["valid"]):
        return True
    # A constant has no correlation: what is chosen by one cannot be held against it.
    if own is None or floor is None:
        return False
    lower = find_metric(record["selected"]["by"]).lower_is_better
    return own >= floor if lower else own <= floor


def find_chosen_score(record: Mapping[str, Any], part: str) -> float | None:
    """Of the metric that chose the checkpoint; None if it is not defined there."""
    value: float | None = record[part][record["selected"]["by"].removeprefix("valid/")]
    return value


def predicts_constant(valid: Mapping[str, Any]) -> bool:
    """Whether no target has a correlation, which is null where predictions do not vary. False if none was measured."""
    of_targets = [value for name, value in valid.items() if name.rpartition("/")[2] == "corr"]
    return bool(of_targets) and all(value is None for value in of_targets)
