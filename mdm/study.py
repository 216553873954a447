"""After runs: what scripts share that make tables, figures and pages of an experiment's runs.

From the command line of a sweep to its finished runs, and from a drawing to its files. But for `command`, Hydra must have the
configs already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import hydra
import joblib
import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track
from threadpoolctl import threadpool_limits

from mdm import records
from mdm.boundary import several
from mdm.compose import configured, search_path_as_arguments, take_search_path
from mdm.config import check, plain
from mdm.experiment import Cell, Table, cells, read_arguments, table_of
from mdm.naming import folder_of
from mdm.run import quiet
from mdm.statistics import mean_interval
from mdm.tables.gather import Gathered, Run, gather, mixtures, refuse, without_mixed
from mdm.workers import pool

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("0.35", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""A grey, then Okabe and Ito's, which people of any colour vision tell apart."""

MOST_JOBS = 512

Measured = TypeVar("Measured")


@dataclass(frozen=True)
class Study:
    """An experiment as its command line declares it, and what there is of its runs.

    gathered: every cell and its runs; differing: what is mixed among records and was allowed, a line each
    """

    cfg: DictConfig
    table: Table
    gathered: list[Gathered]
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

    def folder(self, kind: str) -> Path:
        """The folder of one kind of study, made if it is not there."""
        folder = self.outputs / kind
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def command(arguments: list[str], doc: str | None, work: Callable[[list[str], bool], None]) -> None:
    """A command line: its docstring for --help, else ``work(overrides, mixed)`` where Hydra has the configs of its search path."""
    if {"-h", "--help"} & set(arguments):
        print(doc)
        return
    quiet()
    given, path = take_search_path(arguments)
    overrides, mixed = without_mixed(given)
    with configured(path):
        work(overrides, mixed)


def composed(arguments: list[str]) -> DictConfig:
    """The config of an experiment, of which ``table`` and the sections beside it are read."""
    given = read_arguments(arguments)
    # Where a model or data set is chosen, other overrides may be of keys that only these have.
    choices = {**given.chosen, **({"data": given.data} if given.data else {})}
    first = [f"{key}={values[0]}" for key, values in choices.items()]
    cfg = hydra.compose("train", [*given.experiment, *first, *given.others])
    if given.judged and "table" not in cfg:
        raise ValueError(f"{' and '.join(given.judged)} say how a table is judged, but {cfg.name} has no table; leave them out.")
    for key, value in given.judged.items():
        OmegaConf.update(cfg, key, value, force_add=True)
    return cfg


def kind_of(cfg: DictConfig) -> str:
    """What an experiment's section ``study`` is of, "none" if it has no such section."""
    study = cfg.get("study")
    return str(study.get("kind")) if isinstance(study, DictConfig) else "none"


def declared(arguments: list[str], mixed: bool) -> Study:
    """An experiment with its runs, finished or not.

    Raises ValueError where the declaration, the command line or the records break a contract, as records do that differ in code,
    libraries, data or settings, unless ``mixed``.
    """
    cfg = composed(arguments)
    table = table_of(cfg)
    gathered = gather(cells(table, arguments), placed)
    differing = mixtures(gathered)
    if not mixed:
        refuse(differing, gathered)
    return Study(cfg, table, gathered, differing)


def placed(overrides: list[str]) -> tuple[Path, dict[str, Any]]:
    """A run's folder and config by its overrides; raises ValueError where `mdm.config.check` does."""
    cfg = hydra.compose("train", overrides)
    check(cfg)
    return folder_of(cfg, overrides), plain(cfg, resolve=False)


def finished_runs(arguments: list[str], mixed: bool, loaded: bool = False) -> Study:
    """`declared`; raises ValueError as well if no run has finished.

    loaded: whether their models will be, so that every file of every run is verified first, and all that are damaged are named
    """
    study = declared(arguments, mixed)
    damaged = [problem for _, run in study.runs if loaded for problem in records.problems(run.folder)]
    if damaged:
        raise ValueError(several(damaged))
    if not study.runs:
        given = " ".join([*arguments, *search_path_as_arguments()])
        raise ValueError(f"Finished runs are studied, but of {study.cfg.name} none has finished; run `mdm train -m {given}` first.")
    return study


def without_jobs(arguments: Sequence[str]) -> tuple[list[str], int]:
    """A script's arguments without ``jobs=…``, and how many runs it reads at once: 1 where they do not say.

    Raises ValueError unless it is a whole number above 0.
    """
    said = [argument for argument in arguments if argument.startswith("jobs=")]
    jobs = said[-1].removeprefix("jobs=") if said else "1"
    if not (jobs.isascii() and jobs.isdecimal() and 1 <= int(jobs[:6]) <= MOST_JOBS):
        raise ValueError(f"jobs is a number of processes, 1 to {MOST_JOBS}, but jobs={jobs} came; correct it.")
    return [argument for argument in arguments if argument not in said], int(jobs)


def alone(arguments: Sequence[str], advice: str) -> Path | None:
    """The run that a script is to read by itself, as ``folder=…`` says; None if it is an experiment that is read.

    Raises ValueError if it is named beside anything else, and if there is no such folder.
    """
    said = [argument.removeprefix("folder=") for argument in arguments if argument.startswith("folder=")]
    if not said:
        return None
    if len(arguments) > 1 or not Path(said[0]).is_dir() or not said[0]:
        raise ValueError(f"{advice}, but {' '.join(arguments)} came; name one experiment, or one folder that is there.")
    return Path(said[0])


def of_each(measured: Callable[..., Measured], calls: Sequence[tuple[Any, ...]], jobs: int, title: str) -> list[Measured]:
    """What ``measured`` gives for the arguments of each call, so many at once, with a progress bar.

    Each on one thread, so that numbers do not depend on how many.
    """

    found = pool(jobs, return_as="generator")(joblib.delayed(on_one_thread)(measured, arguments) for arguments in calls)
    return list(track(found, title, len(calls), console=Console(stderr=True)))


def on_one_thread(measured: Callable[..., Measured], arguments: tuple[Any, ...]) -> Measured:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):  # of NumPy and scikit-learn
            return measured(*arguments)
    finally:
        torch.set_num_threads(before)


def mean_and_interval(values: Iterable[float], digits: int = 3) -> str:
    """Mean and 95 % t interval over seeds, as text: without the interval for one value, a dash where a seed has no value."""
    x = np.array(list(values), dtype=np.float64)
    if not len(x) or not np.isfinite(x).all():
        return "–"
    low, high = mean_interval(x)
    return f"{x.mean():.{digits}f}" + ("" if np.isnan(low) else f" [{low:.{digits}f}, {high:.{digits}f}]")


def piped(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose first line is its head."""
    head, *rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join([head, "|---" * len(lines[0]) + "|", *rows])


def write_figure(folder: Path, draw: Callable[[], Figure]) -> None:
    """What ``draw`` draws, as figure.pdf, which is the same to the byte each time, and figure.png."""
    import matplotlib  # not everybody has it

    # TrueType fonts, so that the text of a PDF can be edited and searched.
    with matplotlib.rc_context({"pdf.fonttype": 42, "font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = draw()
        figure.savefig(folder / "figure.pdf", metadata={"CreationDate": None})
        figure.savefig(folder / "figure.png", dpi=200)
