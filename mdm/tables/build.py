"""Records and printed values → every number of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mdm import reference
from mdm.metrics import find_metric
from mdm.reference import Printed
from mdm.sweeps.experiment import Row, Table
from mdm.tables.contrast import compare_lines, judge_blocks
from mdm.tables.gather import CellRuns, Run
from mdm.tables.numbers import Block, Column, Entry, Footnotes, Line, Sheet


def build_sheet(name: str, table: Table, gathered: Sequence[CellRuns], mixed: Sequence[str] = ()) -> Sheet:
    """All numbers of a table.

    The family of tests is what the table declares on these data sets, however many of its rows were chosen or have run.

    Raises ValueError if a printed value's key matches nothing, a run lacks a metric, or two rows were tested on different segments.
    """
    notes = Footnotes()
    blocks = [build_block(table, data, gathered, notes) for data in dict.fromkeys(found.cell.data for found in gathered)]
    family = sum(
        row.baseline is not None and runs_on(row, block) and runs_on(table.rows[row.baseline], block)
        for block in blocks
        for row in table.rows.values()
    )
    seeds = max(len(found.runs) for found in gathered)
    return Sheet(name, table, tuple(judge_blocks(blocks, table, family, seeds)), family, tuple(mixed), tuple(notes.texts))


def runs_on(row: Row, block: Block) -> bool:
    return row.runs_on(block.data, block.stands_for)


# ---- a data set


def find_columns(table: Table, data: str) -> tuple[str, list[Column]]:
    """What a data config stands for, and the columns there. On data that the table does not declare, those of all its data sets.

    Raises ValueError if these differ, so that nobody knows which are meant.
    """
    stands_for = table.data.get(data, data)
    known = stands_for in table.metrics
    sets = [stands_for] if known else list(table.metrics)
    if any(table.metrics[name] != table.metrics[sets[0]] or table.primary[name] != table.primary[sets[0]] for name in sets):
        raise ValueError(
            f"The columns of this table differ between {', '.join(sets)}, so those of data={data} are unknown; "
            "add it to table.data."
        )
    columns = []
    for metric, printed in table.metrics[sets[0]].items():
        columns.append(
            Column(
                metric, (printed or "") if known else "", 1 if find_metric(metric).percent else 3, metric == table.primary[sets[0]]
            )
        )
    return stands_for, columns


def build_block(table: Table, data: str, gathered: Sequence[CellRuns], notes: Footnotes) -> Block:
    """The rows of one data set, in the declared order, without verdicts."""
    stands_for, columns = find_columns(table, data)
    here = {found.cell.row: found for found in gathered if found.cell.data == data}
    lines = []
    for row in table.rows.values():
        exists = row.only is None or bool({data, stands_for} & set(row.only))
        if row.name in here or (row.run is None and exists):
            runs = here[row.name].runs if row.name in here else ()
            printed = {column.metric: find_printed(table, row, stands_for, column.printed) for column in columns}
            if runs or any(printed.values()):
                lines.append(build_line(row, runs, printed, notes))
    shown = [replace(column, decimals=max(column.decimals, *list_decimals(lines, column))) for column in columns]
    records = [run.record for found in here.values() for run in found.runs if run.state == "finished"]
    compared = compare_lines(lines, here, next(column for column in columns if column.primary).metric, table)
    return Block(
        data,
        stands_for,
        tuple(shown),
        tuple(mark_best(compared, columns)),
        records[0]["synthetic"] if records else None,
        records[0]["data_card"] if records else "",
    )


def find_printed(table: Table, row: Row, stands_for: str, printed: str) -> Printed | None:
    """The paper's value of a cell; None if the table, the row or the column has none.

    Raises ValueError if what they declare matches nothing.
    """
    if not (table.paper and row.paper and printed):
        return None
    target, _, metric = printed.rpartition("/")
    key = {"dataset": stands_for, "target": target or "sentiment", "metric": metric, "penalty_or_variant": ""}
    key |= {name: str(value) for name, value in (*table.paper.items(), *row.paper.items())}
    missing, unknown = ({*reference.KEY} - {*key}, {*key} - {*reference.KEY})
    if missing or unknown:
        raise ValueError(
            f"A printed value has the keys {', '.join(reference.KEY)}, but table.paper and table.rows.{row.name}.paper "
            f"{'lack ' + ', '.join(sorted(missing)) if missing else 'have also ' + ', '.join(sorted(unknown))}; correct them."
        )
    try:
        return reference.find_value(**key)
    except ValueError as error:
        raise ValueError(f"table.rows.{row.name}.paper: {error}") from None


def build_line(row: Row, runs: tuple[Run, ...], printed: Mapping[str, Printed | None], notes: Footnotes) -> Line:
    """Values of a row's runs beside the printed ones. A flag of all its printed values is a footnote of the row."""
    flags = {metric: value.flags for metric, value in printed.items() if value is not None and value.value}
    shared = set.intersection(*map(set, flags.values())) if len(flags) > 1 else set[str]()
    marks = [notes.mark(row.note)] if row.note else []
    marks += [notes.mark(flag) for flag in dict.fromkeys(f for fs in flags.values() for f in fs) if flag in shared]
    entries = {
        metric: Entry(
            {run.seed: read_value(run, metric) for run in runs if run.state == "finished"},
            value,
            tuple(notes.mark(flag) for flag in flags.get(metric, ()) if flag not in shared),
        )
        for metric, value in printed.items()
    }
    return Line(row, runs, entries, marks=tuple(marks))


def read_value(run: Run, metric: str) -> float:
    """A run's test metric as it is shown; NaN where it is not defined (null).

    Raises ValueError if it was not measured.
    """
    if metric not in run.record["test"]:
        raise ValueError(
            f"{run.folder} has no {metric}, but {', '.join(run.record['test'])}; these data may have other targets or another "
            "range: set table.metrics."
        )
    value = run.record["test"][metric]
    return math.nan if value is None else find_metric(metric).scale * value


def list_decimals(lines: Sequence[Line], column: Column) -> list[int]:
    """How many decimals the paper prints, for values in percent."""
    printed = [line.entries[column.metric].printed for line in lines]
    return [value.decimals for value in printed if value is not None and value.unit == "percent"] or [0]


def mark_best(lines: Sequence[Line], columns: Sequence[Column]) -> list[Line]:
    """The best mean of each column marked, among rows whose runs are all there and defined, if there are several."""
    marked = list(lines)
    for metric in (column.metric for column in columns):
        whole = {
            i: line.entries[metric].mean
            for i, line in enumerate(lines)
            if line.runs and line.finished == len(line.runs) and not line.entries[metric].undefined
        }
        if len(set(whole.values())) < 2:
            continue
        best = (min if find_metric(metric).lower_is_better else max)(whole.values())
        for i in (i for i, mean in whole.items() if mean == best):
            entries = {**marked[i].entries, metric: replace(marked[i].entries[metric], best=True)}
            marked[i] = replace(marked[i], entries=entries)
    return marked
