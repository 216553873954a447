"""Parameters and multiply–accumulates of models beside a paper's (Qian et al., 2024, Table 2). Needs neither data nor weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from omegaconf import DictConfig

from mdm.hints import Size
from mdm.studies._base import Frames, Study, Tables
from mdm.studies._options import Keeps
from mdm.studies._write import COLOURS, render_table
from mdm.studies.cost.counter import count_cost, draw_segment
from mdm.study import Experiment, compose_run


@dataclass(frozen=True)
class Shape:
    """Of a modality in a segment; tokens: whether it is ids below ``dim``."""

    dim: Size
    steps: Size
    tokens: bool = False


@dataclass(frozen=True)
class CostedModel:
    """A row: options of train.py, and the paper's numbers, in millions and 10⁹."""

    model: str
    overrides: Sequence[str] = ()
    paper: Mapping[str, float] | None = None
    segment: Mapping[str, Shape] | None = None


@dataclass(frozen=True)
class CountedModel:
    """A model to be counted: its config, the shapes of a segment, the paper's numbers."""

    name: str
    cfg: DictConfig
    shapes: Mapping[str, Mapping[str, Any]]
    paper: Mapping[str, float]


@dataclass(frozen=True)
class Cost(Study):
    """Which models, at which sizes, on segments of which shape, the experiment says.

        mdm study experiment=mird/table2

    costs.csv   a row per model: parameters in millions, with those of its own critic; 10⁹ multiply–accumulates of a prediction, and
                with the forward pass of its own terms; the paper's
    """

    segment: Annotated[Mapping[str, Any], Keeps(Mapping[str, Shape])]
    rows: Annotated[Mapping[str, Any], Keeps(Mapping[str, CostedModel])]
    notes: str
    title: str | None = None

    reads: ClassVar[Literal["models", "records", "nothing"]] = "nothing"

    def plan(self, experiment: Experiment) -> Sequence[CountedModel]:
        """Every model with its config. Raises ValueError where `mdm.runs.config.check` does."""
        return [
            CountedModel(
                name,
                compose_run([f"model={row['model']}", *row.get("overrides", [])]),
                row.get("segment") or self.segment,
                row.get("paper") or {},
            )
            for name, row in self.rows.items()
        ]

    def measure(self, run: CountedModel) -> Tables:
        """What one model costs, beside the paper's numbers."""
        cost = count_cost(run.cfg.model, *draw_segment(run.shapes))
        row = {
            "model": run.name,
            "parameters": (cost.parameters + cost.critic) / 1e6,
            "printed_parameters": run.paper.get("parameters"),
            "gmacs": cost.macs / 1e9,
            "printed_gmacs": run.paper.get("gmacs"),
            "gmacs_with_own_terms": cost.macs_training / 1e9,
        }
        return {"costs": [row]}

    def summary(self, frames: Frames) -> str:
        """A line a model, the paper's numbers and the differences beside ours."""
        lines = [["model", "parameters, M", "paper", "difference", "GMACs, prediction", "paper", "difference", "with own terms"]]
        for row in frames["costs"].to_dict("records"):
            each = [compare(row[name], row[f"printed_{name}"]) for name in ("parameters", "gmacs")]
            lines.append([row["model"], *each[0], *each[1], f"{row['gmacs_with_own_terms']:.2f}"])
        return "\n\n".join([f"# {frames.title}", render_table(lines), self.notes]).rstrip() + "\n"

    def figure(self, frames: Frames) -> Figure:
        """Parameters and multiply–accumulates: ours as bars, the paper's as a stroke across."""
        rows = frames["costs"]
        figure = Figure(figsize=(7.2, 0.9 + 0.32 * len(rows)), layout="constrained")
        panels: Any = figure.subplots(1, 2, sharey=True)
        for axes, (name, label) in zip(
            panels, {"parameters": "parameters, millions", "gmacs": "10⁹ multiply–accumulates"}.items(), strict=True
        ):
            place, printed = np.arange(len(rows)), rows[f"printed_{name}"].astype(float)
            axes.barh(place, rows[name], color=COLOURS[1], alpha=0.5)
            axes.plot(printed, place, color="black", marker="|", ms=14, mew=1.5, ls="", label="the paper")
            axes.set_xlabel(label)
        panels[0].set_yticks(range(len(rows)), rows.model)
        panels[0].invert_yaxis()
        panels[1].legend(frameon=False, fontsize=7)
        return figure


def compare(ours: float, paper: float | None) -> tuple[str, str, str]:
    """Ours, the paper's, and the difference in per cent."""
    if paper is None or pd.isna(paper):
        return f"{ours:.2f}", "–", "–"
    return f"{ours:.2f}", f"{paper:g}", f"{100 * (ours / paper - 1):+.1f} %"
