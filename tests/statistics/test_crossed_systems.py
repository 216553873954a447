"""The two-way t between systems: what cannot be told, lost runs, stars of a family, and refusals."""

import inspect
import math
from dataclasses import replace

import numpy as np
import pytest

from mdm.metrics.sums import ABSOLUTE_ERROR
from mdm.statistics.crossed import (
    Crossed,
    analyse_crossed,
    cannot_tell,
    compare_crossed,
    judge_crossed,
)
from mdm.statistics.jackknife import LeaveOneOut, compute_pseudo_values, leave_out_videos


def equal(y: np.ndarray) -> np.ndarray:
    return np.ones(y.shape[1])


def crossed(seed: int, seeds=7, videos=15, run=1.0, luck=1.0, rest=1.0, shift=0.0) -> np.ndarray:
    g = np.random.default_rng(seed)
    return shift + run * g.normal(size=(seeds, 1)) + luck * g.normal(size=(1, videos)) + rest * g.normal(size=(seeds, videos))


# ---- what cannot be told


def test_what_cannot_be_told_says_why():
    y = crossed(5, seeds=4)
    found = analyse_crossed(y, equal(y), lost=2)
    assert found.reason == "cannot be told: 4 paired runs, 5 are needed"
    assert (found.p, found.pairs, found.lost, found.difference) == (1, 4, 2, pytest.approx(y.mean()))
    assert all(math.isnan(value) for value in (*found.interval(), *found.shares, found.variance))
    y = crossed(5, videos=9)
    assert analyse_crossed(y, equal(y)).reason == "cannot be told: the test set counts as 9.0 videos of equal size, 10 are needed"
    sizes = np.array([300.0] + [20.0] * 30)  # 900²/(300² + 30·20²) = 7.9
    assert analyse_crossed(crossed(5, videos=31), sizes).reason.startswith("cannot be told: the test set counts as 7.9 videos")
    assert analyse_crossed(crossed(5, videos=10), np.ones(10)).reason == ""
    assert analyse_crossed(np.zeros((0, 12)), np.ones(12)).reason == "cannot be told: 0 paired runs, 5 are needed"


def test_no_variation_is_no_evidence():
    """Equal everywhere: no difference, p = 1. The same difference everywhere: nothing tells how sure it is."""
    same = analyse_crossed(np.zeros((6, 12)), np.ones(12))
    assert (same.p, same.reason, same.note, same.interval()) == (1, "", "no difference in any run or video", (0, 0))
    constant = analyse_crossed(np.full((6, 12), 0.1), np.ones(12))
    assert constant.reason == "cannot be told: the difference is the same in every run and video"
    rounding = 0.1 + 1e-16 * np.random.default_rng(0).integers(-1, 2, (6, 12))
    assert analyse_crossed(rounding, np.ones(12)).reason == constant.reason
    assert analyse_crossed(rounding - 0.1, np.ones(12), unit=0.1).note == same.note


def values(whole, without, sizes=None) -> LeaveOneOut:
    return LeaveOneOut(whole, without, np.full(without.shape[1], 7) if sizes is None else sizes)


def systems(seeds=8, videos=12) -> tuple[LeaveOneOut, LeaveOneOut]:
    g = np.random.default_rng(6)
    labels, groups = g.normal(size=videos * 7), np.arange(videos * 7) % videos
    system, baseline = (
        leave_out_videos(labels + g.normal(0, sd, (seeds, len(labels))), labels, groups, ABSOLUTE_ERROR) for sd in (1, 1.3)
    )
    return system, baseline


def test_a_comparison_is_that_of_the_differences():
    system, baseline = systems()
    found = compare_crossed(system, baseline)
    y = compute_pseudo_values(system.whole - baseline.whole, system.without - baseline.without)
    assert found.p == pytest.approx(analyse_crossed(y, equal(y)).p)
    assert found.difference == pytest.approx((system.whole - baseline.whole).mean())
    back = compare_crossed(baseline, system)
    assert (back.p, back.difference) == (pytest.approx(found.p), pytest.approx(-found.difference))


@pytest.mark.parametrize("side", [0, 1])
def test_a_pair_with_a_lost_run_is_dropped_whole_and_counted(side):
    pair = list(systems())
    kept = [values(one.whole[1:], one.without[1:]) for one in pair]
    lost = pair[side]
    pair[side] = values(np.where(np.arange(8) == 0, np.nan, lost.whole), lost.without)
    assert compare_crossed(*pair) == replace(compare_crossed(*kept), lost=1)
    nothing = compare_crossed(values(np.full(8, np.nan), lost.without), pair[1 - side])
    assert (nothing.reason, nothing.lost) == ("cannot be told: 0 paired runs, 5 are needed", 8)
    assert math.isnan(nothing.difference)


def test_a_metric_that_needs_one_video_cannot_be_told():
    system, baseline = systems()
    without = system.without.copy()
    without[2, 5] = np.nan
    found = compare_crossed(values(system.whole, without), baseline)
    assert found.reason == "cannot be told: the metric has no value without one of the videos"
    assert found.difference == pytest.approx((system.whole - baseline.whole).mean())


def test_videos_without_a_segment_that_counts_are_no_videos():
    system, baseline = systems()
    found = compare_crossed(system, baseline)
    sizes = np.append(system.sizes, 0)
    empty = [values(one.whole, np.column_stack([one.without, one.whole]), sizes) for one in (system, baseline)]
    assert compare_crossed(*empty) == found
    nothing = values(np.full(8, np.nan), np.full((8, 12), np.nan), np.zeros(12, dtype=int))
    assert compare_crossed(nothing, nothing).reason == "cannot be told: the metric counts no segment of the test set"


# ---- families


def build_crossed(p: float) -> Crossed:
    return Crossed(10, 0, 31.0, 0.1, (1.0, 1.0, 0.0), p)


def test_stars_of_a_family():
    """Holm over .01, .02, 1 and 1: .04, .06, 1, 1. Up to the level, not below it."""
    verdicts = judge_crossed(
        [build_crossed(0.02), build_crossed(0.01), cannot_tell("no predictions of the baseline"), build_crossed(1)]
    )
    assert [v.adjusted for v in verdicts] == pytest.approx([0.06, 0.04, 1, 1])
    assert [v.reason for v in verdicts] == [
        "no evidence at n=10",
        "",
        "cannot be told: no predictions of the baseline",
        "no evidence at n=10",
    ]
    assert [v.star for v in verdicts] == [False, True, False, False]
    assert judge_crossed([build_crossed(0.05)])[0].star
    assert judge_crossed([]) == []


# ---- refusals


def test_what_is_not_crossed_is_refused():
    bare = inspect.unwrap(analyse_crossed)
    y = crossed(0)
    for arguments in ((y, np.ones(3)), (y, np.zeros(15)), (np.where(y > 2, np.nan, y), np.ones(15)), (y[:, :0], np.ones(0))):
        with pytest.raises(ValueError, match=r"Expected finite values \[seeds, videos\] and a size above 0 for each video"):
            bare(*arguments)
    system, baseline = systems()
    for other in (systems(seeds=7)[0], systems(videos=11)[0], values(baseline.whole, baseline.without, baseline.sizes + 1)):
        with pytest.raises(ValueError, match=r"Expected the same seeds and videos of both systems, got \[seeds, videos\]"):
            compare_crossed(system, other)
    for level in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="Expected a level between 0 and 1, got"):
            build_crossed(0.1).interval(level)
        with pytest.raises(ValueError, match="Expected a level between 0 and 1, got"):
            judge_crossed([], alpha=level)
