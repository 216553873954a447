"""Many runs: those that an experiment or a grid still lacks, through any of Hydra's launchers.

Before anything starts, every run is composed and its folder examined: finished ones are left out, a record of another config stops
the sweep. Each run then leaves ``run.log`` and, if it fails, ``error.txt`` with the traceback, and does not stop the others. What a
sweep says at its end is read from the folders, so it is true for every launcher, and after a kill.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mdm.boundary import explain_error, join_lines
from mdm.ownership import find_owner
from mdm.runs import records
from mdm.runs.folder import tidy
from mdm.sweeps.attempt import pack_task
from mdm.sweeps.forecast import list_groups, render_forecast
from mdm.sweeps.plan import Composer, PlannedRun, list_wanted, plan
from mdm.sweeps.progress import read_state, show_progress
from mdm.workers import announce_parent

log = logging.getLogger("sweep")
"""Not below the package's, whose messages are those of a run and go into its folder."""

Launch = Callable[[list[list[str]]], Any]
"""Overrides of runs → Hydra's account of each, once all have been tried."""


def sweep(
    cfg: DictConfig,
    arguments: Sequence[str],
    composer: Composer,
    launch: Launch,
    runs_per_task: int = 1,
    at_once: int = 1,
    path: Sequence[str] = (),
    dry_run: bool = False,
    parallel: int = 1,
) -> list[PlannedRun]:
    """Run what is missing, then report what is finished.

    launch: lists of overrides → runs them, in any way and order
    runs_per_task, at_once: runs that one task of the launcher does, and how many of them at a time
    path: where else than in our configs a task looks for its runs' (`mdm.compose`)
    dry_run: print what there is to do and how long it takes (`mdm.sweeps.forecast`), and start nothing
    parallel: tasks that the launcher does at a time

    Exits with status 1, after everything has been tried, if a run failed or did not finish. Raises ValueError, before anything
    starts, where `list_wanted` and `plan` do, and if the numbers are not positive.
    """
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in (runs_per_task, at_once))
    if not whole or runs_per_task < 1 or not 1 <= at_once <= runs_per_task:
        raise ValueError(
            f"A task does at least one run, and at most all of its runs at once, got runs_per_task={runs_per_task} and "
            f"at_once={at_once}; set hydra.sweeper."
        )
    planned = plan(list_wanted(cfg, arguments), composer)
    if dry_run:
        print(render_forecast(list_groups(planned, Path(cfg.paths.outputs)), parallel * at_once))
        return planned
    began = time.time()
    todo = [run for run in planned if run.found != "finished"]
    broken = sum(run.found == "broken" for run in todo)
    log.info("%d runs: %d finished already, %d to do (%d to resume)", len(planned), len(planned) - len(todo), len(todo), broken)
    for run in planned:
        if run.found == "finished":
            tidy(run.folder)
    if todo:
        with show_progress(todo):
            run_all(todo, launch, lambda jobs: pack_tasks(jobs, runs_per_task, at_once, path) if runs_per_task > 1 else jobs)
    report(planned, began)
    return planned


TRIES = 3
"""How often a run is begun in a pool whose workers are killed, before the run itself counts as the cause."""


def run_all(todo: Sequence[PlannedRun], launch: Launch, pack: Callable[[list[list[str]]], list[list[str]]]) -> None:
    """Launch the runs that nobody else works on; wait for those of another sweep or job, and take them over if it dies.

    A pool that one killed worker has broken is opened again for the rest.
    """
    tries = Counter[Path]()
    open_runs = list(todo)
    while open_runs:
        busy = [run for run in open_runs if find_owner(run.folder)]
        free = [run for run in open_runs if run not in busy]
        again = False
        if free:
            now = time.time()
            again = launch_jobs(launch, pack([run.overrides for run in free]))
            tries.update(run.folder for run in free if read_state(run.folder, now) == "running")
        left = [run for run in open_runs if read_state(run.folder) not in ("finished", "failed")]
        waiting = [run for run in left if find_owner(run.folder)]
        rest = [run for run in left if run not in waiting and (run in busy or (again and tries[run.folder] < TRIES))]
        if waiting and not rest:
            log.info("waiting for %d runs of others, first %s (%s)", len(waiting), waiting[0].folder, find_owner(waiting[0].folder))
            while not rest and waiting:
                time.sleep(1)
                waiting = [run for run in waiting if read_state(run.folder) not in ("finished", "failed")]
                rest = [run for run in waiting if find_owner(run.folder) is None]
                rest = [run for run in rest if read_state(run.folder) not in ("finished", "failed")]
        open_runs = [*rest, *(run for run in waiting if run not in rest)]


def launch_jobs(launch: Launch, jobs: list[list[str]]) -> bool:
    """Launch jobs; return whether the launcher's pool broke and is worth another try. Failures outside a run are logged."""
    announce_parent()
    try:
        returns = launch(jobs) or ()
    except BrokenProcessPool as error:
        log.error("a worker was killed, and its pool with it: %s", str(error).splitlines()[0])
        return True
    except Exception as error:  # the folders say which runs are missing; what the launcher has to say must not hide that
        log.error("the launcher failed (hydra/launcher, hydra.launcher): %s", explain_foreign(error))
        return False
    broken = False
    for one in returns:
        try:
            _ = one.return_value  # raises what the job raised
        except Exception as error:
            broken |= isinstance(error, BrokenProcessPool)
            log.error("a job failed outside of its run: %s", explain_foreign(error))
    return broken


def explain_foreign(error: BaseException) -> str:
    """What a launcher raised; it need not be our mistake."""
    return explain_error(error) or f"{type(error).__name__}: {join_lines(str(error))}"


def pack_tasks(jobs: Sequence[list[str]], runs_per_task: int, at_once: int, path: Sequence[str] = ()) -> list[list[str]]:
    """Several runs for each task of a launcher, which passes on overrides and nothing else: one of them holds the task's runs."""
    chunks = [jobs[i : i + runs_per_task] for i in range(0, len(jobs), runs_per_task)]
    return [[*chunk[0], f"+task={pack_task(chunk, at_once, path)}"] for chunk in chunks]


def report(planned: Sequence[PlannedRun], since: float) -> None:
    """Say what is finished and what is not, and why; exit with status 1 unless all is.

    A launcher may give up while others of its jobs go on: submitit does when one is cancelled.
    """
    states = {run.folder: read_state(run.folder, since) for run in planned}
    missing = [run for run in planned if states[run.folder] != "finished"]
    log.info("%d of %d runs are finished", len(planned) - len(missing), len(planned))
    for run in missing:
        error = run.folder / records.ERROR
        failed = states[run.folder] == "failed"
        owner = None if failed else find_owner(run.folder)
        begun = "began and ended without a word, as a killed process does" if states[run.folder] == "running" else "did not begin"
        why = records.read_error(run.folder) if failed else f"goes on in {owner}" if owner else begun
        log.error("%s\n    %s", error if failed else run.folder, why)
    if missing:
        raise SystemExit(1)
