"""Cells in words, which Markdown, LaTeX and HTML share."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mdm.metrics import find_metric, format_heading
from mdm.sweeps.experiment import StarTest, Table
from mdm.tables.numbers import LEVEL, Block, Column, Entry, Evidence, Line
from mdm.tables.wording import format_interval, format_number, format_p, format_shares, format_signed


@dataclass(frozen=True)
class CellText:
    """A cell in words: ours, below it the paper's, the numbers of the footnotes, and the star by its test."""

    ours: str
    paper: str = ""
    marks: tuple[int, ...] = ()
    best: bool = False
    star: str = ""


def render_cell(line: Line, column: Column, test: StarTest) -> CellText:
    """Ours with its spread, marks and star; the paper's with the difference. Of a row without runs, the paper's alone."""
    entry, digits = line.entries[column.metric], column.decimals
    if not line.runs:
        return CellText(format_printed(entry) or "–", marks=entry.marks)
    ours = format_number(entry.mean, digits) + (f" ± {format_number(entry.sd, digits)}" if len(entry.defined) > 1 else "")
    paper = format_printed(entry)
    if paper and not math.isnan(entry.difference):
        paper += f" ({format_signed(entry.difference, digits)})"
    star = STARS[test] if column.primary and line.star else ""
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


STARS = {"crossed": "★", "wilcoxon": "☆", "sign_flip": "☆", "mann_whitney": "☆"}
"""The star of each test; only the first speaks of new videos."""
NAMES = {"crossed": "two-way t", "wilcoxon": "Wilcoxon", "sign_flip": "sign-flip", "mann_whitney": "Mann–Whitney"}


def list_comparison_heads(test: StarTest) -> list[str]:
    """The heads of the comparisons' columns; the first column has none."""
    intervals = {
        "crossed": ["difference", "simultaneous 95 %", "variance: runs/videos/both, %"],
        "wilcoxon": ["shift", "exact interval", "rank-biserial"],
    }.get(test, ["difference", "95 % over seeds"])
    papers = ["A12", "Mann–Whitney", "paired t"]
    return ["", "against", "n", *intervals, f"{NAMES[test]} p", "Holm", *papers, "verdict"]


def render_contrast(line: Line, column: Column, table: Table, family: int) -> list[str]:
    """A comparison in words, under its heads."""
    contrast, heads = line.contrast, list_comparison_heads(table.test)
    assert contrast is not None
    found, verdict = contrast.found, contrast.verdict
    if found is None or verdict is None:
        return [line.row.label, contrast.baseline, *["–"] * (len(heads) - 3), contrast.reason]
    return [
        line.row.label,
        contrast.baseline,
        *format_effect(found, column.decimals, table.test, family),
        "–" if table.test == "crossed" and found.crossed.reason else format_p(verdict.p),
        format_p(verdict.adjusted),
        f"{found.seeds.a12:.2f}",
        format_p(found.seeds.mann_whitney),
        format_p(found.seeds.paired_t),
        "; ".join([STARS[table.test] if contrast.star else contrast.reason, *list_remarks(found, table.test)]),
    ]


def format_effect(found: Evidence, digits: int, test: StarTest, family: int) -> list[str]:
    """Number of pairs, size of the difference and its interval, as the test that gives the stars has them."""
    crossed = found.crossed
    if test == "crossed":
        n = f"{crossed.pairs}, {crossed.lost} lost" if crossed.lost else str(crossed.pairs)
        return [
            n,
            format_signed(crossed.difference, digits),
            format_interval(crossed.interval(LEVEL / family), digits),
            format_shares(crossed.shares),
        ]
    if test == "wilcoxon":
        ranks = found.ranks
        if ranks is None:
            return [str(found.seeds.n), "–", "–", "–"]
        n = str(ranks.n) if ranks.n == found.seeds.n else f"{found.seeds.n}, shift of {ranks.n}"
        shift = f"{format_interval(ranks.interval, digits)} ({100 * ranks.level:.1f} %)"
        return [n, format_signed(ranks.shift, digits), shift, format_signed(ranks.rank_biserial, 2)]
    return [str(found.seeds.n), format_signed(found.seeds.difference, digits), format_interval(found.seeds.interval, digits)]


def list_remarks(found: Evidence, test: StarTest) -> list[str]:
    """What a reader should know beside the verdict."""
    return [text for text in (found.crossed.note if test == "crossed" else "", found.skew) if text]


def find_contrasts(block: Block) -> list[Line]:
    """Rows with a baseline."""
    return [line for line in block.lines if line.contrast is not None]


def list_heads(block: Block) -> list[str]:
    return ["", "n", *(f"{format_heading(c.metric)}{find_metric(c.metric).unit}" for c in block.columns)]
