"""After experiments, before their settings are final: a grid of settings, chosen on the validation fold alone.

An experiment with a section ``search`` is run like a table (`mdm train -m experiment=search/…`); `mdm search
experiment=search/…` ranks what it found and writes the best of each run as a file of the group ``tuned``:

    search:
      title: …
      source: Colombo et al. (2021), A.1.2       where the grid stands
      data: [synthetic]                          data=… on the command line replaces it
      seeds: 3                                   0 to 2 at every point; seed=… replaces them
      runs: {lmf_kl: [model=lmf, penalty=kl]}    model=… and penalty=… choose among them
      grid: {model.optimizer.lr: [0.002, 0.001]} one for all runs, so that baselines get as many tries as penalties
      select: mae                                metric of the validation fold, the mean over seeds
      draws: null                                so many points of a large grid, at random; null: all

Every run ends as all runs do: it reads its test fold once and records what it found. A search never sees those numbers. It reads
records by `mdm.sweeps.found.read_validation` alone, which returns no number of the test fold.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from mdm.metrics import find_metric
from mdm.sweeps.experiment import Cell, read_arguments


@dataclass(frozen=True)
class Search:
    """The declaration of a search; see the module's docstring.

    >>> grid = {"a.lr": (0.1, 0.2), "a.decay": (0,)}
    >>> Search("A grid", "Colombo et al., 2021", ("mosi",), 3, {"kl": ("penalty=kl",)}, grid, "mae").points()
    [{'a.lr': 0.1, 'a.decay': 0}, {'a.lr': 0.2, 'a.decay': 0}]
    """

    title: str
    source: str
    data: tuple[str, ...]
    seeds: int
    runs: Mapping[str, tuple[str, ...]]
    grid: Mapping[str, tuple[Any, ...]]
    select: str
    draws: int | None = None

    def points(self) -> list[dict[str, Any]]:
        """The grid's points in its order. More draws contain fewer ones, so runs that are done stay useful."""
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


def parse_search(cfg: DictConfig) -> Search:
    """The search that a composed experiment declares.

    Raises ValueError, naming the key, if it has none or what it declares does not fit together.
    """
    if "search" not in cfg:
        raise ValueError(
            f"An experiment declares its search in a section, but {cfg.name} has none; choose one, as experiment=search/mdm."
        )
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
            f"A grid maps keys below a group to lists of numbers, words or null, got {', '.join(wrong) or 'an empty one'}; "
            "set search.grid, as {model.optimizer.lr: [0.001, 0.0005]}."
        )
    try:
        find_metric(str(select))
    except ValueError as error:
        raise ValueError(f"search.select: {error}") from None
    if draws is not None and not (isinstance(draws, int) and 1 <= draws <= size):
        raise ValueError(f"Points are drawn among the grid's {size}, got draws={draws}; set search.draws, null for all.")
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


def list_trials(search: Search, arguments: Sequence[str]) -> list[Trial]:
    """Every run at every point, data set by data set, as far as the command line leaves them.

    Raises ValueError where `mdm.sweeps.experiment.read_arguments` does, if the command line sets a key of the grid, and if no run
    is left.
    """
    given = read_arguments(arguments)
    for other in given.others:
        key = other.partition("=")[0].lstrip("+~")
        if key in search.grid:
            raise ValueError(f"{key} is searched, got {other}, which would set it in every run; set search.grid in the file.")
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


def list_search_cells(cfg: DictConfig, arguments: Sequence[str]) -> list[Cell]:
    """The cells of a search, to be run as those of a table are.

    Raises ValueError where `parse_search` and `list_trials` do.
    """
    return [trial.cell for trial in list_trials(parse_search(cfg), arguments)]
