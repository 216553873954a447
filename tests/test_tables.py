"""Tables against numbers done by hand, from records that were made up."""

import csv
import io
import math
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from scipy import stats

from mdm.commands.table import main
from mdm.compose import use_configs
from mdm.metrics import METRICS as ALL_METRICS
from mdm.metrics import Metric, evaluate, format_heading
from mdm.reference import read_rows
from mdm.runs import claims, records
from mdm.runs.config import to_plain
from mdm.runs.naming import record_folder
from mdm.study import read_experiment
from mdm.sweeps.experiment import Row, Table, list_cells, parse_table
from mdm.tables.build import build_sheet, find_columns
from mdm.tables.caption import format_ranges, render_caption
from mdm.tables.cells import render_cell
from mdm.tables.escapes import escape_latex
from mdm.tables.gather import find_mixtures, gather_runs, refuse_mixtures
from mdm.tables.latex import Cells, render_latex, split_columns
from mdm.tables.markdown import render_markdown
from mdm.tables.page import Axis, find_axis, render_page
from mdm.tables.rows import build_cell_rows, build_seed_rows
from mdm.tables.wording import format_interval, format_number, format_p, format_signed

ROOT = Path(__file__).resolve().parents[1]

LABEL = np.array([-2.0, -1.0, 1.0, 2.0] * 6)
VIDEOS = [f"video{i // 2}" for i in range(len(LABEL))]
SEEDS = 10
METRICS = {"mae": "mae", "acc2_pos": "acc2"}
PAPER = {"paper": "000", "table": "T1"}


def rows(**more):
    """EF-LSTM with and without KL, as Colombo et al. (2021) have them in Table 1."""
    return {
        "none": Row("none", "EF-LSTM", ("penalty=none",), paper={"model": "EF-LSTM", "penalty_or_variant": "none"}),
        "kl": Row("kl", "+ KL", ("penalty=kl",), baseline="none", paper={"model": "EF-LSTM", "penalty_or_variant": "kl"}),
        **more,
    }


def declare_table(given=None, **changes):
    values = {"title": "A title", "seeds": SEEDS, "data": {"synthetic": "mosi"}, "paper": PAPER, **changes}
    metrics = values.pop("metrics", dict.fromkeys(values["data"].values(), METRICS))
    return Table(rows=rows() if given is None else given, metrics=metrics, primary=dict.fromkeys(metrics, "mae"), **values)


class Outputs:
    """Records of made-up runs. ``errors``: by row, each seed's error on every segment."""

    def __init__(self, root):
        self.root = root

    def place(self, run):
        at = dict(override.split("=", 1) for override in run)
        config = {
            "name": "t",
            "seed": int(at["seed"]),
            "trainer": {"select": "mae"},
            "penalty": {"name": at["penalty"]},
        }
        return self.root / "t" / at["data"] / at["penalty"] / f"seed={at['seed']}", config

    def write(self, penalty, seed, error, data="synthetic", label=LABEL, config=None, ids=None, test=None, **record):
        folder, own = self.place([f"data={data}", f"penalty={penalty}", f"seed={seed}"])
        prediction = (label + error)[:, None]
        metrics = evaluate(prediction, label[:, None], (-3.0, 3.0), ("sentiment",)) | (test or {})
        base = {"data": data, "seed": seed, "valid": metrics, "test": metrics, "label_range": [-3.0, 3.0], "synthetic": True}
        base |= {"valid_of_train_mean": {"mae": 99.0, "corr": None}, "selected": {"by": "valid/mae"}}
        base |= {"data_card": f"{data}-card", "commit": "0123456789"}
        base |= {"uncommitted_changes": False, "versions": {"python": "3.11", "torch": "2.9"}}
        folder.mkdir(parents=True)
        records.write_atomically(folder / records.CONFIG, claims.dump({**own, "data_card": f"{data}-card", **(config or {})}))
        names = ids or [f"s{i}" for i in range(len(label))]
        table = zip(names, VIDEOS, label.tolist(), prediction[:, 0].tolist(), strict=True)
        predictions = [dict(zip(("id", "group", "label", "prediction"), values, strict=True)) for values in table]
        records.finish(folder, base | record, predictions)
        return folder

    def fill(self, errors, **more):
        for penalty, of_seeds in errors.items():
            for seed, error in enumerate(of_seeds):
                self.write(penalty, seed, error, **more)

    def gathered(self, table, *arguments):
        return gather_runs(list_cells(table, arguments), self.place)

    def sheet(self, table, *arguments):
        return build_sheet("t", table, self.gathered(table, *arguments))


@pytest.fixture
def outputs(tmp_path):
    return Outputs(tmp_path)


NONE = [0.80 + 0.01 * seed for seed in range(SEEDS)]
BETTER = [0.50 + 0.02 * seed for seed in range(SEEDS)]
SAME = [value + (0.001 if seed % 2 else -0.001) for seed, value in enumerate(NONE)]


def lines_of(sheet):
    return {line.row.name: line for line in sheet.blocks[0].lines}


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


# What is missing ----------------------------------------------------------------------------------------


def test_groups_that_are_in_several_folds_are_said(outputs):
    outputs.fill({"none": NONE, "kl": BETTER})
    assert not any("data.groups" in said for said in render_caption(outputs.sheet(declare_table())))
    for seed in range(SEEDS):
        shutil.rmtree(outputs.place(["data=synthetic", "penalty=kl", f"seed={seed}"])[0])
        outputs.write("kl", seed, BETTER[seed], shared_groups=7)
    said = next(said for said in render_caption(outputs.sheet(declare_table())) if "data.groups" in said)
    assert said.startswith("In synthetic 7 groups (videos, speakers) are in several folds, as data.groups=shared allows: segments")


def test_missing_runs_are_shown_and_cost_the_star(outputs):
    """Seeds 0 to 6 of KL: compared on these seven only, and no star."""
    outputs.fill({"none": NONE, "kl": BETTER[:7]})
    sheet = outputs.sheet(declare_table())
    line = lines_of(sheet)["kl"]
    found = line.contrast.found
    assert (line.finished, found.crossed.pairs, found.crossed.lost, found.seeds.sign_flip) == (7, 7, 0, 2 / 2**7)
    assert found.crossed.p == pytest.approx(stats.ttest_rel(BETTER[:7], NONE[:7]).pvalue)
    assert line.contrast.reason == "incomplete: 7 of 10 seeds in both"
    assert not line.star
    assert "| 7/10 |" in render_markdown(sheet)
    assert "Not run: + KL on synthetic, seed 7 to 9." in render_caption(sheet)
    assert not any(entry.best for line in lines_of(sheet).values() for entry in line.entries.values())


def test_a_row_without_runs_shows_dashes(outputs):
    outputs.fill({"none": NONE})
    sheet = outputs.sheet(declare_table())
    contrast = lines_of(sheet)["kl"].contrast
    assert (contrast.found, contrast.reason) == (None, "0 of 10 seeds in both")
    assert re.search(r"\| \+ KL +\| 0/10 +\| – ", render_markdown(sheet))
    assert re.search(r"\| \+ KL +\| EF-LSTM +\| – .*\| 0 of 10 seeds in both +\|", render_markdown(sheet))


def test_nothing_has_run(outputs):
    sheet = outputs.sheet(declare_table())
    assert "No run has finished." in render_caption(sheet)
    assert all("–" in text or "0/10" in text for text in (render_markdown(sheet), render_latex(sheet), render_page(sheet)))


def test_a_baseline_that_was_not_chosen(outputs):
    outputs.fill({"kl": BETTER})
    contrast = lines_of(outputs.sheet(declare_table(), "penalty=kl"))["kl"].contrast
    assert (contrast.found, contrast.reason) == (None, "none is not in this table")


def test_failed_and_broken_runs_are_listed(outputs):
    outputs.fill({"none": NONE, "kl": BETTER[:8]})
    for seed, name, text in ((8, "error.txt", "Traceback\n  a line\nValueError: loss nan\n"), (9, "config.yaml", "name: t\n")):
        folder = outputs.place(["data=synthetic", "penalty=kl", f"seed={seed}"])[0]
        folder.mkdir(parents=True)
        (folder / name).write_text(text)
    sheet = outputs.sheet(declare_table())
    assert "Failed: + KL on synthetic, seed 8 (ValueError: loss nan)." in render_caption(sheet)
    assert "Begun and not finished: + KL on synthetic, seed 9." in render_caption(sheet)
    assert [run.state for run in lines_of(sheet)["kl"].runs][7:] == ["finished", "failed", "broken"]
    assert not lines_of(sheet)["kl"].star


def test_an_undefined_metric_is_lost_and_said(outputs):
    """Null in seed 0 of KL, whose nine others are better by far: the two-way t is of these nine. To the sign-flip test the run is
    the worst of all, so it cannot have p = 2/2¹⁰, and the mean of all ten is not defined."""
    outputs.fill({"none": NONE})
    for seed, error in enumerate(BETTER):
        outputs.write("kl", seed, error, test={"mae": None} if seed == 0 else None)
    sheet = outputs.sheet(declare_table())
    line = lines_of(sheet)["kl"]
    found = line.contrast.found
    assert line.entries["mae"].undefined == 1
    assert line.entries["mae"].mean == pytest.approx(np.mean(BETTER[1:]))
    assert (found.crossed.pairs, found.crossed.lost) == (9, 1)
    assert found.crossed.difference == pytest.approx(np.mean(BETTER[1:]) - np.mean(NONE[1:]))
    assert math.isnan(found.seeds.difference)
    assert found.seeds.sign_flip > 2 / 2**10
    assert found.seeds.a12 == pytest.approx(0.9)
    assert "‡" in render_markdown(sheet)
    assert "| 9, 1 lost |" in render_markdown(sheet)
    said = " ".join(render_caption(sheet))
    assert "‡: not defined in some runs" in said
    assert "Lost: pairs that are left out" in said


@pytest.mark.parametrize("render", [render_markdown, render_latex, render_page])
def test_what_settings_do_not_reproduce_is_said_under_the_table(outputs, render):
    """Rows without such a list are not named."""
    outputs.fill({"none": NONE})
    for seed in range(SEEDS):
        outputs.write("kl", seed, BETTER[seed], departs={"data.text": "the authors read GloVe"})
    sheet = outputs.sheet(declare_table())
    assert render(sheet).count("the authors read GloVe") == 1
    said = [sentence for sentence in render_caption(sheet) if "depart from" in sentence]
    assert said == ["Settings of + KL on synthetic depart from their source in data.text (the authors read GloVe)."]


# What may not stand in one table ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"commit": "fedcba9876"}, "commit: 0123456789 (19 runs); fedcba9876 (1 run)"),
        ({"uncommitted_changes": True}, "uncommitted_changes: False (19 runs); True (1 run)"),
        ({"versions": {"python": "3.11", "torch": "3.0"}}, "version of torch: 2.9 (19 runs); 3.0 (1 run)"),
        ({"data_card": "other"}, "data_card of synthetic: synthetic-card (19 runs); other (1 run)"),
        (
            {"selected": {"by": "valid/corr"}},
            "checkpoints of synthetic chosen by: valid/mae (19 runs); valid/corr (1 run)",
        ),
        (
            {"config": {"trainer": {"select": "mae", "max_epochs": 3}}},
            "config of kl on synthetic, recorded → declared, trainer.max_epochs: 3 → (absent) (1 run)",
        ),
    ],
)
def test_other_code_data_or_settings_are_refused_unless_told(outputs, change, named):
    outputs.fill({"none": NONE, "kl": BETTER[:9]})
    assert find_mixtures(outputs.gathered(declare_table())) == []
    outputs.write("kl", 9, BETTER[9], **change)
    gathered = outputs.gathered(declare_table())
    found = find_mixtures(gathered)
    assert len(found) == 1
    assert found[0].startswith(named)
    with pytest.raises(ValueError, match=f"but these differ:\n  {re.escape(named)}(?s:.)*or add mixed=true"):
        refuse_mixtures(found, gathered)
    sheet = build_sheet("t", declare_table(), gathered, found)
    assert render_caption(sheet)[0].startswith(f"MIXED, as asked for. Records differ in {named}")
    assert "MIXED" in render_latex(sheet)
    assert 'class="mixed"' in render_page(sheet)


def test_nothing_is_refused_of_records_that_agree(outputs):
    outputs.fill({"none": NONE})
    gathered = outputs.gathered(declare_table())
    refuse_mixtures(find_mixtures(gathered), gathered)


def test_other_test_segments_are_refused(outputs):
    outputs.fill({"none": NONE, "kl": BETTER[:9]})
    outputs.write("kl", 9, BETTER[9], ids=[f"other{i}" for i in range(len(LABEL))])
    with pytest.raises(ValueError, match=r"same test segments, but the ids in predictions\.csv of .*seed=0 and .*seed=9 differ"):
        outputs.sheet(declare_table())


def test_other_test_segments_of_the_baseline_are_refused(outputs):
    outputs.fill({"none": NONE})
    outputs.fill({"kl": BETTER}, ids=[f"other{i}" for i in range(len(LABEL))])
    with pytest.raises(ValueError, match=r"the ids in predictions\.csv of kl and none differ"):
        outputs.sheet(declare_table())


def test_predictions_of_another_run_are_refused(outputs):
    outputs.fill({"none": NONE, "kl": BETTER[:9]})
    outputs.write("kl", 9, BETTER[9], test={"mae": 0.1})
    with pytest.raises(ValueError, match=r"records mae 0\.1 and its predictions\.csv gives 0\.68; remove the folder"):
        outputs.sheet(declare_table())


def test_a_folder_with_another_seed_is_refused(outputs):
    folder = outputs.write("none", 0, 0.5)
    folder.rename(folder.with_name("seed=1"))
    with pytest.raises(ValueError, match=r"holds the run of that seed, but .*seed=1 holds another"):
        outputs.gathered(declare_table())


def test_a_metric_that_was_not_measured(outputs):
    outputs.fill({"none": NONE})
    with pytest.raises(ValueError, match=r"seed=0 has no happy/corr, but mae, corr, .*: set table\.metrics"):
        outputs.sheet(declare_table(metrics={"mosi": {"mae": "mae", "happy/corr": ""}}))


# The paper's side ---------------------------------------------------------------------------------------


def test_systems_that_are_not_built_show_what_was_printed(outputs):
    """Han et al., EMNLP 2021, Table 2, MOSI: ICCN is cited from Hazarika et al. there."""
    table = declare_table(
        {"none": Row("none", "ours", ("penalty=none",)), "iccn": Row("iccn", "ICCN", paper={"model": "ICCN"})},
        paper={"paper": "001", "table": "T2"},
        metrics={"mosi": {"mae": "mae", "acc2_pos": "acc2_pos"}},
    )
    outputs.fill({"none": NONE})
    sheet = outputs.sheet(table)
    line = lines_of(sheet)["iccn"]
    printed = {
        r["metric"]: r["value"]
        for r in read_rows("results")
        if (r["paper"], r["table"], r["dataset"], r["model"]) == ("001", "T2", "mosi", "ICCN")
    }
    assert re.search(rf"\| \*ICCN\* +\| cited \| {printed['mae']} +\| {printed['acc2_pos']} ", render_markdown(sheet))
    assert line.contrast is None
    assert any("cited there from Hazarika et al. (2020): ICCN" in said for said in render_caption(sheet))
    assert "\\textit{ICCN}" in render_latex(sheet)
    assert 'class="cited"' in render_page(sheet)


def test_doubtful_values_have_footnotes(outputs):
    """A MAE of Colombo et al. with a flag of its own; a row of Tsai et al.'s all of whose values are flagged has it on its name."""
    f = Row("f", "+ f", ("penalty=f",), paper={"model": "EF-LSTM", "penalty_or_variant": "f"}, note="a note of the row")
    outputs.fill({"none": NONE, "kl": BETTER, "f": BETTER})
    sheet = outputs.sheet(declare_table(rows(f=f)))
    line = lines_of(sheet)["f"]
    assert (line.marks, line.entries["mae"].marks, line.entries["acc2_pos"].marks) == ((1,), (2,), ())
    assert sheet.footnotes[0] == "a note of the row"
    assert sheet.footnotes[1].startswith("text sec. 5.1 says")
    text = render_markdown(sheet)
    assert re.search(r"\| \+ f \[1\]", text)
    assert re.search(r"1\.02 \(−0\.430\) \[2\]", text)
    assert "[2] text sec. 5.1" in text
    assert "[2] text sec. 5.1" in render_latex(sheet)


def test_a_flag_of_all_values_of_a_row_is_on_its_name(outputs):
    """Shankar, ACL 2022, Table 2: every cell of the MFN row is flagged for its likeness to Colombo et al. (2021), with one text."""
    mfn = Row("mfn", "MFN", paper={"model": "MFN", "penalty_or_variant": "none"})
    table = declare_table({"none": Row("none", "ours", ("penalty=none",)), "mfn": mfn}, paper={"paper": "002", "table": "T2"})
    line = lines_of(outputs.sheet(table))["mfn"]
    assert line.marks == (1,)
    assert all(entry.marks == () for entry in line.entries.values())
    assert re.search(r"\| \*MFN\* \[1\] +\| cited \| 1\.01 +\| 76\.6 ", render_markdown(outputs.sheet(table)))


def test_significance_that_the_paper_claims_is_marked(outputs):
    """Colombo et al., EMNLP 2021, Table 1 underlines the MAE of KL on MOSEI, .70."""
    outputs.fill({"none": NONE, "kl": BETTER})
    text = render_markdown(outputs.sheet(declare_table(data={"synthetic": "mosei"})))
    assert "0.70† (−0.110)" in text
    assert "†: significant, says the paper." in text


@pytest.mark.parametrize(
    ("paper", "message"),
    [
        ({"model": "EFLSTM"}, r"table\.rows\.none\.paper: Paper 000 \(Colombo et al\., EMNLP 2021\) prints no model='EFLSTM'"),
        ({"penalty_or_variant": "none"}, r"but table\.paper and table\.rows\.none\.paper lack model; correct them"),
        ({"model": "EF-LSTM", "colour": "red"}, r"have also colour; correct them"),
    ],
)
def test_keys_that_match_nothing(outputs, paper, message):
    with pytest.raises(ValueError, match=message):
        outputs.sheet(declare_table({"none": Row("none", "x", ("penalty=none",), paper=paper)}))


def test_columns_of_data_that_are_not_declared():
    """One set of columns for all stands for any data; of several, nobody knows which."""
    same = declare_table(data={"synthetic": "mosi", "synthetic_mosei": "mosei"})
    stands_for, columns = find_columns(same, "gaussian")
    assert (stands_for, [(c.metric, c.printed) for c in columns]) == ("gaussian", [("mae", ""), ("acc2_pos", "")])
    assert [c.printed for c in find_columns(same, "mosei")[1]] == ["mae", "acc2"]
    other = declare_table(metrics={"mosi": METRICS, "pom": {"mae": "mae"}})
    with pytest.raises(ValueError, match=r"of this table differ between mosi, pom, so those of data=gaussian are unknown"):
        find_columns(other, "gaussian")


def test_a_row_that_exists_for_other_data_is_left_out(outputs):
    only = Row("pom", "for POM", ("penalty=f",), only=("pom",), paper={"model": "nowhere"})
    outputs.fill({"none": NONE, "kl": BETTER})
    assert list(lines_of(outputs.sheet(declare_table(rows(pom=only))))) == ["none", "kl"]


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


# Formats ------------------------------------------------------------------------------------------------


class Balanced(HTMLParser):
    """Tags that are closed in order; what the page would load; numbers of elements."""

    VOID = ("meta", "line", "path", "br")

    def __init__(self):
        super().__init__()
        self.open, self.loads, self.count = [], [], {}

    def handle_starttag(self, tag, attributes):
        self.count[tag] = self.count.get(tag, 0) + 1
        self.loads += [value for name, value in attributes if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.count[tag] = self.count.get(tag, 0) + 1

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_draws_every_seed_and_loads_nothing(outputs):
    """2 rows × 2 metrics × 10 seeds, and one dot in the legend."""
    outputs.fill({"none": NONE, "kl": BETTER})
    text = render_page(outputs.sheet(declare_table(rows(x=Row("x", "<b>&", ("penalty=f",))), notes="a < b")))
    parser = Balanced()
    parser.feed(text.removeprefix("<!doctype html>"))
    assert parser.open == []
    assert parser.loads == []
    assert "http" not in text
    assert "@import" not in text
    assert parser.count["circle"] == 2 * 2 * SEEDS + 1
    assert "<title>seed 3: 0.56000</title>" in text
    assert "&lt;b&gt;&amp;" in text
    assert "a &lt; b" in text
    assert "prefers-color-scheme: dark" in text


def test_an_axis_holds_our_values_and_what_is_printed_near_by(outputs):
    """MAE from .50 to .89; the paper's 1.00 is nearer than these are apart, its 76.1 % is not near 100 %."""
    outputs.fill({"none": NONE, "kl": BETTER})
    block = outputs.sheet(declare_table()).blocks[0]
    mae, acc = (find_axis(block, column) for column in block.columns)
    assert mae.low == pytest.approx(0.50 - 0.05 * 0.50)
    assert mae.high == pytest.approx(1.00 + 0.05 * 0.50)
    assert (acc.beyond(76.1), acc.beyond(100.0), acc.beyond(101.0 + acc.high)) == ("left", "", "right")
    assert (Axis(0.0, 2.0).x(1.0), Axis(0.0, 2.0).x(-5.0), Axis(0.0, 2.0).x(9.0)) == (70.0, 6.0, 134.0)


def test_latex_has_whole_rows_and_escapes(outputs):
    outputs.fill({"none": NONE, "kl": BETTER})
    text = render_latex(outputs.sheet(declare_table(rows(x=Row("x", "50 % & L_kl^{2}~#", ("penalty=f",))), notes="α → ∞")))
    assert r"50 \% \& $L_{kl}$\textasciicircum{}\{2\}\textasciitilde{}\#" in text
    assert r"$\alpha$ $\rightarrow$ $\infty$" in text
    assert re.sub(r"\\[{}]", "", text).count("{") == re.sub(r"\\[{}]", "", text).count("}")
    assert text.count(r"\begin") == text.count(r"\end")
    tables = re.findall(r"\\begin{tabular}{([^\n]*)}\n\\toprule\n(.*?)\\bottomrule", text, re.DOTALL)
    assert len(tables) > 1
    for preamble, body in tables:
        columns = re.findall(r"p\{\d+pt\}|S\[[^]]*\]|r|l", re.sub(r"@\{[^}]*\}|>\{\\raggedright\\arraybackslash\}", "", preamble))
        for line in filter(lambda line: line.endswith(r"\\"), body.splitlines()):
            spanned = sum(int(found) - 1 for found in re.findall(r"\\multicolumn{(\d)}", line))
            alone = line.startswith(r"\textit{against")  # names those below it
            assert alone or len(re.findall(r"(?<!\\)&", line)) + 1 + spanned == len(columns)
    assert r"\bfseries 0.590 & $\pm$ 0.061$^{\star}$" in text


def test_latex_aligns_numbers_by_their_longest():
    """One that is negative, three digits before the point and two behind; what is no number is set as it is."""
    cells = Cells("MAE", ("−10.25", "100.5", "–"), ("$\\pm$ 0.1", "", ""))
    assert cells.format == r"S[table-format=-3.2]@{\,}l"
    assert [cells.render(row) for row in range(3)] == [r"-10.25 & $\pm$ 0.1", "100.5 & ", "{--} & "]
    assert cells.render_head() == r"\multicolumn{2}{c}{MAE}"
    assert Cells("n", ("3/5", "cited")).format == "r"


def test_columns_that_do_not_fit_go_below():
    """A column of 40 characters is 40 · 4.3 + 6 = 178 points wide: one fits in 340 points, three are three tabulars."""
    wide = [Cells("x", ("1" * 40,)) for _ in range(3)]
    assert [column.width for column in wide] == [pytest.approx(178)] * 3
    assert [len(group) for group in split_columns(wide, 340)] == [1, 1, 1]
    assert [len(group) for group in split_columns(wide, 360)] == [2, 1]


def test_the_parts_of_latex_are_floats_of_their_own(outputs):
    """Both are the results and the tests; each float has a label, and the prose below refers to it."""
    outputs.fill({"none": NONE, "kl": BETTER})
    sheet = outputs.sheet(declare_table())
    both, results, tests = (render_latex(sheet, part) for part in ("both", "results", "tests"))
    assert [re.findall(r"\\label\{(.*?)\}", text) for text in (both, results, tests)] == [
        ["tab:t", "tab:t-tests"],
        ["tab:t"],
        ["tab:t-tests"],
    ]
    assert "against the baseline" not in results
    assert "test mean" not in tests
    assert set(both.splitlines()) == set(results.splitlines()) | set(tests.splitlines())


needs_latex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex")


def find_faults(texts, layout, folder):
    """What a real LaTeX complains of: boxes that are too wide or floats that are too long, errors, labels that are not there."""
    packages = r"\usepackage[T1]{fontenc}\usepackage{booktabs,siunitx,amssymb}"
    body = "\n\\clearpage\n".join(texts)
    (folder / "all.tex").write_text(
        f"\\documentclass[{layout}]{{article}}{packages}\n\\begin{{document}}\n{body}\\end{{document}}\n"
    )
    for _ in range(2):  # labels are known to the second
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
        subprocess.run(command, cwd=folder, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    log = (folder / "all.log").read_text(errors="replace")
    assert "Output written on all.pdf" in log, log[-2000:]
    return re.findall(r"Overfull.*|.*too large.*|^! .*|.*undefined.*", log, re.MULTILINE)


@needs_latex
@pytest.mark.parametrize("layout", ["", "twocolumn"])
def test_a_table_compiles_in_both_layouts(outputs, layout, tmp_path):
    outputs.fill({"none": NONE, "kl": BETTER})
    sheet = outputs.sheet(
        declare_table(rows(x=Row("x", "50 % & L_λ^{2}~#", ("penalty=f",)), y=Row("y", "MMIM + NCE + CPC", ("penalty=hsic",))))
    )
    assert find_faults([render_latex(sheet)], layout, tmp_path) == []


def plant_values(sheet, rng):
    """Ten values in each cell of ours, about what is printed."""
    blocks = []
    for block in sheet.blocks:
        decimals = {column.metric: column.decimals for column in block.columns}
        lines = []
        for line in block.lines:
            entries = dict(line.entries)
            for name, entry in line.entries.items() if line.runs else ():
                scale = 1.0 if decimals[name] < 3 else 0.02
                middle = entry.printed.number if entry.printed and not math.isnan(entry.printed.number) else 70 * scale
                values = dict(enumerate(middle + scale * rng.normal(size=10)))
                entries[name] = replace(entry, values=values, best=bool(rng.random() < 0.2))
            lines.append(replace(line, entries=entries))
        blocks.append(replace(block, lines=tuple(lines)))
    return replace(sheet, blocks=tuple(blocks))


@needs_latex
@pytest.mark.slow
def test_every_table_of_every_paper_compiles_in_both_layouts(tmp_path):
    rng, texts = np.random.default_rng(0), []
    experiments = ROOT / "configs" / "experiment"
    with use_configs(()):
        for path in sorted(experiments.rglob("*.yaml")):
            name = str(path.relative_to(experiments).with_suffix(""))
            if name.startswith(("base", "search")):
                continue
            try:
                study = read_experiment([f"experiment={name}", f"paths.outputs={tmp_path}"], False)
            except ValueError as error:
                if "has no table" not in str(error):
                    raise
                continue
            texts.append(render_latex(plant_values(build_sheet(study.cfg.name, study.table, study.gathered, study.differing), rng)))
    assert len(texts) > 20
    for layout in ("", "twocolumn"):
        assert find_faults(texts, layout, tmp_path) == []


def test_latex_can_set_whatever_a_table_may_say():
    """Labels and notes of every experiment, and of the reference."""
    said = "".join(row["note"] + row["provenance"] + row["value"] for row in read_rows("results"))
    said += "".join(path.read_text(encoding="utf-8") for path in (ROOT / "configs" / "experiment").rglob("*.yaml"))
    said += "".join(path.read_text(encoding="utf-8") for path in (ROOT / "mdm" / "tables").glob("*.py") if path.stem != "escapes")
    left = {character for character in escape_latex(said) if ord(character) > 0xFF}
    assert left == set()


def test_csv_has_every_digit(outputs, tmp_path):
    outputs.fill({"none": NONE, "kl": BETTER[:9]})
    sheet = outputs.sheet(declare_table())
    found = {(row["row"], row["metric"]): row for row in build_cell_rows(sheet)}
    kl = found["kl", "mae"]
    assert kl["mean"] == np.mean(
        [records.read_record(outputs.place(["data=synthetic", "penalty=kl", f"seed={s}"])[0])["test"]["mae"] for s in range(9)]
    )
    assert (kl["n"], kl["declared"], kl["paper"], kl["unit"], kl["baseline"]) == (9, 10, "1.00", "absolute", "EF-LSTM")
    assert (kl["pairs"], kl["p_sign_flip"], kl["star"]) == (9, 2 / 2**9, False)
    assert (kl["test"], kl["lost"], kl["videos"], kl["share_runs"]) == ("crossed", 0, 12, 1)
    assert kl["p_crossed"] == kl["p_holm"] == pytest.approx(stats.ttest_rel(BETTER[:9], NONE[:9]).pvalue)
    assert found["kl", "acc2_pos"]["p_sign_flip"] == ""
    assert found["none", "mae"]["baseline"] == ""
    assert found["none", "acc2_pos"]["unit"] == "percent"

    of_seeds = build_seed_rows(sheet, tmp_path)
    assert [(r["row"], r["seed"], r["state"]) for r in of_seeds][-2:] == [("kl", 8, "finished"), ("kl", 9, "missing")]
    assert of_seeds[3]["folder"] == "t/synthetic/none/seed=3"
    assert of_seeds[3]["test/mae"] == pytest.approx(0.83)
    assert of_seeds[3]["valid/acc2_pos"] == 1.0
    assert of_seeds[-1]["test/mae"] is None


def test_markdown_tables_are_whole(outputs):
    outputs.fill({"none": NONE, "kl": BETTER})
    text = render_markdown(outputs.sheet(declare_table(rows(x=Row("x", "a|b*", ("penalty=f",))))))
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(line) for line in table.splitlines()}) == 1
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    assert "**0.590 ± 0.061** ★" in text
    assert r"| a\|b\* " in text
    assert "synthetic is SYNTHETIC and stands in for CMU-MOSI: its numbers say nothing about people" in text
    assert "The paper does not say how it counts zeros in its acc2." in text


# The command ---------------------------------------------------------------------------------------------


EXPERIMENT = ("experiment=mdm/table1", "data=synthetic", "penalty=none,kl", "seed=range(3)")
FILES = ("table.md", "table.tex", "table.html", "table.csv", "seeds.csv")


@pytest.fixture
def swept(tmp_path):
    """Records as a sweep of a real experiment would leave them, made up."""
    root = tmp_path / "outputs"
    outputs = Outputs(root)
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("train", ["experiment=mdm/table1"])
        for cell in list_cells(parse_table(cfg), [f"paths.outputs={root}", *EXPERIMENT]):
            composed = compose("train", cell.runs()[0])
            folder = record_folder(composed, cell.runs()[0]).parent
            for seed in cell.seeds:
                made = outputs.write(cell.row, seed, 0.5 + 0.1 * seed, config={**to_plain(composed, resolve=False), "seed": seed})
                (folder / f"seed={seed}").parent.mkdir(parents=True, exist_ok=True)
                made.rename(folder / f"seed={seed}")
    return root


def test_the_command_prints_and_writes_the_same_bytes_twice(swept, capsys):
    arguments = [*EXPERIMENT, f"paths.outputs={swept}"]
    main(arguments)
    first, printed = {name: (swept / "mdm/table1" / name).read_bytes() for name in FILES}, capsys.readouterr().out
    assert printed == first["table.md"].decode()
    assert "EF-LSTM" in printed
    assert "cannot be told: 3 paired runs, 5 are needed" in printed
    main([*arguments, "mixed=true"])
    assert {name: (swept / "mdm/table1" / name).read_bytes() for name in FILES} == first
    (row, *_) = csv.DictReader(io.StringIO(first["table.csv"].decode()))
    assert (row["data"], row["stands_for"], row["row"], row["n"]) == ("synthetic", "mosi", "none", "3")
    assert str(swept) not in "".join(text.decode() for text in first.values())
    main([*arguments, "--part", "tests"])
    parts = (swept / "mdm/table1/table.tex").read_text()
    assert parts != first["table.tex"].decode()
    assert "-tests}" in parts
    with pytest.raises(ValueError, match=r"--part is results, tests or both, got numbers"):
        main([*arguments, "--part=numbers"])


def test_the_command_line_says_which_test_stars(swept, capsys):
    """It is no part of the runs, whose folders and configs are the same."""
    arguments = [*EXPERIMENT, f"paths.outputs={swept}"]
    main([*arguments, "table.test=wilcoxon", "table.zeros=split"])
    printed = capsys.readouterr().out
    assert "☆ in MAE, declared beforehand: the runs differ from the row's baseline on this very test set" in printed
    assert "Pairs that do not differ give half of their rank to each side" in printed
    assert "n=3, 3 of them equal, cannot reach .05 in a family of" in printed  # made of the same errors
    with pytest.raises(ValueError, match=r"table\.test: expected one of crossed, mann_whitney, sign_flip, wilcoxon, got 'welch'"):
        main([*arguments, "table.test=welch"])
    with pytest.raises(ValueError, match=r"only data, seed, model and penalty choose among them, got table\.test=wilcoxon,crossed"):
        main([*arguments, "table.test=wilcoxon,crossed"])


def test_the_command_refuses_records_of_other_settings(swept, capsys):
    arguments = [*EXPERIMENT, f"paths.outputs={swept}"]
    config = next(swept.rglob("kl/**/seed=1/config.yaml"))
    record = records.read_record(config.parent)
    config.write_text(config.read_text().replace("batch_size: 32", "batch_size: 16"))
    records.seal(config.parent, record)
    with pytest.raises(ValueError, match=r"config of kl on synthetic, recorded → declared, data\.batch_size: 16 → 32"):
        main(arguments)
    assert not (swept / "mdm/table1/table.md").exists()
    main([*arguments, "mixed=true"])
    assert "MIXED, as asked for. Records differ in config of kl on synthetic" in capsys.readouterr().out


def test_what_the_script_does_not_know(capsys):
    with pytest.raises(ValueError, match="mixed is true or false, got mixed=maybe"):
        main(["experiment=mdm/table1", "mixed=maybe"])
    with pytest.raises(ValueError, match="single has no table"):
        main([])
    main(["--help"])
    assert "mixed=true" in capsys.readouterr().out
