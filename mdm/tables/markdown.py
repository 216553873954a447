"""A table as Markdown: for the terminal, and for pages that render it."""

from __future__ import annotations

from collections.abc import Sequence

from mdm.metrics import heading, metric_of
from mdm.tables.caption import caption, where
from mdm.tables.cells import Shown, comparison_heads, contrast_cells, contrasted, heads, shown, size
from mdm.tables.numbers import Sheet


def markdown(sheet: Sheet) -> str:
    """The whole table for a terminal or a page."""
    parts = [f"# {sheet.declared.title}"]
    for block in sheet.blocks:
        rows = [heads(block)]
        for line in block.lines:
            cells = [shown(line, column, sheet.statistic) for column in block.columns]
            name = f"*{plain(line.row.label)}*" if not line.runs else plain(line.row.label)
            rows.append([name + refs(line.marks), size(line), *(markdown_cell(cell, paper=False) for cell in cells)])
            if any(cell.paper for cell in cells):
                rows.append(["· paper", "", *(markdown_cell(cell, paper=True) for cell in cells)])
        parts += [f"## {where(block)}", piped(rows)]
        against = contrasted(block)
        if against:
            words = [contrast_cells(line, block.primary, sheet.statistic, sheet.family) for line in against]
            rows = [comparison_heads(sheet.statistic), *([*map(plain, row)] for row in words)]
            unit = ", points" if metric_of(block.primary.metric).percent else ""
            parts += [f"Against the baseline, {heading(block.primary.metric)}{unit}:", piped(rows)]
    parts.append("\n".join(f"- {sentence}" for sentence in caption(sheet)))
    if sheet.footnotes:
        parts.append("\n".join(f"[{i}] {text}  " for i, text in enumerate(sheet.footnotes, 1)))
    return "\n\n".join(parts) + "\n"


def markdown_cell(cell: Shown, paper: bool) -> str:
    if paper:
        return cell.paper + (refs(cell.marks) if cell.paper else "")
    ours = (f"**{cell.ours}**" if cell.best else cell.ours) + (f" {cell.star}" if cell.star else "")
    return ours + ("" if cell.paper else refs(cell.marks))


def plain(text: str) -> str:
    """A label whose asterisks stay what they are."""
    return text.replace("*", "\\*")


def refs(marks: Sequence[int]) -> str:
    return "".join(f" [{mark}]" for mark in marks)


def piped(rows: Sequence[Sequence[str]]) -> str:
    """Columns of one width, so that it reads as it is."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(3, *(len(row[i]) for row in rows)) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows]
    rule = "|" + "|".join("-" * (width + 1) + (":" if i and rows[0][i] else "-") for i, width in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
