"""A table as rows for CSV: of cells with every digit, and of runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from mdm.metrics import find_metric
from mdm.tables.numbers import LEVEL, Contrast, Sheet


def build_cell_rows(sheet: Sheet) -> list[dict[str, Any]]:
    """A row per cell, with every digit; the comparison stands in the row of the primary metric. ``unit`` is of all its values."""
    rows = []
    for block in sheet.blocks:
        for line in block.lines:
            for column in block.columns:
                entry = line.entries[column.metric]
                row: dict[str, Any] = {"data": block.data, "stands_for": block.stands_for, "row": line.row.name}
                row |= {
                    "label": line.row.label,
                    "metric": column.metric,
                    "unit": "percent" if find_metric(column.metric).percent else "absolute",
                }
                row |= {"n": line.finished, "declared": len(line.runs), "undefined": entry.undefined}
                row |= {"mean": entry.mean, "sd": entry.sd, "paper_metric": column.printed}
                row |= {"paper": "" if entry.printed is None else entry.printed.value, "difference_from_paper": entry.difference}
                row |= {"paper_significant": "" if entry.printed is None else entry.printed.significant}
                row |= {"paper_provenance": "" if entry.printed is None else entry.printed.provenance}
                row |= build_contrast_row(line.contrast if column.primary else None, sheet)
                rows.append({key: "" if isinstance(v, float) and math.isnan(v) else v for key, v in row.items()})
    return rows


CONTRAST_KEYS = (
    *("baseline", "test", "pairs", "lost", "videos", "difference", "low", "high", "level"),
    *("share_runs", "share_videos", "share_both", "p_crossed", "p_sign_flip", "p_wilcoxon", "p_mann_whitney", "p_paired_t"),
    *("p_holm", "seeds", "seeds_difference", "seeds_low", "seeds_high", "a12", "cliffs_delta"),
    *("equal", "shift", "shift_low", "shift_high", "shift_level", "rank_biserial", "star", "reason", "note"),
)
"""Of a comparison: p_holm is of the test that stars. low, high cover at 1 − level, .05/k, so that all k of a table do at .95."""


def build_contrast_row(contrast: Contrast | None, sheet: Sheet) -> dict[str, Any]:
    own = f"p_{sheet.declared.test}"  # a column more where the test is one of another package
    row: dict[str, Any] = dict.fromkeys((*CONTRAST_KEYS, own), "")
    if contrast is None:
        return row
    row |= {"baseline": contrast.baseline, "test": sheet.declared.test, "star": contrast.star, "reason": contrast.reason}
    found, verdict = contrast.found, contrast.verdict
    if found is None or verdict is None:
        return row
    row[own] = verdict.p
    crossed, seeds, ranks, level = found.crossed, found.seeds, found.ranks, LEVEL / sheet.family
    row |= {"pairs": crossed.pairs, "lost": crossed.lost, "videos": crossed.videos, "difference": crossed.difference}
    row |= dict(zip(("low", "high", "level"), (*crossed.interval(level), level), strict=True))
    row |= dict(zip(("share_runs", "share_videos", "share_both"), crossed.shares, strict=True))
    row |= {"p_crossed": "" if crossed.reason else crossed.p, "p_sign_flip": seeds.sign_flip, "p_wilcoxon": seeds.wilcoxon}
    row |= {"p_mann_whitney": seeds.mann_whitney, "p_paired_t": seeds.paired_t, "p_holm": verdict.adjusted}
    row |= {"seeds": seeds.n, "seeds_difference": seeds.difference, "a12": seeds.a12, "cliffs_delta": seeds.cliffs_delta}
    row |= dict(zip(("seeds_low", "seeds_high"), seeds.interval, strict=True))
    if ranks is not None:
        row |= {"equal": ranks.zeros, "shift": ranks.shift, "shift_level": ranks.level, "rank_biserial": ranks.rank_biserial}
        row |= dict(zip(("shift_low", "shift_high"), ranks.interval, strict=True))
    return row | {"note": "; ".join(text for text in (crossed.note, found.skew) if text)}


def build_seed_rows(sheet: Sheet, outputs: Path) -> list[dict[str, Any]]:
    """A row per declared run: state, folder below ``outputs``, and the table's metrics, validation and test, as recorded."""
    metrics = dict.fromkeys(column.metric for block in sheet.blocks for column in block.columns)
    rows = []
    for block in sheet.blocks:
        for line in block.lines:
            for run in line.runs:
                row: dict[str, Any] = {"data": block.data, "row": line.row.name, "seed": run.seed, "state": run.state}
                row["folder"] = run.folder.relative_to(outputs).as_posix()
                for part in ("valid", "test"):
                    row |= {f"{part}/{name}": run.record.get(part, {}).get(name) for name in metrics}
                rows.append(row)
    return rows
