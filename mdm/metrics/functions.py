"""What metrics compute: functions of predictions p and labels y, both centred on the middle of the labels' range."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from mdm.metrics.sums import WEIGHTED_F1, Sums, mean_of


def absolute_error(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.abs(p - y)


def squared_error(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (p - y) ** 2


def root_mean_square(p: np.ndarray, y: np.ndarray) -> float:
    return float(np.sqrt(squared_error(p, y).mean()))


ROOT_OF_MEAN = Sums(mean_of(squared_error).summands, lambda s: np.sqrt(s[0] / s[1]))


def pearson(p: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> float:
    """Pearson correlation; NaN where one side is constant, which is no correlation of 0."""
    if np.ptp(p) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(p, y)[0, 1])


def round_to_class(values: Float[np.ndarray, "*rows"], edge: float) -> Float[np.ndarray, "*rows"]:
    """The whole number that each value rounds to, after clipping to ±edge."""
    return np.rint(np.clip(values, -edge, edge))


def same_class(p: np.ndarray, y: np.ndarray, edge: float) -> np.ndarray:
    return round_to_class(p, edge) == round_to_class(y, edge)


def same_sign(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether both are ≥ 0 or both are not."""
    return (p >= 0) == (y >= 0)


def same_strict_sign(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether both are > 0 or both are not."""
    return (p > 0) == (y > 0)


def weighted_f1(predicted: np.ndarray, actual: np.ndarray) -> float:
    """F1 of each class weighted by how often it occurs among the *labels* (MISA and MulT swap the two arguments)."""
    total = 0.0
    for one in np.unique(actual):
        hits = int(((predicted == one) & (actual == one)).sum())
        either = int((predicted == one).sum() + (actual == one).sum())
        total += (actual == one).mean() * (2 * hits / either)
    return float(total)


def f1_of(cut: Callable[[np.ndarray], np.ndarray]) -> dict[str, Any]:
    """Weighted F1 of what ``cut`` makes of predictions and labels, as a metric's ``whole`` and its ``sums``."""
    return {
        "whole": lambda p, y: weighted_f1(cut(p), cut(y)),
        "sums": Sums(lambda p, y: WEIGHTED_F1.summands(cut(p), cut(y)), WEIGHTED_F1.value),
    }


def same_largest(p: Float[np.ndarray, "*seeds n targets"], y: Float[np.ndarray, "n targets"]) -> np.ndarray:
    """Whether the largest prediction is that of the largest label; of equal ones the first is the largest."""
    return p.argmax(-1) == y.argmax(-1)


def name_one_class(y: Float[np.ndarray, "n targets"]) -> bool:
    """Whether each label names one class, one target being 1 and the others 0."""
    return bool((((y == 1).sum(1) == 1) & ((y == 0).sum(1) == y.shape[1] - 1)).all())


def class_accuracy(p: Float[np.ndarray, "n targets"], y: Float[np.ndarray, "n targets"]) -> float:
    """Share of `same_largest`. NaN unless each label names one class: of emotions, of which none or several may be there, the
    largest means nothing."""
    return float(same_largest(p, y).mean()) if name_one_class(y) else float("nan")
