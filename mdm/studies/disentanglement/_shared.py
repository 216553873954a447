"""What the three studies of disentanglement share: rows of a table compared in pairs, side by side in a picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from mdm.statistics import mean_interval
from mdm.studies._write import COLOURS, format_mean, render_table
from mdm.studies.disentanglement.representations import compare_rows

GREY, BLUE, RED, GREEN, PINK, ORANGE, SKY = COLOURS
OF_ROWS = (GREY, SKY, PINK, ORANGE, GREEN)


def pair_rows(rows: Iterable[str]) -> list[tuple[str, str]]:
    """Every row with each before it, in the order of the table."""
    return [(b, a) for a, b in combinations(rows, 2)]


def render_differences(
    rows: pd.DataFrame, by: str, labels: Mapping[str, str], names: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Markdown: a line for each value of ``by`` with every row's mean, then the paired differences of rows.

    labels: row of the table → what it is called; names: value of ``by`` → what it is called
    """
    there = list(dict.fromkeys(rows.row))
    those = [(a, b) for a, b in pair_rows(labels) if a in there and b in there]
    found = compare_rows(rows, those, [by])
    head = ["", *(labels[name] for name in there), *(f"{labels[a]} − {labels[b]}" for a, b in those)]
    lines = [head]
    for key, here in rows.groupby(by, sort=False):
        means = [format_mean(here[here.row == name].value) for name in there]
        mine = found[found[by] == key].set_index(["row", "baseline"]) if len(found) else found
        gaps = [format_gap(mine.loc[pair]) if len(mine) and pair in mine.index else "" for pair in those]
        lines.append([names.get(str(key), str(key)), *means, *gaps])
    return render_table(lines)


def format_gap(found: pd.Series) -> str:
    """A difference with its interval."""
    bounds = "" if np.isnan(found.low) else f" [{found.low:+.3f}, {found.high:+.3f}]"
    return f"{found.difference:+.3f}{bounds}"


def shorten(words: str, length: int) -> str:
    return words if len(words) <= length else f"{words[: length - 1].rstrip()}…"


def draw_groups(axes: Axes, rows: pd.DataFrame, by: str, names: Sequence[str]) -> None:
    """Values of ``by`` on x, rows of the table side by side: a dot a seed, the mean and its 95 % interval."""
    for i, name in enumerate(names):
        colour, shift = OF_ROWS[i % len(OF_ROWS)], (i - (len(names) - 1) / 2) * 0.7 / len(names)
        for x, key in enumerate(dict.fromkeys(rows[by])):
            values = rows[(rows.row == name) & (rows[by] == key)].value
            axes.plot([x + shift + 0.05] * len(values), values, color=colour, ls="", marker=".", ms=3.5, alpha=0.5, mec="none")
            low, high = mean_interval(values.to_numpy(np.float64))
            axes.plot([x + shift - 0.03] * 2, [low, high], color=colour, lw=1.2)
            axes.plot(x + shift - 0.03, values.mean(), color=colour, marker="o", ms=3.5)
    axes.grid(axis="y", color="0.92", lw=0.5)


def draw_legend(figure: Any, rows: pd.DataFrame) -> None:
    labels = rows.drop_duplicates("row").label
    handles = [Line2D([], [], color=OF_ROWS[i % len(OF_ROWS)], marker="o", ms=4, lw=1.2, label=t) for i, t in enumerate(labels)]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=7.5)
