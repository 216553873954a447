"""What is left of an experiment's runs when modalities fail at test time: numbers, a summary and a figure.

    python scripts/robustness.py experiment=mdm/figure2 [the overrides of its sweep] [jobs=2] [mixed=true]

Reads the runs that `python train.py -m experiment=mdm/figure2 …` left, predicts their test segments again without the modalities
that the section ``robustness`` of the experiment does not keep (`mdm.robustness`), and prints the ratio of Acc-2 to the untouched
run. Writes outputs/<name>/robustness/: figure.pdf, figure.png, summary.md, settings.csv (a row per cell: means, intervals, paired
differences) and runs.csv (a row per run and setting). Any key can be set: robustness.corruptions=[absent], say.

Runs of different code, libraries, data or settings are refused, as in tables; mixed=true takes them, and says what is mixed.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mdm.boundary import ended
from mdm.hints import Share
from mdm.reference import value
from mdm.robustness import Setting, evaluated, over_seeds, settings
from mdm.runs import records
from mdm.runs.trained import load
from mdm.study import COLOURS, command, composed, finished_runs, of_each, piped, without_jobs, write_figure
from mdm.sweeps.experiment import Table, read_section

CONFIGS = Path(__file__).resolve().parents[1] / "configs"

SAID = {
    "absent": "no step at all",
    "zero": "zero frames, padding words",
    "mean": "training mean",
    "noise": "another segment's",
}


@dataclass(frozen=True)
class Section:
    """The section ``robustness``, of which `mdm.robustness.settings` makes settings; printed: the paper's metric → what is kept."""

    title: str
    kept: Sequence[Sequence[str]]
    corruptions: Sequence[str]
    levels: Sequence[Share] | None = None
    printed: Mapping[str, Sequence[str]] | None = None


def main(arguments: list[str]) -> None:
    command(arguments, __doc__, CONFIGS, study)


def study(overrides: list[str], mixed: bool) -> None:
    """Find, load, predict, write, print.

    Raises ValueError if the experiment has no section ``robustness``, if no run has finished, and where `gather`, `refuse`,
    `mdm.runs.trained.load` and `mdm.robustness` do.
    """
    overrides, jobs = without_jobs(overrides)
    cfg = composed(overrides)
    if "robustness" not in cfg:
        raise ValueError(
            f"Modalities are dropped where an experiment has a section robustness, but {cfg.name} has none; choose one, as "
            "experiment=mdm/figure2."
        )
    section = read_section(cfg, "robustness", Section)
    wanted = settings(section)
    found_runs = finished_runs(overrides, mixed, loaded=True)
    declared = found_runs.table
    measured = of_each(dropped, [(run.folder, wanted) for _, run in found_runs.runs], jobs, f"{cfg.name}: runs")
    rows = []
    for (cell, run), of_run in zip(found_runs.runs, measured, strict=True):
        own = {"data": cell.data, "row": cell.row, "label": declared.rows[cell.row].label, "seed": run.seed}
        rows += [{**own, **row} for row in of_run]
    found = over_seeds(pd.DataFrame(rows), {name: row.baseline for name, row in declared.rows.items()})
    folder = found_runs.folder("robustness")
    records.write_table(folder / "runs.csv", rows)
    records.write_table(folder / "settings.csv", found.to_dict("records"))
    text = summary(found, section, declared, found_runs.notes)
    records.write_atomically(folder / "summary.md", text)
    print(text, end="")
    write_figure(folder, lambda: drawn(pd.DataFrame(rows), found))


def dropped(folder: Path, wanted: list[Setting]) -> list[dict[str, Any]]:
    """The rows of one run."""
    return evaluated(load(folder), wanted)


# ---- summary


def summary(found: pd.DataFrame, section: Mapping[str, Any], declared: Table, notes: list[str]) -> str:
    """Markdown: for each data set and corruption (noise at its highest level) the ratios, and what they differ by."""
    parts = [f"# {section['title']}"]
    top = found[found.corruption == "noise"].level.max()
    shown = found[(found.corruption != "noise") | (found.level == top)]
    for data, here in shown.groupby("data", sort=False):
        clean = here[here.corruption == "none"].set_index("row")
        seeds = f"{clean.seeds.min()} to {clean.seeds.max()}" if clean.seeds.nunique() > 1 else str(clean.seeds.iloc[0])
        for corruption, group in here[here.corruption != "none"].groupby("corruption", sort=False):
            level = f", level {top:g}" if corruption == "noise" else ""
            kept = list(dict.fromkeys(group.kept))
            head = ["", "Acc-2, all kept", *(column for k in kept for column in (f"{k} kept: ratio", "difference"))]
            lines = [head]
            for row, mine in group.groupby("row", sort=False):
                cell = mine.set_index("kept")
                line = [mine.label.iloc[0], interval(clean.loc[row], "acc2_pos")]
                for k in kept:
                    mark = "†" if cell.loc[k, "constant"] == cell.loc[k, "seeds"] else ""
                    line += [interval(cell.loc[k], "ratio") + mark, difference(cell.loc[k], "ratio")]
                lines.append(line)
            parts.append(f"**{data}, removed: {corruption} ({SAID[corruption]}{level}); {seeds} seeds**")
            parts.append(piped(lines))
            if section.get("printed"):
                parts.append(beside(group, clean, section["printed"], declared, str(data)))
            if (group.constant == group.seeds).any():
                parts.append("† every prediction is the same: nothing of what is kept reaches it.")
    parts.append(
        "Ratio: Acc-2 (zero labels left out) of the corrupted to that of the untouched run. Brackets: 95 % t intervals over seeds. "
        "Difference: of the ratio to the first row's, paired by seed, and the p of the exact sign-flip test, not corrected for "
        "the number of comparisons. A constant has a ratio of "
        + ", ".join(f"{r.majority / r.acc2_pos:.2f} ({r.label})" for r in found[found.corruption == "none"].itertuples())
        + " by the more frequent sign: a run that learned less has less to lose."
    )
    return "\n\n".join([*parts, *notes]) + "\n"


def interval(row: pd.Series, metric: str) -> str:
    bounds = "" if np.isnan(row[f"{metric}_low"]) else f" [{row[f'{metric}_low']:.3f}, {row[f'{metric}_high']:.3f}]"
    return f"{row[metric]:.3f}{bounds}"


def difference(row: pd.Series, metric: str) -> str:
    by, low, high = (row[f"{metric}_difference{end}"] for end in ("", "_low", "_high"))
    return "" if np.isnan(by) else f"{by:+.3f} [{low:+.3f}, {high:+.3f}], p {row[f'{metric}_p']:.3f}"


def beside(group: pd.DataFrame, clean: pd.DataFrame, printed: Mapping[str, list[str]], declared: Table, data: str) -> str:
    """Acc-2 in percent, the paper's value behind it.

    printed: the paper's column → the modalities that it keeps, those of a setting
    """
    lines = [["Acc-2, percent (printed)", "none dropped", *(c.removeprefix("acc2_drop_") + " dropped" for c in printed)]]
    for row, mine in group.groupby("row", sort=False):
        cell, keys = mine.set_index("kept"), declared.rows[str(row)].paper
        values = {"acc2_drop_none": clean.loc[row], **{c: cell.loc["+".join(kept)] for c, kept in printed.items()}}
        line = [mine.label.iloc[0]]
        for column, ours in values.items():
            where = (declared.paper["paper"], declared.paper["table"], declared.data.get(data, data), "sentiment")
            theirs = value(*where, keys["model"], keys["penalty_or_variant"], column)
            line.append(f"{100 * ours.acc2_pos:.1f} ({theirs.value})")
        lines.append(line)
    return piped(lines)


# ---- figure


def drawn(runs: pd.DataFrame, found: pd.DataFrame) -> Figure:
    """Panels of a data set: for each corruption the ratio by what is kept, then the course under noise for each that is kept."""
    top = found.level[found.corruption == "noise"].max()
    kept = list(dict.fromkeys(found[found.corruption != "none"].kept))
    panels: list[tuple[str, str, str]] = []
    for data in dict.fromkeys(found.data):
        panels += [(data, c, "") for c in dict.fromkeys(found.corruption) if c != "none"]
        panels += [(data, "", k) for k in kept] if top > 0 else []
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(7.2, 0.7 + 1.9 * lines), layout="constrained")
    grid: Any = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for place, (data, corruption, of) in enumerate(panels):
        axes, ours, cell = grid.flat[place], runs[runs.data == data], found[found.data == data]
        title = f"{data}: " if found.data.nunique() > 1 else ""
        if corruption:
            level = top if corruption == "noise" else 1.0
            here, means = (frame[(frame.corruption == corruption) & (frame.level == level)] for frame in (ours, cell))
            draw_kept(axes, here, means, kept)
            title += f"removed: {corruption}" + (f", level {top:g}" if corruption == "noise" else "")
        else:
            draw_noise(axes, ours, cell, of)
            title += f"{of.replace('+', ' and ')} kept, rest noisy"
        clean = cell[cell.corruption == "none"]
        axes.axhline(float((clean.majority / clean.acc2_pos).mean()), color="0.5", lw=0.8, ls=":", zorder=0)
        axes.set_title(title, fontsize=7.5)
        if place % columns == 0:
            axes.set_ylabel("Acc-2, corrupt / untouched", fontsize=7.5)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    labels = found.drop_duplicates("row").label
    handles = [Line2D([], [], color=COLOURS[i % len(COLOURS)], marker="o", ms=4, lw=1.1, label=t) for i, t in enumerate(labels)]
    handles.append(Line2D([], [], color="0.5", lw=0.8, ls=":", label="the more frequent sign, always"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)), frameon=False, fontsize=7.5)
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


if __name__ == "__main__":
    with ended():
        main(sys.argv[1:])
