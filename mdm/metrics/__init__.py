"""Evaluation: whole arrays of predictions and labels → named numbers.

A metric is one entry of `METRICS`, and the entry is all that anything knows of it: what it is called, which way is better, and
what each segment contributes. A metric that is added there is measured in every run, can choose checkpoints and points of a
search, and can be a column of a table. A package of your own adds one without an edit here:

    [project.entry-points."mdm.metrics"]
    worst = "magpie.metrics:WORST"

Each name says its convention, because published code disagrees on every one of them: zeros counted or not, clipped before rounding
or not, which F1. Rounding is half to even everywhere (``np.rint``). Labels and predictions are centred on the middle of the
labels' declared range first, so that "non-negative" means the same for [-3, 3] and for [1, 5].
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from importlib.metadata import entry_points

import numpy as np
from jaxtyping import Float

from mdm.metrics.base import Metric
from mdm.metrics.functions import (
    ROOT_OF_MEAN,
    absolute_error,
    class_accuracy,
    f1_of,
    name_one_class,
    pearson,
    root_mean_square,
    round_to_class,
    same_class,
    same_largest,
    same_sign,
    same_strict_sign,
    squared_error,
)
from mdm.metrics.sums import CORRELATION, mean_of

GROUP = "mdm.metrics"
"""Of entry points."""


def build_rounded(k: int) -> Metric:
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
    "mae": Metric(heading="MAE", convention="mean absolute error over all segments", better="lower", each=absolute_error),
    "corr": Metric(
        heading="Corr", convention="Pearson correlation over all segments", better="higher", whole=pearson, sums=CORRELATION
    ),
    "acc7": build_rounded(7),
    "acc5": build_rounded(5),
    # With labels −1, 0, 1 (YouTube), the accuracy of the three classes. Elsewhere "three classes" may mean other things: MMSA cuts
    # CH-SIMS at ±0.1, and its classification knows the sign alone.
    "acc3": build_rounded(3),
    "f1_3": Metric(
        heading="F1 (3)",
        convention="weighted F1 of the three classes of acc3",
        better="higher",
        **f1_of(partial(round_to_class, edge=1)),
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
    "mse": Metric(heading="MSE", convention="mean squared error over all segments", better="lower", each=squared_error),
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


def list_metrics() -> dict[str, Metric]:
    """Those above, and those that installed packages declare as entry points of the group ``mdm.metrics``."""
    return METRICS | find_declared_metrics()


@cache
def find_declared_metrics() -> dict[str, Metric]:
    """The metrics of other packages, by the names of their entry points.

    Raises ValueError if one has the name of another, cannot be imported, or is no `Metric`.
    """
    found: dict[str, Metric] = {}
    for point in entry_points(group=GROUP):
        try:
            metric = point.load()
        except (ImportError, AttributeError) as error:
            raise ValueError(
                f"{point.name} is an entry point of {GROUP}, but {point.value} cannot be imported ({error}); "
                "mend or remove its package."
            ) from error
        if not isinstance(metric, Metric) or point.name in METRICS or point.name in found or "/" in point.name:
            raise ValueError(
                f"An entry point of {GROUP} is a Metric with a name of its own, but {point.name} = {point.value} is not; mend or "
                "remove its package."
            )
        found[point.name] = metric
    return found


def find_metric(name: str) -> Metric:
    """A metric by its name, with or without the target that it is of, as in ``happy/f1_nonneg``.

    Raises ValueError if there is no such metric.
    """
    plain, known = name.rpartition("/")[2], list_metrics()
    if plain not in known:
        raise ValueError(f"A metric is one of {', '.join(known)}, got {name}; correct its name.")
    return known[plain]


def pick_best(values: Sequence[float], metric: str) -> int:
    """Index of the best value of a metric; ties go to the earlier one, and NaN is worse than any number.

    Compared in single precision, so that differences in the last bit of a mean decide nothing.

    >>> pick_best([0.9, float("nan"), 0.7, 0.7], "mae")
    2
    """
    sign = 1 if find_metric(metric).lower_is_better else -1
    rounded = [np.float32(value) for value in values]
    return min(range(len(rounded)), key=lambda i: (bool(np.isnan(rounded[i])), sign * rounded[i]))


def format_heading(name: str) -> str:
    """``acc2_pos`` → Acc-2 (pos), ``happy/f1_nonneg`` → happy F1 (nonneg).

    Raises ValueError if there is no such metric.
    """
    target = name.rpartition("/")[0].replace("_", " ")
    return f"{target} {find_metric(name).heading}".strip()


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
            f"Metrics need predictions and labels of one shape [segments, {len(targets)} targets], got {list(prediction.shape)} "
            f"and {list(label.shape)}; check the model's head."
        )
    if len(label) == 0:
        raise ValueError("Metrics need at least one segment, got none; check the fold.")
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
    joint = {n: metric.value(prediction, (label - low) / (high - low)) for n, metric in list_metrics().items() if metric.joint}
    return mean | joint | {f"{target}/{name}": value for target, values in each.items() for name, value in values.items()}


def evaluate_target(
    prediction: Float[np.ndarray, " n"], label: Float[np.ndarray, " n"], label_range: tuple[float, float]
) -> dict[str, float]:
    """Metrics of one target, as far as its labels reach."""
    low, high = label_range
    middle, half = (low + high) / 2, (high - low) / 2
    p, y = prediction.astype(np.float64) - middle, label.astype(np.float64) - middle
    return {name: metric.value(p, y) for name, metric in list_metrics().items() if not metric.joint and metric.reach <= half}
