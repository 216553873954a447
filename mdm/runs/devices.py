"""One run on several devices of a machine: this process is rank 0, and it starts one for each of the others.

The others build the same data and the same learner and train along (`mdm.training.ranks`); they write nothing. They end with this
process, and it ends with the first of them that fails. A run's folder, its lease, its record and its dashboards are rank 0's.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import torch
import torch.distributed as dist
from omegaconf import DictConfig, OmegaConf

from mdm.training.learner import Learner
from mdm.training.ranks import Ranks, normalize_over
from mdm.workers import announce_parent

PATIENCE = timedelta(minutes=10)
"""How long a rank waits for the others with a batch."""
READY = "rank {} is ready"


def list_devices(machine: DictConfig) -> list[int]:
    """The indices of a run's devices; on a CPU they only count processes."""
    asked = machine.devices
    return list(range(asked)) if isinstance(asked, int) else list(asked)


def uses_gpus(machine: DictConfig) -> bool:
    return machine.accelerator in ("gpu", "cuda") or (machine.accelerator == "auto" and torch.cuda.is_available())


def pick_device(machine: DictConfig, rank: int) -> int | list[int]:
    """Lightning's ``devices`` for one rank."""
    indices = list_devices(machine)
    if len(indices) == 1:
        return 1 if isinstance(machine.devices, int) else indices
    return [indices[rank]] if uses_gpus(machine) else 1


@contextlib.contextmanager
def share_training(cfg: DictConfig, learner: Learner, checkpoint: str | None) -> Iterator[None]:
    """While inside, a learner trains on all devices of its config; with one device nothing happens.

    checkpoint: from which training goes on

    Raises ValueError, with what it said, if another rank failed before this one.
    """
    world = len(list_devices(cfg.machine))
    if world == 1:
        yield
        return
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=PATIENCE)
    ranks = [Follower(cfg, rank, world, store.port, checkpoint) for rank in range(1, world)]
    try:
        await_others(store, ranks)
        with join_group(cfg, learner, 0, world, store):
            yield
    except RuntimeError as error:  # torch.distributed's where another rank has gone, or that of `await_others`
        failed = [said for follower in ranks if (said := follower.explain_failure())]
        if failed:
            raise ValueError(
                f"A run on {world} devices needs all of them, but {failed[0]}; try one device to see it alone."
            ) from error
        raise
    finally:
        for follower in ranks:
            follower.end()


@contextlib.contextmanager
def join_group(cfg: DictConfig, learner: Learner, rank: int, world: int, store: dist.Store) -> Iterator[None]:
    """Meet the other ranks, and divide a learner's batches among them while inside."""
    backend = "nccl" if uses_gpus(cfg.machine) else "gloo"
    if backend == "nccl":
        torch.cuda.set_device(list_devices(cfg.machine)[rank])
    dist.init_process_group(backend, store=store, timeout=PATIENCE, world_size=world, rank=rank)
    alone = learner.passes.ranks
    try:
        learner.passes.ranks = ranks = Ranks(cfg.seed)
        normalize_over(ranks, learner.backbone)
        yield
    finally:
        learner.passes.ranks = alone
        dist.destroy_process_group()


def await_others(store: dist.Store, ranks: Sequence[Follower]) -> None:
    """Wait until every other rank has what it trains with.

    Raises RuntimeError where one ends before.
    """
    while not store.check([READY.format(follower.rank) for follower in ranks]):
        if any(follower.process.poll() is not None for follower in ranks):
            raise RuntimeError("a rank has ended before training")
        time.sleep(0.05)


class Follower:
    """The process of a rank other than 0; what it says is kept in case it fails."""

    def __init__(self, cfg: DictConfig, rank: int, world: int, port: int, checkpoint: str | None):
        self.rank = rank
        self.said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `end`)
        announce_parent()
        task = {"config": OmegaConf.to_yaml(cfg), "rank": rank, "world": world, "port": port, "checkpoint": checkpoint}
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self.said, env=os.environ
        )
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended already, and is asked why when rank 0 misses it
            self.process.stdin.write(json.dumps(task).encode())
            self.process.stdin.close()

    def explain_failure(self) -> str | None:
        """The last line of what it said, if it has failed by itself."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self.process.wait(timeout=5) != 0:
                self.said.seek(0)
                lines = self.said.read().decode(errors="replace").strip().splitlines()
                return f"rank {self.rank} ended with status {self.process.returncode}: {lines[-1] if lines else 'it said nothing'}"
        return None

    def end(self) -> None:
        """Wait for it to see the end of training; end it, if it does not."""
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.said.close()


def follow(task: dict[str, Any]) -> None:
    """Train along as one of several ranks."""
    from mdm.runs.build import build_learner, build_splits
    from mdm.runs.trainer import build_follower

    cfg = OmegaConf.create(task["config"])
    assert isinstance(cfg, DictConfig)
    splits = build_splits(cfg)
    learner = build_learner(cfg, splits)
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_follower(cfg, Path(folder), task["rank"])
        epoch = 0
        if task["checkpoint"] is not None:
            from mdm.runs.untrusted import read_checkpoint

            epoch = len(read_checkpoint(Path(task["checkpoint"]))["curve"])
        store = dist.TCPStore("127.0.0.1", task["port"], is_master=False, timeout=PATIENCE)
        store.set(READY.format(task["rank"]), "")
        with join_group(cfg, learner, task["rank"], task["world"], store):
            trainer.fit(learner, splits.train(epoch=epoch), splits.valid(), ckpt_path=task["checkpoint"], weights_only=True)


def main(_: Sequence[str]) -> None:
    from mdm.boundary import exit_on_error
    from mdm.runs.remarks import silence_remarks
    from mdm.workers import die_with_parent

    die_with_parent()
    silence_remarks()
    with exit_on_error():
        follow(json.loads(sys.stdin.buffer.read()))


if __name__ == "__main__":
    main(sys.argv[1:])
