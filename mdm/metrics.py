"""Evaluation: whole arrays of predictions and labels → named numbers.

A metric is one entry of `METRICS`, and the entry is all that anything knows of it: what it is called, which way is better, and
what each segment contributes. A metric that is added there is measured in every run, can choose checkpoints and points of a
search, and can be a column of a table.

Each name says its convention, because published code disagrees on every one of them: zeros counted or not, clipped before rounding
or not, which F1. Rounding is half to even everywhere (``np.rint``). Labels and predictions are centred on the middle of the
labels' declared range first, so that "non-negative" means the same for [-3, 3] and for [1, 5].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from mdm.sums import CORRELATION, WEIGHTED_F1, Sums, mean_of

Each = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Predictions and labels → a number for each segment."""
Whole = Callable[[np.ndarray, np.ndarray], float]
"""Predictions and labels → one number."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number that says how good predictions are.

    heading: as tables print it
    convention: what exactly is counted, in a line; 0 is the middle of the labels' range
    better: which way
    each: what a segment contributes, the metric being the mean; None if it is no mean
    whole: the metric of all segments at once, where ``each`` does not give it
    sums: the metric from sums over segments, which tells quickly what it is without a video (`mdm.statistics`); the mean of
        ``each`` if that is there. Of a metric without them a table computes ``whole`` anew without every video of every run
    keeps: which labels count; None: all
    percent: shown in percent, as the papers print accuracies and F1
    reach: measured where the labels' range reaches so far on both sides of its middle
    joint: of all targets together, as an accuracy of classes is; its functions take [segments, targets], with labels of 0 to 1
    signed: zeros count among the positive, or are left out; papers often do not say which

    >>> import numpy as np
    >>> metric_of("happy/acc2_pos").value(np.array([0.2, -1.0, 3.0]), np.array([1.0, 0.0, -2.0]))
    0.5
    >>> metric_of("acc2_pos").better, heading("happy/acc2_pos")
    ('higher', 'happy Acc-2 (pos)')
    """

    heading: str
    convention: str
    better: Literal["lower", "higher"]
    each: Each | None = None
    whole: Whole | None = None
    sums: Sums | None = None
    keeps: Callable[[np.ndarray], np.ndarray] | None = None
    percent: bool = False
    reach: float = 0.0
    joint: bool = False
    signed: bool = False

    def __post_init__(self) -> None:
        if self.each is None and self.whole is None:
            raise TypeError(f"A metric needs each or whole, but {self.heading} has neither; give it one of them.")
        if self.sums is None and self.each is not None:
            object.__setattr__(self, "sums", mean_of(self.each))  # the one way into a frozen dataclass

    @property
    def lower_is_better(self) -> bool:
        return self.better == "lower"

    @property
    def scale(self) -> float:
        """What a value is multiplied with to be shown."""
        return 100.0 if self.percent else 1.0

    @property
    def unit(self) -> str:
        """Behind the heading: ", %" or nothing."""
        return ", %" if self.percent else ""

    def value(self, p: np.ndarray, y: np.ndarray) -> float:
        """The metric; NaN where it is not defined, as on no segments."""
        if self.keeps is not None:
            kept = self.keeps(y)
            p, y = p[kept], y[kept]
        if not len(y):
            return float("nan")
        if self.whole is not None:
            return float(self.whole(p, y))
        assert self.each is not None
        return float(self.each(p, y).mean())


# ---- what they compute


def absolute(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.abs(p - y)


def squared(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (p - y) ** 2


def root_mean_square(p: np.ndarray, y: np.ndarray) -> float:
    return float(np.sqrt(squared(p, y).mean()))


ROOT_OF_MEAN = Sums(mean_of(squared).summands, lambda s: np.sqrt(s[0] / s[1]))


def pearson(p: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> float:
    """Pearson correlation; NaN where one side is constant, which is no correlation of 0."""
    if np.ptp(p) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(p, y)[0, 1])


def classes(values: Float[np.ndarray, "*rows"], edge: float) -> Float[np.ndarray, "*rows"]:
    """The whole number that each value rounds to, after clipping to ±edge."""
    return np.rint(np.clip(values, -edge, edge))


def same_class(p: np.ndarray, y: np.ndarray, edge: float) -> np.ndarray:
    return classes(p, edge) == classes(y, edge)


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


# ---- the metrics


def rounded(k: int) -> Metric:
    """Acc-k as MISA, MulT and MMSA count it."""
    edge = (k - 1) / 2
    return Metric(
        heading=f"Acc-{k}",
        convention=f"equal after clipping to ±{edge:g} and rounding",
        better="higher",
        each=partial(same_class, edge=edge),
        percent=True,
        reach=edge,
    )


METRICS: dict[str, Metric] = {
    "mae": Metric(heading="MAE", convention="mean absolute error over all segments", better="lower", each=absolute),
    "corr": Metric(
        heading="Corr", convention="Pearson correlation over all segments", better="higher", whole=pearson, sums=CORRELATION
    ),
    "acc7": rounded(7),
    "acc5": rounded(5),
    # With labels −1, 0, 1 (YouTube), the accuracy of the three classes. Elsewhere "three classes" may mean other things: MMSA cuts
    # CH-SIMS at ±0.1, and its classification knows the sign alone.
    "acc3": rounded(3),
    "f1_3": Metric(
        heading="F1 (3)",
        convention="weighted F1 of the three classes of acc3",
        better="higher",
        **f1_of(partial(classes, edge=1)),
        percent=True,
        reach=1,
    ),
    # MFN, LMF, TFN.
    "acc7_unclipped": Metric(
        heading="Acc-7 (unclipped)",
        convention="equal after rounding without clipping",
        better="higher",
        each=partial(same_class, edge=np.inf),
        percent=True,
        reach=3,
    ),
    # With labels 0 and 1, the next two are the accuracy and the F1.
    "acc2_nonneg": Metric(
        heading="Acc-2 (nonneg)",
        convention="≥ 0 against < 0, zeros kept",
        better="higher",
        each=same_sign,
        percent=True,
        signed=True,
    ),
    "f1_nonneg": Metric(
        heading="F1 (nonneg)",
        convention="weighted F1 of ≥ 0 against < 0, zeros kept",
        better="higher",
        **f1_of(lambda values: values >= 0),
        percent=True,
        signed=True,
    ),
    "acc2_pos": Metric(
        heading="Acc-2 (pos)",
        convention="> 0 against < 0, segments with a zero label left out",
        better="higher",
        each=same_strict_sign,
        keeps=lambda y: y != 0,
        percent=True,
        signed=True,
    ),
    "f1_pos": Metric(
        heading="F1 (pos)",
        convention="weighted F1 of > 0 against < 0, segments with a zero label left out",
        better="higher",
        **f1_of(lambda values: values > 0),
        keeps=lambda y: y != 0,
        percent=True,
        signed=True,
    ),
    "mse": Metric(heading="MSE", convention="mean squared error over all segments", better="lower", each=squared),
    "rmse": Metric(
        heading="RMSE",
        convention="square root of the mean squared error",
        better="lower",
        whole=root_mean_square,
        sums=ROOT_OF_MEAN,
    ),
    "accuracy": Metric(
        heading="Accuracy",
        convention="the largest prediction is that of the one class in the label",
        better="higher",
        each=same_largest,
        whole=class_accuracy,
        sums=mean_of(lambda p, y: same_largest(p, y) if name_one_class(y) else np.full(p.shape[:-1], np.nan)),
        percent=True,
        joint=True,
    ),
}
"""Name → metric, in the order in which they are reported."""


def metric_of(name: str) -> Metric:
    """A metric by its name, with or without the target that it is of, as in ``happy/f1_nonneg``.

    Raises ValueError if there is no such metric.
    """
    plain = name.rpartition("/")[2]
    if plain not in METRICS:
        raise ValueError(f"A metric is one of {', '.join(METRICS)}, but {name} came; correct its name.")
    return METRICS[plain]


def heading(name: str) -> str:
    """``acc2_pos`` → Acc-2 (pos), ``happy/f1_nonneg`` → happy F1 (nonneg).

    Raises ValueError if there is no such metric.
    """
    target = name.rpartition("/")[0].replace("_", " ")
    return f"{target} {metric_of(name).heading}".strip()


# ---- of a fold


def evaluate(
    prediction: Float[np.ndarray, "n targets"],
    label: Float[np.ndarray, "n targets"],
    label_range: tuple[float, float],
    targets: Sequence[str],
) -> dict[str, float]:
    """Metrics of every target; with several targets, keys ``<target>/<metric>``, the plain key for their mean, and joint metrics.

    Raises ValueError on shapes that differ, on no rows, and on values that are not finite.
    """
    if prediction.shape != label.shape or prediction.ndim != 2 or prediction.shape[1] != len(targets):
        raise ValueError(
            f"Metrics need predictions and labels of one shape [segments, {len(targets)} targets], but {list(prediction.shape)} "
            f"and {list(label.shape)} came; check the model's head."
        )
    if len(label) == 0:
        raise ValueError("Metrics need at least one segment, but none came; check the fold.")
    if not (np.isfinite(prediction).all() and np.isfinite(label).all()):
        raise ValueError(
            f"Metrics need finite values, but {int((~np.isfinite(prediction)).sum())} predictions and "
            f"{int((~np.isfinite(label)).sum())} labels are not; the model has diverged or the labels are damaged."
        )
    each = {t: evaluate_target(prediction[:, i], label[:, i], label_range) for i, t in enumerate(targets)}
    if len(targets) == 1:
        return each[targets[0]]
    names = each[targets[0]]
    mean = {name: float(np.mean([values[name] for values in each.values()])) for name in names}
    low, high = label_range
    joint = {n: metric.value(prediction, (label - low) / (high - low)) for n, metric in METRICS.items() if metric.joint}
    return mean | joint | {f"{target}/{name}": value for target, values in each.items() for name, value in values.items()}


def evaluate_target(
    prediction: Float[np.ndarray, " n"], label: Float[np.ndarray, " n"], label_range: tuple[float, float]
) -> dict[str, float]:
    """Metrics of one target, as far as its labels reach."""
    low, high = label_range
    middle, half = (low + high) / 2, (high - low) / 2
    p, y = prediction.astype(np.float64) - middle, label.astype(np.float64) - middle
    return {name: metric.value(p, y) for name, metric in METRICS.items() if not metric.joint and metric.reach <= half}
