"""What scripts/robustness.py and scripts/explain.py wrote for an experiment → charts and tables, where it is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mdm.report.charts import PLACEHOLDERS, colour, drawing, plain_axes, svg
from mdm.statistics import mean_interval
from mdm.tables.wording import chance, interval, number, signed

RUNS = ("data", "row", "label", "seed", "kept", "corruption", "level", "ratio")
SETTINGS = (
    *("data", "row", "label", "kept", "corruption", "level", "seeds", "acc2_pos", "majority", "ratio", "ratio_low", "ratio_high"),
    *("ratio_difference", "ratio_difference_low", "ratio_difference_high", "ratio_p", "constant"),
)

SAID = {
    "absent": "removed: no step at all",
    "zero": "removed: zero frames, padding words",
    "mean": "removed: the training mean",
    "noise": "replaced: another segment's",
}


def read(path: Path, columns: Sequence[str], script: str) -> pd.DataFrame:
    """A study's CSV.

    Raises ValueError if columns are missing.
    """
    frame = pd.read_csv(path)
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise ValueError(
            f"{path} is written by scripts/{script}.py and has {', '.join(columns)}, but lacks {', '.join(missing)}; run "
            "that script again."
        )
    return frame


# ---- modality drop (000, Figures 2 and 4)

DROP_HEADS = ("", "removed", "kept", "n", "ratio", "95 % over seeds", "against the baseline", "95 % over seeds", "sign-flip")


def drops(folder: Path, series: Mapping[str, int]) -> list[dict[str, Any]]:
    """For each data set the charts of a modality drop and its table; empty if it was not measured. Rows keep their colours."""
    if not (folder / "settings.csv").is_file() or not (folder / "runs.csv").is_file():
        return []
    runs, found = read(folder / "runs.csv", RUNS, "robustness"), read(folder / "settings.csv", SETTINGS, "robustness")
    found, runs = (frame[frame.row.isin(list(series))] for frame in (found, runs))
    parts = []
    for i, (data, cell) in enumerate(found.groupby("data", sort=False)):
        ours, clean = runs[runs.data == data], cell[cell.corruption == "none"]
        constant = float((clean.majority / clean.acc2_pos).mean())
        top = cell.level[cell.corruption == "noise"].max()
        charts = []
        for corruption in [c for c in dict.fromkeys(cell.corruption) if c != "none"]:
            level = top if corruption == "noise" else 1.0
            here, seeds = (frame[(frame.corruption == corruption) & (frame.level == level)] for frame in (cell, ours))
            title = SAID.get(corruption, corruption) + (f", level {level:g}" if corruption == "noise" else "")
            charts.append(bars(title, here, seeds, series, constant))
        noise = cell[(cell.corruption == "noise") & cell.level.notna()]
        if noise.level.nunique() > 1:
            charts += [rising(kept, clean, noise[noise.kept == kept], series, constant) for kept in dict.fromkeys(noise.kept)]
        rows = [drop_row(row) for _, row in cell[cell.corruption != "none"].iterrows()]
        legend = [{"label": label, "series": series[row]} for row, label in dict(zip(cell.row, cell.label, strict=True)).items()]
        parts.append({"id": f"drop-{i}", "title": data, "charts": charts, "rows": rows, "legend": legend})
    return parts


def drop_row(row: pd.Series) -> list[str]:
    """A setting under ``DROP_HEADS``."""
    how = f"{row.corruption} {row.level:g}" if row.corruption == "noise" else row.corruption
    ratio = number(row.ratio, 3) + ("‡" if row.constant else "")
    difference = interval((row.ratio_difference_low, row.ratio_difference_high), 3)
    p = "–" if pd.isna(row.ratio_p) else chance(row.ratio_p)
    line = [row.label, how, row.kept, str(row.seeds), ratio, interval((row.ratio_low, row.ratio_high), 3).replace("+", "")]
    return [*line, signed(row.ratio_difference, 3), difference, p]


def bars(title: str, found: pd.DataFrame, runs: pd.DataFrame, series: Mapping[str, int], constant: float) -> str:
    """Modalities kept on x, a bar a row of the table, with its 95 % interval and a dot a seed. Bars begin at 0, as lengths must."""
    kept, rows = list(dict.fromkeys(found.kept)), list(dict.fromkeys(found.row))
    with drawing(f"{title}: Acc-2 relative to the untouched run, by what is kept", 350, 225) as drawn:
        axes, width = drawn.figure.subplots(), 0.8 / len(rows)
        for i, row in enumerate(rows):
            ink, css, shift = colour(series[row]), f"row-{series[row]}", (i - (len(rows) - 1) / 2) * width
            for x, k in enumerate(kept):
                here = found[(found.row == row) & (found.kept == k)]
                if here.empty:
                    continue
                one, place = here.iloc[0], x + shift
                said = f"{one.label}, {k} kept: {number(one.ratio, 3)} {interval((one.ratio_low, one.ratio_high), 3)}"
                drawn.mark(axes.bar(place, one.ratio, 0.9 * width, color=ink, alpha=0.35)[0], said, css)
                if pd.notna(one.ratio_low):
                    drawn.mark(axes.plot([place] * 2, [one.ratio_low, one.ratio_high], color=ink, lw=1.6)[0], said, css)
                for _, run in runs[(runs.row == row) & (runs.kept == k)].iterrows():
                    dot = axes.plot(place + 0.22 * width, run.ratio, "o", color=ink, ms=2.6, alpha=0.85)[0]
                    drawn.mark(dot, f"{one.label}, {k} kept, seed {run.seed}: {number(run.ratio, 3)}", css)
        finish(axes, title, constant)
        axes.set_xticks(range(len(kept)), [k.replace("+", "\n+ ") for k in kept])
        axes.tick_params(axis="x", length=0)
        axes.set_xlabel("kept")
        return svg(drawn)


def rising(kept: str, clean: pd.DataFrame, noise: pd.DataFrame, series: Mapping[str, int], constant: float) -> str:
    """Level of noise on x, from the untouched run on: a row's mean and its 95 % interval."""
    title = f"{kept.replace('+', ' and ')} kept, the rest more and more noisy"
    with drawing(f"{title}: Acc-2 relative to the untouched run", 350, 225) as drawn:
        axes = drawn.figure.subplots()
        for row, mine in noise.groupby("row", sort=False):
            both = pd.concat([clean[clean.row == row], mine]).sort_values("level")
            ink, css = colour(series[str(row)]), f"row-{series[str(row)]}"
            if both.ratio_low.notna().all():
                drawn.mark(axes.fill_between(both.level, both.ratio_low, both.ratio_high, color=ink, alpha=0.13, lw=0), css=css)
            drawn.mark(axes.plot(both.level, both.ratio, color=ink, marker="o", ms=3.5, lw=1.6)[0], str(both.label.iloc[0]), css)
        finish(axes, title, constant)
        axes.set_xlabel("level of noise")
        return svg(drawn)


def finish(axes: Any, title: str, constant: float) -> None:
    plain_axes(axes, title, whole=False)
    axes.axhline(constant, color=PLACEHOLDERS["soft"], lw=1, ls=(0, (3, 3)), zorder=1)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("Acc-2, corrupt / untouched")


# ---- explained examples (000, Tables 3 and 5; 001, Table 5)

EXAMPLES, RANKINGS = ("data", "row", "seed", "by", "words"), ("data", "row", "seed", "critic", "on", "segments", "contradictory")
RANKS = ("auc_T", "auc_best", "chance", "rank_error")
SCORES = ("data", "row", "seed", "modality", "on", "score", "score_other", "moved", "rank_moved", "rank_excess_moved")

SCORE_HEADS = (
    "",
    "score, own segment",
    "score, other segments",
    "prediction moves by",
    "ρ(score, moves)",
    "ρ(score − other, moves)",
)

MARK = "contradictory"


def explanations(folder: Path, series: Mapping[str, int], labels: Mapping[str, str]) -> dict[str, Any]:
    """What critics and contrastive heads say of single segments; empty if nobody asked. labels: row → its name in the table."""
    if not (folder / "examples.csv").is_file():
        return {}
    shown = read(folder / "examples.csv", EXAMPLES, "explain")
    examples = [
        {
            "title": f"{labels[str(row)]} on {data}, seed {group.seed.iloc[0]}",
            "heads": example_heads(group, str(by)),
            "rows": [example_row(one, group, str(by)) for _, one in group.iterrows()],
        }
        for (data, row, by), group in shown[shown.row.isin(list(series))].groupby(["data", "row", "by"], sort=False)
    ]
    charts, tables = [], []
    if (folder / "rankings.csv").is_file():
        ranked = read(folder / "rankings.csv", (*RANKINGS, *RANKS), "explain")
        for (data, critic, on), group in ranked[ranked.row.isin(list(series))].groupby(["data", "critic", "on"], sort=False):
            where = "new segments of its population" if on == "new" else "test segments"
            charts.append(ranking(f"{data}, {group.segments.iloc[0]} {where}", str(critic), group, series, labels))
    if (folder / "scores.csv").is_file():
        scored = read(folder / "scores.csv", SCORES, "explain")
        for (data, row, on), group in scored[scored.row.isin(list(series))].groupby(["data", "row", "on"], sort=False):
            title = f"Scores of {labels[str(row)]} on {data}, {'new segments' if on == 'new' else 'test segments'}"
            rows = [[m, *(over(of[name]) for name in SCORES[5:])] for m, of in group.groupby("modality", sort=False)]
            tables.append({"title": title, "rows": rows})
    return {"examples": examples, "charts": charts, "tables": tables}


def values_of(group: pd.DataFrame, by: str) -> list[str]:
    """The columns of a group of examples that hold numbers to show, in order."""
    first = [name for name in group if name.startswith("s_") and not name.endswith("_other")] if by == "scores" else [by]
    kinds = ("label", "prediction") if by == "scores" else ("label", "prediction", "energy")
    names = [*first, *(name for kind in kinds for name in group if name.split("_")[0] == kind), "agreement"]
    return [name for name in names if name in group and group[name].notna().any()]


def example_heads(group: pd.DataFrame, by: str) -> list[str]:
    return ["", "words", *(name.replace("_", " ") for name in values_of(group, by))]


def example_row(one: pd.Series, group: pd.DataFrame, by: str) -> dict[str, Any]:
    """An example: what kind it is, its words, its numbers, and whether the data mark it as contradictory."""
    kind = one["case"] if by == "scores" else {"L": "lowest", "H": "highest"}[one["end"]]
    marked = MARK in group and pd.notna(one[MARK]) and bool(one[MARK])
    words = one["words"] if pd.notna(one["words"]) else "–"
    return {"kind": kind, "words": words, "marked": marked, "cells": [number(float(one[name]), 2) for name in values_of(group, by)]}


def over(values: pd.Series) -> str:
    """Mean and 95 % t interval over runs; a dash where a run has no value."""
    array = values.to_numpy(dtype=np.float64)
    if not np.isfinite(array).all():
        return "–"
    return f"{number(float(array.mean()), 3)} {interval(mean_interval(array), 3)}".removesuffix(" –")


def ranking(where: str, critic: str, group: pd.DataFrame, series: Mapping[str, int], labels: Mapping[str, str]) -> str:
    """A line a row, a dot a seed: the AUC with which a low score finds contradictory segments.

    Of data without marks, the score's rank correlation with the error.
    """
    known = bool(group.contradictory.iloc[0])
    name = "auc_T" if known else "rank_error"
    title = f"AUC: low {critic} finds contradiction" if known else f"rank correlation of {critic} and |error|"
    rows = list(dict.fromkeys(group.row))
    with drawing(f"{title}, {where}: {', '.join(labels[row] for row in rows)}", 400, 84 + 30 * len(rows)) as drawn:
        axes = drawn.figure.subplots()
        if known:
            half, best = group.chance.iloc[0], group.auc_best.mean()
            band = axes.axvspan(0.5 - half, 0.5 + half, color=PLACEHOLDERS["line"], alpha=0.5, lw=0)
            drawn.mark(band, "95 % of the AUCs of a score that knows nothing")
            if np.isfinite(best):
                drawn.mark(
                    axes.axvline(best, color=PLACEHOLDERS["ink"], lw=1.2, ls="--"),
                    f"log p/q of the latents, which a critic of KL reads at best: {best:.3f}",
                )
        axes.axvline(0.5 if known else 0.0, color=PLACEHOLDERS["soft"], lw=1)
        for i, row in enumerate(rows):
            mine, ink = group[group.row == row], colour(series[row])
            values = mine[name].to_numpy(dtype=np.float64)
            for seed, value in zip(mine.seed, values, strict=True):
                dot = axes.plot(value, i - 0.14, "o", color=ink, ms=4, alpha=0.55)[0]
                drawn.mark(dot, f"{labels[row]}, seed {seed}: {number(value, 3)}")
            if len(values) > 1 and np.isfinite(values).all():
                pair = mean_interval(values)
                drawn.mark(axes.plot(pair, (i + 0.14, i + 0.14), color=ink, lw=2)[0], f"{labels[row]}: {over(mine[name])}")
                drawn.mark(axes.plot(values.mean(), i + 0.14, "D", color=ink, ms=5)[0], f"{labels[row]}: {over(mine[name])}")
        plain_axes(axes, title, whole=False)
        axes.grid(visible=False, axis="y")
        axes.grid(axis="x")
        axes.set_yticks(range(len(rows)), [labels[row] for row in rows])
        axes.tick_params(axis="y", length=0, labelcolor=PLACEHOLDERS["ink"])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(where)
        return svg(drawn)
