"""Metrics as functions of sums over segments, so that a metric without some of them is had from what is left of the sums.

A mean of losses, an accuracy, a correlation and an F1 are all of this kind. `mdm.statistics.jackknife` leaves out videos so, of all
runs at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

Summands = Callable[[np.ndarray, np.ndarray], np.ndarray]
Value = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Sums:
    """A metric as a function of sums over segments.

    summands: predictions [seeds, segments], labels [segments] → [sums, seeds, segments]; both with a last axis of targets for a
        metric of all targets together
    value: sums [sums, …] → the metric […]; 0/0 where it is not defined

    >>> error = Sums(lambda p, y: np.stack([np.abs(p - y), np.ones_like(p)]), lambda s: s[0] / s[1])
    >>> error.value(error.summands(np.array([[1.0, 2.0, 6.0]]), np.zeros(3)).sum(-1))
    array([3.])
    """

    summands: Summands
    value: Value


def mean_of(loss: Summands) -> Sums:
    """The mean over segments of a loss: (predictions, labels) → [seeds, segments]."""

    def add(p: np.ndarray, y: np.ndarray) -> np.ndarray:
        each = loss(p, y)
        return np.stack([each, np.ones(each.shape)])

    return Sums(add, lambda s: s[0] / s[1])


def correlate(s: Float[np.ndarray, "6 *rows"]) -> Float[np.ndarray, "*rows"]:
    """Pearson's correlation from n, Σp, Σy, Σp², Σy², Σpy of centred values; NaN where a side is constant.

    What a constant's Σp² − (Σp)²/n leaves is rounding, below 1e-12 of Σp².
    """
    n, p, y, pp, yy, py = s
    of_p, of_y = pp - p * p / n, yy - y * y / n
    varies = (of_p > 1e-12 * pp) & (of_y > 1e-12 * yy)
    return np.where(varies, (py - p * y / n) / np.sqrt(np.where(varies, of_p * of_y, 1.0)), np.nan)


def moments(p: Float[np.ndarray, "seeds segments"], y: Float[np.ndarray, " segments"]) -> Float[np.ndarray, "6 seeds segments"]:
    """1, p, y, p², y², py; centred, so that no digits are lost in the squares."""
    p, y = p - p.mean(1, keepdims=True), np.broadcast_to(y - y.mean(), p.shape)
    return np.stack([np.ones(p.shape), p, y, p * p, y * y, p * y])


def count_classes(p: Shaped[np.ndarray, "seeds segments"], y: Shaped[np.ndarray, " segments"]) -> Float[np.ndarray, "sums seeds n"]:
    """Of each class among the labels: hits, predicted, actual."""
    of_class = np.unique(y)[:, None, None]
    predicted, actual = p[None] == of_class, np.broadcast_to(y == of_class, (len(of_class), *p.shape))
    return np.concatenate([predicted & actual, predicted, actual]).astype(np.float64)


def weigh_f1(s: Float[np.ndarray, "sums *rows"]) -> Float[np.ndarray, "*rows"]:
    """Σ_c (actual_c/n)·2 hits_c/(predicted_c + actual_c); a class without labels, as may be without a video, has no weight."""
    hits, predicted, actual = s.reshape(3, -1, *s.shape[1:])
    either = predicted + actual
    return (actual * np.where(either > 0, 2 * hits / np.where(either > 0, either, 1), 0)).sum(0) / actual.sum(0)


ABSOLUTE_ERROR = mean_of(lambda p, y: np.abs(p - y))
SQUARED_ERROR = mean_of(lambda p, y: (p - y) ** 2)
ACCURACY = mean_of(lambda p, y: p == y)
"""Of predicted and actual classes."""
CORRELATION = Sums(moments, correlate)
WEIGHTED_F1 = Sums(count_classes, weigh_f1)
"""Of predicted and actual classes; each weighted by how often it occurs among the labels."""
