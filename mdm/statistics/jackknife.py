"""Predictions → a metric on the whole test set and without each of its videos, and what each video makes of it.

A metric that is a function of sums over segments (a mean of losses, an accuracy, a correlation, an F1) has its values without a
video from sums per video, for all runs at once. So `crossed` needs one formula, whatever the metric. The jackknife over cases is
that of Dorfman, Berbaum and Metz (1992).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

Summands = Callable[[np.ndarray, np.ndarray], np.ndarray]
Value = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Sums:
    """A metric as a function of sums over segments.

    summands: predictions [seeds, segments], labels [segments] → [sums, seeds, segments]
    value: sums [sums, …] → the metric […]; 0/0 where it is not defined

    >>> error = Sums(lambda p, y: np.stack([np.abs(p - y), np.ones_like(p)]), lambda s: s[0] / s[1])
    >>> leave_out_videos(np.array([[1.0, 2.0, 6.0]]), np.zeros(3), ["a", "a", "b"], error).without
    array([[6. , 1.5]])
    """

    summands: Summands
    value: Value


@dataclass(frozen=True)
class LeaveOneOut:
    """A metric of a system's runs on one test set; NaN where a run has none.

    whole: on all segments
    without: on all segments but those of a video
    sizes: segments of each video that the metric counts
    """

    whole: Float[np.ndarray, " seeds"]
    without: Float[np.ndarray, "seeds videos"]
    sizes: Int[np.ndarray, " videos"]


def leave_out_videos(
    predictions: Shaped[np.ndarray, "seeds segments"],
    labels: Shaped[np.ndarray, " segments"],
    groups: Sequence[Any] | np.ndarray,
    metric: Sums,
    *,
    counted: Bool[np.ndarray, " segments"] | None = None,
) -> LeaveOneOut:
    """The metric of each run on all segments, and without each video in the order of their sorted labels.

    groups: the video of each segment; every segment its own where a data set has no videos
    counted: segments that the metric counts, by their labels; the others are in no sum

    A run whose predictions are not all finite has NaN throughout.

    Raises ValueError on predictions, labels, groups or counted of different lengths, and on no segments.
    """
    if not predictions.size or not predictions.shape[1] == len(labels) == len(groups) == len(
        labels if counted is None else counted
    ):
        raise ValueError(
            f"Expected a label and a group for each predicted segment, got predictions {list(predictions.shape)}, {len(labels)} "
            f"labels and {len(groups)} groups; give all of one test set, in one order."
        )
    video = np.unique(np.asarray(groups), return_inverse=True)[1]
    kept = np.ones(len(labels), dtype=bool) if counted is None else counted
    finite = np.isfinite(predictions).all(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        summands = metric.summands(np.where(finite[:, None], predictions, 0), labels)
        sums = add_by_video(np.where(kept, summands, 0.0), video)
        whole, without = metric.value(sums.sum(-1)), metric.value(add_others(sums))
    whole, without = (np.where(finite if v.ndim == 1 else finite[:, None], v, np.nan) for v in (whole, without))
    return LeaveOneOut(whole, without, np.bincount(video, weights=kept).astype(int))


def average(parts: Sequence[LeaveOneOut]) -> LeaveOneOut:
    """The mean of metrics of the same runs and videos, as over several targets; a segment counts once for each.

    Raises ValueError on none, and on parts of different runs or videos.
    """
    shapes = {part.without.shape for part in parts}
    if len(shapes) != 1:
        raise ValueError(
            f"Expected metrics of the same runs and videos, got shapes {sorted(shapes)}; give the same of each target."
        )
    whole, without = (np.mean([getattr(part, name) for part in parts], axis=0) for name in ("whole", "without"))
    return LeaveOneOut(whole, without, np.sum([part.sizes for part in parts], axis=0))


def pseudo_values(
    whole: Float[np.ndarray, "*runs"], without: Float[np.ndarray, "*runs videos"]
) -> Float[np.ndarray, "*runs videos"]:
    """y_v = θ + (V − 1)(mean_u θ₍₋ᵤ₎ − θ₍₋ᵥ₎): what each video adds, centred so that the mean over videos is θ.

    For a mean of losses over videos of equal size y_v is the mean of video v. Linear in θ, so pseudo-values of a difference are
    differences of pseudo-values.
    """
    return whole[..., None] + (without.shape[-1] - 1) * (without.mean(-1, keepdims=True) - without)


def add_by_video(summands: Float[np.ndarray, "*rows segments"], video: Int[np.ndarray, " segments"]) -> np.ndarray:
    """[*rows, videos]: sums over the segments of each video, numbered from 0 without a gap."""
    order = np.argsort(video, kind="stable")
    starts = np.searchsorted(video[order], np.arange(video.max() + 1))
    return np.add.reduceat(summands[..., order], starts, axis=-1)


def add_others(sums: Float[np.ndarray, "*rows videos"]) -> Float[np.ndarray, "*rows videos"]:
    """Sums over all other videos. Added up from both ends: total − own would leave the total's rounding where the rest is 0."""
    zero = np.zeros_like(sums[..., :1])
    before = np.concatenate([zero, sums[..., :-1].cumsum(-1)], -1)
    after = np.concatenate([sums[..., :0:-1].cumsum(-1)[..., ::-1], zero], -1)
    return before + after


# ---- metrics


def mean_of(loss: Summands) -> Sums:
    """The mean over segments of a loss: (predictions, labels) → [seeds, segments]."""
    return Sums(lambda p, y: np.stack([loss(p, y), np.ones(p.shape)]), lambda s: s[0] / s[1])


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
