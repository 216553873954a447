"""After a search: what its records say on validation → the best point of each run, as a file of the group ``tuned``.

No number of the test fold is read here: `read_validation` is all that is taken from a record.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mdm.metrics import find_metric
from mdm.runs import claims, records
from mdm.sweeps.search import Search, Trial


@dataclass(frozen=True)
class TrialResult:
    """What a trial's records say.

    values: the metric on the validation fold, one of each finished seed; NaN where it is not defined
    failed, missing: how many seeds failed, and how many have not been run to their end
    data_cards, commits: of the records
    """

    trial: Trial
    values: tuple[float, ...]
    failed: int
    missing: int
    data_cards: frozenset[str]
    commits: frozenset[str]

    @property
    def mean(self) -> float:
        """Over seeds; NaN, which is worse than any number, unless all finished."""
        return math.nan if self.failed or self.missing else float(np.mean(self.values))

    @property
    def summary(self) -> str:
        """Mean ± sample standard deviation over the seeds that finished."""
        if not self.values:
            return "–"
        spread = f" ± {np.std(self.values, ddof=1):.4f}" if len(self.values) > 1 else ""
        return f"{np.mean(self.values):.4f}{spread}"


def read_validation(folder: Path) -> dict[str, Any] | None:
    """The part of a record that a choice may rest on: validation metrics, data and commit; None if the run has not finished.

    No metric of the test fold is returned.
    """
    if not (folder / records.METRICS).is_file():
        return None
    record = records.read_result(folder)
    return {key: record[key] for key in ("valid", "data_card", "commit", "uncommitted_changes")}


def read_trial(trial: Trial, folders: Sequence[Path], config: Mapping[str, Any], metric: str) -> TrialResult:
    """What the records of a trial say.

    folders: one for each seed; config: what they must have been made with, but for the seed

    Raises ValueError if one was made with another config, and if it has no such metric.
    """
    values, cards, commits, failed, missing = [], set(), set(), 0, 0
    for seed, folder in zip(trial.cell.seeds, folders, strict=True):
        record = read_validation(folder)
        if record is None:
            error = (folder / records.ERROR).is_file()
            failed, missing = failed + error, missing + (not error)
            continue
        written = records.read_config(folder)
        old, new = (
            {k: v for k, v in claims.select_compared(c).items() if k != "data_card"} for c in (written, {**config, "seed": seed})
        )
        differing = claims.list_differences(old, claims.replace_tuples(new))
        if differing:
            raise ValueError(f"{folder} was made with other settings than this search has now:\n  " + "\n  ".join(differing))
        if metric not in record["valid"]:
            raise ValueError(f"{folder} has no {metric}, but {', '.join(record['valid'])}; set search.select.")
        value = record["valid"][metric]
        values.append(math.nan if value is None else value)
        cards.add(record["data_card"])
        changed = " with uncommitted changes" if record["uncommitted_changes"] else ""
        commits.add(f"{(record['commit'] or 'unknown')[:12]}{changed}")
    return TrialResult(trial, tuple(values), failed, missing, frozenset(cards), frozenset(commits))


def rank_points(found: Sequence[TrialResult], metric: str) -> list[TrialResult]:
    """Points, best first; ties keep the grid's order, and points without a mean come last."""
    sign = 1 if find_metric(metric).lower_is_better else -1
    return sorted(found, key=lambda f: (math.isnan(f.mean), sign * f.mean if not math.isnan(f.mean) else 0.0))


def choose_point(found: Sequence[TrialResult], metric: str) -> TrialResult:
    """The chosen point of a run.

    Raises ValueError if runs are missing, if no point has a mean over all seeds, and if records are of different data.
    """
    name, first = found[0].trial.run, rank_points(found, metric)[0]
    missing = sum(f.missing for f in found)
    if missing:
        raise ValueError(f"A choice is made among finished runs, but {missing} of {name} are missing; run the search first.")
    if math.isnan(first.mean):
        raise ValueError(f"At no point of the grid did all seeds of {name} finish with a number; widen search.grid.")
    cards = {card for f in found for card in f.data_cards}
    if len(cards) > 1:
        raise ValueError(
            f"Points are compared on one data set, but records of {name} have {len(cards)}; remove those of the old one."
        )
    return first


def render_ranking(search: Search, found: Sequence[TrialResult]) -> str:
    """A run's points as Markdown, best first."""
    trial = found[0].trial
    lines = [
        f"**{trial.run} on {trial.cell.data}**: validation {search.select}, mean ± standard deviation over seeds\n",
        f"| {' | '.join(search.grid)} | {search.select} | n | |",
        "|---" * (len(search.grid) + 3) + "|",
    ]
    for f in rank_points(found, search.select):
        gaps = [f"{n} {what}" for n, what in ((f.failed, "failed"), (f.missing, "missing")) if n]
        cells = [*(json.dumps(value) for value in f.trial.point.values()), f.summary, str(len(f.values)), ", ".join(gaps)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def render_tuned(search: Search, name: str, found: Sequence[TrialResult], chosen: TrialResult, config: Mapping[str, Any]) -> str:
    """The chosen point as a file of the group ``tuned``: where it comes from, the run's groups, the run's keys and the point's.

    name: of the experiment; found: all points of the run; config: a composed run at the chosen one
    """
    trial, points = chosen.trial, math.prod(len(values) for values in search.grid.values())
    conditions = [o for o in trial.conditions if o.lstrip("+~").partition("=")[0].split(".")[0] not in claims.NOT_COMPARED]
    among = f"{len(found)} points" if len(found) == points else f"{len(found)} points drawn among {points}"
    lines = [
        "# @package _global_",
        f"# Source: experiment={name} ({search.source}) on {' '.join([f'data={trial.cell.data}', *conditions])}: best "
        f"validation {search.select}, {chosen.summary} over seeds {', '.join(map(str, trial.cell.seeds))}, among {among}; commit "
        f"{', '.join(sorted({commit for f in found for commit in f.commits}))}. The test fold had no part in it.",
        *(f"# Searched: {key} in {', '.join(json.dumps(value) for value in values)}" for key, values in search.grid.items()),
    ]
    own = [override.partition("=") for override in search.runs[trial.run]]
    file: dict[str, Any] = {"defaults": [format_default(key, value) for key, _, value in own if "." not in key]}
    for key in [*(key for key, _, _ in own if "." in key), *search.grid]:
        *outer, last = key.split(".")
        node, there = file, config
        for part in outer:
            node, there = node.setdefault(part, {}), there[part]
        node[last] = there[last]
    return "\n".join(lines) + "\n" + yaml.safe_dump(file, sort_keys=False)


def format_default(group: str, option: str) -> Any:
    """A group's choice in a defaults list; settings of another file of ``tuned`` are loaded before these."""
    return f"/tuned/{option}" if group == "tuned" else {f"override /{group}": option}


def write_tuned(path: Path, text: str, overwrite: bool) -> None:
    """Write a file of the group ``tuned``.

    Raises ValueError if there is another one and ``overwrite`` is not set.
    """
    if path.is_file() and path.read_text(encoding="utf-8") != text and not overwrite:
        raise ValueError(f"{path} differs from what this search would write; add overwrite=true, or remove it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    records.write_atomically(path, text)
