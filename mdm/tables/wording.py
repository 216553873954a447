"""How numbers, columns and data sets are called in a table, in any format."""

from __future__ import annotations

import math

DATASETS = {
    "mosi": "CMU-MOSI",
    "mosei": "CMU-MOSEI",
    "ict_mmmo": "ICT-MMMO",
    "youtube": "YouTube",
    "pom": "POM",
    "iemocap": "IEMOCAP",
    "ur_funny": "UR-FUNNY",
    "svhn_mnist": "SVHN–MNIST",
}

CONVENTIONS = {
    "mae": "mean absolute error over all segments",
    "corr": "Pearson correlation over all segments",
    "acc7": "equal after clipping to ±3 and rounding",
    "acc5": "equal after clipping to ±2 and rounding",
    "acc3": "equal after clipping to ±1 and rounding",
    "acc7_unclipped": "equal after rounding without clipping",
    "acc2_nonneg": "≥ 0 against < 0, zeros kept",
    "acc2_pos": "> 0 against < 0, segments with a zero label left out",
    "f1_nonneg": "weighted F1 of ≥ 0 against < 0, zeros kept",
    "f1_pos": "weighted F1 of > 0 against < 0, segments with a zero label left out",
    "f1_3": "weighted F1 of the three classes of acc3",
    "accuracy": "the largest prediction is that of the one class in the label",
}
"""Of `mdm.metrics`, in a line; 0 is the middle of the labels' range."""


def base(metric: str) -> str:
    """A metric without its target."""
    return metric.rpartition("/")[2]


def is_percent(metric: str) -> bool:
    """Whether it is shown in percent, as the papers print accuracies and F1."""
    return base(metric).startswith(("acc", "f1"))


def lower_is_better(metric: str) -> bool:
    return base(metric) == "mae"


def heading(metric: str) -> str:
    """``acc2_pos`` → Acc-2 (pos), ``happy/f1_nonneg`` → happy F1 (nonneg)."""
    target, _, name = metric.rpartition("/")
    first, _, how = name.partition("_")
    if first.startswith("acc") and first != "accuracy":
        first = f"Acc-{first[3:]}" if first[3:] else "Acc"
    else:
        first = {"mae": "MAE", "corr": "Corr", "f1": "F1", "accuracy": "Accuracy"}.get(first, first)
    return f"{target.replace('_', ' ')} {first}".strip() + (f" ({how.replace('_', ' ')})" if how else "")


def number(value: float, decimals: int) -> str:
    """A dash where there is none; no sign before a zero."""
    if math.isnan(value):
        return "–"
    text = f"{abs(value):.{decimals}f}"
    return f"−{text}" if value < 0 and float(text) else text


def signed(value: float, decimals: int) -> str:
    text = number(value, decimals)
    return text if text[0] in "–−" or not float(text) else f"+{text}"


def interval(pair: tuple[float, float], decimals: int) -> str:
    return "–" if math.isnan(pair[0]) else f"[{signed(pair[0], decimals)}, {signed(pair[1], decimals)}]"


def chance(p: float) -> str:
    """A p: three decimals, or two digits of what is smaller."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"


def listed(names: list[str]) -> str:
    """a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
