"""What a study is: it measures finished runs one by one, then summarises and draws the result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import pandas as pd
from matplotlib.figure import Figure

from mdm.study import Experiment
from mdm.tables.wording import DATASETS

Rows = list[dict[str, Any]]
Tables = Mapping[str, Rows]
"""Name of a table → its rows."""


@dataclass(frozen=True)
class StudyRun:
    """A finished run: the data and the row of its table, what the row is called, and its folder; first: of the row's seeds."""

    data: str
    row: str
    label: str
    seed: int
    folder: Path
    first: bool = False

    @property
    def keys(self) -> dict[str, Any]:
        """What a row of numbers says of its run."""
        return {"data": self.data, "row": self.row, "label": self.label, "seed": self.seed}


@dataclass(frozen=True)
class Frames:
    """All that was measured, table by table, with what the experiment declares of the rows.

    labels: row → what it is called; baselines: row → the row that it is compared with, where it has one
    notes: what a reader must know of the runs, a sentence each
    """

    tables: Mapping[str, pd.DataFrame]
    experiment: Experiment
    title: str

    def __getitem__(self, name: str) -> pd.DataFrame:
        return self.tables[name]

    @property
    def labels(self) -> dict[str, str]:
        return {name: row.label for name, row in self.experiment.table.rows.items()}

    @property
    def baselines(self) -> dict[str, str]:
        rows = self.experiment.table.rows
        return {name: row.baseline for name, row in rows.items() if row.baseline}

    @property
    def data_names(self) -> dict[str, str]:
        """Config of data → what a picture calls it: ``CMU-MOSI``, or ``stand-in for CMU-MOSI``; by its own name what is neither."""
        sets = self.experiment.table.data
        return {data: DATASETS.get(of, of) if data == of else f"stand-in for {DATASETS.get(of, of)}" for data, of in sets.items()}

    @property
    def notes(self) -> list[str]:
        return self.experiment.notes


class Study(ABC):
    """Measures runs, then summarises and draws the result. Its arguments are the keys of an experiment's section ``study``.

        class Length(Study):
            '''How many epochs a run had.'''

            def measure(self, run):
                return {"epochs": [{**run.keys, "epochs": len(records.read_table(run.folder, records.CURVE))}]}

            def summary(self, frames):
                return f"# {frames.title}\\n\\n{frames['epochs'].epochs.mean():.1f} epochs.\\n"

            def figure(self, frames):
                figure = Figure()
                figure.subplots().hist(frames["epochs"].epochs)
                return figure

    The file ``mdm/studies/length.py`` with this class and ``configs/study/length.yaml``, which names it by its ``_target_``, are
    all that `mdm study study=length experiment=…` needs.

    title: of summary and picture; None: the table's

    reads: what is verified before anything is measured: every file of the runs, their records, or nothing where there are no runs
    keeps: whether tables are written after each run, for studies that take hours; otherwise once, after the last
    unwritten: tables that are drawn and not written
    """

    title: str | None = None
    reads: ClassVar[Literal["models", "records", "nothing"]] = "models"
    keeps: ClassVar[bool] = False
    unwritten: ClassVar[tuple[str, ...]] = ()

    def plan(self, experiment: Experiment) -> Sequence[Any]:
        """What is measured, one by one: the finished runs."""
        first: dict[tuple[str, str], int] = {}
        runs = []
        for cell, run in experiment.runs:
            one = first.setdefault((cell.data, cell.row), run.seed) == run.seed
            runs.append(StudyRun(cell.data, cell.row, experiment.table.rows[cell.row].label, run.seed, run.folder, one))
        return runs

    @abstractmethod
    def measure(self, run: Any) -> Tables:
        """The rows of one run for each table, in a process of its own where several run at once."""

    def derive(self, frames: Frames) -> Mapping[str, pd.DataFrame]:
        """Further tables, of all runs together, as of their differences; none."""
        return {}

    @abstractmethod
    def summary(self, frames: Frames) -> str:
        """What was found, in Markdown: a title, then tables and words."""

    @abstractmethod
    def figure(self, frames: Frames) -> Figure:
        """What was found, in a picture."""
