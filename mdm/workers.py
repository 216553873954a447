"""Processes of a pool: they end with the process that started them. Imports nothing heavy, for a new worker runs this first."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from functools import cache
from typing import Any

from joblib import Parallel, cpu_count

PARENT = "MDM_PARENT"
"""Environment variable: the process that starts workers."""


def is_in_pool() -> bool:
    """Whether this process is a worker of joblib's."""
    return multiprocessing.current_process().name.startswith("LokyProcess-")


def open_pool(processes: int, **options: Any) -> Parallel:
    """joblib's pool of so many processes, which end with this one; options: of `joblib.Parallel`."""
    announce_parent()
    return Parallel(n_jobs=processes, initializer=die_with_parent, **options)


def count_workers(accelerator: str) -> int:
    """Processes that a pool has unless it is told: one for each GPU, or for each core that this process may use.

    accelerator: ``cpu``, ``gpu``, or ``auto``, which is a GPU where there is one
    """
    if accelerator == "cpu":
        return cpu_count()
    import torch

    return torch.cuda.device_count() or cpu_count()


def announce_parent() -> None:
    """Tell the workers that this process will start whose they are."""
    os.environ[PARENT] = str(os.getpid())


@cache
def die_with_parent() -> None:
    """From now on, end this process when the one that started it has ended, or now if it has ended already.

    The initializer of every pool, so that it runs before a worker imports torch or waits for work. A worker that outlived its
    sweep, or its task, which is back in the queue, would go on for nobody. Which process started it is told by that one
    (`announce_parent`): asked for later, the parent may have ended, and its place have been taken by another.
    """
    parent = int(os.environ.get(PARENT, os.getppid()))

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(75)

    threading.Thread(target=watch, daemon=True).start()
