"""A sweep through a real Slurm of one machine: preempted, signalled, requeued, resumed, it ends in what the local launcher gives.

Left out of `make test`; `make test-slurm` installs Slurm (Debian, as root) and runs it. Not covered: several nodes, GPUs,
accounting.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / "tests" / "slurm"
EXPERIMENT = (
    "experiment=mdm/table1",
    "data=synthetic",
    "penalty=none,kl",
    "seed=0,1",
    "data.segments.train=300",
    "data.segments.valid=64",
    "data.segments.test=64",
    "trainer.max_epochs=60",
    "trainer.patience=null",
)
CLUSTER = ("gpus_per_node=null", "cpus_per_task=1", "timeout_min=30", "partition=main")

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The environment in which sbatch, squeue and submitit find the cluster."""
    if shutil.which("slurmctld") is None or os.geteuid() != 0:
        pytest.skip("needs root and Debian's slurm-wlm and munge")
    folder = tmp_path_factory.mktemp("slurm")
    for parent in folder.parents[:-1]:
        parent.chmod(parent.stat().st_mode | 0o011)  # munged, which is not root, must reach its socket
    environment = {
        **os.environ,
        "SLURM_CONF": str(folder / "slurm.conf"),
        "PATH": f"{TOOLS / 'bin'}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    try:
        subprocess.run([TOOLS / "up.sh", folder], check=True, stdin=subprocess.DEVNULL)
        yield environment
    finally:
        subprocess.run([TOOLS / "down.sh", folder], check=False)


def command(script, *arguments):
    return [sys.executable, str(ROOT / script), *arguments]


def wait_for(condition, seconds, what):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.2)


def jobs(environment, state):
    shown = subprocess.run(["squeue", "-h", "-r", "-o", "%i %t %P"], env=environment, capture_output=True, text=True, check=True)
    return [line.split()[0] for line in shown.stdout.splitlines() if line.split()[1:] == [state, "main"]]


def table(outputs):
    made = command("scripts/table.py", *EXPERIMENT, f"paths.outputs={outputs}")
    shown = subprocess.run(made, capture_output=True, text=True, check=True, cwd=outputs)
    return shown.stdout.replace(str(outputs), "")


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The table of the local launcher."""
    outputs = tmp_path_factory.mktemp("local")
    subprocess.run(command("train.py", "-m", *EXPERIMENT, f"paths.outputs={outputs}"), check=True, cwd=outputs)
    return table(outputs)


@pytest.mark.parametrize("at_once", [1, 2])
def test_preempted_and_signalled_jobs_resume(slurm, local, tmp_path, at_once):
    """All jobs are preempted after an epoch or more (SIGTERM), then one is signalled as before a time-out (SIGUSR2)."""
    launcher = ["hydra/launcher=slurm", *(f"hydra.launcher.{option}" for option in CLUSTER)]
    packed = [f"hydra.sweeper.runs_per_task={at_once}", f"hydra.sweeper.at_once={at_once}"]
    made = command("train.py", "-m", *EXPERIMENT, *launcher, *packed, f"paths.outputs={tmp_path}")
    count = 4 // at_once
    with open(tmp_path / "client.log", "w", encoding="utf-8") as log:
        client = subprocess.Popen(made, env=slurm, stdout=log, stderr=log, cwd=tmp_path)
        try:
            wait_for(lambda: len(list(tmp_path.rglob("last.ckpt"))) == 4, 120, "an epoch of every run")
            assert not list(tmp_path.rglob("metrics.json"))
            subprocess.run(
                ["sbatch", "-p", "urgent", "-c", "8", "-t", "1", "-o", "/dev/null", "--wrap", "sleep 2"], env=slurm, check=True
            )
            wait_for(lambda: len(jobs(slurm, "PD")) == count, 60, "all jobs to be back in the queue")
            wait_for(lambda: resumed(tmp_path) == 4, 120, "all runs to resume")
            victim = jobs(slurm, "R")[0]
            subprocess.run(["scancel", "--signal=USR2", victim], env=slurm, check=True)
            wait_for(lambda: victim in jobs(slurm, "PD"), 30, "the signalled job to be back in the queue")
            assert client.wait(300) == 0, (tmp_path / "client.log").read_text()
        finally:
            client.kill()
    assert resumed(tmp_path) > 4
    assert table(tmp_path) == local


def resumed(outputs):
    """How often runs took up where they had been stopped."""
    return sum(len(re.findall("resuming run", path.read_text())) for path in outputs.rglob("run.log"))


def test_a_cancelled_job_stays_cancelled_and_the_command_says_what_is_missing(slurm, tmp_path):
    """It does not come back to life, the command does not wait for it, the others go on, and the next command does the rest."""
    launcher = ["hydra/launcher=slurm", *(f"hydra.launcher.{option}" for option in CLUSTER)]
    log_path = tmp_path / "client.log"
    with open(log_path, "w", encoding="utf-8") as log:
        made = command("train.py", "-m", *EXPERIMENT, *launcher, f"paths.outputs={tmp_path}")
        client = subprocess.Popen(made, env=slurm, stdout=log, stderr=log, cwd=tmp_path)
        try:
            wait_for(lambda: len(list(tmp_path.rglob("last.ckpt"))) == 4, 120, "an epoch of every run")
            victim = jobs(slurm, "R")[0]
            subprocess.run(["scancel", victim], env=slurm, check=True)
            assert client.wait(300) == 1
        finally:
            client.kill()
    assert "began and ended without a word" in log_path.read_text()
    wait_for(lambda: not jobs(slurm, "R") and not jobs(slurm, "PD"), 300, "the other jobs")
    assert len(list(tmp_path.rglob("metrics.json"))) == 3
    again = command("train.py", "-m", *EXPERIMENT, f"paths.outputs={tmp_path}")
    assert subprocess.run(again, cwd=tmp_path, check=False).returncode == 0
