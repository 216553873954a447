"""Many runs: what is missing of an experiment or a grid, through any of Hydra's launchers.

Before anything starts, every run is composed and its folder examined: finished ones are left out, a record of another config stops
the sweep. Each run then leaves ``run.log`` and, if it fails, ``error.txt`` with the traceback, and does not stop the others. What a
sweep says at its end is read from the folders, so it is true for every launcher, and after a kill.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob
from omegaconf import DictConfig, OmegaConf

from mdm.boundary import explained, in_line
from mdm.ownership import in_use
from mdm.runs import records
from mdm.runs.config import check
from mdm.runs.protocol import build_splits, check_select, place, tidy
from mdm.sweeps.attempt import LOG, packed_task
from mdm.sweeps.experiment import cells, table_of
from mdm.sweeps.search import search_cells
from mdm.types import DataSpec
from mdm.workers import as_parent

log = logging.getLogger("sweep")
"""Not below the package's, whose messages are those of a run and go into its folder."""

Composer = Callable[[list[str]], DictConfig]
"""Overrides → a run's config."""
Launch = Callable[[list[list[str]]], Any]
"""Overrides of runs → Hydra's account of each, once all have been tried."""


@dataclass(frozen=True)
class Planned:
    """A run of a sweep: its overrides, its folder, and what that holds (`mdm.runs.records.examine`)."""

    overrides: list[str]
    folder: Path
    found: str


# ---- plan


def wanted(cfg: DictConfig, arguments: Sequence[str]) -> list[list[str]]:
    """The overrides of every run that a command line asks for: an experiment's cells, or the product of what is swept.

    Raises ValueError where `mdm.sweeps.experiment.cells` and `mdm.sweeps.search.search_cells` do, on a sweep that is no list of
    values, and on a seed that is no whole number.
    """
    if "table" in cfg:
        return [run for cell in cells(table_of(cfg), arguments) for run in cell.runs()]
    if "search" in cfg:
        return [run for cell in search_cells(cfg, arguments) for run in cell.runs()]
    values: dict[str, list[str]] = {}
    for given in OverridesParser.create().parse_overrides(list(arguments)):
        key = given.get_key_element()
        if given.is_sweep_override() and not given.is_discrete_sweep():
            raise ValueError(f"A grid is made of lists of values, but {given.input_line} came; use choice(…) or range(…).")
        swept = given.is_sweep_override()
        if key == "experiment" and swept:
            raise ValueError(f"One experiment is run at a time, but {given.input_line} came; give the command once for each.")
        if isinstance(given.value(), Glob):
            raise ValueError(f"A grid is made of lists of values, but {given.input_line} came; name the options, as penalty=kl,f.")
        values[key] = [f"{key}={value}" for value in given.sweep_string_iterator()] if swept else [str(given.input_line)]
        if key == "seed" and not all(value.removeprefix("seed=").isdecimal() for value in values[key]):
            raise ValueError(f"Seeds are whole numbers, but {given.input_line} came; use seed='range(10)', say.")
    empty = [key for key, chosen in values.items() if not chosen]
    if empty:
        raise ValueError(f"A grid has at least one value of each key, but {', '.join(empty)} has none; use seed='range(10)', say.")
    return [list(run) for run in product(*values.values())]


def plan(runs: Sequence[list[str]], composer: Composer) -> list[Planned]:
    """Where every run belongs and what is there already; nothing is written.

    Raises ValueError if a config or its data break a contract, if a folder holds a record of another config, and if two runs would
    share a folder.
    """
    sets: dict[str, tuple[str, DataSpec]] = {}
    configs: dict[tuple[str, ...], DictConfig] = {}
    planned: dict[Path, Planned] = {}
    for overrides in runs:
        seed = next((o.removeprefix("seed=") for o in overrides if o.startswith("seed=")), None)
        others = tuple(o for o in overrides if not o.startswith("seed="))
        if others not in configs:
            configs[others] = composer(overrides)
        cfg = configs[others].copy()
        if seed is not None:
            cfg.seed = int(seed)
        check(cfg)
        of_data = OmegaConf.to_yaml(cfg.data, resolve=True)
        if of_data not in sets:
            splits = build_splits(cfg)
            sets[of_data] = splits.segments.card_hash, splits.spec
        card, spec = sets[of_data]
        check_select(cfg.trainer.select, spec)
        folder, _, found = place(cfg, overrides, card)
        if folder in planned:
            raise ValueError(
                f"Every run of a sweep has a folder of its own, but two have {folder}: {' '.join(planned[folder].overrides)} and "
                f"{' '.join(overrides)}; remove one."
            )
        planned[folder] = Planned(overrides, folder, found)
    return list(planned.values())


def sweep(
    cfg: DictConfig,
    arguments: Sequence[str],
    composer: Composer,
    launch: Launch,
    runs_per_task: int = 1,
    at_once: int = 1,
) -> list[Planned]:
    """Run what is missing; say what is there in the end.

    launch: lists of overrides → runs them, in any way and order
    runs_per_task, at_once: runs that one task of the launcher does, and how many of them at a time

    Exits with status 1, after everything has been tried, if a run failed or did not finish. Raises ValueError where `wanted` and
    `plan` do, before anything starts, and if the numbers are not positive.
    """
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in (runs_per_task, at_once))
    if not whole or runs_per_task < 1 or not 1 <= at_once <= runs_per_task:
        raise ValueError(
            f"A task does at least one run, and at most all of its runs at once, but runs_per_task={runs_per_task} and "
            f"at_once={at_once} came; set hydra.sweeper."
        )
    planned = plan(wanted(cfg, arguments), composer)
    began = time.time()
    todo = [run for run in planned if run.found != "finished"]
    broken = sum(run.found == "broken" for run in todo)
    log.info("%d runs: %d finished already, %d to do (%d to resume)", len(planned), len(planned) - len(todo), len(todo), broken)
    for run in planned:
        if run.found == "finished":
            tidy(run.folder)
    if todo:
        with watched(todo):
            run_all(todo, launch, lambda jobs: tasks(jobs, runs_per_task, at_once) if runs_per_task > 1 else jobs)
    report(planned, began)
    return planned


TRIES = 3
"""Times that a run is begun in a pool whose workers are killed, before it counts as what kills them."""


def run_all(todo: Sequence[Planned], launch: Launch, packed: Callable[[list[list[str]]], list[list[str]]]) -> None:
    """Launch what nobody else is at; wait for what another sweep or job is at, and take it over if that one dies.

    A pool that one killed worker has broken is opened again for the rest.
    """
    tries = Counter[Path]()
    open_runs = list(todo)
    while open_runs:
        busy = [run for run in open_runs if in_use(run.folder)]
        free = [run for run in open_runs if run not in busy]
        again = False
        if free:
            now = time.time()
            again = launched(launch, packed([run.overrides for run in free]))
            tries.update(run.folder for run in free if state(run.folder, now) == "running")
        left = [run for run in open_runs if state(run.folder) not in ("finished", "failed")]
        waiting = [run for run in left if in_use(run.folder)]
        rest = [run for run in left if run not in waiting and (run in busy or (again and tries[run.folder] < TRIES))]
        if waiting and not rest:
            log.info("waiting for %d runs of others, first %s (%s)", len(waiting), waiting[0].folder, in_use(waiting[0].folder))
            while not rest and waiting:
                time.sleep(1)
                waiting = [run for run in waiting if state(run.folder) not in ("finished", "failed")]
                rest = [run for run in waiting if in_use(run.folder) is None]
                rest = [run for run in rest if state(run.folder) not in ("finished", "failed")]
        open_runs = [*rest, *(run for run in waiting if run not in rest)]


def launched(launch: Launch, jobs: list[list[str]]) -> bool:
    """Whether the launcher's pool broke and is worth another try. What failed outside of a run is said."""
    as_parent()
    try:
        returns = launch(jobs) or ()
    except BrokenProcessPool as error:
        log.error("a worker was killed, and its pool with it: %s", str(error).splitlines()[0])
        return True
    except Exception as error:  # the folders say which runs are missing; what the launcher has to say must not hide that
        log.error("the launcher failed (hydra/launcher, hydra.launcher): %s", foreign(error))
        return False
    broken = False
    for one in returns:
        try:
            _ = one.return_value  # raises what the job raised
        except Exception as error:
            broken |= isinstance(error, BrokenProcessPool)
            log.error("a job failed outside of its run: %s", foreign(error))
    return broken


def foreign(error: BaseException) -> str:
    """What a launcher raised, which need be no mistake of ours."""
    return explained(error) or f"{type(error).__name__}: {in_line(str(error))}"


def tasks(jobs: Sequence[list[str]], runs_per_task: int, at_once: int) -> list[list[str]]:
    """Several runs for each task of a launcher, which passes on overrides and nothing else: one of them holds the task's runs."""
    chunks = [jobs[i : i + runs_per_task] for i in range(0, len(jobs), runs_per_task)]
    return [[*chunk[0], f"+task={packed_task(chunk, at_once)}"] for chunk in chunks]


def report(planned: Sequence[Planned], since: float) -> None:
    """Say what is finished and what is not, and why; exit with status 1 unless all is.

    A launcher may give up while others of its jobs go on: submitit does when one is cancelled.
    """
    states = {run.folder: state(run.folder, since) for run in planned}
    missing = [run for run in planned if states[run.folder] != "finished"]
    log.info("%d of %d runs are finished", len(planned) - len(missing), len(planned))
    for run in missing:
        error = run.folder / records.ERROR
        failed = states[run.folder] == "failed"
        owner = None if failed else in_use(run.folder)
        begun = "began and ended without a word, as a killed process does" if states[run.folder] == "running" else "did not begin"
        why = records.read_error(run.folder) if failed else f"goes on in {owner}" if owner else begun
        log.error("%s\n    %s", error if failed else run.folder, why)
    if missing:
        raise SystemExit(1)


def state(folder: Path, since: float = 0.0) -> str:
    """finished, failed, running (its log was opened after ``since``, so it may also have been killed) or left."""
    if (folder / records.METRICS).is_file():
        return "finished"
    if (folder / records.ERROR).is_file():
        return "failed"
    opened = folder / LOG
    return "running" if opened.is_file() and opened.stat().st_mtime >= since > 0 else "left"


# ---- progress


@contextlib.contextmanager
def watched(todo: Sequence[Planned], every: float = 1.0, quiet_for: float = 15.0) -> Iterator[None]:
    """Show how far a sweep is while the block runs: a bar on a terminal, else a line when something changed, now and then."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    started, ended = time.time(), threading.Event()
    # Errors of an earlier attempt are not those of this one.
    for run in todo:
        (run.folder / records.ERROR).unlink(missing_ok=True)

    def counts() -> dict[str, int]:
        states = [state(run.folder, started) for run in todo]
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
                text = told(now, time.time() - started)
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


def told(counts: dict[str, int], seconds: float) -> str:
    """``3 done, 2 running, 0 failed, 75 left, about 12 min``; the estimate supposes that the rest takes as long as what is done."""
    over = counts["finished"] + counts["failed"]
    text = f"{counts['finished']} done, {counts['running']} running, {counts['failed']} failed, {counts['left']} left"
    remaining = counts["left"] + counts["running"]
    if not over or not remaining:
        return text
    left = seconds / over * remaining
    return f"{text}, about {left / 3600:.1f} h" if left >= 5400 else f"{text}, about {max(1, round(left / 60))} min"
