"""Stars by segments: the two-way t of each metric without each video, written out."""

import re

import numpy as np
import pytest
from made_stars import SEEDS, Made, contrast_of, declare_table

from mdm.metrics import METRICS, evaluate, find_metric
from mdm.statistics import analyse_crossed
from mdm.statistics.jackknife import compute_pseudo_values
from mdm.tables.latex import render_latex
from mdm.tables.markdown import render_markdown
from mdm.tables.page import render_page
from mdm.tables.rows import build_cell_rows

SIZES = (1, 3, 2, 5, 1, 2, 4, 2, 1, 3, 2, 4, 3, 1, 2)


@pytest.fixture
def made(tmp_path):
    return Made(tmp_path)


def draw(seed=0, targets=1):
    """Runs [2, seeds, segments, targets] with luck of videos, labels with zeros, and videos in no order."""
    g = np.random.default_rng(seed)
    n = sum(SIZES)
    groups = g.permutation(np.repeat([f"video {i}" for i in range(len(SIZES))], SIZES))
    labels = np.rint(g.uniform(-3, 3, (n, targets)))
    luck = g.normal(0, 0.4, (2, 1, len(SIZES), targets))[:, :, np.unique(groups, return_inverse=True)[1]]
    return labels + g.normal(0.2, 1, (2, SEEDS, n, targets)) + luck, labels, groups


def by_force(value, runs, labels, groups, counts):
    """The two-way t of a function of one run's predictions and labels, computed again without each video that has segments that
    count. counts: how many each segment counts for."""
    videos = [v for v in np.unique(groups) if counts[groups == v].sum()]
    whole = [np.array([value(p, labels) for p in side]) for side in runs]
    without = [np.array([[value(p[groups != v], labels[groups != v]) for v in videos] for p in side]) for side in runs]
    baseline, system = map(compute_pseudo_values, whole, without)
    return analyse_crossed(system - baseline, np.array([counts[groups == v].sum() for v in videos], dtype=float))


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if not metric.joint])
def test_the_two_way_t_is_of_the_metric_without_each_video(made, name):
    """From the files to the cell, in percent where the table is; the metric computed again on the segments that are left."""
    runs, labels, groups = draw()
    for row, of_row in zip(("none", "kl"), runs, strict=True):
        for seed, prediction in enumerate(of_row):
            made.write(row, seed, prediction, labels, groups)
    what, found = find_metric(name), contrast_of(made.sheet(declare_table(name))).found.crossed
    counts = (labels[:, 0] != 0 if what.keeps is not None else np.ones(len(labels))).astype(int)
    expected = by_force(lambda p, y: what.scale * what.value(p, y), runs[..., 0], labels[:, 0], groups, counts)
    assert expected.p < 1
    assert (found.p, found.difference, found.videos) == pytest.approx((expected.p, expected.difference, expected.videos))
    assert found.interval(0.01) == pytest.approx(expected.interval(0.01))
    assert found.shares == pytest.approx(expected.shares)


@pytest.mark.parametrize("name", ["mae", "acc2_pos", "sad/acc2_pos", "corr", "accuracy"])
def test_several_targets(made, name):
    """The mean over targets, each with the segments that it counts; one target; and the one number of all of them."""
    runs, labels, groups = draw(1, targets=2)
    targets, low, high = ("happy", "sad"), -3.0, 3.0
    if name == "accuracy":
        labels = np.where(np.arange(2) == np.random.default_rng(2).integers(0, 2, (len(labels), 1)), high, low)
    for row, of_row in zip(("none", "kl"), runs, strict=True):
        for seed, prediction in enumerate(of_row):
            made.write(row, seed, prediction, labels, groups, targets)
    found = contrast_of(made.sheet(declare_table(name))).found.crossed
    kept = {"acc2_pos": (labels != 0).sum(1), "sad/acc2_pos": (labels[:, 1] != 0).astype(int)}
    counts, scale = kept.get(name, np.ones(len(labels), dtype=int)), find_metric(name).scale
    expected = by_force(lambda p, y: scale * evaluate(p, y, (low, high), targets)[name], runs, labels, groups, counts)
    assert (found.p, found.difference, found.videos) == pytest.approx((expected.p, expected.difference, expected.videos))


def test_without_groups_every_segment_is_its_own_video(made):
    runs, labels, _ = draw()
    for row, of_row in zip(("none", "kl"), runs, strict=True):
        for seed, prediction in enumerate(of_row):
            made.write(row, seed, prediction, labels)
    found = contrast_of(made.sheet(declare_table())).found.crossed
    assert found.videos == pytest.approx(sum(SIZES))


def test_few_videos_cannot_tell(made):
    made.write_errors({"none": [0.8 + 0.01 * s for s in range(SEEDS)], "kl": [0.4 + 0.02 * s for s in range(SEEDS)]}, videos=8)
    sheet = made.sheet(declare_table())
    contrast, why = contrast_of(sheet), "cannot be told: the test set counts as 8.0 videos of equal size, 10 are needed"
    assert contrast.reason == why
    for text in (render_markdown(sheet), render_page(sheet), render_latex(sheet)):
        assert why in text
    (row,) = [row for row in build_cell_rows(sheet) if row["row"] == "kl"]
    assert (row["p_crossed"], row["p_holm"], row["star"], row["reason"]) == ("", 1, False, why)
    assert re.search(r"\| –  +\| –  +\| –  +\| 1\.000 \|", render_markdown(sheet))  # interval, shares and p; Holm's


def test_other_labels_are_refused(made):
    made.write_errors({"none": [0.8] * SEEDS, "kl": [0.5] * (SEEDS - 1)})
    label = np.array([-2.0, -1.0, 1.0, 1.0] * 6)
    made.write("kl", SEEDS - 1, label, label, [f"v{i // 2}" for i in range(24)])
    with pytest.raises(ValueError, match=r"same test segments, but the labels in predictions\.csv of .*seed=0 and .*seed=7 differ"):
        made.sheet(declare_table())
