"""A table as rows for CSV: of cells with every digit, and of runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from mdm.metrics import metric_of
from mdm.tables.numbers import Contrast, Sheet


def long_rows(sheet: Sheet) -> list[dict[str, Any]]:
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
                    "unit": "percent" if metric_of(column.metric).percent else "absolute",
                }
                row |= {"n": line.finished, "declared": len(line.runs), "undefined": entry.undefined}
                row |= {"mean": entry.mean, "sd": entry.sd, "paper_metric": column.printed}
                row |= {"paper": "" if entry.printed is None else entry.printed.value, "difference_from_paper": entry.difference}
                row |= {"paper_significant": "" if entry.printed is None else entry.printed.significant}
                row |= {"paper_provenance": "" if entry.printed is None else entry.printed.provenance}
                row |= contrast_row(line.contrast if column.primary else None)
                rows.append({key: "" if isinstance(v, float) and math.isnan(v) else v for key, v in row.items()})
    return rows


def contrast_row(contrast: Contrast | None) -> dict[str, Any]:
    names = ("pairs", "difference", "low", "high", "segments_low", "segments_high", "a12", "cliffs_delta")
    tests = ("p_sign_flip", "p_holm", "p_wilcoxon", "p_mann_whitney")
    row: dict[str, Any] = dict.fromkeys(("baseline", *names, *tests, "star", "reason"), "")
    if contrast is None:
        return row
    row |= {"baseline": contrast.baseline, "star": contrast.star, "reason": contrast.reason}
    found, verdict = contrast.comparison, contrast.verdict
    if found is not None and verdict is not None:
        items = ("", "") if found.items is None else found.items
        values = (found.n, found.difference, *found.interval, *items, found.a12, found.cliffs_delta)
        row |= dict(zip(names, values, strict=True))
        row |= dict(zip(tests, (found.sign_flip, verdict.adjusted, found.wilcoxon, found.mann_whitney), strict=True))
    return row


def seed_rows(sheet: Sheet, outputs: Path) -> list[dict[str, Any]]:
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
