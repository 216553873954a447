"""Which of Lightning's callbacks watch a run, and which would change it."""

from __future__ import annotations

import inspect
from typing import Any

CHANGING = (
    "BaseFinetuning",
    "BasePredictionWriter",
    "BatchSizeFinder",
    "Checkpoint",
    "EarlyStopping",
    "GradientAccumulationScheduler",
    "LambdaCallback",
    "LearningRateFinder",
    "ModelPruning",
    "OnExceptionCheckpoint",
    "SpikeDetection",
    "StochasticWeightAveraging",
    "Timer",
    "WeightAveraging",
)
"""Callbacks of Lightning's that decide what is trained or kept, as the protocol does; a record would not say that they had."""


def is_watcher(found: Any) -> bool:
    """A callback of Lightning's that leaves training as it is."""
    from pytorch_lightning import callbacks  # takes seconds, and few runs are watched

    changing = tuple(getattr(callbacks, name) for name in CHANGING)
    return inspect.isclass(found) and issubclass(found, callbacks.Callback) and not issubclass(found, changing)
