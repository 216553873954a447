"""After runs: from a sweep's command line to its finished runs, for whatever makes tables, studies and pages of them.

Hydra must have the configs already, except for `run_with_configs` and `read_folder`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import hydra
import joblib
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track
from threadpoolctl import threadpool_limits

from mdm.boundary import join_errors
from mdm.compose import format_search_path, take_search_path, use_configs
from mdm.runs import records
from mdm.runs.config import check, to_plain
from mdm.runs.naming import record_folder
from mdm.runs.remarks import silence_remarks
from mdm.sweeps.experiment import Cell, Row, Table, has_table, list_cells, parse_table, read_arguments
from mdm.tables.gather import CellRuns, Run, find_mixtures, gather_runs, refuse_mixtures, take_mixed
from mdm.workers import open_pool

MOST_JOBS = 512

Measured = TypeVar("Measured")


@dataclass(frozen=True)
class Experiment:
    """An experiment as its command line declares it, and its runs as far as they exist.

    table: without rows where it has no runs; gathered: every cell and its runs
    differing: what is mixed among records and was allowed, a line each
    """

    cfg: DictConfig
    table: Table
    gathered: list[CellRuns]
    differing: list[str]

    @property
    def runs(self) -> list[tuple[Cell, Run]]:
        """Those that finished."""
        return [(found.cell, run) for found in self.gathered for run in found.finished.values()]

    @property
    def notes(self) -> list[str]:
        """What a reader must know of the runs: how many are not there, and what is mixed."""
        missing = sum(len(found.runs) for found in self.gathered) - len(self.runs)
        return [f"{missing} runs have not finished and are left out."] * bool(missing) + [f"Mixed: {d}." for d in self.differing]

    @property
    def outputs(self) -> Path:
        """Where what is made of the runs goes."""
        return Path(self.cfg.paths.outputs) / self.cfg.name


def run_with_configs(arguments: list[str], doc: str | None, work: Callable[[list[str], bool], None]) -> None:
    """A command line: its docstring for --help, else ``work(overrides, mixed)`` where Hydra has the configs of its search path."""
    if {"-h", "--help"} & set(arguments):
        print(doc)
        return
    silence_remarks()
    given, path = take_search_path(arguments)
    overrides, mixed = take_mixed(given)
    with use_configs(path):
        work(overrides, mixed)


def compose_experiment(arguments: list[str]) -> DictConfig:
    """The config of an experiment, of which ``table`` and the sections beside it are read."""
    given = read_arguments(arguments)
    # Where a model or data set is chosen, other overrides may be of keys that only these have.
    choices = {**given.chosen, **({"data": given.data} if given.data else {})}
    first = [f"{key}={values[0]}" for key, values in choices.items()]
    cfg = hydra.compose("train", [*given.experiment, *first, *given.others, *given.judged])
    has_table(cfg)  # if the command line says how it is judged
    return cfg


def read_experiment(arguments: list[str], mixed: bool) -> Experiment:
    """An experiment with its runs, finished or not.

    Raises ValueError where the declaration, the command line or the records break a contract, as records do that differ in code,
    libraries, data or settings, unless ``mixed``.
    """
    cfg = compose_experiment(arguments)
    table = parse_table(cfg)
    gathered = gather_runs(list_cells(table, arguments), locate_run)
    differing = find_mixtures(gathered)
    if not mixed:
        refuse_mixtures(differing, gathered)
    return Experiment(cfg, table, gathered, differing)


def locate_run(overrides: list[str]) -> tuple[Path, dict[str, Any]]:
    """A run's folder and config by its overrides; raises ValueError where `mdm.runs.config.check` does."""
    cfg = compose_run(overrides)
    return record_folder(cfg, overrides), to_plain(cfg, resolve=False)


def compose_run(overrides: list[str]) -> DictConfig:
    """A run's config by its overrides; raises ValueError where `mdm.runs.config.check` does."""
    cfg = hydra.compose("train", overrides)
    check(cfg)
    return cfg


def read_finished(arguments: list[str], mixed: bool, loaded: bool = False) -> Experiment:
    """`read_experiment`; raises ValueError as well if no run has finished.

    loaded: whether their models will be, so that every file of every run is verified first, and all that are damaged are named
    """
    found = read_experiment(arguments, mixed)
    damaged = [problem for _, run in found.runs if loaded for problem in records.find_problems(run.folder)]
    if damaged:
        raise ValueError(join_errors(damaged))
    if not found.runs:
        given = " ".join([*arguments, *format_search_path()])
        raise ValueError(f"A study needs finished runs, but {found.cfg.name} has none; run `mdm train -m {given}` first.")
    return found


def take_jobs(arguments: Sequence[str]) -> tuple[list[str], int]:
    """A script's arguments without ``jobs=…``, and how many runs it reads at once: 1 where they do not say.

    Raises ValueError unless it is a whole number above 0.
    """
    said = [argument for argument in arguments if argument.startswith("jobs=")]
    jobs = said[-1].removeprefix("jobs=") if said else "1"
    if not (jobs.isascii() and jobs.isdecimal() and 1 <= int(jobs[:6]) <= MOST_JOBS):
        raise ValueError(f"jobs is a number of processes, 1 to {MOST_JOBS}, got jobs={jobs}; correct it.")
    return [argument for argument in arguments if argument not in said], int(jobs)


def read_folder(folder: Path) -> Experiment:
    """One finished run by itself, as an experiment whose table has a row of one seed.

    Raises ValueError if none has finished there.
    """
    record = records.read_record(folder)
    row, data, seed = record["penalty"], record["data"], record["seed"]
    label = f"{record['model']} · {row}"
    table = Table(f"{label} on {data}", 1, {data: data}, {data: {}}, {}, {row: Row(row, label, run=())})
    cfg = OmegaConf.create({"name": folder.name, "paths": {"outputs": str(folder.parent)}})
    run = Run(seed, folder, "finished", record)
    return Experiment(cfg, table, [CellRuns(Cell(row, data, (), (seed,)), (run,))], [])


def call_each(function: Callable[..., Measured], calls: Sequence[tuple[Any, ...]], jobs: int, title: str) -> Iterator[Measured]:
    """What a function gives for the arguments of each call, in their order, so many at once, with a progress bar.

    Each on one thread, so that numbers do not depend on how many.
    """
    found = open_pool(jobs, return_as="generator")(joblib.delayed(call_on_one_thread)(function, arguments) for arguments in calls)
    yield from track(found, title, len(calls), console=Console(stderr=True))


def call_on_one_thread(function: Callable[..., Measured], arguments: tuple[Any, ...]) -> Measured:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):  # of NumPy and scikit-learn
            return function(*arguments)
    finally:
        torch.set_num_threads(before)
