"""Many comparisons of one table → p-values that hold for all of them at once, and what numbers of runs could give at best."""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from mdm.statistics.permutation import EXACT_FLIPS, FLIP_DRAWS

Test = Literal["sign_flip", "wilcoxon", "mann_whitney"]


def holm(p: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Holm's adjusted p-values: max over j ≤ i of (k − j + 1) p_(j), at most 1.

    Raises ValueError on a p outside [0, 1].

    >>> holm(np.array([0.01, 0.04, 0.03])).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"Holm's procedure takes p-values between 0 and 1, got {p.tolist()}; correct the tests.")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(np.arange(len(p), 0, -1) * p[order]), 1)
    return adjusted


def smallest_p(test: Test, n: int, zeros: int = 0) -> float:
    """The smallest two-sided p of n pairs, ``zeros`` of which do not differ and have no sign: 2/2ⁿ⁻ᶻ, 1 if all are zeros; of
    Mann–Whitney 2/C(2n, n), which knows no pairs; 1/(1 + draws) where sign patterns are drawn.

    Raises ValueError on another test, and unless n ≥ 1 and 0 ≤ zeros ≤ n.
    """
    if test not in get_args(Test) or n < 1 or not 0 <= zeros <= n:
        raise ValueError(
            f"A smallest p is that of {', '.join(get_args(Test))} for n ≥ 1, got test={test!r}, n={n} and zeros={zeros}; "
            "correct them."
        )
    if test == "sign_flip" and n > EXACT_FLIPS:
        return 1 / (1 + FLIP_DRAWS)
    return 2 / math.comb(2 * n, n) if test == "mann_whitney" else min(2 / 2 ** (n - zeros), 1.0)


def largest_family(test: Test, n: int, alpha: float = 0.05) -> int:
    """The most comparisons of n pairs among which Holm's procedure could reject one: k·(smallest p) < alpha.

    Raises ValueError on another test, and unless n ≥ 1.
    """
    return max(math.ceil(alpha / smallest_p(test, n)) - 1, 0)
