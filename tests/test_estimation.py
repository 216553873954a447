"""Estimators on laws whose dependence is known: closed forms against one another and against samples, cells, and the script."""

import csv
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from mdm.commands.study import main
from mdm.data.gaussian import total_correlation
from mdm.estimators import DIVERGENCES
from mdm.penalties.dependency import Dependency
from mdm.runs.config import to_plain
from mdm.runs.protocol import run
from mdm.seeds import generator
from mdm.studies import Frames
from mdm.studies.estimation import Estimation
from mdm.studies.estimation.cells import (
    CriticCell,
    build_view,
    draw_batches,
    draw_rows,
    measure_cell,
    measure_slopes,
    plan_cells,
    read_exactly,
    read_out,
    summarise_seeds,
)
from mdm.studies.estimation.closed_forms import (
    bound_wasserstein,
    compute_divergence,
    draw_sigmoid_caps,
    find_truth,
    list_eigenvalues,
    log_ratio,
)
from mdm.study import Experiment, call_each
from mdm.sweeps.experiment import Table

ROOT = Path(__file__).resolve().parents[1]


def cell(**keys):
    small = {"name": "critic", "setting": "fresh", "measure": "kl", "rho": 0.6, "modalities": 2, "dim": 2, "seed": 0, "penalty": {}}
    return CriticCell(
        **{**small, "marks": [5, 10], "batch_size": 16, "rows": None, "held_out": 64, "products": 2, "lr": 1e-2, **keys}
    )


# ---- closed forms


def test_spectrum_is_that_of_the_correlation_matrix():
    found = sorted(v for value, k in list_eigenvalues(0.3, 2, 3) for v in [value] * k)
    matrix = np.kron(0.7 * np.eye(3) + 0.3, np.eye(2))
    assert found == pytest.approx(list(np.linalg.eigvalsh(matrix)))


@pytest.mark.parametrize(("modalities", "rho"), [(2, 0.6), (2, -0.6), (3, 0.4), (3, -0.3)])
def test_kl_by_its_definition(modalities, rho):
    """½ Σ (λ − 1 − log λ), and Σ λ is the trace of a correlation matrix."""
    expected = sum(k * (v - 1 - math.log(v)) for v, k in list_eigenvalues(rho, 5, modalities)) / 2
    assert compute_divergence("kl", rho, 5, modalities) == pytest.approx(expected)
    assert (
        find_truth("kl", rho, 5, modalities)
        == find_truth("f", rho, 5, modalities)
        == (compute_divergence("kl", rho, 5, modalities),) * 2
    )


def test_divergences_of_two_modalities_by_their_formulas():
    """For d coordinates of correlation ρ: KL(Q‖P) = d[ρ²/(1−ρ²) + ½ log(1−ρ²)], ∫(p−q)²/q = (1−ρ²)^{−d} − 1, and
    ∫(√p−√q)² = 2 − 2[(1−ρ²)^¼/(1−ρ²/4)^½]^d; for d = 2, ρ = 0.6 that is 0.6787, 1.4414 and 2·0.12088."""
    rho, d = 0.6, 2
    assert compute_divergence("reverse_kl", rho, d, 2) == pytest.approx(d * (rho**2 / (1 - rho**2) + math.log(1 - rho**2) / 2))
    assert compute_divergence("pearson", rho, d, 2) == pytest.approx((1 - rho**2) ** -d - 1)
    hellinger = 2 - 2 * ((1 - rho**2) ** 0.25 / (1 - rho**2 / 4) ** 0.5) ** d
    assert compute_divergence("squared_hellinger", rho, d, 2) == pytest.approx(hellinger)
    found = [compute_divergence(name, rho, d, 2) for name in ("reverse_kl", "pearson", "squared_hellinger")]
    assert found == pytest.approx([0.6787, 1.4414, 2 * 0.12088], abs=1e-4)


def test_divergences_of_three_modalities_against_samples():
    """E_Q[f(p/q)], with p/q from `log_ratio`; E_Q[(p/q)²] is infinite once 1 + 2ρ ≥ 2."""
    x = torch.randn(400_000, 3, generator=generator(0, "samples"))
    ratio = log_ratio(x, 0.2, 1, 3).exp()
    for name, f in {
        "kl": ratio * ratio.log(),
        "reverse_kl": -ratio.log(),
        "pearson": (ratio - 1) ** 2,
        "squared_hellinger": (ratio.sqrt() - 1) ** 2,
    }.items():
        assert float(f.mean()) == pytest.approx(compute_divergence(name, 0.2, 1, 3), abs=5 * float(f.std()) / len(f) ** 0.5), name
    assert compute_divergence("pearson", 0.5, 1, 3) == math.inf


def test_what_has_no_closed_form_is_not_known():
    assert {name for name in DIVERGENCES if compute_divergence(name, 0.5, 2, 2) is None} == {"jensen_shannon", "total_variation"}
    assert find_truth("f", 0.5, 2, 2, "total_variation") == (None, None)


@pytest.mark.parametrize(
    ("modalities", "rho", "bounds"),
    [
        (2, 0.3, (0.951, 0.957)),
        (2, 0.6, (2.001, 2.012)),
        (2, 0.9, (3.452, 3.468)),
        (3, 0.3, (1.557, 1.563)),
        (3, 0.6, (3.145, 3.160)),
        (3, 0.9, (5.226, 5.248)),
    ],
)
def test_wasserstein_lies_between_a_witness_and_a_coupling(modalities, rho, bounds):
    """For d = 20; the upper ones printed here are means of samples. W2 = √(Σ (√λ−1)²) is above both."""
    lower, upper = bound_wasserstein(rho, 20, modalities)
    assert (lower, upper) == pytest.approx(bounds, abs=1.5e-3)
    assert lower < upper < math.sqrt(sum(k * (math.sqrt(v) - 1) ** 2 for v, k in list_eigenvalues(rho, 20, modalities)))


def test_the_coupling_against_samples():
    """E‖(Λ^½ − I) z‖ of 200,000 z."""
    stretch = np.concatenate([np.full(k, math.sqrt(v) - 1) for v, k in list_eigenvalues(0.7, 3, 3)])
    lengths = np.linalg.norm(stretch * np.random.default_rng(0).standard_normal((200_000, len(stretch))), axis=1)
    assert bound_wasserstein(0.7, 3, 3)[1] == pytest.approx(lengths.mean(), abs=5 * lengths.std() / len(lengths) ** 0.5)
    assert bound_wasserstein(0.0, 3, 3) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("modalities", "rho", "caps"),
    [
        (2, 0.1, (0.088, 0.045, 0.176)),
        (2, 0.5, (0.732, 0.471, 0.788)),
        (3, 0.3, (0.654, 0.414, 0.718)),
        (3, 0.9, (1, 1 - 1 / math.e, 1)),
    ],
)
def test_caps_of_a_sigmoid(modalities, rho, caps):
    """Computed apart, by other samples; where nothing can be confused, DV 1, NWJ 1 − 1/e and total variation 1."""
    assert tuple(draw_sigmoid_caps(rho, 20, modalities).values()) == pytest.approx(caps, abs=0.008)


# ---- rows


def test_rows_have_the_law_and_their_product_has_not():
    a = cell(modalities=3, dim=2, rho=0.4)
    x = draw_rows(a, 20_000, generator(0, "rows"))
    view = build_view(x, 2, generator(0, "shifts"))
    expected = np.kron(0.6 * np.eye(3) + 0.4, np.eye(2))
    assert np.cov(view.joint.z.T.numpy()) == pytest.approx(expected, abs=0.05)
    assert np.cov(view.product.z.T.numpy()) == pytest.approx(np.eye(6), abs=0.05)
    assert len(view.product.z) == 40_000


def test_no_row_keeps_a_partner():
    """Rows of the number of the row: none of the product has two modalities of one row."""
    x = torch.arange(5.0)[:, None, None].expand(5, 3, 1)
    for seed in range(20):
        z = build_view(x, 2, generator(seed, "shifts")).product.z
        assert all(len(set(row.tolist())) == 3 for row in z)


def test_streams_do_not_depend_on_rho_or_critic():
    """ρ = 0 is the normals themselves, and the first modality is the same for every ρ."""
    x, y = (draw_rows(cell(rho=rho), 10, generator(0, "rows")) for rho in (0.0, 0.6))
    assert torch.equal(x[:, 0], y[:, 0])
    a, b = (next(draw_batches(cell(name=name, penalty=penalty), 1)) for name, penalty in (("a", {}), ("b", {"hidden": 4})))
    assert torch.equal(a.joint.z, b.joint.z)
    assert torch.equal(a.product.z, b.product.z)


def test_fixed_rows_are_read_over_and_over():
    views = draw_batches(cell(rows=20), 1)
    seen = torch.cat([next(views).joint.z for _ in range(30)])
    assert len(seen.unique(dim=0)) == 20
    assert len(next(draw_batches(cell(rows=20), 1)).joint.z.unique(dim=0)) == 16


# ---- read-outs


class LogRatio(nn.Module):
    """The best critic."""

    def __init__(self, a, plus=0.0):
        super().__init__()
        self.a, self.plus = a, plus

    def prepare(self, z):
        return z

    def score(self, z):
        return log_ratio(z, self.a.rho, self.a.dim, self.a.modalities).float() + self.plus

    forward = score


@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize(("measure", "training", "plus"), [("kl", "bound", 5.0), ("f", "bound", 1.0), ("f", "logistic", 0.0)])
def test_the_best_critic_reads_the_truth(modalities, measure, training, plus):
    """Donsker–Varadhan whatever constant is added, NWJ at 1 + log p/q, or at log p/q where the penalty adds the 1.

    The variance of r under P is ½ Σ (λ−1)², that of e^r under Q ∏ (λ(2−λ))^{−½} − 1: for three modalities 0.96 and 2.9, so each
    mean has a standard error of 0.007.
    """
    a = cell(measure=measure, modalities=modalities, rho=0.4)
    rng = generator(0, "rows")
    view = build_view(draw_rows(a, 20_000, rng), 3, rng)
    penalty = Dependency(z_dim=2 * modalities, weight=1.0, measure=measure, training=training, output="linear", normalize=False)
    penalty.critic = LogRatio(a, plus)
    found = read_out(penalty, view)
    assert found == pytest.approx(read_exactly(a, view, "kl"), abs=1e-4)
    assert found == pytest.approx(total_correlation(0.4, 2, modalities), abs=0.05)


def test_other_divergences_are_read_at_their_best_critic():
    a = cell(measure="f", rho=0.4)
    rng = generator(0, "rows")
    view = build_view(draw_rows(a, 20_000, rng), 3, rng)
    for name in ("reverse_kl", "squared_hellinger", "pearson"):
        assert read_exactly(a, view, name) == pytest.approx(compute_divergence(name, 0.4, 2, 2), abs=0.06), name


def test_slopes_of_a_linear_critic():
    """T(z) = 3 z_1 − 4 z_2 has the slope 5 everywhere."""

    class Linear(LogRatio):
        def score(self, z):
            return 3 * z[:, 0] - 4 * z[:, 1]

    a = cell(measure="wasserstein", penalty={"training": "bound"})
    penalty = Dependency(z_dim=4, weight=1.0, measure="wasserstein", training="bound", normalize=False)
    penalty.critic = Linear(a)
    rng = generator(0, "rows")
    assert measure_slopes(penalty, build_view(draw_rows(a, 50, rng), 1, rng), rng) == pytest.approx((5.0, 5.0))


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
