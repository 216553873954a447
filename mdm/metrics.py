"""Evaluation: whole arrays of predictions and labels → named numbers.

Each key names its convention, because published code disagrees on every one of them: zeros counted or not, clipped
before rounding or not, which F1. Rounding is half to even everywhere (``np.rint``). Labels are centred on the middle of their
declared range first, so that "non-negative" means the same for [-3, 3] and for [1, 5].
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

CLASSES = (7, 5, 3)
"""k of Acc-k; reported where the label range reaches (k − 1)/2 on both sides of its middle."""


def evaluate(
    prediction: Float[np.ndarray, "n targets"],
    label: Float[np.ndarray, "n targets"],
    label_range: tuple[float, float],
    targets: tuple[str, ...],
) -> dict[str, float]:
    """Metrics of every target; with several targets, keys ``<target>/<metric>``, the plain key for their mean, and `accuracy`.

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
    mean["accuracy"] = accuracy(prediction, label, label_range)
    return mean | {f"{target}/{name}": value for target, values in each.items() for name, value in values.items()}


def accuracy(
    prediction: Float[np.ndarray, "n targets"], label: Float[np.ndarray, "n targets"], label_range: tuple[float, float]
) -> float:
    """Share of segments whose largest prediction is that of the class in the label; of equal ones the first is the largest.

    The targets are classes where each label is one-hot: one target at the high end of the range, the others at its low end. NaN
    elsewhere, as for emotions of which none or several may be there: which is the largest means nothing then.
    """
    low, high = label_range
    one_hot = ((label == high).sum(1) == 1) & ((label == low).sum(1) == label.shape[1] - 1)
    return float((prediction.argmax(1) == label.argmax(1)).mean()) if one_hot.all() else float("nan")


def evaluate_target(
    prediction: Float[np.ndarray, " n"], label: Float[np.ndarray, " n"], label_range: tuple[float, float]
) -> dict[str, float]:
    """Metrics of one target.

    mae, corr: mean absolute error and Pearson correlation over all segments; corr is NaN for a constant prediction
    acc7, acc5, acc3: equal after clipping to ±3, ±2, ±1 around the middle and rounding (MISA, MulT, MMSA). With labels −1, 0, 1
        (YouTube) acc3 is the accuracy of the three classes. Elsewhere "three classes" may mean other things: MMSA cuts CH-SIMS
        at ±0.1, and its classification knows the sign alone
    f1_3: weighted F1 of those three classes
    acc7_unclipped: acc7 without clipping (MFN, LMF, TFN)
    acc2_nonneg, f1_nonneg: ≥ 0 against < 0, zeros kept; weighted F1. With labels 0 and 1 these are the accuracy and F1
    acc2_pos, f1_pos: > 0 against < 0, segments with a zero label left out; NaN if none remain
    """
    low, high = label_range
    middle, half = (low + high) / 2, (high - low) / 2
    p, y = prediction.astype(np.float64) - middle, label.astype(np.float64) - middle
    metrics = {"mae": float(np.abs(p - y).mean()), "corr": pearson(p, y)}
    for k in CLASSES:
        edge = (k - 1) / 2
        if edge <= half:
            metrics[f"acc{k}"] = float((classes(p, edge) == classes(y, edge)).mean())
    if half >= 1:
        metrics["f1_3"] = weighted_f1(classes(p, 1), classes(y, 1))
    if half >= 3:
        metrics["acc7_unclipped"] = float((np.rint(p) == np.rint(y)).mean())
    metrics["acc2_nonneg"] = float(((p >= 0) == (y >= 0)).mean())
    metrics["f1_nonneg"] = weighted_f1(p >= 0, y >= 0)
    signed = y != 0
    metrics["acc2_pos"] = float(((p > 0) == (y > 0))[signed].mean()) if signed.any() else float("nan")
    metrics["f1_pos"] = weighted_f1(p[signed] > 0, y[signed] > 0) if signed.any() else float("nan")
    return metrics


def classes(values: Float[np.ndarray, " n"], edge: float) -> Float[np.ndarray, " n"]:
    """The whole number that each value rounds to, after clipping to ±edge."""
    return np.rint(np.clip(values, -edge, edge))


def pearson(p: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> float:
    """Pearson correlation; NaN where one side is constant, which is no correlation of 0."""
    if np.ptp(p) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(p, y)[0, 1])


def weighted_f1(predicted: np.ndarray, actual: np.ndarray) -> float:
    """F1 of each class weighted by how often it occurs among the *labels* (MISA and MulT swap the two arguments)."""
    total = 0.0
    for one in np.unique(actual):
        hits = int(((predicted == one) & (actual == one)).sum())
        either = int((predicted == one).sum() + (actual == one).sum())
        total += (actual == one).mean() * (2 * hits / either)
    return float(total)
