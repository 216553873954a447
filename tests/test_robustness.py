"""Modality drop: settings, the numbers that follow from predictions, and the study from runs to figure."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from corrupted import KEPT_VIDEO, SMALL, batch_of, compose_run
from scipy import stats

import mdm
from mdm.runs.naming import record_folder
from mdm.runs.protocol import run
from mdm.studies.robustness import Robustness
from mdm.studies.robustness.corruption import (
    CELL,
    Corruption,
    corrupt,
    evaluate_settings,
    list_settings,
    summarise_seeds,
)

pytestmark = pytest.mark.slow  # whole studies, from training to picture

ROOT = Path(__file__).resolve().parents[1]


# Settings -----------------------------------------------------------------------------------------------


def test_settings_are_every_choice_under_every_corruption():
    found = list_settings([["audio"], []], ["absent", "noise"], [0.5, 1])
    assert found == [
        *(Corruption(("audio",), "absent"), Corruption((), "absent")),
        *(Corruption(("audio",), "noise", 0.5), Corruption((), "noise", 0.5)),
        *(Corruption(("audio",), "noise", 1.0), Corruption((), "noise", 1.0)),
    ]


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"kept": [["audio"]], "corruptions": ["blur"]}, r"by some of absent, zero, mean, noise, but .*\['blur'\]"),
        ({"kept": [], "corruptions": ["zero"]}, "name at least one of each"),
        ({"kept": [["audio"]], "corruptions": []}, "name at least one of each"),
        ({"kept": [["audio"]], "corruptions": ["noise"]}, "Noise, and nothing else, has levels from 0 to 1"),
        ({"kept": [["audio"]], "corruptions": ["zero"], "levels": [1]}, "correct one of them"),
        ({"kept": [["audio"]], "corruptions": ["noise"], "levels": [1.5]}, r"study\.levels is \[1\.5\]"),
    ],
)
def test_sections_that_say_nothing_possible(section, said):
    with pytest.raises(ValueError, match=said):
        Robustness(**section)


@pytest.mark.parametrize("kept", [("language", "audio", "video"), ("smell",)])
def test_something_is_removed_and_what_is_kept_is_there(kept):
    with pytest.raises(ValueError, match=r"language, audio, video are kept and at least one is removed, got .*; correct"):
        corrupt(batch_of(), Corruption(kept, "absent"), means={})


# Numbers ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    cfg = compose_run("model=lmf", "trainer.max_epochs=3", f"paths.outputs={tmp_path_factory.mktemp('robust')}")
    run(cfg)
    return mdm.load(record_folder(cfg, ()))


def test_a_run_is_measured_as_it_is_and_in_every_setting(trained):
    wanted = [Corruption((), "absent"), Corruption(KEPT_VIDEO, "zero"), Corruption(("language", "video"), "mean")]
    rows = evaluate_settings(trained, wanted)
    assert [(r["kept"], r["corruption"], r["level"]) for r in rows] == [
        ("language+audio+video", "none", 0.0),
        *(("nothing", "absent", 1.0), ("video", "zero", 1.0), ("language+video", "mean", 1.0)),
    ]
    assert {m: rows[0][m] for m in ("acc2_pos", "mae")} == {m: trained.record["test"][m] for m in ("acc2_pos", "mae")}
    assert [r["ratio"] for r in rows] == [r["acc2_pos"] / rows[0]["acc2_pos"] for r in rows]
    # A constant: correlated with nothing, and as often right as one of the two signs.
    label = torch.cat([b.label for b in trained.batches("test")]).numpy()
    share = float((label > 0).sum() / (label != 0).sum())
    assert np.isnan(rows[1]["corr"])
    assert rows[1]["acc2_pos"] in (pytest.approx(share), pytest.approx(1 - share))
    assert [r["majority"] for r in rows] == pytest.approx([max(share, 1 - share)] * 4)
    assert [r["constant"] for r in rows] == [False, True, False, False]


def test_a_run_without_accuracy_has_no_ratio(trained, monkeypatch):
    monkeypatch.setattr("mdm.studies.robustness.corruption.evaluate", lambda *_: {"acc2_pos": 0.0, "mae": 1.0, "corr": 0.0})
    with pytest.raises(ValueError, match=r"to an Acc-2 above 0, but that of .* is 0\.0; take a run and a test fold"):
        evaluate_settings(trained, [])


def table(ratios, row="kl", **of):
    cell = {"data": "d", "row": row, "label": row, "kept": "audio", "corruption": "zero", "level": 1.0, **of}
    rest = {"mae": 1.0, "corr": 0.5, "majority": 0.5, "constant": False}
    return [{**cell, "seed": s, "ratio": r, "acc2_pos": r / 2, **rest} for s, r in ratios.items()]


def test_intervals_and_differences_are_paired_by_seed():
    """Against scipy: seed 7 has no partner, and the order of the rows says nothing."""
    ours, base = {0: 0.7, 1: 0.9, 2: 0.8, 7: 0.1}, {2: 0.75, 1: 0.7, 0: 0.65}
    other_level = table({0: 0.0, 1: 0.0, 2: 0.0}, row="none", level=0.5)
    runs = pd.DataFrame(table(ours) + table(base, row="none") + other_level)
    found = summarise_seeds(runs, {"kl": "none", "none": None}).set_index(["row", "level"])
    row = found.loc[("kl", 1.0)]
    assert row.seeds == 4
    test = stats.ttest_1samp(list(ours.values()), 0).confidence_interval()
    assert [row.ratio, row.ratio_low, row.ratio_high] == pytest.approx([0.625, *test])
    d = [ours[s] - base[s] for s in range(3)]
    low, high = stats.ttest_1samp(d, 0).confidence_interval()
    assert [row.ratio_difference, row.ratio_difference_low, row.ratio_difference_high] == pytest.approx([np.mean(d), low, high])
    assert row.ratio_p == 2 / 2**3
    assert row.acc2_pos_difference == pytest.approx(np.mean(d) / 2)
    assert found.loc["none"].filter(like="difference", axis=1).isna().all(axis=None)
    assert list(summarise_seeds(runs, {"kl": "none", "none": None})[CELL[1]]) == ["kl", "none", "none"]


def test_runs_with_constant_predictions_are_counted():
    runs = pd.DataFrame(table({0: 0.6, 1: 0.7}))
    runs.loc[0, ["corr", "constant"]] = [np.nan, True]
    found = summarise_seeds(runs, {"kl": None}).iloc[0]
    assert (found.constant, found["corr"]) == (1, 0.5)


# The study ----------------------------------------------------------------------------------------------


def script(name, *arguments):
    command = [sys.executable, str(ROOT / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=300)


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_an_experiment_from_its_runs_to_its_figure(tmp_path, in_turn, jobs):
    given = ["experiment=mdm/robustness", *SMALL, "seed=0,1", "penalty=none,kl", f"paths.outputs={tmp_path}"]
    said = in_turn([["train", "-m", *given], ["study", *given, "study.levels=[1]", f"jobs={jobs}"]], tmp_path)
    folder = tmp_path / "mdm/robustness/robustness"
    assert {path.name for path in folder.iterdir()} == {"runs.csv", "settings.csv", "summary.md", "figure.pdf", "figure.png"}
    assert said.endswith((folder / "summary.md").read_text())
    assert "2 seeds" in said
    runs, cells = pd.read_csv(folder / "runs.csv"), pd.read_csv(folder / "settings.csv")
    assert len(runs) == 2 * len(cells)
    assert set(runs.row) == {"none", "kl"}
    assert (folder / "figure.png").stat().st_size > 10_000


def test_an_experiment_without_a_study(tmp_path):
    found = script("scripts/study.py", "experiment=mdm/table1", f"paths.outputs={tmp_path}")
    assert (found.returncode, "Traceback" in found.stderr) == (2, False)
    assert "A study is chosen by study=…, or by an experiment that declares one, but mdm/table1 declares none" in found.stderr
