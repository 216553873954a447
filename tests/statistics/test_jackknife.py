"""A metric without each video: against the metric computed again on the segments that are left."""

import inspect
import math

import numpy as np
import pytest

from mdm import metrics
from mdm.metrics.sums import ABSOLUTE_ERROR, ACCURACY, CORRELATION, SQUARED_ERROR, WEIGHTED_F1
from mdm.statistics.jackknife import LeaveOneOut, add_others, average, compute_pseudo_values, leave_out_slowly, leave_out_videos

SEEDS = 4


def draw(seed: int, sizes=(1, 7, 2, 30, 5, 1, 12)):
    """Predictions [seeds, segments], labels in [−3, 3], videos whose segments don't lie together."""
    g = np.random.default_rng(seed)
    labels = np.clip(np.round(g.normal(0.3, 1.5, sum(sizes)) * 3) / 3, -3, 3)
    groups = g.permutation(np.repeat([f"video {i}" for i in range(len(sizes))], sizes))
    return 0.6 * labels + g.normal(0, 1, (SEEDS, len(labels))), labels, groups


def by_force(metric, predictions, labels, groups):
    """[seeds], [seeds, videos] of a function of one run's predictions and labels."""
    videos = np.unique(groups)
    whole = np.array([metric(p, labels) for p in predictions])
    return whole, np.array([[metric(p[groups != v], labels[groups != v]) for v in videos] for p in predictions])


def round_to(edge):
    return lambda values: np.rint(np.clip(values, -edge, edge))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("name", "metric", "classes"),
    [
        ("mae", ABSOLUTE_ERROR, lambda v: v),
        ("corr", CORRELATION, lambda v: v),
        ("acc7", ACCURACY, round_to(3)),
        ("acc5", ACCURACY, round_to(2)),
        ("acc2_nonneg", ACCURACY, lambda v: v >= 0),
        ("f1_nonneg", WEIGHTED_F1, lambda v: v >= 0),
        ("f1_3", WEIGHTED_F1, round_to(1)),
    ],
)
def test_values_without_a_video_are_those_of_the_other_segments(name, metric, classes, seed):
    """Sums of n numbers below 10 are off by less than 10 n²ε < 1e-11; the correlation divides by a variance near 1."""
    predictions, labels, groups = draw(seed)
    found = leave_out_videos(classes(predictions), classes(labels), groups, metric)
    whole, without = by_force(lambda p, y: metrics.evaluate_target(p, y, (-3.0, 3.0))[name], predictions, labels, groups)
    assert found.whole == pytest.approx(whole, abs=1e-11)
    assert found.without == pytest.approx(without, abs=1e-11)
    assert found.sizes.tolist() == [(groups == v).sum() for v in np.unique(groups)]


def test_segments_that_a_metric_leaves_out_are_in_no_sum():
    """acc2_pos and f1_pos: segments with a label of 0 do not count, nor does a video that has no others."""
    predictions, labels, groups = draw(1)
    labels[groups == "video 2"] = 0
    for name, metric in (("acc2_pos", ACCURACY), ("f1_pos", WEIGHTED_F1)):
        found = leave_out_videos(predictions > 0, labels > 0, groups, metric, counted=labels != 0)
        whole, without = by_force(lambda p, y, n=name: metrics.evaluate_target(p, y, (-3.0, 3.0))[n], predictions, labels, groups)
        assert found.whole == pytest.approx(whole, abs=1e-12)
        assert found.without == pytest.approx(without, abs=1e-12)
        assert found.sizes[2] == 0
        assert (found.without[:, 2] == found.whole).all()
        assert found.sizes.sum() == (labels != 0).sum()


def test_the_mean_square_and_its_pseudo_values_by_hand():
    """Errors 1, 2 | 3 of videos a and b: θ = 14/3, without a 9, without b 5/2; y = θ ± (9 − 5/2)/2."""
    found = leave_out_videos(np.array([[1.0, 2.0, 3.0]]), np.zeros(3), ["a", "a", "b"], SQUARED_ERROR)
    assert found.whole == pytest.approx([14 / 3])
    assert found.without == pytest.approx(np.array([[9, 2.5]]))
    assert compute_pseudo_values(found.whole, found.without) == pytest.approx(np.array([[14 / 3 - 3.25, 14 / 3 + 3.25]]))


def test_pseudo_values_of_a_mean_over_equal_videos_are_the_videos_means():
    predictions, labels, groups = draw(2, sizes=(6,) * 9)
    found = leave_out_videos(predictions, labels, groups, ABSOLUTE_ERROR)
    means = [[np.abs(p - labels)[groups == v].mean() for v in np.unique(groups)] for p in predictions]
    assert compute_pseudo_values(found.whole, found.without) == pytest.approx(np.array(means), abs=1e-11)


@pytest.mark.parametrize("metric", [CORRELATION, ABSOLUTE_ERROR])
def test_pseudo_values_have_the_metric_as_their_mean(metric):
    found = leave_out_videos(*draw(3), metric)
    assert compute_pseudo_values(found.whole, found.without).mean(1) == pytest.approx(found.whole, abs=1e-12)


def test_jackknife_variance_of_a_correlation_is_the_known_one():
    """n Var(r) → (1 − ρ²)² for normal pairs; the jackknife's variance of 4000 pairs has an error of some √(8/4000) = .045 of it."""
    g, rho, n = np.random.default_rng(0), 0.6, 4000
    y = g.normal(size=n)
    found = leave_out_videos((rho * y + math.sqrt(1 - rho**2) * g.normal(size=n))[None], y, np.arange(n), CORRELATION)
    variance = compute_pseudo_values(found.whole, found.without).var(ddof=1)
    assert variance == pytest.approx((1 - rho**2) ** 2, rel=5 * 0.045)


def test_a_correlation_with_a_constant_is_not_defined():
    """Predictions that vary in one video alone: a value on the whole, none without that video. A constant run has none at all."""
    labels, groups = np.array([1.0, -1, 2, 0.5, 3]), np.array(list("aabbc"))
    predictions = np.array([[0.1, 0.1, 0.1, 0.1, 0.7], [0.1, 0.1, 0.1, 0.1, 0.1], [0.3, -2, 1, 0.7, 1]])
    found = leave_out_videos(predictions, labels, groups, CORRELATION)
    assert np.isnan(found.whole).tolist() == [False, True, False]
    assert np.isnan(found.without).tolist() == [[False, False, True], [True] * 3, [False] * 3]


@pytest.mark.parametrize("lost", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("metric", [ABSOLUTE_ERROR, CORRELATION, ACCURACY, WEIGHTED_F1])
def test_a_run_that_diverged_has_no_value(lost, metric):
    """Not even an accuracy, which would count its predictions as wrong."""
    predictions, labels, groups = draw(4)
    before = leave_out_videos(predictions, labels, groups, metric)
    predictions[1, 3] = lost
    found = leave_out_videos(predictions, labels, groups, metric)
    assert np.isnan(found.whole[1])
    assert np.isnan(found.without[1]).all()
    for row in (0, 2, 3):
        assert (found.without[row] == before.without[row]).all()


def test_a_mean_over_targets_is_the_mean_of_their_values():
    first, second = (leave_out_videos(p, y, draw(5)[2], CORRELATION) for p, y, _ in (draw(5), draw(6)))
    both = average([first, second])
    assert both.whole == pytest.approx((first.whole + second.whole) / 2)
    assert both.without == pytest.approx((first.without + second.without) / 2)
    assert (both.sizes == 2 * first.sizes).all()


def test_sums_of_others_leave_nothing_of_a_total():
    """1e16 + 1 − 1e16 is 0 or 2 in floating point; the sum of what is left is 1."""
    assert add_others(np.array([1e16, 1.0, 0.0])).tolist() == [1.0, 1e16, 1e16 + 1.0]
    assert add_others(np.array([[3.0]])).tolist() == [[0.0]]


def test_what_is_not_of_one_test_set_is_refused():
    bare = inspect.unwrap(leave_out_videos)
    predictions, labels, groups = draw(0)
    for p, y, videos in (
        (predictions, labels[1:], groups),
        (predictions, labels, groups[1:]),
        (predictions[:, :0], labels[:0], groups[:0]),
    ):
        with pytest.raises(ValueError, match="Expected a label and a group for each predicted segment, got predictions"):
            bare(p, y, videos, ABSOLUTE_ERROR)
    with pytest.raises(ValueError, match="give all of one test set, in one order"):
        bare(predictions, labels, groups, ABSOLUTE_ERROR, counted=np.ones(3, dtype=bool))
    one = LeaveOneOut(np.ones(2), np.ones((2, 3)), np.ones(3, dtype=int))
    with pytest.raises(ValueError, match="Expected metrics of the same runs and videos"):
        average([one, LeaveOneOut(np.ones(2), np.ones((2, 4)), np.ones(4, dtype=int))])
    with pytest.raises(ValueError, match="Expected metrics of the same runs and videos"):
        average([])


# ---- of any metric


def test_any_metric_is_computed_anew_without_each_video():
    """The median of absolute errors, which no sums give; a run that is not finite has none. And what sums give, the same."""
    predictions, labels, groups = draw(3)
    counted = labels != 0

    def median(p, y):
        return float(np.median(np.abs(p - y)))

    found = leave_out_slowly(predictions, labels, groups, median, counted=counted)
    whole, without = by_force(median, predictions[:, counted], labels[counted], groups[counted])
    assert found.whole == pytest.approx(whole)
    assert found.without[:, found.sizes > 0] == pytest.approx(without)
    predictions[2, 5] = np.nan
    found = leave_out_slowly(predictions, labels, groups, metrics.pearson, counted=counted)
    quick = leave_out_videos(predictions, labels, groups, CORRELATION, counted=counted)
    assert np.isnan(found.without[2]).all()
    assert found.without == pytest.approx(quick.without, nan_ok=True)
    assert found.sizes.tolist() == quick.sizes.tolist()
    with pytest.raises(ValueError, match="Expected a label and a group for each predicted segment"):
        inspect.unwrap(leave_out_slowly)(predictions, labels, groups[1:], metrics.pearson)


@pytest.mark.parametrize("name", list(metrics.METRICS))
def test_every_metric_of_sums_is_the_metric_without_each_video(name):
    """The one entry of a metric says it twice, whole and as sums; of one target, or of all where it is joint."""
    what = metrics.METRICS[name]
    predictions, labels, groups = draw(8)
    if what.joint:
        classes = np.eye(3)[np.random.default_rng(1).integers(0, 3, len(labels))]
        predictions, labels = np.random.default_rng(2).normal(size=(SEEDS, len(labels), 3)) + classes, classes
    counted = np.ones(len(labels), dtype=bool) if what.keeps is None else what.keeps(labels)
    found = leave_out_videos(predictions, labels, groups, what.sums, counted=counted)
    whole, without = by_force(what.value, predictions, labels, groups)
    assert found.whole == pytest.approx(whole)
    assert found.without == pytest.approx(without)
    assert found.sizes.sum() == counted.sum()


def test_the_largest_of_several_classes_means_nothing_where_several_may_be_there():
    labels = np.array([[1.0, 1, 0], [0, 1, 0], [0, 0, 1]])
    assert np.isnan(leave_out_videos(labels[None], labels, [0, 1, 2], metrics.METRICS["accuracy"].sums).whole).all()
