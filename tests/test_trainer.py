"""What a run passes on to Lightning, what it does not, and what must not be taken for a result."""

import csv
import inspect
import math
import re
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hydra.errors import HydraException

import mdm
from mdm import boundary, owned
from mdm.ownership import own
from mdm.runs import precision, records
from mdm.runs.build import build_splits
from mdm.runs.config import check
from mdm.runs.naming import record_folder
from mdm.runs.options import TrainerOptions, list_debug_reasons, read_options
from mdm.runs.protocol import run
from mdm.runs.trainer import build_trainer
from mdm.tables.gather import read_run

# ---- refused, and how

OWNED = [name for names in owned.OWNED for name in names.split()]


@pytest.mark.parametrize("option", OWNED)
def test_what_the_protocol_owns_is_refused_with_a_reason(config, option):
    """In the same words with a plus and without, where Hydra refuses it before any of our code runs."""
    with pytest.raises(ValueError, match=rf"trainer\.{option} is not passed on to Lightning, because .*; use .*\.") as said:
        check(config(f"+trainer.{option}=1"))
    with pytest.raises(HydraException) as hydras:
        config(f"trainer.{option}=1")
    assert boundary.explain_error(hydras.value) == str(said.value)


def test_owned_options_are_lightnings_own():
    known = set(inspect.signature(pl.Trainer.__init__).parameters)
    assert set(OWNED) <= known
    left = known - set(OWNED) - {field.name for field in fields(TrainerOptions)} - {"self", "enable_autolog_hparams"}
    assert not left, "every option of Lightning's Trainer is passed on or refused"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("trainer.fast_dev_run=0.5", "trainer.fast_dev_run must be true or false or a whole number of at least 1, but is 0.5"),
        (
            "trainer.limit_train_batches=0",
            "trainer.limit_train_batches is a number of batches (1, 2, …) or a share",
        ),
        (
            "trainer.overfit_batches=0.0",
            "trainer.overfit_batches is a number of batches (1, 2, …) or a share",
        ),
        (
            "trainer.limit_val_batches=1.5",
            "trainer.limit_val_batches must be a whole number of at least 1 or a finite",
        ),
        ("trainer.max_time=12", "trainer.max_time is days:hours:minutes:seconds, as '00:12:00:00', got 12"),
        ("trainer.max_time=1h", "trainer.max_time is days:hours:minutes:seconds, as '00:12:00:00', got '1h'"),
        ("trainer.profiler=fast", "trainer.profiler: expected one of simple, advanced, pytorch, got 'fast'"),
        ("trainer.detect_anomaly=1", "trainer.detect_anomaly must be true or false, but is 1"),
        ("trainer.deterministic=2", "trainer.deterministic must be true or false or warn, but is 2"),
        ("trainer.benchmark=x", "trainer.benchmark must be true or false, but is 'x'"),
        ("trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches must be a whole number of at least 1, but is 0"),
        ("trainer.precision=16-true", "trainer.precision: expected one of 32-true, 64-true, bf16-true, 16-mixed, bf16-mixed, got"),
        ("+trainer.fast_dev_runs=true", "trainer has no key fast_dev_runs, got trainer.fast_dev_runs"),
        ("name=debug/x", "name=debug/x would be filed among debug runs, which are no results; choose another name."),
        (
            "+callbacks.callbacks.x={_target_: pytorch_lightning.callbacks.EarlyStopping, monitor: valid/mae}",
            "callbacks.callbacks.x must be a callback of pytorch_lightning.callbacks that watches training and does not change it",
        ),
        ("+callbacks.callbacks.x={_target_: os.system}", "callbacks.callbacks.x must be a callback of pytorch_lightning.callbacks"),
        (
            "+callbacks.callbacks._target_=os.system",
            "callbacks.callbacks._target_ must be a callback of",
        ),
        (
            "+callbacks.callbacks.x={_target_: pytorch_lightning.callbacks.DeviceStatsMonitor, cpu: true}",
            "has no key cpu, got callbacks.callbacks.x.cpu",
        ),
    ],
)
def test_a_wrong_value_is_refused_by_name(config, words, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        check(config(words))


def test_a_share_of_less_than_one_batch_is_refused_before_anything_is_written(config, tmp_path):
    with pytest.raises(ValueError, match=r"trainer\.limit_val_batches=0\.1 of 1 batches is less than one; use a whole number"):
        run(config("trainer.limit_val_batches=0.1"))
    assert not (tmp_path / "outputs").exists()


def test_precisions_that_a_device_lacks_are_refused(monkeypatch):
    monkeypatch.setattr(precision, "has_bf16_on_cpu", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("bf16-mixed", "bf16-true"):
        with pytest.raises(ValueError, match=f"trainer.precision={name} needs a GPU or a processor with AVX-512"):
            precision.check_device("cpu", name)
    with pytest.raises(ValueError, match=r"trainer\.precision=64-true needs a processor or a CUDA GPU, but MPS has no doubles"):
        precision.check_device("mps", "64-true")
    precision.check_device("cpu", "64-true")
    for accelerator in ("cpu", "auto"):
        with pytest.raises(ValueError, match=r"trainer\.precision=16-mixed needs a GPU, but here is none"):
            precision.check_device(accelerator, "16-mixed")
    precision.check_device("mps", "16-mixed")


def test_a_precision_that_would_become_another_leaves_nothing(config):
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("this machine has it")
    cfg = config("trainer.precision=16-mixed")
    with pytest.raises(ValueError, match="use bf16-mixed or 32-true"):
        run(cfg)
    assert not Path(cfg.paths.outputs).exists()


# ---- debug runs


@pytest.mark.parametrize("words", ["trainer.fast_dev_run=true", "debug=limit", "debug=overfit", "debug=default"])
def test_a_debug_run_is_no_result(config, words, tmp_path):
    """The whole protocol, in a folder apart; what reads results refuses it or leaves it out."""
    cfg = config(words, "trainer.max_epochs=2", "penalty=kl", "data.batch_size=16")
    check(cfg)
    record = run(cfg, [words])
    folder = record_folder(cfg, [words])
    assert folder.is_relative_to(tmp_path / "outputs" / "debug" / "single")
    assert record["debug"] == list_debug_reasons(cfg.trainer)
    assert record["selected"]["epochs"] == (1 if "fast_dev_run" in words else 2)
    with pytest.raises(ValueError, match=r"Results are counted, but .* is of a debug run \(trainer\..*\); train it without\."):
        read_run(folder, 0, {}, {})
    with pytest.raises(ValueError, match="holds no result but 1 debug runs; train without"):
        records.read_records(tmp_path)
    result = run(config())
    assert "debug" not in result
    assert list(records.read_records(tmp_path)["seed"]) == [0]


def test_fast_dev_run_is_one_epoch_of_so_many_batches(config, tmp_path, fit):
    seen = {"train": 0, "valid": 0}

    def counting(learner):
        train, valid = learner.training_step, learner.validation_step
        learner.training_step = lambda *a: seen.update(train=seen["train"] + 1) or train(*a)
        learner.validation_step = lambda *a: seen.update(valid=seen["valid"] + 1) or valid(*a)

    learner, _ = fit(config("trainer.fast_dev_run=2", "data.batch_size=16"), tmp_path, counting)
    assert (seen["train"], seen["valid"], len(learner.curve)) == (2, 1, 1)


def test_overfitting_sees_the_same_batches_in_every_epoch(config):
    """The first three of the first epoch, for the backbone and for critics, whatever epoch a run resumes at."""
    usual, fixed = (build_splits(config("data.batch_size=16", f"trainer.overfit_batches={n}")) for n in ("null", 3))
    first = [batch.ids for batch in usual.train()][:3]
    loader = fixed.train(epoch=1)
    for epoch in (1, 2):
        loader.batch_sampler.set_epoch(epoch)
        assert [batch.ids for batch in loader] == first
    assert [batch.ids for batch in fixed.train("critic batches")] == first
    assert len(build_splits(config("data.batch_size=16", "trainer.overfit_batches=0.5")).train()) == 3


def test_training_ends_with_the_epoch_in_which_the_time_is_used_up(config):
    record = run(config("trainer.max_time=00:00:00:00", "trainer.max_epochs=5"))
    assert record["selected"]["epochs"] == 1
    assert read_options(config("trainer.max_time=01:02:03:04").trainer).seconds == ((24 + 2) * 60 + 3) * 60 + 4
    assert math.isinf(read_options(config().trainer).seconds)


# ---- passed on


def test_options_reach_lightning(config, tmp_path):
    """The next run of a process gets what it asks for, too."""
    spec = build_splits(config()).spec

    def build(*words):
        with own(tmp_path) as owner:
            return build_trainer(config(*words), owner, spec)

    try:
        trainer = build("trainer.deterministic=warn", "trainer.detect_anomaly=true", "trainer.limit_train_batches=0.5")
        assert (trainer._detect_anomaly, trainer.limit_train_batches, trainer.limit_val_batches) == (True, 0.5, 1.0)
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        build("trainer.benchmark=true")
        assert torch.backends.cudnn.benchmark
        with pytest.raises(ValueError, match=r"trainer\.\* and callbacks must suit this machine, .* says .*progress bar"):
            build(*(f"+callbacks.callbacks.{x}={{_target_: pytorch_lightning.callbacks.TQDMProgressBar}}" for x in "ab"))
    finally:
        build()
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark


@pytest.mark.parametrize("name", ["simple", "advanced", "pytorch"])
def test_a_profile_lies_in_the_folder_of_the_run(config, name):
    cfg = config(f"trainer.profiler={name}", "trainer.max_epochs=1")
    run(cfg)
    report = record_folder(cfg, ()) / "profile" / f"fit-{name}.txt"
    assert "training_step" in report.read_text() or "run_training" in report.read_text()


@pytest.mark.parametrize("weights_of", ["64-true", "bf16-true"])
@pytest.mark.parametrize("model", ["lmf", "selfmm", "magbert"])
def test_a_run_of_another_precision_is_read_back_as_it_was_tested(config, weights_of, model):
    """Its weights are saved as they were trained, and read in single precision: by the test, and by whoever loads the record."""
    if weights_of == "bf16-true" and not precision.has_bf16_on_cpu():
        pytest.skip("this processor lacks bfloat16")
    cfg = config(f"model={model}", "penalty=kl", f"trainer.precision={weights_of}", "trainer.max_epochs=1")
    run(cfg)
    folder = record_folder(cfg, ())
    saved = torch.load(folder / "best.ckpt", weights_only=True)["state_dict"]
    of = {name.split(".")[0]: value.dtype for name, value in saved.items() if value.is_floating_point()}
    assert of == {"backbone": precision.DTYPES[weights_of], "penalties": torch.float32}
    trained = mdm.load(folder)
    from mdm.training.predict import predict

    prediction, _ = predict(trained.backbone, trained.batches("test"))
    recorded = records.read_table(folder, records.PREDICTIONS)["prediction"].to_numpy()
    np.testing.assert_array_equal(prediction[:, 0], recorded.astype(np.float32))


# ---- callbacks and loggers of Lightning's


def test_a_callback_watches_and_changes_nothing(config, monkeypatch):
    plain = run(config())
    cfg = config("callbacks=lr_monitor", "name=watched")
    watched = run(cfg, ["callbacks=lr_monitor"])
    folder = record_folder(cfg, ["callbacks=lr_monitor"])
    assert folder == record_folder(config("name=watched"), ()), "no part of what a run is"
    assert {k: watched[k] for k in ("valid", "test")} == {k: plain[k] for k in ("valid", "test")}
    rows = list(csv.DictReader((folder / "callbacks" / "version_0" / "metrics.csv").read_text().splitlines()))
    assert {float(row["lr-AdamW"]) for row in rows} == {cfg.model.optimizer.lr}

    def built(*_, **__):
        pytest.fail("a callback was built by reading a record")

    monkeypatch.setattr(pl.callbacks.LearningRateMonitor, "__init__", built)
    assert mdm.load(folder).record == watched


def test_a_logger_of_lightnings_gets_whole_rows_and_the_record(config):
    cfg = config("+logger.loggers.csv={_target_: pytorch_lightning.loggers.CSVLogger, name: rows}")
    record = run(cfg)
    folder = record_folder(cfg, ())
    rows = list(csv.DictReader((folder / "rows" / "version_0" / "metrics.csv").read_text().splitlines()))
    curve = records.read_table(
        folder,
        records.CURVE,
    )
    assert [float(row["valid/mae"]) for row in rows if row["valid/mae"]] == pytest.approx(curve["valid/mae"].tolist(), rel=1e-15)
    (last,) = (row for row in rows if row["record/test/mae"])
    assert int(last["step"]) == record["selected"]["epoch"]
    assert (float(last["record/test/mae"]), float(last["record/selected/epochs"])) == (record["test"]["mae"], 2)


def test_a_logger_whose_package_is_missing_says_so(config, tmp_path):
    if find_spec("mlflow"):
        pytest.skip("mlflow is installed")
    with pytest.raises(ValueError, match=r"logger\.loggers\.mlflow must have values of which .*MLFlowLogger can be built.*mlflow"):
        run(config("logger=mlflow"))
    assert not (tmp_path / "outputs").exists()
