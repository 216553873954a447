"""Several runs a task: pools, killed workers, and what a worker does when its parent is gone."""

import logging
import multiprocessing
import os
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from made_sweeps import compose_below, sweep_in_turn

from mdm.runs import records
from mdm.sweeps import attempt, progress, sweep
from mdm.sweeps import plan as plans

ROOT = Path(__file__).resolve().parents[1]
POOL_OF_TWO = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
SMALL = ("data.segments.train=96", "data.segments.valid=32", "data.segments.test=40", "trainer.max_epochs=2")


@pytest.fixture
def composer(tmp_path):
    return compose_below(tmp_path)


@pytest.fixture
def swept(composer):
    return sweep_in_turn(composer)


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
