"""One HTML page of an experiment: table, training curves, studies, and how it was run. For a browser, without a network.

    mdm report experiment=mdm/table1 [the overrides of its sweep] [mixed=true]
    mdm report [paths.outputs=outputs]

Reads what `mdm train -m experiment=mdm/table1 …` left, and what other scripts made of the same experiment: the numbers of
robustness.py and explain.py, the picture and the numbers of every other study. Writes outputs/<name>/report.html. Made again from
the same files, it is the same to the byte.

Without an experiment: outputs/index.html, a page of all experiments that have runs: done, open, failed and missing, their tables,
pages and studies, to be filtered by data, model and penalty.

Records of different code, libraries, data or settings are refused; mixed=true shows them, and the page says what is mixed.
"""

from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra

from mdm.compose import format_search_path
from mdm.extras import require_extra
from mdm.runs import records
from mdm.study import read_experiment, run_with_configs
from mdm.sweeps.experiment import has_table, list_cells, parse_table
from mdm.tables.build import build_sheet


def main(arguments: list[str]) -> None:
    run_with_configs(arguments, __doc__, lambda overrides, mixed: print(write_page(overrides, mixed)))


def write_page(overrides: list[str], mixed: bool) -> str:
    """The page of an experiment, or of all where none is named; what was written, in a line."""
    if all(override.startswith("paths.") for override in overrides):
        return write_overview(overrides)
    return write_report(overrides, mixed)


def write_overview(overrides: list[str]) -> str:
    """Read what runs lie there and what their experiments' files declare, write; what was written, in a line.

    Raises ValueError where `mdm.report.overview.list_experiments` does; nothing is written then.
    """
    from mdm.report.overview import list_experiments, read_configs, render_overview

    outputs = Path(hydra.compose("train", overrides).paths.outputs)
    names = {config["name"] for _, config in read_configs(outputs)}
    found = list_experiments(outputs, count_declared(sorted(names)))
    records.write_atomically(outputs / "index.html", render_overview(found))
    done = sum(each.done for each in found)
    return f"{outputs / 'index.html'}: {len(found)} experiments, {done} runs done"


def count_declared(names: list[str]) -> dict[str, int]:
    """Experiment → runs that its file declares, of those that have a file with a table."""
    source = GlobalHydra.instance().config_loader()
    known = [name for name in names if Path(name).name in source.get_group_options(f"experiment/{Path(name).parent}")]
    counts = {}
    for name in known:
        cfg = hydra.compose("train", [f"experiment={name}"])
        if has_table(cfg):
            counts[name] = sum(len(cell.seeds) for cell in list_cells(parse_table(cfg), [f"experiment={name}"]))
    return counts


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
