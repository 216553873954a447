"""Before a sweep: which runs a command line asks for, and what their folders hold already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob
from omegaconf import DictConfig, OmegaConf

from mdm.runs.build import build_loggers, build_splits
from mdm.runs.config import check
from mdm.runs.folder import locate_run
from mdm.runs.naming import name_penalty
from mdm.runs.options import read_options
from mdm.runs.selection import check_select
from mdm.sweeps.experiment import has_table, list_cells, parse_table
from mdm.sweeps.search import list_search_cells
from mdm.types import DataSpec

Composer = Callable[[list[str]], DictConfig]
"""Overrides → a run's config."""


@dataclass(frozen=True)
class PlannedRun:
    """A run of a sweep: its overrides, its folder, and what that holds (`mdm.runs.claims.examine`).

    choices: its data, model and penalty; epochs: how many it takes at most
    """

    overrides: list[str]
    folder: Path
    found: str
    choices: tuple[str, str, str]
    epochs: int


def list_wanted(cfg: DictConfig, arguments: Sequence[str]) -> list[list[str]]:
    """The overrides of every run that a command line asks for: an experiment's cells, or the product of what is swept.

    Raises ValueError where `mdm.sweeps.experiment.list_cells` and `mdm.sweeps.search.list_search_cells` do, on a sweep that is not
    a list of values, and on a seed that is not a whole number.
    """
    if has_table(cfg):
        return [run for cell in list_cells(parse_table(cfg), arguments) for run in cell.runs()]
    if "search" in cfg:
        return [run for cell in list_search_cells(cfg, arguments) for run in cell.runs()]
    values: dict[str, list[str]] = {}
    for given in OverridesParser.create().parse_overrides(list(arguments)):
        key = given.get_key_element()
        if given.is_sweep_override() and not given.is_discrete_sweep():
            raise ValueError(f"A grid is made of lists of values, got {given.input_line}; use choice(…) or range(…).")
        swept = given.is_sweep_override()
        if key == "experiment" and swept:
            raise ValueError(f"One experiment is run at a time, got {given.input_line}; give the command once for each.")
        if isinstance(given.value(), Glob):
            raise ValueError(f"A grid is made of lists of values, got {given.input_line}; name the options, as penalty=kl,f.")
        values[key] = [f"{key}={value}" for value in given.sweep_string_iterator()] if swept else [str(given.input_line)]
        if key == "seed" and not all(value.removeprefix("seed=").isdecimal() for value in values[key]):
            raise ValueError(f"Seeds are whole numbers, got {given.input_line}; use seed='range(10)', say.")
    empty = [key for key, chosen in values.items() if not chosen]
    if empty:
        raise ValueError(f"A grid has at least one value of each key, but {', '.join(empty)} has none; use seed='range(10)', say.")
    return [list(run) for run in product(*values.values())]


def plan(runs: Sequence[list[str]], composer: Composer) -> list[PlannedRun]:
    """Where every run belongs and what is there already; nothing is written.

    Raises ValueError if a config or its data break a contract, if a folder holds a record of another config, and if two runs would
    share a folder.
    """
    sets: dict[str, tuple[str, DataSpec]] = {}
    configs: dict[tuple[str, ...], DictConfig] = {}
    planned: dict[Path, PlannedRun] = {}
    for overrides in runs:
        seed = next((o.removeprefix("seed=") for o in overrides if o.startswith("seed=")), None)
        others = tuple(o for o in overrides if not o.startswith("seed="))
        if others not in configs:
            configs[others] = composer(overrides)
        cfg = configs[others].copy()
        if seed is not None:
            cfg.seed = int(seed)
        check(cfg)
        build_loggers(cfg, Path(cfg.paths.outputs))  # which write nothing yet, and refuse what they cannot do
        of_data = OmegaConf.to_yaml(cfg.data, resolve=True)
        if of_data not in sets:
            splits = build_splits(cfg)
            sets[of_data] = splits.card_hash, splits.spec
        card, spec = sets[of_data]
        check_select(cfg.trainer.select, spec)
        folder, _, found = locate_run(cfg, overrides, card)
        if folder in planned:
            raise ValueError(
                f"Every run of a sweep has a folder of its own, but two have {folder}: {' '.join(planned[folder].overrides)} and "
                f"{' '.join(overrides)}; remove one."
            )
        choices = (cfg.data.name, cfg.model.name, name_penalty(cfg))
        planned[folder] = PlannedRun(overrides, folder, found, choices, read_options(cfg.trainer).epochs)
    return list(planned.values())
