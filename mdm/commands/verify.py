"""Check that every record and store on disk is as it was written.

    mdm verify [folder …]     outputs if none is named

Reads every record and store below the folders and compares it with its hashes. Names what was edited, damaged or lost, what a
killed process left half written, and runs that began and did not finish; exits with status 1 if there is anything to name.
Repairs nothing.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import track

from mdm.boundary import format_error
from mdm.data.store import MANIFEST, verify_store
from mdm.ownership import find_owner, is_half_written
from mdm.runs import records


@dataclass(frozen=True)
class Artifact:
    """A folder that is a record, a store or a run without a record; or a path that a killed process left."""

    path: Path
    kind: Literal["record", "store", "unfinished", "debris"]


def main(arguments: list[str]) -> None:
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return
    roots = [Path(argument) for argument in arguments or ["outputs"]]
    lost = [str(root) for root in roots if not root.is_dir()]
    if lost:
        raise ValueError(f"mdm verify reads folders, but {', '.join(lost)} is not one; name folders of records or stores.")
    unreadable: list[OSError] = []
    found = list(dict.fromkeys(each for root in roots for each in find_artifacts(root, unreadable)))
    wrong = [format_error(error) for error in unreadable]
    shown = Console(stderr=True)
    for each in track(found, "verifying", console=shown, transient=True, disable=not shown.is_terminal):
        wrong += find_problems(each)
    print("\n".join([*wrong, format_counts(found, wrong)]))
    if wrong:
        sys.exit(1)


def find_artifacts(root: Path, unreadable: list[OSError]) -> Iterator[Artifact]:
    """What is to be verified below a folder, in the order of its names; links are not followed.

    unreadable: gets the error of every folder that cannot be read
    """
    for place, folders, files in os.walk(root, onerror=unreadable.append):
        here, names = Path(place), {*folders, *files}
        is_run = bool({records.CONFIG, records.METRICS, records.ERROR, records.LAST} & names)
        if MANIFEST in files:
            yield Artifact(here, "store")
        elif is_run:
            yield Artifact(here, "record" if records.METRICS in names else "unfinished")
        left = {name for name in names if is_debris(here / name, is_run)}
        left |= {records.LAST} & names if records.METRICS in names else set()
        if left and not (is_run and find_owner(here)):
            yield from (Artifact(here / name, "debris") for name in sorted(left))
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != records.METRICS)


def is_debris(path: Path, in_run: bool) -> bool:
    """Whether a killed process of ours left a file or folder: half written, or a store's that it was writing.

    Outside a run's folder, which has one owner, a file that a living process of this machine writes does not count.
    """
    if path.name.startswith(".") and path.name.endswith(".writing"):
        return find_owner(path) is None
    return is_half_written(path.name) and (in_run or not Path(f"/proc/{path.name.rpartition('.')[2]}").exists())


def find_problems(found: Artifact) -> list[str]:
    """What is wrong there, a line each."""
    path = found.path
    if found.kind == "debris":
        return [f"{path} was left half written by a process that was killed; the same command again removes it."]
    if found.kind == "unfinished":
        owner = find_owner(path)
        if owner is not None:
            return []
        error = path / records.ERROR
        why = f"failed: {records.read_error(path)}" if error.is_file() else "did not finish"
        return [f"{path} began and {why}; the same command again resumes it."]
    try:
        if found.kind == "record":
            return records.find_problems(path)
        verify_store(path)
    except (ValueError, OSError) as error:
        return [format_error(error)]
    return []


def format_counts(found: list[Artifact], wrong: list[str]) -> str:
    """The closing line."""
    kinds = [each.kind for each in found]
    whole = f"{kinds.count('record')} records and {kinds.count('store')} stores read whole"
    others = f"{kinds.count('unfinished')} runs without a record, {kinds.count('debris')} files left half written"
    return f"{whole}; {others}; {len(wrong)} problems."
