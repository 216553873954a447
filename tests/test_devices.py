"""A run on two devices (two processes on the CPU, which meet by gloo) is that on one, but for the order of sums.

Where dropout is on, rows have other masks than on one device; so it is off where numbers are compared.
"""

import contextlib
import csv
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from mdm.runs import devices
from mdm.runs.protocol import run

ROOT = Path(__file__).resolve().parents[1]
MODELS = sorted(p.stem for p in (ROOT / "configs" / "model").glob("*.yaml") if "backbone" in OmegaConf.load(p))
KINDS = ["lmf", "lmr_cbt", "magxlnet", "mird", "selfmm"]
"""Batch normalisation of rows, and of steps; padding in front; decoders and pieces; labels that move with each step."""
WITHOUT_DROPOUT = ("model=lmf", "penalty=kl", "model.backbone.dropout=0", "machine.accelerator=cpu", "data.batch_size=17")
PLAIN = tuple(f"{of}.optimizer.{key}" for of in ("model", "penalty.critic") for key in ("_target_=torch.optim.SGD", "lr=0.01"))
"""Plain gradient steps: one of Adam has the size of its rate even where the gradient is what rounding left of 0."""


def train_apart(folder: Path, steps: int, cases: list[str]) -> list[dict[str, dict[str, torch.Tensor]]]:
    """What `tests/ranks.py` makes of the cases alone, and on either of two ranks."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    files = [folder / name for name in ("alone", "first", "second")]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "ranks.py"), rank, world, str(port), str(file), str(steps), *cases], env=env
        )
        for rank, world, file in zip("001", "122", files, strict=True)
    ]
    assert [process.wait() for process in processes] == [0, 0, 0]
    return [torch.load(file) for file in files]


def compare(alone: dict[str, torch.Tensor], first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    for key, value in alone.items():
        assert torch.equal(first[key], second[key]) or key == "curve", f"{key} differs between ranks"
        scale = max(1.0, value.double().abs().max().item()) if value.numel() else 1.0
        if key.endswith(".labels"):  # Self-MM's move by a ratio of differences of distances, which has more of the rounding
            scale *= 10
        if key != "curve":
            torch.testing.assert_close(first[key], value, rtol=0, atol=1e-5 * scale, msg=lambda text, key=key: f"{key}: {text}")


@pytest.fixture(scope="module")
def few_steps(tmp_path_factory):
    cases = [f"{model},kl" for model in KINDS] + ["lmf,synergy_mmd"]
    return dict(zip(("alone", "first", "second"), train_apart(tmp_path_factory.mktemp("ranks"), 4, cases), strict=True))


@pytest.mark.parametrize("case", [*(f"{model},kl" for model in KINDS), "lmf,synergy_mmd"])
def test_weights_after_a_few_steps_are_those_of_one_device(few_steps, case):
    compare(*(few_steps[of][case] for of in ("alone", "first", "second")))


@pytest.mark.slow
@pytest.mark.parametrize("penalty", ["kl", "wasserstein", "club"])
def test_weights_of_every_model_after_twenty_steps_are_those_of_one_device(tmp_path, penalty):
    cases = [f"{model},{penalty}" for model in [*MODELS, "lmr_cbt_official"]]
    found = train_apart(tmp_path, 20, cases)
    for case in cases:
        compare(*(of[case] for of in found))


def test_the_record_is_that_of_one_device(config, tmp_path):
    alone = run(config(*WITHOUT_DROPOUT, *PLAIN))
    several = run(config(*WITHOUT_DROPOUT, *PLAIN, "machine.devices=2", f"paths.outputs={tmp_path}/several"))
    for part in ("valid", "test"):
        assert several[part]["mae"] == pytest.approx(alone[part]["mae"], abs=1e-5)
    files = [sorted(p.name for p in (tmp_path / name).rglob("*") if p.is_file()) for name in ("outputs", "several")]
    assert files[0] == files[1]
    assert not torch.distributed.is_initialized()


def test_a_rank_that_ends_is_named_with_what_it_said(config, tmp_path, monkeypatch):
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\necho one >&2\necho 'the other GPU is broken' >&2\nexit 3\n")
    other.chmod(other.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(devices.sys, "executable", str(other))
    with pytest.raises(
        ValueError, match="A run on 2 devices needs all of them, but rank 1 ended with status 3: the other GPU is br"
    ):
        run(config(*WITHOUT_DROPOUT, "machine.devices=2"))


@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_said_once_and_nobody_stays(config):
    with pytest.raises(ValueError, match="Every loss term must be finite"):
        run(config(*WITHOUT_DROPOUT, "model.optimizer.lr=1e30", "machine.devices=2"))
    assert children(os.getpid(), "mdm.runs.devices") == []


@pytest.mark.slow
def test_killed_and_resumed_is_uninterrupted_and_others_end_with_rank_0(tmp_path):
    command = [sys.executable, str(ROOT / "train.py"), "model=lmf", "penalty=kl", "machine.accelerator=cpu", "machine.devices=2"]
    command += ["data.segments.train=96", "trainer.max_epochs=6"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, f"paths.outputs={tmp_path}/whole"], check=True, env=env, capture_output=True)
    process = subprocess.Popen(
        [*command, f"paths.outputs={tmp_path}/broken"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not (found := list((tmp_path / "broken").rglob("curve.csv"))) or len(found[0].read_text().splitlines()) < 3:
        assert process.poll() is None
        time.sleep(0.05)
    others = children(process.pid, "mdm.runs.devices")
    assert len(others) == 1
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in others):
        assert time.monotonic() < deadline, "a rank outlives its run"
        time.sleep(0.1)
    subprocess.run([*command, f"paths.outputs={tmp_path}/broken"], check=True, env=env, capture_output=True)
    whole, broken = (read_curve(next((tmp_path / name).rglob("curve.csv"))) for name in ("whole", "broken"))
    assert whole == broken


def read_curve(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def children(parent: int, of: str) -> list[int]:
    """Processes that one has started whose command names something."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = status.read_text().rsplit(")", 1)[1].split()
            command = (status.parent / "cmdline").read_text()
            if int(fields[1]) == parent and of in command:
                found.append(int(status.parent.name))
    return found
