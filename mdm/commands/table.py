"""The table of an experiment, beside what its paper prints.

    mdm table experiment=mdm/table1 [the overrides of its sweep] [mixed=true] [--part results|tests|both]

Reads the records that `mdm train -m experiment=mdm/table1 …` left, and nothing else. Prints the table and writes it to
outputs/<name>/: table.md, table.tex, table.html (every seed drawn), table.csv (a row per cell, every digit), and seeds.csv (a row
per run). Made again from the same records, they are the same to the byte.

--part says which floats table.tex has: the results, the comparisons with their tests, or both (default).

A table of records of different code, libraries, data or settings is refused; mixed=true makes it, and it says what is mixed.
"""

from functools import partial
from pathlib import Path

from mdm.runs import records
from mdm.study import read_experiment, run_with_configs
from mdm.tables.build import build_sheet
from mdm.tables.latex import Part, render_latex, take_part
from mdm.tables.markdown import render_markdown
from mdm.tables.page import render_page
from mdm.tables.rows import build_cell_rows, build_seed_rows


def main(arguments: list[str]) -> None:
    rest, part = take_part(arguments)
    run_with_configs(rest, __doc__, partial(write_table_files, part=part))


def write_table_files(overrides: list[str], mixed: bool, part: Part = "both") -> None:
    """Read, build, write, print.

    Raises ValueError where the declaration, the command line or the records break a contract; nothing is written then.
    """
    study = read_experiment(overrides, mixed)
    sheet = build_sheet(study.cfg.name, study.table, study.gathered, study.differing)
    outputs, folder, text = Path(study.cfg.paths.outputs), study.outputs, render_markdown(sheet)
    folder.mkdir(parents=True, exist_ok=True)
    records.write_atomically(folder / "table.md", text)
    records.write_atomically(folder / "table.tex", render_latex(sheet, part))
    records.write_atomically(folder / "table.html", render_page(sheet))
    records.write_table(folder / "table.csv", build_cell_rows(sheet))
    records.write_table(folder / "seeds.csv", build_seed_rows(sheet, outputs))
    print(text, end="")
