"""Stars against numbers done by hand: which seeds, which videos, which family, and what each format says of them."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from mdm.metrics import METRICS, evaluate, find_metric
from mdm.report.differences import describe_block
from mdm.runs import claims, records
from mdm.statistics import analyse_crossed, signed_rank
from mdm.statistics.jackknife import compute_pseudo_values
from mdm.sweeps.experiment import Row, Table, list_cells
from mdm.tables.build import build_sheet
from mdm.tables.caption import render_caption
from mdm.tables.divergence import STOPPED, find_diverged
from mdm.tables.gather import Run, gather_runs
from mdm.tables.latex import render_latex
from mdm.tables.markdown import render_markdown
from mdm.tables.page import render_page
from mdm.tables.rows import build_cell_rows
from mdm.tables.wording import format_interval, format_shares

ROOT = Path(__file__).resolve().parents[1]
SEEDS = 8
SIZES = (1, 3, 2, 5, 1, 2, 4, 2, 1, 3, 2, 4, 3, 1, 2)
ROWS = {
    "none": Row("none", "plain", ("penalty=none",)),
    "kl": Row("kl", "+ KL", ("penalty=kl",), baseline="none"),
    "f": Row("f", "+ F", ("penalty=f",), baseline="none"),
}


def declare_table(metric="mae", rows=("none", "kl"), seeds=SEEDS, **judged):
    columns = {"gaussian": {metric: ""}}
    return Table("t", seeds, {"gaussian": "gaussian"}, columns, {"gaussian": metric}, {r: ROWS[r] for r in rows}, **judged)


class Made:
    """Records of made-up runs. predictions, labels: [segments] or [segments, targets]; floor: the constant's MAE on validation."""

    def __init__(self, root):
        self.root = root

    def place(self, run):
        at = dict(override.split("=", 1) for override in run)
        config = {"name": "t", "seed": int(at["seed"]), "penalty": at["penalty"]}
        return self.root / at["penalty"] / f"seed={at['seed']}", config

    def write(
        self, row, seed, prediction, label, groups=None, targets=("sentiment",), label_range=(-3.0, 3.0), valid=None, floor=99
    ):
        folder, config = self.place([f"penalty={row}", f"seed={seed}"])
        p, y = prediction.reshape(len(label), -1), label.reshape(len(label), -1)
        test = evaluate(p, y, label_range, targets)
        record = {"data": "gaussian", "seed": seed, "test": test, "valid": test | (valid or {}), "label_range": list(label_range)}
        record |= {
            "valid_of_train_mean": {"mae": floor},
            "selected": {"by": "valid/mae"},
            "synthetic": True,
            "data_card": "card",
            "commit": "0123456",
        }
        record |= {"uncommitted_changes": False, "versions": {"torch": "2.9"}}
        names = [""] if len(targets) == 1 else [f"_{target}" for target in targets]
        sides = [(f"{side}{name}", v[:, j]) for side, v in (("label", y), ("prediction", p)) for j, name in enumerate(names)]
        rows = [
            {"id": f"s{i}", **({} if groups is None else {"group": groups[i]})} | {column: float(v[i]) for column, v in sides}
            for i in range(len(y))
        ]
        folder.mkdir(parents=True)
        records.write_atomically(folder / records.CONFIG, claims.dump({**config, "data_card": "card"}))
        records.finish(folder, record, rows)

    def write_errors(self, errors, videos=12):
        """A run's error is the same on every segment; two segments a video, labels between −2 and 2."""
        label = np.array([-2.0, -1.0, 1.0, 2.0] * (videos // 2))
        groups = [f"v{i // 2}" for i in range(2 * videos)]
        for row, of_seeds in errors.items():
            for seed, error in of_seeds.items() if isinstance(of_seeds, dict) else enumerate(of_seeds):
                self.write(row, seed, label + error, label, groups)

    def sheet(self, table, *arguments):
        return build_sheet("t", table, gather_runs(list_cells(table, arguments), self.place))


@pytest.fixture
def made(tmp_path):
    return Made(tmp_path)


def contrast_of(sheet, row="kl"):
    return next(line for line in sheet.blocks[0].lines if line.row.name == row).contrast


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


# Videos and metrics -------------------------------------------------------------------------------------


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


# Tests over seeds ---------------------------------------------------------------------------------------


def test_tests_over_seeds_have_a_star_of_their_own(made):
    """Eight of eight better, in half of the videos by .9, worse by .8 in the others: every test over seeds has 2/2⁸ or less, and
    the two-way t no evidence. ☆ in every format, explained as what it is."""
    label, groups = np.array([-2.0, -1.0, 1.0, 2.0] * 6), [f"v{i // 2}" for i in range(24)]
    change = np.where(np.arange(24) // 2 % 2 == 0, -0.9, 0.8)
    for seed in range(SEEDS):
        made.write("none", seed, label + 1 + 0.001 * seed, label, groups)
        made.write("kl", seed, label + 1 + 0.001 * (seed % 3) + change, label, groups)
    assert contrast_of(made.sheet(declare_table())).reason == "no evidence at n=8"
    for test, name in (("wilcoxon", "Wilcoxon"), ("sign_flip", "sign-flip"), ("mann_whitney", "Mann–Whitney")):
        sheet = made.sheet(declare_table(test=test))
        contrast = contrast_of(sheet)
        assert contrast.star
        assert contrast.verdict.p == getattr(contrast.found.seeds, test) <= 2 / 2**8
        assert re.search(r"\*{0,2}0\.95\d ± 0\.\d+\*{0,2} ☆ \|", render_markdown(sheet))
        assert r"$^{\circ}$" in render_latex(sheet)
        assert "★" not in render_markdown(sheet) + render_page(sheet)
        assert '<span class="star">☆</span>' in render_page(sheet)
        assert f"on this very test set, by the exact {name} test over seeds; another test set may not show it" in render_markdown(
            sheet
        )
        (row,) = [row for row in build_cell_rows(sheet) if row["row"] == "kl"]
        assert (row["test"], row["star"]) == (test, True)


def test_wilcoxon_shows_its_shift_and_interval(made):
    """Against `signed_rank` of the runs; two pairs of eight do not differ, so with Pratt's zeros it is 2/2⁶ at best."""
    none = np.array([0.8, 0.82, 0.86, 0.81, 0.9, 0.88, 0.84, 0.83])
    d = np.array([0, 0, -0.1, -0.12, -0.2, -0.15, -0.11, -0.3])
    made.write_errors({"none": none, "kl": none + d})
    for zeros in ("pratt", "split"):
        sheet = made.sheet(declare_table(test="wilcoxon", zeros=zeros))
        contrast, reference = contrast_of(sheet), signed_rank(none + d, none, zeros=zeros)
        found = contrast.found.ranks
        assert (found.zeros, found.p, found.smallest_p) == (2, reference.p, reference.smallest_p)
        assert contrast.verdict.p == reference.p
        assert (found.shift, *found.interval) == pytest.approx((reference.shift, *reference.interval))
        text = render_markdown(sheet)
        assert f"{format_interval(reference.interval, 3)} ({100 * reference.level:.1f} %)" in text
        assert f"| {reference.rank_biserial:.2f}".replace("-", "−") in text
    assert contrast_of(made.sheet(declare_table(test="wilcoxon"))).verdict.p == 2 / 2**6
    assert signed_rank(none + d, none, zeros="split").p != 2 / 2**6
    five = {"none": none, "kl": np.where(np.arange(8) == 2, none, none + d)}
    more = Made(made.root / "more")
    more.write_errors(five)
    reason = contrast_of(more.sheet(declare_table(test="wilcoxon"))).reason
    assert reason == "n=8, 3 of them equal, cannot reach .05 in a family of 1 (smallest p .0625)"


# Words --------------------------------------------------------------------------------------------------


def test_skewed_differences_are_remarked(made):
    """Seven alike and one run far off, which alone decides the mean."""
    none = np.array([0.8, 0.81, 0.82, 0.8, 0.83, 0.81, 0.8, 0.82])
    made.write_errors({"none": none, "kl": none - np.array([1, 1.1, 1.2, 1.4, 1.7, 2.4, 4, 7]) / 10})
    sheet = made.sheet(declare_table())
    assert "the differences of the 8 runs are skewed downwards" in contrast_of(sheet).found.skew
    assert re.search(r"(★|no evidence at n=8); the differences of the 8 runs are skewed downwards", render_markdown(sheet))
    assert "skewed downwards" in render_page(sheet)
    assert "skewed downwards" in render_latex(sheet)
    (row,) = [row for row in build_cell_rows(sheet) if row["row"] == "kl"]
    assert "skewed downwards" in row["note"]


def test_shares_of_variance_add_up():
    nan = float("nan")
    assert [format_shares(s) for s in ((1, 0, 0), (1 / 3, 1 / 3, 1 / 3), (0.005, 0.005, 0.99), (nan, nan, nan))] == [
        "100/0/0",
        "34/33/33",
        "0/0/100",
        "–",
    ]


def test_every_format_says_what_a_star_means(made):
    made.write_errors({"none": [0.8 + 0.01 * s for s in range(SEEDS)], "kl": [0.4 + 0.02 * s for s in range(SEEDS)]})
    sheet = made.sheet(declare_table())
    for text in (render_markdown(sheet), render_page(sheet), render_latex(sheet).replace("$^{\\star}$", "★").replace("\\%", "%")):
        plain = text.replace("&#39;", "'")
        assert "by more than the luck of these seeds and of this test set explains: so would new runs on new videos" in plain
        assert "simultaneous 95 %" in plain
        assert "variance: runs/videos/both" in plain
        assert "100/0/0" in plain
        assert "one side's runs are strongly skewed and the other's all alike" in plain
    (row,) = [row for row in build_cell_rows(sheet) if row["row"] == "kl"]
    assert (row["share_runs"], row["share_videos"], row["share_both"], row["star"]) == (1, 0, 0, True)
