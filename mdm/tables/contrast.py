"""Rows against their baselines: for new seeds and new videos, for new seeds on this test set, and stars within the family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from mdm.metrics import find_metric
from mdm.statistics import Verdict, check_symmetry, compare, compare_crossed, signed_rank
from mdm.statistics.verdicts import Evidence, expect_runs, find_statistic
from mdm.sweeps.experiment import Table
from mdm.tables.divergence import find_diverged, find_stopped
from mdm.tables.gather import CellRuns
from mdm.tables.numbers import Block, Contrast, Line
from mdm.tables.segments import Scores, check_same_segments, score_runs

DRAWS = 0
"""Seed of the sign flip, which draws beyond 40 pairs: a table made again is the same, and no row moves another's p."""


def compare_lines(lines: Sequence[Line], here: Mapping[str, CellRuns], metric: str, table: Table) -> list[Line]:
    """Lines that have a baseline, with what the tests say, not yet judged as a family."""
    labels = {line.row.name: line.row.label for line in lines}

    @cache
    def score(name: str) -> Scores:
        return score_runs(list(here[name].finished.values()), metric)

    def contrast(line: Line) -> Contrast | None:
        name, baseline = line.row.name, line.row.baseline
        if baseline is None or not line.runs:
            return None
        if baseline not in labels or baseline not in here:
            return Contrast(baseline, None, None, f"{baseline} is not in this table")
        seeds = tuple(seed for seed in here[name].finished if seed in here[baseline].finished)
        wanted = len(line.runs)
        if len(seeds) < 2:
            return Contrast(labels[baseline], None, None, f"{len(seeds)} of {wanted} seeds in both")
        check_same_segments(score(name).predictions, score(baseline).predictions, f"{name} and {baseline}")
        lost = [seed for row in (name, baseline) for seed in find_diverged(list(here[row].finished.values()))]
        found = compare_rows(score(name), score(baseline), seeds, lost, find_metric(metric).lower_is_better, table)
        stopped = {seed for row in (name, baseline) for seed in find_stopped(here[row].runs)}
        crossed = replace(found.crossed, lost=found.crossed.lost + len(stopped))
        # To the tests over seeds a run without a record is missing, for they have no rule that leaves one out.
        known = len(seeds) + (len(stopped) if find_statistic(table.test).leaves_out else 0)
        reason = "" if known == wanted else f"incomplete: {len(seeds)} of {wanted} seeds in both"
        found = replace(found, crossed=crossed)
        return Contrast(labels[baseline], found, None, reason)

    return [replace(line, contrast=contrast(line)) for line in lines]


def compare_rows(
    system: Scores, baseline: Scores, seeds: Sequence[int], lost: Sequence[int], lower_is_better: bool, table: Table
) -> Evidence:
    """All tests of one row against another: row s of both sides is the same seed.

    lost: seeds of runs that diverged, which count for nothing in the two-way t and in Wilcoxon's shift, and as they are, or as the
        worst of all where they have no metric, in the tests over seeds
    """
    sides = [side.of(seeds) for side in (system, baseline)]
    crossed = compare_crossed(system.of(seeds, lost), baseline.of(seeds, lost))
    kept = np.isfinite(sides[0].whole) & np.isfinite(sides[1].whole) & ~np.isin(seeds, lost)
    values = [side.whole[kept] for side in sides]
    return Evidence(
        crossed=crossed,
        seeds=compare(
            sides[0].whole,
            sides[1].whole,
            lower_is_better=lower_is_better,
            zeros=table.zeros,
            generator=np.random.default_rng(DRAWS),
        ),
        ranks=signed_rank(*values, zeros=table.zeros) if kept.any() else None,
        skew=check_symmetry(*values).warning if kept.any() else "",
        values=(sides[0].whole, sides[1].whole),
    )


def judge_blocks(blocks: Sequence[Block], table: Table, family: int, seeds: int) -> list[Block]:
    """The blocks with their verdicts, Holm's over a family that may be larger than what is here: a comparison that is absent counts
    with p = 1, so a star never goes again because the sweep went on."""
    made = [line.contrast.found for block in blocks for line in block.lines if line.contrast and line.contrast.found]
    absent = family - len(made)
    verdicts = find_statistic(table.test).judge([*made, *[expect_runs(seeds)] * absent])
    given = iter(verdicts)
    return [replace(block, lines=tuple(judge_line(line, given) for line in block.lines)) for block in blocks]


def judge_line(line: Line, verdicts: Iterator[Verdict]) -> Line:
    """The line with the next verdict, if it has a comparison. No star while runs are missing: which are may be no chance."""
    if line.contrast is None or line.contrast.found is None:
        return line
    verdict = next(verdicts)
    return replace(line, contrast=replace(line.contrast, verdict=verdict, reason=line.contrast.reason or verdict.reason))
