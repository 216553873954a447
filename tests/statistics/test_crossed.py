"""The two-way t: worked cases, closed forms, other libraries, and the law of its p where the truth is known."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from mdm.metrics.sums import ABSOLUTE_ERROR
from mdm.statistics.crossed import (
    add_parts,
    analyse_crossed,
    charge_interaction,
    compute_p,
    compute_tail,
    find_half_width,
    split_variance,
)
from mdm.statistics.jackknife import compute_pseudo_values, leave_out_videos

WORKED = 1e-6
"""Relative: the worked cases are printed to nine digits, by another implementation."""


def equal(y: np.ndarray) -> np.ndarray:
    return np.ones(y.shape[1])


def crossed(seed: int, seeds=7, videos=15, run=1.0, luck=1.0, rest=1.0, shift=0.0) -> np.ndarray:
    g = np.random.default_rng(seed)
    return shift + run * g.normal(size=(seeds, 1)) + luck * g.normal(size=(1, videos)) + rest * g.normal(size=(seeds, videos))


def interaction_cut_off() -> np.ndarray:
    s, v = np.arange(1, 6)[:, None], np.arange(1, 7)
    return ((7 * s + 3 * v + 2 * s * v) % 11) / 10 + 0.1


def hardly_an_interaction() -> np.ndarray:
    s, v = np.arange(1, 11)[:, None], np.arange(1, 13)
    return 0.25 + 0.05 * ((3 * s % 7) - 3) + 0.05 * ((5 * v % 12) - 5.5) + 0.01 * ((s * v % 5) - 2)


# ---- worked cases


@pytest.mark.parametrize(
    ("arguments", "tail"),
    [
        ((3, 0.5, 0.5, 9, 92), 0.00774007348),
        ((5, 0.9, 0.1, 9, 30), 0.000576583526),
        ((4, 0.1, 0.9, 4, 199), 0.000616171055),
        ((8, 0.99, 0.01, 4, 30), 0.00130077885),
        ((3.5, 0.5, 0.5, 4, 27.7), 0.0116811528),
        ((4.3, 1, 0, 9, 92), 0.00199065227),
        ((20, 0.5, 0.5, 9, 92), 4.44509790e-10),
        ((0, 0.5, 0.5, 9, 92), 1),
    ],
)
def test_tails_of_a_sum_of_two_t(arguments, tail):
    assert compute_tail(*arguments) == pytest.approx(tail, rel=WORKED)


@pytest.mark.parametrize(
    ("y", "squares", "variance", "ways", "halves"),
    [
        (
            interaction_cut_off(),
            (0.0245, 0.0488, 0.1113),
            0.00371,
            (0.000122712206, 0.000208414103),
            (0.163590226, 0.362663501),
        ),
        (
            hardly_an_interaction(),
            (0.136722222, 0.340151515, 0.000116161616),
            0.00397297980,
            (0.00130979348, 0.00130997833),
            (0.139118261, 0.241781984),
        ),
    ],
    ids=["interaction cut off", "hardly an interaction"],
)
def test_worked_cases_of_one_segment_a_video(y, squares, variance, ways, halves):
    parts = tuple(float(part) for part in split_variance(y))
    freedom = len(y) - 1, y.shape[1] - 1
    assert [part * y.size for part in parts] == pytest.approx(squares, rel=WORKED)
    assert add_parts(*parts) == pytest.approx(variance, rel=WORKED)
    assert [compute_tail(y.mean(), *way, *freedom) for way in charge_interaction(*parts)] == pytest.approx(ways, rel=WORKED)
    assert compute_p(y.mean(), parts, freedom) == pytest.approx(max(ways), rel=WORKED)
    assert [find_half_width(level, parts, freedom) for level in (0.05, 0.05 / 24)] == pytest.approx(halves, rel=WORKED)


def test_the_worked_case_that_a_table_can_tell():
    y = hardly_an_interaction()
    found = analyse_crossed(y, equal(y))
    assert (found.pairs, found.lost, found.videos, found.reason, found.note) == (10, 0, 12, "", "")
    assert found.difference == pytest.approx(0.256666667, rel=WORKED)
    assert found.p == pytest.approx(0.00130997833, rel=WORKED)
    for level, half in ((0.05, 0.139118261), (0.05 / 24, 0.241781984)):
        assert found.interval(level) == pytest.approx((found.difference - half, found.difference + half), rel=WORKED)
    assert sum(found.shares) == pytest.approx(1)


def test_the_worked_case_of_unequal_videos():
    """From losses to p: pseudo-values are no means of videos here. By its ten segments in four videos, it cannot be told."""
    s, i = np.arange(1, 6)[:, None], np.arange(1, 11)
    losses, groups = 0.5 + ((3 * s + 5 * i + s * i) % 7) / 10, np.repeat([0, 1, 2, 3], [2, 3, 1, 4])
    system = leave_out_videos(losses, np.zeros(10), groups, ABSOLUTE_ERROR)
    y = compute_pseudo_values(system.whole, system.without)
    assert system.whole == pytest.approx([0.74, 1.1, 0.83, 0.77, 0.78])
    assert y[0] == pytest.approx([0.680327381, 0.910684524, 0.801160714, 0.567827381], rel=WORKED)
    assert y[3] == pytest.approx([0.638303571, 0.890089286, 0.775803571, 0.775803571], rel=WORKED)
    parts = tuple(float(part) for part in split_variance(y))
    assert [part * y.size for part in parts] == pytest.approx([0.08612, 0.0229209184, 0.00713289222], rel=WORKED)
    found = analyse_crossed(y, system.sizes.astype(float))
    freedom = 4, found.videos - 1
    assert freedom[1] == pytest.approx(7 / 3)
    ways = [compute_tail(0.844, *way, *freedom) for way in charge_interaction(*parts)]
    assert ways == pytest.approx([0.000692122138, 0.000914389684], rel=WORKED)
    assert find_half_width(0.05, parts, freedom) == pytest.approx(0.220676127, rel=WORKED)
    assert found.reason == "cannot be told: the test set counts as 3.3 videos of equal size, 10 are needed"


# ---- the law of a sum of two t


@pytest.mark.parametrize(("d", "u", "w"), [(3, 0.5, 0.5), (10, 0.9, 0.01), (500, 1, 4), (0.1, 2, 1e-6)])
def test_two_cauchys_are_a_cauchy(d, u, w):
    """t₁ is Cauchy, and scales of independent Cauchys add: G = 1 − (2/π) atan(d/(√u + √w))."""
    scale = math.sqrt(u) + math.sqrt(w)
    assert compute_tail(d, u, w, 1, 1) == pytest.approx(2 / math.pi * math.atan2(scale, d), rel=1e-8)


@pytest.mark.parametrize("d", [0.5, 2, 4, 5.5])
def test_two_normals_are_a_normal(d):
    """The t of f = 10⁶ degrees of freedom is normal but for some d⁴/4f of its tail."""
    assert compute_tail(d, 0.7, 0.3, 1e6, 1e6) == pytest.approx(2 * stats.norm.sf(d), rel=(1 + d**4) / 1e6)


@pytest.mark.parametrize(("d", "u", "w", "of_u", "of_w"), [(2, 0.5, 0.5, 4, 30), (3, 0.2, 0.8, 9, 92), (2.5, 0.9, 0.1, 4, 2.5)])
def test_tails_are_those_of_draws(d, u, w, of_u, of_w):
    g, n = np.random.default_rng(0), 1_000_000
    rate = np.mean(np.abs(math.sqrt(u) * g.standard_t(of_u, n) + math.sqrt(w) * g.standard_t(of_w, n)) >= d)
    expected = compute_tail(d, u, w, of_u, of_w)
    assert rate == pytest.approx(expected, abs=5 * math.sqrt(expected / n))


def test_one_part_alone_is_students_t():
    for d in (0.3, 2.5, 9):
        assert compute_tail(d, 2, 0, 9, 92) == pytest.approx(2 * stats.t.sf(d / math.sqrt(2), 9), rel=1e-12)
        assert compute_tail(d, 0, 2, 9, 27.7) == pytest.approx(2 * stats.t.sf(d / math.sqrt(2), 27.7), rel=1e-12)
        assert compute_tail(d, 1, 1e-14, 9, 92) == pytest.approx(compute_tail(d, 1, 0, 9, 92), rel=1e-6)


def test_tails_of_any_parts_converge_and_fall():
    """pytest turns a warning of the integral into an error."""
    g = np.random.default_rng(1)
    for _ in range(40):
        u, w = 10 ** g.uniform(-6, 6, 2)
        freedom = float(g.choice([4, 7, 9, 19])), g.uniform(9, 400)
        scale = math.sqrt(u + w)
        tails = [compute_tail(d * scale, u, w, *freedom) for d in (0, 0.5, 1, 2, 4, 8, 16, 64)]
        assert tails[0] == pytest.approx(1, abs=1e-9)
        assert all(a > b for a, b in pairwise(tails))


# ---- variances


def test_variances_are_those_of_sums_written_out():
    y = crossed(0)
    (seeds, videos), mean = y.shape, y.mean()
    rows = [sum(y[s, v] for v in range(videos)) / videos for s in range(seeds)]
    columns = [sum(y[s, v] for s in range(seeds)) / seeds for v in range(videos)]
    of_seeds = videos * sum((r - mean) ** 2 for r in rows) / (seeds - 1)
    of_videos = seeds * sum((c - mean) ** 2 for c in columns) / (videos - 1)
    rest = sum((y[s, v] - rows[s] - columns[v] + mean) ** 2 for s in range(seeds) for v in range(videos))
    squares = of_seeds, of_videos, rest / ((seeds - 1) * (videos - 1))
    assert split_variance(y) * y.size == pytest.approx(squares, rel=1e-10)
    assert split_variance(np.stack([y, 2 * y]))[:, 1] == pytest.approx(4 * split_variance(y), rel=1e-12)


def test_parts_estimate_the_variance_of_the_mean_without_bias():
    """E[A + B − E] = σ_a²/S + σ_b²/V + σ_e²/(SV). The mean of 4000 has a relative error below .02; five of them."""
    g, seeds, videos = np.random.default_rng(2), 5, 8
    y = 0.7 * g.normal(size=(4000, seeds, 1)) + 0.5 * g.normal(size=(4000, 1, videos)) + 2 * g.normal(size=(4000, seeds, videos))
    a, b, e = split_variance(y)
    expected = 0.7**2 / seeds + 0.5**2 / videos + 2**2 / seeds / videos
    estimates = a + b - e
    assert estimates.mean() == pytest.approx(expected, abs=5 * estimates.std() / math.sqrt(4000))
    assert y.mean((1, 2)).var() == pytest.approx(expected, rel=5 * math.sqrt(2 / 4000))


@pytest.mark.parametrize("parts", [(3.0, 2.0, 1.0), (0.5, 2.0, 1.0), (3.0, 0.5, 1.0), (0.5, 0.2, 1.0), (3.0, 2.0, 0.0)])
def test_both_ways_to_charge_the_interaction_have_the_same_variance(parts):
    whole = add_parts(*parts)
    assert whole >= max(parts)
    to_seeds, to_videos = charge_interaction(*parts)
    assert to_seeds == pytest.approx((parts[0], whole - parts[0]))
    assert to_videos == pytest.approx((whole - parts[1], parts[1]))


# ---- invariants


@pytest.mark.parametrize("seed", range(6))
def test_order_sign_and_unit_do_not_matter(seed):
    y, g = crossed(seed, shift=0.5), np.random.default_rng(seed)
    sizes = g.integers(5, 9, 15).astype(float)
    found = analyse_crossed(y, sizes)
    videos = g.permutation(15)
    assert analyse_crossed(y[g.permutation(7)][:, videos], sizes[videos]).p == pytest.approx(found.p, rel=1e-8)
    for factor in (-1, 1e-6, 1e6):
        other = analyse_crossed(factor * y, sizes)
        assert other.p == pytest.approx(found.p, rel=1e-8)
        assert sorted(other.interval()) == pytest.approx(sorted(factor * end for end in found.interval()), rel=1e-8)


@pytest.mark.parametrize("rest", [0, 0.3, 3])
@pytest.mark.parametrize(("run", "luck"), [(1, 0), (1, 0.2), (1, 2), (0, 1)])
def test_a_star_needs_both_one_way_tests(run, luck, rest):
    """Adding a symmetric unimodal term only widens a tail: p is at least each t test's."""
    for seed in range(5):
        y = crossed(seed, run=run, luck=luck, rest=rest, shift=1)
        found = analyse_crossed(y, equal(y))
        for means in (y.mean(1), y.mean(0)):
            if np.ptp(means) > 1e-9:
                assert found.p >= stats.ttest_1samp(means, 0).pvalue * (1 - 1e-8)


def test_runs_alone_and_videos_alone_are_one_way_tests():
    """Videos that are alike: the paired t over seeds. Runs that are alike: the t over videos, and a note."""
    seeds = crossed(3, luck=0, rest=0, shift=1)
    found = analyse_crossed(seeds, equal(seeds))
    assert found.p == pytest.approx(stats.ttest_1samp(seeds[:, 0], 0).pvalue, rel=1e-9)
    assert found.interval(0.01) == pytest.approx(stats.ttest_1samp(seeds[:, 0], 0).confidence_interval(0.99), rel=1e-8)
    assert found.shares == pytest.approx((1, 0, 0))
    videos = crossed(3, run=0, rest=0, shift=1)
    found = analyse_crossed(videos, equal(videos))
    assert found.p == pytest.approx(stats.ttest_1samp(videos[0], 0).pvalue, rel=1e-9)
    assert found.interval(0.01) == pytest.approx(stats.ttest_1samp(videos[0], 0).confidence_interval(0.99), rel=1e-8)
    assert (found.note, found.shares) == ("runs identical", pytest.approx((0, 1, 0)))


@pytest.mark.parametrize("rest", [0, 0.5, 5])
@pytest.mark.parametrize("level", [0.05, 0.05 / 24, 0.3])
def test_intervals_end_where_p_is_the_level(rest, level):
    y = crossed(4, rest=rest)
    found = analyse_crossed(y, equal(y))
    for end in found.interval(level):
        assert analyse_crossed(y - end, equal(y)).p == pytest.approx(level, rel=1e-6)


# ---- the law of p where the truth is known


@pytest.mark.parametrize("rounds", [100, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("seeds", "run", "luck", "rest"), [(5, 1, 0, 0), (5, 1, 1, 0), (5, 0, 1, 1), (10, 1, 0.5, 2), (10, 0.2, 1, 1)]
)
def test_p_is_below_a_level_no_more_often_than_that(rounds, seeds, run, luck, rest):
    """luck is of a mean over videos, rest of a run's mean; four standard errors. Runs alone are a t test, exact on both sides."""
    g, videos, levels = np.random.default_rng(seeds), 20, np.array([0.2, 0.05, 0.01])
    y = run * g.normal(size=(rounds, seeds, 1)) + math.sqrt(videos) * (
        luck * g.normal(size=(rounds, 1, videos)) + rest * g.normal(size=(rounds, seeds, videos))
    )
    p = np.array([analyse_crossed(one, np.ones(videos)).p for one in y])
    rates, off = (p[:, None] <= levels).mean(0), 4 * np.sqrt(levels * (1 - levels) / rounds)
    assert (rates <= levels + off).all()
    if not luck and not rest:
        assert (rates >= levels - off).all()
