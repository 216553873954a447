"""A sweep that is killed outright, again and again, ends in the table of one that was not."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SMALL = (
    "experiment=mdm/table1",
    "data=synthetic",
    "seed=range(3)",
    "data.segments.train=256",
    "data.segments.valid=64",
    "data.segments.test=64",
    "trainer.max_epochs=10",
)
POOL = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


def sweep(outputs, *arguments):
    command = [sys.executable, str(ROOT / "train.py"), "-m", *SMALL, *arguments, f"paths.outputs={outputs}"]
    # A session of its own, so that its workers can be killed with it.
    with open(outputs / "client.log", "a", encoding="utf-8") as log:
        return subprocess.Popen(command, cwd=outputs, stdout=log, stderr=log, start_new_session=True)


def table(outputs):
    """What is printed, and every file that is written."""
    command = [sys.executable, str(ROOT / "scripts" / "table.py"), *SMALL, f"paths.outputs={outputs}"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    folder = outputs / "mdm" / "table1"
    files = {path.name: path.read_text().replace(str(outputs), "") for path in folder.iterdir() if path.is_file()}
    return printed.replace(str(outputs), ""), files


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [(), POOL], ids=["local", "joblib"])
def test_a_sweep_killed_five_times_ends_in_the_same_table(tmp_path, launcher):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    began = time.monotonic()
    assert sweep(whole, *launcher).wait() == 0
    seconds = time.monotonic() - began
    rng, cut_short = random.Random(0), 0
    for _ in range(5):
        process = sweep(killed, *launcher)
        time.sleep(rng.uniform(0.2, 0.9) * seconds / 2)
        cut_short += process.poll() is None
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
        process.wait()
    assert cut_short >= 2, "the kills came too late to tell anything"
    assert sweep(killed, *launcher).wait() == 0
    assert table(killed) == table(whole)
