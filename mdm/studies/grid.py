"""A sweep as a picture: what a table's columns do along its rows (Qian et al., 2024, Figures 6 and 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mdm.metrics import find_metric, format_heading
from mdm.statistics import mean_interval
from mdm.studies._base import Frames, Study, Tables
from mdm.studies._write import format_mean, render_table
from mdm.study import Experiment
from mdm.tables.build import build_sheet
from mdm.tables.numbers import Sheet

OURS, BEST, PRINTED = "#0072B2", "#D55E00", "0.35"


@dataclass(frozen=True)
class Grid(Study):
    """Rows of any table, in their order, as the values that were swept; beside them the paper's number where it prints one.

        mdm study study=grid experiment=mird/figure6

    runs.csv   a row per run and column of the table

    Raises ValueError where `mdm.tables.build.build_sheet` does, and if the table has no column.
    """

    title: str | None = None

    reads: ClassVar[Literal["models", "records", "nothing"]] = "records"

    def plan(self, experiment: Experiment) -> Sequence[Sheet]:
        """The whole table at once, which orders its values."""
        sheet = build_grid(experiment)
        if not any(block.columns for block in sheet.blocks):
            raise ValueError(
                f"A grid is drawn of a table's columns, but that of {experiment.cfg.name} has none; choose an experiment with a "
                "table, as experiment=mird/figure6."
            )
        return [sheet]

    def measure(self, run: Sheet) -> Tables:
        """The value of every run in every column."""
        return {"runs": list_values(run)}

    def summary(self, frames: Frames) -> str:
        """A table a data set, means with intervals, the paper's number in brackets behind."""
        return "\n\n".join([f"# {frames.title}", *render_grid(build_grid(frames.experiment)), *frames.notes]) + "\n"

    def figure(self, frames: Frames) -> Figure:
        """A panel a column: a dot a seed, the mean and its 95 % t interval, and the paper's number."""
        return draw_grid(build_grid(frames.experiment))


def build_grid(experiment: Experiment) -> Sheet:
    return build_sheet(experiment.cfg.name, experiment.table, experiment.gathered, experiment.differing)


def list_values(sheet: Sheet) -> list[dict[str, Any]]:
    """A row per run and column."""
    return [
        {"data": block.data, "row": line.row.name, "label": line.row.label, "metric": metric, "seed": seed, "value": value}
        for block in sheet.blocks
        for line in block.lines
        for metric, entry in line.entries.items()
        for seed, value in entry.values.items()
    ]


def render_grid(sheet: Sheet) -> list[str]:
    """Markdown: a table a data set, means with intervals, the paper's number in brackets behind."""
    parts = []
    for block in sheet.blocks:
        head = ["", *(f"{format_heading(c.metric)}{find_metric(c.metric).unit}" for c in block.columns)]
        lines = [head]
        for line in block.lines:
            texts = []
            for column in block.columns:
                entry, digits = line.entries[column.metric], column.decimals
                text = format_mean(entry.defined, digits)
                texts.append(text + (f" (paper {entry.printed.value})" if entry.printed is not None else ""))
            lines.append([line.row.label, *texts])
        parts.append(f"**{block.data}, for {block.stands_for}: mean and 95 % t interval over seeds**")
        parts.append(render_table(lines))
    return parts


def draw_grid(sheet: Sheet) -> Figure:
    """A row of panels for each data set, one for each column."""
    widest = max(len(block.columns) for block in sheet.blocks)
    figure = Figure(figsize=(max(3.6, 2.4 * widest), 0.5 + 2.2 * len(sheet.blocks)), layout="constrained")
    grid: Any = figure.subplots(len(sheet.blocks), widest, squeeze=False)
    for i, block in enumerate(sheet.blocks):
        for j in range(widest):
            if j >= len(block.columns):
                grid[i, j].set_visible(False)
                continue
            column = block.columns[j]
            draw_panel(grid[i, j], block.lines, column.metric)
            better = f"{find_metric(column.metric).better} is better"
            grid[i, j].set_ylabel(f"{format_heading(column.metric)}{find_metric(column.metric).unit}")
            grid[i, j].set_title(f"{block.data}\n{better}" if j == 0 else f"\n{better}", fontsize=7.5)
    handles = [
        Line2D([], [], color=OURS, marker="o", ms=4, lw=1.1, label="mean, 95 % interval over seeds"),
        Line2D([], [], color=BEST, ls="", marker="o", ms=4, label="best mean"),
        Line2D([], [], color=OURS, ls="", marker=".", ms=4, alpha=0.5, label="a seed"),
        Line2D([], [], color=PRINTED, ls="", marker="x", ms=4, label="the paper, one run on real data (▾▴ beyond the scale)"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=7)
    return figure


def draw_panel(axes: Axes, lines: Any, metric: str) -> None:
    """Rows on x: seeds, mean and interval. A printed value outside ours by more than their range is an arrow with its number."""
    frame = pd.DataFrame(
        [
            (x, entry.mean, *(mean_interval(np.array(entry.defined)) if entry.defined else (np.nan, np.nan)))
            for x, entry in enumerate(line.entries[metric] for line in lines)
        ],
        columns=["x", "mean", "low", "high"],
    )
    best = frame["mean"].idxmin() if find_metric(metric).lower_is_better else frame["mean"].idxmax()
    axes.plot(frame.x, frame["mean"], color=OURS, lw=0.8, alpha=0.5)
    for x, line in enumerate(lines):
        seeds = line.entries[metric].defined
        axes.plot([x + 0.12] * len(seeds), seeds, color=OURS, ls="", marker=".", ms=4, alpha=0.5, mec="none")
        axes.plot([x, x], [frame.low[x], frame.high[x]], color=OURS, lw=1.2)
        axes.plot(x, frame["mean"][x], color=BEST if x == best else OURS, marker="o", ms=4, zorder=4)
    bottom, top = axes.get_ylim()
    for x, line in enumerate(lines):
        printed = line.entries[metric].printed
        if printed is None or not printed.value:
            continue
        inside = bottom - (top - bottom) <= printed.number <= top + (top - bottom)
        at = printed.number if inside else (top if printed.number > top else bottom)
        marker = "x" if inside else ("^" if printed.number > top else "v")
        axes.plot(x, at, color=PRINTED, ls="", marker=marker, ms=4, clip_on=False, zorder=5)
        axes.annotate(printed.value, (x, at), (4, 3), textcoords="offset points", fontsize=6, color=PRINTED)
    axes.set_xticks(range(len(lines)), [line.row.label for line in lines], fontsize=7)
    axes.set_xlim(-0.5, len(lines) - 0.5)
    axes.grid(axis="y", color="0.92", lw=0.5)
