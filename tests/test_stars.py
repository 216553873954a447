"""Stars against numbers done by hand: which seeds, too few of them, and which family."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_stars import ROWS, SEEDS, Made, contrast_of, declare_table
from scipy import stats

from mdm.report.differences import describe_block
from mdm.runs import records
from mdm.sweeps.experiment import Row
from mdm.tables.caption import render_caption
from mdm.tables.divergence import STOPPED, find_diverged
from mdm.tables.gather import Run
from mdm.tables.latex import render_latex
from mdm.tables.markdown import render_markdown
from mdm.tables.page import render_page
from mdm.tables.rows import build_cell_rows
from mdm.tables.wording import format_interval

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def made(tmp_path):
    return Made(tmp_path)


# Seeds --------------------------------------------------------------------------------------------------


def test_each_seed_meets_itself(made):
    """The baseline gets worse with the seed and the system better: paired by seed the differences lie far apart, sorted they would
    all be −.2. The order of the seeds on the command line is of no effect."""
    none, kl = [0.8 + 0.05 * s for s in range(SEEDS)], [0.95 - 0.05 * s for s in range(SEEDS)]
    made.write_errors({"none": none, "kl": kl})
    reference = stats.ttest_rel(kl, none)
    for order in ("range(8)", "7,2,0,1,5,3,4,6"):
        found = contrast_of(made.sheet(declare_table(), f"seed={order}")).found
        assert found.crossed.p == pytest.approx(reference.pvalue)
        assert found.crossed.interval() == pytest.approx(tuple(reference.confidence_interval()))
        assert found.seeds.paired_t == pytest.approx(reference.pvalue)


def test_seeds_that_one_side_lacks_shift_no_pair(made):
    """The baseline lacks seed 1, the system seed 4: seeds 0, 2, 3, 5, 6, 7 are compared, each with itself."""
    errors = np.random.default_rng(0).uniform(0.2, 0.9, (2, SEEDS))
    made.write_errors({row: {s: e for s, e in enumerate(errors[i]) if s != (1, 4)[i]} for i, row in enumerate(("none", "kl"))})
    contrast = contrast_of(made.sheet(declare_table()))
    both = [0, 2, 3, 5, 6, 7]
    assert contrast.found.crossed.difference == pytest.approx((errors[1] - errors[0])[both].mean())
    assert contrast.found.crossed.p == pytest.approx(stats.ttest_rel(errors[1][both], errors[0][both]).pvalue)
    assert contrast.reason == "incomplete: 6 of 8 seeds in both"


def test_runs_that_diverged_on_validation_are_lost_and_counted(made):
    """Seed 2 predicts a constant on validation, seed 5 has no metric there. On test both look splendid, which is of no effect."""
    none, kl = [0.8, 0.83, 0.79, 0.81, 0.86, 0.8, 0.82, 0.84], [0.5, 0.56, 0.01, 0.52, 0.51, 0.01, 0.49, 0.53]
    made.write_errors({"none": none, "kl": {s: e for s, e in enumerate(kl) if s not in (2, 5)}})
    label, groups = np.array([-2.0, -1.0, 1.0, 2.0] * 6), [f"v{i // 2}" for i in range(24)]
    made.write("kl", 2, label + kl[2], label, groups, valid={"corr": None})
    made.write("kl", 5, label + kl[5], label, groups, valid={"mae": None})
    sheet = made.sheet(declare_table())
    found, kept = contrast_of(sheet).found, [0, 1, 3, 4, 6, 7]
    reference = stats.ttest_rel(np.array(kl)[kept], np.array(none)[kept])
    assert (found.crossed.pairs, found.crossed.lost) == (6, 2)
    assert found.crossed.p == pytest.approx(reference.pvalue)
    assert (found.seeds.n, found.ranks.n) == (8, 6)
    assert "| 6, 2 lost |" in render_markdown(sheet)
    assert "Lost: pairs that are left out, because a run has no test metric or diverged." in " ".join(render_caption(sheet))
    (row,) = [row for row in build_cell_rows(sheet) if row["row"] == "kl"]
    assert (row["pairs"], row["lost"], row["seeds"]) == (6, 2, 8)


def test_a_run_whose_loss_was_not_finite_is_lost_and_another_failure_is_not(made):
    """By the words of the learner's own errors. Tests over seeds know no such rule and have no star."""
    source = "".join(path.read_text() for path in (ROOT / "mdm").rglob("*.py") if path.parent.name != "tables")
    assert all(text in source for text in STOPPED)
    none, kl = [0.8 + 0.01 * s for s in range(SEEDS)], [0.4 + 0.02 * s for s in range(SEEDS - 1)]
    made.write_errors({"none": none, "kl": kl})
    folder = made.place(["penalty=kl", f"seed={SEEDS - 1}"])[0]
    folder.mkdir(parents=True)
    for error, reason in (
        *((f"ValueError: {text}, but that of kl is not, in epoch 2.", "") for text in STOPPED),
        ("MemoryError", f"incomplete: {SEEDS - 1} of {SEEDS} seeds in both"),
    ):
        (folder / records.ERROR).write_text(f"Traceback\n  a line\n{error}\n")
        sheet = made.sheet(declare_table())
        contrast = contrast_of(sheet)
        assert (contrast.found.crossed.pairs, contrast.found.crossed.lost) == (SEEDS - 1, 0 if reason else 1)
        assert (contrast.reason, contrast.star) == (reason, not reason)
        assert ("| 7, 1 lost |" in render_markdown(sheet)) == (not reason)
        assert (
            contrast_of(made.sheet(declare_table(test="sign_flip"))).reason == f"incomplete: {SEEDS - 1} of {SEEDS} seeds in both"
        )


def test_a_row_that_always_predicts_a_constant_is_not_diverged(made):
    """A baseline of constants has no correlation in any run, and is compared as it is. So has a run on test, which is not asked."""
    g = np.random.default_rng(1)
    label, groups = g.uniform(-2, 2, 24), [f"v{i // 2}" for i in range(24)]
    for seed in range(SEEDS):
        made.write("none", seed, np.full(24, 0.1 + 0.01 * seed), label, groups)
        made.write("kl", seed, 0.9 * label + 0.1 * g.normal(size=24), label, groups)
    found = contrast_of(made.sheet(declare_table())).found
    assert (found.crossed.pairs, found.crossed.lost) == (SEEDS, 0)
    other = Made(made.root / "other")
    for seed in range(SEEDS):
        other.write("none", seed, label + 1 + 0.1 * g.normal(size=24), label, groups)
        other.write("kl", seed, np.zeros(24) if seed == 3 else label, label, groups, valid={"corr": 0.5})
    assert contrast_of(other.sheet(declare_table())).found.crossed.lost == 0


def test_a_run_that_is_no_better_than_a_constant_is_lost_and_counted(made):
    """On validation the constant's MAE is 1.5. Seed 1 has 1.5 there, seed 6 has 1.9; seed 4, with 1.49, has learned something."""
    none, kl = [0.8, 0.83, 0.79, 0.81, 0.86, 0.8, 0.82, 0.84], [0.5, 0.01, 0.54, 0.52, 0.51, 0.48, 0.01, 0.53]
    made.write_errors({"none": none, "kl": {s: e for s, e in enumerate(kl) if s not in (1, 4, 6)}})
    label, groups = np.array([-2.0, -1.0, 1.0, 2.0] * 6), [f"v{i // 2}" for i in range(24)]
    for seed, mae in ((1, 1.5), (4, 1.49), (6, 1.9)):
        made.write("kl", seed, label + kl[seed], label, groups, valid={"mae": mae}, floor=1.5)
    sheet = made.sheet(declare_table())
    found, kept = contrast_of(sheet).found, [0, 2, 3, 4, 5, 7]
    assert (found.crossed.pairs, found.crossed.lost) == (6, 2)
    assert found.crossed.p == pytest.approx(stats.ttest_rel(np.array(kl)[kept], np.array(none)[kept]).pvalue)
    assert "a metric no better than that of the mean training label" in " ".join(render_caption(sheet))


def make_run(seed, by="mae", own=1.0, floor=1.5, corr: float | None = 0.4):
    record = {"valid": {"corr": corr, by: own}, "valid_of_train_mean": {"corr": None, by: floor}, "selected": {"by": f"valid/{by}"}}
    return Run(seed, Path(), "finished", record)


@pytest.mark.parametrize(
    ("runs", "diverged"),
    [
        ([{}, {}, {}], ()),
        ([{"own": 1.6}, {}, {"own": 1.5}], (0, 2)),  # worse than the constant, and as good as it
        ([{"own": 1.6}, {"own": 1.7}], ()),  # no run learned anything: a floor such as random draws, compared as it is
        ([{"own": 1.6}, {"own": 1.7}, {"own": None}], (2,)),  # what is not finite is lost whatever the others are
        ([{"own": None}, {"own": None}], (0, 1)),
        ([{"corr": None}, {"corr": None}], ()),  # constants all
        ([{"corr": None}, {"own": 1.6}], ()),  # neither learned anything
        ([{"corr": None}, {"own": 1.6}, {}], (0, 1)),
        ([{"by": "acc2_pos", "own": 0.5, "floor": 0.5}, {"by": "acc2_pos", "own": 0.6, "floor": 0.5}], (0,)),  # higher is better
        ([{"by": "happy/acc2_pos", "own": 0.4, "floor": 0.5}, {"by": "happy/acc2_pos", "own": 0.6, "floor": 0.5}], (0,)),
        ([{"by": "corr", "own": 0.1, "floor": None, "corr": 0.1}, {"by": "corr", "own": -0.2, "floor": None}], ()),  # it has none
    ],
)
def test_which_runs_diverged(runs, diverged):
    assert find_diverged([make_run(seed, **run) for seed, run in enumerate(runs)]) == diverged


# Too few ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("test", ["crossed", "wilcoxon", "sign_flip", "mann_whitney"])
def test_three_seeds_that_all_differ_are_said_to_be_too_few_everywhere(made, test):
    """Each of three runs is better by .3 or so: neither "no evidence" nor a star, in any format, but that three cannot tell."""
    made.write_errors({"none": [0.80, 0.83, 0.79], "kl": [0.50, 0.52, 0.51]})
    sheet = made.sheet(declare_table(seeds=3, test=test))
    assert not contrast_of(sheet).star
    row = "cannot be told: 3 paired runs, 5 are needed" if test == "crossed" else "n=3 cannot reach .05 in a family of 1"
    why = "whatever its runs gave" if test == "crossed" else "no result of so few runs could have had a ☆"
    for text in (render_markdown(sheet), render_latex(sheet), render_page(sheet), " ".join(render_caption(sheet))):
        plain = re.sub(r"\s+", " ", text.replace(r"$^{\circ}$", "☆").replace("&lt;", "<"))
        assert "no evidence at" not in plain
        assert "that is not even a lack of evidence" in plain
        assert why in plain
    for text in (render_markdown(sheet), render_latex(sheet), render_page(sheet)):
        assert row in text
    said = describe_block(sheet.blocks[0], sheet)
    assert said.startswith("Whether + KL differs cannot be told: ")
    assert "No evidence" not in said


# The family ---------------------------------------------------------------------------------------------


def shift_by(pattern, p):
    """Differences of runs with this pattern around their mean, whose paired t test has this p."""
    pattern = np.asarray(pattern) - np.mean(pattern)
    return pattern + stats.t.isf(p / 2, len(pattern) - 1) * pattern.std(ddof=1) / np.sqrt(len(pattern))


def test_a_star_is_holms_p_and_nothing_else(made):
    """p = .001 and p = .04 of two: Holm's are .002 and .04, so both are starred, although the second interval, at .05/2, has 0 in
    it. With a third comparison that is yet to come the second is no more: .08."""
    pattern = 0.01 * np.array([1, -2, 3, 0, -1, 2, -3, 1.5])
    none = np.full(SEEDS, 0.5)
    errors = {"none": none, "kl": none + shift_by(pattern, 0.001), "f": none + shift_by(pattern, 0.04)}
    made.write_errors(errors)
    sheet = made.sheet(declare_table(rows=("none", "kl", "f")))
    kl, f = contrast_of(sheet), contrast_of(sheet, "f")
    assert [c.found.crossed.p for c in (kl, f)] == pytest.approx([0.001, 0.04])
    assert [c.verdict.adjusted for c in (kl, f)] == pytest.approx([0.002, 0.04])
    assert (kl.star, f.star, sheet.family) == (True, True, 2)
    low, high = stats.ttest_rel(errors["f"], none).confidence_interval(1 - 0.05 / 2)
    assert low < 0 < high
    assert format_interval((low, high), 3) in render_markdown(sheet)
    assert "each at 1 − .05/2 (Bonferroni)" in " ".join(render_caption(sheet))
    assert "One may reach 0 where a later step of Holm's gave a ★" in " ".join(render_caption(sheet))
    three = {**ROWS, "g": Row("g", "g", ("penalty=g",), baseline="none")}
    more = made.sheet(replace(declare_table(), rows=three))
    assert contrast_of(more, "f").verdict.adjusted == pytest.approx(0.08)
    assert (contrast_of(more).star, contrast_of(more, "f").star, more.family) == (True, False, 3)
    assert "k = 3 comparisons of this table, 1 of which is not there and counts with p = 1" in " ".join(render_caption(more))
