"""Before a sweep, without starting it: which runs it has, what is done, and how long the rest will take by the records at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mdm.runs import records
from mdm.sweeps.plan import PlannedRun

SHARED = ("data, model and penalty", "data and model", "data")
"""What records share with runs that have none of their own yet: the more, the better they tell."""


@dataclass(frozen=True)
class Course:
    """What a finished run took: its data, model and penalty, epochs, and seconds for one.

    >>> Course(("mosi", "lmf", "kl"), epochs=20, per_epoch=1.5).expect(max_epochs=10)
    15.0
    """

    choices: tuple[str, str, str]
    epochs: int
    per_epoch: float

    def expect(self, max_epochs: int) -> float:
        """Seconds of such a run that may take no more than so many epochs."""
        return self.per_epoch * min(self.epochs, max_epochs)


@dataclass(frozen=True)
class Group:
    """Runs of a sweep that differ in their seed alone.

    seconds: what one of them is expected to take, None where no record says; source: which records say it
    """

    name: str
    done: int
    missing: int
    seconds: float | None
    source: str


def list_groups(planned: Sequence[PlannedRun], outputs: Path) -> list[Group]:
    """The runs of a sweep by what they share, in their order, with the mean time that records say a run takes.

    The records are the group's own; without one, those below ``outputs`` that share the most of data, model and penalty.
    """
    courses = read_courses(outputs)
    folders: dict[Path, list[PlannedRun]] = {}
    for run in planned:
        folders.setdefault(run.folder.parent, []).append(run)
    groups = []
    for folder, runs in folders.items():
        own = [courses[run.folder] for run in runs if run.folder in courses]
        alike, source = (own, "of these") if own else find_alike(runs[0].choices, list(courses.values()))
        seconds = sum(course.expect(runs[0].epochs) for course in alike) / len(alike) if alike else None
        done = sum(run.found == "finished" for run in runs)
        said = f"{len(alike)} {source}" if alike else "no record of its data"
        groups.append(Group(str(folder.relative_to(outputs)), done, len(runs) - done, seconds, said))
    return groups


def read_courses(outputs: Path) -> dict[Path, Course]:
    """By its folder, what each finished run below a folder took; of those that trained, debug runs left out."""
    courses = {}
    for path in sorted(outputs.rglob(records.METRICS)):
        record = records.read_record(path.parent)
        epochs = record["selected"].get("epochs")
        if epochs and record.get("seconds") and not record.get("debug"):
            choices = (record["data"], record["model"], record["penalty"])
            courses[path.parent] = Course(choices, epochs, record["seconds"] / epochs)
    return courses


def find_alike(choices: tuple[str, str, str], courses: Sequence[Course]) -> tuple[list[Course], str]:
    """The records that share the most of data, model and penalty, and what they share."""
    for shared, words in zip((3, 2, 1), SHARED, strict=True):
        alike = [course for course in courses if course.choices[:shared] == choices[:shared]]
        if alike:
            return alike, f"of the same {words}"
    return [], ""


def render_forecast(groups: Sequence[Group], at_once: int) -> str:
    """A line for each group, then the sum.

    at_once: runs at a time
    """
    width = max(len(group.name) for group in groups)
    lines = [f"{'':<{width}}   done missing   a run takes"]
    for group in groups:
        takes = f"{format_duration(group.seconds)} ({group.source})" if group.seconds is not None else f"? ({group.source})"
        lines.append(f"{group.name:<{width}} {group.done:>6} {group.missing:>7}   {takes}")
    done, missing = sum(group.done for group in groups), sum(group.missing for group in groups)
    unknown = sum(group.missing for group in groups if group.seconds is None)
    total = sum(group.missing * group.seconds for group in groups if group.seconds is not None)
    lines.append(f"{done + missing} runs: {done} done, {missing} missing")
    if missing > unknown:
        lines.append(
            f"expected: {format_duration(total)} of machine time, {format_duration(total / at_once)} with {at_once} at a time"
        )
    if unknown:
        lines.append(f"of {unknown} runs nothing is known: one of their data, run first, tells how long they take")
    return "\n".join(lines)


def format_duration(seconds: float) -> str:
    """Seconds, minutes or hours.

    >>> format_duration(42.3), format_duration(720), format_duration(9000)
    ('42 s', '12 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
