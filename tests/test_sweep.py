"""Many runs: what is missing is run, what fails stops nothing else, and nothing is done twice."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.plugins import Plugins
from made_sweeps import compose_below, sweep_in_turn
from omegaconf import OmegaConf

from mdm.runs import records
from mdm.sweeps import attempt, progress, sweep
from mdm.sweeps import plan as plans

ROOT = Path(__file__).resolve().parents[1]
SMALL = ("data.segments.train=96", "data.segments.valid=32", "data.segments.test=40", "trainer.max_epochs=2")


@pytest.fixture
def composer(tmp_path):
    return compose_below(tmp_path)


@pytest.fixture
def swept(composer):
    return sweep_in_turn(composer)


# ---- plan


def test_a_grid_is_the_product_of_what_is_swept():
    found = plans.list_wanted(OmegaConf.create({}), ["penalty=none,kl", "seed=range(2)", "model=lmf", "+a.b='x,y'"])
    shared = ["model=lmf", "+a.b='x,y'"]
    assert found == [[f"penalty={p}", f"seed={s}", *shared] for p in ("none", "kl") for s in (0, 1)]


def test_an_experiment_is_its_cells():
    table = {
        "title": "",
        "seeds": 2,
        "data": {"synthetic": "mosi"},
        "metrics": {"mae": "mae"},
        "primary": "mae",
        "rows": {"a": {"label": "A", "run": ["model=lmf"]}},
    }
    found = plans.list_wanted(OmegaConf.create({"name": "x", "table": table}), ["experiment=x"])
    assert found == [["experiment=x", "data=synthetic", "model=lmf", f"seed={s}"] for s in (0, 1)]


def test_a_grid_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"at least one value of each key, but seed has none; use seed='range\(10\)'"):
        plans.list_wanted(OmegaConf.create({}), ["seed=range(0)"])


def test_a_config_that_cannot_run_stops_a_sweep_before_anything_starts(swept, tmp_path):
    with pytest.raises(ValueError, match=r"penalty\.weight"):
        swept("penalty=kl,f", "penalty.weight=nan")
    assert (swept.launched, (tmp_path / "outputs").exists()) == ([], False)


def test_an_interval_is_no_grid():
    with pytest.raises(ValueError, match=r"lists of values, got seed=interval\(0,1\); use choice\(…\) or range\(…\)"):
        plans.list_wanted(OmegaConf.create({}), ["seed=interval(0,1)"])


def test_runs_that_share_a_folder_are_refused(composer):
    with pytest.raises(ValueError, match=r"but two have .*seed=1: model=lmf seed=1 and seed=1 model=lmf; remove one"):
        plans.plan([["model=lmf", "seed=1"], ["seed=1", "model=lmf"]], composer)


def test_a_task_does_at_least_one_run(composer):
    for numbers in ((0, 1), (1, 2), (2, 0)):
        with pytest.raises(ValueError, match=f"runs_per_task={numbers[0]} and at_once={numbers[1]}; set hydra.sweeper"):
            sweep.sweep(composer([]), [], composer, print, *numbers)


# ---- run what is missing


def test_finished_runs_are_left_out_and_changed_ones_refused(swept, composer, tmp_path):
    assert [run.found for run in swept("penalty=none,kl")] == ["new", "new"]
    assert [run.found for run in swept("penalty=none,kl", "seed=0,1")] == ["finished", "new", "finished", "new"]
    assert swept.launched == [["penalty=none", "seed=1"], ["penalty=kl", "seed=1"]]
    (changed,) = (run.folder / records.CONFIG for run in plans.plan([["penalty=kl", "seed=1"]], composer))
    record = records.read_record(changed.parent)
    changed.write_text(changed.read_text().replace("batch_size: 32", "batch_size: 33"))
    records.seal(changed.parent, record)
    with pytest.raises(ValueError, match=r"differs from this run in:\n  data.batch_size: 33 → 32"):
        swept("penalty=none,kl", "seed=1,2")
    assert swept.launched == []  # nothing of the sweep, not even seed 2


def test_a_failure_is_recorded_and_stops_nothing(swept, composer, caplog):
    """EF-LSTM needs aligned data, LMF does not."""
    caplog.set_level(logging.INFO, logger="sweep")
    with pytest.raises(SystemExit) as stopped:
        swept("model=eflstm,lmf", "data.segments.aligned=false")
    assert stopped.value.code == 1
    failed, done = plans.plan([[f"model={m}", "data.segments.aligned=false"] for m in ("eflstm", "lmf")], composer)
    assert (progress.read_state(failed.folder), done.found) == ("failed", "finished")
    error = (failed.folder / records.ERROR).read_text()
    assert "Traceback" in error
    assert "needs word-aligned data, but these are unaligned" in error.strip().splitlines()[-1]
    assert "1 of 2 runs are finished" in caplog.text
    assert f"{failed.folder / records.ERROR}\n    ValueError: " in caplog.text
    assert not (failed.folder / records.CONFIG).exists()
    assert "epoch   1" in (done.folder / attempt.LOG).read_text()
    assert "epoch   1" not in caplog.text


def test_an_error_does_not_outlive_its_cure(swept, composer, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("mdm.runs.protocol.build_trainer", lambda *_: 1 / 0)
        with pytest.raises(SystemExit):
            swept("model=lmf")
    (run,) = plans.plan([["model=lmf"]], composer)
    assert "ZeroDivisionError" in (run.folder / records.ERROR).read_text()
    swept("model=lmf")
    assert progress.read_state(run.folder) == "finished"
    assert not (run.folder / records.ERROR).exists()


def test_a_launcher_that_dies_leaves_a_list(composer, caplog):
    def dies(jobs):
        attempt.attempt(composer(jobs[0]), jobs[0])
        raise RuntimeError("a worker was killed")

    caplog.set_level(logging.INFO, logger="sweep")
    with pytest.raises(SystemExit):
        sweep.sweep(composer([]), ["model=lmf", "seed=0,1"], composer, dies)
    assert "a worker was killed" in caplog.text
    assert "1 of 2 runs are finished" in caplog.text
    assert "seed=1\n    did not begin" in caplog.text


def test_a_run_of_a_sweep_is_the_run_alone(swept, composer, tmp_path):
    from mdm.runs.naming import record_folder
    from mdm.runs.protocol import run

    swept("model=lmf", "seed=0,1")
    second = record_folder(composer(["model=lmf", "seed=1"]), ["model=lmf", "seed=1"]) / records.PREDICTIONS
    cfg = composer(["model=lmf", "seed=1", f"paths.outputs={tmp_path}/alone"])
    run(cfg)
    assert (record_folder(cfg, ()) / records.PREDICTIONS).read_bytes() == second.read_bytes()


# ---- the command


def test_hydra_finds_the_sweeper():
    assert "Missing" in {plugin.__name__ for plugin in Plugins.instance().discover()}


@pytest.mark.parametrize(
    ("launcher", "name"), [("local", "BasicLauncher"), ("joblib", "JoblibLauncher"), ("slurm", "SlurmLauncher")]
)
def test_every_launcher_composes(launcher, name):
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("train", [f"hydra/launcher={launcher}"], return_hydra_config=True).hydra
    assert cfg.launcher._target_.endswith(f".{name}")
    assert cfg.sweeper._target_ == "hydra_plugins.mdm_sweeper.Missing"


def train(tmp_path, *arguments):
    command = [sys.executable, str(ROOT / "train.py"), *arguments, f"paths.outputs={tmp_path}", *SMALL]
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)


def test_the_command_runs_what_is_missing_in_a_pool(tmp_path):
    """Two warm workers; the failure of one run is the exit status of the command, and told once."""
    result = train(
        tmp_path, "-m", "model=lmf,eflstm", "data.segments.aligned=false", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"
    )
    assert result.returncode == 1
    assert "2 runs: 0 finished already, 2 to do" in result.stderr
    assert "1 of 2 runs are finished" in result.stderr
    assert result.stderr.count("needs word-aligned data") == 1
    assert "Traceback" not in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"single"}
