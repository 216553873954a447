"""Exact tests, against other libraries where those are exact, enumerations written out, and cases done by hand."""

import inspect
import itertools
import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from mdm.statistics.permutation import FLIP_DRAWS, a12, mann_whitney, sign_flip
from mdm.statistics.signed_rank import wilcoxon

GENERATORS = [np.random.default_rng(seed) for seed in range(8)]


def array(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)


def paired(d) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of whole numbers with these differences."""
    d = np.asarray(d, dtype=np.float64)
    y = np.arange(len(d), dtype=np.float64)
    return y + d, y


# ---- Mann–Whitney


@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 5), (5, 5), (10, 10), (20, 20), (7, 4)])
def test_mann_whitney_without_ties_is_scipys_exact_one(n, m):
    for g in GENERATORS:
        x, y = g.normal(size=n) + 0.5, g.normal(size=m)
        assert mann_whitney(x, y) == pytest.approx(stats.mannwhitneyu(x, y, method="exact").pvalue, rel=1e-12)
        assert mann_whitney(y, x) == mann_whitney(x, y) == mann_whitney(-x, -y)


@pytest.mark.parametrize(("n", "m"), [(2, 2), (5, 5), (4, 6), (7, 2)])
def test_mann_whitney_with_ties_counts_every_relabelling(n, m):
    """U by comparing all pairs, for every choice of n of the values: no ranks."""

    def u(first, rest):
        return sum((a > b) + 0.5 * (a == b) for a in first for b in rest)

    for g in GENERATORS:
        values = g.integers(0, 4, n + m).astype(float)
        law = []
        for choice in itertools.combinations(range(n + m), n):
            law.append(abs(u(values[list(choice)], np.delete(values, choice)) - n * m / 2))
        expected = np.mean(np.array(law) >= law[0])
        assert mann_whitney(values[:n], values[n:]) == pytest.approx(expected, rel=1e-12)


def test_mann_whitney_with_ties_is_scipys_permutation_test():
    x, y = array(0.79, 0.80, 0.80, 0.81, 0.83, 0.83), array(0.77, 0.79, 0.79, 0.80, 0.80, 0.81)

    def distance(a, b, axis):
        ranks = stats.rankdata(np.concatenate([a, b], axis=axis), axis=axis)
        return np.abs(ranks[..., : a.shape[-1]].sum(axis) - a.shape[-1] * (ranks.shape[-1] + 1) / 2)

    result = stats.permutation_test((x, y), distance, n_resamples=np.inf, alternative="greater", vectorized=True)
    assert mann_whitney(x, y) == pytest.approx(result.pvalue, rel=1e-12)


def test_mann_whitney_by_hand():
    """{1, 2} and {2, 3}: of the six choices of two of 1, 2, 2, 3 the U are ½, ½, 2, 2, 3½, 3½; four are 1½ from 2 as ours is."""
    assert mann_whitney(array(1, 2), array(2, 3)) == pytest.approx(4 / 6)
    assert mann_whitney(array(1, 1, 1), array(1, 1)) == 1
    low = np.arange(10.0)
    assert mann_whitney(low, low + 10) == 2 / math.comb(20, 10)
    assert mann_whitney(np.arange(20.0), np.arange(20.0) + 20) == 2 / math.comb(40, 20)


def from_u(n: int, u: int) -> tuple[np.ndarray, np.ndarray]:
    """Two samples of n without ties whose U is u: the x lie at U's places between the whole numbers that y is."""
    places = np.sort([u // n + (i < u % n) for i in range(n)])
    return places - 0.5 + np.arange(n) / (4 * n), np.arange(n, dtype=np.float64)


@pytest.mark.parametrize(
    ("n", "family", "threshold"), [(5, 1, 2), (10, 1, 23), (20, 1, 127), (10, 24, 10), (10, 96, 7), (5, 24, None)]
)
def test_mann_whitney_rejects_up_to_these_u(n, family, threshold):
    """The tables of the U test at .05, and Holm's first step over the 24 and 96 comparisons of Colombo et al.'s (2021) tables."""
    rejected = []
    for u in range(n * n // 2 + 1):
        x, y = from_u(n, u)
        assert a12(x, y) == u / n**2
        if mann_whitney(x, y) * family < 0.05:
            rejected.append(u)
    assert (max(rejected) if rejected else None) == threshold


def test_mann_whitney_of_many_values_keeps_its_digits():
    """60 against 60, all apart: 2/C(120, 60) ≈ 2e-35. And overlapping, as another recursion counts them."""
    x = np.arange(60.0)
    assert mann_whitney(x, x + 60) == pytest.approx(2 / math.comb(120, 60), rel=1e-12)
    shifted = x + 8.5
    assert mann_whitney(x, shifted) == pytest.approx(stats.mannwhitneyu(x, shifted, method="exact").pvalue, rel=1e-10)


# ---- sign flips


def flipped(d) -> float:
    """p from the law of Σ ±d_i, built up value by value; whole numbers, so nothing is rounded."""
    law = Counter({0: 1})
    for value in d:
        law = Counter({s: law[s - value] + law[s + value] for s in {t + e for t in law for e in (-value, value)}})
    observed = abs(sum(d))
    return sum(count for s, count in law.items() if abs(s) >= observed) / 2 ** len(d)


def test_sign_flips_by_hand():
    """d = 1, 2, 4: the sums are ±7, ±5, ±3, ±1. Of 4 + 2 − 1 = 5 and what is further out there are four of eight."""
    assert sign_flip(*paired([1, 2, 4])).p == 2 / 8
    assert sign_flip(*paired([-1, 2, 4])).p == 4 / 8
    assert sign_flip(*paired([3, 3, 3, 3, 3])).p == 2 / 2**5
    assert sign_flip(*paired([0, 0])).p == 1
    assert sign_flip(*paired([0, 0, 1])).p == 1
    assert sign_flip(*paired([5])).p == 1
    assert flipped([-1, 2, 4]) == 4 / 8


@pytest.mark.parametrize("n", [1, 2, 3, 7, 10])
def test_sign_flips_count_every_pattern(n):
    for g in GENERATORS:
        d = g.integers(-4, 8, n)
        sums = [abs(sum(s * v for s, v in zip(signs, d, strict=True))) for signs in itertools.product((1, -1), repeat=n)]
        assert sign_flip(*paired(d)).p == np.mean(np.array(sums) >= sums[0]) == flipped(d.tolist())


def test_sign_flips_are_scipys_permutation_test():
    x, y = GENERATORS[0].normal(size=9) + 0.4, GENERATORS[1].normal(size=9)

    def difference(a, b, axis):
        return np.abs((a - b).mean(axis))

    result = stats.permutation_test(
        (x, y), difference, permutation_type="samples", n_resamples=np.inf, alternative="greater", vectorized=True
    )
    assert sign_flip(x, y).p == pytest.approx(result.pvalue, rel=1e-12)


@pytest.mark.parametrize("n", [19, 20, 31, 40])
def test_sign_flips_of_two_halves_are_those_of_the_whole(n):
    d = (GENERATORS[2].integers(-30, 45, n)).tolist()
    found = sign_flip(*paired(d))
    assert found.how == "exact"
    assert found.p == flipped(d)


def test_beyond_forty_pairs_sign_patterns_are_drawn():
    d = (np.random.default_rng(5).integers(-30, 40, 60)).tolist()
    expected = flipped(d)
    assert 0.01 < expected < 0.5
    found = sign_flip(*paired(d), np.random.default_rng(1))
    assert found.how == f"Monte Carlo, {FLIP_DRAWS} draws"
    assert found.p == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / FLIP_DRAWS))
    assert found == sign_flip(*paired(d), np.random.default_rng(1))
    assert sign_flip(*paired([1] * 60), np.random.default_rng(1)).p == 1 / (1 + FLIP_DRAWS)
    with pytest.raises(ValueError, match="exact up to 40 pairs and draws patterns beyond, got 41 pairs without a generator"):
        sign_flip(*paired([1] * 41))


# ---- what rounding and divergence do


@pytest.mark.parametrize("segments", [10, 656, 4659])
def test_ties_of_accuracies_survive_their_rounding(segments):
    """.8 − .7 is not .7 − .6 in floating point. k/N must give what k gives: differences, sums of them, and their ties."""
    assert 0.8 - 0.7 != 0.7 - 0.6
    for g in GENERATORS:
        k, other = (g.integers(segments // 2, segments // 2 + 5, 12).astype(float) for _ in range(2))
        for scale in (segments, segments / 100):
            assert sign_flip(k / scale, other / scale).p == sign_flip(k, other).p
            assert wilcoxon(k / scale, other / scale) == wilcoxon(k, other)
            assert mann_whitney(k / scale, other / scale) == mann_whitney(k, other)


def test_what_differs_by_rounding_alone_has_no_sign():
    """.1 + .2 against .3 is a zero, of rank 1 and no sign; |±4 ± 3 ± 2| ≥ 5 in 4 of 8."""
    assert 0.1 + 0.2 != 0.3
    assert wilcoxon(array(0.1 + 0.2, 3, 2, 0), array(0.3, 0, 0, 1)) == 0.5
    assert a12(array(0.1 + 0.2), array(0.3)) == 0.5


def test_infinite_values_are_the_limit_of_ever_larger_ones():
    for g in GENERATORS:
        x, y = g.integers(0, 9, 8).astype(float), g.integers(0, 9, 8).astype(float)
        x[g.random(8) < 0.3] = -np.inf
        y[g.random(8) < 0.3] = -np.inf
        far = [np.where(np.isinf(v), -1e9, v) for v in (x, y)]
        # −1e9 keeps the other side's value in the difference, which the limit does not: so those pairs get one difference.
        diverged = np.isinf(x) != np.isinf(y)
        far[0][diverged & np.isinf(y)] = far[1][diverged & np.isinf(x)] = 0.0
        assert sign_flip(x, y).p == sign_flip(*far).p
        assert wilcoxon(x, y) == wilcoxon(*far)
        assert mann_whitney(x, y) == mann_whitney(np.maximum(x, -1e9), np.maximum(y, -1e9))
        assert a12(x, y) == a12(np.maximum(x, -1e9), np.maximum(y, -1e9))


def test_one_run_that_diverged_decides_the_sign_flip_test():
    """With four others that are worse too all signs agree, 2/2⁵; against four that are better no pattern is less extreme."""
    lost, kept = array(-np.inf, 1, 2, 3, 4), array(0, 2, 3, 4, 5)
    assert sign_flip(lost, kept).p == 2 / 2**5
    assert sign_flip(array(-np.inf, 3, 4, 5, 6), kept).p == 1
    assert sign_flip(array(-np.inf, 1), array(-np.inf, 1)).p == 1
    assert sign_flip(array(-np.inf, 1), array(1, 1)).p == 1
    assert mann_whitney(array(-np.inf, -np.inf), array(-np.inf, -np.inf)) == 1


# ---- sizes and refusals


def test_a12_and_cliffs_delta():
    """1..5 and 3..7: three pairs are larger and three equal, U = 4.5 of 25. A shift of d deviations has δ = 2Φ(d/√2) − 1."""
    x, y = np.arange(1.0, 6.0), np.arange(3.0, 8.0)
    assert a12(x, y) == 4.5 / 25 == 0.18
    assert 2 * a12(x, y) - 1 == pytest.approx(-0.64)
    assert a12(y, x) == pytest.approx(1 - 0.18)
    assert a12(array(1, 2, 2), array(2)) == pytest.approx((0.5 + 0.5) / 3)
    for shift, delta in ((0.5, 0.276), (1.0, 0.520), (2.0, 0.843)):
        assert 2 * stats.norm.cdf(shift / math.sqrt(2)) - 1 == pytest.approx(delta, abs=1e-3)
        grid = stats.norm.ppf((np.arange(1000) + 0.5) / 1000)
        assert 2 * a12(grid + shift, grid) - 1 == pytest.approx(delta, abs=2e-3)


def test_values_that_are_no_runs_are_refused():
    two, three, none = np.ones(2), np.ones(3), np.ones(0)
    for test in (sign_flip, wilcoxon):
        with pytest.raises(
            ValueError, match=rf"{test.__name__} takes .* and the same seeds on both sides, got shapes \[2\] and \[3\]"
        ):
            inspect.unwrap(test)(two, three)
    for test in (sign_flip, wilcoxon, mann_whitney, a12):
        with pytest.raises(ValueError, match=rf"{test.__name__} takes .* one run at least.* got shapes \[0\] and \[0\]"):
            test(none, none)
        with pytest.raises(ValueError, match=r"on both sides, got shapes \[2, 1\] and \[2\]"):
            inspect.unwrap(test)(two[:, None], two)
        with pytest.raises(ValueError, match=f"{test.__name__} has no place for NaN; give finite values, or use compare"):
            test(two, array(1, np.nan))
    with pytest.raises(ValueError, match="up to 200 values, got 101 and 100; use fewer seeds"):
        mann_whitney(np.arange(101.0), np.arange(100.0))
