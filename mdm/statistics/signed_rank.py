"""Wilcoxon's signed ranks of paired runs: exact whatever the ties and zeros, with the shift they speak of and its interval.

It is about *this* test set: p is small where the runs agree, which does not mean that another test set would (`crossed`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from mdm.statistics.permutation import bound_rounding, check_values, double_midranks, subtract_pairs

Zeros = Literal["pratt", "split"]


@dataclass(frozen=True)
class SignedRank:
    """Paired runs, system − baseline.

    n, zeros: pairs, and those among them that do not differ
    p: two-sided
    smallest_p: of as many pairs and zeros, all other differences on one side; with Pratt's zeros 2/2^(n − zeros)
    shift: Hodges and Lehmann's, the median of all (d_i + d_j)/2, i ≤ j
    interval, level: the shifts that the test does not reject, and how surely they cover if the differences lie symmetrically about
        one. Infinite where n is so small that the test rejects none at that level
    rank_biserial: (W⁺ − W⁻)/(n(n + 1)/2), from −1, all below 0, to 1, all above; zeros count for neither

    >>> found = signed_rank(np.array([5.0, 7, 6, 9, 8, 9]), np.array([4.0, 5, 6, 5, 5, 4]))
    >>> found.p, found.smallest_p, found.zeros, found.shift
    (0.0625, 0.0625, 1, 2.5)
    """

    n: int
    zeros: int
    p: float
    smallest_p: float
    shift: float
    interval: tuple[float, float]
    level: float
    rank_biserial: float


def signed_rank(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], *, zeros: Zeros = "pratt", level: float = 0.95
) -> SignedRank:
    """All that signed ranks say of x − y.

    Raises ValueError on arrays that are no pairs, on values that are not finite, on another way with zeros, and unless
    0 < level < 1.
    """
    check_values("signed_rank", x, y, paired=True)
    if not (np.isfinite(x).all() and np.isfinite(y).all()) or not 0 < level < 1:
        raise ValueError(
            f"Expected finite values and a level between 0 and 1, got {int((~(np.isfinite(x) & np.isfinite(y))).sum())} pairs with "
            f"an infinite value and level={level}; a run that diverged has no shift: give the other pairs, or use wilcoxon."
        )
    signs, ranks = sign_and_rank(x, y)
    averages = walsh_averages(x - y)
    low, high, reached = invert(averages, len(x), level)
    return SignedRank(
        n=len(x),
        zeros=int((signs == 0).sum()),
        p=compute_tail(signs, ranks, zeros),
        smallest_p=compute_tail(np.abs(signs), ranks, zeros),
        shift=float(np.median(averages)),
        interval=(low, high),
        level=reached,
        rank_biserial=int((signs * ranks).sum()) / (len(x) * (len(x) + 1)),  # the ranks are doubled
    )


def wilcoxon(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], *, zeros: Zeros = "pratt") -> float:
    """p of paired differences d: the part of all patterns of signs with |Σ ±r_i| ≥ |Σ sign(d_i) r_i|.

    r are midranks of |d|, zeros among them. Left out before they are ranked, as Wilcoxon had it, one more of them can make p
    smaller.

    pratt: a zero has no sign in any pattern (Pratt 1959)
    split: it has one in every pattern, and gave half of its rank to each side; p may be larger or smaller

    Raises ValueError on arrays that are no pairs, on NaN, and on another way with zeros.
    """
    check_values("wilcoxon", x, y, paired=True)
    return compute_tail(*sign_and_rank(x, y), zeros)


def sign_and_rank(x: np.ndarray, y: np.ndarray) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Signs of x − y, and doubled midranks of |x − y|. What rounding alone keeps apart is equal."""
    d, tolerance = subtract_pairs(x, y), bound_rounding(x, y)
    return np.where(np.abs(d) > tolerance, np.sign(d), 0.0).astype(int), double_midranks(np.abs(d), tolerance)


def compute_tail(signs: Int[np.ndarray, " n"], ranks: Int[np.ndarray, " n"], zeros: Zeros) -> float:
    """The part of all patterns of signs whose |Σ ±r| is as large as that of these."""
    if zeros not in get_args(Zeros):
        raise ValueError(f"Expected zeros to be one of {', '.join(get_args(Zeros))}, got {zeros!r}; use 'pratt'.")
    law = count_positive_ranks(ranks if zeros == "split" else ranks[signs != 0])
    total, observed = len(law) - 1, abs(int((signs * ranks).sum()))
    return float(law[np.abs(2 * np.arange(total + 1) - total) >= observed].sum())


def count_positive_ranks(ranks: Int[np.ndarray, " n"]) -> Float[np.ndarray, " sums"]:
    """Probability of each sum of the ranks with a positive sign, 0, 1, …, Σr, where every pattern of signs is as likely.

    Halves of halves, so every digit is right up to n = 50.
    """
    law = np.zeros(int(ranks.sum()) + 1)
    law[0] = 1
    for rank in ranks:
        law[rank:] += law[:-rank]
        law /= 2
    return law


def walsh_averages(d: Float[np.ndarray, " n"]) -> Float[np.ndarray, " pairs"]:
    """(d_i + d_j)/2 for all i ≤ j, sorted."""
    first, second = np.triu_indices(len(d))
    return np.sort((d[first] + d[second]) / 2)


def invert(averages: Float[np.ndarray, " pairs"], n: int, level: float) -> tuple[float, float, float]:
    """The interval of shifts that the test of n pairs does not reject at 1 − level, and the level that it reaches.

    W⁺ of d − θ is the number of Walsh averages above θ (Tukey 1949). With k the most values 0, …, k − 1 of W⁺ that have together
    no more than (1 − level)/2, θ is rejected below the k-th smallest average and above the k-th largest.
    """
    below = count_positive_ranks(np.arange(1, n + 1)).cumsum()
    k = int(np.searchsorted(below, (1 - level) / 2, side="right"))
    if k == 0:
        return -math.inf, math.inf, 1.0
    return float(averages[k - 1]), float(averages[-k]), float(1 - 2 * below[k - 1])
