"""Rows against their baselines: tests over paired seeds, an interval over test segments, and stars within the table's family."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from mdm.metrics import metric_of
from mdm.statistics import Comparison, Verdict, compare, judge, segment_interval
from mdm.tables.gather import Gathered
from mdm.tables.numbers import Block, Contrast, Line
from mdm.tables.segments import Losses, losses_of, same_segments

DRAWS = 0
"""Seed of every bootstrap: a table made again is the same, and no row moves another's interval."""


def contrasts(lines: Sequence[Line], here: Mapping[str, Gathered], metric: str) -> list[Line]:
    """Lines that have a baseline, with what the tests say, not yet judged as a family."""
    by_row, losses = {line.row.name: line for line in lines}, dict[tuple[str, tuple[int, ...]], Losses | None]()

    def losses_on(name: str, seeds: tuple[int, ...]) -> Losses | None:
        if (name, seeds) not in losses:
            losses[name, seeds] = losses_of([here[name].finished[seed] for seed in seeds], metric)
        return losses[name, seeds]

    done = []
    for line in lines:
        name, baseline = line.row.name, line.row.baseline
        if baseline is None or not line.runs:
            done.append(line)
            continue
        if baseline not in by_row:
            done.append(replace(line, contrast=Contrast(baseline, None, None, f"{baseline} is not in this table")))
            continue
        label, wanted = by_row[baseline].row.label, len(line.runs)
        seeds = tuple(seed for seed in here[name].finished if seed in here[baseline].finished)
        if len(seeds) < 2:
            reason = f"{len(seeds)} of {wanted} seeds in both"
            done.append(replace(line, contrast=Contrast(label, None, None, reason)))
            continue
        comparison = compare(
            *(np.array([by_row[of].entries[metric].values[seed] for seed in seeds]) for of in (name, baseline)),
            lower_is_better=metric_of(metric).lower_is_better,
            items=item_interval(losses_on(name, seeds), losses_on(baseline, seeds), metric, (name, baseline)),
            generator=np.random.default_rng(DRAWS),
        )
        reason = "" if len(seeds) == wanted else f"incomplete: {len(seeds)} of {wanted} seeds in both"
        done.append(replace(line, contrast=Contrast(label, comparison, None, reason)))
    return done


def item_interval(system: Losses | None, baseline: Losses | None, metric: str, rows: tuple[str, str]) -> tuple[float, float] | None:
    """Bootstrap over test segments, whole videos at a time, of the difference in loss; None if there are no losses."""
    if system is None or baseline is None or len(set(system.groups)) < 2:
        return None
    same_segments(system, baseline, " and ".join(rows))
    scale = metric_of(metric).scale
    return segment_interval(
        scale * system.values, scale * baseline.values, np.random.default_rng(DRAWS), groups=np.array(system.groups)
    )


def judged(blocks: Sequence[Block], family: int, seeds: int) -> list[Block]:
    """The blocks with their verdicts, Holm's over a family that may be larger than what is here: a comparison that is absent counts
    with p = 1, so a star never goes again because the sweep went on."""
    made = [line.contrast.comparison for block in blocks for line in block.lines if line.contrast and line.contrast.comparison]
    absent = Comparison(seeds, math.nan, (math.nan, math.nan), 1.0, 1.0, 1.0, 0.5, 0.0, None)
    verdicts = iter(judge([*made, *[absent] * (family - len(made))]))
    return [replace(block, lines=tuple(judge_line(line, verdicts) for line in block.lines)) for block in blocks]


def judge_line(line: Line, verdicts: Iterator[Verdict]) -> Line:
    """The line with the next verdict, if it has a comparison. No star while runs are missing: which are may be no chance."""
    if line.contrast is None or line.contrast.comparison is None:
        return line
    verdict = next(verdicts)
    return replace(line, contrast=replace(line.contrast, verdict=verdict, reason=line.contrast.reason or verdict.reason))
