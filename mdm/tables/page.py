"""A table as one HTML file without a network, every seed drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mdm.metrics import format_heading
from mdm.tables.caption import format_title, render_caption
from mdm.tables.cells import find_contrasts, format_size, list_comparison_heads, list_heads, render_cell, render_contrast
from mdm.tables.numbers import Block, Column, Line, Sheet
from mdm.tables.wording import format_number

LEFT, RIGHT = 6.0, 134.0
"""Ends of an axis in a strip 140 wide; arrows point beyond them."""


@dataclass(frozen=True)
class Axis:
    """A column's scale: all of our values, and the printed ones that are no further off than these are apart.

    >>> axis = Axis(0.0, 1.0)
    >>> axis.x(0.5), axis.x(7.0), axis.beyond(7.0)
    (70.0, 134.0, 'right')
    """

    low: float
    high: float

    def x(self, value: float) -> float:
        """Position in a strip, at its end for what lies beyond."""
        share = (value - self.low) / (self.high - self.low)
        return round(LEFT + (RIGHT - LEFT) * min(max(share, 0.0), 1.0), 2)

    def beyond(self, value: float) -> str:
        """``left`` or ``right`` of the axis, or empty."""
        return "left" if value < self.low else "right" if value > self.high else ""


def find_axis(block: Block, column: Column) -> Axis | None:
    """The axis of a column; None without a value."""
    entries = [line.entries[column.metric] for line in block.lines if line.runs]
    ours = [value for entry in entries for value in entry.defined]
    if not ours:
        return None
    low, high = min(ours), max(ours)
    reach = (high - low) or 0.05 * abs(high) or 1.0
    near = [e.printed.number for e in entries if e.printed and low - reach <= e.printed.number <= high + reach]
    low, high = min([low, *near]), max([high, *near])
    pad = 0.05 * ((high - low) or reach)
    return Axis(low - pad, high + pad)


def build_strip(line: Line, column: Column, axis: Axis | None, baseline: float) -> dict[str, Any] | None:
    """What is drawn in a cell: a dot a seed, our mean, the baseline's, and where the printed value lies. None without a value."""
    entry = line.entries[column.metric]
    if axis is None or not entry.defined:
        return None
    digits = column.decimals + 2
    dots = [
        {"x": axis.x(value), "y": 5 + 4 * (i % 4), "title": f"seed {seed}: {format_number(value, digits)}"}
        for i, (seed, value) in enumerate(entry.values.items())
        if not math.isnan(value)
    ]
    drawn: dict[str, Any] = {"dots": dots, "mean": axis.x(entry.mean), "baseline": None, "paper": None}
    drawn["label"] = (
        f"{len(dots)} seeds from {format_number(min(entry.defined), digits)} to {format_number(max(entry.defined), digits)}, "
        f"mean {format_number(entry.mean, digits)}"
    )
    if not math.isnan(baseline):
        drawn["baseline"] = {"x": axis.x(baseline), "title": f"mean of the baseline: {format_number(baseline, digits)}"}
    if entry.printed is not None and not math.isnan(entry.printed.number):
        paper = entry.printed.number
        drawn["paper"] = {"x": axis.x(paper), "beyond": axis.beyond(paper), "title": f"the paper: {entry.printed.value}"}
    return drawn


def build_block_view(block: Block, sheet: Sheet) -> dict[str, Any]:
    """A block of a table as the template reads it."""
    axes = {column.metric: find_axis(block, column) for column in block.columns}
    means = {line.row.name: {metric: entry.mean for metric, entry in line.entries.items()} for line in block.lines if line.runs}
    rows = []
    for line in block.lines:
        against = means.get(line.row.baseline or "", {})
        cells = [
            {
                "shown": render_cell(line, column, sheet.statistic),
                "strip": build_strip(line, column, axes[column.metric], against.get(column.metric, math.nan)),
            }
            for column in block.columns
        ]
        rows.append(
            {"label": line.row.label, "cited": not line.runs, "marks": line.marks, "size": format_size(line), "cells": cells}
        )
    seeds = [
        [line.row.label, run.seed, run.state, *(format_seed_value(line, column, run.seed) for column in block.columns)]
        for line in block.lines
        for run in line.runs
    ]
    return {
        "title": format_title(block),
        "heads": list_heads(block),
        "rows": rows,
        "primary": format_heading(block.primary.metric),
        "contrasts": [render_contrast(line, block.primary, sheet.statistic, sheet.family) for line in find_contrasts(block)],
        "seeds": seeds,
    }


def format_seed_value(line: Line, column: Column, seed: int) -> str:
    values = line.entries[column.metric].values
    return format_number(values[seed], column.decimals + 2) if seed in values else "–"


def build_environment() -> Environment:
    """Templates by their paths in the package; other pages include ``tables/sheet.html.jinja`` and give it a `build_sheet_view`."""
    return Environment(
        loader=PackageLoader("mdm", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def build_sheet_view(sheet: Sheet, level: int) -> dict[str, Any]:
    """What ``tables/sheet.html.jinja`` reads; headings of data sets are of this level."""
    return {
        "level": level,
        "blocks": [build_block_view(block, sheet) for block in sheet.blocks],
        "comparison_heads": list_comparison_heads(sheet.statistic),
        "star": sheet.statistic.star,
        "star_says": sheet.statistic.meaning,
        "caption": render_caption(sheet),
        "footnotes": sheet.footnotes,
        "mixed": bool(sheet.mixed),
    }


def render_page(sheet: Sheet) -> str:
    """The whole table; light or dark as the reader has it."""
    view = build_sheet_view(sheet, level=2)
    return build_environment().get_template("tables/page.html.jinja").render(title=sheet.declared.title, name=sheet.name, **view)
