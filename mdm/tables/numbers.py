"""The numbers of a table, as every format reads them. Accuracies and F1 are in percent, all else is as it was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mdm.reference import Printed
from mdm.statistics import Verdict
from mdm.statistics.verdicts import Evidence, Statistic, find_statistic
from mdm.sweeps.experiment import Row, Table
from mdm.tables.gather import Run

LEVEL = 0.05
"""The error level of all stars of a table together, and of its simultaneous intervals."""


@dataclass(frozen=True)
class Column:
    """A metric: ours, the paper's (empty if it prints none), and how many decimals are shown. Accuracies and F1 are in percent."""

    metric: str
    printed: str
    decimals: int
    primary: bool


@dataclass(frozen=True)
class Entry:
    """Where a row and a column meet: values by seed, NaN where a metric is not defined; footnotes of the printed value.

    >>> entry = Entry({0: 1.0, 1: 3.0, 2: math.nan}, printed=None)
    >>> entry.mean, entry.undefined
    (2.0, 1)
    """

    values: Mapping[int, float]
    printed: Printed | None
    marks: tuple[int, ...] = ()
    best: bool = False

    @property
    def defined(self) -> list[float]:
        return [value for value in self.values.values() if not math.isnan(value)]

    @property
    def undefined(self) -> int:
        return len(self.values) - len(self.defined)

    @property
    def mean(self) -> float:
        return float(np.mean(self.defined)) if self.defined else math.nan

    @property
    def sd(self) -> float:
        """Of the sample; NaN for one value."""
        return float(np.std(self.defined, ddof=1)) if len(self.defined) > 1 else math.nan

    @property
    def difference(self) -> float:
        """Ours less the paper's, in the paper's unit."""
        return math.nan if self.printed is None else self.mean - self.printed.number


@dataclass(frozen=True)
class Contrast:
    """A row against its baseline in the primary metric. Without what was found, ``reason`` says what is missing."""

    baseline: str
    found: Evidence | None
    verdict: Verdict | None
    reason: str

    @property
    def star(self) -> bool:
        return not self.reason


@dataclass(frozen=True)
class Line:
    """A row of a block; no runs where it is not built here and only the paper's values are shown."""

    row: Row
    runs: tuple[Run, ...]
    entries: Mapping[str, Entry]
    contrast: Contrast | None = None
    marks: tuple[int, ...] = ()

    @property
    def finished(self) -> int:
        return sum(run.state == "finished" for run in self.runs)

    @property
    def star(self) -> bool:
        return self.contrast is not None and self.contrast.star


@dataclass(frozen=True)
class Block:
    """The rows on one data set. ``synthetic``: whether the data are synthetic; None without a run."""

    data: str
    stands_for: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    synthetic: bool | None
    card: str

    @property
    def primary(self) -> Column:
        return next(column for column in self.columns if column.primary)


@dataclass(frozen=True)
class Sheet:
    """A table with all its numbers. family: its comparisons, counted as declared; mixed: what its records do not share"""

    name: str
    declared: Table
    blocks: tuple[Block, ...]
    family: int
    mixed: tuple[str, ...]
    footnotes: tuple[str, ...]

    @property
    def statistic(self) -> Statistic:
        """What stars its rows."""
        return find_statistic(self.declared.test)


@dataclass
class Footnotes:
    """Texts in the order in which they are first referred to, numbered from 1.

    >>> notes = Footnotes()
    >>> notes.mark("a doubtful value"), notes.mark("another"), notes.mark("a doubtful value")
    (1, 2, 1)
    """

    texts: list[str] = field(default_factory=list)

    def mark(self, text: str) -> int:
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1
