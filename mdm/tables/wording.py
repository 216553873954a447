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
