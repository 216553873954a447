"""The sentences under a table, the same in every format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from mdm.metrics import find_metric
from mdm.tables.numbers import Block, Line, Sheet
from mdm.tables.stars import explain_stars
from mdm.tables.wording import DATASETS, format_runs, join_names

UNSAID = ("acc2", "f1")
"""Metrics for which the papers do not say how they count zeros."""


def format_title(block: Block) -> str:
    """A block's title."""
    known = DATASETS.get(block.stands_for, block.stands_for)
    if block.data == block.stands_for:
        return known
    of = "SYNTHETIC, " if block.synthetic else ""
    return f"{block.data} ({of}stands in for {known})"


def render_caption(sheet: Sheet) -> list[str]:
    """The sentences under a table, in order of weight; footnotes are apart."""
    lines = [line for block in sheet.blocks for line in block.lines]
    said = [f"MIXED, as asked for. Records differ in {what}." for what in sheet.mixed]
    said += [explain_synthetic(block) for block in sheet.blocks if block.synthetic]
    said += explain_shared_groups(sheet.blocks)
    said += list_unfinished(sheet.blocks)
    said.append(explain_cells(lines))
    said += explain_conventions(sheet.blocks)
    said += explain_stars(sheet)
    said += list_departures(sheet.blocks)
    said += list_citations(lines)
    said.append(describe_origin(sheet))
    if sheet.declared.notes:
        said.append(" ".join(sheet.declared.notes.split()))
    return said


def list_departures(blocks: Sequence[Block]) -> list[str]:
    """What the settings of rows do not reproduce of where they come from, as their records say, once for rows that share it."""
    rows: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for block in blocks:
        for line in block.lines:
            lists = {tuple(run.record.get("departs", {}).items()) for run in line.runs if run.state == "finished"}
            for departs in sorted(lists - {()}):
                rows.setdefault(departs, []).append(f"{line.row.label} on {block.data}")
    return [
        f"Settings of {'; '.join(dict.fromkeys(names))} depart from their source in "
        + "; ".join(f"{key} ({reason})" for key, reason in departs)
        + "."
        for departs, names in rows.items()
    ]


def explain_synthetic(block: Block) -> str:
    known = DATASETS.get(block.stands_for)
    return f"{block.data} is SYNTHETIC" + (
        f" and stands in for {known}: its numbers say nothing about people, and the paper's are shown for the layout."
        if known
        else ": its numbers say nothing about people."
    )


def explain_shared_groups(blocks: Sequence[Block]) -> list[str]:
    """Of which data sets groups are in several folds, as their config allows."""
    said = []
    for block in blocks:
        finished = [run.record for line in block.lines for run in line.runs if run.state == "finished"]
        counts = {record["shared_groups"] for record in finished if record.get("shared_groups")}
        if counts:
            said.append(
                f"In {block.data} {format_ranges(counts)} groups (videos, speakers) are in several folds, as data.groups=shared "
                "allows: segments that are tested have relatives that were trained on or chosen by."
            )
    return said


def list_unfinished(blocks: Sequence[Block]) -> list[str]:
    """Which runs are missing, and why those that failed did."""
    said = []
    for state, word in (("failed", "Failed"), ("broken", "Begun and not finished"), ("missing", "Not run")):
        places = []
        for block in blocks:
            for line in block.lines:
                runs = [run for run in line.runs if run.state == state]
                if runs:
                    why = "; ".join(dict.fromkeys(run.error[:160] for run in runs if run.error))
                    seeds = format_ranges(run.seed for run in runs)
                    places.append(f"{line.row.label} on {block.data}, seed {seeds}{f' ({why})' if why else ''}")
        if places:
            said.append(f"{word}: {'; '.join(places)}.")
    return said


def explain_cells(lines: Sequence[Line]) -> str:
    """How to read a cell."""
    seeds = sorted({tuple(run.seed for run in line.runs) for line in lines if line.runs})
    every = "; ".join(f"{len(of)} ({format_ranges(of)})" for of in seeds)
    text = f"Cells: test mean ± sample standard deviation over the seeds, n = {every}; checkpoints chosen on validation."
    if any(entry.printed for line in lines for entry in line.entries.values()):
        text += " Below, the paper's printed value and, in brackets, ours less it."
    if any(entry.printed and entry.printed.significant for line in lines for entry in line.entries.values()):
        text += " †: significant, says the paper."
    if any(entry.best for line in lines for entry in line.entries.values()):
        text += " Bold: the best of our means, which is no test."
    if any(entry.undefined for line in lines for entry in line.entries.values()):
        text += (
            " ‡: not defined in some runs (the correlation of a constant, say); mean and deviation are of the others. The two-way "
            "t leaves their pairs out; tests over seeds count them as the worst."
        )
    return text


def explain_conventions(blocks: Sequence[Block]) -> list[str]:
    """What each column is, and what the paper leaves open about its own."""
    columns = {column.metric: column for block in blocks for column in block.columns}
    said = dict.fromkeys(
        f"{find_metric(name).heading} is {name.rpartition('/')[2]}: {find_metric(name).convention}" for name in columns
    )
    text = [f"{'; '.join(said)}."]
    open_ = [c for c in columns.values() if c.printed.rpartition("/")[2] in UNSAID and find_metric(c.metric).signed]
    if open_:
        names = join_names(list(dict.fromkeys(c.printed.rpartition("/")[2] for c in open_)))
        text.append(f"The paper does not say how it counts zeros in its {names}.")
    return text


def list_citations(lines: Sequence[Line]) -> list[str]:
    """Where the values of systems that are not built here come from."""
    by_source = dict[str, list[str]]()
    for line in lines:
        if not line.runs:
            sources = {entry.printed.provenance for entry in line.entries.values() if entry.printed}
            for source in sorted(sources):
                names = by_source.setdefault(SOURCES.get(source, source.replace("cited:", "cited there from ")), [])
                if line.row.label not in names:
                    names.append(line.row.label)
    told = "; ".join(f"{source}: {', '.join(names)}" for source, names in by_source.items())
    return [f"Cited, not built here: values are the paper's. By the paper's account, {told}."] if told else []


SOURCES = {
    "": "of unsaid origin",
    "paper_run": "run by the paper",
    "reimplemented": "reimplemented by the paper",
    "from_code": "run by the paper from published code",
}


def describe_origin(sheet: Sheet) -> str:
    """The code and the data behind the numbers; each version where records differ."""
    records = [run.record for block in sheet.blocks for line in block.lines for run in line.runs if run.state == "finished"]
    if not records:
        return "No run has finished."
    commits = dict.fromkeys(
        f"{(record['commit'] or 'unknown')[:7]}{' with uncommitted changes' if record['uncommitted_changes'] else ''}"
        for record in records
    )
    cards = dict.fromkeys(f"{record['data']} {record['data_card'][:8]}" for block in sheet.blocks for record in list_records(block))
    versions = dict.fromkeys(", ".join(f"{k} {v}" for k, v in record["versions"].items()) for record in records)
    return f"Code {join_names(list(commits))}; data {', '.join(cards)}; {' | '.join(versions)}; {format_runs(len(records))}."


def list_records(block: Block) -> list[dict[str, str]]:
    return [dict(run.record) for line in block.lines for run in line.runs if run.state == "finished"]


def format_ranges(seeds: Iterable[int]) -> str:
    """0 to 9, or 0, 1 and 5 to 7.

    >>> format_ranges([0, 1, 5, 6, 7])
    '0, 1, 5 to 7'
    """
    parts = []
    for _, group in groupby(enumerate(sorted(seeds)), lambda pair: pair[1] - pair[0]):
        run = [seed for _, seed in group]
        parts.append(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" if len(run) > 2 else f"{run[0]}, {run[-1]}")
    return ", ".join(parts)
