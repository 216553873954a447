"""Many runs: what is missing is run, what fails stops nothing else, and nothing is done twice."""

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from mdm import workers
from mdm.commands import train as train_command
from mdm.runs import records
from mdm.sweeps import attempt, forecast, progress, sweep
from mdm.sweeps import plan as plans

ROOT = Path(__file__).resolve().parents[1]
POOL_OF_TWO = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
SMALL = ("data.segments.train=96", "data.segments.valid=32", "data.segments.test=40", "trainer.max_epochs=2")


@pytest.fixture
def composer(tmp_path):
    def composed(overrides):
        with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            return compose("train", [f"paths.outputs={tmp_path}/outputs", *SMALL, *overrides])

    return composed


@pytest.fixture
def swept(composer):
    """arguments → what `sweep` returns, with a launcher that does the runs in turn; ``launched`` is what it was given."""

    def do(*arguments, **options):
        def launch(jobs):
            do.launched += jobs
            for overrides in jobs:
                attempt.attempt(composer(overrides), overrides)

        do.launched = []
        return sweep.sweep(composer([]), arguments, composer, launch, **options)

    return do


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


# ---- several runs a task


def test_a_pool_broken_by_a_killed_worker_is_opened_again(composer, tmp_path, caplog):
    """Runs that never began lose no try; one that takes every pool with it is given up after three, and told apart."""
    caplog.set_level(logging.INFO, logger="sweep")
    calls = []

    def launch(jobs):
        calls.append([job[-1] for job in jobs])
        for overrides in jobs:
            if overrides[-1] == "seed=1":
                folder = attempt.record_folder(composer(overrides), overrides)
                folder.mkdir(parents=True, exist_ok=True)
                (folder / attempt.LOG).write_text("killed here")
                raise BrokenProcessPool("A worker was terminated")
            attempt.attempt(composer(overrides), overrides)

    with pytest.raises(SystemExit):
        sweep.sweep(composer([]), ["model=lmf", "seed=range(3)"], composer, launch)
    assert calls == [["seed=0", "seed=1", "seed=2"], ["seed=1", "seed=2"], ["seed=1", "seed=2"], ["seed=2"]]
    assert "2 of 3 runs are finished" in caplog.text
    assert "seed=1\n    began and ended without a word, as a killed process does" in caplog.text


def test_what_another_process_is_at_is_waited_for(composer, tmp_path, monkeypatch):
    """A run that another owns is left to it, and finished here when that one dies without having done so."""
    (run,) = plans.plan([["model=lmf", "seed=0"]], composer)
    launched, owned = [], iter(["process 1 on other", "process 1 on other", "process 1 on other", None, None, None, None])
    monkeypatch.setattr(sweep, "find_owner", lambda folder: next(owned))
    monkeypatch.setattr(sweep.time, "sleep", lambda seconds: None)

    def launch(jobs):
        launched.extend(jobs)
        attempt.attempt(composer(jobs[0]), jobs[0])

    sweep.run_all([run], launch, lambda jobs: jobs)
    assert launched == [["model=lmf", "seed=0"]]
    assert progress.read_state(run.folder) == "finished"


def test_a_finished_run_is_tidied(swept, composer):
    (run,) = swept("model=lmf")
    (run.folder / "last.ckpt").touch()
    (run.folder / ".best.ckpt.12").touch()
    swept("model=lmf")
    assert {path.name for path in run.folder.iterdir()} == {*records.HASHED, records.METRICS, attempt.LOG}


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_task_does_all_its_runs(tmp_path, composer, at_once):
    runs = [[f"paths.outputs={tmp_path}/outputs", *SMALL, "model=lmf", f"seed={s}"] for s in range(3)]
    first, last = sweep.pack_tasks(runs, 2, at_once)
    assert first[:-1] == runs[0]
    assert last[:-1] == runs[2]
    packed = composer(first).task
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):  # as Hydra is at work where a launcher's jobs are done
        attempt.run_task(packed)
        assert compose("train").name == "single", "and goes on"
    planned = plans.plan([["model=lmf", f"seed={s}"] for s in range(3)], composer)
    assert [run.found for run in planned] == ["new"] * 3  # other folders: SMALL is among their overrides
    assert len(list((tmp_path / "outputs").rglob(records.METRICS))) == 2


def test_a_pool_shares_out_the_gpus_to_living_workers(monkeypatch, tmp_path):
    """Three workers on two GPUs share one; when the one alone on its GPU has ended, the next gets that GPU."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(attempt, "RESERVED", [])
    reserve = attempt.reserve_gpu.__wrapped__
    assert [reserve(2, tmp_path) for _ in range(3)] == [0, 1, 0]
    attempt.RESERVED[1].release()
    assert reserve(2, tmp_path) == 1
    for lock in attempt.RESERVED:
        lock.release()
    assert attempt.choose_devices("gpu", 1) == 1, "no pool"
    monkeypatch.setattr(multiprocessing.current_process(), "_name", "LokyProcess-1")
    assert attempt.choose_devices("cpu", 1) == 1
    assert attempt.choose_devices("gpu", [3]) == [3]


POOL = """
import os, sys, time
import joblib
from mdm.workers import announce_parent, die_with_parent, is_in_pool

def work(i):
    assert is_in_pool()
    print(os.getpid(), flush=True)
    time.sleep(60)

announce_parent()
joblib.Parallel(n_jobs=2, initializer=die_with_parent)(joblib.delayed(work)(i) for i in range(2))
"""


def test_workers_do_not_outlive_what_started_them(tmp_path):
    """Killed outright, so that nothing could be told to them."""
    script = tmp_path / "pool.py"
    script.write_text(POOL)
    parent = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    parent.kill()
    parent.wait()
    end = time.monotonic() + 20
    while any(alive(worker) for worker in workers):
        assert time.monotonic() < end, "a worker lives on"
        time.sleep(0.1)
    parent.stdout.close()


def test_workers_of_a_sweep_that_is_killed_at_once_do_not_wait_for_it(tmp_path):
    """Killed before they have imported anything of ours, or been given work."""
    command = [sys.executable, ROOT / "train.py", "-m", "seed=0,1", *POOL_OF_TWO, f"paths.outputs={tmp_path}"]
    with open(tmp_path / "log", "w") as log:
        parent = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path)
    workers = set()
    end = time.monotonic() + 120
    while len(workers) < 2 and time.monotonic() < end:
        workers = {int(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat") if is_worker(path, parent.pid)}
        time.sleep(0.02)
    parent.kill()
    parent.wait()
    assert len(workers) == 2, (tmp_path / "log").read_text()
    end = time.monotonic() + 60
    while any(alive(worker) for worker in workers):
        assert time.monotonic() < end, "a worker lives on"
        time.sleep(0.1)


def is_worker(stat, parent):
    """Whether a process is a worker of joblib's that another one started."""
    try:
        child_of = int(stat.read_text().rpartition(")")[2].split()[1])
        return child_of == parent and b"popen_loky" in (stat.parent / "cmdline").read_bytes()
    except OSError:  # it has ended
        return False


def alive(pid):
    """Neither gone nor a zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# ---- progress


def test_states(tmp_path):
    now = time.time()
    assert progress.read_state(tmp_path, now) == "left"
    (tmp_path / attempt.LOG).touch()
    assert progress.read_state(tmp_path, now - 5) == "running"
    assert (progress.read_state(tmp_path, now + 5), progress.read_state(tmp_path)) == ("left", "left")
    (tmp_path / records.ERROR).touch()
    assert progress.read_state(tmp_path, now - 5) == "failed"
    (tmp_path / records.METRICS).touch()
    assert progress.read_state(tmp_path, now - 5) == "finished"


def test_the_estimate_is_what_the_rest_takes_at_this_pace():
    """Three done in two minutes, 12 to go: eight minutes."""
    counts = {"finished": 2, "running": 2, "failed": 1, "left": 10}
    assert progress.format_progress(counts, 120) == "2 done, 2 running, 1 failed, 10 left, about 8 min"
    assert progress.format_progress({**counts, "left": 298}, 120) == "2 done, 2 running, 1 failed, 298 left, about 3.3 h"
    assert progress.format_progress({**counts, "finished": 0, "failed": 0}, 120) == "0 done, 2 running, 0 failed, 10 left"
    assert (
        progress.format_progress({"finished": 3, "running": 0, "failed": 0, "left": 0}, 120)
        == "3 done, 0 running, 0 failed, 0 left"
    )


def test_progress_is_said_when_it_changes(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="sweep")
    run = plans.PlannedRun([], tmp_path, "new", ("synthetic", "lmf", "kl"), 1)
    (tmp_path / records.ERROR).touch()
    with progress.show_progress([run], every=0.01, quiet_for=0):
        time.sleep(0.1)
        (tmp_path / records.METRICS).touch()
    said = [record.message for record in caplog.records]
    assert said == ["0 done, 0 running, 0 failed, 1 left", "1 done, 0 running, 0 failed, 0 left"]


def test_progress_is_told_outside_of_the_run_that_is_at_work(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="sweep")
    with attempt.log_to(tmp_path / "run.log"):
        sweep.log.info("two done")
        attempt.log.info("epoch 1")
        print("a table")
    assert [record.message for record in caplog.records] == ["two done"]
    said = (tmp_path / "run.log").read_text()
    assert "epoch 1" in said
    assert "a table" in said
    assert "two done" not in said


# ---- on a cluster


@pytest.fixture
def handlers():
    """The answers to signals, put back afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    yield
    for number, answer in before.items():
        signal.signal(number, answer)


@pytest.mark.parametrize(
    ("shown", "requeued"), [("JobId=1 JobState=RUNNING Reason=None", True), ("JobId=1 JobState=CANCELLED", False)]
)
def test_a_preempted_job_goes_back_and_a_cancelled_one_does_not(handlers, monkeypatch, shown, requeued):
    """Slurm preempts a job that it still calls RUNNING, and cancels one that it calls CANCELLED, both with SIGTERM."""
    said = []
    signal.signal(signal.SIGUSR2, lambda number, frame: said.append("requeue"))
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setattr(attempt.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, shown))
    monkeypatch.setattr(attempt.os, "_exit", lambda status: said.append(status) or sys.exit(status))
    attempt.requeue_on_termination()
    if requeued:
        os.kill(os.getpid(), signal.SIGTERM)
        assert said == ["requeue"]
    else:
        with pytest.raises(SystemExit):
            os.kill(os.getpid(), signal.SIGTERM)
        assert said == [75]


def test_a_job_that_the_scheduler_requeued_already_leaves_without_a_result(handlers, monkeypatch, capsys):
    def again(number, frame):
        raise subprocess.CalledProcessError(1, "scontrol requeue")

    signal.signal(signal.SIGUSR2, again)
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setattr(attempt.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, "JobState=RUNNING"))
    monkeypatch.setattr(attempt.os, "_exit", sys.exit)
    attempt.requeue_on_termination()
    with pytest.raises(SystemExit) as left:
        os.kill(os.getpid(), signal.SIGTERM)
    assert left.value.code == 75
    assert "requeued by the scheduler already" in capsys.readouterr().err


def test_outside_a_cluster_nothing_is_changed(handlers, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    before = signal.getsignal(signal.SIGTERM)
    attempt.requeue_on_termination()
    assert signal.getsignal(signal.SIGTERM) is before


def test_lightning_does_not_take_the_answer_to_sigterm(handlers, composer, monkeypatch):
    """Its own would end the run as if it were done."""
    from mdm.runs.protocol import run

    said = []

    def answer(number, frame):
        said.append(number)

    signal.signal(signal.SIGTERM, answer)
    from mdm.training.learner import Learner

    step = Learner.training_step

    def training_step(self, batch, index):
        assert signal.getsignal(signal.SIGTERM) is answer
        return step(self, batch, index)

    monkeypatch.setattr(Learner, "training_step", training_step)
    run(composer(["model=lmf"]))
    assert signal.getsignal(signal.SIGTERM) is answer


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


# ---- without starting it


def test_a_dry_run_starts_nothing_and_expects_what_records_say(swept, composer, tmp_path, caplog):
    """Seeds 0 and 1 of KL are done, 2 and 3 are not; HSIC has records of its data and model alone, synthetic_mosei has none."""
    swept("penalty=kl", "model=lmf", "seed=0,1")
    for seed, seconds in ((0, 4.0), (1, 6.0)):
        folder = next((tmp_path / "outputs").rglob(f"seed={seed}"))
        records.seal(folder, {**records.read_record(folder), "seconds": seconds})
    before = sorted(path for path in tmp_path.rglob("*"))
    planned = plans.plan(
        plans.list_wanted(composer([]), ["penalty=kl,hsic", "model=lmf", "data=synthetic", "seed=range(4)"]), composer
    )
    kl, hsic = forecast.list_groups(planned, tmp_path / "outputs")
    assert (kl.name, kl.done, kl.missing, kl.seconds, kl.source) == ("single/synthetic/lmf/kl", 2, 2, 5.0, "2 of these")
    assert (hsic.done, hsic.missing, hsic.seconds, hsic.source) == (0, 4, 5.0, "2 of the same data and model")
    text = forecast.render_forecast([kl, hsic, forecast.Group("other", 0, 3, None, "no record of its data")], at_once=2)
    assert "11 runs: 2 done, 9 missing" in text
    assert "expected: 30 s of machine time, 15 s with 2 at a time" in text
    assert "of 3 runs nothing is known" in text
    assert sorted(path for path in tmp_path.rglob("*")) == before
    swept("penalty=kl", "model=lmf", "seed=range(4)", dry_run=True)
    assert swept.launched == []
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_a_dry_run_is_of_a_sweep():
    assert train_command.take_dry_run(["-m", "penalty=none,kl", "--dry-run"]) == [
        "-m",
        "penalty=none,kl",
        "hydra.sweeper.dry_run=true",
    ]
    assert train_command.take_dry_run(["penalty=kl"]) == ["penalty=kl"]
    with pytest.raises(ValueError, match=r"--dry-run lists the runs of a sweep, but there is no -m; add it\."):
        train_command.take_dry_run(["penalty=kl", "--dry-run"])


def test_a_pool_has_a_process_for_each_gpu_or_core(monkeypatch):
    monkeypatch.setattr(workers, "cpu_count", lambda: 64)
    for gpus, expected in ((0, 64), (8, 8)):
        monkeypatch.setattr(torch.cuda, "device_count", lambda gpus=gpus: gpus)
        assert (workers.count_workers("auto"), workers.count_workers("cpu")) == (expected, 64)
