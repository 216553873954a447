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

from mdm.metrics.sums import Sums


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
    predictions: Shaped[np.ndarray, "seeds segments *targets"],
    labels: Shaped[np.ndarray, "segments *targets"],
    groups: Sequence[Any] | np.ndarray,
    metric: Sums,
    *,
    counted: Bool[np.ndarray, " segments"] | None = None,
) -> LeaveOneOut:
    """The metric of each run on all segments, and without each video in the order of their sorted labels.

    predictions, labels: with an axis of targets for a metric of all targets together
    groups: the video of each segment; every segment its own where a data set has no videos
    counted: segments that the metric counts, by their labels; the others are in no sum

    A run whose predictions are not all finite has NaN throughout.

    >>> from mdm.metrics.sums import ABSOLUTE_ERROR
    >>> leave_out_videos(np.array([[1.0, 2.0, 6.0]]), np.zeros(3), ["a", "a", "b"], ABSOLUTE_ERROR).without
    array([[6. , 1.5]])

    Raises ValueError on predictions, labels, groups or counted of different lengths, and on no segments.
    """
    video, kept = number_videos(predictions, labels, groups, counted)
    finite = np.isfinite(predictions).reshape(len(predictions), -1).all(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        summands = metric.summands(np.where(finite.reshape(-1, *[1] * labels.ndim), predictions, 0), labels)
        sums = add_by_video(np.where(kept, summands, 0.0), video)
        whole, without = metric.value(sums.sum(-1)), metric.value(add_others(sums))
    whole, without = (np.where(finite if v.ndim == 1 else finite[:, None], v, np.nan) for v in (whole, without))
    return LeaveOneOut(whole, without, np.bincount(video, weights=kept).astype(int))


def leave_out_slowly(
    predictions: Shaped[np.ndarray, "seeds segments *targets"],
    labels: Shaped[np.ndarray, "segments *targets"],
    groups: Sequence[Any] | np.ndarray,
    value: Callable[[np.ndarray, np.ndarray], float],
    *,
    counted: Bool[np.ndarray, " segments"] | None = None,
) -> LeaveOneOut:
    """`leave_out_videos` of any metric, (predictions, labels) of some segments → a number, computed anew without each video.

    The two-way t needs a metric that changes smoothly as a video comes or goes; of a largest error or a median the jackknife
    knows nothing.

    Raises ValueError where `leave_out_videos` does.
    """
    video, kept = number_videos(predictions, labels, groups, counted)

    def compute(p: np.ndarray, chosen: np.ndarray) -> float:
        return value(p[chosen], labels[chosen]) if np.isfinite(p).all() else np.nan

    whole = [compute(p, kept) for p in predictions]
    without = [[compute(p, kept & (video != v)) for v in range(int(video.max()) + 1)] for p in predictions]
    return LeaveOneOut(np.array(whole), np.array(without), np.bincount(video, weights=kept).astype(int))


def number_videos(
    predictions: np.ndarray, labels: np.ndarray, groups: Sequence[Any] | np.ndarray, counted: np.ndarray | None
) -> tuple[Int[np.ndarray, " segments"], Bool[np.ndarray, " segments"]]:
    """The number of each segment's video, in the order of their sorted labels, and whether the segment counts.

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
    return video, np.ones(len(labels), dtype=bool) if counted is None else counted


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


def compute_pseudo_values(
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
