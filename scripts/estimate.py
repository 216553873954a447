"""What estimators of dependence make of Gaussians whose dependence is known: a figure, a table and its numbers.

    python scripts/estimate.py experiment=mdm/figure1      paper 000, Figure 1: kl, f and wasserstein against the truth
    python scripts/estimate.py experiment=mdm/critics      kl and f: which way of training a critic survives minibatches
    python scripts/estimate.py experiment=mdm/lipschitz    wasserstein: which way of bounding a critic's slope attains the distance

The experiment file says which critics, on which laws, from which rows. Any of its keys can be set; for half a minute, say:

    … experiment=mdm/figure1 estimate.seeds=1 estimate.cell.marks=[300] estimate.laws.two.rhos=[0,0.5] ~estimate.laws.three

Prints a table and writes outputs/<name>/: figure.pdf, figure.png, estimates.csv (every seed and mark) and table.md.
Without data or models; estimate.jobs critics train at once, each on one core, and the numbers do not depend on how many.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from hydra import compose, initialize_config_dir
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from rich.console import Console
from rich.progress import track

from mdm.boundary import ended
from mdm.estimation import all_measured, over_seeds, plan, sigmoid_caps, truth
from mdm.hints import Positive, Range, Size
from mdm.runs import records
from mdm.runs.config import check
from mdm.runs.progress import quiet
from mdm.study import COLOURS, MOST_JOBS, write_figure
from mdm.sweeps.experiment import read_section

CONFIGS = Path(__file__).resolve().parents[1] / "configs"

NAMES = {"kl": "KL (Donsker–Varadhan)", "f": "f", "wasserstein": "Wasserstein-1"}
UNITS = {"kl": "nats", "f": "nats", "wasserstein": "distance"}


@dataclass(frozen=True)
class Law:
    """Gaussians of so many modalities, at several correlations."""

    modalities: Annotated[int, Range(2)]
    rhos: Sequence[float]


@dataclass(frozen=True)
class Setting:
    """How a critic gets its rows; every key but the first three is one of `Shared` and replaces it."""

    label: str
    laws: Sequence[str] | None = None
    critics: Sequence[str] | None = None
    dim: Size | None = None
    batch_size: Size | None = None
    rows: Size | None = None
    held_out: Size | None = None
    products: Size | None = None
    marks: Sequence[Size] | None = None
    lr: Positive | None = None


@dataclass(frozen=True)
class Shared:
    """What all cells share (`mdm.estimation.Cell`)."""

    dim: Size
    batch_size: Size
    rows: Size | None
    held_out: Size
    products: Size
    marks: Sequence[Size]
    lr: Positive
    penalty: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Critic:
    """penalty: arguments of `mdm.penalties.dependency.Dependency`; colour: number of a colour; show: whether the figure has it."""

    label: str
    colour: Annotated[int, Range(0, 5)]
    measures: Sequence[str]
    penalty: Mapping[str, Any]
    line: Literal["-", "--", "-.", ":"] = "-"
    show: bool = True


Side = Literal["measure", "modalities", "setting"]
"""What a row or a column of the figure may be of."""


@dataclass(frozen=True)
class Layout:
    """The figure: what its rows and columns are of, what else is drawn."""

    rows: Sequence[Side]
    columns: Sequence[Side]
    caps: bool
    top: Positive
    values: bool
    only: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Section:
    """The section ``estimate``."""

    title: str
    jobs: Annotated[int, Range(1, MOST_JOBS)]
    seeds: Size
    laws: Mapping[str, Law]
    cell: Shared
    settings: Mapping[str, Setting]
    critics: Mapping[str, Critic]
    figure: Layout


def main(overrides: list[str]) -> None:
    if {"-h", "--help"} & set(overrides):
        print(__doc__)
        return
    quiet()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", overrides)
    if "estimate" not in cfg:
        raise ValueError(
            f"Critics are measured where an experiment has a section estimate, but {cfg.name} has none; choose one, as "
            "experiment=mdm/figure1."
        )
    options = read_section(cfg, "estimate", Section)
    check(cfg)
    if not options["figure"]["rows"] or not options["figure"]["columns"]:
        raise ValueError(f"A figure has rows and columns, but {options['figure']} came; set estimate.figure.")
    cells = plan(options["laws"], options["settings"], options["critics"], options["cell"], options["seeds"])
    folder = Path(cfg.paths.outputs) / cfg.name
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for of_cell in track(all_measured(cells, options["jobs"]), cfg.name, len(cells), console=Console(stderr=True)):
        rows += of_cell
        records.write_table(folder / "estimates.csv", rows)  # what is killed has left what it had measured
    report(folder, options)


def report(folder: Path, options: Mapping[str, Any]) -> None:
    """Table and figure from the numbers on disk."""
    found = over_seeds(pd.read_csv(folder / "estimates.csv").to_dict("records"))
    text = f"{options['title']}; mean ± standard deviation of {options['seeds']} seeds.\n\n{tables(found, options)}"
    records.write_atomically(folder / "table.md", text)
    print(text)
    write_figure(folder, lambda: drawn(found, options))


# ---- table


def tables(found: pd.DataFrame, options: Mapping[str, Any]) -> str:
    """A Markdown table for each setting, measure and M. Where rows are fixed, what a critic reads on its batches stands beside."""
    parts = []
    for (setting, measure, modalities), group in found.groupby(["setting", "measure", "modalities"], sort=False):
        laws = group.drop_duplicates("rho").sort_values("rho")
        extra = [c for c in ("slope_mean", "slope_max", "ms_per_step") if group[c].notna().any()]
        lines = [[*(f"ρ = {rho:g}" for rho in laws.rho), *(c.replace("_", " ") for c in extra)]]
        names = ["", "truth"]
        lines.append([between(*pair) for pair in zip(laws.truth, laws.truth_upper, strict=True)])
        if laws.exact.notna().any():
            names.append("log p/q on the same rows")
            lines.append([short(value) for value in laws.exact])
        for name, mine in group.groupby("name", sort=False):
            names.append(options["critics"][name]["label"])
            cells = [f"{short(r['mean'])} ± {short(r['std'])}" for _, r in mine.sort_values("rho").iterrows()]
            if options["settings"][setting].get("rows", options["cell"]["rows"]) is not None:
                cells = [f"{c} (batch {short(t)})" for c, t in zip(cells, mine.sort_values("rho").train, strict=True)]
            lines.append([*cells, *(short(mine[c].max() if c == "slope_max" else mine[c].mean()) for c in extra)])
        width = len(lines[0])
        text = [
            f"| {name} | " + " | ".join([*line, *[""] * (width - len(line))]) + " |"
            for name, line in zip(names, lines, strict=True)
        ]
        where = f"M = {modalities}, {options['settings'][setting]['label']}, after {laws.step.iloc[0]:,} steps"
        title = f"**{NAMES[measure]}{of(group, options)}, {UNITS[measure]}, {where}**"
        parts.append("\n".join([title, "", text[0], "|---" * (width + 1) + "|", *text[1:]]))
    return "\n\n".join(parts) + "\n"


def of(found: pd.DataFrame, options: Mapping[str, Any]) -> str:
    """Which divergence, or divergences, the critics of ``f`` estimate; nothing for the other measures."""
    names = {options["critics"][name]["penalty"].get("divergence", "kl") for name in found[found.measure == "f"].name}
    return f" ({', '.join(sorted(names)).replace('_', ' ')})" if names else ""


def short(value: float) -> str:
    """Two decimals, or two digits of what is large; no sign before a zero."""
    return "–" if np.isnan(value) else f"{value + 0.0:.2f}".replace("-0.00", "0.00") if abs(value) < 1000 else f"{value:.2g}"


def between(lower: float, upper: float) -> str:
    return short(lower) if short(lower) == short(upper) else f"{short(lower)}–{short(upper)}"


# ---- figure


def drawn(found: pd.DataFrame, options: Mapping[str, Any]) -> Figure:
    """Small multiples of estimate against ρ, a row and a column for each value of the frame's columns that ``figure`` names."""
    shown = [name for name, critic in options["critics"].items() if critic.get("show", True)]
    found = found[found.name.isin(shown)]
    for key, value in (options["figure"].get("only") or {}).items():
        found = found[found[key] == value]
    by = [options["figure"]["rows"], options["figure"]["columns"]]
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
        axes.set_title(said(by[1], places[1][j], options) if i == 0 else "", fontsize=8)
        axes.set_xlabel("correlation ρ" if i == shape[0] - 1 else "")
        unit = UNITS[panel.measure.iloc[0]]
        label = f"{said(by[0], places[0][i], options)}\nestimate, {unit}" if j == 0 else unit if "measure" in by[1] else ""
        axes.set_ylabel(label)
    handles = [Line2D([], [], color="black", lw=1.2, label="truth")]
    for name in shown:
        colour, line = style(options["critics"][name])
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
    layout, marks = options["figure"], set[str]()
    fine = np.linspace(panel.rho.min(), panel.rho.max(), 61)
    of = options["critics"][panel.name.iloc[0]]["penalty"].get("divergence", "kl")
    known = np.array([truth(measure, rho, dim, modalities, of)[0] for rho in fine], dtype=float)
    axes.plot(fine, known, color="black", lw=1.2, zorder=5)
    finite = known[np.isfinite(known)]
    top = min(1.15 * (finite.max() if len(finite) else panel["max"].max()), layout["top"]) or 1.0
    if layout["caps"]:
        marks.add("caps")
        caps = [sigmoid_caps(rho, dim, modalities, 20_000)[measure] for rho in fine[::2]]
        axes.plot(fine[::2], caps, color="0.45", lw=1, ls=":")
    bottom = -0.1 * top
    for name, mine in panel.groupby("name", sort=False):
        mine, (colour, line) = mine.sort_values("rho"), style(options["critics"][name])
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


def style(critic: Mapping[str, Any]) -> tuple[str, str]:
    return COLOURS[1 + critic["colour"]], critic.get("line", "-")


def said(keys: Sequence[str], values: Sequence[Any], options: Mapping[str, Any]) -> str:
    """A panel's values in words."""
    words = {**NAMES, **{name: setting["label"] for name, setting in options["settings"].items()}}
    return "\n".join(f"M = {value}" if key == "modalities" else words[value] for key, value in zip(keys, values, strict=True))


if __name__ == "__main__":
    with ended():
        main(sys.argv[1:])
