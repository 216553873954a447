"""What is left without some modalities, in words and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mdm.reference import find_value
from mdm.studies._base import Frames
from mdm.studies._write import render_table
from mdm.sweeps.experiment import Table

REMOVED = {
    "absent": "no step at all",
    "zero": "zero frames, padding words",
    "mean": "training mean",
    "noise": "another segment's",
}
"""How a modality is removed, in words."""


def render_summary(frames: Frames, printed: Mapping[str, Sequence[str]] | None) -> str:
    """Markdown: for each data set and corruption (noise at its highest level) the ratios, and what they differ by.

    printed: the paper's column → the modalities that it keeps, those of a setting
    """
    found, parts = frames["settings"], [f"# {frames.title}"]
    top = found[found.corruption == "noise"].level.max()
    selected = found[(found.corruption != "noise") | (found.level == top)]
    for data, here in selected.groupby("data", sort=False):
        clean = here[here.corruption == "none"].set_index("row")
        seeds = f"{clean.seeds.min()} to {clean.seeds.max()}" if clean.seeds.nunique() > 1 else str(clean.seeds.iloc[0])
        for corruption, group in here[here.corruption != "none"].groupby("corruption", sort=False):
            level = f", level {top:g}" if corruption == "noise" else ""
            kept = list(dict.fromkeys(group.kept))
            head = ["", "Acc-2, all kept", *(column for k in kept for column in (f"{k} kept: ratio", "difference"))]
            lines = [head]
            for row, mine in group.groupby("row", sort=False):
                cell = mine.set_index("kept")
                line = [mine.label.iloc[0], format_interval(clean.loc[row], "acc2_pos")]
                for k in kept:
                    mark = "†" if cell.loc[k, "constant"] == cell.loc[k, "seeds"] else ""
                    line += [format_interval(cell.loc[k], "ratio") + mark, format_difference(cell.loc[k], "ratio")]
                lines.append(line)
            parts.append(f"**{data}, removed: {corruption} ({REMOVED[corruption]}{level}); {seeds} seeds**")
            parts.append(render_table(lines))
            if printed:
                parts.append(render_printed(group, clean, printed, frames.experiment.table, str(data)))
            if (group.constant == group.seeds).any():
                parts.append("† every prediction is the same: nothing of what is kept reaches it.")
    parts.append(
        "Ratio: Acc-2 (zero labels left out) of the corrupted to that of the untouched run. Brackets: 95 % t intervals over seeds. "
        "Difference: of the ratio to the first row's, paired by seed, and the p of the exact sign-flip test, not corrected for "
        "the number of comparisons. A constant has a ratio of "
        + ", ".join(f"{r.majority / r.acc2_pos:.2f} ({r.label})" for r in found[found.corruption == "none"].itertuples())
        + " by the more frequent sign: a run that learned less has less to lose."
    )
    return "\n\n".join([*parts, *frames.notes]) + "\n"


def format_interval(row: pd.Series, metric: str) -> str:
    """A mean over seeds with its interval."""
    bounds = "" if np.isnan(row[f"{metric}_low"]) else f" [{row[f'{metric}_low']:.3f}, {row[f'{metric}_high']:.3f}]"
    return f"{row[metric]:.3f}{bounds}"


def format_difference(row: pd.Series, metric: str) -> str:
    """What it differs from the baseline by, nothing without one."""
    by, low, high = (row[f"{metric}_difference{end}"] for end in ("", "_low", "_high"))
    return "" if np.isnan(by) else f"{by:+.3f} [{low:+.3f}, {high:+.3f}], p {row[f'{metric}_p']:.3f}"


def render_printed(
    group: pd.DataFrame, clean: pd.DataFrame, printed: Mapping[str, Sequence[str]], declared: Table, data: str
) -> str:
    """Acc-2 in percent, the paper's value behind it."""
    lines = [["Acc-2, percent (printed)", "none dropped", *(c.removeprefix("acc2_drop_") + " dropped" for c in printed)]]
    for row, mine in group.groupby("row", sort=False):
        cell, keys = mine.set_index("kept"), declared.rows[str(row)].paper
        values = {"acc2_drop_none": clean.loc[row], **{c: cell.loc["+".join(kept)] for c, kept in printed.items()}}
        line = [mine.label.iloc[0]]
        for column, ours in values.items():
            where = (declared.paper["paper"], declared.paper["table"], declared.data.get(data, data), "sentiment")
            theirs = find_value(*where, keys["model"], keys["penalty_or_variant"], column)
            line.append(f"{100 * ours.acc2_pos:.1f} ({theirs.value})")
        lines.append(line)
    return render_table(lines)
