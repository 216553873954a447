"""Cells in words, which Markdown, LaTeX and HTML share."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mdm.metrics import heading, metric_of
from mdm.tables.numbers import Block, Column, Contrast, Entry, Line
from mdm.tables.wording import chance, interval, number, signed


@dataclass(frozen=True)
class Shown:
    """A cell in words: ours, below it the paper's, and the numbers of the footnotes."""

    ours: str
    paper: str = ""
    marks: tuple[int, ...] = ()
    best: bool = False
    star: bool = False


def shown(line: Line, column: Column) -> Shown:
    """Ours with its spread, marks and star; the paper's with the difference. Of a row without runs, the paper's alone."""
    entry, digits = line.entries[column.metric], column.decimals
    if not line.runs:
        return Shown(printed(entry) or "–", marks=entry.marks)
    ours = number(entry.mean, digits) + (f" ± {number(entry.sd, digits)}" if len(entry.defined) > 1 else "")
    paper = printed(entry)
    if paper and not math.isnan(entry.difference):
        paper += f" ({signed(entry.difference, digits)})"
    return Shown(ours + ("‡" if entry.undefined else ""), paper, entry.marks, entry.best, column.primary and line.star)


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


TESTS = ("A12", "sign-flip", "Holm", "Mann–Whitney", "verdict")
HEADS = ("against", "n", "difference", "95 % over seeds", "95 % over segments", *TESTS)


def contrast_cells(contrast: Contrast, column: Column) -> list[str]:
    """A comparison in words, under ``HEADS``."""
    found, digits = contrast.comparison, column.decimals
    if found is None or contrast.verdict is None:
        return [contrast.baseline, *["–"] * (len(HEADS) - 2), contrast.reason]
    return [
        contrast.baseline,
        str(found.n),
        signed(found.difference, digits),
        interval(found.interval, digits),
        "–" if found.items is None else interval(found.items, digits),
        f"{found.a12:.2f}",
        chance(contrast.verdict.p),
        chance(contrast.verdict.adjusted),
        chance(found.mann_whitney),
        "★" if contrast.star else contrast.reason,
    ]


def contrasted(block: Block) -> list[tuple[Line, Contrast]]:
    return [(line, line.contrast) for line in block.lines if line.contrast is not None]


def heads(block: Block) -> list[str]:
    return ["", "n", *(f"{heading(c.metric)}{metric_of(c.metric).unit}" for c in block.columns)]
