"""A sweep says how far it is, and goes back to the queue when a cluster's scheduler preempts it."""

import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_sweeps import compose_below

from mdm.runs import records
from mdm.sweeps import attempt, progress, sweep
from mdm.sweeps import plan as plans

ROOT = Path(__file__).resolve().parents[1]
SMALL = ("data.segments.train=96", "data.segments.valid=32", "data.segments.test=40", "trainer.max_epochs=2")


@pytest.fixture
def composer(tmp_path):
    return compose_below(tmp_path)


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
    assert re.fullmatch(
        r"2 done, 2 running, 1 failed, 10 left, about 8 min, until \d\d:\d\d", progress.format_progress(counts, 120)
    )
    assert "298 left, about 3.3 h, until " in progress.format_progress({**counts, "left": 298}, 120)
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
