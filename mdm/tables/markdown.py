"""A table as Markdown: for the terminal, and for pages that render it."""

from __future__ import annotations

from collections.abc import Sequence

from mdm.metrics import find_metric, format_heading
from mdm.tables.caption import format_title, render_caption
from mdm.tables.cells import CellText, find_contrasts, format_size, list_comparison_heads, list_heads, render_cell, render_contrast
from mdm.tables.numbers import Sheet


def render_markdown(sheet: Sheet) -> str:
    """The whole table for a terminal or a page."""
    parts = [f"# {sheet.declared.title}"]
    for block in sheet.blocks:
        rows = [list_heads(block)]
        for line in block.lines:
            cells = [render_cell(line, column, sheet.statistic) for column in block.columns]
            name = f"*{escape_markdown(line.row.label)}*" if not line.runs else escape_markdown(line.row.label)
            rows.append(
                [name + format_marks(line.marks), format_size(line), *(render_markdown_cell(cell, paper=False) for cell in cells)]
            )
            if any(cell.paper for cell in cells):
                rows.append(["· paper", "", *(render_markdown_cell(cell, paper=True) for cell in cells)])
        parts += [f"## {format_title(block)}", render_pipes(rows)]
        against = find_contrasts(block)
        if against:
            words = [render_contrast(line, block.primary, sheet.statistic, sheet.family) for line in against]
            rows = [list_comparison_heads(sheet.statistic), *([*map(escape_markdown, row)] for row in words)]
            unit = ", points" if find_metric(block.primary.metric).percent else ""
            parts += [f"Against the baseline, {format_heading(block.primary.metric)}{unit}:", render_pipes(rows)]
    parts.append("\n".join(f"- {sentence}" for sentence in render_caption(sheet)))
    if sheet.footnotes:
        parts.append("\n".join(f"[{i}] {text}  " for i, text in enumerate(sheet.footnotes, 1)))
    return "\n\n".join(parts) + "\n"


def render_markdown_cell(cell: CellText, paper: bool) -> str:
    if paper:
        return cell.paper + (format_marks(cell.marks) if cell.paper else "")
    ours = (f"**{cell.ours}**" if cell.best else cell.ours) + (f" {cell.star}" if cell.star else "")
    return ours + ("" if cell.paper else format_marks(cell.marks))


def escape_markdown(text: str) -> str:
    """A label whose asterisks stay what they are."""
    return text.replace("*", "\\*")


def format_marks(marks: Sequence[int]) -> str:
    return "".join(f" [{mark}]" for mark in marks)


def render_pipes(rows: Sequence[Sequence[str]]) -> str:
    """Columns of one width, so that it reads as it is."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(3, *(len(row[i]) for row in rows)) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows]
    rule = "|" + "|".join("-" * (width + 1) + (":" if i and rows[0][i] else "-") for i, width in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
