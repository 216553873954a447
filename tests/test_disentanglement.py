"""Dependence and separation where both are known, and the three studies on runs of a second."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from scipy import stats

import mdm
from mdm.commands.study import main
from mdm.runs import records
from mdm.runs.naming import record_folder
from mdm.runs.protocol import run
from mdm.studies._fresh import draw_fresh
from mdm.studies.disentanglement import representations as study
from mdm.sweeps.experiment import list_cells, parse_table

pytestmark = pytest.mark.slow  # whole studies, from training to picture

ROOT = Path(__file__).resolve().parents[1]
SMALL = [
    "data.segments.train=48",
    "data.segments.valid=16",
    "data.segments.test=80",
    "trainer.max_epochs=1",
    "model=mird",
    "seed=0",
]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def correlated(n, d, rho, seed):
    x, e = normal(n, d, seed=seed), normal(n, d, seed=seed + 1000)
    return {"x": x, "y": rho * x + math.sqrt(1 - rho**2) * e}


# Separation says nothing of dependence ------------------------------------------------------------------


def test_a_copy_that_was_moved_lies_apart():
    """x and x + 10 are each other's functions; the picture would call them disentangled."""
    x = normal(200, 4)
    moved = {"a": x, "b": x + 10}
    apart = study.measure_separation(moved)
    assert apart["accuracy"] == 1
    assert apart["silhouette"] > 0.8
    assert study.predict_linearly(x, x + 10, x, x + 10) == pytest.approx(1, abs=1e-10)


def test_independent_draws_of_one_law_do_not():
    together = study.measure_separation({"a": normal(200, 4), "b": normal(200, 4, seed=1)})
    assert abs(together["silhouette"]) < 0.05
    assert together["accuracy"] == pytest.approx(0.5, abs=0.15)


def test_the_picture_has_a_point_for_every_representation_of_every_segment():
    points = study.project({"a": normal(40, 4), "b": normal(40, 4, seed=1) + 20}, seed=0)
    assert points.shape == (80, 2)
    gap = np.linalg.norm(points[:40].mean(0) - points[40:].mean(0))
    assert gap > 2 * points[:40].std(0).max()


# Dependence where it is known ---------------------------------------------------------------------------


def test_gaussians_have_their_information():
    """I = −(d/2) log(1 − ρ²), and R² = ρ² of either given the other."""
    d, rho = 2, 0.8
    three = study.Three(*(correlated(n, d, rho, seed) for n, seed in ((2500, 1), (600, 2), (1500, 3))))
    found = {row["measure"]: row["value"] for row in study.measure_dependence(three, seed=0, steps=400)}
    truth = -d / 2 * math.log(1 - rho**2)
    assert found["linear"] == pytest.approx(rho**2, abs=0.03)
    assert 0.85 * truth < found["nats"] < 1.1 * truth
    assert found["hsic"] > 0.3


def test_what_is_independent_reads_zero():
    three = study.Three(*(correlated(n, 2, 0.0, seed) for n, seed in ((1000, 1), (300, 2), (1000, 3))))
    for row in study.measure_dependence(three, seed=0, steps=200):
        assert (row["pair"], abs(row["value"]) < 0.03) == ("x–y", True), row


def test_what_is_not_linear_is_seen_by_the_others():
    """y = x²: uncorrelated with x, so an orthogonal constraint has nothing to remove."""
    of = [{"x": x, "y": x.square()} for x in (normal(n, 2, seed=n) for n in (1500, 400, 1000))]
    found = {row["measure"]: row["value"] for row in study.measure_dependence(study.Three(*of), seed=0, steps=300)}
    assert found["linear"] == pytest.approx(0, abs=0.03)
    assert found["hsic"] > 0.05
    assert found["nats"] > 0.5


def test_no_row_keeps_its_partner():
    x = torch.arange(7.0)[:, None]
    pairs = study.pair_segments(x, x, seed=3)
    assert torch.equal(pairs.joint[:, 0], pairs.joint[:, 1])
    assert (pairs.product[..., 0] != pairs.product[..., 1]).all()
    assert len({tuple(of[:, 1].tolist()) for of in pairs.product}) == len(pairs.product) == 4


def test_collapsed_representations_predict_nothing():
    constant, y = torch.full((50, 3), 2.0), normal(50, 3)
    assert study.predict_linearly(constant, y, constant, y) == pytest.approx(0, abs=1e-6)
    assert study.predict_linearly(y, constant, y, constant) == 0


def test_dimensions():
    """Eigenvalues 4 and 1: 5²/17."""
    stretched = torch.tensor([[2.0, 0], [-2, 0], [0, 1], [0, -1]])
    assert study.count_dimensions(stretched) == pytest.approx(25 / 17)
    assert study.count_dimensions(torch.cat([torch.eye(3), -torch.eye(3)])) == pytest.approx(3)
    assert study.count_dimensions(torch.ones(5, 3)) == 0


def test_cosines():
    """Of standardised representations: ±1 for a copy and its negative, so |cosine| is 1; 0 for orthogonal rows."""
    x = normal(30, 5)
    assert study.average_cosine({"a": x, "b": 3 * x + 1, "c": -x}) == pytest.approx(torch.ones(30), abs=1e-5)
    a = torch.tensor([[1.0, 0], [-1, 0], [1, 0], [-1, 0]])
    assert study.average_cosine({"a": a, "b": a.flip(1)}) == pytest.approx(torch.zeros(4), abs=1e-6)


# Estimates and seeds ------------------------------------------------------------------------------------


def curve(folder, columns):
    folder.mkdir()
    records.write_table(folder / records.CURVE, [{"epoch": float(i), **{k: v[i] for k, v in columns.items()}} for i in range(2)])
    return folder


def test_estimates_are_summed_over_pairs(tmp_path):
    columns = {"valid/own/a_b": [1.0, 2.0], "valid/own/a_c": [0.5, 0.25], "train/own/a_b": [3.0, 4.0], "train/own/term": [9.0, 9.0]}
    rows = study.read_estimates(curve(tmp_path / "own", columns))
    assert [(r["fold"], r["epoch"], r["value"]) for r in rows] == [
        ("valid", 0, 1.5),
        ("valid", 1, 2.25),
        ("train", 0, 3),
        ("train", 1, 4),
    ]


def test_the_critic_beside_the_model_comes_first(tmp_path):
    """An orthogonal constraint's own value is no information."""
    columns = {f"{fold}/{owner}/a_b": [v, v] for fold in ("valid", "train") for owner, v in (("own", 7.0), ("club", 1.0))}
    assert {row["value"] for row in study.read_estimates(curve(tmp_path / "both", columns))} == {1.0}
    with pytest.raises(ValueError, match=r"in the curve of a run with CLUB, but .* has none; add penalty=club"):
        study.read_estimates(curve(tmp_path / "none", {"valid/mae": [1.0, 1.0]}))


def test_differences_are_paired_by_seed():
    a, b = np.array([1.0, 2.0, 4.0]), np.array([0.5, 2.5, 1.0])
    rows = pd.DataFrame(
        [{"row": row, "seed": s, "value": float(v[s]), "m": "x"} for row, v in (("a", a), ("b", b)) for s in (2, 0, 1)]
    )
    found = study.compare_rows(rows, [("a", "b"), ("a", "gone")], ["m"])
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert found[["m", "row", "baseline", "n"]].to_numpy().tolist() == [["x", "a", "b", 3]]
    assert found.loc[0, ["difference", "low", "high"]].tolist() == pytest.approx([(a - b).mean(), expected.low, expected.high])


# On runs ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """NC and MIM of Figure 4, in little, one seed."""
    root = tmp_path_factory.mktemp("disentanglement")
    overrides = ["experiment=mird/figure4", *SMALL, f"paths.outputs={root}"]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        for cell in list_cells(parse_table(compose("train", ["experiment=mird/figure4"])), overrides):
            run(compose("train", cell.runs()[0]), cell.runs()[0])
    return root


@pytest.fixture(scope="module")
def trained(outputs):
    (folder,) = [path.parent for path in outputs.rglob("metrics.json") if "own_penalty=None" in str(path)]
    return mdm.load(folder)


def test_the_four_representations_are_z(trained):
    of = study.encode(trained.backbone, trained.batches("test"))
    assert set(of) == {"language", "audio", "video", "shared"}
    with torch.no_grad():
        z = torch.cat([trained.backbone(batch).z for batch in trained.batches("test")])
    assert torch.equal(torch.cat([of[name] for name in ("shared", "language", "audio", "video")], dim=1), z)


def test_a_model_without_them_is_refused(trained, config):
    from mdm.runs.build import build_learner, build_splits

    cfg = config("model=lmf")
    with pytest.raises(ValueError, match=r"representations of one width, one of them shared, but LMF has .*; use model=mird"):
        study.encode(build_learner(cfg, build_splits(cfg)).backbone, [])


def test_new_segments_are_new(trained):
    new = draw_fresh(trained, {"train": 20, "valid": 8, "test": 9})
    assert new.sizes == {"train": 20, "valid": 8, "test": 9}
    assert new.segments.card_hash != trained.splits.card_hash
    store = trained.cfg.copy()
    store.data.segments = OmegaConf.create({"path": "somewhere"})
    with pytest.raises(ValueError, match=r"of synthetic data only, but synthetic is a store; set study\.fresh=null"):
        draw_fresh(replace(trained, cfg=store), {"train": 20, "valid": 8, "test": 9})
    assert {len(x) for x in study.encode_folds(trained, None).measure.values()} == {80}


def test_cases_are_of_different_videos_and_as_predicted(trained):
    predicted = pd.read_csv(trained.folder / records.PREDICTIONS).set_index("id")
    found = study.pick_cases(trained, 3)
    assert [row["id"] for row in found] == predicted.drop_duplicates("group").index[:3].tolist()
    for row in found:
        assert row["prediction"] == pytest.approx(predicted.loc[row["id"], "prediction"], abs=1e-5)
        assert row["truth"] == pytest.approx(predicted.loc[row["id"], "label"], abs=1e-6)
        assert 0 < row["cosine"] < 1
        assert row["words"]
    with pytest.raises(ValueError, match=r"Cases are of 99 videos, but the test fold has \d+; lower study\.cases"):
        study.pick_cases(trained, 99)
    assert study.average_errors(trained.folder)[0]["error"] == pytest.approx(trained.record["test"]["mae"])


@pytest.mark.slow
def test_the_studies_draw_figures_4_and_8_and_a_grid(outputs, capsys):
    common = [*SMALL, f"paths.outputs={outputs}", "name=mird/figure4"]
    main(["experiment=mird/figure4", *common, "study.steps=100", "study.fresh={train: 40, valid: 20, test: 40}"])
    assert "| language–audio |" in capsys.readouterr().out
    main(["experiment=mird/figure8", *common])
    assert "**All test segments**" in capsys.readouterr().out
    main(["study=grid", "experiment=mird/figure4", *common])
    assert "| MIM | " in capsys.readouterr().out
    for kind in ("codes", "cases", "grid"):
        assert {p.name for p in (outputs / "mird/figure4" / kind).iterdir()} >= {
            "figure.pdf",
            "figure.png",
            "runs.csv",
            "summary.md",
        }
    points = pd.read_csv(outputs / "mird/figure4/codes/points.csv")
    assert points.groupby(["row", "representation"]).size().unique().tolist() == [80]
    rows = pd.read_csv(outputs / "mird/figure4/codes/runs.csv")
    assert rows.groupby("row").size().tolist() == [2 + 4 + 3 * 6] * 2


def test_the_study_draws_figure_5(tmp_path, capsys):
    overrides = [
        "experiment=mird/figure5",
        *SMALL,
        "trainer.max_epochs=2",
        "data.segments.unlabeled=48",
        f"paths.outputs={tmp_path}",
    ]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        declared = parse_table(compose("train", ["experiment=mird/figure5"]))
        for cell in [cell for cell in list_cells(declared, overrides) if cell.row != "mim"]:
            run(compose("train", cell.runs()[0]), cell.runs()[0])
            assert (record_folder(compose("train", cell.runs()[0]), cell.runs()[0]) / records.CURVE).is_file()
    main(overrides)
    said = capsys.readouterr().out
    assert "epoch 1: CLUB summed over pairs" in said
    assert "1 runs have not finished and are left out." in said
    rows = pd.read_csv(tmp_path / "mird/figure5/estimates/runs.csv")
    assert rows.groupby(["row", "fold"]).size().to_dict() == dict.fromkeys(
        [(r, f) for r in ("mim_unlabeled", "nc") for f in ("train", "valid")], 2
    )
    assert rows.value.notna().all()


@pytest.mark.parametrize("experiment", ["mird/figure4", "mird/figure5", "mird/figure8", "mird/figure6"])
def test_the_studies_say_what_they_need(tmp_path, experiment):
    with pytest.raises(ValueError, match=r"has none; run `mdm train -m"):
        main([f"experiment={experiment}", f"paths.outputs={tmp_path}"])
    with pytest.raises(ValueError, match="mixed is true or false"):
        main([f"experiment={experiment}", "mixed=perhaps"])


def test_new_segments_have_all_folds(trained):
    with pytest.raises(ValueError, match=r"are of the folds train, valid, test, but study\.fresh has train; give each a size"):
        draw_fresh(trained, {"train": 3})
