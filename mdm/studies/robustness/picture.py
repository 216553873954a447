"""What is left without some modalities, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mdm.studies._write import COLOURS, ONE, choose_columns, limit_scale


def draw_robustness(runs: pd.DataFrame, found: pd.DataFrame, names: Mapping[str, str]) -> Figure:
    """Panels of a data set: for each corruption the ratio by what is kept, then the course under noise for each that is kept.

    names: data → what the picture calls them
    """
    top = found.level[found.corruption == "noise"].max()
    kept = list(dict.fromkeys(found[found.corruption != "none"].kept))
    panels: list[tuple[str, str, str]] = []
    for data in dict.fromkeys(found.data):
        panels += [(data, c, "") for c in dict.fromkeys(found.corruption) if c != "none"]
        panels += [(data, "", k) for k in kept] if top > 0 else []
    columns, width = choose_columns(len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(width, 0.9 + 1.6 * lines), layout="constrained")
    grid: Any = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for place, (data, corruption, of) in enumerate(panels):
        axes, ours, cell = grid.flat[place], runs[runs.data == data], found[found.data == data]
        title = f"{names.get(data, data)}\n" if found.data.nunique() > 1 else ""
        if corruption:
            level = top if corruption == "noise" else 1.0
            here, means = (frame[(frame.corruption == corruption) & (frame.level == level)] for frame in (ours, cell))
            draw_kept(axes, here, means, kept)
            title += f"removed: {corruption}" + (f" {top:g}" if corruption == "noise" else "")
        else:
            draw_noise(axes, ours, cell, of)
            title += f"{of.replace('+', ' and ')} kept, rest noisy"
        clean = cell[cell.corruption == "none"]
        axes.axhline(float((clean.majority / clean.acc2_pos).mean()), color="0.5", lw=0.8, ls=":", zorder=0)
        axes.set_title(title, fontsize=7)
        if place % columns == 0:
            axes.set_ylabel("Acc-2 / untouched", fontsize=7)
    references = (found.majority / found.acc2_pos)[found.corruption == "none"]
    limit_scale(grid[0, 0], np.concatenate([runs.ratio.to_numpy(float), references.to_numpy(float), [1.0]]))
    if found.data.nunique() == 1:
        figure.suptitle(names.get(found.data.iloc[0], found.data.iloc[0]), fontsize=8)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    labels = found.drop_duplicates("row").label
    handles = [Line2D([], [], color=COLOURS[i % len(COLOURS)], marker="o", ms=4, lw=1.1, label=t) for i, t in enumerate(labels)]
    handles.append(Line2D([], [], color="0.5", lw=0.8, ls=":", label="the more frequent sign, always"))
    figure.legend(handles=handles, loc="outside lower center", ncols=2 if width == ONE else 4, frameon=False, fontsize=7)
    return figure


def draw_kept(axes: Axes, runs: pd.DataFrame, found: pd.DataFrame, kept: list[str]) -> None:
    """Modalities kept on x, rows of the table side by side: a dot a seed, the mean and its 95 % interval."""
    rows = list(dict.fromkeys(found.row))
    for i, row in enumerate(rows):
        colour, shift = COLOURS[i % len(COLOURS)], (i - (len(rows) - 1) / 2) * 0.75 / len(rows)
        for x, k in enumerate(kept):
            seeds = runs[(runs.row == row) & (runs.kept == k)].ratio
            axes.plot([x + shift + 0.05] * len(seeds), seeds, color=colour, ls="", marker=".", ms=3, alpha=0.5, mec="none")
            mean = found[(found.row == row) & (found.kept == k)].iloc[0]
            axes.plot([x + shift - 0.03] * 2, [mean.ratio_low, mean.ratio_high], color=colour, lw=1.2)
            axes.plot(x + shift - 0.03, mean.ratio, color=colour, marker="o", ms=3.5)
    small = len(kept) > 3
    axes.set_xticks(range(len(kept)), ["\n".join(m[0].upper() if small else m for m in k.split("+")) for k in kept])
    axes.set_xlabel("kept (by first letter)" if small else "kept")
    axes.grid(axis="y", color="0.92", lw=0.5)


def draw_noise(axes: Axes, runs: pd.DataFrame, found: pd.DataFrame, kept: str) -> None:
    """Level on x, from the untouched run: a thin line a seed, the mean thick."""
    for i, row in enumerate(dict.fromkeys(found.row)):
        colour = COLOURS[i % len(COLOURS)]
        mine = runs[(runs.row == row) & ((runs.corruption == "none") | ((runs.corruption == "noise") & (runs.kept == kept)))]
        for _, seed in mine.groupby("seed"):
            axes.plot(seed.level, seed.ratio, color=colour, lw=0.5, alpha=0.35)
        mean = mine.groupby("level").ratio.mean()
        axes.plot(mean.index, mean, color=colour, lw=1.4, marker="o", ms=3)
    axes.set_xlabel("level of noise")
    axes.grid(axis="y", color="0.92", lw=0.5)
