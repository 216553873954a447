"""What critics made of Gaussians, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from mdm.studies._write import COLOURS
from mdm.studies.estimation.closed_forms import draw_sigmoid_caps, find_truth
from mdm.studies.estimation.wording import NAMES, UNITS


def draw_estimates(found: pd.DataFrame, options: Mapping[str, Any]) -> Figure:
    """Small multiples of estimate against ρ, a row and a column for each value of the frame's columns that ``layout`` names."""
    shown = [name for name, critic in options["critics"].items() if critic.get("show", True)]
    found = found[found.name.isin(shown)]
    for key, value in (options["layout"].get("only") or {}).items():
        found = found[found[key] == value]
    by = [options["layout"]["rows"], options["layout"]["columns"]]
    places = [[tuple(values) for values in found[keys].drop_duplicates().to_numpy()] for keys in by]
    shape = [len(values) for values in places]
    figure = Figure(figsize=(7.0, 0.75 + 1.9 * shape[0]), layout="constrained")
    grid: Any = figure.subplots(shape[0], shape[1], squeeze=False, sharex="col")
    marks: set[str] = set()
    for i, j in np.ndindex(*shape):
        panel, axes = found, grid[i, j]
        for keys, values in zip(by, (places[0][i], places[1][j]), strict=True):
            for key, value in zip(keys, values, strict=True):
                panel = panel[panel[key] == value]
        marks |= draw_panel(axes, panel, options)
        axes.set_title(describe_panel(by[1], places[1][j], options) if i == 0 else "", fontsize=8)
        axes.set_xlabel("correlation ρ" if i == shape[0] - 1 else "")
        unit = UNITS[panel.measure.iloc[0]]
        label = (
            f"{describe_panel(by[0], places[0][i], options)}\nestimate, {unit}" if j == 0 else unit if "measure" in by[1] else ""
        )
        axes.set_ylabel(label)
    handles = [Line2D([], [], color="black", lw=1.2, label="truth")]
    for name in shown:
        colour, line = find_style(options["critics"][name])
        handles.append(Line2D([], [], color=colour, ls=line, marker="o", ms=2.5, lw=1.1, label=options["critics"][name]["label"]))
    if "caps" in marks:
        handles.append(Line2D([], [], color="0.45", lw=1, ls=":", label="most that a critic in [0, 1] can read"))
    if "batch" in marks:
        handles.append(Line2D([], [], color="0.3", lw=0.7, ls=":", label="what it reads on its own batches"))
    if "off" in marks:
        handles.append(Line2D([], [], color="0.3", ls="", marker="v", ms=4, label="off the scale"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=7.5)
    return figure


def draw_panel(axes: Axes, panel: pd.DataFrame, options: Mapping[str, Any]) -> set[str]:
    """One law and measure: truth, caps, every critic with the range of its seeds. Names what of these the legend must explain."""
    measure, modalities, dim = panel.measure.iloc[0], int(panel.modalities.iloc[0]), options["cell"]["dim"]
    layout, marks = options["layout"], set[str]()
    fine = np.linspace(panel.rho.min(), panel.rho.max(), 61)
    of = options["critics"][panel.name.iloc[0]]["penalty"].get("divergence", "kl")
    known = np.array([find_truth(measure, rho, dim, modalities, of)[0] for rho in fine], dtype=float)
    axes.plot(fine, known, color="black", lw=1.2, zorder=5)
    finite = known[np.isfinite(known)]
    top = min(1.15 * (finite.max() if len(finite) else panel["max"].max()), layout["top"]) or 1.0
    if layout["caps"]:
        marks.add("caps")
        caps = [draw_sigmoid_caps(rho, dim, modalities, 20_000)[measure] for rho in fine[::2]]
        axes.plot(fine[::2], caps, color="0.45", lw=1, ls=":")
    bottom = -0.1 * top
    for name, mine in panel.groupby("name", sort=False):
        mine, (colour, line) = mine.sort_values("rho"), find_style(options["critics"][name])
        rho, mean = mine.rho.to_numpy(), mine["mean"].to_numpy()
        inside = (bottom <= mean) & (mean <= top)
        # Up to the edge, but no line between two values beyond it, which would say something about what lies between.
        for k in np.flatnonzero(inside[1:] | inside[:-1]):
            axes.plot(rho[k : k + 2], mean[k : k + 2].clip(bottom, top), color=colour, ls=line, lw=1.1)
        axes.plot(rho[inside], mean[inside], color=colour, ls="", marker="o", ms=2.5)
        axes.fill_between(rho, mine["min"], mine["max"], where=inside, color=colour, alpha=0.18, lw=0)
        if options["settings"][mine.setting.iloc[0]].get("rows") is not None:
            marks.add("batch")
            axes.plot(rho, mine.train, color=colour, ls=":", lw=0.7)
        for x, value in zip(rho[~inside], mean[~inside], strict=True):
            marks.add("off")
            high = value > top
            axes.plot(x, top if high else bottom, color=colour, marker="^" if high else "v", ms=4, clip_on=False, ls="", zorder=6)
            if layout["values"]:
                end, shift = (top, -9) if high else (bottom, 5)
                text = f"{value:,.0f}".replace("-", "−")
                note = axes.annotate(text, (x, end), (0, shift), textcoords="offset points", ha="center", fontsize=6, color=colour)
                note.set(zorder=7, path_effects=[withStroke(linewidth=2, foreground="white")])
    axes.set_ylim(bottom, top)
    axes.grid(color="0.92", lw=0.5)
    return marks


def find_style(critic: Mapping[str, Any]) -> tuple[str, str]:
    """Colour and line of a critic."""
    return COLOURS[1 + critic.get("colour", 0)], critic.get("line", "-")


def describe_panel(keys: Sequence[str], values: Sequence[Any], options: Mapping[str, Any]) -> str:
    """A panel's values in words."""
    words = {**NAMES, **{name: setting["label"] for name, setting in options["settings"].items()}}
    return "\n".join(f"M = {value}" if key == "modalities" else words[value] for key, value in zip(keys, values, strict=True))
