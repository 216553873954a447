"""From a command line to a study: which one, of which runs; measured, written, printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
import pandas as pd
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from mdm.runs import records
from mdm.runs.config import check
from mdm.runs.members import build
from mdm.studies import Frames, Rows, Study
from mdm.studies._options import check_option
from mdm.studies._write import write_figure
from mdm.study import Experiment, call_each, compose_experiment, read_finished, read_folder, take_jobs
from mdm.sweeps.experiment import Table


def make_study(arguments: list[str], mixed: bool) -> None:
    """Choose, find the runs, measure, write, print."""
    arguments, jobs = take_jobs(arguments)
    own = [argument for argument in arguments if argument.lstrip("+~").partition("=")[0].split(".")[0] == "study"]
    rest = [argument for argument in arguments if argument not in own]
    folder = take_folder(rest)
    cfg = None if folder else compose_experiment(rest)
    study: Study = build(choose_section(cfg, own), check_option)
    if folder is not None:
        experiment = read_folder(folder)
    elif study.reads == "nothing":
        assert cfg is not None
        check(cfg)
        experiment = Experiment(cfg, Table(cfg.name, 0, {}, {}, {}, {}), [], [])
    else:
        experiment = read_finished(rest, mixed, loaded=study.reads == "models")
    conduct(study, experiment, jobs)


def take_folder(arguments: Sequence[str]) -> Path | None:
    """The single run that ``folder=…`` names; None if an experiment is read.

    Raises ValueError if it is named beside anything else, and if there is no such folder.
    """
    named = [argument.removeprefix("folder=") for argument in arguments if argument.startswith("folder=")]
    if not named:
        return None
    if len(arguments) > 1 or not Path(named[0]).is_dir() or not named[0]:
        raise ValueError(
            f"A study reads the runs of an experiment, or one of folder=…, got {' '.join(arguments)}; name one experiment, or one "
            "folder that exists."
        )
    return Path(named[0])


def choose_section(cfg: DictConfig | None, arguments: Sequence[str]) -> DictConfig:
    """What the study is built of: ``_target_`` and options.

    cfg: the experiment's, None for a run by itself; arguments: ``study=…`` and ``study.…=…``

    Raises ValueError if no study is chosen, several are, or an option is no single value.
    """
    given = OverridesParser.create().parse_overrides(list(arguments))
    swept = [each.input_line for each in given if each.is_sweep_override()]
    names = [each.value() for each in given if each.key_or_group == "study"]
    if len(names) > 1 or swept or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"One study is made at a time, named by a file of configs/study, of single values, got {' '.join(arguments)}; "
            "correct it."
        )
    section: Any = None if cfg is None else cfg.get("study")
    if names:
        chosen = hydra.compose("train", [f"+study={names[0]}"]).study
        same = isinstance(section, DictConfig) and section.get("_target_") == chosen.get("_target_")
        section = OmegaConf.merge(copy_open(chosen), copy_open(section)) if same else chosen
    if section is None and any(each.key_or_group == "study._target_" for each in given):
        section = OmegaConf.create()
    if section is None:
        what = "a run by itself declares none" if cfg is None else f"{cfg.name} declares none"
        raise ValueError(f"A study is chosen by study=…, or by an experiment that declares one, but {what}; say study=traces, say.")
    if not isinstance(section, DictConfig):
        raise ValueError(f"study must be a mapping with the _target_ of a study, but is {section!r}; correct it.")
    section = OmegaConf.create({"study": copy_open(section)})
    for each in given:
        if each.is_delete():
            outer, _, last = str(each.key_or_group).rpartition(".")
            node = OmegaConf.select(section, outer)
            if not isinstance(node, DictConfig) or last not in node:
                raise ValueError(f"A key can be removed only where it is set, got {each.input_line}; correct it.")
            del node[last]
        elif each.key_or_group != "study":
            OmegaConf.update(section, str(each.key_or_group), each.value(), force_add=True)
    return section.study


def copy_open(node: DictConfig) -> DictConfig:
    """A copy that takes new keys, which Hydra's configs do not."""
    return OmegaConf.create(OmegaConf.to_container(node))  # type: ignore[return-value]


def conduct(study: Study, experiment: Experiment, jobs: int = 1) -> None:
    """Measure, write, print."""
    planned = study.plan(experiment)
    folder = experiment.outputs / name_study(study)
    rows: dict[str, Rows] = {}
    for found in call_each(study.measure, [(each,) for each in planned], jobs, f"{experiment.cfg.name}: {name_study(study)}"):
        for name, more in found.items():
            rows.setdefault(name, []).extend(more)
        if study.keeps:
            write_tables(folder, rows, study)
    title = study.title or experiment.table.title
    frames = Frames({name: pd.DataFrame(each) for name, each in rows.items()}, experiment, title)
    derived = study.derive(frames)
    frames = Frames({**frames.tables, **derived}, experiment, title)
    text = study.summary(frames)
    write_tables(folder, {**rows, **{name: frame.to_dict("records") for name, frame in derived.items()}}, study)
    records.write_atomically(folder / "summary.md", text)
    print(text, end="")
    write_figure(folder, lambda: study.figure(frames))


def name_study(study: Study) -> str:
    """The name of a study's folder."""
    return type(study).__name__.lower()


def write_tables(folder: Path, tables: Mapping[str, Rows], study: Study) -> None:
    """Each table that has rows as CSV."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        if rows and name not in study.unwritten:
            records.write_table(folder / f"{name}.csv", rows)
