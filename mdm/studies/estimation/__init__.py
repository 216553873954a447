"""What estimators of dependence make of Gaussians whose dependence is known (Colombo et al., 2021, Figure 1), without data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import pandas as pd
from matplotlib.figure import Figure

from mdm.hints import Positive, Range, Size
from mdm.studies._base import Frames, Study, Tables
from mdm.studies._options import Keeps
from mdm.studies.estimation.cells import CriticCell, measure_cell, plan_cells, summarise_seeds
from mdm.studies.estimation.picture import draw_estimates
from mdm.studies.estimation.wording import render_estimates
from mdm.study import Experiment


@dataclass(frozen=True)
class Law:
    """Gaussians of so many modalities, at several correlations."""

    modalities: Annotated[int, Range(2)]
    rhos: Sequence[float]


@dataclass(frozen=True)
class RowSource:
    """How a critic gets its rows; every key but the first three is one of `Shared` and replaces it."""

    label: str
    laws: Sequence[str] | None = None
    critics: Sequence[str] | None = None
    dim: Size | None = None
    batch_size: Size | None = None
    rows: Size | None = None
    held_out: Size | None = None
    products: Size | None = None
    marks: Sequence[Size] | None = None
    lr: Positive | None = None
    penalty: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Shared:
    """What all cells share (`mdm.studies.estimation.cells.CriticCell`)."""

    dim: Size
    batch_size: Size
    rows: Size | None
    held_out: Size
    products: Size
    marks: Sequence[Size]
    lr: Positive
    penalty: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class CriticOptions:
    """penalty: arguments of `mdm.penalties.dependency.Dependency`; colour: number of a colour; show: whether the figure has it."""

    label: str
    measures: Sequence[str]
    penalty: Mapping[str, Any]
    colour: Annotated[int, Range(0, 5)] = 0
    line: Literal["-", "--", "-.", ":"] = "-"
    show: bool = True


Side = Literal["measure", "modalities", "setting"]
"""What a row or a column of the figure may be of."""


@dataclass(frozen=True)
class Layout:
    """The figure: what its rows and columns are of, what else is drawn."""

    rows: Sequence[Side]
    columns: Sequence[Side]
    caps: bool
    top: Positive
    values: bool
    only: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Estimation(Study):
    """Which critics, on which laws, from which rows, the experiment says.

        mdm study experiment=mdm/figure1 jobs=2    Colombo et al. (2021), Figure 1: kl, f and wasserstein against the truth
        mdm study experiment=mdm/critics jobs=2    kl and f: which way of training a critic survives minibatches
        mdm study experiment=mdm/lipschitz jobs=2  wasserstein: which way of bounding a slope attains the distance

    For half a minute, study.seeds=1 study.cell.marks=[300] study.laws.two.rhos=[0,0.5] ~study.laws.three, say.

    estimates.csv   a row per critic, law, seed and mark; what is killed has left what it had measured

    Raises ValueError if the figure has no rows or columns, and where `plan_cells` does.
    """

    seeds: Size
    laws: Annotated[Mapping[str, Any], Keeps(Mapping[str, Law])]
    cell: Annotated[Mapping[str, Any], Keeps(Shared)]
    settings: Annotated[Mapping[str, Any], Keeps(Mapping[str, RowSource])]
    critics: Annotated[Mapping[str, Any], Keeps(Mapping[str, CriticOptions])]
    layout: Annotated[Mapping[str, Any], Keeps(Layout)]
    title: str | None = None

    reads: ClassVar[Literal["models", "records", "nothing"]] = "nothing"
    keeps: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.layout["rows"] or not self.layout["columns"]:
            raise ValueError(f"A figure has rows and columns, got {self.layout}; set study.layout.")

    def plan(self, experiment: Experiment) -> Sequence[CriticCell]:
        """Every critic on every law, with every seed."""
        return plan_cells(self.laws, self.settings, self.critics, self.cell, self.seeds)

    def measure(self, run: CriticCell) -> Tables:
        """What one critic reads at each mark."""
        return {"estimates": measure_cell(run)}

    def summary(self, frames: Frames) -> str:
        """A table for each setting, measure and number of modalities."""
        head = f"# {frames.title}\n\nMean ± standard deviation of {self.seeds} seeds.\n\n"
        return head + render_estimates(summarise_frames(frames), vars(self))

    def figure(self, frames: Frames) -> Figure:
        """Estimate against ρ, with the truth in it."""
        return draw_estimates(summarise_frames(frames), vars(self))


def summarise_frames(frames: Frames) -> pd.DataFrame:
    """Law by law and critic by critic after the last step."""
    rows: Any = frames["estimates"].to_dict("records")
    return summarise_seeds(rows)
