"""One HTML page of an experiment: table, training curves, studies, and how it was run. For a browser, without a network.

    mdm report experiment=mdm/table1 [the overrides of its sweep] [mixed=true]

Reads what `mdm train -m experiment=mdm/table1 …` left, and what other scripts made of the same experiment: the numbers of
robustness.py and explain.py, the picture and the numbers of every other study. Writes outputs/<name>/report.html. Made again from
the same files, it is the same to the byte.

Records of different code, libraries, data or settings are refused; mixed=true shows them, and the page says what is mixed.
"""

from mdm.compose import format_search_path
from mdm.extras import require_extra
from mdm.runs import records
from mdm.study import read_experiment, run_with_configs
from mdm.tables.build import build_sheet


def main(arguments: list[str]) -> None:
    run_with_configs(arguments, __doc__, lambda overrides, mixed: print(write_report(overrides, mixed)))


def write_report(overrides: list[str], mixed: bool) -> str:
    """Read, draw, write; what was written, in a line.

    Raises ValueError where the declaration, the command line or the records break a contract; nothing is written then.
    """
    require_extra("matplotlib", "A page with curves")
    from mdm.report.page import render_page
    from mdm.report.provenance import count_runs

    study = read_experiment(overrides, mixed)
    sheet = build_sheet(study.cfg.name, study.table, study.gathered, study.differing)
    folder = study.outputs
    text = render_page(sheet, study.gathered, folder, [*overrides, *format_search_path()])
    folder.mkdir(parents=True, exist_ok=True)
    records.write_atomically(folder / "report.html", text)
    done, wanted = count_runs(sheet)
    return f"{folder / 'report.html'}: {done} of {wanted} runs, {len(text.encode()) / 1000:,.0f} kB"
