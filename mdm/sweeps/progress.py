"""How far a sweep is, read from the folders of its runs."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mdm.runs import records
from mdm.sweeps.attempt import LOG
from mdm.sweeps.plan import PlannedRun

log = logging.getLogger("sweep")
"""Not below the package's, whose messages are those of a run and go into its folder."""


def read_state(folder: Path, since: float = 0.0) -> str:
    """``finished``, ``failed``, ``running`` (its log was opened after ``since``; it may also have been killed) or ``left``."""
    if (folder / records.METRICS).is_file():
        return "finished"
    if (folder / records.ERROR).is_file():
        return "failed"
    opened = folder / LOG
    return "running" if opened.is_file() and opened.stat().st_mtime >= since > 0 else "left"


@contextlib.contextmanager
def show_progress(todo: Sequence[PlannedRun], every: float = 1.0, quiet_for: float = 15.0) -> Iterator[None]:
    """Show how far a sweep is while the block runs: a bar on a terminal, else a line when something changed, now and then."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    started, ended = time.time(), threading.Event()
    # Errors of an earlier attempt are not those of this one.
    for run in todo:
        (run.folder / records.ERROR).unlink(missing_ok=True)

    def counts() -> dict[str, int]:
        states = [read_state(run.folder, started) for run in todo]
        return {name: states.count(name) for name in ("finished", "running", "failed", "left")}

    def watch() -> None:
        console = Console(stderr=True)
        bar = Progress(BarColumn(), TextColumn("{task.description}"), console=console, disable=not console.is_terminal)
        with bar:
            task, last = bar.add_task("", total=len(todo)), 0.0
            said: dict[str, int] = {}
            while True:
                stop = ended.wait(every)
                now = counts()
                text = format_progress(now, time.time() - started)
                bar.update(task, completed=now["finished"] + now["failed"], description=text)
                if not console.is_terminal and now != said and (stop or time.time() - last > quiet_for):
                    log.info("%s", text)
                    said, last = now, time.time()
                if stop:
                    return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def format_progress(counts: dict[str, int], seconds: float) -> str:
    """``3 done, 2 running, 0 failed, 75 left, about 12 min, until 14:05``; the rest is taken to be as long as what is done."""
    over = counts["finished"] + counts["failed"]
    text = f"{counts['finished']} done, {counts['running']} running, {counts['failed']} failed, {counts['left']} left"
    remaining = counts["left"] + counts["running"]
    if not over or not remaining:
        return text
    left = seconds / over * remaining
    text += f", about {left / 3600:.1f} h" if left >= 5400 else f", about {max(1, round(left / 60))} min"
    end = time.localtime(time.time() + left)
    return f"{text}, until {time.strftime('%H:%M' if left < 43200 else '%a %H:%M', end)}"
