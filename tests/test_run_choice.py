"""The epoch that a run chooses, on validation alone, and a run that is killed and goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from made_runs import comparable, folder_of, table

from mdm.data.seal import select
from mdm.data.splits import Splits
from mdm.runs import build, protocol, records
from mdm.runs.build import build_learner, build_splits
from mdm.runs.protocol import run
from mdm.training.learner import Learner
from mdm.training.predict import predict

ROOT = Path(__file__).resolve().parents[1]


def test_the_chosen_epoch_is_the_best_on_validation_and_its_weights_made_the_predictions(config):
    cfg = config("trainer.max_epochs=5", "model.optimizer.lr=0.02")
    record = run(cfg)
    folder = folder_of(cfg)
    curve = table(folder / "curve.csv")
    best = min(range(5), key=lambda i: float(curve[i]["valid/mae"]))
    assert record["selected"]["epoch"] == best
    splits = build_splits(cfg)
    learner = build_learner(cfg, splits)
    learner.load_state_dict(torch.load(folder / "best.ckpt", weights_only=True)["state_dict"])
    selection = select(folder / "best.ckpt", folder / "curve.csv", best, "valid/mae", record["valid"]["mae"])
    prediction, _ = predict(learner.backbone, splits.open_test(selection))
    stored = [float(row["prediction"]) for row in table(folder / "predictions.csv")]
    assert prediction[:, 0].tolist() == stored


def test_the_record_has_the_metrics_of_the_chosen_epoch(config, monkeypatch):
    """Errors on validation that are made to rise: the first epoch is chosen, and no number of a later one stands beside it."""
    measure = Learner.on_validation_epoch_end

    def worsen(learner):
        measure(learner)
        learner.curve[-1] |= {name: 1.0 + learner.current_epoch for name in learner.curve[-1] if name.startswith("valid/")}

    monkeypatch.setattr(Learner, "on_validation_epoch_end", worsen)
    record = run(config("penalty=kl", "trainer.max_epochs=3"))
    assert record["selected"] == {"by": "valid/mae", "epoch": 0, "epochs": 3}
    assert {"mae", "kl/estimate"} <= set(record["valid"])
    assert set(record["valid"].values()) == {1.0}


def test_early_stopping_waits_for_patience(config):
    record = run(config("trainer.max_epochs=30", "trainer.patience=2", "model.optimizer.lr=0.1"))
    assert record["selected"]["epochs"] == min(30, record["selected"]["epoch"] + 3)


def test_a_run_goes_on_from_its_last_epoch_though_none_was_better(config, monkeypatch):
    """With a learning rate of 1e-30 nothing changes after the first epoch, so no later one is a new best."""
    options = ("model.optimizer.lr=1e-30", "model.optimizer.weight_decay=0", "trainer.max_epochs=6", "trainer.patience=null")
    cfg, begun = config(*options), []
    start = Learner.on_train_epoch_start

    def interrupted(learner):
        begun.append(learner.current_epoch)
        if begun == [0, 1, 2, 3, 4]:
            raise RuntimeError("killed")
        start(learner)

    monkeypatch.setattr(Learner, "on_train_epoch_start", interrupted)
    with pytest.raises(RuntimeError, match="killed"):
        run(cfg)
    last = torch.load(folder_of(cfg) / "last.ckpt", weights_only=True)
    assert (last["epoch"], len(last["curve"])) == (3, 4)
    assert run(cfg)["selected"]["epoch"] == 0
    assert begun == [0, 1, 2, 3, 4, 4, 5]


def test_a_checkpoint_of_another_training_opens_no_test_fold(config, monkeypatch):
    """The curve says which epoch is the best; what lies there as the best checkpoint must be of that epoch, of this training."""
    cfg, opened = config("model.optimizer.lr=0.02"), []
    monkeypatch.setattr(Splits, "open_test", lambda self, selection: opened.append(selection))
    choose = protocol.choose_checkpoint

    def exchanged(learner, options, folder):
        checkpoint = torch.load(folder / "best.ckpt", weights_only=True)
        checkpoint["curve"][-1]["valid/mae"] += 1e-9
        torch.save(checkpoint, folder / "best.ckpt")
        return choose(learner, options, folder)

    monkeypatch.setattr(protocol, "choose_checkpoint", exchanged)
    with pytest.raises(
        RuntimeError, match=r"opens with the checkpoint of the best epoch, .* but .*best\.ckpt is of another epoch or"
    ):
        run(cfg)
    assert opened == []


def test_changing_test_labels_changes_no_choice(config):
    """The test fold is out of reach while anything is chosen: with other test labels, weights and choice are the same bits."""
    cfg = config("model=lmf", "penalty=kl")
    record = run(cfg)
    weights = torch.load(folder_of(cfg) / "best.ckpt", weights_only=True)["state_dict"]

    other = config("model=lmf", "penalty=kl", "name=other")
    original = build.make

    def flipped(node, **arguments):
        made = original(node, **arguments)
        if node is other.data.segments:
            made.label[made.fold == "test"] *= -1
        return made

    build.make = flipped
    try:
        changed = run(other)
    finally:
        build.make = original
    again = torch.load(folder_of(other) / "best.ckpt", weights_only=True)["state_dict"]
    assert changed["valid"] == record["valid"]
    assert changed["selected"] == record["selected"]
    assert all(torch.equal(weights[key], again[key]) for key in weights)
    assert changed["test"]["mae"] != record["test"]["mae"]


WARM = "model.schedule={_target_: mdm.training.schedules.Linear, warmup: 0.5}"
ALL = (WARM, "data.unlabeled=1", "data.segments.unlabeled=50", "model.by_length=true")


@pytest.mark.parametrize(
    ("model", "batches", "more", "kills"),
    [
        ("lmf", "replay", ALL, 1),
        pytest.param("lmf", "replay", ALL, 3, marks=pytest.mark.slow),
        pytest.param("eflstm", "fresh", (), 3, marks=pytest.mark.slow),
    ],
)
def test_killed_at_any_moment_and_resumed_equals_uninterrupted(config, tmp_path, model, batches, more, kills):
    """kill -9 in the middle of training; then the same run to its end, here, for only what is killed needs a process of its own."""
    arguments = [
        *(f"data.segments.{fold}={n}" for fold, n in (("train", 192), ("valid", 32), ("test", 24))),
        f"model={model}",
        "penalty=kl",
        f"penalty.critic.batches={batches}",
        "penalty.critic.steps=3",
        "trainer.max_epochs=8",
        "trainer.patience=4",
        "machine.threads=1",
        *more,
    ]

    def finish(outputs):
        overrides = [*arguments, f"paths.outputs={outputs}"]
        run(config(*overrides, small=False), overrides)

    finish(tmp_path / "whole")
    (whole,) = (path.parent for path in (tmp_path / "whole").rglob("metrics.json"))

    interrupted = tmp_path / "interrupted"
    broken = interrupted / whole.relative_to(tmp_path / "whole")
    rng = np.random.default_rng(0)
    for _ in range(kills):
        epochs = len(table(broken / "curve.csv")) if (broken / "curve.csv").exists() else 0
        command = [sys.executable, str(ROOT / "train.py"), *arguments, f"paths.outputs={interrupted}"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            curve = broken / "curve.csv"
            if curve.exists() and len(table(curve)) > epochs:  # at least one epoch further, then at a random moment
                time.sleep(rng.uniform(0, 0.4))
                break
            time.sleep(0.02)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
        if not (broken / "metrics.json").exists():
            with pytest.raises(ValueError, match=r"has none; run its command again"):
                records.read_record(broken)
    finish(interrupted)
    assert comparable(records.read_record(broken)) == comparable(records.read_record(whole))
    assert (broken / "predictions.csv").read_bytes() == (whole / "predictions.csv").read_bytes()
    drop = [{k: v for k, v in row.items() if k != "seconds"} for row in table(whole / "curve.csv")]
    assert [{k: v for k, v in row.items() if k != "seconds"} for row in table(broken / "curve.csv")] == drop
