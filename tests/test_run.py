"""A run from config to record: what it leaves, what it refuses, and that its numbers are the same however it comes about."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from made_runs import comparable, folder_of, table

from mdm.data.writing import write_store
from mdm.formats.prepare import prepare
from mdm.runs import build, precision, protocol
from mdm.runs.build import build_splits
from mdm.runs.members import make
from mdm.runs.protocol import run

ROOT = Path(__file__).resolve().parents[1]


def test_a_run_leaves_a_whole_record(config):
    cfg = config("model=lmf", "penalty=kl")
    record = run(cfg)
    folder = folder_of(cfg)
    assert folder.parts[-5:] == ("single", "synthetic", "lmf", "kl", "seed=0")
    assert {p.name for p in folder.iterdir()} == {"config.yaml", "metrics.json", "predictions.csv", "curve.csv", "best.ckpt"}
    written = json.loads((folder / "metrics.json").read_text())
    assert set(written.pop("stored")["files"]) == {"config.yaml", "predictions.csv", "curve.csv", "best.ckpt"}
    assert record == written
    assert yaml.safe_load((folder / "config.yaml").read_text())["penalty"]["name"] == "kl"
    assert record["synthetic"]
    assert record["truth"]["total_correlation"] > 0
    assert record["folds"] == {"train": 96, "valid": 32, "test": 40}
    assert record["selected"]["by"] == "valid/mae"
    assert {"commit", "versions", "seconds", "parameters", "data_card", "seed", "valid", "test"} <= set(record)

    rows = table(folder / "predictions.csv")
    assert len(rows) == 40
    assert {"id", "group", "contradictory", "label", "prediction"} == set(rows[0])
    label = np.array([float(r["label"]) for r in rows], np.float32)
    prediction = np.array([float(r["prediction"]) for r in rows], np.float32)
    assert record["test"]["mae"] == pytest.approx(np.abs(prediction.astype(float) - label).mean(), abs=1e-6)
    curve = table(folder / "curve.csv")
    assert len(curve) == 2
    assert record["valid"]["mae"] == min(float(row["valid/mae"]) for row in curve)
    assert "valid/kl/estimate" in curve[0], "the held-out estimate stands beside the training one"
    assert "train/kl/term" in curve[0]


def test_a_folder_names_tuned_values(config):
    cfg = config("tuned=mmsa/mosi/mfn")
    assert folder_of(cfg, ("tuned=mmsa/mosi/mfn", "seed=0")).parts[-4:] == ("mfn", "none", "tuned=mmsa--mosi--mfn", "seed=0")


def test_the_train_mean_stands_beside_the_test_score(config):
    cfg = config()
    record = run(cfg)
    splits = build_splits(cfg)
    mean = splits.spec.label_mean[0]
    label = [float(r["label"]) for r in table(folder_of(cfg) / "predictions.csv")]
    assert record["test_of_train_mean"]["mae"] == pytest.approx(np.abs(np.array(label) - np.float32(mean)).mean(), abs=1e-6)
    assert record["test_of_train_mean"]["corr"] is None
    valid = np.concatenate([batch.label.numpy() for batch in splits.valid()])
    assert record["valid_of_train_mean"]["mae"] == pytest.approx(np.abs(valid - np.float32(mean)).mean(), abs=1e-6)
    assert record["valid_of_train_mean"].keys() == record["test_of_train_mean"].keys()


def test_a_run_alone_equals_the_same_run_second_in_a_process(config, tmp_path):
    alone = run(config("model=lmf", "penalty=f"))
    run(config("model=eflstm", "penalty=wasserstein", "seed=5"))
    torch.manual_seed(99)
    torch.rand(7)
    again = config("model=lmf", "penalty=f", f"paths.outputs={tmp_path}/again")
    assert comparable(run(again)) == comparable(alone)
    first = folder_of(config("model=lmf", "penalty=f"))
    assert (folder_of(again) / "predictions.csv").read_bytes() == (first / "predictions.csv").read_bytes()


def test_a_finished_run_is_not_run_again(config, monkeypatch):
    record = run(config())
    monkeypatch.setattr(protocol, "build_learner", lambda cfg, splits: pytest.fail("trained again"))
    assert run(config()) == record


def test_a_record_of_another_config_is_not_reused(config):
    run(config())
    with pytest.raises(ValueError, match=r"(?s)differs from this run in:.*model\.backbone\.hidden: 128 → 64"):
        run(config("model.backbone.hidden=64"))
    run(config("machine.threads=1", "machine.progress=false"))  # where it runs does not count


def test_other_overrides_have_a_folder_of_their_own(config):
    cfg = config("model=lmf")
    overrides = ["model=lmf", "penalty.weight=0", "seed=3", "paths.outputs=x", "machine=gpu", "+trainer.max_epochs=2"]
    assert folder_of(cfg, overrides).parts[-3:] == ("none", "penalty.weight=0,trainer.max_epochs=2", "seed=0")


def test_a_folder_is_named_by_values_not_by_their_spelling(config):
    """A grid writes True and 1.0 where a person writes true and 1: one run, one record."""
    cfg = config("penalty=kl", "penalty.measure_only=true", "penalty.weight=1")
    once = folder_of(cfg, ["penalty=kl", "penalty.measure_only=true", "penalty.weight=1"])
    grid = folder_of(cfg, ["penalty=kl", "penalty.weight=1.0", "penalty.measure_only=True"])
    assert once == grid
    many = [f"model.backbone.{key}=1" for key in cfg.model.backbone] * 3 + [f"data.segments.{key}=1" for key in cfg.data.segments]
    assert len(folder_of(cfg, many).parts[-2].encode()) < 255


def test_changed_data_are_noticed(config):
    """Also where the config says the same: here the test labels change behind its back."""
    run(config())
    original = build.make

    def shifted(node, **arguments):
        made = original(node, **arguments)
        if getattr(node, "rho", None) is not None:
            made.label[made.fold == "test"] *= 0.5
        return made

    build.make = shifted
    try:
        with pytest.raises(ValueError, match=r"(?s)differs from this run in:.*data_card"):
            run(config())
    finally:
        build.make = original


def test_a_store_may_move(config, tmp_path):
    """Where the data lie does not count, what they are does."""
    cfg = config()
    write_store(make(cfg.data.segments), tmp_path / "here" / "mosi")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    options = ("data=mosi", "data.batch_size=32", "trainer.max_epochs=1")
    record = run(config(*options, f"paths.data={tmp_path}/here", small=False))
    assert run(config(*options, f"paths.data={tmp_path}/there", small=False)) == record


@pytest.mark.real_data
@pytest.mark.parametrize("model", ["eflstm", "lmf"])
def test_real_three_modality_data_beat_the_train_mean(config, real_data, tmp_path, model):
    prepare("mfn_h5", real_data / "ict_mmmo", tmp_path / "stores" / "ict_mmmo", options={"label_range": [1, 5]})
    cfg = config("data=ict_mmmo", f"model={model}", f"paths.data={tmp_path}/stores", small=False)
    record = run(cfg)
    assert record["modalities"] == ["language", "audio", "video"]
    assert record["folds"] == {"train": 292, "valid": 24, "test": 24}
    assert not record["synthetic"]
    assert "acc5" in record["test"], "labels in [1, 5]"
    assert "acc7" not in record["test"]
    assert record["test"]["mae"] < record["test_of_train_mean"]["mae"]


@pytest.mark.real_data
def test_real_language_only_data_train_and_refuse_a_dependency(config, real_data, tmp_path):
    prepare("csd", real_data / "mosi", tmp_path / "stores" / "mosi", options={"words": {"row_offset": 1}})
    stores = f"paths.data={tmp_path}/stores"
    record = run(config("data=mosi", "model=lmf", "trainer.max_epochs=3", stores, small=False))
    assert record["modalities"] == ["language"]
    assert record["folds"]["test"] == 686
    assert record["test"]["mae"] < record["test_of_train_mean"]["mae"]
    with pytest.raises(ValueError, match="needs at least two of them"):
        run(config("data=mosi", "penalty=kl", stores, small=False))


def test_a_reserved_gpu_must_be_used(config, monkeypatch, tmp_path):
    monkeypatch.setenv("SLURM_JOB_GPUS", "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for accelerator in ("cpu", "auto"):
        with pytest.raises(ValueError, match=rf"reserved \(SLURM_JOB_GPUS=0\) must be used, but machine.accelerator={accelerator}"):
            run(config(f"machine.accelerator={accelerator}"))
    assert not (tmp_path / "outputs").exists()
    run(config("model=baseline"))  # has no use for one


def test_half_precision_needs_a_processor_that_has_it(config, monkeypatch, tmp_path):
    monkeypatch.setattr(precision, "has_bf16_on_cpu", lambda: False)
    with pytest.raises(ValueError, match="bf16-mixed needs a GPU or a processor with AVX-512"):
        run(config("trainer.precision=bf16-mixed", "machine=cpu"))
    assert not (tmp_path / "outputs").exists()


def test_help_is_quick_and_lists_the_choices():
    """No timing here (that is the benchmark's); that it does not import torch is in test_structure."""
    done = subprocess.run([sys.executable, str(ROOT / "train.py"), "--help"], check=True, capture_output=True, text=True)
    listed = next(line for line in done.stdout.splitlines() if "penalty: " in line)
    for penalty in (path.stem for path in (ROOT / "configs" / "penalty").glob("*.yaml")):
        assert penalty in listed, penalty
    assert "eflstm" in done.stdout
