"""Cells in words, which Markdown, LaTeX and HTML share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mdm.metrics import find_metric, format_heading
from mdm.statistics.verdicts import Effect, Statistic
from mdm.tables.numbers import LEVEL, Block, Column, Entry, Line
from mdm.tables.wording import format_interval, format_number, format_p, format_shares, format_signed


@dataclass(frozen=True)
class CellText:
    """A cell in words: ours, below it the paper's, the numbers of the footnotes, and the star by its test."""

    ours: str
    paper: str = ""
    marks: tuple[int, ...] = ()
    best: bool = False
    star: str = ""


def render_cell(line: Line, column: Column, statistic: Statistic) -> CellText:
    """Ours with its spread, marks and star; the paper's with the difference. Of a row without runs, the paper's alone."""
    entry, digits = line.entries[column.metric], column.decimals
    if not line.runs:
        return CellText(format_printed(entry) or "–", marks=entry.marks)
    ours = format_number(entry.mean, digits) + (f" ± {format_number(entry.sd, digits)}" if len(entry.defined) > 1 else "")
    paper = format_printed(entry)
    if paper and not math.isnan(entry.difference):
        paper += f" ({format_signed(entry.difference, digits)})"
    star = statistic.star if column.primary and line.star else ""
    return CellText(ours + ("‡" if entry.undefined else ""), paper, entry.marks, entry.best, star)


def format_printed(entry: Entry) -> str:
    """The paper's value, with † where the paper calls it significant; empty without such a cell, a dash where it prints one."""
    if entry.printed is None:
        return ""
    return (entry.printed.value.replace("-", "−") or "–") + ("†" if entry.printed.significant else "")


def format_size(line: Line) -> str:
    """The number of finished runs, or ``3/5`` where runs are missing; ``cited`` for a row without runs."""
    if not line.runs:
        return "cited"
    return str(line.finished) if line.finished == len(line.runs) else f"{line.finished}/{len(line.runs)}"


def list_comparison_heads(statistic: Statistic) -> list[str]:
    """The heads of the comparisons' columns; the first column has none."""
    papers = ["A12", "Mann–Whitney", "paired t"]
    return ["", "against", "n", *statistic.heads, f"{statistic.name} p", "Holm", *papers, "verdict"]


def render_contrast(line: Line, column: Column, statistic: Statistic, family: int) -> list[str]:
    """A comparison in words, under its heads."""
    contrast, heads = line.contrast, list_comparison_heads(statistic)
    assert contrast is not None
    found, verdict = contrast.found, contrast.verdict
    if found is None or verdict is None:
        return [line.row.label, contrast.baseline, *["–"] * (len(heads) - 3), contrast.reason]
    effect = statistic.measure(found, LEVEL / family)
    remarks = [text for text in (effect.note, found.skew) if text]
    return [
        line.row.label,
        contrast.baseline,
        effect.pairs,
        *format_effect(effect, column.decimals, statistic.heads),
        "–" if effect.reason else format_p(verdict.p),
        format_p(verdict.adjusted),
        f"{found.seeds.a12:.2f}",
        format_p(found.seeds.mann_whitney),
        format_p(found.seeds.paired_t),
        "; ".join([statistic.star if contrast.star else contrast.reason, *remarks]),
    ]


def format_effect(effect: Effect, digits: int, heads: Sequence[str]) -> list[str]:
    """The size of a difference, how sure it is, at which level where no head says it, and what stands beside."""
    sure = format_interval(effect.interval, digits)
    if effect.level not in ("", *heads):
        sure += f" ({effect.level.removesuffix(' over seeds')})"
    words = [format_signed(effect.size, digits), sure]
    if effect.more is not None:
        words.append(format_shares(effect.more) if isinstance(effect.more, tuple) else format_signed(effect.more, 2))
    return words


def find_contrasts(block: Block) -> list[Line]:
    """Rows with a baseline."""
    return [line for line in block.lines if line.contrast is not None]


def list_heads(block: Block) -> list[str]:
    return ["", "n", *(f"{format_heading(c.metric)}{find_metric(c.metric).unit}" for c in block.columns)]
