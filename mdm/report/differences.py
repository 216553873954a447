"""The comparisons of a table as a picture and in words."""

from __future__ import annotations

import math

from mdm.metrics import find_metric, format_heading
from mdm.report.charts import PLACEHOLDERS, find_colour, open_drawing, render_svg, style_axes
from mdm.statistics.verdicts import Evidence
from mdm.tables.cells import find_contrasts
from mdm.tables.numbers import LEVEL, Block, Contrast, Line, Sheet
from mdm.tables.wording import format_interval, format_signed, join_names


def find_comparisons(block: Block) -> list[tuple[Line, Contrast, Evidence]]:
    """Rows whose difference from their baseline is a number."""
    rows = [(line, line.contrast) for line in find_contrasts(block) if line.contrast is not None]
    return [(line, c, c.found) for line, c in rows if c.found is not None and math.isfinite(c.found.crossed.difference)]


def draw_forest(block: Block, sheet: Sheet) -> str:
    """A row's mean difference from its baseline; thick the 95 % interval over seeds, thin the simultaneous one over seeds and
    videos. Empty if none."""
    rows, metric, star = find_comparisons(block), block.primary.metric, sheet.statistic.star
    if not rows:
        return ""
    unit = ", points" if find_metric(metric).percent else ""
    better = "left" if find_metric(metric).lower_is_better else "right"
    title = f"{format_heading(metric)}{unit}, row − baseline: {better} of the line is better"
    with open_drawing(title, 400, 62 + 30 * len(rows)) as drawn:
        axes = drawn.figure.subplots()
        axes.axvline(0, color=PLACEHOLDERS["ink"], lw=1, ls=(0, (3, 3)))
        for i, (line, contrast, found) in enumerate(rows):
            ink = find_colour(0) if contrast.star else PLACEHOLDERS["soft"]
            said = f"{line.row.label} − {contrast.baseline}: {format_signed(found.crossed.difference, 4)}"
            whole = found.crossed.interval(LEVEL / sheet.family)
            if not math.isnan(whole[0]):
                thin = axes.plot(whole, (i, i), color=ink, lw=1.2)[0]
                drawn.mark(thin, f"{said}; simultaneous 95 % over seeds and videos {format_interval(whole, 4)}")
            if not math.isnan(found.seeds.interval[0]):
                thick = axes.plot(found.seeds.interval, (i, i), color=ink, lw=5, alpha=0.5, solid_capstyle="butt")[0]
                drawn.mark(thick, f"{said}; 95 % over seeds {format_interval(found.seeds.interval, 4)}")
            dot = axes.plot(found.crossed.difference, i, "o", color=ink, ms=7)[0]
            drawn.mark(dot, f"{said}{f' {star}' if contrast.star else ''}")
        style_axes(axes, title, whole=False)
        axes.grid(visible=False, axis="y")
        axes.grid(axis="x")
        axes.set_yticks(range(len(rows)), [f"{f'{star} ' if contrast.star else ''}{line.row.label}" for line, contrast, _ in rows])
        axes.tick_params(axis="y", length=0, labelcolor=PLACEHOLDERS["ink"])
        axes.spines["left"].set_visible(False)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        return render_svg(drawn)


def describe_block(block: Block, sheet: Sheet) -> str:
    """The comparisons of a data set in words: which rows differ, which show no evidence, and which cannot be told and why."""
    rows = [(line, line.contrast) for line in find_contrasts(block) if line.contrast is not None]
    statistic, column = sheet.statistic, block.primary
    starred = [describe_difference(line, block, sheet) for line, contrast in rows if contrast.star]
    silent = {line.row.name: reason for line, contrast in rows if (reason := name_obstacle(contrast))}
    unclear = [line.row.label for line, contrast in rows if not contrast.star and line.row.name not in silent]
    parts = []
    if starred:
        parts.append(f"{statistic.star} in {format_heading(column.metric)}, {statistic.reach}: {join_names(starred)}.")
    if unclear:
        verb = "differs" if len(unclear) == 1 else "differ"
        parts.append(f"No evidence in {format_heading(column.metric)} that {join_names(unclear)} {verb} from the baseline.")
    for reason in dict.fromkeys(silent.values()):
        labels = [line.row.label for line, _ in rows if silent.get(line.row.name) == reason]
        parts.append(f"Whether {join_names(labels)} {'differs' if len(labels) == 1 else 'differ'} cannot be told: {reason}.")
    return " ".join(parts)


def describe_difference(line: Line, block: Block, sheet: Sheet) -> str:
    """A starred row: better or worse, by how much."""
    assert line.contrast is not None
    assert line.contrast.found is not None
    effect = sheet.statistic.measure(line.contrast.found, LEVEL / sheet.family)
    if math.isnan(effect.size):
        return f"{line.row.label} differs from its baseline (runs diverged, and the difference has no size)"
    better = (effect.size < 0) == find_metric(block.primary.metric).lower_is_better
    digits = block.primary.decimals
    size = f"{format_signed(effect.size, digits)}, {effect.level} {format_interval(effect.interval, digits)}"
    return f"{line.row.label} is {'better' if better else 'worse'} than its baseline ({size})"


def name_obstacle(contrast: Contrast) -> str:
    """Why a comparison could not have a star whatever its runs gave; empty if it could."""
    if contrast.found is None or "cannot" in contrast.reason or contrast.reason.startswith("incomplete"):
        return contrast.reason.removeprefix("cannot be told: ")
    return ""
