"""Losses of runs: panels of a curve, where each is lowest, and the study."""

import numpy as np
import pandas as pd
import pytest

from mdm.commands.study import main
from mdm.runs.naming import record_folder
from mdm.runs.protocol import run
from mdm.studies.traces import find_lowest, split_curve

CURVE = pd.DataFrame(
    {
        "epoch": [0.0, 1.0, 2.0, 3.0],
        "train/task": [4.0, 3.0, 2.0, 1.0],
        "train/cpc_audio": [1.0, 0.9, 0.8, 0.7],
        "train/cpc_video": [1.0, 1.0, 0.5, 0.9],
        "train/own/likelihood": [3.0, 1.0, 2.0, 2.0],
        "train/own/entropy": [0.0, -0.5, -0.5, -1.0],
        "train/own/language_audio": [-9.0, 0.0, 1.0, 2.0],
        "valid/own/language_audio": [-9.0, 0.0, 0.5, 0.1],
        "valid/mae": [1.4, 0.8, 0.9, 1.0],
        "valid/corr": [0.0, 0.6, 0.5, 0.4],
        "seconds": [1.0] * 4,
    }
)


def test_a_panel_for_each_kind_of_loss():
    panels = split_curve(CURVE, "valid/mae")
    assert {panel: list(lines) for panel, lines in panels.items()} == {
        "task": ["train", "valid/mae"],
        "own terms": ["cpc_audio", "cpc_video", "sum"],
        "penalty own": ["likelihood", "entropy", "sum"],
        "estimate own": ["language_audio, train", "language_audio, valid"],
    }
    assert list(panels["own terms"]["sum"]) == pytest.approx([2.0, 1.9, 1.3, 1.6])
    assert list(panels["penalty own"]["sum"]) == pytest.approx([3.0, 0.5, 1.5, 1.0])


def test_where_each_loss_is_lowest():
    """By hand, for the best epoch 1: L_BA is lowest there, CPC one epoch later, the task loss at the end."""
    found = {row["loss"]: row for row in find_lowest(CURVE, "valid/mae", 1)}
    assert list(found) == ["task, train", "valid/mae", "own terms", "penalty own"]
    assert {loss: (row["lowest_epoch"], row["rank"]) for loss, row in found.items()} == {
        "task, train": (3, pytest.approx(2 / 3)),
        "valid/mae": (1, 0.0),
        "own terms": (2, pytest.approx(2 / 3)),
        "penalty own": (1, 0.0),
    }
    assert (found["own terms"]["at_chosen"], found["own terms"]["lowest"], found["own terms"]["last"]) == pytest.approx(
        (1.9, 1.3, 1.6)
    )


def test_one_term_is_its_own_sum_and_one_epoch_has_no_rank():
    curve = CURVE.drop(columns=["train/cpc_video", "train/own/entropy"])
    assert list(split_curve(curve, "valid/mae")["own terms"]) == ["cpc_audio"]
    found = {row["loss"]: row for row in find_lowest(curve[:1], "valid/mae", 0)}
    assert list(found) == ["task, train", "valid/mae", "own terms", "penalty own"]
    assert all(np.isnan(row["rank"]) for row in found.values())


def test_a_curve_without_losses_is_refused():
    with pytest.raises(
        ValueError, match=r"has train/task and valid/mae, but this one has epoch, valid/mae; choose a run of another"
    ):
        split_curve(CURVE[["epoch", "valid/mae"]], "valid/mae")


def test_the_study_of_a_run_and_of_an_experiment(config, tmp_path, capsys):
    overrides = ["experiment=mmim/figure2", "data=synthetic", "model=mmim"]
    cfg = config(*overrides)
    small = ["data.segments.train=96", "data.segments.valid=32", "data.segments.test=40", "trainer.max_epochs=2"]
    run(cfg, [*overrides, *small])
    folder = record_folder(cfg, [*overrides, *small])
    outputs = f"paths.outputs={tmp_path}/outputs"
    for arguments, place in (
        (["study=traces", f"folder={folder}"], folder / "traces"),
        (["experiment=mmim/figure2", *small, outputs], tmp_path / "outputs" / "mmim" / "figure2" / "traces"),
    ):
        main(arguments)
        assert {path.name for path in place.iterdir()} == {"figure.pdf", "figure.png", "lowest.csv", "summary.md"}
        assert "| own terms | 1 |" in capsys.readouterr().out
        assert set(pd.read_csv(place / "lowest.csv").loss) == {"task, train", "valid/mae", "own terms", "penalty own"}
    with pytest.raises(ValueError, match=r"A study needs finished runs, but mmim/figure2 has none; run `mdm train -m experiment"):
        main(["experiment=mmim/figure2", "trainer.max_epochs=3", outputs])
