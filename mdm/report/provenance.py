"""Records → how it was run: data, protocol, time, code, and what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mdm.metrics import find_metric, format_heading
from mdm.runs import claims, records
from mdm.tables.caption import format_ranges, format_title
from mdm.tables.gather import CellRuns, Run
from mdm.tables.numbers import Block, Sheet
from mdm.tables.wording import format_number, join_names

Facts = list[tuple[str, str]]
"""Name and value, as a page lists them."""


def list_finished(sheet: Sheet) -> list[Run]:
    return [run for block in sheet.blocks for run in list_block_runs(block)]


def list_block_runs(block: Block) -> list[Run]:
    return [run for line in block.lines for run in line.runs if run.state == "finished"]


def count_runs(sheet: Sheet) -> tuple[int, int]:
    """Runs that finished, and runs that are declared."""
    return len(list_finished(sheet)), sum(len(line.runs) for block in sheet.blocks for line in block.lines)


def format_duration(seconds: float) -> str:
    """12 s, 3.5 min, 2.1 h."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def format_spread(values: Iterable[float], digits: int = 0) -> str:
    """The value that all share, or the lowest, the median and the highest."""
    each = np.array(list(values))
    if each.min() == each.max():
        return f"{each[0]:,.{digits}f}"
    median = float(np.median(each))
    of_whole = 1 if digits == 0 and not median.is_integer() else digits  # the median of whole numbers may lie between two
    return f"{median:,.{of_whole}f} ({each.min():,.{digits}f} to {each.max():,.{digits}f})"


def join_values(values: Iterable[Any]) -> str:
    return join_names([str(value) for value in dict.fromkeys(values)])


# ---- data


def describe_data(block: Block) -> Facts:
    """The data card, as the runs recorded it. Empty before one finished."""
    runs = list_block_runs(block)
    if not runs:
        return []
    record = runs[0].record
    facts = [
        ("kind", "SYNTHETIC: drawn from a stated model, no people" if record["synthetic"] else "real segments"),
        ("segments", ", ".join(f"{fold} {size:,}" for fold, size in record["folds"].items())),
        ("modalities", ", ".join(record["modalities"])),
        ("labels", f"{record['label_range'][0]:g} to {record['label_range'][1]:g}"),
    ]
    facts += [
        (f"planted {name.replace('_', ' ')}", format_truth(name, value)) for name, value in (record.get("truth") or {}).items()
    ]
    floor = record.get("test_of_train_mean") or {}
    shown = [column.metric for column in block.columns if column.metric in floor]
    if shown:
        said = (f"{format_heading(metric)} {format_metric(floor[metric], metric)}" for metric in shown)
        facts.append(("floor: always the training mean", ", ".join(said)))
    return [*facts, ("card (hash)", join_values(run.record["data_card"][:12] for run in runs))]


def format_truth(name: str, value: Any) -> str:
    """A planted truth: shares of the label in per cent, nats to two decimals, anything else as it is."""
    if name.startswith("share_"):
        return f"{100 * value:.1f} % of the label's variance"
    return f"{value:.2f} nats" if isinstance(value, float) else str(value)


def format_metric(value: float | None, metric: str) -> str:
    if value is None:
        return "not defined"
    return f"{format_number(100 * value, 1)} %" if find_metric(metric).percent else format_number(value, 3)


# ---- protocol, code


def describe_protocol(sheet: Sheet, gathered: Sequence[CellRuns]) -> Facts:
    """How checkpoints were chosen and how long runs trained. Empty before one finished."""
    runs = list_finished(sheet)
    if not runs:
        return []
    trainers = [read_first_config(found)["trainer"] for found in gathered if found.finished]
    most = max(trainer["max_epochs"] for trainer in trainers)
    chosen = [run.record["selected"] for run in runs]
    last = sum(one["epoch"] + 1 == one["epochs"] == most for one in chosen)
    facts = [
        ("checkpoint chosen by", join_values(one["by"] for one in chosen)),
        ("test fold", "opened after that choice, never before"),
        ("epochs at most", join_values(trainer["max_epochs"] for trainer in trainers)),
        ("patience", join_values(trainer["patience"] for trainer in trainers)),
        ("epochs trained", format_spread(one["epochs"] for one in chosen)),
        ("epoch chosen, from 0", format_spread(one["epoch"] for one in chosen)),
    ]
    if last:
        facts.append(("chosen at the very end", f"{last} of {len(runs)} runs: with more epochs they might have gone further"))
    seeds = {run.seed for found in gathered for run in found.runs}
    return [*facts, ("seeds", f"{format_ranges(seeds)}; a seed's runs are pairs: same weights, same batches, same dropout")]


def describe_code(sheet: Sheet) -> Facts:
    """Commit, versions, machines, seconds. Empty before a run finished."""
    runs = list_finished(sheet)
    if not runs:
        return []
    each = [run.record for run in runs]
    dirty = sum(bool(record["uncommitted_changes"]) for record in each)
    commits = join_values((record["commit"] or "unknown")[:12] for record in each)
    return [
        ("commit", commits + (f", with uncommitted changes in {dirty} of {len(each)} runs" if dirty else "")),
        ("versions", " | ".join(dict.fromkeys(", ".join(f"{k} {v}" for k, v in r["versions"].items()) for r in each))),
        ("machine", " | ".join(dict.fromkeys(", ".join(f"{k} {v}" for k, v in r["machine"].items()) for r in each))),
        ("time of all runs together", format_duration(sum(record["seconds"] for record in each))),
        ("seconds a run", format_spread((record["seconds"] for record in each), 1)),
    ]


def read_first_config(found: CellRuns) -> dict[str, Any]:
    """The config of a cell's first finished run."""
    run = next(iter(found.finished.values()))
    return records.read_config(run.folder)


# ---- runs


RUN_HEADS = ("", "runs", "epochs", "chosen", "seconds", "backbone", "critics")


def build_run_rows(block: Block) -> list[list[str]]:
    """A row's runs under ``RUN_HEADS``: how many, how long, how large."""
    rows = []
    for line in block.lines:
        runs = [run.record for run in line.runs if run.state == "finished"]
        if not line.runs:
            continue
        size = f"{len(runs)}/{len(line.runs)}"
        if not runs:
            rows.append([line.row.label, size, *["–"] * (len(RUN_HEADS) - 2)])
            continue
        counted = [format_spread(record["parameters"].get(of, 0) for record in runs) for of in ("backbone", "critics")]
        trained = [format_spread(record["selected"][key] for record in runs) for key in ("epochs", "epoch")]
        rows.append([line.row.label, size, *trained, format_spread((record["seconds"] for record in runs), 1), *counted])
    return rows


def list_absent(sheet: Sheet) -> list[list[str]]:
    """Runs that have no record: row, data, seed, state, last line of the traceback."""
    return [
        [line.row.label, format_title(block), str(run.seed), run.state, run.error or "–"]
        for block in sheet.blocks
        for line in block.lines
        for run in line.runs
        if run.state != "finished"
    ]


def compare_settings(block: Block, gathered: Sequence[CellRuns]) -> dict[str, Any]:
    """The whole config of the first row that ran, and how each of the others differs. Empty before a run has finished."""
    labels = {line.row.name: line.row.label for line in block.lines}
    here = [found for found in gathered if found.cell.data == block.data and found.finished]
    if not here:
        return {}
    whole = claims.select_compared(read_first_config(here[0]))
    others = []
    for found in here[1:]:
        own = claims.select_compared(read_first_config(found))
        lines = [line for line in claims.list_differences(whole, own) if not line.startswith("seed: ")]
        others.append((labels[found.cell.row], lines))
    return {"first": labels[here[0].cell.row], "whole": claims.dump(whole), "others": others}
