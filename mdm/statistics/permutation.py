"""Exact tests, whatever the ties: what would the statistic have been, had signs or labels fallen otherwise?

Libraries go over to normal approximations at n = 10 or where values tie, and then call significant at n = 5 what cannot be.
All p are two-sided. ±inf counts as a value beyond all others; NaN is refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

EXACT_FLIPS = 40
"""Pairs up to which all 2ⁿ patterns of signs are counted: two halves of 2²⁰ sums, a quarter of a second."""
FLIP_DRAWS = 99_999
"""Patterns drawn beyond it: p is then a multiple of 1/100,000."""
MOST_RANKED = 200
"""Values in a Mann–Whitney test: counts up to C(200, 100) ≈ 10⁵⁹ in floating point, a second."""
EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class SignFlip:
    """p, and how it was found: ``exact``, or ``Monte Carlo, <n> draws``."""

    p: float
    how: str


def sign_flip(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], generator: np.random.Generator | None = None) -> SignFlip:
    """Permutation test of the mean of paired differences d: the part of all 2ⁿ patterns of signs with |Σ ±d_i| ≥ |Σ d_i|.

    Exact for n ≤ 40: the sums of one half are sorted, and for each of the other it is counted how many reach. Beyond, patterns are
    drawn, and p = (1 + hits)/(1 + draws). An infinite difference stands for any number above the sum of the finite ones: all of
    them order the patterns in the same way.

    Raises ValueError on arrays that are no pairs, on NaN, and beyond 40 pairs without a generator.

    >>> sign_flip(np.array([1.0, 2.0, 3.0]), np.zeros(3)).p  # 2 of the 8 patterns of signs
    0.25
    """
    check_values("sign_flip", x, y, paired=True)
    n, d = len(x), subtract_pairs(x, y)
    finite = np.isfinite(d)
    d[~finite] = np.sign(d[~finite]) * (2 * np.abs(d[finite]).sum() or 1.0)
    # With m the largest value, a difference is off by 2εm, a sum of n by n of those and by n²εm of its own: 4n²εm covers the two
    # sums that are compared. Different accuracies differ by 1/segments; what differs by less than this counts as equal, so p is
    # never too small.
    largest = max(find_largest_finite(x, y), float(np.abs(d).max()))
    observed = abs(float(d.sum())) - 4 * n**2 * EPSILON * largest
    if observed <= 0:
        return SignFlip(1.0, "exact")
    if n <= EXACT_FLIPS:
        left, right = sum_signed(d[: n // 2]), sum_signed(d[n // 2 :])
        hits = int((len(right) - np.searchsorted(right, observed - left)).sum())
        return SignFlip(2 * hits / 2**n, "exact")  # twice, for the law of Σ ±d_i is symmetric
    if generator is None:
        raise ValueError(
            f"The sign-flip test is exact up to {EXACT_FLIPS} pairs and draws patterns beyond, got {n} pairs without a "
            "generator; give one, or use fewer seeds."
        )
    hits, done = 0, 0
    while done < FLIP_DRAWS:
        draws = min(4096, FLIP_DRAWS - done)
        sums = (2.0 * generator.integers(0, 2, (draws, n), dtype=np.int8) - 1.0) @ d
        hits, done = hits + int((np.abs(sums) >= observed).sum()), done + draws
    return SignFlip((1 + hits) / (1 + FLIP_DRAWS), f"Monte Carlo, {FLIP_DRAWS} draws")


def mann_whitney(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " m"]) -> float:
    """The Wilcoxon–Mann–Whitney test: P(|U − nm/2| ≥ |u − nm/2|) over all ways of choosing n of the n + m midranks.

    Not paired. With ties and n ≠ m the law of U is not symmetric, and this is not twice its smaller tail.

    Raises ValueError on no values, on NaN, and on more than 200 values.
    """
    check_values("mann_whitney", x, y)
    if len(x) + len(y) > MOST_RANKED:
        raise ValueError(
            f"The exact Mann–Whitney test takes up to {MOST_RANKED} values, got {len(x)} and {len(y)}; use fewer seeds."
        )
    n, ranks = len(x), double_midranks(np.concatenate([x, y]), bound_rounding(x, y))
    counts = np.zeros((n + 1, int(ranks.sum()) + 1))  # [j, s]: ways of choosing j ranks with sum s; every digit right up to 2⁵³
    counts[0, 0] = 1
    for rank in ranks:
        counts[1:, rank:] += counts[:-1, :-rank]
    middle = n * (len(ranks) + 1)  # mean of the doubled rank sum
    extreme = np.abs(np.arange(counts.shape[1]) - middle) >= abs(int(ranks[:n].sum()) - middle)
    return float(counts[n, extreme].sum() / math.comb(len(ranks), n))


def a12(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " m"]) -> float:
    """P(X > Y) + ½P(X = Y) in the samples, U/(nm) (Vargha and Delaney 2000). Cliff's δ is 2·A12 − 1.

    Raises ValueError on no values, and on NaN.

    >>> a12(np.array([1.0, 2.0]), np.array([0.0, 1.0]))
    0.875
    """
    check_values("a12", x, y)
    n, ranks = len(x), double_midranks(np.concatenate([x, y]), bound_rounding(x, y))
    return (int(ranks[:n].sum()) - n * (n + 1)) / (2 * n * len(y))


# ---- shared


def check_values(what: str, x: np.ndarray, y: np.ndarray, *, paired: bool = False) -> None:
    """Raise ValueError unless ``what`` can be made of two sides' values."""
    if x.ndim != 1 or y.ndim != 1 or not len(x) or not len(y) or (paired and len(x) != len(y)):
        raise ValueError(
            f"{what} takes a value a run, one run at least{' and the same seeds' if paired else ''} on both sides, got shapes "
            f"{list(x.shape)} and {list(y.shape)}; give {'the seeds that both have' if paired else 'each side its runs'}."
        )
    if np.isnan(x).any() or np.isnan(y).any():
        raise ValueError(f"{what} has no place for NaN; give finite values, or use compare, to which NaN is the worst of all.")


def subtract_pairs(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """x − y, where equal infinities differ by 0."""
    return np.subtract(x, y, out=np.zeros(len(x)), where=x != y)


def find_largest_finite(x: np.ndarray, y: np.ndarray) -> float:
    values = np.abs(np.concatenate([x, y]))
    return float(values[np.isfinite(values)].max(initial=0.0))


def bound_rounding(x: np.ndarray, y: np.ndarray) -> float:
    """What two equal values or differences may be apart: 16ε of the largest value.

    Left to themselves .8 − .7 and .7 − .6 are 2⁻⁵³ apart and no tie. A difference is off by up to 2ε, and a metric that is a mean
    of several by a few more; accuracies that differ in truth are 1/segments apart.
    """
    return 16 * EPSILON * find_largest_finite(x, y)


def double_midranks(values: Float[np.ndarray, " n"], tolerance: float) -> Int[np.ndarray, " n"]:
    """Twice the ranks from 1, whole numbers. Neighbours no further apart than the tolerance are equal and share their mean rank."""
    order = np.argsort(values, kind="stable")
    group = np.concatenate([[0], np.cumsum(subtract_pairs(values[order][1:], values[order][:-1]) > tolerance)])
    last = np.cumsum(np.bincount(group))  # of each group, from 1
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[order] = (last + np.concatenate([[0], last[:-1]]) + 1)[group]
    return ranks


def sum_signed(d: Float[np.ndarray, " n"]) -> Float[np.ndarray, " patterns"]:
    """Σ ±d_i for all 2ⁿ patterns, sorted."""
    sums = np.zeros(1)
    for value in d:
        sums = np.concatenate([sums - value, sums + value])
    return np.sort(sums)
