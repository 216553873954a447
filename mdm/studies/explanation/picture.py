"""What explanations of many segments come to, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mdm.statistics import mean_interval
from mdm.studies._base import Frames
from mdm.studies._write import COLOURS
from mdm.studies.explanation.wording import group_by

HUES = COLOURS[1:]
"""Without the grey, in which what T is compared with is drawn."""


def draw_explanation(frames: Frames) -> Figure:
    """A line of panels for each data set and critic, and one for each MMIM."""
    labels, lines = frames.labels, list[tuple[Any, ...]]()
    for (data, critic), group in group_by(frames["rankings"], ["data", "critic"]):
        lines.append((draw_critic, labels, group, frames["segments"][frames["segments"].data == data], critic))
    for (_, row), group in group_by(frames["scores"], ["data", "row"]):
        lines.append((draw_scores, labels[row], group))
    figure = Figure(figsize=(7.2, 0.3 + 3.1 * len(lines)), layout="constrained")
    grid: Any = figure.subplots(len(lines), 2, squeeze=False)
    for axes, (draw, *arguments) in zip(grid, lines, strict=True):
        draw(*axes, *arguments)
    return figure


def draw_critic(
    left: Axes, right: Axes, labels: Mapping[str, str], group: pd.DataFrame, segments: pd.DataFrame, critic: str
) -> None:
    """Left: how well the critic's score ranks; right: the score along the agreement, or the label."""
    rows = list(dict.fromkeys(group.row))
    known = bool(group.contradictory.iloc[0])
    value = "auc_T" if known else "rank_error"
    group = group[group.on == ("new" if "new" in set(group.on) else "test")]
    if known:
        half = group.chance.iloc[0]
        left.axvspan(0.5 - half, 0.5 + half, color="0.93", lw=0)
        left.axvline(group.auc_best.mean(), color="black", lw=1, ls="--")
        left.annotate("log p/q", (group.auc_best.mean(), -0.6), (3, 0), textcoords="offset points", fontsize=6.5, va="center")
    left.axvline(0.5 if known else 0, color="0.5", lw=0.8)
    for i, row in enumerate(rows):
        mine = group[group.row == row]
        draw_dots(left, i, mine[value], HUES[i % len(HUES)])
        if known:
            label = "AUC of small predictions, mean" if i == 0 else ""
            left.plot(mine.auc_prediction.mean(), i, color="0.3", marker="|", ms=10, mew=1.5, ls="", label=label)
    if known:
        left.legend(frameon=False, fontsize=6.5, loc="upper center", bbox_to_anchor=(0.5, -0.17))
    left.set_yticks(range(len(rows)), [labels[row] for row in rows])
    left.set_ylim(len(rows) - 0.4, -0.9)
    if known:
        left.set_xlim(min(0.4, group[value].min() - 0.05), 1)  # an interval of few seeds may reach beyond, an AUC cannot
    where = f"{group.segments.iloc[0]} {'new' if 'new' in set(group.on) else 'test'} segments"
    left.set_xlabel(f"AUC: low {critic} finds contradictory segments" if known else f"rank correlation of {critic} and |error|")
    left.set_title(f"{where}; dots: seeds", fontsize=8)
    left.grid(axis="x", color="0.92", lw=0.5)
    for i, row in enumerate(rows):
        mine = segments[segments.row == row]
        colour = HUES[i % len(HUES)]
        if known:
            line = "-" if i < len(HUES) else ":"
            right.plot(*average_by_agreement(mine, critic), color=colour, ls=line, marker="o", ms=2.5, lw=1.1, label=labels[row])
        else:
            one = mine[mine.seed == mine.seed.min()]
            label = next(name for name in one if name.split("_")[0] == "label")
            right.scatter(one[label], one[critic], s=6, color=colour, lw=0, alpha=0.8, label=labels[row])
    if known:
        first = segments[(segments.row == rows[0]) & (segments.seed == segments.seed.min())]
        right.plot(*average_by_agreement(first, "best_T"), color="black", ls="--", lw=1, label="log p/q")
        right.axvline(0, color="0.5", lw=0.8)
    right.set_xlabel("agreement (below 0: contradictory)" if known else "label")
    right.set_ylabel(f"mean rank of {critic} in its run (0 low, 1 high)" if known else critic)
    right.set_title("test segments by tenths of their agreement" if known else "test segments, first seed", fontsize=8)
    right.grid(color="0.92", lw=0.5)
    right.legend(frameon=False, fontsize=6.5, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2)


def average_by_agreement(segments: pd.DataFrame, score: str) -> tuple[Any, Any]:
    """Mean agreement and mean rank of a score, of the tenths of the segments by agreement; ranks within each run."""
    rank = segments.groupby("seed")[score].rank(pct=True)
    tenth = segments.agreement.rank(pct=True).mul(10).sub(1e-9).astype(int)
    return segments.agreement.groupby(tenth).mean(), rank.groupby(tenth).mean()


def draw_scores(left: Axes, right: Axes, label: str, group: pd.DataFrame) -> None:
    """Left: MMIM's score by modality; right: whether it tells how far the prediction moves."""
    group = group[group.on == ("new" if "new" in set(group.on) else "test")]
    names = list(dict.fromkeys(group.modality))
    for i, m in enumerate(names):
        mine = group[group.modality == m]
        draw_dots(left, i - 0.15, mine.score, HUES[0], "own segment" if i == 0 else "")
        draw_dots(left, i + 0.15, mine.score_other, HUES[1], "other segments" if i == 0 else "")
        draw_dots(right, i - 0.15, mine.rank_moved, HUES[0], "score" if i == 0 else "")
        draw_dots(right, i + 0.15, mine.rank_excess_moved, HUES[2], "score − other segments'" if i == 0 else "")
    right.axvline(0, color="0.5", lw=0.8)
    left.set_xlabel("mean score, cos(G(Z), h)")
    right.set_xlabel("rank correlation with how far the prediction moves")
    for axes, title in ((left, f"{label}: scores by modality"), (right, "does a score tell dependence?")):
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_title(title, fontsize=8)
        axes.grid(axis="x", color="0.92", lw=0.5)
        axes.legend(frameon=False, fontsize=6.5, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2)


def draw_dots(axes: Axes, at: float, values: pd.Series, colour: str, label: str = "") -> None:
    """Every seed, their mean, and its interval."""
    x = values.to_numpy(np.float64)
    mean, (low, high) = x.mean(), mean_interval(x) if np.isfinite(x).all() else (np.nan, np.nan)
    axes.scatter(values, np.full(len(values), at - 0.16), s=9, color=colour, alpha=0.6, lw=0)
    axes.errorbar(mean, at, xerr=[[mean - low], [high - mean]], color=colour, marker="D", ms=3.5, capsize=2, lw=1.1, label=label)
