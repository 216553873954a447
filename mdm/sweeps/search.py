"""After experiments, before their settings are final: a grid of settings, chosen on the validation fold alone.

An experiment with a section ``search`` is run like a table (`python train.py -m experiment=search/…`); `python scripts/search.py
experiment=search/…` ranks what it found and writes the best of each run as a file of the group ``tuned``:

    search:
      title: …
      source: paper 000, appendix A.1.2          where the grid stands
      data: [synthetic]                          data=… on the command line replaces it
      seeds: 3                                   0 to 2 at every point; seed=… replaces them
      runs: {lmf_kl: [model=lmf, penalty=kl]}    model=… and penalty=… choose among them
      grid: {model.optimizer.lr: [0.002, 0.001]} one for all runs, so that baselines get as many tries as penalties
      select: mae                                metric of the validation fold, the mean over seeds
      draws: null                                so many points of a large grid, at random; null: all

Every run ends as all runs do, with one look at its test fold, and its record says what it saw. Nothing here does: `validation` is
all that is read of a record, and it returns no number of the test fold.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from omegaconf import DictConfig, OmegaConf

from mdm.metrics import metric_of
from mdm.runs import records
from mdm.sweeps.experiment import Cell, read_arguments


@dataclass(frozen=True)
class Search:
    """The declaration of a search; see the module's docstring."""

    title: str
    source: str
    data: tuple[str, ...]
    seeds: int
    runs: Mapping[str, tuple[str, ...]]
    grid: Mapping[str, tuple[Any, ...]]
    select: str
    draws: int | None = None

    def points(self) -> list[dict[str, Any]]:
        """The grid's points in its order. More draws contain fewer ones, so that what has been run stays of use."""
        points = [dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())]
        if self.draws is None:
            return points
        return [points[i] for i in sorted(np.random.default_rng(0).permutation(len(points))[: self.draws])]


@dataclass(frozen=True)
class Trial:
    """A run at a point of the grid; its cell has the overrides and the seeds, ``conditions`` those that the command line added."""

    run: str
    point: Mapping[str, Any]
    cell: Cell
    conditions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
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
    def shown(self) -> str:
        """Mean ± sample standard deviation of what there is."""
        if not self.values:
            return "–"
        spread = f" ± {np.std(self.values, ddof=1):.4f}" if len(self.values) > 1 else ""
        return f"{np.mean(self.values):.4f}{spread}"


# ---- what is to be run


def search_of(cfg: DictConfig) -> Search:
    """The search that a composed experiment declares.

    Raises ValueError, naming the key, if it has none or what it declares does not fit together.
    """
    if "search" not in cfg:
        raise ValueError(f"A search is declared by an experiment, but {cfg.name} has none; choose one, as experiment=search/mdm.")
    # As written: an interpolation in a run's overrides is resolved in that run.
    raw: Any = OmegaConf.to_container(cfg.search, resolve=False)
    needed = {"title", "source", "data", "seeds", "runs", "grid", "select"}
    if needed - set(raw) or set(raw) - needed - {"draws"}:
        raise ValueError(
            f"A search has {', '.join(sorted(needed))}, and may have draws, but {cfg.name} has {', '.join(raw)}; correct search in "
            "its file."
        )
    seeds, draws, select = raw["seeds"], raw.get("draws"), raw["select"]
    grid = {str(key): tuple(values) if isinstance(values, list) else () for key, values in raw["grid"].items()}
    size = math.prod(len(values) for values in grid.values())
    if not isinstance(seeds, int) or seeds < 1 or not raw["data"] or not raw["runs"]:
        raise ValueError(
            f"A search needs a seed, a data set and a run, but {cfg.name} has seeds={seeds}, data={raw['data']} and "
            f"{len(raw['runs'])} runs; set search."
        )
    wrong = [
        key for key, values in grid.items() if "." not in key or not all(isinstance(v, int | float | str | None) for v in values)
    ]
    if wrong or not size:
        raise ValueError(
            f"A grid maps keys below a group to lists of numbers, words or null, but {', '.join(wrong) or 'an empty one'} came; "
            "set search.grid, as {model.optimizer.lr: [0.001, 0.0005]}."
        )
    try:
        metric_of(str(select))
    except ValueError as error:
        raise ValueError(f"search.select: {error}") from None
    if draws is not None and not (isinstance(draws, int) and 1 <= draws <= size):
        raise ValueError(f"Points are drawn among the grid's {size}, but draws={draws} came; set search.draws, null for all.")
    runs = {str(name): tuple(str(o) for o in overrides) for name, overrides in raw["runs"].items()}
    for name, overrides in runs.items():
        for override in overrides:
            key = override.partition("=")[0]
            if not key or key[0] in "+~" or "@" in key or key in ("data", "seed", *grid):
                raise ValueError(
                    f"A run of a search chooses groups and sets keys that are no part of the grid, but search.runs.{name} has "
                    f"{override}; it could not be written as a file of the group tuned. Correct it."
                )
    return Search(raw["title"], raw["source"], tuple(raw["data"]), seeds, runs, grid, str(select), draws)


def trials(search: Search, arguments: Sequence[str]) -> list[Trial]:
    """Every run at every point, data set by data set, as far as the command line leaves them.

    Raises ValueError where `mdm.sweeps.experiment.read_arguments` does, if the command line sets a key of the grid, and if no run
    is left.
    """
    given = read_arguments(arguments)
    for other in given.others:
        key = other.partition("=")[0].lstrip("+~")
        if key in search.grid:
            raise ValueError(f"{key} is searched, but {other} came, which would set it in every run; set search.grid in the file.")
    seeds = given.seeds if given.seeds is not None else tuple(range(search.seeds))
    found = []
    for data, (run, overrides) in product(given.data or search.data, search.runs.items()):
        own = dict(override.split("=", 1) for override in overrides)
        if all(own.get(key) in values for key, values in given.chosen.items()):
            for point in search.points():
                # As JSON, which Hydra reads: null, true, "words".
                chosen = [f"{key}={json.dumps(value)}" for key, value in point.items()]
                cell = (*given.experiment, f"data={data}", *overrides, *chosen, *given.others)
                found.append(Trial(run, point, Cell(f"{run} {' '.join(chosen)}", data, cell, seeds), given.others))
    if not found:
        raise ValueError(
            f"No run of this search has {given.chosen}; its runs are "
            + "; ".join(f"{name}: {' '.join(overrides)}" for name, overrides in search.runs.items())
        )
    return found


def search_cells(cfg: DictConfig, arguments: Sequence[str]) -> list[Cell]:
    """The cells of a search, to be run as those of a table are.

    Raises ValueError where `search_of` and `trials` do.
    """
    return [trial.cell for trial in trials(search_of(cfg), arguments)]


# ---- what was found


def validation(folder: Path) -> dict[str, Any] | None:
    """Of a run's record, what a choice may rest on: its validation metrics, and whose they are; None if it has not finished.

    No metric of the test fold is returned.
    """
    if not (folder / records.METRICS).is_file():
        return None
    record = records.read_record(folder)
    return {key: record[key] for key in ("valid", "data_card", "commit", "uncommitted_changes")}


def read(trial: Trial, folders: Sequence[Path], config: Mapping[str, Any], metric: str) -> Found:
    """What the records of a trial say.

    folders: one for each seed; config: what they must have been made with, but for the seed

    Raises ValueError if one was made with another config, and if it has no such metric.
    """
    values, cards, commits, failed, missing = [], set(), set(), 0, 0
    for seed, folder in zip(trial.cell.seeds, folders, strict=True):
        record = validation(folder)
        if record is None:
            error = (folder / records.ERROR).is_file()
            failed, missing = failed + error, missing + (not error)
            continue
        written = records.read_config(folder)
        old, new = ({k: v for k, v in records.compared(c).items() if k != "data_card"} for c in (written, {**config, "seed": seed}))
        differing = records.differences(old, records.without_tuples(new))
        if differing:
            raise ValueError(f"{folder} was made with other settings than this search has now:\n  " + "\n  ".join(differing))
        if metric not in record["valid"]:
            raise ValueError(f"{folder} has no {metric}, but {', '.join(record['valid'])}; set search.select.")
        value = record["valid"][metric]
        values.append(math.nan if value is None else value)
        cards.add(record["data_card"])
        changed = " with uncommitted changes" if record["uncommitted_changes"] else ""
        commits.add(f"{(record['commit'] or 'unknown')[:12]}{changed}")
    return Found(trial, tuple(values), failed, missing, frozenset(cards), frozenset(commits))


def ranked(found: Sequence[Found], metric: str) -> list[Found]:
    """Best first; ties keep the grid's order, and what has no mean comes last."""
    sign = 1 if metric_of(metric).lower_is_better else -1
    return sorted(found, key=lambda f: (math.isnan(f.mean), sign * f.mean if not math.isnan(f.mean) else 0.0))


def best(found: Sequence[Found], metric: str) -> Found:
    """The chosen point of a run.

    Raises ValueError if runs are missing, if no point has a mean over all seeds, and if records are of different data.
    """
    name, first = found[0].trial.run, ranked(found, metric)[0]
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


def table(search: Search, found: Sequence[Found]) -> str:
    """A run's points as Markdown, best first."""
    trial = found[0].trial
    lines = [
        f"**{trial.run} on {trial.cell.data}**: validation {search.select}, mean ± standard deviation over seeds\n",
        f"| {' | '.join(search.grid)} | {search.select} | n | |",
        "|---" * (len(search.grid) + 3) + "|",
    ]
    for f in ranked(found, search.select):
        gaps = [f"{n} {what}" for n, what in ((f.failed, "failed"), (f.missing, "missing")) if n]
        cells = [*(json.dumps(value) for value in f.trial.point.values()), f.shown, str(len(f.values)), ", ".join(gaps)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def tuned(search: Search, name: str, found: Sequence[Found], chosen: Found, config: Mapping[str, Any]) -> str:
    """The chosen point as a file of the group ``tuned``: where it comes from, the run's groups, the run's keys and the point's.

    name: of the experiment; found: all points of the run; config: a composed run at the chosen one
    """
    trial, points = chosen.trial, math.prod(len(values) for values in search.grid.values())
    conditions = [o for o in trial.conditions if o.lstrip("+~").partition("=")[0].split(".")[0] not in records.NOT_COMPARED]
    among = f"{len(found)} points" if len(found) == points else f"{len(found)} points drawn among {points}"
    lines = [
        "# @package _global_",
        f"# Source: experiment={name} ({search.source}) on {' '.join([f'data={trial.cell.data}', *conditions])}: best "
        f"validation {search.select}, {chosen.shown} over seeds {', '.join(map(str, trial.cell.seeds))}, among {among}; commit "
        f"{', '.join(sorted({commit for f in found for commit in f.commits}))}. The test fold had no part in it.",
        *(f"# Searched: {key} in {', '.join(json.dumps(value) for value in values)}" for key, values in search.grid.items()),
    ]
    own = [override.partition("=") for override in search.runs[trial.run]]
    file: dict[str, Any] = {"defaults": [defaults_entry(key, value) for key, _, value in own if "." not in key]}
    for key in [*(key for key, _, _ in own if "." in key), *search.grid]:
        *outer, last = key.split(".")
        node, there = file, config
        for part in outer:
            node, there = node.setdefault(part, {}), there[part]
        node[last] = there[last]
    return "\n".join(lines) + "\n" + yaml.safe_dump(file, sort_keys=False)


def defaults_entry(group: str, option: str) -> Any:
    """A group's choice in a defaults list; settings of another file of ``tuned`` are loaded before these."""
    return f"/tuned/{option}" if group == "tuned" else {f"override /{group}": option}


def write(path: Path, text: str, overwrite: bool) -> None:
    """Write a file of the group ``tuned``.

    Raises ValueError if there is another one and ``overwrite`` is not set.
    """
    if path.is_file() and path.read_text(encoding="utf-8") != text and not overwrite:
        raise ValueError(f"{path} is another file than this search would write; add overwrite=true, or remove it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    records.write_atomically(path, text)
