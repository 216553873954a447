"""Which of Lightning's callbacks watch a run, and which would change it."""

from __future__ import annotations

import inspect
from typing import Any

from pytorch_lightning import callbacks

CHANGING = (
    callbacks.BaseFinetuning,
    callbacks.BasePredictionWriter,
    callbacks.BatchSizeFinder,
    callbacks.Checkpoint,
    callbacks.EarlyStopping,
    callbacks.GradientAccumulationScheduler,
    callbacks.LambdaCallback,
    callbacks.LearningRateFinder,
    callbacks.ModelPruning,
    callbacks.OnExceptionCheckpoint,
    callbacks.SpikeDetection,
    callbacks.StochasticWeightAveraging,
    callbacks.Timer,
    callbacks.WeightAveraging,
)
"""Callbacks that decide what is trained or kept, as the protocol does; a record would not say that they had."""


def is_watcher(found: Any) -> bool:
    """A callback of Lightning's that leaves training as it is."""
    return inspect.isclass(found) and issubclass(found, callbacks.Callback) and not issubclass(found, CHANGING)
