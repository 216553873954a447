"""Representations of MIRD under constraints, and how much they depend on one another (Qian et al., 2024, Figure 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import mdm
from mdm.hints import Size
from mdm.studies._base import Frames, Study, StudyRun, Tables
from mdm.studies.disentanglement._shared import (
    BLUE,
    GREEN,
    ORANGE,
    RED,
    draw_groups,
    draw_legend,
    pair_rows,
    render_differences,
)
from mdm.studies.disentanglement.representations import (
    compare_rows,
    encode,
    measure_run,
    project,
)

CLOUDS = {"language": BLUE, "video": ORANGE, "audio": GREEN, "shared": RED}
"""Of representations, in the paper's hues."""
MEASURES = {
    "silhouette": "silhouette",
    "accuracy": "named by a linear classifier",
    "dimensions": "dimensions in use, mean",
    "linear": "linear R², mean of pairs",
    "hsic": "HSIC, mean of pairs",
    "nats": "I(x; y) ≥, nats, mean of pairs",
}


@dataclass(frozen=True)
class Codes(Study):
    """How far the representations lie apart, how much they depend on one another, and their picture by t-SNE.

        mdm study experiment=mird/figure4 [study.steps=300]

    runs.csv          a row per run, representation or pair of them, and measure
    differences.csv   rows of the table in pairs, paired by seed
    points.csv        what the picture shows, of seed 0: one run of many, as in the paper

    fresh: sizes of the folds of new segments of the law that the data were drawn from; None: the run's own folds
    steps: of a critic, one a pair of representations
    """

    fresh: Mapping[str, Size] | None
    steps: Size
    title: str | None = None

    def measure(self, run: StudyRun) -> Tables:
        """Separation, dependence and dimensions of one run; points of that of seed 0."""
        trained = mdm.load(run.folder)
        rows = measure_run(trained, self.fresh, self.steps)
        points: list[dict[str, Any]] = []
        if run.seed == 0:
            of = encode(trained.backbone, trained.batches("test"))
            names = [name for name, x in of.items() for _ in range(len(x))]
            points = [
                {**run.keys, "representation": name, "x": float(x), "y": float(y)}
                for name, (x, y) in zip(names, project(of, seed=0), strict=True)
            ]
        return {"runs": [{**run.keys, **row} for row in rows], "points": points}

    def derive(self, frames: Frames) -> Mapping[str, pd.DataFrame]:
        """What rows of the table differ by in each measure of each pair."""
        return {"differences": compare_rows(frames["runs"], pair_rows(frames.labels), ["data", "measure", "pair"])}

    def summary(self, frames: Frames) -> str:
        """Every measure, mean over what it was measured of; nats by pair; what rows differ by."""
        return "\n\n".join([f"# {frames.title}", *render_codes(frames["runs"], frames.labels), *frames.notes]) + "\n"

    def figure(self, frames: Frames) -> Figure:
        """The paper's pictures in a row; below them separation, and dependence by pair, a dot a seed."""
        return draw_codes(frames["runs"], frames["points"])


def render_codes(rows: pd.DataFrame, labels: Mapping[str, str]) -> list[str]:
    """Every measure, mean over what it was measured of; nats by pair; what rows differ by."""
    over = rows.groupby(["data", "measure", "row", "label", "seed"], sort=False, as_index=False)["value"].mean()
    parts = [
        f"**{data}: mean and 95 % t interval over {here.seed.nunique()} seed(s); paired differences**\n\n"
        + render_differences(here, "measure", labels, MEASURES)
        for data, here in over.groupby("data", sort=False)
    ]
    by_pair = rows[rows.measure == "nats"]
    parts += [
        f"**{data}: lower bound on I(x; y) by pair, nats**\n\n{render_differences(here, 'pair', labels)}"
        for data, here in by_pair.groupby("data", sort=False)
    ]
    parts.append(
        "Silhouette and classifier (chance is one over the number of representations) are of the test segments' representations as "
        "points, and say how far the clouds lie apart. Dependence is 0 where representations are independent; only it says whether "
        "they are disentangled. Dimensions: what is constant is independent of everything."
    )
    return parts


def draw_codes(rows: pd.DataFrame, points: pd.DataFrame) -> Figure:
    """The paper's pictures in a row; below them separation, and dependence by pair, a dot a seed."""
    data = rows.data.iloc[0]
    rows = rows[rows.data == data]
    names = list(dict.fromkeys(rows.row))
    figure = Figure(figsize=(7.2, 4.9), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=[1.15, 1])
    upper, lower = halves
    panels: Any = upper.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        for kind, colour in CLOUDS.items():
            here = points[(points.data == data) & (points.row == name) & (points.representation == kind)] if len(points) else points
            if len(here):
                axes.plot(here.x, here.y, color=colour, ls="", marker=".", ms=2, alpha=0.6, mec="none", rasterized=True)
        mine = rows[(rows.row == name) & (rows.measure == "silhouette")].value.mean()
        axes.set_title(f"{rows[rows.row == name].label.iloc[0]} (silhouette {mine:.2f})", fontsize=8)
        axes.set(xticks=[], yticks=[])
    handles = [Line2D([], [], color=c, ls="", marker="o", ms=4, label=f"$z$ {k}") for k, c in CLOUDS.items()]
    upper.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=7.5)
    left, right = lower.subplots(1, 2, width_ratios=[1, 2.6])
    draw_groups(left, rows[rows.measure.isin(["silhouette", "accuracy"])], "measure", names)
    left.set_xticks(range(2), ["silhouette", "linear\nclassifier"])
    left.set_ylabel("separation of the clouds")
    nats = rows[rows.measure == "nats"]
    draw_groups(right, nats, "pair", names)
    right.set_xticks(range(nats.pair.nunique()), [p.replace("–", "–\n") for p in dict.fromkeys(nats.pair)])
    right.set_ylabel("dependence, nats (held out)")
    right.axhline(0, color="0.5", lw=0.6, zorder=0)
    draw_legend(lower, rows)
    return figure
