"""A sweep as a picture: what a table's columns do along its rows (Qian et al., 2024, Figures 6 and 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mdm.metrics import find_metric, format_heading
from mdm.reference import describe_runs
from mdm.statistics import mean_interval
from mdm.studies._base import Frames, Study, Tables
from mdm.studies._write import ONE, choose_columns, format_mean, limit_scale, render_table
from mdm.study import Experiment
from mdm.tables.build import build_sheet
from mdm.tables.numbers import Block, Line, Sheet
from mdm.tables.wording import DATASETS

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
    """A panel for each column of each data set, two or four beside each other."""
    panels = [(block, column) for block in sheet.blocks for column in block.columns]
    beside, width = choose_columns(len(panels))
    deep = -(-len(panels) // beside)
    longest = max(len(line.row.label) for block in sheet.blocks for line in block.lines)
    figure = Figure(figsize=(width, 0.7 + (1.5 + 0.05 * min(longest, 24)) * deep), layout="constrained")
    grid: Any = figure.subplots(deep, beside, squeeze=False)
    for place, (block, column) in enumerate(panels):
        axes = grid.flat[place]
        draw_panel(axes, block.lines, column.metric)
        axes.set_ylabel(f"{format_heading(column.metric)}{find_metric(column.metric).unit}")
        axes.set_title(f"{name_block(block)}\n{find_metric(column.metric).better} is better", fontsize=7)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    handles = [
        Line2D([], [], color=OURS, marker="o", ms=4, lw=1.1, label="mean, 95 % interval over seeds"),
        Line2D([], [], color=BEST, ls="", marker="D", ms=4, label="best mean"),
        Line2D([], [], color=OURS, ls="", marker=".", ms=4, alpha=0.5, label="a seed"),
    ]
    printed = describe_printed(sheet)
    if printed:
        handles.append(Line2D([], [], color=PRINTED, ls="", marker="x", ms=4, label=printed))
    figure.legend(handles=handles, loc="outside lower center", ncols=1 if width == ONE else 2, frameon=False, fontsize=7)
    return figure


def name_block(block: Block) -> str:
    """What the data of a block are, in few words."""
    known = DATASETS.get(block.stands_for, block.stands_for)
    return known if block.data == block.stands_for else f"stand-in for {known}"


def describe_printed(sheet: Sheet) -> str:
    """Whose the printed numbers are and of how many runs; empty without one."""
    entries = [entry for block in sheet.blocks for line in block.lines for entry in line.entries.values()]
    paper = sheet.declared.paper.get("paper")
    if paper is None or not any(entry.printed for entry in entries):
        return ""
    real = "" if all(block.data == block.stands_for for block in sheet.blocks) else " on the real data"
    return f"the paper{real},\n{describe_runs(paper)} (▴▾ beyond the scale)"


def draw_panel(axes: Axes, lines: Sequence[Line], metric: str) -> None:
    """Rows on x: seeds, mean and interval. A printed value outside ours by more than their range is an arrow with its number.

    Rows have no order that a line could follow, so none joins them. Where few seeds make an interval longer than three times what
    the seeds span, the scale is that of the seeds, and the interval is cut off.
    """
    values = [np.array(line.entries[metric].defined) for line in lines]
    means = [float(of.mean()) if len(of) else np.nan for of in values]
    signed = [mean if find_metric(metric).lower_is_better else -mean for mean in means]
    best = int(np.nanargmin(signed)) if np.isfinite(signed).any() else -1
    for x, (of, mean) in enumerate(zip(values, means, strict=True)):
        axes.plot([x + 0.12] * len(of), of, color=OURS, ls="", marker=".", ms=4, alpha=0.5, mec="none")
        axes.plot([x, x], mean_interval(of) if len(of) else (np.nan, np.nan), color=OURS, lw=1.2)
        axes.plot(x, mean, color=BEST if x == best else OURS, marker="D" if x == best else "o", ms=4, zorder=4)
    limit_scale(axes, np.concatenate(values))
    bottom, top = axes.get_ylim()
    for x, line in enumerate(lines):
        printed = line.entries[metric].printed
        if printed is None or not printed.value:
            continue
        inside = bottom <= printed.number <= top
        at = printed.number if inside else (top if printed.number > top else bottom)
        marker = "x" if inside else ("^" if printed.number > top else "v")
        axes.plot(x, at, color=PRINTED, ls="", marker=marker, ms=4, clip_on=False, zorder=5)
        axes.annotate(printed.value, (x, at), (4, 3), textcoords="offset points", fontsize=6, color=PRINTED)
    longest = max(len(line.row.label) for line in lines)
    axes.set_xticks(range(len(lines)), [line.row.label for line in lines], fontsize=7, rotation=90 if longest > 4 else 0)
    axes.set_xlim(-0.5, len(lines) - 0.5)
    axes.grid(axis="y", color="0.92", lw=0.5)
