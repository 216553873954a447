"""All that an experiment left, as one HTML file without a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mdm.metrics import find_metric
from mdm.report import charts, curves, provenance
from mdm.report.differences import describe_block, draw_forest, find_comparisons
from mdm.report.pictures import read_studies
from mdm.tables.caption import format_title
from mdm.tables.gather import CellRuns
from mdm.tables.numbers import Block, Line, Sheet
from mdm.tables.page import build_environment, build_sheet_view

TEMPLATE = "report/page.html.jinja"

ELSEWHERE = ("paths.", "machine.", "logger.")
"""Overrides that say where and how, not what; commands that the page shows go without them."""


def render_page(sheet: Sheet, gathered: Sequence[CellRuns], folder: Path, arguments: Sequence[str]) -> str:
    """The report.

    folder: where the experiment's studies lie, each in a folder of its name
    arguments: of the sweep, for the commands that the page shows

    Raises ValueError if a run has no curve.
    """
    done, declared = provenance.count_runs(sheet)
    series = {name: i for i, name in enumerate(name for name, row in sheet.declared.rows.items() if row.run is not None)}
    return (
        build_environment()
        .get_template(TEMPLATE)
        .render(
            title=sheet.declared.title,
            name=sheet.name,
            done=done,
            declared=declared,
            facts=list_facts(sheet),
            told=[
                (format_title(block), describe_block(block, sheet))
                for block in sheet.blocks
                if any(line.contrast for line in block.lines)
            ],
            forests=[(format_title(block), draw_forest(block, sheet)) for block in sheet.blocks if find_comparisons(block)],
            sheet=build_sheet_view(sheet, level=3),
            training=[
                build_training(i, block, series) for i, block in enumerate(sheet.blocks) if provenance.list_block_runs(block)
            ],
            studies=read_studies(folder),
            arguments=" ".join(quote(argument) for argument in arguments if not argument.startswith(ELSEWHERE)),
            data=[
                (format_title(block), provenance.describe_data(block))
                for block in sheet.blocks
                if provenance.list_block_runs(block)
            ],
            protocol=provenance.describe_protocol(sheet, gathered),
            code=provenance.describe_code(sheet),
            run_heads=provenance.RUN_HEADS,
            runs=[(format_title(block), provenance.build_run_rows(block)) for block in sheet.blocks],
            absent=provenance.list_absent(sheet),
            settings=[
                (format_title(block), found) for block in sheet.blocks if (found := provenance.compare_settings(block, gathered))
            ],
        )
    )


def quote(argument: str) -> str:
    """An argument in quotes where a shell needs them."""
    return f"'{argument}'" if set(argument) & set("()[]{} *,$") else argument


def list_facts(sheet: Sheet) -> list[tuple[str, str]]:
    """The experiment in a line: number and what it counts."""
    runs = provenance.list_finished(sheet)
    done, declared = provenance.count_runs(sheet)
    said = [(f"{done}/{declared}" if done < declared else str(done), "runs finished")]
    said.append((str(len(sheet.blocks)), "data set" if len(sheet.blocks) == 1 else "data sets"))
    said.append((str(max((len(line.runs) for block in sheet.blocks for line in block.lines), default=0)), "seeds a row"))
    if runs:
        said.append((provenance.format_duration(sum(run.record["seconds"] for run in runs)), "of training in all"))
        stars = sum(line.star for block in sheet.blocks for line in block.lines)
        if sheet.family:
            said.append((f"{stars}/{sheet.family}", "comparisons starred"))
    return said


# ---- training curves


def build_training(i: int, block: Block, series: dict[str, int]) -> dict[str, Any]:
    """The curves of a data set: all rows together by quantity, then each row seed by seed. i: its place, for ids."""
    lines = [line for line in block.lines if line.finished]
    read = {line.row.name: [curves.read_curve(run) for run in line.runs if run.state == "finished"] for line in lines}
    records = [run.record for run in provenance.list_block_runs(block)]
    measured = list(dict.fromkeys(metric for record in records for metric in record["test_of_train_mean"]))
    chosen_by = [record["selected"]["by"].removeprefix("valid/") for record in records]
    metrics = list(dict.fromkeys([*chosen_by, *(column.metric for column in block.columns)]))
    everywhere = curves.list_quantities([curve for each in read.values() for curve in each], metrics)
    overview = []
    for name, columns in everywhere.items():
        # Terms and estimates of one penalty are of no other row: they are below, row by row.
        with_it = [line for line in lines if any(columns[0] in curve.columns for curve in read[line.row.name])]
        if len(with_it) > 1 or len(lines) == 1:
            drawn = [build_band(line, series, read[line.row.name], columns[0]) for line in with_it]
            overview.append(charts.draw_bands(curves.name_quantity(name, measured), drawn))
    rows = []
    for line in lines:
        mine = read[line.row.name]
        own = [
            charts.draw_traces(curves.name_quantity(name, measured), series[line.row.name], build_traces(mine, columns))
            for name, columns in curves.list_quantities(mine, metrics).items()
        ]
        rows.append({"id": f"curves-{i}-{series[line.row.name]}", "label": line.row.label, "charts": own})
    legend = [{"label": line.row.label, "series": series[line.row.name]} for line in lines]
    percent = any(find_metric(metric).percent for metric in metrics)
    return {
        "id": f"curves-{i}",
        "title": format_title(block),
        "overview": overview,
        "rows": rows,
        "legend": legend,
        "percent": percent,
    }


def build_band(line: Line, series: dict[str, int], mine: Sequence[curves.Curve], column: str) -> charts.Band:
    found = curves.summarise_seeds(mine, column)
    return charts.Band(line.row.label, series[line.row.name], found["epoch"], found["mean"], found["low"], found["high"])


def build_traces(mine: Sequence[curves.Curve], columns: Sequence[str]) -> dict[str, list[charts.Trace]]:
    """A quantity's folds, with the chosen epochs on the first of them."""
    found = {}
    for i, column in enumerate(columns):
        those = [curve for curve in mine if column in curve.columns]
        found["validation rows" if column.startswith("valid/") else "training rows"] = [
            charts.Trace(c.seed, c.epochs, c.columns[column], None if i else (float(c.chosen), c.at_chosen(column))) for c in those
        ]
    return found
