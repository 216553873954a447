"""Intervals of means over runs, segments and groups, against SciPy, a bootstrap written out, and cases done by hand."""

import inspect
import math

import numpy as np
import pytest
from scipy import stats

from mdm.statistics import (
    compare,
    segment_interval,
    t_interval,
    welch_interval,
)


def array(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("n", [2, 5, 10])
def test_intervals_are_scipys(n):
    x, y = generator(n).normal(size=n), generator(n + 1).normal(0.3, 2, size=n)
    paired = stats.ttest_rel(x, y).confidence_interval(0.95)
    assert t_interval(x, y) == pytest.approx((paired.low, paired.high), rel=1e-9)
    assert compare(x, y, lower_is_better=True).interval == t_interval(x, y)
    more = np.append(y, [4.0, 5.0])
    welch = stats.ttest_ind(x, more, equal_var=False).confidence_interval(0.95)
    assert welch_interval(x, more) == pytest.approx((welch.low, welch.high), rel=1e-9)


def test_intervals_of_one_value_and_of_equal_ones():
    one, two = array(1), array(2, 2)
    assert all(math.isnan(end) for end in (*t_interval(one, one), *welch_interval(one, two), *welch_interval(two, one)))
    assert t_interval(two, two - 1) == welch_interval(two, two - 1) == (1, 1)


def test_the_interval_of_segments_is_the_percentile_bootstrap():
    """Against scipy's of the same seed-averaged differences, and mean ± 1.96 s/√n. A bound of 10,000 draws has an error of
    √(.025·.975/10,000)/φ(1.96) = .027 standard errors; six of them."""
    g = generator(3)
    system, baseline = g.normal(size=(4, 300)), g.normal(0.1, 1, size=(4, 300))
    d = (system - baseline).mean(0)
    error = d.std() / math.sqrt(300)
    found = segment_interval(system, baseline, generator(1))
    expected = stats.bootstrap((d,), np.mean, method="percentile", n_resamples=10_000, rng=generator(2)).confidence_interval
    assert found == pytest.approx((expected.low, expected.high), abs=6 * 0.027 * error)
    assert found == pytest.approx((d.mean() - 1.96 * error, d.mean() + 1.96 * error), abs=6 * 0.027 * error)
    assert found == segment_interval(system, baseline, generator(1))
    assert found != segment_interval(system, baseline, generator(4))
    turned = segment_interval(baseline, system, generator(1))
    assert turned == pytest.approx((-found[1], -found[0]))


def test_whole_groups_are_drawn():
    """Three videos of means 1, 2 and 4: one of them drawn three times has probability 1/27 > .025, so the ends are 1 and 4."""
    d = array(1, 2, 2, 4, 3, 5)
    labels = ["a", "b", "b", "c", "c", "c"]
    found = segment_interval(d[None] + 1, np.ones((1, 6)), generator(), groups=labels)
    assert found == pytest.approx((1, 4))
    # Every segment twice, in groups of two, is as every segment once.
    d = generator(1).normal(size=(1, 50))
    zero = np.zeros((1, 50))
    once = segment_interval(d, zero, generator(2))
    twice = segment_interval(np.repeat(d, 2, 1), np.repeat(zero, 2, 1), generator(2), groups=np.repeat(np.arange(50), 2))
    assert twice == pytest.approx(once)
    assert segment_interval(d, zero, generator(2), groups=[f"video {i:02}" for i in range(50)]) == pytest.approx(once)


def test_the_mean_of_drawn_groups_is_over_their_segments():
    """Groups of 1 and 9: both drawn gives the mean of all ten, (0 + 9·1)/10, not ½; it has half of the draws, 0 and 1 a quarter."""
    d, groups = np.array([[0.0] + [1.0] * 9]), [0] + [1] * 9
    means = {segment_interval(d, np.zeros((1, 10)), generator(seed), groups=groups, draws=1)[0] for seed in range(30)}
    assert means == {0.0, 0.9, 1.0}


def test_segments_that_no_interval_can_be_made_of_are_refused():
    g, bare = generator(), inspect.unwrap(segment_interval)
    losses = np.ones((2, 4))
    for system, options in ((np.ones((2, 5)), {}), (np.ones((3, 4)), {}), (np.ones(4), {}), (losses, {"draws": 0})):
        with pytest.raises(ValueError, match=r"Segments are drawn at least once, of losses \[seeds, segments\] of two systems"):
            bare(system, losses, g, **options)
    with pytest.raises(ValueError, match=r"got \[2, 0\] and \[2, 0\] with draws=10000"):
        bare(np.ones((2, 0)), np.ones((2, 0)), g)
    with pytest.raises(ValueError, match="Losses of test segments must be finite"):
        bare(losses * np.nan, losses, g)
    with pytest.raises(ValueError, match="A segment has a group, got 4 segments and 3 groups"):
        bare(losses, losses, g, groups=[1, 2, 3])
    with pytest.raises(ValueError, match="two segments at least, or groups if they are given, got 1"):
        bare(losses, losses, g, groups=[1, 1, 1, 1])
    with pytest.raises(ValueError, match="two segments at least"):
        bare(losses[:, :1], losses[:, :1], g)
