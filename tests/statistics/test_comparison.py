"""Comparisons, families and stars, against other libraries, definitions, and cases done by hand."""

import inspect
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from mdm.statistics import (
    Comparison,
    compare,
    holm,
    judge,
    largest_family,
    paired_t,
    smallest_p,
    t_interval,
    welch_interval,
)
from mdm.statistics.permutation import FLIP_DRAWS, mann_whitney, sign_flip
from mdm.statistics.signed_rank import wilcoxon

TESTS = ("sign_flip", "wilcoxon", "mann_whitney")


def array(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# ---- compare


def test_a_comparison_by_hand():
    """Errors 1..5 against 2, 4, 6, 8, 10: d = −1..−5, all of one sign, so 2/2⁵; d̄ ± t s/√n = −3 ± 2.7764 √(2.5/5).

    The system's errors are below 5, 4½, 4, 3½ and 3 of the baseline's (a tie is a half): A12 = 20/25.
    """
    system, baseline = np.arange(1.0, 6.0), 2 * np.arange(1.0, 6.0)
    found = compare(system, baseline, lower_is_better=True)
    half = 2.7764451 * math.sqrt(2.5 / 5)
    assert found.interval == pytest.approx((-3 - half, -3 + half), abs=1e-6)
    assert found.a12 == 0.8
    assert found.cliffs_delta == pytest.approx(0.6)
    ranks, t = mann_whitney(system, baseline), stats.ttest_rel(system, baseline).pvalue
    assert found.paired_t == pytest.approx(t)
    assert found == Comparison(5, 0, -3, found.interval, 2 / 32, 2 / 32, ranks, found.paired_t, 2 / 32, 0.8, found.cliffs_delta)
    other = compare(system, baseline, lower_is_better=False)
    assert (other.a12, other.cliffs_delta) == (pytest.approx(0.2), pytest.approx(-0.6))
    assert replace(other, a12=found.a12, cliffs_delta=found.cliffs_delta) == found


@pytest.mark.parametrize("lost", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("lower", [True, False])
def test_a_run_that_diverged_is_the_worst_and_is_never_dropped(lost, lower):
    """Four clear wins and one loss by divergence: not the 2/2⁴ of the four, and no mean. Both diverged at one seed: equal there."""
    sign = -1 if lower else 1
    system, baseline = sign * array(5, 6, 7, 8, 9), sign * array(1, 2, 3, 4, 0)
    assert compare(system, baseline, lower_is_better=lower).sign_flip == 2 / 2**5
    system[4] = lost
    found = compare(system, baseline, lower_is_better=lower)
    assert found.n == 5
    assert math.isnan(found.difference)
    assert all(math.isnan(end) for end in found.interval)
    assert found.sign_flip == 1
    assert found.a12 == 20 / 25  # the four beat all five, the lost run none
    worst = sign * array(5, 6, 7, 8, -100)
    assert found.wilcoxon == wilcoxon(worst, baseline)
    assert found.mann_whitney == mann_whitney(worst, baseline)
    baseline[4] = lost
    both = compare(system, baseline, lower_is_better=lower)
    assert math.isnan(both.difference)
    assert both.a12 == 20.5 / 25
    same = array(5, 6, 7, 8, 0), array(1, 2, 3, 4, 0)
    assert both.sign_flip == sign_flip(*same).p == 4 / 2**5  # the sign of 0 changes nothing
    assert both.wilcoxon == wilcoxon(*same)
    ten = compare(np.full(10, lost), np.arange(10.0), lower_is_better=lower)
    assert (ten.sign_flip, ten.wilcoxon, ten.a12) == (2 / 2**10, 2 / 2**10, 0)
    assert judge([ten])[0].star


def test_a_single_run_says_nothing():
    found = compare(array(1), array(1.5), lower_is_better=True)
    assert (found.n, found.difference, found.sign_flip, found.wilcoxon, found.mann_whitney) == (1, -0.5, 1, 1, 1)
    assert all(math.isnan(end) for end in (*found.interval, found.paired_t))
    assert judge([found])[0].reason == "n=1 cannot reach .05 in a family of 1 (smallest p 1)"


def test_equal_runs_and_constant_differences():
    """No difference: p = 1, an interval of no width at 0. One difference at every seed: the smallest p, no width either."""
    same = compare(np.ones(6), np.ones(6), lower_is_better=True)
    assert same == Comparison(6, 6, 0, (0, 0), 1, 1, 1, 1, 1, 0.5, 0)
    values = np.arange(6.0)
    constant = compare(values + 0.5, values, lower_is_better=True)
    assert (constant.paired_t, paired_t(array(1, 2), array(2, 1)), paired_t(values, values)) == (0, 1, 1)
    assert (constant.difference, constant.interval, constant.sign_flip, constant.wilcoxon) == (0.5, (0.5, 0.5), 2 / 64, 2 / 64)


def test_a_comparison_beyond_forty_seeds_draws_from_the_generator_given():
    x = np.arange(41.0)
    assert compare(x, x + 1, lower_is_better=True, generator=generator()).sign_flip == 1 / (1 + FLIP_DRAWS)
    with pytest.raises(ValueError, match="41 pairs without a generator"):
        compare(x, x + 1, lower_is_better=True)


def test_comparisons_of_what_is_not_paired_are_refused():
    bare = inspect.unwrap(compare)
    with pytest.raises(ValueError, match=r"compare takes .* and the same seeds on both sides, got shapes \[2\] and \[3\]"):
        bare(np.ones(2), np.ones(3), lower_is_better=True)
    with pytest.raises(ValueError, match=r"one run at least .* got shapes \[0\] and \[0\]; give the seeds that both have"):
        bare(np.ones(0), np.ones(0), lower_is_better=True)


# ---- families


def test_holm_against_known_values_and_closed_testing():
    """Holm's p is the largest of Bonferroni's over all subfamilies with the hypothesis (Marcus, Peritz and Gabriel 1976)."""
    assert holm(array(0.001, 0.01, 0.03, 0.04, 0.2)) == pytest.approx([0.005, 0.04, 0.09, 0.09, 0.2])
    assert holm(array()).shape == (0,)
    assert holm(array(0.7, 0.8)).tolist() == [1, 1]
    for seed in range(20):
        p = generator(seed).choice([0.001, 0.004, 0.01, 0.02, 0.3, 1.0], 6)
        subsets = [s for size in range(1, 7) for s in itertools.combinations(range(6), size)]
        closed = [max(min(1, len(s) * min(p[list(s)])) for s in subsets if i in s) for i in range(6)]
        assert holm(p) == pytest.approx(closed)


@pytest.mark.parametrize("test", TESTS)
def test_the_smallest_p_is_that_of_runs_that_do_not_overlap(test):
    for n in (1, 2, 3, 5, 6, 8, 10, 20):
        x = np.arange(float(n))
        assert getattr(compare(x, x + n, lower_is_better=True), test) == smallest_p(test, n)


@pytest.mark.parametrize(
    ("n", "rank_sum", "flips"), [(1, 0, 0), (3, 0, 0), (5, 6, 0), (6, 23, 1), (8, 321, 6), (10, 4618, 25), (20, 3446163220, 26214)]
)
def test_how_many_comparisons_n_runs_allow(n, rank_sum, flips):
    """.05·C(2n, n)/2 and .05·2ⁿ/2, rounded down."""
    assert largest_family("mann_whitney", n) == rank_sum == math.comb(2 * n, n) // 40
    assert largest_family("sign_flip", n) == largest_family("wilcoxon", n) == flips == 2**n // 40
    assert largest_family("wilcoxon", 10, alpha=2 / 2**10) == 0  # below alpha, not at it
    assert largest_family("sign_flip", 41) == 4999  # 1/100,000 is the least that draws give


@pytest.mark.parametrize("test", TESTS)
def test_a_family_one_larger_than_n_allows_is_given_no_star(test):
    n = 6
    clear = compare(np.arange(6.0), np.arange(6.0) + 6, lower_is_better=True)
    most = largest_family(test, n)
    assert all(v.star and v.reason == "" for v in judge([clear] * most, test=test))
    verdicts = judge([clear] * (most + 1), test=test)
    assert not any(v.star for v in verdicts)
    smallest = {"mann_whitney": ".00216"}.get(test, ".0312")
    assert {v.reason for v in verdicts} == {f"n=6 cannot reach .05 in a family of {most + 1} (smallest p {smallest})"}


# ---- stars


def comparison(p: float, n: int = 10, difference: float = -0.1) -> Comparison:
    return Comparison(n, 0, difference, (difference, difference), p, p, p, p, 2 / 2**n, 0.5, 0.0)


def test_stars_by_hand():
    """Holm over .002, .02, .04: .006, .04, .04; with a fourth of .5: .008, .06, .08, .5."""
    three = [comparison(0.02), comparison(0.002), comparison(0.04)]
    assert [v.adjusted for v in judge(three)] == pytest.approx([0.04, 0.006, 0.04])
    assert [v.star for v in judge(three)] == [True, True, True]
    four = judge([*three, comparison(0.5)])
    assert [v.adjusted for v in four] == pytest.approx([0.06, 0.008, 0.08, 0.5])
    assert [v.reason for v in four] == ["no evidence at n=10", "", "no evidence at n=10", "no evidence at n=10"]
    assert [v.p for v in four] == [0.02, 0.002, 0.04, 0.5]
    assert [v.star for v in judge(three, alpha=0.01)] == [False, True, False]
    assert judge([]) == []


def test_five_runs_cannot_be_starred_by_their_signs():
    """2/2⁵ = .0625: what a normal approximation calls .043."""
    x = np.arange(5.0)
    clear = compare(x, x + 5, lower_is_better=True)
    assert [v.reason for v in judge([clear] * 24)] == ["n=5 cannot reach .05 in a family of 24 (smallest p .0625)"] * 24
    assert judge([clear])[0].reason == "n=5 cannot reach .05 in a family of 1 (smallest p .0625)"
    assert judge([clear], test="mann_whitney")[0].star


def test_what_a_family_allows_depends_on_everybodys_n():
    """Nine runs, .0039 at best, would not do among 24 like them; after twenty of 20 runs are rejected, four remain: .0156 < .05."""
    many, few = [comparison(1e-5, n=20)] * 20, [comparison(2 / 2**9, n=9)] * 4
    assert all(v.star for v in judge([*many, *few]))
    assert not any(v.star for v in judge(few * 6))
    unclear = judge([*[comparison(0.9, n=20)] * 20, *few])
    assert {v.reason for v in unclear} == {"no evidence at n=20", "no evidence at n=9"}  # could have, and did not
    assert judge([*many, comparison(0.0625, n=5)])[20].reason.startswith("n=5 cannot reach .05 in a family of 21")


def test_pairs_that_do_not_differ_raise_the_smallest_p():
    """Seven pairs, two of them equal: signs of five are left, 2/2⁵ = .0625, so the test could not have starred; seven would.

    Split, a zero has a sign in every pattern. Ranks 1½, 1½, 3, …, 7 with all of the five above 0 sum to 25 of 28: at or beyond lie
    the patterns whose negative ranks sum to 1½ at most, the empty one and the two of a 1½, and their mirror images, 6/2⁷ = .0469.
    """
    x = np.arange(7.0)
    y = x - array(0, 0, 1, 2, 3, 4, 5)
    found = compare(x, y, lower_is_better=True)
    assert (found.n, found.zeros, found.wilcoxon, found.sign_flip, found.smallest_wilcoxon) == (7, 2, 2 / 32, 2 / 32, 2 / 32)
    for test in ("wilcoxon", "sign_flip"):
        assert judge([found], test=test)[0].reason == "n=7, 2 of them equal, cannot reach .05 in a family of 1 (smallest p .0625)"
    split = compare(x, y, lower_is_better=True, zeros="split")
    assert (split.wilcoxon, split.smallest_wilcoxon, split.sign_flip) == (6 / 2**7, 6 / 2**7, 2 / 32)
    assert judge([split], test="wilcoxon")[0].star
    assert [smallest_p("sign_flip", 7, zeros) for zeros in (0, 2, 6, 7)] == [2 / 2**7, 2 / 2**5, 1, 1]
    assert smallest_p("mann_whitney", 3, 2) == 2 / 20


# ---- refusals


def test_what_statistics_cannot_be_made_of_is_refused():
    two, three = np.ones(2), np.ones(3)
    with pytest.raises(ValueError, match=r"t_interval takes .* the same seeds on both sides, got shapes \[2\] and \[3\]"):
        inspect.unwrap(t_interval)(two, three)
    for interval in (t_interval, welch_interval):
        with pytest.raises(ValueError, match=f"{interval.__name__} takes a value a run, one run at least"):
            interval(np.ones(0), np.ones(0))
        with pytest.raises(ValueError, match=f"{interval.__name__} takes finite values, got infinite ones"):
            interval(two, array(1, np.inf))
        with pytest.raises(ValueError, match=f"{interval.__name__} has no place for NaN"):
            interval(two, array(1, np.nan))
    for p in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="Holm's procedure takes p-values between 0 and 1, got"):
            holm(array(0.5, p))
    bare = inspect.unwrap(judge)
    for options in ({"test": "t"}, {"alpha": 0.0}, {"alpha": 1.0}):
        with pytest.raises(
            ValueError, match=r"Stars are given by one of sign_flip, wilcoxon, mann_whitney at a level between 0 and 1"
        ):
            bare([], **options)
    for name, n in (("t", 5), ("wilcoxon", 0)):
        with pytest.raises(ValueError, match=f"A smallest p is that of .* got test='{name}', n={n} and zeros=0"):
            inspect.unwrap(smallest_p)(name, n)
    for zeros in (-1, 6):
        with pytest.raises(ValueError, match=f"n=5 and zeros={zeros}"):
            smallest_p("wilcoxon", 5, zeros)
