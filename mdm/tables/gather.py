"""Cells → what their runs left on disk, and the differences that one table must not mix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from mdm.boundary import format_error, join_errors
from mdm.runs import claims, records
from mdm.runs.untrusted import parse_yaml
from mdm.sweeps.experiment import Cell
from mdm.tables.wording import format_runs

Placer = Callable[[list[str]], tuple[Path, Mapping[str, Any]]]
"""Overrides of a run → its folder and its config."""


@dataclass(frozen=True)
class Run:
    """A run that a cell declares, and what it left on disk.

    state: ``finished``; ``failed``: it left its traceback; ``broken``: it began; ``missing``: nothing
    record: its metrics, empty unless finished; differing: keys of its config that are not as declared
    error: the last line of its traceback
    """

    seed: int
    folder: Path
    state: Literal["finished", "failed", "broken", "missing"]
    record: Mapping[str, Any]
    differing: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class CellRuns:
    """A cell and its runs, in the order of its seeds."""

    cell: Cell
    runs: tuple[Run, ...]

    @property
    def finished(self) -> dict[int, Run]:
        return {run.seed: run for run in self.runs if run.state == "finished"}


def gather_runs(cells: Iterable[Cell], place: Placer) -> list[CellRuns]:
    """Every cell with its runs. A cell is composed once: the folders of its seeds differ in their last part only.

    Raises ValueError, which names all of them, if records cannot be read.
    """
    found, damaged = [], list[str]()
    for cell in cells:
        folder, config = place(cell.runs()[0])
        declared, seen = select_decisive(yaml.safe_load(claims.dump(config))), dict[str, tuple[str, ...]]()
        runs = []
        for seed in cell.seeds:
            try:
                runs.append(read_run(folder.parent / f"seed={seed}", seed, declared, seen))
            except (ValueError, OSError) as error:
                damaged.append(format_error(error))
        found.append(CellRuns(cell, tuple(runs)))
    if damaged:
        raise ValueError(join_errors(damaged))
    return found


def read_run(folder: Path, seed: int, declared: Mapping[str, Any], seen: dict[str, tuple[str, ...]]) -> Run:
    """One run. ``seen``: configs that were compared already, which in a cell are the same text but for the seed.

    Raises ValueError if the record is not of this seed, or of a debug run.
    """
    error = folder / records.ERROR
    if not (folder / records.METRICS).is_file():
        if error.is_file():
            return Run(seed, folder, "failed", {}, error=records.read_error(folder))
        return Run(seed, folder, "broken" if (folder / records.CONFIG).is_file() else "missing", {})
    record, text = records.read_result(folder), records.read_bytes(folder, records.CONFIG).decode()
    own = [line for line in text.splitlines() if line.startswith("seed: ")]
    if own != [f"seed: {seed}"] or record["seed"] != seed:
        raise ValueError(f"A folder seed={seed} holds the run of that seed, but {folder} holds another; remove it and run again.")
    others = "\n".join(line for line in text.splitlines() if not line.startswith("seed: "))
    if others not in seen:
        recorded = parse_yaml(others.encode(), folder / records.CONFIG)
        seen[others] = tuple(claims.list_differences(select_decisive(recorded), declared))
    return Run(seed, folder, "finished", record, seen[others])


def select_decisive(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a config that decides a cell's numbers: not the seed, nor the data's hash, which is compared between records."""
    return {key: value for key, value in claims.select_compared(config).items() if key not in ("seed", "data_card")}


def find_mixtures(gathered: Sequence[CellRuns]) -> list[str]:
    """What differs between the records of one table but should not, a line each; empty if nothing does.

    Between all: commit, uncommitted changes, versions of libraries. On one data set: the data's hash and what chose the checkpoint.
    In one run: a config that is not what the experiment declares now.
    """
    runs = [(found.cell, run) for found in gathered for run in found.runs if run.state == "finished"]
    lines = describe_values("commit", ((run.record["commit"], run) for _, run in runs))
    lines += describe_values("uncommitted_changes", ((run.record["uncommitted_changes"], run) for _, run in runs))
    for library in dict.fromkeys(name for _, run in runs for name in run.record["versions"]):
        lines += describe_values(f"version of {library}", ((run.record["versions"].get(library), run) for _, run in runs))
    for data in dict.fromkeys(cell.data for cell, _ in runs):
        here = [run for cell, run in runs if cell.data == data]
        lines += describe_values(f"data_card of {data}", ((run.record["data_card"], run) for run in here))
        lines += describe_values(f"checkpoints of {data} chosen by", ((run.record["selected"]["by"], run) for run in here))
    undeclared = dict[tuple[str, str, str], list[Run]]()
    for cell, run in runs:
        for difference in run.differing:
            undeclared.setdefault((cell.data, cell.row, difference), []).append(run)
    for (data, row, difference), those in undeclared.items():
        lines.append(f"config of {row} on {data}, recorded → declared, {difference} ({format_runs(len(those))})")
    return lines


def describe_values(name: str, values: Iterable[tuple[Any, Run]]) -> list[str]:
    """One line if there are several values: each with its number of runs, in the order in which they occur."""
    by_value = dict[str, list[Run]]()
    for value, run in values:
        by_value.setdefault(str(value), []).append(run)
    said = "; ".join(f"{value[:40]} ({format_runs(len(runs))})" for value, runs in by_value.items())
    return [f"{name}: {said}"] if len(by_value) > 1 else []


def take_mixed(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """A script's arguments without ``mixed=…``, and whether its last one allows what `refuse_mixtures` refuses.

    Raises ValueError if it is neither true nor false.
    """
    said = [argument for argument in arguments if argument.startswith("mixed=")]
    if set(said) - {"mixed=true", "mixed=false"}:
        raise ValueError(f"mixed is true or false, got {' '.join(said)}; correct it.")
    return [argument for argument in arguments if argument not in said], said[-1:] == ["mixed=true"]


def refuse_mixtures(lines: Sequence[str], gathered: Sequence[CellRuns]) -> None:
    """Raise ValueError, naming what differs, if records may not stand in one table."""
    if lines:
        first = next(run.folder for found in gathered for run in found.runs if run.state == "finished")
        raise ValueError(
            "The runs of a table must share code, libraries, data and settings, but these differ:\n  "
            + "\n  ".join(lines)
            + f"\nRemove the old records (one is {first}) and run the sweep again; or add mixed=true, and the table will say so."
        )
