"""Settings chosen on the validation fold.

    mdm train -m experiment=search/mdm
    mdm search experiment=search/mdm

Ranks the points of the search's grid by their validation metric, as far as they have been run, and writes the best of each run to
tuned/search/<data>/<run>.yaml once all of its runs are there; `tuned=search/<data>/<run>` then uses it. The file goes into the
first folder of the search path (--config-dir, hydra.searchpath); without one into the configs of the repository, or, where mdm is
installed, into configs/ here, to be read with --config-dir configs.

    model=…, penalty=…, data=…, seed=…    some of the runs; give what the sweep was given
    overwrite=true                        replace a file that says something else
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose

from mdm.boundary import format_error, join_errors
from mdm.compose import find_configs, is_in_repository, take_search_path, use_configs
from mdm.runs.config import check, to_plain
from mdm.runs.naming import record_folder
from mdm.sweeps.experiment import Cell, read_arguments
from mdm.sweeps.found import TrialResult, choose_point, read_trial, render_ranking, render_tuned, write_tuned
from mdm.sweeps.search import list_trials, parse_search


def main(arguments: list[str]) -> None:
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return
    said = [argument for argument in arguments if argument.startswith("overwrite=")]
    if len(said) > 1 or set(said) - {"overwrite=true", "overwrite=false"}:
        raise ValueError(f"overwrite is true or false, and said once, got {' '.join(said)}; correct it.")
    overwrite, arguments = said == ["overwrite=true"], [argument for argument in arguments if argument not in said]
    arguments, path = take_search_path(arguments)
    given = read_arguments(arguments)
    folder = find_own_folder(path)
    with use_configs(path):
        # The declaration alone: what is set for the runs may belong to their models.
        cfg = compose("train", [*given.experiment, *(other for other in given.others if other.startswith("search."))])
        search = parse_search(cfg)
        found: dict[tuple[str, str], list[TrialResult]] = {}
        configs: dict[Cell, dict[str, Any]] = {}
        damaged: list[str] = []
        for trial in list_trials(search, arguments):
            cell = trial.cell
            run = compose("train", cell.runs()[0])
            check(run)
            first = record_folder(run, cell.runs()[0])
            folders = [first.with_name(f"seed={seed}") for seed in cell.seeds]
            configs[cell] = to_plain(run, resolve=False)
            try:
                found.setdefault((cell.data, trial.run), []).append(read_trial(trial, folders, configs[cell], search.select))
            except (ValueError, OSError) as error:
                damaged.append(format_error(error))
    if damaged:
        raise ValueError(join_errors(damaged))
    problems = []
    for (data, name), of_run in found.items():
        print(render_ranking(search, of_run))
        file = folder / "tuned" / "search" / data / f"{name}.yaml"
        try:
            chosen = choose_point(of_run, search.select)
            write_tuned(file, render_tuned(search, cfg.name, of_run, chosen, configs[chosen.trial.cell]), overwrite)
            print(f"→ {file}\n")
        except ValueError as error:
            problems.append(str(error))
    if problems:
        sys.exit("\n".join(problems))


def find_own_folder(path: Sequence[str]) -> Path:
    """Where a person keeps configs: the first folder of the search path, the repository's, or configs/ here."""
    folders = [Path(url.removeprefix("file://")) for url in path if url.startswith("file://")]
    return folders[0] if folders else find_configs() if is_in_repository() else Path("configs")
