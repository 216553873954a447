"""What constraints on MIRD's representations do: the figures 4, 5 and 8 of paper 004, with numbers that can decide.

    python scripts/disentanglement.py experiment=mird/figure4      representations by t-SNE; separation and dependence, held out
    python scripts/disentanglement.py experiment=mird/figure5      estimated mutual information at every epoch
    python scripts/disentanglement.py experiment=mird/figure8      three test segments, and the whole test fold

Reads the runs that `python train.py -m experiment=mird/figure4 …` left; give the same overrides. The section ``study`` says what is
made of them (`mdm.disentanglement`), and any of its keys can be set: study.steps=300, say. Writes outputs/<name>/<study>/:
figure.pdf, figure.png, summary.md, runs.csv (every seed), differences.csv (pairs of rows, paired by seed) and, for Figure 4,
points.csv (what the picture shows). jobs=2 reads two runs at once.

Runs of different code, libraries, data or settings are refused, as in tables; mixed=true takes them, and says what is mixed.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mdm import disentanglement as study
from mdm.boundary import ended
from mdm.hints import Size
from mdm.runs import records
from mdm.runs.trained import load
from mdm.statistics import mean_interval
from mdm.study import (
    COLOURS,
    command,
    composed,
    finished_runs,
    kind_of,
    mean_and_interval,
    of_each,
    piped,
    without_jobs,
    write_figure,
)
from mdm.sweeps.experiment import Table, read_section

CONFIGS = Path(__file__).resolve().parents[1] / "configs"

GREY, BLUE, RED, GREEN, PINK, ORANGE, SKY = COLOURS
OF_ROWS = (GREY, SKY, PINK, ORANGE, GREEN)
CLOUDS = {"language": BLUE, "video": ORANGE, "audio": GREEN, "shared": RED}
"""Of representations, in the paper's hues."""
SAID = {
    "silhouette": "silhouette",
    "accuracy": "named by a linear classifier",
    "dimensions": "dimensions in use, mean",
    "linear": "linear R², mean of pairs",
    "hsic": "HSIC, mean of pairs",
    "nats": "I(x; y) ≥, nats, mean of pairs",
}


@dataclass(frozen=True)
class Fresh:
    """New segments to fit, stop and measure on."""

    train: Size
    valid: Size
    test: Size


@dataclass(frozen=True)
class Codes:
    """The section ``study`` of Figure 4; ``fresh`` null: the run's own folds."""

    kind: str
    title: str
    fresh: Fresh | None
    steps: Size


@dataclass(frozen=True)
class Estimates:
    """The section ``study`` of Figure 5."""

    kind: str
    title: str


@dataclass(frozen=True)
class Cases:
    """The section ``study`` of Figure 8."""

    kind: str
    title: str
    cases: Size


SECTIONS = {"codes": Codes, "estimates": Estimates, "cases": Cases}


def main(arguments: list[str]) -> None:
    command(arguments, __doc__, CONFIGS, run_study)


def run_study(overrides: list[str], mixed: bool) -> None:
    """Find, load, measure, write, print.

    Raises ValueError if the experiment has no such section ``study``, if no run has finished, and where `gather`, `refuse`,
    `mdm.runs.trained.load` and `mdm.disentanglement` do.
    """
    overrides, jobs = without_jobs(overrides)
    cfg = composed(overrides)
    kind = kind_of(cfg)
    if kind not in KINDS:
        raise ValueError(
            f"Disentanglement is studied where an experiment has a section study of the kind {', '.join(KINDS)}, but {cfg.name} "
            f"has {kind}; choose one, as experiment=mird/figure4."
        )
    section = read_section(cfg, "study", SECTIONS[kind])
    of_experiment = finished_runs(overrides, mixed, loaded=kind != "estimates")
    declared = of_experiment.table
    calls = [
        (section, run.folder, {"data": cell.data, "row": cell.row, "label": declared.rows[cell.row].label, "seed": run.seed})
        for cell, run in of_experiment.runs
    ]
    found = of_each(measured, calls, jobs, f"{cfg.name}: runs")
    rows = pd.DataFrame([row for of_run, _ in found for row in of_run])
    folder = of_experiment.folder(section["kind"])
    records.write_table(folder / "runs.csv", rows.to_dict("records"))
    points = pd.DataFrame([point for _, of_run in found for point in of_run])
    if len(points):
        records.write_table(folder / "points.csv", points.to_dict("records"))
    summarised, drawn = KINDS[section["kind"]]
    order = [(b, a) for a, b in combinations(declared.rows, 2)]
    text, differences = summarised(rows, order, declared)
    records.write_table(folder / "differences.csv", differences.to_dict("records"))
    text = "\n\n".join([f"# {section['title']}", *text, *of_experiment.notes]) + "\n"
    records.write_atomically(folder / "summary.md", text)
    print(text, end="")
    write_figure(folder, lambda: drawn(rows, points))


def measured(section: Mapping[str, Any], folder: Path, own: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of one run, and the points of its picture: those of seed 0, one run of many, as in the paper."""
    points: list[dict[str, Any]] = []
    if section["kind"] == "estimates":
        rows: Sequence[Mapping[str, Any]] = study.estimates(folder)
    elif section["kind"] == "cases":
        rows = [*study.cases(load(folder), section["cases"]), *study.errors(folder)]
    else:
        trained = load(folder)
        rows = study.measures(trained, section["fresh"], section["steps"])
        if own["seed"] == 0:
            of = study.codes(trained.backbone, trained.batches("test"))
            names = [name for name, x in of.items() for _ in range(len(x))]
            points = [
                {**own, "representation": name, "x": float(x), "y": float(y)}
                for name, (x, y) in zip(names, study.projected(of, seed=0), strict=True)
            ]
    return [{**own, **row} for row in rows], points


# ---- Figure 4


def summarised_codes(rows: pd.DataFrame, order: Sequence[tuple[str, str]], table: Table) -> tuple[list[str], pd.DataFrame]:
    """Every measure, mean over what it was measured of; nats by pair; what rows differ by."""
    over = rows.groupby(["data", "measure", "row", "label", "seed"], sort=False, as_index=False)["value"].mean()
    parts = [
        f"**{data}: mean and 95 % t interval over {here.seed.nunique()} seed(s); paired differences**\n\n"
        + with_differences(here, "measure", order, table, SAID)
        for data, here in over.groupby("data", sort=False)
    ]
    by_pair = rows[rows.measure == "nats"]
    parts += [
        f"**{data}: lower bound on I(x; y) by pair, nats**\n\n{with_differences(here, 'pair', order, table, {})}"
        for data, here in by_pair.groupby("data", sort=False)
    ]
    parts.append(
        "Silhouette and classifier (chance is one over the number of representations) are of the test segments' representations as "
        "points, and say how far the clouds lie apart. Dependence is 0 where representations are independent; only it says whether "
        "they are disentangled. Dimensions: what is constant is independent of everything."
    )
    return parts, study.differences(rows, order, ["data", "measure", "pair"])


def drawn_codes(rows: pd.DataFrame, points: pd.DataFrame) -> Figure:
    """The paper's pictures in a row; below them separation, and dependence by pair, a dot a seed."""
    data = rows.data.iloc[0]
    rows = rows[rows.data == data]
    names = list(dict.fromkeys(rows.row))
    figure = Figure(figsize=(7.2, 4.9), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=[1.15, 1])
    upper, lower = halves
    panels: Any = upper.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        for kind, colour in CLOUDS.items():
            here = points[(points.data == data) & (points.row == name) & (points.representation == kind)] if len(points) else points
            if len(here):
                axes.plot(here.x, here.y, color=colour, ls="", marker=".", ms=2, alpha=0.6, mec="none", rasterized=True)
        mine = rows[(rows.row == name) & (rows.measure == "silhouette")].value.mean()
        axes.set_title(f"{rows[rows.row == name].label.iloc[0]} (silhouette {mine:.2f})", fontsize=8)
        axes.set(xticks=[], yticks=[])
    handles = [Line2D([], [], color=c, ls="", marker="o", ms=4, label=f"$z$ {k}") for k, c in CLOUDS.items()]
    upper.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=7.5)
    left, right = lower.subplots(1, 2, width_ratios=[1, 2.6])
    draw_groups(left, rows[rows.measure.isin(["silhouette", "accuracy"])], "measure", names)
    left.set_xticks(range(2), ["silhouette", "linear\nclassifier"])
    left.set_ylabel("separation of the clouds")
    nats = rows[rows.measure == "nats"]
    draw_groups(right, nats, "pair", names)
    right.set_xticks(range(nats.pair.nunique()), [p.replace("–", "–\n") for p in dict.fromkeys(nats.pair)])
    right.set_ylabel("dependence, nats (held out)")
    right.axhline(0, color="0.5", lw=0.6, zorder=0)
    legend_of_rows(lower, rows)
    return figure


# ---- Figure 5


def summarised_estimates(rows: pd.DataFrame, order: Sequence[tuple[str, str]], table: Table) -> tuple[list[str], pd.DataFrame]:
    """The last epoch that all runs reached."""
    last = rows.groupby(["data", "row", "seed"]).epoch.max().min()
    end = rows[rows.epoch == last]
    parts = [
        f"**{data}, epoch {last:g}: CLUB summed over pairs, nats; mean and 95 % t interval over {here.seed.nunique()} seed(s); "
        "paired differences**\n\n" + with_differences(here, "fold", order, table, {"valid": "held out", "train": "training rows"})
        for data, here in end.groupby("data", sort=False)
    ]
    parts.append(
        "CLUB with a fitted q is neither an upper nor a lower bound: held-out rows that q does not fit lower it without any limit. "
        "The paper prints about 0.4 without and 0.2 with unlabelled data, on training batches and codes as they are; here they "
        "are standardised. experiment=mird/figure4 measures what is left with critics that are fitted afterwards."
    )
    return parts, study.differences(end, order, ["data", "fold"])


def drawn_estimates(rows: pd.DataFrame, points: pd.DataFrame) -> Figure:
    """Epoch against the estimate, a thin line a seed, their mean thick."""
    figure = Figure(figsize=(7.2, 2.7), layout="constrained")
    panels: Any = figure.subplots(1, 2)
    for axes, (fold, title) in zip(panels, {"valid": "held-out rows", "train": "training rows"}.items(), strict=True):
        here = rows[rows.fold == fold]
        for i, row in enumerate(dict.fromkeys(rows.row)):
            mine, colour = here[here.row == row], OF_ROWS[i % len(OF_ROWS)]
            for _, seed in mine.groupby("seed"):
                axes.plot(seed.epoch, seed.value, color=colour, lw=0.5, alpha=0.5)
            mean = mine.groupby("epoch").value.mean()
            axes.plot(mean.index, mean, color=colour, lw=1.4, marker="o", ms=2.5)
        axes.axhline(0, color="0.5", lw=0.6, zorder=0)
        axes.set_yscale("symlog", linthresh=1)  # constraints differ by orders of magnitude, and estimates may be below 0
        axes.set_ylim(min(0.0, 1.5 * here.value.min()), 1.5 * here.value.max())
        axes.set(xlabel="epoch", title=title)
        axes.grid(color="0.92", lw=0.5)
    panels[0].set_ylabel("CLUB, sum over pairs, nats")
    legend_of_rows(figure, rows)
    return figure


# ---- Figure 8


def summarised_cases(rows: pd.DataFrame, order: Sequence[tuple[str, str]], table: Table) -> tuple[list[str], pd.DataFrame]:
    """The cases, and the same comparison over the whole test fold."""
    whole = rows[rows.id == "all"].assign(measure="mean |error| of the test fold", value=lambda r: r.error)
    single = rows[rows.id != "all"]
    lines = [["segment", "label", *dict.fromkeys(rows.label), *(f"cosine {name}" for name in dict.fromkeys(rows.label))]]
    for name, here in single.groupby("id", sort=False):
        cells_ = [mean_and_interval(mine.prediction) for _, mine in here.groupby("row", sort=False)]
        cosines = [f"{mine.cosine.mean():.3f}" for _, mine in here.groupby("row", sort=False)]
        lines.append([f"{name}: {shortened(here.words.iloc[0], 60)}", f"{here.truth.iloc[0]:+.1f}", *cells_, *cosines])
    parts = [
        f"**Predictions, mean and 95 % t interval over {rows.seed.nunique()} seed(s); mean \\|cosine\\| of representations**\n\n"
        + piped(lines)
    ]
    parts.append(f"**All test segments**\n\n{with_differences(whole, 'measure', order, table, {})}")
    return parts, study.differences(whole, order, ["data", "measure"])


def drawn_cases(rows: pd.DataFrame, points: pd.DataFrame) -> Figure:
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
        axes.set_title(f"{name}  “{shortened(here.words.iloc[0], 90)}”", fontsize=7.5, loc="left")
        axes.grid(axis="x", color="0.92", lw=0.5)
    grid[-1].set_xlabel("sentiment (black: label)")
    return figure


# ---- shared


def with_differences(rows: pd.DataFrame, by: str, order: Sequence[tuple[str, str]], table: Table, said: Mapping[str, str]) -> str:
    """Markdown: a line for each value of ``by`` with every row's mean, then the paired differences of rows."""
    names = list(dict.fromkeys(rows.row))
    those = [(a, b) for a, b in order if a in names and b in names]
    labels = {name: table.rows[name].label for name in names}
    found = study.differences(rows, those, [by])
    head = ["", *labels.values(), *(f"{labels[a]} − {labels[b]}" for a, b in those)]
    lines = [head]
    for key, here in rows.groupby(by, sort=False):
        means = [mean_and_interval(here[here.row == name].value) for name in names]
        mine = found[found[by] == key].set_index(["row", "baseline"]) if len(found) else found
        gaps = [gap(mine.loc[pair]) if len(mine) and pair in mine.index else "" for pair in those]
        lines.append([said.get(str(key), str(key)), *means, *gaps])
    return piped(lines)


def gap(found: pd.Series) -> str:
    bounds = "" if np.isnan(found.low) else f" [{found.low:+.3f}, {found.high:+.3f}]"
    return f"{found.difference:+.3f}{bounds}"


def shortened(words: str, length: int) -> str:
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


def legend_of_rows(figure: Any, rows: pd.DataFrame) -> None:
    labels = rows.drop_duplicates("row").label
    handles = [Line2D([], [], color=OF_ROWS[i % len(OF_ROWS)], marker="o", ms=4, lw=1.2, label=t) for i, t in enumerate(labels)]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=7.5)


KINDS: dict[str, tuple[Any, Any]] = {
    "codes": (summarised_codes, drawn_codes),
    "estimates": (summarised_estimates, drawn_estimates),
    "cases": (summarised_cases, drawn_cases),
}
"""What ``study.kind`` may be: its summary and its figure."""


if __name__ == "__main__":
    with ended():
        main(sys.argv[1:])
