"""One run of many: it leaves its log and, if it fails, its traceback, and goes back into the queue of a cluster when it must.

What a launcher calls, in a worker of its own or in this process (`mdm train -m`).
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import joblib
import torch
from filelock import FileLock, Timeout
from hydra import compose
from omegaconf import DictConfig

from mdm.compose import use_configs
from mdm.ownership import InUse, own
from mdm.runs import records
from mdm.runs.naming import record_folder
from mdm.runs.protocol import run
from mdm.workers import is_in_pool, open_pool

log = logging.getLogger(__name__)

LOG = "run.log"


def attempt(cfg: DictConfig, overrides: Sequence[str]) -> float | None:
    """A run of a sweep: the validation metric that chose its checkpoint, or None if it failed.

    Its log and its traceback go into its folder. Never raises on what goes wrong in a run: a launcher that sees one exception may
    give up the rest.
    """
    folder = record_folder(cfg, overrides)
    cfg = cfg.copy()
    cfg.machine.progress = False
    cfg.machine.devices = choose_devices(cfg.machine.accelerator, cfg.machine.devices)
    try:
        with own(folder):
            return run_logged(cfg, overrides, folder)
    except InUse:
        return None  # the sweep looks whose it is, and waits


def run_logged(cfg: DictConfig, overrides: Sequence[str], folder: Path) -> float | None:
    """The run itself, in a folder that is owned."""
    with log_to(folder / LOG):
        try:
            (folder / records.ERROR).unlink(missing_ok=True)
            return float(run(cfg, overrides)["valid"][cfg.trainer.select])
        except InUse:  # taken over: nothing more is written here
            raise
        except Exception as error:
            records.write_atomically(folder / records.ERROR, "".join(traceback.format_exception(error)))
            log.error("failed: %s", error)
            return None


@contextlib.contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Send what the package logs and prints to a file."""
    package = logging.getLogger("mdm")
    with open(path, "a", encoding="utf-8", buffering=1) as file, contextlib.redirect_stdout(file):
        os.utime(path)  # opened now, though nothing is said yet
        handler = logging.StreamHandler(file)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        level, propagate = package.level, package.propagate
        package.addHandler(handler)
        package.setLevel(logging.INFO)
        package.propagate = False
        try:
            yield
        finally:
            package.removeHandler(handler)
            package.setLevel(level)
            package.propagate = propagate


def choose_devices(accelerator: str, asked: Any) -> Any:
    """In a worker of a pool, the GPU that the fewest living workers of this machine use; elsewhere what was asked for."""
    count = torch.cuda.device_count()
    if accelerator not in ("auto", "gpu", "cuda") or asked != 1 or not count or not is_in_pool():
        return asked
    return [reserve_gpu(count, Path(tempfile.gettempdir()) / f"mdm-gpus-{os.getuid()}")]


@cache
def reserve_gpu(count: int, folder: Path) -> int:
    """A GPU for as long as this process lives: the first of ``count`` without another worker, else with one other, and so on.

    By locks that the system gives back when a process dies. ``CUDA_VISIBLE_DEVICES`` renumbers devices, so locks bear its names.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    names = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name] or [str(i) for i in range(count)]
    for share in itertools.count():
        for device in range(count):
            lock = FileLock(folder / f"{names[device % len(names)].replace('/', '-')}.{share}")
            with contextlib.suppress(Timeout):
                lock.acquire(blocking=False)
                RESERVED.append(lock)
                return device
    raise AssertionError("a share without workers comes sooner or later")


RESERVED: list[FileLock] = []
"""Locks that this process holds; a lock that is collected is released."""


def pack_task(runs: Sequence[list[str]], at_once: int, path: Sequence[str] = ()) -> str:
    """The runs of a task, how many of them go at a time and where else their configs are, as letters that an override may hold."""
    task = {"at_once": at_once, "runs": runs, "path": list(path)}
    return base64.urlsafe_b64encode(json.dumps(task).encode()).decode().rstrip("=")


def run_task(packed: str) -> None:
    """All runs of a task (`pack_task`), ``at_once`` at a time."""
    task = json.loads(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
    if task["at_once"] == 1:
        for overrides in task["runs"]:
            compose_and_attempt(overrides, task["path"])
        return
    open_pool(task["at_once"])(joblib.delayed(compose_and_attempt)(overrides, task["path"]) for overrides in task["runs"])


def compose_and_attempt(overrides: list[str], path: Sequence[str]) -> None:
    if is_in_pool():
        # The scheduler signals every process of a task; the first one answers for all, and they end with it.
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with use_configs(path):
        cfg = compose("train", overrides)
    attempt(cfg, overrides)


# ---- on a cluster


def requeue_on_termination() -> None:
    """In a Slurm task under submitit: answer SIGTERM as the time limit is answered, by going back into the queue.

    Preemption with a grace time sends SIGTERM, which submitit ignores, and a task that ends within the grace time counts as
    completed. Checkpoints are whole at any moment, so there is nothing to save first. A job that is no longer running was
    cancelled, or Slurm has requeued it by itself: then it leaves, without a result for submitit. No effect elsewhere.
    """
    answer = signal.getsignal(signal.SIGUSR2)
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or "SUBMITIT_EXECUTOR" not in os.environ or not callable(answer):
        return

    def on_term(number: int, frame: Any) -> None:
        shown = subprocess.run(["scontrol", "show", "job", "-o", job], capture_output=True, text=True, check=False).stdout
        if "JobState=RUNNING" not in shown.split():
            os._exit(75)
        try:
            answer(signal.SIGUSR2, frame)
        except subprocess.CalledProcessError as error:
            print(f"requeued by the scheduler already: {error}", file=sys.stderr, flush=True)
            os._exit(75)

    signal.signal(signal.SIGTERM, on_term)
