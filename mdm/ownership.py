"""One owner for a folder: whoever works in the folder of a run, or of a store that is being written, holds a lease there.

The lease works on any file system that several machines share: a file ``.lock`` with the owner's host and process, refreshed every
few seconds (`filelock.SoftFileLease`). An owner that died on this machine is known by its process and replaced at once; one on
another machine by a lease that nobody has refreshed for `LEASE` seconds, measured by the newcomer's own clock. A lease cannot stop
an owner that was only asleep, so an owner asks before it writes (`Owner.check`).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from filelock import SoftFileLease, Timeout

LOCK = ".lock"
LEASE, HEARTBEAT = 90.0, 15.0
"""Seconds without a sign of life after which an owner on another machine counts as dead, and between two such signs."""
RETRY = 0.05


class InUse(ValueError):
    """A folder belongs to a process that is alive."""


@dataclass(frozen=True)
class Owner:
    """This process's claim to a folder."""

    folder: Path
    lease: SoftFileLease

    def check(self) -> None:
        """Raise InUse if the folder has been taken over, as happens to a process that was stopped for longer than a lease."""
        if self.lease.compromise is not None or not self.lease.is_lock_held_by_us:
            raise InUse(
                f"{self.folder} was this process's, but it gave no sign of life for {LEASE:.0f} s, and another has taken it over"
                f"{format_owner(self.lease)}; this process ends, and what it had not written is lost."
            )


@contextlib.contextmanager
def own(folder: Path) -> Iterator[Owner]:
    """Hold a folder, which is made if it is not there, while the block runs; again within the block costs nothing.

    Left empty, it is removed afterwards, with what was made for it above.

    Raises InUse, which says whose it is, if another living process holds the folder: at once if it runs on this machine, after
    some seconds if its sign of life must be awaited. Raises OSError if the folder cannot be written.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    lease = get_lease(folder)
    try:
        acquire(folder, lease)
        try:
            remove_half_written(folder)
            yield Owner(folder, lease)
        finally:
            lease.release()
    finally:
        for place in made or [folder]:
            with contextlib.suppress(OSError):  # not empty, or gone
                place.rmdir()


def get_lease(folder: Path) -> SoftFileLease:
    """The lease of a folder; one object for each folder, so that one process can take it twice."""
    return SoftFileLease(folder.resolve() / LOCK, lease_duration=LEASE, heartbeat_interval=HEARTBEAT, is_singleton=True)


def acquire(folder: Path, lease: SoftFileLease) -> None:
    """Take the lease if nobody who is alive has it."""
    seen: int | None = None
    until, made = time.monotonic() + 2 * LEASE, time.monotonic() + 2
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lease.acquire(timeout=4 * RETRY, poll_interval=RETRY)
            return
        except FileNotFoundError:  # another run takes its empty folders away at this moment, or none can be made
            if time.monotonic() > made:
                raise
            continue
        except Timeout:
            owner, beat = lease.owner, read_last_beat(folder)
        # What filelock could not prove dead is alive if it runs here, and elsewhere once it gives a sign.
        here = owner is not None and owner.hostname == read_own_host() and not is_zombie(owner.pid)
        if here or (seen is not None and beat is not None and beat != seen) or time.monotonic() > until:
            raise InUse(
                f"A folder has one owner at a time, but {folder} is in use{format_owner(lease)}; wait until that has "
                "ended, or end it, and give the command again."
            )
        seen = beat if seen is None else seen


def find_owner(folder: Path) -> str | None:
    """Whose a folder is, as ``process 4711 on node7``; None if nobody who is alive has it."""
    if not (folder / LOCK).exists():
        return None
    lease = get_lease(folder)
    if lease.is_locked:
        return f"process {os.getpid()}, this one"
    try:
        acquire(folder, lease)
    except InUse:
        return format_owner(lease).removeprefix(" by ") or "a process that did not say which"
    lease.release()
    return None


def format_owner(lease: SoftFileLease) -> str:
    """`` by process 4711 on node7``; nothing where the owner cannot be read."""
    owner = lease.owner
    return "" if owner is None else f" by process {owner.pid} on {owner.hostname.partition('?')[0]}"


def read_last_beat(folder: Path) -> int | None:
    """When the owner last gave a sign of life, by the file server's clock; good only for seeing whether it changes."""
    try:
        return os.stat(folder / LOCK).st_mtime_ns
    except OSError:
        return None


@cache
def read_own_host() -> str:
    """This machine's name as owners write it; two containers of one name differ."""
    with tempfile.TemporaryDirectory() as folder:
        lease = SoftFileLease(Path(folder) / LOCK)
        with lease:
            owner = lease.owner
    assert owner is not None
    return owner.hostname


def is_zombie(pid: int) -> bool:
    """Whether a process of this machine has ended and only waits for its parent to notice, which kill(pid, 0) does not show."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False


def remove_half_written(folder: Path) -> None:
    """Remove the half-written files of dead owners."""
    for left in find_half_written(folder):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink(missing_ok=True)


def find_half_written(folder: Path) -> list[Path]:
    """Files still under the temporary names that they have until they are complete."""
    return [path for path in folder.glob(".*") if is_half_written(path.name)]


def is_half_written(name: str) -> bool:
    """``.name.123``, with the number of a process; not what belongs to the lock."""
    return re.fullmatch(r"\..+\.\d+", name) is not None and not name.startswith(LOCK)
