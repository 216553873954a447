"""The comparisons of a table as a picture and in words."""

from __future__ import annotations

import math

from mdm.metrics import heading, metric_of
from mdm.report.charts import PLACEHOLDERS, colour, drawing, plain_axes, svg
from mdm.tables.cells import contrasted
from mdm.tables.numbers import Block, Contrast, Line
from mdm.tables.wording import interval, listed, signed


def compared(block: Block) -> list[tuple[Line, Contrast]]:
    """Rows whose difference from their baseline is a number."""
    return [
        (line, found)
        for line, found in contrasted(block)
        if found.comparison is not None and math.isfinite(found.comparison.difference)
    ]


def forest(block: Block) -> str:
    """A row's mean difference from its baseline, thick its 95 % interval over seeds, thin that over segments. Empty if none."""
    rows, metric = compared(block), block.primary.metric
    if not rows:
        return ""
    unit = ", points" if metric_of(metric).percent else ""
    title = (
        f"{heading(metric)}{unit}, row − baseline: {'left' if metric_of(metric).lower_is_better else 'right'} of the line is better"
    )
    with drawing(title, 400, 62 + 30 * len(rows)) as drawn:
        axes = drawn.figure.subplots()
        axes.axvline(0, color=PLACEHOLDERS["ink"], lw=1, ls=(0, (3, 3)))
        for i, (line, found) in enumerate(rows):
            comparison, ink = found.comparison, colour(0) if found.star else PLACEHOLDERS["soft"]
            assert comparison is not None
            said = f"{line.row.label} − {found.baseline}: {signed(comparison.difference, 4)}"
            if comparison.items is not None:
                thin = axes.plot(comparison.items, (i, i), color=ink, lw=1.2)[0]
                drawn.mark(thin, f"{said}; 95 % over test segments {interval(comparison.items, 4)}")
            if not math.isnan(comparison.interval[0]):
                thick = axes.plot(comparison.interval, (i, i), color=ink, lw=5, alpha=0.5, solid_capstyle="butt")[0]
                drawn.mark(thick, f"{said}; 95 % over seeds {interval(comparison.interval, 4)}")
            drawn.mark(axes.plot(comparison.difference, i, "o", color=ink, ms=7)[0], f"{said}{' ★' if found.star else ''}")
        plain_axes(axes, title, whole=False)
        axes.grid(visible=False, axis="y")
        axes.grid(axis="x")
        axes.set_yticks(range(len(rows)), [f"{'★ ' if found.star else ''}{line.row.label}" for line, found in rows])
        axes.tick_params(axis="y", length=0, labelcolor=PLACEHOLDERS["ink"])
        axes.spines["left"].set_visible(False)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        return svg(drawn)


def told(block: Block) -> str:
    """What the comparisons of a block say, in a sentence or two."""
    rows, column = compared(block), block.primary
    if not rows:
        return "No row can be compared with a baseline yet."
    starred = [pair for pair in rows if pair[1].star]
    parts = []
    for line, found in starred:
        comparison = found.comparison
        assert comparison is not None
        better = (comparison.difference < 0) == metric_of(column.metric).lower_is_better
        size = f"{signed(comparison.difference, column.decimals)} {interval(comparison.interval, column.decimals)}"
        parts.append(f"{line.row.label} is {'better' if better else 'worse'} than its baseline ({size})")
    if parts:
        rest = [line.row.label for line, found in rows if not found.star]
        return f"★ in {heading(column.metric)}: {listed(parts)}." + (f" No evidence for {listed(rest)}." if rest else "")
    names = listed([line.row.label for line, _ in rows])
    return f"No evidence in {heading(column.metric)} that {names} differ{'s' if len(rows) == 1 else ''} from the baseline."
