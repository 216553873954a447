"""Single segments under three constraints, and the same comparison over the whole test fold (Qian et al., 2024, Figure 8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import mdm
from mdm.hints import Size
from mdm.statistics import mean_interval
from mdm.studies._base import Frames, Study, StudyRun, Tables
from mdm.studies._write import format_mean, render_table
from mdm.studies.disentanglement._shared import (
    OF_ROWS,
    pair_rows,
    render_differences,
    shorten,
)
from mdm.studies.disentanglement.representations import (
    average_errors,
    compare_rows,
    pick_cases,
)


@dataclass(frozen=True)
class Cases(Study):
    """Label and predictions for a segment of each of the first test videos, beside the error of the whole test fold.

        mdm study experiment=mird/figure8

    runs.csv          a row per run and segment, and one of all
    differences.csv   rows of the table in pairs, paired by seed, in the error of all

    cases: segments that are shown, each of another video
    """

    cases: Size = 3
    title: str | None = None

    def measure(self, run: StudyRun) -> Tables:
        """The segments of one run, and its error on all."""
        rows = [*pick_cases(mdm.load(run.folder), self.cases), *average_errors(run.folder)]
        columns = dict.fromkeys(name for row in rows for name in row)
        return {"runs": [{**run.keys, **{name: row.get(name, np.nan) for name in columns}} for row in rows]}

    def derive(self, frames: Frames) -> Mapping[str, pd.DataFrame]:
        """What rows of the table differ by on the whole test fold."""
        return {"differences": compare_rows(find_whole(frames["runs"]), pair_rows(frames.labels), ["data", "measure"])}

    def summary(self, frames: Frames) -> str:
        """The cases, and the same comparison over the whole test fold."""
        return "\n\n".join([f"# {frames.title}", *render_cases(frames["runs"], frames.labels), *frames.notes]) + "\n"

    def figure(self, frames: Frames) -> Figure:
        """A strip a segment: the label as a line, predictions by row, a dot a seed."""
        return draw_cases(frames["runs"])


def find_whole(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the whole test fold."""
    return rows[rows.id == "all"].assign(measure="mean |error| of the test fold", value=lambda r: r.error)


def render_cases(rows: pd.DataFrame, labels: Mapping[str, str]) -> list[str]:
    """The cases, and the same comparison over the whole test fold."""
    whole = find_whole(rows)
    single = rows[rows.id != "all"]
    lines = [["segment", "label", *dict.fromkeys(rows.label), *(f"cosine {name}" for name in dict.fromkeys(rows.label))]]
    for name, here in single.groupby("id", sort=False):
        cells_ = [format_mean(mine.prediction) for _, mine in here.groupby("row", sort=False)]
        cosines = [f"{mine.cosine.mean():.3f}" for _, mine in here.groupby("row", sort=False)]
        lines.append([f"{name}: {shorten(here.words.iloc[0], 60)}", f"{here.truth.iloc[0]:+.1f}", *cells_, *cosines])
    parts = [
        f"**Predictions, mean and 95 % t interval over {rows.seed.nunique()} seed(s); mean \\|cosine\\| of representations**\n\n"
        + render_table(lines)
    ]
    parts.append(f"**All test segments**\n\n{render_differences(whole, 'measure', labels)}")
    return parts


def draw_cases(rows: pd.DataFrame) -> Figure:
    """A strip a segment: the label as a line, predictions by row, a dot a seed."""
    single = rows[rows.id != "all"]
    ids, names = list(dict.fromkeys(single.id)), list(dict.fromkeys(single.row))
    figure = Figure(figsize=(7.2, 0.5 + 1.1 * len(ids)), layout="constrained")
    grid: Any = figure.subplots(len(ids), 1, squeeze=False, sharex=True)[:, 0]
    for axes, name in zip(grid, ids, strict=True):
        here = single[single.id == name]
        axes.axvline(here.truth.iloc[0], color="black", lw=1.2)
        for i, row in enumerate(names):
            mine, colour = here[here.row == row], OF_ROWS[i % len(OF_ROWS)]
            axes.plot(mine.prediction, [i + 0.14] * len(mine), color=colour, ls="", marker=".", ms=4, alpha=0.6, mec="none")
            low, high = mean_interval(mine.prediction.to_numpy(np.float64))
            axes.plot([low, high], [i - 0.1] * 2, color=colour, lw=1.2)
            axes.plot(mine.prediction.mean(), i - 0.1, color=colour, marker="o", ms=4)
        axes.set_yticks(range(len(names)), [here[here.row == row].label.iloc[0] for row in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_title(f"{name}  “{shorten(here.words.iloc[0], 90)}”", fontsize=7.5, loc="left")
        axes.grid(axis="x", color="0.92", lw=0.5)
    grid[-1].set_xlabel("sentiment (black: label)")
    return figure
