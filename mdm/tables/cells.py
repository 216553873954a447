"""Cells in words, which Markdown, LaTeX and HTML share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mdm.metrics import heading, metric_of
from mdm.statistics.verdicts import Effect, Statistic
from mdm.tables.numbers import LEVEL, Block, Column, Entry, Line
from mdm.tables.wording import chance, format_shares, interval, number, signed


@dataclass(frozen=True)
class Shown:
    """A cell in words: ours, below it the paper's, the numbers of the footnotes, and the star by its test."""

    ours: str
    paper: str = ""
    marks: tuple[int, ...] = ()
    best: bool = False
    star: str = ""


def shown(line: Line, column: Column, statistic: Statistic) -> Shown:
    """Ours with its spread, marks and star; the paper's with the difference. Of a row without runs, the paper's alone."""
    entry, digits = line.entries[column.metric], column.decimals
    if not line.runs:
        return Shown(printed(entry) or "–", marks=entry.marks)
    ours = number(entry.mean, digits) + (f" ± {number(entry.sd, digits)}" if len(entry.defined) > 1 else "")
    paper = printed(entry)
    if paper and not math.isnan(entry.difference):
        paper += f" ({signed(entry.difference, digits)})"
    star = statistic.star if column.primary and line.star else ""
    return Shown(ours + ("‡" if entry.undefined else ""), paper, entry.marks, entry.best, star)


def printed(entry: Entry) -> str:
    """As printed, with † where the paper calls it significant; empty where it has no such cell, a dash where it prints one."""
    if entry.printed is None:
        return ""
    return (entry.printed.value.replace("-", "−") or "–") + ("†" if entry.printed.significant else "")


def size(line: Line) -> str:
    """n, or n of those declared."""
    if not line.runs:
        return "cited"
    return str(line.finished) if line.finished == len(line.runs) else f"{line.finished}/{len(line.runs)}"


def comparison_heads(statistic: Statistic) -> list[str]:
    """Of the comparisons' columns, the first of which has no head."""
    papers = ["A12", "Mann–Whitney", "paired t"]
    return ["", "against", "n", *statistic.heads, f"{statistic.name} p", "Holm", *papers, "verdict"]


def contrast_cells(line: Line, column: Column, statistic: Statistic, family: int) -> list[str]:
    """A comparison in words, under its heads."""
    contrast, heads = line.contrast, comparison_heads(statistic)
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
        "–" if effect.reason else chance(verdict.p),
        chance(verdict.adjusted),
        f"{found.seeds.a12:.2f}",
        chance(found.seeds.mann_whitney),
        chance(found.seeds.paired_t),
        "; ".join([statistic.star if contrast.star else contrast.reason, *remarks]),
    ]


def format_effect(effect: Effect, digits: int, heads: Sequence[str]) -> list[str]:
    """The size of a difference, how sure it is, at which level where no head says it, and what stands beside."""
    sure = interval(effect.interval, digits)
    if effect.level not in ("", *heads):
        sure += f" ({effect.level.removesuffix(' over seeds')})"
    words = [signed(effect.size, digits), sure]
    if effect.more is not None:
        words.append(format_shares(effect.more) if isinstance(effect.more, tuple) else signed(effect.more, 2))
    return words


def contrasted(block: Block) -> list[Line]:
    """Rows with a baseline."""
    return [line for line in block.lines if line.contrast is not None]


def heads(block: Block) -> list[str]:
    return ["", "n", *(f"{heading(c.metric)}{metric_of(c.metric).unit}" for c in block.columns)]
