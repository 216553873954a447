"""A finished run, back in one line: the same predictions, new segments, and refusals."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

import mdm
from mdm.data.base import UNKNOWN
from mdm.data.synthetic import synthetic
from mdm.runs import records
from mdm.runs.naming import record_folder
from mdm.runs.protocol import run
from mdm.runs.trained import look_up_ids

ROOT = Path(__file__).resolve().parents[1]
SIZES = {"train": 96, "valid": 32, "test": 40}


@pytest.fixture(scope="module")
def trained_folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("trained")
    overrides = [f"data.segments.{fold}={n}" for fold, n in SIZES.items()]
    overrides += [f"paths.outputs={root}", "trainer.max_epochs=2", "model=lmf", "penalty=kl"]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("train", overrides)
    run(cfg)
    return record_folder(cfg, ())


def predictions(folder):
    with open(folder / records.PREDICTIONS, encoding="utf-8") as file:
        return np.array([[float(row["prediction"])] for row in csv.DictReader(file)], dtype=np.float32)


def test_it_predicts_what_the_run_predicted(trained_folder):
    trained = mdm.load(trained_folder)
    with torch.no_grad():
        found = torch.cat([trained.backbone(batch).prediction for batch in trained.batches("test")]).numpy()
    assert np.array_equal(found, predictions(trained_folder))
    assert (trained.record["seed"], trained.cfg.model.name) == (0, "lmf")
    assert not trained.learner.training
    assert set(trained.learner.penalties) == {"kl"}


def test_the_critic_comes_back_too(trained_folder):
    state = torch.load(trained_folder / "best.ckpt", weights_only=True)["state_dict"]
    assert any(key.startswith("penalties.kl.") for key in state)
    for key, value in mdm.load(trained_folder).learner.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_new_segments_of_the_same_population(trained_folder):
    """Drawn from another seed, they are read as the run reads: scaled by its training fold, its words known."""
    trained, new = mdm.load(trained_folder), synthetic(**{**SIZES, "seed": 5})
    found = trained.predict(new)
    assert found.shape == (sum(SIZES.values()), 1)
    with torch.no_grad():
        test = torch.cat([trained.backbone(b).prediction for b in trained.splits.like(new).in_order("test")]).numpy()
    assert found[-SIZES["test"] :] == pytest.approx(test, abs=1e-5)


def test_new_segments_from_words_and_frames(trained_folder):
    """The same segment, given by hand, is predicted the same, and otherwise where it lacks a modality."""
    trained, new = mdm.load(trained_folder), synthetic(**{**SIZES, "seed": 5})
    words = new.words(3).split()
    audio, video = (np.asarray(new.modalities[m][3]) for m in ("audio", "video"))
    given = trained.segments(language=[words, words], audio=[audio, []], video=[video, video])
    found = trained.predict(given)
    assert found[0] == pytest.approx(trained.predict(new)[3], abs=1e-5)
    assert found[1] != found[0]
    assert given.words(0).split() == words


def test_words_that_the_run_does_not_know():
    assert look_up_ids(["a", "zebra"], ["<pad>", "<unk>", "a"]) == [2, UNKNOWN]


def test_the_runs_own_data_are_read_by_folds(trained_folder):
    trained = mdm.load(trained_folder)
    with pytest.raises(ValueError, match=r"a run's own data are read fold by fold; use batches\(fold\)"):
        trained.predict(trained.data)


def test_every_modality_of_every_segment_is_given(trained_folder):
    trained = mdm.load(trained_folder)
    for given in ({"audio": [[]]}, {"language": [["a"]], "audio": [[]], "video": []}, {"language": [], "audio": [], "video": []}):
        with pytest.raises(ValueError, match=r"needs a sequence of language, audio, video, got .* an empty sequence where"):
            trained.segments(**given)


def test_what_cannot_be_loaded(trained_folder, tmp_path, config):
    with pytest.raises(ValueError, match=r"A finished run has a metrics\.json, but .* has none"):
        mdm.load(tmp_path)
    cfg = config("model=baseline")
    run(cfg)
    with pytest.raises(ValueError, match="is a baseline, which has no weights; load a run of another model"):
        mdm.load(record_folder(cfg, ()))


def test_changed_data_are_refused(config):
    cfg = config("model=lmf")
    run(cfg)
    path = record_folder(cfg, ()) / records.CONFIG
    path.write_text(path.read_text().replace("rho: 0.8", "rho: 0.7"))
    with pytest.raises(ValueError, match=r"is read with the data that it was trained on, whose card is .*; restore that store"):
        mdm.load(path.parent)
