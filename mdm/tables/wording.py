"""Numbers and names as a table writes them, the same in every format."""

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


def format_number(value: float, decimals: int) -> str:
    """A number with a fixed count of decimals: a dash for NaN, no sign before a zero.

    >>> format_number(-0.5, 2), format_number(-0.001, 2), format_number(math.nan, 2)
    ('−0.50', '0.00', '–')
    """
    if math.isnan(value):
        return "–"
    text = f"{abs(value):.{decimals}f}"
    return f"−{text}" if value < 0 and float(text) else text


def format_signed(value: float, decimals: int) -> str:
    text = format_number(value, decimals)
    return text if text[0] in "–−" or not float(text) else f"+{text}"


def format_interval(pair: tuple[float, float], decimals: int) -> str:
    return "–" if math.isnan(pair[0]) else f"[{format_bound(pair[0], decimals)}, {format_bound(pair[1], decimals)}]"


def format_bound(value: float, decimals: int) -> str:
    """An end of an interval, which may be infinite."""
    return format_signed(value, decimals) if math.isfinite(value) else "−∞" if value < 0 else "+∞"


def format_shares(shares: tuple[float, float, float]) -> str:
    """Runs/videos/both in whole percent that add up to 100: the largest takes what rounding leaves. A dash for NaN."""
    if math.isnan(shares[0]):
        return "–"
    whole = [round(100 * share) for share in shares]
    whole[shares.index(max(shares))] += 100 - sum(whole)
    return "/".join(map(str, whole))


def format_p(p: float) -> str:
    """A p with three decimals, or with two digits below .001; a dash for NaN.

    >>> format_p(0.0321), format_p(0.00004)
    ('0.032', '4.0e-05')
    """
    if math.isnan(p):
        return "–"
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"


def join_names(names: list[str]) -> str:
    """a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def format_runs(n: int) -> str:
    """``1 run``, ``3 runs``."""
    return f"{n} run{'s' if n > 1 else ''}"
