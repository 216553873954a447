"""On a Slurm without accounting: the queue says which jobs are gone, where submitit would wait for what `sacct` never tells.

Needs submitit, of the extra ``cluster``.
"""

from __future__ import annotations

import shutil
import subprocess

from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

GONE = "GONE"
"""Of a job that is no longer in the queue: neither waiting nor running, so ended, whether or not it left a result."""


class QueueWatcher(SlurmInfoWatcher):
    """Asks `squeue` for one's own jobs. One that is preempted or out of time goes back into the queue, so it is not gone.

    >>> QueueWatcher(delay_s=60).num_calls
    0
    """

    def _make_command(self) -> list[str] | None:
        return ["squeue", "--me", "--array", "--noheader", "--format=%i|%T"] if self._registered - self._finished else None

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        """The state of each job that was asked for, by its number, as ``7`` or ``7_0``."""
        text = string.decode() if isinstance(string, bytes) else string
        states = dict(line.strip().split("|") for line in text.splitlines() if line.strip())
        return {job: {"JobID": job, "State": states.get(job, GONE)} for job in self._registered - self._finished}


def has_accounting() -> bool:
    """Whether `sacct` is there and answers."""
    if shutil.which("sacct") is None:
        return False
    return subprocess.run(["sacct", "--noheader"], capture_output=True, check=False).returncode == 0


def watch_queue(every: int = 60) -> None:
    """From now on, let submitit ask the queue; every: seconds between two questions, at most."""
    SlurmJob.watcher = QueueWatcher(delay_s=every)
