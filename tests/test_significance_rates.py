"""How often tables star what is there and what is not: simulations of whole families, through `compare` and `judge`.

Rates are stated in closed form. A simulation of R rounds may be off by four standard errors, 4 √(r(1 − r)/R). Small ones run
always, large ones with the marker slow.

With n = 10 and k = 24, the size of Colombo et al.'s (2021) first table, Holm's first twelve steps need p·24, … p·13 < .05, and of
the sign-flip test's multiples of 2/2¹⁰ = .00195 only the smallest will do: all ten differences on one side. So a difference that is
normal with a mean of δ standard deviations is starred with probability Φ(δ)¹⁰, and a null one with 2/2¹⁰.
"""

import math

import numpy as np
import pytest
from scipy import stats

from mdm.statistics import compare, judge, segment_interval, t_interval, welch_interval

N, FAMILY = 10, 24
SIZES = [pytest.param(60, id="60 families"), pytest.param(600, id="600 families", marks=pytest.mark.slow)]


def off(rate: float, rounds: int) -> float:
    return 4 * math.sqrt(rate * (1 - rate) / rounds)


def starred(effects: np.ndarray, rounds: int, noise: str, own_baselines: bool) -> np.ndarray:
    """Whether each comparison got a star, [rounds, family]. A run is its seed's luck, which pairs share, plus noise of its own."""
    g, stars = np.random.default_rng(0), []
    for _ in range(rounds):
        seeds = g.normal(size=N)
        runs = seeds + getattr(g, noise)(size=(len(effects), N)) - effects[:, None]
        baselines = seeds + getattr(g, noise)(size=(len(effects) if own_baselines else 1, N))
        family = [compare(run, baselines[i % len(baselines)], lower_is_better=True) for i, run in enumerate(runs)]
        stars.append([verdict.star for verdict in judge(family)])
    return np.array(stars)


# ---- families of a table


@pytest.mark.parametrize("rounds", SIZES)
def test_null_effects_are_starred_in_one_family_of_twenty(rounds):
    """1 − (1 − 2/2¹⁰)²⁴ = .0458 where comparisons are independent, whatever the noise; at most 24·2/2¹⁰ = .0469 where they share
    their baseline, as a table's rows do. Uncorrected, at p < .05, it would be 1 − .95²⁴ = .71."""
    rate = 1 - (1 - 2 / 2**N) ** FAMILY
    assert rate == pytest.approx(0.0458, abs=1e-4)
    null = np.zeros(FAMILY)
    independent = starred(null, rounds, "standard_cauchy", own_baselines=True).any(1).mean()
    assert independent == pytest.approx(rate, abs=off(rate, rounds))
    shared = starred(null, rounds, "standard_exponential", own_baselines=False).any(1).mean()
    assert shared <= FAMILY * 2 / 2**N + off(rate, rounds)


@pytest.mark.parametrize("rounds", SIZES)
def test_planted_effects_are_starred_at_the_stated_rates(rounds):
    """Two effects among 22 nulls: two standard deviations of a difference are starred with Φ(2)¹⁰ = .79; two of a run, which are √2
    of a difference, with Φ(√2)¹⁰ = .44."""
    effects = np.zeros(FAMILY)
    effects[:2] = 2 * math.sqrt(2), 2
    stars = starred(effects, rounds, "normal", own_baselines=False)
    for i, (delta, stated) in enumerate([(2, 0.794), (math.sqrt(2), 0.441)]):
        rate = stats.norm.cdf(delta) ** N
        assert rate == pytest.approx(stated, abs=1e-3)
        assert stars[:, i].mean() == pytest.approx(rate, abs=off(rate, rounds))
    false = 22 * 2 / 2**N
    assert stars[:, 2:].any(1).mean() <= false + off(false, rounds)


# ---- test segments


@pytest.mark.parametrize("rounds", [100, pytest.param(2000, marks=pytest.mark.slow)])
def test_seeds_alone_star_the_luck_of_the_test_set(rounds):
    """Two systems that are equally good on all segments there are, but not on the 200 of a test set, and whose seeds hardly differ.

    All seeds share the test set's luck, so the sign-flip test rejects nearly always. With the interval over segments it is one in
    twenty.
    """
    g, alone, gated = np.random.default_rng(0), 0, 0
    for _ in range(rounds):
        quirks = g.normal(0, 0.3, (2, 1, 200))  # of each system on each segment
        system, baseline = np.abs(1 + quirks + g.normal(0, 0.01, (2, N, 200)))
        low, high = segment_interval(system, baseline, g, draws=1000)
        star = judge([compare(system.mean(1), baseline.mean(1), lower_is_better=True)])[0].star
        alone += star
        gated += star and (low > 0 or high < 0)
    assert alone / rounds > 0.85
    assert gated / rounds == pytest.approx(0.05, abs=off(0.05, rounds) + 0.01)


@pytest.mark.parametrize("rounds", [300, pytest.param(4000, marks=pytest.mark.slow)])
def test_intervals_over_segments_cover_what_they_say(rounds):
    """.95 of 300 independent segments. Then 30 videos of 10 segments, which are alike (ρ = ½).

    Drawn one by one, standard errors are too small by √(1 + 9ρ) = 2.3, and 2Φ(1.96/2.3) − 1 = .60 is covered. Drawn as videos it is
    what percentiles of 30 values cover: P(|t₂₉| < 1.96 √(29/30)) = .94.
    """
    g, covered = np.random.default_rng(0), np.zeros(3)
    zero, videos = np.zeros((1, 300)), np.repeat(np.arange(30), 10)
    for _ in range(rounds):
        segments = g.normal(size=(1, 300))
        alike = math.sqrt(0.5) * (segments + g.normal(size=(1, 30))[:, videos])
        for i, (losses, groups) in enumerate([(segments, None), (alike, None), (alike, videos)]):
            low, high = segment_interval(losses, zero, g, groups=groups, draws=400)
            covered[i] += low <= 0 <= high
    inside = 2 * stats.t.cdf(1.96 * math.sqrt(29 / 30), 29) - 1
    assert inside == pytest.approx(0.937, abs=2e-3)
    one_by_one = 2 * stats.norm.cdf(1.96 / math.sqrt(5.5)) - 1
    for rate, stated in zip(covered / rounds, (0.95, one_by_one, inside), strict=True):
        assert rate == pytest.approx(stated, abs=off(stated, rounds) + 0.01)  # 400 draws, quantiles between them


# ---- what the papers' ways do


@pytest.mark.parametrize(("n", "threshold", "power"), [(5, 2, 0.21), (10, 23, 0.52), (20, 127, 0.84)])
def test_power_of_mann_whitney_at_one_standard_deviation(n, threshold, power):
    """The test rejects at .05 up to these U (`test_permutation.py`)."""
    g, rounds = np.random.default_rng(n), 10_000
    x, y = g.normal(size=(rounds, n, 1)), g.normal(1, 1, (rounds, 1, n))
    u = (x > y).sum((1, 2))
    assert np.mean(np.minimum(u, n * n - u) <= threshold) == pytest.approx(power, abs=off(power, rounds) + 0.005)


def test_the_best_of_three_null_penalties_beats_the_baseline_three_times_in_four():
    """The winner's curse: of four systems that are alike each is best with probability ¼, so one of three beats the fourth with ¾.

    Its mean of ten runs is E max(3 normals)/√10 = 3/(2√π)/√10 = .27 standard deviations too good. One of the three one-sided t
    tests is below .05 in .11 of tables; Holm's procedure on two-sided tests stars one that is better in less than .05.
    """
    g, rounds = np.random.default_rng(0), 20_000
    runs = g.normal(size=(rounds, 4, N))
    means = runs.mean(2)
    best = means[:, :3].max(1)
    assert np.mean(best > means[:, 3]) == pytest.approx(0.75, abs=off(0.75, rounds))
    curse = 3 / (2 * math.sqrt(math.pi)) / math.sqrt(N)
    assert curse == pytest.approx(0.268, abs=1e-3)
    assert best.mean() == pytest.approx(curse, abs=4 * math.sqrt(1 / N / rounds))
    errors = np.sqrt((runs.var(2, ddof=1)[:, :3] + runs.var(2, ddof=1)[:, 3:]) / N)
    t = (means[:, :3] - means[:, 3:]) / errors
    assert np.mean((t > stats.t.ppf(0.95, 2 * N - 2)).any(1)) == pytest.approx(0.11, abs=off(0.11, rounds) + 0.005)
    starred_and_better = 0
    for row in runs[:400]:
        family = [compare(row[i], row[3], lower_is_better=False) for i in range(3)]
        starred_and_better += any(v.star and c.difference > 0 for v, c in zip(judge(family), family, strict=True))
    assert starred_and_better / 400 <= 0.05 + off(0.05, 400)


def test_a_bootstrap_over_five_seeds_covers_less_than_it_says():
    """Why seeds get t intervals: those of two times five normal runs cover .95, Welch's .956, percentiles of a bootstrap .887.

    The last two are figures of another simulation. With the variance of a sample divided by n and a normal law for t₈'s,
    P(|t₈| < 1.96 √(4/5)) = .88.
    """
    g, rounds, n = np.random.default_rng(0), 2000, 5
    covered = np.zeros(3)
    for _ in range(rounds):
        x, y = g.normal(size=(2, n))
        drawn = x[g.integers(0, n, (500, n))].mean(1) - y[g.integers(0, n, (500, n))].mean(1)
        for i, (low, high) in enumerate([t_interval(x, y), welch_interval(x, y), np.quantile(drawn, [0.025, 0.975])]):
            covered[i] += low <= 0 <= high
    for rate, stated in zip(covered / rounds, (0.95, 0.956, 0.887), strict=True):
        assert rate == pytest.approx(stated, abs=off(stated, rounds))
