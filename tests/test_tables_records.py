"""Which records a table takes: runs that are missing or failed, and records that may not stand in one table."""

import math
import re
import shutil

import numpy as np
import pytest
from made_tables import BETTER, LABEL, NONE, SEEDS, Outputs, declare_table, lines_of
from scipy import stats

from mdm.tables.build import build_sheet
from mdm.tables.caption import render_caption
from mdm.tables.gather import find_mixtures, refuse_mixtures
from mdm.tables.latex import render_latex
from mdm.tables.markdown import render_markdown
from mdm.tables.page import render_page


@pytest.fixture
def outputs(tmp_path):
    return Outputs(tmp_path)


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
