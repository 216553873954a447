"""Which runs diverged? By a rule that was fixed before any test fold was seen, and that reads training and validation alone.

A run that diverges is not one of a system's usual runs, and a single one hides what all the others show. Its pair is left out and
counted, and a star then speaks of runs that pass the rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mdm.tables.gather import Run

STOPPED = ("Every loss term must be finite", "A critic's loss must be finite")
"""How the learner's errors begin that stop a run whose loss is not finite."""


def find_stopped(runs: Sequence[Run]) -> tuple[int, ...]:
    """Seeds of runs that failed because a loss was not finite, and so left no record."""
    return tuple(run.seed for run in runs if run.state == "failed" and any(text in run.error for text in STOPPED))


def find_diverged(runs: Sequence[Run]) -> tuple[int, ...]:
    """Seeds of finished runs of one row that diverged.

    They have no finite value of the metric that chose their checkpoint, or predict a constant on validation (no target has a
    correlation there) while other runs of the row do not. A row whose runs all predict a constant is meant to, or never learns.
    """
    constant = [predicts_constant(run.record["valid"]) for run in runs]
    return tuple(
        run.seed
        for run, flat in zip(runs, constant, strict=True)
        if (flat and not all(constant)) or run.record["valid"].get(run.record["selected"]["by"].removeprefix("valid/"), 0.0) is None
    )


def predicts_constant(valid: dict[str, Any]) -> bool:
    """Whether no target has a correlation, which is null where predictions do not vary. False if none was measured."""
    of_targets = [value for name, value in valid.items() if name.rpartition("/")[2] == "corr"]
    return bool(of_targets) and all(value is None for value in of_targets)
