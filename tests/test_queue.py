"""Without accounting the queue says which jobs have ended. The commands are scripts that print what Slurm's print."""

import time

import pytest
from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

from mdm.sweeps.queue import QueueWatcher, has_accounting, watch_queue


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """name, text, status → a command of that name that prints the text; nothing else is on the path but a shell's."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")

    def write(name, text, status=0):
        file = tmp_path / name
        file.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {status}\n")
        file.chmod(0o755)

    return write


def test_a_job_that_left_the_queue_is_done(slurm):
    """Of an array, 7_0 runs, 7_1 waits again after its preemption, and 7_2 is nowhere."""
    slurm("squeue", "7_0|RUNNING\n7_1|PENDING\n8|RUNNING")
    watcher = QueueWatcher()
    for job in ("7_0", "7_1", "7_2"):
        watcher.register_job(job)
    assert [watcher.is_done(job, mode="force") for job in ("7_0", "7_1", "7_2")] == [False, False, True]
    slurm("squeue", "")
    time.sleep(0.01)  # a second question within a millisecond is not asked
    assert [watcher.is_done(job, mode="force") for job in ("7_0", "7_1")] == [True, True]


def test_a_queue_that_does_not_answer_ends_no_job(slurm):
    slurm("squeue", "slurm_load_jobs error: Unable to contact slurm controller", status=1)
    watcher = QueueWatcher()
    watcher.register_job("7_0")
    assert not watcher.is_done("7_0", mode="force")


def test_accounting_is_there_if_it_answers(slurm, tmp_path):
    assert not has_accounting()
    slurm("sacct", "Slurm accounting storage is disabled", status=1)
    assert not has_accounting()
    slurm("sacct", "")
    assert has_accounting()


def test_submitit_asks_the_queue(monkeypatch):
    monkeypatch.setattr(SlurmJob, "watcher", SlurmInfoWatcher(delay_s=600))
    watch_queue()
    assert isinstance(SlurmJob.watcher, QueueWatcher)
