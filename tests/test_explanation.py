"""What critics and contrastive heads say of segments, by hand, and the study."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import cosine_similarity

import mdm
from mdm.backbones.base import Backbone
from mdm.commands.study import main
from mdm.data.gaussian import gaussian
from mdm.runs.naming import record_folder
from mdm.runs.protocol import run
from mdm.studies import Frames, StudyRun
from mdm.studies.explanation import Explanation
from mdm.studies.explanation.segments import draw_again, explain, measure_energy, measure_moves
from mdm.studies.explanation.worth import (
    measure_relation,
)
from mdm.study import Experiment
from mdm.sweeps.experiment import Row, Table
from mdm.types import Batch, Fusion, Sequence

pytestmark = pytest.mark.slow  # whole studies, from training to picture

ROOT = Path(__file__).resolve().parents[1]
SMALL = [
    *("data.segments.train=96", "data.segments.valid=32", "data.segments.test=40"),
    *("trainer.max_epochs=1", "data.segments.contradiction=0.4"),
]


def finished(root, *overrides):
    """The folder of a small run."""
    given = [*overrides, *SMALL]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("train", [*given, f"paths.outputs={root}"])
    run(cfg, given)
    return record_folder(cfg, given)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return tmp_path_factory.mktemp("explained")


@pytest.fixture(scope="module")
def critic(outputs):
    """Two rows of Table 3, one seed."""
    folders = [
        finished(outputs, "experiment=mdm/table3_lmf", "data=synthetic", "model=lmf", "penalty=kl", *more)
        for more in (["penalty.measure_only=true"], [])
    ]
    return folders[1]


@pytest.fixture(scope="module")
def heads(outputs):
    return finished(outputs, "model=mmim", "data.segments.missing={audio: 0.3}")


# ---- segments


def test_a_row_for_each_test_segment(critic):
    """The record's own ids, labels and predictions, and T by its formula: 8·tanh(layers(Z normalised)/8)."""
    trained = mdm.load(critic)
    rows = explain(trained)
    with open(critic / "predictions.csv", encoding="utf-8") as file:
        recorded = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [row["id"] for row in recorded]
    for name in ("label", "prediction"):
        assert [row[name] for row in rows] == [float(row[name]) for row in recorded]
    assert [row["contradictory"] for row in rows] == [row["contradictory"] == "True" for row in recorded]
    with torch.no_grad():
        z = torch.cat([trained.backbone(batch).z for batch in trained.batches("test")]).double()
        z = (z - z.mean(1, keepdim=True)) / (z.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
        value = trained.learner.penalties["kl"].critic.layers(z.float()).squeeze(1)
    assert [row["T"] for row in rows] == pytest.approx((8 * torch.tanh(value / 8)).tolist(), abs=1e-4)
    place = {name: i for i, name in enumerate(trained.data.ids)}
    assert [row["words"] for row in rows] == [trained.data.words(place[row["id"]]) for row in rows]
    assert set(rows[0]) == {
        *("id", "words", "label", "prediction", "T", "energy_audio", "energy_video", "contradictory", "agreement", "best_T")
    }


def test_new_segments_are_of_the_same_population_and_are_others(critic):
    trained = mdm.load(critic)
    again = draw_again(trained.data, 50)
    rows = explain(trained, again)
    assert len(rows) == 50
    assert again.truth == trained.data.truth
    assert {row["words"] for row in rows}.isdisjoint(trained.data.words(i) for i in range(168))
    assert draw_again(gaussian(train=20, valid=10, test=10), 50) is None


def test_a_run_that_explains_nothing_is_refused(outputs):
    trained = mdm.load(finished(outputs, "model=lmf", "penalty=none"))
    with pytest.raises(ValueError, match=r"is explained by the critic of a dependency penalty, .* has neither; choose runs with"):
        explain(trained)


def test_energy_is_the_mean_square_of_real_steps():
    """(1 + 4 + 9 + 16)/4 = 7.5; what lies behind a sequence does not count, and an absent one has none."""
    values = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]], [[0.0, 0.0]] * 3])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    found = measure_energy(Sequence(values, mask))
    assert found[0] == 7.5
    assert torch.isnan(found[1])


# ---- MMIM


def test_scores_are_cosines_with_own_and_other_segments(heads):
    trained = mdm.load(heads)
    rows = explain(trained)
    (batch,) = trained.batches("test")
    with torch.no_grad():
        fusion = trained.backbone(batch)
        predicted = {m: predict(fusion.z).numpy() for m, predict in trained.backbone.cpc.items()}
    there = batch.sequences["audio"].mask.any(1).numpy()
    assert 0 < there.sum() < len(there)
    for m, kept in (("audio", there), ("language", np.ones(40, bool))):
        cosines = cosine_similarity(predicted[m], fusion.unimodal[m].numpy())
        others = [np.mean([cosines[i, j] for j in np.flatnonzero(kept) if j != i]) for i in range(40)]
        for name, expected in ((f"s_{m}", cosines.diagonal()), (f"s_{m}_other", np.array(others))):
            found = np.array([row[name] for row in rows])
            assert np.array_equal(np.isnan(found), ~kept)
            assert found[kept] == pytest.approx(expected[kept], abs=1e-5)
    assert all(row["moved_language"] > 0 for row in rows)
    measured = measure_relation(rows, "audio")
    own, shift = (np.array([row[f"{name}_audio"] for row in rows]) for name in ("s", "moved"))
    assert measured["score"] == pytest.approx(own[there].mean())
    assert measured["rank_moved"] == pytest.approx(spearmanr(own, shift, nan_policy="omit").statistic)


class Sum(Backbone):
    """prediction = a + 2 v."""

    def encode(self, batch):
        raise NotImplementedError

    def fuse(self, encoded):
        prediction = encoded["a"]["h"] + 2 * encoded["v"]["h"]
        return Fusion(prediction, prediction)


def test_how_far_a_prediction_moves_by_hand():
    """Three segments, so each has two partners. a = 0, 1, 5: 0 becomes 5 and 1, 1 becomes 0 and 5, 5 becomes 1 and 0."""
    h = torch.tensor([[0.0], [1.0], [5.0]])
    encoded = {"a": {"h": h}, "v": {"h": h}}
    step = Sequence(torch.zeros(3, 1, 1), torch.ones(3, 1, dtype=torch.bool))
    batch = Batch(("x", "y", "z"), {"a": step, "v": step}, torch.zeros(3, 1))
    assert measure_moves(Sum(), encoded, batch, "a").tolist() == [3.0, 2.5, 4.5]
    assert measure_moves(Sum(), encoded, batch, "v").tolist() == [6.0, 5.0, 9.0]


def test_a_prediction_alone_has_no_other_to_move_to():
    encoded = {"a": {"h": torch.ones(1, 1)}, "v": {"h": torch.ones(1, 1)}}
    step = Sequence(torch.zeros(1, 1, 1), torch.ones(1, 1, dtype=torch.bool))
    assert torch.isnan(measure_moves(Sum(), encoded, Batch(("x",), {"a": step, "v": step}, torch.zeros(1, 1)), "a")).all()


# ---- the study


def test_the_experiment_is_explained(critic, outputs, capsys):
    options = ["study.examples=2", "study.new=60", "mixed=true"]
    main(["experiment=mdm/table3_lmf", *SMALL, f"paths.outputs={outputs}", *options])
    folder = outputs / "mdm" / "table3_lmf" / "explanation"
    assert {path.name for path in folder.iterdir()} == {
        *("segments.csv", "rankings.csv", "examples.csv", "summary.md", "figure.pdf", "figure.png")
    }
    printed = capsys.readouterr().out
    assert printed == (folder / "summary.md").read_text(encoding="utf-8")
    assert "| L_kl | 1 |" in printed
    assert "23 runs have not finished" in printed
    assert "(L_kl measured only)" in printed
    assert len(pd.read_csv(folder / "segments.csv")) == 2 * 40
    rankings = pd.read_csv(folder / "rankings.csv")
    assert rankings[["row", "on"]].to_numpy().tolist() == [[row, on] for row in ("kl", "kl_measured") for on in ("test", "new")]
    of_test = pd.read_csv(folder / "segments.csv").groupby("row", sort=False)
    expected = [roc_auc_score(mine.contradictory, -mine["T"]) for _, mine in of_test]
    assert rankings[rankings.on == "test"].auc_T.tolist() == pytest.approx(expected)
    assert pd.read_csv(folder / "examples.csv").end.tolist() == ["L", "L", "H", "H"] * 2


def test_a_run_of_mmim_is_explained(heads, capsys):
    main(["study=explanation", f"folder={heads}", "study.new=0"])
    printed = capsys.readouterr().out
    assert "## The paper's cases (Han et al., 2021, Table 5)" in printed
    assert "| case A | 0.67 / **0.96** / 0.43 | +0.6663 | +0.6667 |" in printed
    assert {path.name for path in (heads / "explanation").iterdir()} == {
        *("segments.csv", "scores.csv", "examples.csv", "summary.md", "figure.pdf", "figure.png")
    }
    assert pd.read_csv(heads / "explanation" / "scores.csv").modality.tolist() == ["language", "audio", "video"]


def test_without_examples_there_are_none(heads, tmp_path):
    found = Explanation(examples=0, new=0).measure(StudyRun("synthetic", "none", "MMIM", 0, heads, first=True))
    assert found["examples"] == []
    assert len(found["segments"]) == 40


def test_a_ranking_is_said_with_its_interval_over_seeds():
    """AUCs .60, .62 and .64: mean .62 ± 4.303 · .02/√3; the baseline's are .02 lower in each pair."""
    one = {"data": "synthetic", "critic": "T", "on": "test", "segments": 12, "contradictory": 4}
    one |= {"auc_best": 0.8, "chance": 0.3, "rank_error": -0.1, "rank_agreement": 0.4, "auc_prediction": 0.5, "auc_error": 0.5}
    rows = [
        {**one, "row": row, "seed": s, "auc_T": 0.6 + 0.02 * s - less}
        for row, less in (("none", 0.02), ("kl", 0.0))
        for s in range(3)
    ]
    declared = {"none": Row("none", "plain", ()), "kl": Row("kl", "+ KL", (), baseline="none")}
    experiment = Experiment(OmegaConf.create(), Table("A title", 3, {}, {}, {}, declared), [], [])
    tables = {"rankings": pd.DataFrame(rows), "scores": pd.DataFrame(), "examples": pd.DataFrame()}
    said = Explanation().summary(Frames(tables, experiment, "A title"))
    half = 4.302652729911275 * 0.02 / np.sqrt(3)
    assert said.startswith("# A title\n\n## T on 12 segments of synthetic: the test fold\n")
    assert f"| + KL | 3 | 0.620 [{0.62 - half:.3f}, {0.62 + half:.3f}] |" in said
    assert "| 0.020 [0.020, 0.020] (plain) |" in said
    assert "95 % of the AUCs lie in 0.5 ± 0.300" in said


def test_what_cannot_be_explained(outputs):
    with pytest.raises(ValueError, match=r"A study needs finished runs, but mdm/table5 has none; run `mdm train -m experiment"):
        main(["experiment=mdm/table5", f"paths.outputs={outputs}"])
    with pytest.raises(ValueError, match=r"study\.new must be a whole number of at least 0, but is 'few'"):
        main(["experiment=mdm/table3_lmf", "study.new=few"])
