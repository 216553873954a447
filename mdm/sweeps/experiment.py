"""After single runs, grids: an experiment file → the cells of its table, each a run per seed.

An experiment of runs has a section ``table``. The sweep (`mdm train -m experiment=…`) and the table (`mdm table
experiment=…`) read it with the same arguments, so they cannot disagree about what belongs to a cell:

    table:
      title: …
      paper: {paper: "000", table: T1}          whose printed values stand beside ours (`mdm.reference`)
      seeds: 10                                 0 to 9 in every cell; seed=… on the command line replaces them
      data: {synthetic: mosi}                   config → the paper's data set that it is, or stands in for; data=… replaces them
      metrics: {mae: mae, acc2_pos: acc2}       columns: ours → the paper's. By the paper's data set where they differ
      primary: mae                              what the tests are about; by the paper's data set where it differs
      test: crossed                             what stars (`mdm.statistics.verdicts`): crossed (default) for new seeds and new
                                                videos, or one of the others there. On a command line: table.test=…
      zeros: pratt                              pairs that do not differ, to wilcoxon: pratt (default) or split
      rows:
        none: {label: EF-LSTM, run: [model=eflstm, penalty=none], paper: {model: EF-LSTM, penalty_or_variant: none}}
        kl: {label: + KL, run: [model=eflstm, penalty=kl], baseline: none, paper: {model: EF-LSTM, penalty_or_variant: kl}}
        cited: {label: ICCN, paper: {model: ICCN}}       a system that is not built here: the paper's value alone
      product: …                                rows that are a product of systems and variants (`mdm.sweeps.rows`)
      notes: …                                  what the caption must say

A row's ``tuned`` maps data configs to files under configs/tuned. model=… and penalty=… on the command line choose among the rows;
every other override is added to every run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mdm.compose import JUDGED, add_judged
from mdm.hints import Size, require
from mdm.runs.config import check_group
from mdm.statistics.signed_rank import Zeros
from mdm.statistics.verdicts import DEFAULT, find_statistic
from mdm.sweeps.rows import DeclaredProduct, DeclaredRow, Row, parse_rows

CHOOSE = ("model", "penalty")
"""Keys of the command line that choose among the rows."""


@dataclass(frozen=True)
class Declaration:
    """The section ``table`` as an experiment file has it, see the module's docstring."""

    title: str
    seeds: Size
    data: Mapping[str, str]
    metrics: Mapping[str, str | None] | Mapping[str, Mapping[str, str | None]]
    primary: str | Mapping[str, str]
    rows: Mapping[str, DeclaredRow] | None = None
    product: DeclaredProduct | None = None
    test: str | None = None
    zeros: Zeros | None = None
    paper: Mapping[str, str | int] | None = None
    notes: str | None = None


@dataclass(frozen=True)
class Table:
    """The declaration of a table, see the module's docstring; ``metrics`` and ``primary`` by the paper's data set."""

    title: str
    seeds: int
    data: Mapping[str, str]
    metrics: Mapping[str, Mapping[str, str]]
    primary: Mapping[str, str]
    rows: Mapping[str, Row]
    paper: Mapping[str, str] = field(default_factory=dict)
    notes: str = ""
    test: str = DEFAULT
    zeros: Zeros = "pratt"


@dataclass(frozen=True)
class Cell:
    """A row on one data set: what its runs share, and their seeds.

    >>> Cell("kl", "mosi", ("model=lmf", "penalty=kl"), seeds=(0, 1)).runs()
    [['model=lmf', 'penalty=kl', 'seed=0'], ['model=lmf', 'penalty=kl', 'seed=1']]
    """

    row: str
    data: str
    overrides: tuple[str, ...]
    seeds: tuple[int, ...]

    def runs(self) -> list[list[str]]:
        """The overrides of every run."""
        return [[*self.overrides, f"seed={seed}"] for seed in self.seeds]


@dataclass(frozen=True)
class Arguments:
    """The parts of a command line. ``data`` and ``seeds`` are None where it does not set them.

    judged: those that say how its table is judged, which are no part of its runs
    """

    data: tuple[str, ...] | None
    seeds: tuple[int, ...] | None
    chosen: Mapping[str, tuple[str, ...]]
    experiment: tuple[str, ...]
    others: tuple[str, ...]
    judged: tuple[str, ...]


def read_arguments(arguments: Sequence[str]) -> Arguments:
    """Overrides of an experiment, sorted by what they mean.

    Raises ValueError if another key than data, seed, model and penalty is swept, by other than a list of values, if a seed is not a
    whole number, or if several experiments are named.

    >>> read_arguments(["experiment=mdm/table1", "model=lmf,tfn", "seed=0,1"]).chosen
    {'model': ('lmf', 'tfn')}
    """
    values: dict[str, tuple[str, ...]] = {}
    experiment: list[str] = []
    others: list[str] = []
    judged: list[str] = []
    for given in OverridesParser.create().parse_overrides(list(arguments)):
        key = given.get_key_element()
        if key in ("data", "seed", *CHOOSE):
            swept = given.is_sweep_override()
            if swept and (not given.is_discrete_sweep() or isinstance(given.value(), Glob)):
                raise ValueError(f"Runs are chosen by lists of values, got {given.input_line}; use {key}=a,b or range(…).")
            values[key] = tuple(given.sweep_string_iterator()) if swept else (given.get_value_element_as_str(),)
            if not values[key]:
                raise ValueError(
                    f"A list that chooses runs has at least one value, but {given.input_line} is empty; use seed='range(10)', say."
                )
        elif key.lstrip("+") in JUDGED and not given.is_sweep_override():
            judged += add_judged([str(given.input_line).lstrip("+")])
        elif given.is_sweep_override():
            raise ValueError(
                f"An experiment lists its runs in its file, and only data, seed, model and penalty choose among them, got "
                f"{given.input_line}; give {key} one value, or sweep without experiment=."
            )
        else:
            (experiment if key == "experiment" else others).append(str(given.input_line))
    if len(experiment) > 1:
        raise ValueError(f"One experiment is read at a time, got {' '.join(experiment)}; leave one.")
    try:
        seeds = tuple(int(seed) for seed in values["seed"]) if "seed" in values else None
    except ValueError:
        raise ValueError(f"Seeds are whole numbers, got seed={','.join(values['seed'])}; use seed='range(10)', say.") from None
    chosen = {key: values[key] for key in CHOOSE if key in values}
    return Arguments(values.get("data"), seeds, chosen, tuple(experiment), tuple(others), tuple(judged))


def has_table(cfg: DictConfig) -> bool:
    """Whether a composed config declares a table.

    Raises ValueError if the command line says how it is judged, and it is not there.
    """
    section = cfg.get("table")
    keys = [f"table.{key}" for key in section] if OmegaConf.is_dict(section) else []
    judged = [key for key in keys if key in JUDGED]
    if judged and judged == keys:
        raise ValueError(f"{' and '.join(judged)} say how a table is judged, but {cfg.name} has no table; leave them out.")
    return "table" in cfg


def parse_table(cfg: DictConfig) -> Table:
    """The table that a composed experiment declares.

    Raises ValueError, naming the key, if it has none or what it declares does not fit together.
    """
    if not has_table(cfg):
        raise ValueError(
            f"A table is declared by an experiment, but {cfg.name} has no table; choose one, as experiment=mdm/table1."
        )
    raw = read_section(cfg, "table", Declaration)
    seeds, data = raw["seeds"], dict(raw["data"])
    rows = parse_rows(raw)
    if not data or not rows or not raw["metrics"]:
        raise ValueError(
            f"A table needs a data set, a column and a row at least, but {cfg.name} has data={data}, metrics={raw['metrics']} and "
            f"{len(rows)} rows; set table."
        )
    nested = all(isinstance(value, Mapping) for value in raw["metrics"].values())
    sets = dict.fromkeys([*data.values(), *(raw["metrics"] if nested else ())])
    metrics = {name: dict(raw["metrics"].get(name, {}) if nested else raw["metrics"]) for name in sets}
    primary = {name: str(raw["primary"].get(name) if isinstance(raw["primary"], Mapping) else raw["primary"]) for name in sets}
    for name in sets:
        if primary[name] not in metrics[name]:
            raise ValueError(
                f"A table's tests are about one of its columns, but of {name} it has {', '.join(metrics[name]) or 'none'} and "
                f"primary={primary[name]}; set table.metrics and table.primary."
            )
    for row in rows.values():
        if row.baseline is not None and (row.baseline == row.name or row.baseline not in rows or rows[row.baseline].run is None):
            raise ValueError(
                f"A row is compared with another that is run, but table.rows.{row.name}.baseline is {row.baseline!r}; name one of "
                f"{', '.join(r.name for r in rows.values() if r.run is not None and r is not row) or 'none'}."
            )
    find_statistic(raw.get("test") or DEFAULT)
    chosen = {key: raw[key] for key in ("paper", "notes", "test", "zeros") if raw.get(key)}
    return Table(raw["title"], seeds, data, metrics, primary, rows, **chosen)


def read_section(cfg: DictConfig, name: str, group: type) -> dict[str, Any]:
    """A section of an experiment as plain values that keep its declaration.

    Raises ValueError, naming the key, if they do not.
    """
    try:
        raw: Any = OmegaConf.to_container(OmegaConf.create({name: cfg[name]}), resolve=True)[name]  # type: ignore[index,call-overload]
    except OmegaConfBaseException as error:
        raise ValueError(f"Every value of {name} must be known, but {' '.join(str(error).split())}; correct it.") from None
    require(name, raw, Mapping)
    check_group(f"{name}.", raw, group)
    return {str(key): value for key, value in raw.items()}


def list_cells(table: Table, arguments: Sequence[str]) -> list[Cell]:
    """The cells of a table that the command line leaves, data set by data set in the order of the rows.

    Raises ValueError where `read_arguments` does, and if none is left.
    """
    given = read_arguments(arguments)
    data = given.data or tuple(table.data)
    seeds = given.seeds if given.seeds is not None else tuple(range(table.seeds))
    found = []
    for name, row in product(data, table.rows.values()):
        if not row.runs_on(name, table.data.get(name, name)):
            continue
        assert row.run is not None
        own = dict(override.split("=", 1) for override in row.run if override.split("=", 1)[0] in CHOOSE)
        if all(own.get(key) in values for key, values in given.chosen.items()):
            tuned = (f"tuned={row.tuned[name]}",) if name in row.tuned else ()
            found.append(Cell(row.name, name, (*given.experiment, f"data={name}", *row.run, *tuned, *given.others), seeds))
    if not found:
        wanted = ", ".join(f"{key}={','.join(values)}" for key, values in given.chosen.items())
        raise ValueError(
            f"No row of this table runs with {wanted or 'these choices'} on {', '.join(data)}; its rows are "
            + "; ".join(f"{row.name}: {' '.join(row.run)}" for row in table.rows.values() if row.run is not None)
        )
    return found
