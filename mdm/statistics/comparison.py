"""Values of paired runs → how far two systems differ, how sure that is, and what a table may star.

Colombo et al. (2021) underline cells by a Wilcoxon–Mann–Whitney test on ten runs, uncorrected over the 24 and 96 of a table; Han et
al. (2021) star by a paired t test on five. Here runs are paired by their seed, the test is exact (`permutation`), Holm's procedure
is over all that a table declares. All of them are about *this* test set: `crossed` is what speaks of others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from jaxtyping import Float

from mdm.statistics.families import Test, holm, smallest_p
from mdm.statistics.intervals import paired_t, t_interval
from mdm.statistics.permutation import a12, check_values, mann_whitney, sign_flip
from mdm.statistics.signed_rank import Zeros, compute_tail, sign_and_rank


@dataclass(frozen=True)
class Comparison:
    """A system's runs against a baseline's, paired by seed.

    n, zeros: pairs, and those among them that do not differ
    difference, interval: mean of system − baseline in the metric's units, and its 95 % t interval; NaN if any run diverged
    sign_flip, wilcoxon, mann_whitney, paired_t: two-sided p; that of the t test is NaN if any run diverged
    smallest_wilcoxon: of as many pairs and zeros, see `mdm.statistics.SignedRank`
    a12, cliffs_delta: P(better) + ½P(equal) of a run of each, and 2·A12 − 1; above .5 and 0 where the system is better

    >>> found = compare(np.array([0.0, 0.0]), np.array([1.0, 2.0]), lower_is_better=True)
    >>> found.difference, found.a12, found.cliffs_delta
    (-1.5, 1.0, 1.0)
    """

    n: int
    zeros: int
    difference: float
    interval: tuple[float, float]
    sign_flip: float
    wilcoxon: float
    mann_whitney: float
    paired_t: float
    smallest_wilcoxon: float
    a12: float
    cliffs_delta: float


@dataclass(frozen=True)
class Verdict:
    """p; p after Holm; whether a table may star the comparison; if not, why not.

    A star says that the two differ. The sign of the difference says in which direction.

    >>> judge([compare(np.zeros(5), np.arange(5.0) + 1, lower_is_better=True)])[0].reason
    'n=5 cannot reach .05 in a family of 1 (smallest p .0625)'
    """

    p: float
    adjusted: float
    star: bool
    reason: str


def compare(
    system: Float[np.ndarray, " n"],
    baseline: Float[np.ndarray, " n"],
    *,
    lower_is_better: bool,
    zeros: Zeros = "pratt",
    generator: np.random.Generator | None = None,
) -> Comparison:
    """Values of one metric; position i of both has the same seed, folds and order of data.

    A run that diverged, NaN or ±inf, counts as the worst value: to the rank tests and A12 it is the last, equal to others like it;
    to the sign-flip test it is a number worse than all others together. The mean has no such limit: it and its interval are NaN.

    zeros: what becomes of pairs that do not differ, in Wilcoxon's test
    generator: for the sign-flip test, which draws beyond 40 pairs

    Raises ValueError on no runs, on different numbers of them, beyond 40 pairs without a generator, and beyond 100 pairs.

    >>> x, y = np.array([1.0, 1.1, 1.2, 1.3, 1.4]), np.array([1.5, 1.7, 1.6, 1.9, 1.8])
    >>> found = compare(x, y, lower_is_better=True)
    >>> found.n, round(found.difference, 2), found.sign_flip
    (5, -0.5, 0.0625)
    """
    worst_first = [np.where(np.isfinite(v), -v if lower_is_better else v, -np.inf) for v in (system, baseline)]
    check_values("compare", *worst_first, paired=True)
    better, other = worst_first
    finite = bool(np.isfinite(system).all() and np.isfinite(baseline).all())
    effect = a12(better, other)
    signs, ranks = sign_and_rank(better, other)
    return Comparison(
        n=len(system),
        zeros=int((signs == 0).sum()),
        difference=float(np.mean(system - baseline)) if finite else math.nan,
        interval=t_interval(system, baseline) if finite else (math.nan, math.nan),
        sign_flip=sign_flip(better, other, generator).p,
        wilcoxon=compute_tail(signs, ranks, zeros),
        mann_whitney=mann_whitney(better, other),
        paired_t=paired_t(system, baseline) if finite else math.nan,
        smallest_wilcoxon=compute_tail(np.abs(signs), ranks, zeros),
        a12=effect,
        cliffs_delta=2 * effect - 1,
    )


def judge(comparisons: Sequence[Comparison], *, test: Test = "sign_flip", alpha: float = 0.05) -> list[Verdict]:
    """Stars for one family: all comparisons that a table declares.

    A star needs Holm's p < alpha. Some families cannot have one: with few runs, or many pairs that do not differ, even the smallest
    possible p's stay above alpha after Holm's correction. Such a comparison says so.

    Raises ValueError on another test, and unless 0 < alpha < 1.
    """
    if test not in get_args(Test) or not 0 < alpha < 1:
        raise ValueError(
            f"Stars are given by one of {', '.join(get_args(Test))} at a level between 0 and 1, got test={test!r} and "
            f"alpha={alpha}; use test='sign_flip' and alpha=0.05."
        )
    p = np.array([getattr(c, test) for c in comparisons], dtype=np.float64)
    least = np.array([find_smallest(test, c) for c in comparisons], dtype=np.float64)
    return judge_family(p, least, [(c.n, c.zeros if test != "mann_whitney" else 0) for c in comparisons], alpha)


def judge_family(
    p: Float[np.ndarray, " k"], least: Float[np.ndarray, " k"], pairs: Sequence[tuple[int, int]], alpha: float = 0.05
) -> list[Verdict]:
    """`judge` of the p's of any test.

    least: the smallest p that each comparison could have had, 0 where no limit is known
    pairs: of each comparison, and those among them whose differences are zeros and make that p larger

    Raises ValueError on a p outside [0, 1].
    """
    # Holm's p grows with every p of the family, so with the smallest of all it is the least that it can be.
    verdicts = []
    for (n, zeros), own, adjusted, smallest, reachable in zip(pairs, p, holm(p), least, holm(least), strict=True):
        reason = ""
        if not reachable < alpha:
            equal = f", {zeros} of them equal," if zeros else ""
            reason = f"n={n}{equal} cannot reach {_short(alpha)} in a family of {len(p)} (smallest p {_short(smallest)})"
        elif not adjusted < alpha:
            reason = f"no evidence at n={n}"
        verdicts.append(Verdict(float(own), float(adjusted), not reason, reason))
    return verdicts


def find_smallest(test: Test, c: Comparison) -> float:
    """The smallest p that these pairs could have had, their zeros being what they are."""
    return c.smallest_wilcoxon if test == "wilcoxon" else smallest_p(test, c.n, c.zeros)


def _short(p: float) -> str:
    return f"{p:.3g}".removeprefix("0")
