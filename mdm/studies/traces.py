"""Losses of runs while they trained, every part apart, with the best epoch marked (Han et al., 2021, Figure 2).

Han et al. (2021) draw a point per 20 steps and reads off one run that, where the best epoch ends, L_BA is lowest while L_CPC and
the task loss still fall. A record holds the mean of every epoch, of every model and penalty, so the same can be asked of many runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mdm.runs import records
from mdm.studies._base import Frames, Study, StudyRun, Tables
from mdm.studies._write import COLOURS, choose_columns, format_mean, render_table

TASK, OWN = "task", "own terms"

Panels = dict[str, dict[str, pd.Series]]
"""Panel → line → its values by epoch."""
Traced = tuple[dict[str, Any], int, pd.Series, Panels]
"""(data, row and seed, chosen epoch, epochs, panels) of a run."""


@dataclass(frozen=True)
class Traces(Study):
    """Every loss of any trained run, of whichever model and penalty, and whether it is lowest where the best epoch ends.

        mdm study study=traces experiment=mmim/figure2

    lowest.csv   a row per run and loss; the numbers of the figure are the curve.csv of each run
    """

    title: str | None = None

    reads: ClassVar[Literal["models", "records", "nothing"]] = "records"
    unwritten: ClassVar[tuple[str, ...]] = ("panels",)

    def measure(self, run: StudyRun) -> Tables:
        """Where each loss is lowest, and its course."""
        curve, chosen = records.read_table(run.folder, records.CURVE), records.read_record(run.folder)["selected"]
        keys = {"data": run.data, "row": run.label, "seed": run.seed}
        lowest = [{**keys, **row} for row in find_lowest(curve, chosen["by"], chosen["epoch"])]
        panels = split_curve(curve, chosen["by"])
        return {"lowest": lowest, "panels": [{"run": (keys, chosen["epoch"], curve.epoch, panels)}]}

    def summary(self, frames: Frames) -> str:
        """A line for each loss of each row."""
        return "\n\n".join([f"# {frames.title}: losses", render_losses(frames["lowest"]), *frames.notes]) + "\n"

    def figure(self, frames: Frames) -> Figure:
        """A panel for each kind of loss of each row of the table."""
        return draw_traces(list(frames["panels"].run), frames.data_names)


def split_curve(curve: pd.DataFrame, select: str) -> dict[str, dict[str, pd.Series]]:
    """A panel for each kind of quantity of a curve: panel → line → its values by epoch; lines without a value are left out.

    ``task``: the training loss, and ``select``, the column that the checkpoint is chosen by. ``own terms``: what the model's own
    paper adds to the loss (MMIM's CPC), and their sum. For each penalty, ``penalty <name>``: what it adds, and the sum of several
    (``own``: the model's, as MMIM's L_BA); and ``estimate <name>``: what it measures, on training and on validation rows. Weights
    and signs of losses are included.

    Raises ValueError if the curve is not that of a run that was trained.
    """
    if "train/task" not in curve or select not in curve:
        raise ValueError(
            f"Losses are traced in the curve of a trained run, which has train/task and {select}, but this one has "
            f"{', '.join(curve)}; choose a run of another model than baseline."
        )
    panels: dict[str, dict[str, pd.Series]] = {TASK: {"train": curve["train/task"], select: curve[select]}}
    names = [name for name in curve if name.startswith("train/") and name != "train/task" and curve[name].notna().any()]
    for name in names:
        first, _, rest = name.removeprefix("train/").partition("/")
        twin = f"valid/{first}/{rest}"
        if not rest:
            panels.setdefault(OWN, {})[first] = curve[name]
        elif twin in curve:
            panels.setdefault(f"estimate {first}", {}).update({f"{rest}, train": curve[name], f"{rest}, valid": curve[twin]})
        else:
            panels.setdefault(f"penalty {first}", {})[rest] = curve[name]
    for panel, lines in panels.items():
        if panel != TASK and not panel.startswith("estimate ") and len(lines) > 1:
            lines["sum"] = pd.concat(lines.values(), axis=1).sum(axis=1, skipna=False)
    return panels


def find_lowest(curve: pd.DataFrame, select: str, epoch: int) -> list[dict[str, Any]]:
    """Of every loss (the sum where a penalty has several terms): where it is lowest, beside the chosen epoch.

    chosen_epoch, lowest_epoch, epochs; at_chosen, lowest, last: its values; rank: the share of the other epochs in which it is
    lower than at the chosen one, 0 if it is lowest there
    """
    rows = []
    for panel, lines in split_curve(curve, select).items():
        if panel.startswith("estimate "):
            continue
        for name, line in lines.items():
            if panel != TASK and name != "sum" and len(lines) > 1:
                continue
            values = line.to_numpy(dtype=np.float64)
            at = float(values[curve.epoch.to_numpy() == epoch][0])
            known = values[np.isfinite(values)]
            rows.append(
                {
                    "loss": panel if panel != TASK else "task, train" if name == "train" else name,
                    "chosen_epoch": epoch,
                    "lowest_epoch": int(curve.epoch[line.idxmin()]) if len(known) else -1,
                    "epochs": len(values),
                    "at_chosen": at,
                    "lowest": float(known.min()) if len(known) else math.nan,
                    "last": float(values[-1]),
                    "rank": float((known < at).sum() / (len(known) - 1)) if len(known) > 1 and math.isfinite(at) else math.nan,
                }
            )
    return rows


def render_losses(found: pd.DataFrame) -> str:
    """A line for each loss of each row."""
    heads = ["", "loss", "runs", "lowest at the best epoch", "epochs from the best to the lowest"]
    heads += ["share of other epochs where lower", "at the best", "lowest", "last"]
    lines = [heads]
    for (data, row, loss), of in found.groupby(["data", "row", "loss"], sort=False):
        later = of.lowest_epoch - of.chosen_epoch
        values = (f"{of[name].mean():.3f}" for name in ("at_chosen", "lowest", "last"))
        cells = [
            f"{row} on {data}",
            loss,
            str(len(of)),
            f"{int((later == 0).sum())} of {len(of)}",
            format_mean(later, 2),
            format_mean(of["rank"], 2),
        ]
        lines.append([*cells, *values])
    return render_table(lines) + "\n\nMeans of epochs, weights and signs included; mean and 95 % t interval over seeds."


# ---- figure


def draw_traces(runs: list[Traced], names: Mapping[str, str]) -> Figure:
    """A panel for each kind of loss that a row of the table has; a line a seed, a dot where its best epoch ends.

    names: data → what the picture calls them
    """
    rows = list(dict.fromkeys((keys["data"], keys["row"]) for keys, *_ in runs))
    kinds = list(dict.fromkeys(kind for *_, panels in runs for kind in panels))
    of = {row: [run for run in runs if (run[0]["data"], run[0]["row"]) == row] for row in rows}
    drawn = [(row, kind) for row in rows for kind in kinds if any(kind in panels for *_, panels in of[row])]
    beside, width = choose_columns(len(drawn))
    deep = -(-len(drawn) // beside)
    figure = Figure(figsize=(width, 0.4 + 1.7 * deep), layout="constrained")
    grid: Any = figure.subplots(deep, beside, squeeze=False)
    for axes, (row, kind) in zip(grid.flat, drawn, strict=False):
        draw_panel(axes, of[row], kind)
        data, label = row
        where = f", {names.get(data, data)}" if len({data for data, _ in rows}) > 1 else ""
        axes.set_title(f"{label}{where}\n{kind}", fontsize=7)
        axes.set_xlabel("epoch")
    for axes in grid.flat[len(drawn) :]:
        axes.set_visible(False)
    if len({data for data, _ in rows}) == 1:
        figure.suptitle(names.get(rows[0][0], rows[0][0]), fontsize=8)
    dot = Line2D([], [], color="black", marker="o", ms=3.5, ls="", label="best epoch, chosen on validation; a line a seed")
    figure.legend(handles=[dot], loc="outside lower center", frameon=False, fontsize=7)
    return figure


def draw_panel(axes: Axes, runs: list[Traced], kind: str) -> None:
    """The losses of one kind, a line for each seed."""
    names = list(dict.fromkeys(name for *_, panels in runs for name in panels.get(kind, {})))
    for k, name in enumerate(names):
        colour = "black" if name == "sum" else COLOURS[1 + k % (len(COLOURS) - 1)]
        for n, (_, chosen, epochs, panels) in enumerate(runs):
            line = panels.get(kind, {}).get(name)
            if line is not None:
                axes.plot(epochs, line, color=colour, lw=1, alpha=0.7, label=name if n == 0 else "")
                axes.plot(epochs[epochs == chosen], line[epochs == chosen], color=colour, marker="o", ms=3.5, ls="")
    axes.grid(color="0.92", lw=0.5)
    axes.legend(frameon=False, fontsize=6.5)
