"""Tables against numbers done by hand, from records that were made up: means, stars, the best row, and how numbers read."""

import math
from dataclasses import replace

import numpy as np
import pytest
from made_tables import BETTER, LABEL, NONE, SEEDS, Outputs, declare_table, lines_of, rows
from scipy import stats

from mdm.metrics import METRICS as ALL_METRICS
from mdm.metrics import Metric, format_heading
from mdm.sweeps.experiment import Row, Table
from mdm.tables.caption import format_ranges, render_caption
from mdm.tables.cells import render_cell
from mdm.tables.markdown import render_markdown
from mdm.tables.rows import build_cell_rows
from mdm.tables.wording import format_interval, format_number, format_p, format_signed


@pytest.fixture
def outputs(tmp_path):
    return Outputs(tmp_path)


SAME = [value + (0.001 if seed % 2 else -0.001) for seed, value in enumerate(NONE)]


# Numbers ------------------------------------------------------------------------------------------------


def test_mean_deviation_and_the_distance_from_the_paper(outputs):
    """MAE of seed s is .80 + .01 s: mean .845, sample sd .01·√(55/6); the paper prints 1.00. Errors below 1 turn no sign that is
    negative by 1 or more, and none of a positive: Acc-2 is 100 %, the paper's 76.1."""
    outputs.fill({"none": NONE})
    entries = lines_of(outputs.sheet(declare_table(), "penalty=none"))["none"].entries
    mae, acc = entries["mae"], entries["acc2_pos"]
    assert mae.mean == pytest.approx(0.845)
    assert mae.sd == pytest.approx(0.01 * math.sqrt(55 / 6))
    assert mae.difference == pytest.approx(0.845 - 1.00)
    assert (acc.mean, acc.sd, acc.printed.value) == (100.0, 0.0, "76.1")
    assert acc.difference == pytest.approx(23.9)
    assert (mae.undefined, len(mae.values)) == (0, SEEDS)


def test_a_planted_difference_is_starred(outputs):
    """All ten seeds are better by .30 − .01 s, on every segment alike: no video's luck, so the two-way t is the paired t of seeds.
    Beside it the tests of this test set: sign-flip 2/2¹⁰; Mann–Whitney 2/C(20, 10), as the largest of KL is .68; A12 = 1."""
    outputs.fill({"none": NONE, "kl": BETTER})
    line = lines_of(outputs.sheet(declare_table()))["kl"]
    found, verdict = line.contrast.found, line.contrast.verdict
    reference = stats.ttest_rel(BETTER, NONE)
    assert line.star
    assert found.crossed.difference == pytest.approx(-0.255)
    assert found.crossed.p == verdict.adjusted == pytest.approx(reference.pvalue)  # a family of one
    assert found.crossed.interval(0.05) == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert found.crossed.shares == (1, 0, 0)
    assert (found.seeds.n, found.seeds.sign_flip, found.seeds.a12) == (10, 2 / 2**10, 1.0)
    assert found.seeds.mann_whitney == pytest.approx(2 / math.comb(20, 10))
    assert found.seeds.paired_t == pytest.approx(reference.pvalue)
    assert lines_of(outputs.sheet(declare_table()))["none"].contrast is None


def test_a_star_stands_in_the_column_that_was_declared(outputs):
    """Acc-2 is 100 % in every run: its cell has no comparison, and no star."""
    outputs.fill({"none": NONE, "kl": BETTER})
    sheet = outputs.sheet(declare_table())
    (block,), line = sheet.blocks, lines_of(sheet)["kl"]
    starred = {column.metric: bool(render_cell(line, column, sheet.statistic).star) for column in block.columns}
    assert starred == {"mae": True, "acc2_pos": False}


def test_no_difference_is_not_starred_and_says_why(outputs):
    outputs.fill({"none": NONE, "kl": SAME})
    sheet = outputs.sheet(declare_table())
    assert not lines_of(sheet)["kl"].star
    assert lines_of(sheet)["kl"].contrast.reason == "no evidence at n=10"
    assert "| no evidence at n=10 |" in render_markdown(sheet)


def test_a_difference_of_one_video_is_not_starred(outputs):
    """In every seed better by 3 in one video of twelve and worse by .1 in the others: means differ by (22·.1 − 6)/24 in every seed,
    which the sign flip calls 2/2¹⁰. Over videos it is a t of 11 degrees of freedom, for runs are alike."""
    one = np.array([-3.0] * 2 + [0.1] * 22)
    for seed in range(SEEDS):
        outputs.write("none", seed, 4.0 + 0.01 * seed)
        outputs.write("kl", seed, 4.0 + 0.01 * seed + one)
    contrast = lines_of(outputs.sheet(declare_table()))["kl"].contrast
    assert contrast.found.seeds.sign_flip == 2 / 2**10
    assert contrast.found.crossed.difference == pytest.approx((-6 + 2.2) / 24)
    assert contrast.found.crossed.p == pytest.approx(stats.ttest_1samp([-3.0] + [0.1] * 11, 0).pvalue)
    assert contrast.found.crossed.shares == (0, 1, 0)
    assert contrast.reason == "no evidence at n=10"
    assert "no evidence at n=10; runs identical" in render_markdown(outputs.sheet(declare_table()))


def test_accuracies_are_compared_on_their_side(outputs):
    """Errors of 1.5 turn the sign of −1 (a quarter of the segments): accuracy 75 %. Without, 100 %: better by 25 points."""
    table = declare_table(metrics={"mosi": {"acc2_pos": "acc2", "mae": "mae"}})
    table = Table(**{**vars(table), "primary": {"mosi": "acc2_pos"}})
    outputs.fill({"none": [1.5] * SEEDS, "kl": [0.5] * SEEDS})
    line = lines_of(outputs.sheet(table))["kl"]
    found = line.contrast.found
    assert (found.crossed.difference, found.seeds.difference, found.seeds.a12) == (pytest.approx(25.0), pytest.approx(25.0), 1.0)
    assert found.crossed.interval()[0] > 0
    assert line.star
    assert "Acc-2 (pos), points:" in render_markdown(outputs.sheet(table))


def test_the_best_is_the_lowest_error_and_the_highest_accuracy(outputs):
    """KL has the lower error in the mean but, with errors of 1.5 in seed 0 only, the lower accuracy; a row alone is no best."""
    outputs.fill({"none": [0.9] * SEEDS, "kl": [1.5, *[0.1] * (SEEDS - 1)]})
    best = {
        name: [m for m, entry in line.entries.items() if entry.best]
        for name, line in lines_of(outputs.sheet(declare_table())).items()
    }
    assert best == {"none": ["acc2_pos"], "kl": ["mae"]}
    alone = lines_of(outputs.sheet(declare_table(), "penalty=none"))["none"]
    assert not any(entry.best for entry in alone.entries.values())


def test_the_family_is_what_is_declared(outputs):
    """Four comparisons, one of which has run: Holm's p is four times its own, the interval at .05/4,
    whether the others were chosen or are yet to come."""
    three = {n: Row(n, n, (f"penalty={n}",), baseline="none") for n in ("f", "wasserstein", "infonce")}
    outputs.fill({"none": NONE, "kl": BETTER})
    for arguments in ([], ["penalty=none,kl"]):
        sheet = outputs.sheet(declare_table(rows(**three)), *arguments)
        assert sheet.family == 4
        contrast = lines_of(sheet)["kl"].contrast
        assert contrast.verdict.adjusted == pytest.approx(4 * contrast.found.crossed.p)
        (row,) = [row for row in build_cell_rows(sheet) if row["row"] == "kl" and row["metric"] == "mae"]
        reference = stats.ttest_rel(BETTER, NONE).confidence_interval(1 - 0.05 / 4)
        assert (row["low"], row["high"], row["level"]) == pytest.approx((*reference, 0.05 / 4))
        assert format_interval(tuple(reference), 3) in render_markdown(sheet)
        assert any("k = 4 comparisons of this table, 3 of which are not there" in said for said in render_caption(sheet))


def test_four_seeds_cannot_tell(outputs):
    outputs.fill({"none": NONE[:4], "kl": BETTER[:4]})
    sheet = outputs.sheet(declare_table(seeds=4))
    contrast = lines_of(sheet)["kl"].contrast
    assert contrast.reason == "cannot be told: 4 paired runs, 5 are needed"
    assert contrast.verdict.adjusted == 1
    assert not contrast.star
    assert "A comparison that cannot be told has no p and no star" in " ".join(render_caption(sheet))


# Words --------------------------------------------------------------------------------------------------


def test_numbers_read_as_they_should():
    assert [format_number(-0.5, 1), format_number(-0.04, 1), format_number(float("nan"), 3), format_number(12.345, 2)] == [
        "−0.5",
        "0.0",
        "–",
        "12.35",
    ]
    assert [format_signed(0.5, 1), format_signed(-0.5, 1), format_signed(0.01, 1), format_signed(float("nan"), 1)] == [
        "+0.5",
        "−0.5",
        "0.0",
        "–",
    ]
    assert format_interval((-1.0, 0.5), 1) == "[−1.0, +0.5]"
    assert format_interval((float("nan"), float("nan")), 1) == "–"
    assert [format_p(0.0312), format_p(1.08e-5)] == ["0.031", "1.1e-05"]
    assert format_ranges([0, 1, 2, 5, 7, 8]) == "0 to 2, 5, 7, 8"
    names = ("mae", "acc2_pos", "acc7_unclipped", "happy/f1_nonneg", "voice_pleasant/corr", "accuracy")
    words = ["MAE", "Acc-2 (pos)", "Acc-7 (unclipped)", "happy F1 (nonneg)", "voice pleasant Corr", "Accuracy"]
    assert [format_heading(n) for n in names] == words


@pytest.mark.parametrize("name", [name for name in ALL_METRICS if name != "accuracy"])
def test_whatever_the_metric_the_better_row_is_bold_and_starred(outputs, name):
    """KL predicts the labels but for a little noise, the baseline misses in sign and size, in every seed: a table that took the
    direction from the spelling of a name made the worse of two rmse bold and starred the better one."""
    rng, sizes = np.random.default_rng(0), {"none": 4.0, "kl": 0.3}
    outputs.fill({row: [size * rng.normal(size=len(LABEL)) for _ in range(SEEDS)] for row, size in sizes.items()})
    table = replace(declare_table(metrics={"mosi": {name: ""}}), primary={"mosi": name})
    lines = lines_of(outputs.sheet(table))
    assert [row for row, line in lines.items() if line.entries[name].best] == ["kl"]
    assert lines["kl"].contrast.star
    assert lines["kl"].contrast.found.seeds.a12 > 0.9


@pytest.mark.parametrize("better", ["lower", "higher"])
def test_a_metric_is_one_entry(outputs, monkeypatch, better):
    """Added to the one table, it is measured, shown, made bold and starred by the direction that it declares."""
    sign = 1 if better == "lower" else -1
    worst = Metric(heading="Worst", convention="the largest error", better=better, whole=lambda p, y: sign * np.abs(p - y).max())
    monkeypatch.setitem(ALL_METRICS, "worst", worst)
    outputs.fill({"none": NONE, "kl": BETTER})
    sheet = outputs.sheet(replace(declare_table(metrics={"mosi": {"worst": ""}}), primary={"mosi": "worst"}))
    lines = lines_of(sheet)
    assert lines["kl"].entries["worst"].best
    assert lines["kl"].contrast.star
    assert "Worst is worst: the largest error" in render_markdown(sheet)
