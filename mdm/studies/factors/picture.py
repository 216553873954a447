"""What MFM's factors do, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mdm.statistics import mean_interval
from mdm.studies._write import COLOURS
from mdm.studies.factors.dependence import KERNELS
from mdm.studies.factors.gradient_flow import TINY

GREY, BLUE, _, GREEN, PINK, ORANGE, SKY = COLOURS
HUES = {"language": BLUE, "audio": GREEN, "video": ORANGE}


def draw_factors(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Of the first data set: a line of panels for each row of the table, and flow in one segment for the first."""
    data = tables["ratios"].data.iloc[0]
    here = {name: table[table.data == data] for name, table in tables.items()}
    names = list(dict.fromkeys(here["ratios"].row))
    figure = Figure(figsize=(7.2, 1.9 * len(names) + 3.4), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=[1.9 * len(names), 3.4])
    grid: Any = halves[0].subplots(len(names), 4, squeeze=False, sharey="col")
    for axes, row in zip(grid, names, strict=True):
        mine = {name: table[table.row == row] for name, table in here.items()}
        for panel, kernel in zip(axes[:2], KERNELS, strict=True):
            draw_dependence(panel, mine["ratios"][mine["ratios"].kernel == kernel])
        draw_ratios(axes[2], mine["ratios"])
        draw_shares(axes[3], mine["generation"][mine["generation"].styles == "segments"])
        axes[0].set_ylabel(f"{mine['ratios'].label.iloc[0]}\n\nHSIC, normalised")
        axes[2].set_ylabel("ratio (log scale)")
        axes[3].set_ylabel("share that follows $f_y$")
    titles = ("literal: σ = 1, biased", "corrected", "ratio $r_i$ (Eq. 5)", "generated segments")
    for panel, title in zip(grid[0], titles, strict=True):
        panel.set_title(title, fontsize=8)
    marks = {"$F_y$, $\\hat X$": (BLUE, "o"), "$F_a$, $\\hat X$": (ORANGE, "s"), "permuted": (GREY, "_")}
    marks |= {"ratio: literal": (GREY, "D"), "corrected": (SKY, "^"), "sentiment": (GREEN, "o"), "style": (PINK, "s")}
    handles = [Line2D([], [], color=c, marker=mark, ms=4, ls="", label=label) for label, (c, mark) in marks.items()]
    halves[0].legend(handles=handles, loc="outside lower center", ncols=7, frameon=False, fontsize=7, handletextpad=0.1)
    of_first = [here[name][here[name].row == names[0]] for name in ("steps", "flow")]
    draw_flow(halves[1], *of_first)
    return figure


def draw_dots(axes: Axes, x: float, values: pd.Series, colour: str, mark: str, middle: tuple[float, float, float]) -> None:
    """A dot a seed; beside them the middle of their values and its ends."""
    axes.plot([x + 0.06] * len(values), values, color=colour, ls="", marker=".", ms=3, alpha=0.5, mec="none")
    centre, low, high = middle
    axes.plot([x - 0.04] * 2, [low, high], color=colour, lw=1.1)
    axes.plot(x - 0.04, centre, color=colour, marker=mark, ms=3.5)


def average_with_interval(values: pd.Series) -> tuple[float, float, float]:
    """Mean and 95 % interval."""
    return float(values.mean()), *mean_interval(values.to_numpy(dtype=np.float64))


def set_ticks(axes: Axes, modalities: Sequence[str]) -> None:
    axes.set_xticks(range(len(modalities)), [m if len(m) < 6 else f"{m[:4]}." for m in modalities])
    axes.set_xlim(-0.5, len(modalities) - 0.5)
    axes.grid(axis="y", color="0.92", lw=0.5)


def draw_dependence(axes: Axes, rows: pd.DataFrame) -> None:
    """Numerator and denominator for each modality, and what permutations give, a bar across."""
    modalities = list(dict.fromkeys(rows.modality))
    for x, m in enumerate(modalities):
        mine = rows[rows.modality == m]
        for shift, name, colour, mark in ((-0.2, "y", BLUE, "o"), (0.2, "own", ORANGE, "s")):
            draw_dots(axes, x + shift, mine[name], colour, mark, average_with_interval(mine[name]))
            axes.plot([x + shift - 0.17, x + shift + 0.17], [mine[f"{name}_null"].mean()] * 2, color=GREY, lw=1.2)
    axes.set_ylim(-0.05, 1.05)
    set_ticks(axes, modalities)


def draw_ratios(axes: Axes, rows: pd.DataFrame) -> None:
    """Both kernels for each modality, median and range; 1 is where F_y and F_a tell alike. A ratio below 0 has no place here."""
    modalities = list(dict.fromkeys(rows.modality))
    for x, m in enumerate(modalities):
        mine = rows[rows.modality == m]
        for shift, kernel, colour, mark in ((-0.2, "literal", GREY, "D"), (0.2, "corrected", SKY, "^")):
            values = mine[mine.kernel == kernel].ratio
            values = values[values > 0]
            if len(values):
                draw_dots(axes, x + shift, values, colour, mark, (values.median(), values.min(), values.max()))
    axes.set_yscale("log")
    axes.axhline(1, color="0.5", lw=0.6, zorder=0)
    set_ticks(axes, modalities)


def draw_shares(axes: Axes, rows: pd.DataFrame) -> None:
    """Of the variance of sentiment and of style: the share that follows the donor of f_y."""
    modalities = list(dict.fromkeys(rows.modality))
    for x, m in enumerate(modalities):
        mine = rows[rows.modality == m]
        for shift, values, colour, mark in ((-0.2, mine.sentiment_y, GREEN, "o"), (0.2, mine.style_y, PINK, "s")):
            draw_dots(axes, x + shift, values, colour, mark, average_with_interval(values))
    axes.set_ylim(-0.03, 1.03)
    set_ticks(axes, modalities)


def draw_flow(figure: Any, rows: pd.DataFrame, found: pd.DataFrame) -> None:
    """Flow over the words of one segment, a thin line a seed, their mean thick; dashed the mean over all segments at that step."""
    panels: Any = figure.subplots(1, rows.modality.nunique(), squeeze=False)[0]
    for axes, (m, mine) in zip(panels, rows.groupby("modality", sort=False), strict=True):
        colour = HUES.get(str(m), GREY)
        for _, seed in mine.groupby("seed"):
            axes.plot(seed.step, seed.flow, color=colour, lw=0.5, alpha=0.4)
        for column, style in (("flow", "-"), ("mean", "--")):
            # Levels of runs differ by orders of magnitude: the geometric mean is in the middle of the lines.
            line = mine.assign(log=np.log(np.maximum(mine[column], TINY))).groupby("step").log.mean()
            axes.plot(
                line.index, np.exp(line), color=colour if style == "-" else "black", lw=1.5 if style == "-" else 0.9, ls=style
            )
        one = mine[mine.seed == mine.seed.iloc[0]]
        axes.set_yscale("log")
        axes.set_xticks(one.step, one.word if one.word.any() else one.step, rotation=90, fontsize=6.5)
        for label, of_sentiment in zip(axes.get_xticklabels(), one.sentiment, strict=True):
            if of_sentiment:
                label.set_fontweight("bold")
        for step in one.step[one.sentiment]:
            axes.axvspan(step - 0.4, step + 0.4, color="0.93", lw=0, zorder=0)
        of_all = found[found.modality == m]
        finds = f", AUC {of_all.auc.mean():.2f}" if of_all.auc.notna().all() else ""
        axes.set_title(f"{m}{finds}; t explains {100 * of_all.position.mean():.0f} %", fontsize=7.5)
        axes.grid(axis="y", color="0.92", lw=0.5)
    panels[0].set_ylabel(r"flow $\|\partial\hat{x}^t/\partial f_y\|_F^2$")
    handles = [
        Line2D([], [], color=GREY, lw=1.5, label="this segment (thin: each seed)"),
        Line2D([], [], color="black", lw=0.9, ls="--", label="all segments, geometric mean at that step"),
        Line2D([], [], color="0.9", lw=6, label="words of sentiment"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=7)
