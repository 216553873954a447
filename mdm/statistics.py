"""Values of paired runs → how far two systems differ, how sure that is, and what a table may star.

Paper 000 underlines cells by a Wilcoxon–Mann–Whitney test on ten runs, uncorrected over the 24 and 96 of a table; paper 001 stars
by a paired t test on five. Here runs are paired by their seed, the test is exact (`mdm.permutation`), Holm's procedure is over all
that a table declares, and the chance that lies in the test segments, which no number of seeds shows, has an interval of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit  # exact, and `scipy.stats` takes a second to import

from mdm.permutation import EXACT_FLIPS, FLIP_DRAWS, a12, check_values, mann_whitney, sign_flip, wilcoxon

Test = Literal["sign_flip", "wilcoxon", "mann_whitney"]


@dataclass(frozen=True)
class Comparison:
    """A system's runs against a baseline's, paired by seed.

    n: pairs
    difference, interval: mean of system − baseline in the metric's units, and its 95 % t interval; NaN if any run diverged
    sign_flip, wilcoxon, mann_whitney: two-sided p
    a12, cliffs_delta: P(better) + ½P(equal) of a run of each, and 2·A12 − 1; above .5 and 0 where the system is better
    items: 95 % interval of the difference over test segments, on the side of ``difference``; None if there is none
    """

    n: int
    difference: float
    interval: tuple[float, float]
    sign_flip: float
    wilcoxon: float
    mann_whitney: float
    a12: float
    cliffs_delta: float
    items: tuple[float, float] | None


@dataclass(frozen=True)
class Verdict:
    """p; p after Holm; whether a table may star the comparison; if not, why not.

    A star says that the two differ. The sign of the difference says in which direction.
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
    items: tuple[float, float] | None = None,
    generator: np.random.Generator | None = None,
) -> Comparison:
    """Values of one metric; position i of both has the same seed, folds and order of data.

    A run that diverged, NaN or ±inf, counts as the worst value: to the rank tests and A12 it is the last, equal to others like it;
    to the sign-flip test it is a number worse than all others together. The mean has no such limit: it and its interval are NaN.

    items: what `segment_interval` gave, of losses; turned round here where higher values of the metric are better
    generator: for the sign-flip test, which draws beyond 40 pairs

    Raises ValueError on no runs, on different numbers of them, beyond 40 pairs without a generator, and beyond 100 pairs.
    """
    worst_first = [np.where(np.isfinite(v), -v if lower_is_better else v, -np.inf) for v in (system, baseline)]
    check_values("compare", *worst_first, paired=True)
    better, other = worst_first
    finite = bool(np.isfinite(system).all() and np.isfinite(baseline).all())
    effect = a12(better, other)
    return Comparison(
        n=len(system),
        difference=float(np.mean(system - baseline)) if finite else math.nan,
        interval=t_interval(system, baseline) if finite else (math.nan, math.nan),
        sign_flip=sign_flip(better, other, generator).p,
        wilcoxon=wilcoxon(better, other),
        mann_whitney=mann_whitney(better, other),
        a12=effect,
        cliffs_delta=2 * effect - 1,
        items=items if items is None or lower_is_better else (-items[1], -items[0]),
    )


def judge(comparisons: Sequence[Comparison], *, test: Test = "sign_flip", alpha: float = 0.05) -> list[Verdict]:
    """Stars for one family: all comparisons that a table declares.

    A star needs Holm's p < alpha and, if there is an interval over test segments, that it lies on the side of the difference. There
    is none where not even the smallest p's that the numbers of runs allow, in the whole family, would do.

    Raises ValueError on another test, and unless 0 < alpha < 1.
    """
    if test not in get_args(Test) or not 0 < alpha < 1:
        raise ValueError(
            f"Stars are given by one of {', '.join(get_args(Test))} at a level between 0 and 1, but test={test!r} and "
            f"alpha={alpha} came; use test='sign_flip' and alpha=0.05."
        )
    p = np.array([getattr(c, test) for c in comparisons], dtype=np.float64)
    # Holm's p grows with every p of the family, so with the smallest of all it is the least that it can be.
    least = np.array([smallest_p(test, c.n) for c in comparisons], dtype=np.float64)
    verdicts = []
    for c, own, adjusted, smallest, reachable in zip(comparisons, p, holm(p), least, holm(least), strict=True):
        reason = ""
        if not reachable < alpha:
            reason = f"n={c.n} cannot reach {_short(alpha)} in a family of {len(p)} (smallest p {_short(smallest)})"
        elif not adjusted < alpha:
            reason = f"no evidence at n={c.n}"
        elif c.items is not None:
            reason = _against(c.items, c.difference)
        verdicts.append(Verdict(float(own), float(adjusted), not reason, reason))
    return verdicts


def _against(items: tuple[float, float], difference: float) -> str:
    """What the interval over test segments says against a star; empty if nothing."""
    if math.isnan(difference):
        return "test segments: runs diverged and the difference has no side"
    if items[0] <= 0 <= items[1]:
        return "test segments: interval includes 0"
    return "" if (items[0] > 0) == (difference > 0) else "test segments: interval on the other side of 0"


def _short(p: float) -> str:
    return f"{p:.3g}".removeprefix("0")


# ---- families


def holm(p: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Holm's adjusted p-values: max over j ≤ i of (k − j + 1) p_(j), at most 1.

    Raises ValueError on a p outside [0, 1].
    """
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"Holm's procedure takes p-values between 0 and 1, but {p.tolist()} came; correct the tests.")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(np.arange(len(p), 0, -1) * p[order]), 1)
    return adjusted


def smallest_p(test: Test, n: int) -> float:
    """The smallest two-sided p of n pairs: 2/2ⁿ; of Mann–Whitney 2/C(2n, n); 1/(1 + draws) where sign patterns are drawn.

    Raises ValueError on another test, and unless n ≥ 1.
    """
    if test not in get_args(Test) or n < 1:
        raise ValueError(
            f"A smallest p is that of {', '.join(get_args(Test))} for n ≥ 1, but test={test!r} and n={n} came; correct them."
        )
    if test == "sign_flip" and n > EXACT_FLIPS:
        return 1 / (1 + FLIP_DRAWS)
    return 2 / (math.comb(2 * n, n) if test == "mann_whitney" else 2**n)


def largest_family(test: Test, n: int, alpha: float = 0.05) -> int:
    """The most comparisons of n pairs among which Holm's procedure could reject one: k·(smallest p) < alpha.

    Raises ValueError on another test, and unless n ≥ 1.
    """
    return max(math.ceil(alpha / smallest_p(test, n)) - 1, 0)


# ---- intervals


def t_interval(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """95 % interval of the mean of paired differences: d̄ ± t s/√n, n − 1 degrees of freedom. NaN for one pair, d̄ ± 0 for equal d.

    Not a bootstrap over seeds, whose percentiles cover .89 at n = 5 and .92 at n = 10.

    Raises ValueError on arrays that are no pairs, and on values that are not finite.
    """
    _check_finite("t_interval", x, y, paired=True)
    d = x - y
    return _around(float(d.mean()), float(d.var(ddof=1)) / len(d), len(d) - 1) if len(d) > 1 else (math.nan, math.nan)


def mean_interval(x: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """95 % t interval of the mean of runs; NaN for one value.

    Raises ValueError on no values, and on values that are not finite.
    """
    return t_interval(x, np.zeros_like(x))


def welch_interval(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " m"]) -> tuple[float, float]:
    """95 % interval of the difference of means of runs that are no pairs (Welch and Satterthwaite). NaN for one value of either.

    Raises ValueError on no values, and on values that are not finite.
    """
    _check_finite("welch_interval", x, y)
    if min(len(x), len(y)) < 2:
        return math.nan, math.nan
    a, b = (float(v.var(ddof=1)) / len(v) for v in (x, y))
    weight = a**2 / (len(x) - 1) + b**2 / (len(y) - 1)
    return _around(float(x.mean() - y.mean()), a + b, (a + b) ** 2 / weight if weight else 1)


def _check_finite(what: str, x: np.ndarray, y: np.ndarray, *, paired: bool = False) -> None:
    check_values(what, x, y, paired=paired)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError(f"{what} takes finite values, but infinite ones came; a run that diverged has no mean: use a rank test.")


def _around(mean: float, variance: float, freedom: float) -> tuple[float, float]:
    half = float(stdtrit(freedom, 0.975)) * math.sqrt(variance)
    return mean - half, mean + half


def segment_interval(
    system: Float[np.ndarray, "seeds segments"],
    baseline: Float[np.ndarray, "seeds segments"],
    generator: np.random.Generator,
    *,
    groups: Sequence[Any] | np.ndarray | None = None,
    draws: int = 10_000,
) -> tuple[float, float]:
    """95 % percentile bootstrap over test segments of the mean of system − baseline, losses that are averaged over seeds first.

    groups: a label a segment, its video. Whole videos are then drawn, for segments of one are alike; the mean is of the segments
        drawn. Few videos make the interval narrow

    Raises ValueError on losses of different or no segments or that are not finite, on groups of another length, on fewer than two
    segments or groups, and unless draws ≥ 1.
    """
    if system.shape != baseline.shape or system.ndim != 2 or not system.size or draws < 1:
        raise ValueError(
            "Segments are drawn at least once, of losses [seeds, segments] of two systems on the same test set, but "
            f"{list(system.shape)} and {list(baseline.shape)} came with draws={draws}; give the same seeds and segments of both."
        )
    if not (np.isfinite(system).all() and np.isfinite(baseline).all()):
        raise ValueError("Losses of test segments must be finite, but some are not; give no interval where runs diverged.")
    d = system.mean(0) - baseline.mean(0)
    if groups is not None and len(groups) != len(d):
        raise ValueError(f"A segment has a group, but {len(d)} segments and {len(groups)} groups came; give a label a segment.")
    members = np.arange(len(d)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    sums, sizes = np.bincount(members, weights=d), np.bincount(members).astype(np.float64)
    if len(sums) < 2:
        raise ValueError(
            f"The interval draws from two segments at least, or groups if they are given, but {len(sums)} came; give no groups, or "
            "no interval."
        )
    means, chunk = np.empty(draws), max(1, 2**20 // len(sums))  # a million indices at a time
    for start in range(0, draws, chunk):
        drawn = generator.integers(0, len(sums), (min(chunk, draws - start), len(sums)), dtype=np.int32)
        means[start : start + chunk] = sums[drawn].sum(1) / (len(sums) if groups is None else sizes[drawn].sum(1))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
