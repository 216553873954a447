"""Cells of an estimation and its experiments: what is measured when, on how many processes, and the figure."""

import csv
import math

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

from mdm.commands.study import main
from mdm.data.gaussian import total_correlation
from mdm.penalties.dependency import Dependency
from mdm.runs.config import to_plain
from mdm.runs.protocol import run
from mdm.studies import Frames
from mdm.studies.estimation import Estimation
from mdm.studies.estimation.cells import (
    CriticCell,
    measure_cell,
    plan_cells,
    summarise_seeds,
)
from mdm.studies.estimation.closed_forms import (
    bound_wasserstein,
)
from mdm.study import Experiment, call_each
from mdm.sweeps.experiment import Table


def cell(**keys):
    small = {"name": "critic", "setting": "fresh", "measure": "kl", "rho": 0.6, "modalities": 2, "dim": 2, "seed": 0, "penalty": {}}
    return CriticCell(
        **{**small, "marks": [5, 10], "batch_size": 16, "rows": None, "held_out": 64, "products": 2, "lr": 1e-2, **keys}
    )


# ---- cells


def without_times(rows):
    return [{k: v for k, v in row.items() if k != "ms_per_step"} for row in rows]


DISTANCE = {"training": "bound", "output": "linear", "lipschitz": "gradient_penalty"}


def test_a_cell_measures_at_its_marks_and_leaves_the_generators_alone():
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    rows = measure_cell(cell(measure="wasserstein", penalty=DISTANCE, marks=[1, 8]))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert [row["step"] for row in rows] == [1, 8]
    lower, upper = bound_wasserstein(0.6, 2, 2)
    for row in rows:
        assert (row["truth"], row["truth_upper"], row["exact"]) == (lower, upper, None)
        assert row["slope_max"] >= row["slope_mean"] > 0
        assert row["ms_per_step"] > 0


def test_marks_before_do_not_change_what_comes_after():
    """Reading a critic out is no step of it, and draws nothing that it draws: dropout and noise are its own."""
    penalty = {"critic": "table4", "output": "sigmoid", "training": "bound", "noise": 0.1}
    few, many = (measure_cell(cell(dim=4, penalty=penalty, marks=marks)) for marks in ([8], [2, 5, 8]))
    assert few[-1]["estimate"] == many[-1]["estimate"]


def test_a_critic_learns_what_there_is():
    """d = 5, ρ = 0.6: 1.116 nats. A few hundred logistic steps read most of it on rows not seen before, and log p/q all."""
    (row,) = measure_cell(cell(dim=5, marks=[300], batch_size=128, held_out=4000, lr=3e-3))
    assert row["truth"] == pytest.approx(total_correlation(0.6, 5, 2))
    assert 0.7 * row["truth"] < row["estimate"] < 1.1 * row["truth"]
    assert row["exact"] == pytest.approx(row["truth"], abs=0.1)


@pytest.mark.slow
def test_the_same_numbers_on_any_number_of_processes():
    cells = [cell(seed=seed, measure=measure) for seed in range(2) for measure in ("kl", "f")]
    one, two = (
        [row for rows in call_each(measure_cell, [(each,) for each in cells], jobs, "cells") for row in rows] for jobs in (1, 2)
    )
    assert without_times(one) == without_times(two)
    assert [row["seed"] for row in one] == [0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"measure": "mmd"}, "has measures among kl, f, wasserstein"),
        ({"penalty": {"colour": 1}}, "and colour; set study.critics.critic"),
        ({"penalty": {"measure": "f"}}, "and measure; set study.critics.critic"),
        ({"marks": []}, "measured after increasing numbers"),
        ({"marks": [5, 5]}, r"marks=\[5, 5\]"),
        ({"marks": [0, 5]}, "takes at least one step"),
        ({"lr": 0.0}, "lr=0.0"),
        ({"batch_size": 1}, "re-paired among at least as many rows"),
        ({"held_out": 2, "modalities": 3}, "held_out=2"),
        ({"rows": 10}, "no larger than the training set"),
        ({"products": 0}, "products=0"),
        ({"rho": 1.0}, "strictly between"),
        ({"seed": -1}, "non-negative"),
    ],
)
def test_cells_that_cannot_be_measured_are_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        cell(**keys)


# ---- experiments

LAWS = {"two": {"modalities": 2, "rhos": [0.0, 0.5]}, "three": {"modalities": 3, "rhos": [0.5]}}
SETTINGS = {
    "fresh": {"label": "new"},
    "few": {"label": "few", "rows": 20, "critics": ["b"], "laws": ["two"], "penalty": {"noise": 0.5}},
}
CRITICS = {"a": {"measures": ["kl"], "penalty": {}}, "b": {"measures": ["kl", "f"], "penalty": {"hidden": 4}}}
SHARED = {"dim": 2, "marks": [5], "batch_size": 16, "rows": None, "held_out": 32, "products": 1, "lr": 0.01}


def test_a_plan_is_every_critic_on_every_law_unless_a_setting_names_some():
    cells = plan_cells(LAWS, SETTINGS, CRITICS, SHARED, seeds=3)
    assert len(cells) == 3 * (3 * 3) + 2 * 2 * 3
    fixed = [c for c in cells if c.rows == 20]
    assert {(c.setting, c.name, c.modalities) for c in fixed} == {("few", "b", 2)}
    assert fixed[0].penalty == {"noise": 0.5, "hidden": 4}
    assert len({str(c) for c in cells}) == len(cells)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": {"fresh": {"critics": ["c"]}}}, r"set study\.settings\.fresh\.critics"),
        ({"settings": {"fresh": {"laws": ["four"]}}}, "among two, three, but fresh has four"),
        ({"seeds": 0}, "has no cell"),
        ({"settings": {}}, "has no cell"),
    ],
)
def test_plans_that_name_nothing_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        plan_cells(**{"laws": LAWS, "settings": SETTINGS, "critics": CRITICS, "cell": SHARED, "seeds": 1, **change})


def test_means_over_seeds_are_those_after_the_last_step():
    same = {"setting": "s", "name": "a", "measure": "kl", "modalities": 2, "rho": 0.5, "truth": 1.0, "truth_upper": 1.0}
    same |= {"exact": 1.1, "train": 0.5, "slope_mean": None, "slope_max": None, "ms_per_step": 2.0}
    rows = [{**same, "seed": seed, "step": step, "estimate": step + seed} for seed in range(3) for step in (10, 20)]
    (found,) = summarise_seeds(rows).to_dict("records")
    assert (found["mean"], found["std"], found["min"], found["max"], found["step"]) == (21.0, 1.0, 20.0, 22.0, 20)
    assert found["truth"] == 1.0
    assert math.isnan(found["slope_mean"])


SMALL = (
    "study.seeds=2",
    "study.cell.marks=[3]",
    "study.cell.held_out=60",
    "study.cell.dim=4",
    "~study.laws.three",
    "study.laws.two.rhos=[0.0,0.5]",
)


def test_the_figure_and_its_numbers_are_written(tmp_path, capsys):
    main(["experiment=mdm/figure1", f"paths.outputs={tmp_path}", *SMALL])
    printed = capsys.readouterr().out
    folder = tmp_path / "mdm" / "figure1" / "estimation"
    assert {path.name for path in folder.iterdir()} == {"estimates.csv", "figure.pdf", "figure.png", "summary.md"}
    assert (folder / "figure.pdf").read_bytes().startswith(b"%PDF")
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    with open(folder / "estimates.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {"setting", "name", "measure", "modalities", "rho", "seed", "step", "estimate", "exact", "truth", "train"} <= set(
        rows[0]
    )
    # Three critics each of kl and f, three of the distance; two correlations, two seeds.
    assert len(rows) == 9 * 2 * 2
    assert {row["measure"] for row in rows} == {"kl", "f", "wasserstein"}
    half = {float(row["truth"]) for row in rows if row["rho"] == "0.5" and row["measure"] == "kl"}
    assert half == {total_correlation(0.5, 4, 2)}
    assert "**KL (Donsker–Varadhan), nats, M = 2, 128 new rows a step, after 3 steps**" in printed
    assert f"| truth | 0.00 | {total_correlation(0.5, 4, 2):.2f} |" in printed


def test_a_divergence_without_a_closed_form_is_drawn_without_it(tmp_path):
    penalty = {"divergence": "jensen_shannon"}
    critics = {"a": {"measures": ["f"], "penalty": penalty, "label": "logistic", "colour": 0}}
    settings = {"fresh": {"label": "new rows"}}
    cells = plan_cells({"two": LAWS["two"]}, settings, critics, SHARED, seeds=2)
    rows = [row for one in cells for row in measure_cell(one)]
    layout = {"rows": ["modalities"], "columns": ["measure"], "caps": False, "top": 20, "values": True}
    experiment = Experiment(OmegaConf.create(), Table("Another", 0, {}, {}, {}, {}), [], [])
    study = Estimation(2, {"two": LAWS["two"]}, SHARED, settings, critics, layout)
    frames = Frames({"estimates": pd.DataFrame(rows)}, experiment, "Another")
    study.figure(frames).savefig(tmp_path / "figure.png")
    printed = study.summary(frames)
    assert "| truth | – | – |" in printed
    assert "**f (jensen shannon), nats," in printed


def test_what_is_killed_leaves_what_it_measured(tmp_path, monkeypatch):
    def killed(function, calls, jobs, title):
        yield function(*calls[0])
        raise KeyboardInterrupt

    monkeypatch.setattr("mdm.studies._conduct.call_each", killed)
    with pytest.raises(KeyboardInterrupt):
        main(["experiment=mdm/figure1", f"paths.outputs={tmp_path}", *SMALL])
    with open(tmp_path / "mdm" / "figure1" / "estimation" / "estimates.csv", encoding="utf-8") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["3"]


@pytest.mark.parametrize("name", ["figure1", "critics", "lipschitz"])
def test_every_cell_of_the_experiments_can_be_built(config, name):
    options = to_plain(config(f"experiment=mdm/{name}", small=False).study)
    cells = plan_cells(options["laws"], options["settings"], options["critics"], options["cell"], options["seeds"])
    for keys in {(c.measure, c.modalities * c.dim, tuple(sorted(c.penalty.items()))) for c in cells}:
        measure, width, penalty = keys
        Dependency(z_dim=width, weight=1.0, measure=measure, normalize=False, **dict(penalty))


def test_training_an_experiment_of_estimates_is_refused(config):
    with pytest.raises(ValueError, match=r"mdm/figure1 is studied without any run; say `mdm study exp"):
        run(config("experiment=mdm/figure1", small=False))
