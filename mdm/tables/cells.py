"""Cells in words, which Markdown, LaTeX and HTML share."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mdm.metrics import heading, metric_of
from mdm.sweeps.experiment import StarTest, Table
from mdm.tables.numbers import LEVEL, Block, Column, Entry, Found, Line
from mdm.tables.wording import chance, format_shares, interval, number, signed


@dataclass(frozen=True)
class Shown:
    """A cell in words: ours, below it the paper's, the numbers of the footnotes, and the star by its test."""

    ours: str
    paper: str = ""
    marks: tuple[int, ...] = ()
    best: bool = False
    star: str = ""


def shown(line: Line, column: Column, test: StarTest) -> Shown:
    """Ours with its spread, marks and star; the paper's with the difference. Of a row without runs, the paper's alone."""
    entry, digits = line.entries[column.metric], column.decimals
    if not line.runs:
        return Shown(printed(entry) or "–", marks=entry.marks)
    ours = number(entry.mean, digits) + (f" ± {number(entry.sd, digits)}" if len(entry.defined) > 1 else "")
    paper = printed(entry)
    if paper and not math.isnan(entry.difference):
        paper += f" ({signed(entry.difference, digits)})"
    star = STARS[test] if column.primary and line.star else ""
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


STARS = {"crossed": "★", "wilcoxon": "☆", "sign_flip": "☆", "mann_whitney": "☆"}
"""By the test that gives them: only the first speaks of new videos."""
NAMES = {"crossed": "two-way t", "wilcoxon": "Wilcoxon", "sign_flip": "sign-flip", "mann_whitney": "Mann–Whitney"}


def comparison_heads(test: StarTest) -> list[str]:
    """Of the comparisons' columns, the first of which has no head."""
    intervals = {
        "crossed": ["difference", "simultaneous 95 %", "variance: runs/videos/both, %"],
        "wilcoxon": ["shift", "exact interval", "rank-biserial"],
    }.get(test, ["difference", "95 % over seeds"])
    papers = ["A12", "Mann–Whitney", "paired t"]
    return ["", "against", "n", *intervals, f"{NAMES[test]} p", "Holm", *papers, "verdict"]


def contrast_cells(line: Line, column: Column, table: Table, family: int) -> list[str]:
    """A comparison in words, under its heads."""
    contrast, heads = line.contrast, comparison_heads(table.test)
    assert contrast is not None
    found, verdict = contrast.found, contrast.verdict
    if found is None or verdict is None:
        return [line.row.label, contrast.baseline, *["–"] * (len(heads) - 3), contrast.reason]
    return [
        line.row.label,
        contrast.baseline,
        *sizes_and_intervals(found, column.decimals, table.test, family),
        "–" if table.test == "crossed" and found.crossed.reason else chance(verdict.p),
        chance(verdict.adjusted),
        f"{found.seeds.a12:.2f}",
        chance(found.seeds.mann_whitney),
        chance(found.seeds.paired_t),
        "; ".join([STARS[table.test] if contrast.star else contrast.reason, *remarks(found, table.test)]),
    ]


def sizes_and_intervals(found: Found, digits: int, test: StarTest, family: int) -> list[str]:
    """Pairs, size of the difference, and how sure it is, by the test that stars."""
    crossed = found.crossed
    if test == "crossed":
        n = f"{crossed.pairs}, {crossed.lost} lost" if crossed.lost else str(crossed.pairs)
        return [
            n,
            signed(crossed.difference, digits),
            interval(crossed.interval(LEVEL / family), digits),
            format_shares(crossed.shares),
        ]
    if test == "wilcoxon":
        ranks = found.ranks
        if ranks is None:
            return [str(found.seeds.n), "–", "–", "–"]
        n = str(ranks.n) if ranks.n == found.seeds.n else f"{found.seeds.n}, shift of {ranks.n}"
        shift = f"{interval(ranks.interval, digits)} ({100 * ranks.level:.1f} %)"
        return [n, signed(ranks.shift, digits), shift, signed(ranks.rank_biserial, 2)]
    return [str(found.seeds.n), signed(found.seeds.difference, digits), interval(found.seeds.interval, digits)]


def remarks(found: Found, test: StarTest) -> list[str]:
    """What a reader should know beside the verdict."""
    return [text for text in (found.crossed.note if test == "crossed" else "", found.skew) if text]


def contrasted(block: Block) -> list[Line]:
    """Rows with a baseline."""
    return [line for line in block.lines if line.contrast is not None]


def heads(block: Block) -> list[str]:
    return ["", "n", *(f"{heading(c.metric)}{metric_of(c.metric).unit}" for c in block.columns)]
