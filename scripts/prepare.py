"""Files that people have → one store: `python scripts/prepare.py format=csd source=data/mosi out=data/stores/mosi`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from yaml import YAMLError

from mdm.formats.prepare import card_view, help_text, prepare

ROOT = Path(__file__).resolve().parent.parent

USAGE = """\
Read files of one format, check and clean them, and write the store that training reads.

  python scripts/prepare.py format=<name> source=<file or folder> out=<store> [name=<data set>]
                            [overwrite=true] [options.<option>=<value> …] [download=cmu_mosi]

Lists are written options.label_range=[-3,3], mappings options.targets.happiness=1.
Formats:
"""


def settings(arguments: list[str]) -> dict[str, Any]:
    """configs/prepare.yaml with the command line's ``key=value`` over it. Raises ValueError on what it has not got."""
    base = OmegaConf.load(ROOT / "configs" / "prepare.yaml")
    OmegaConf.set_struct(base, True)
    OmegaConf.set_struct(base.options, False)
    try:
        config: Any = OmegaConf.to_container(OmegaConf.merge(base, OmegaConf.from_cli(arguments)))
    except (OmegaConfBaseException, YAMLError) as error:
        raise ValueError(
            f"Arguments must be key=value with keys of configs/prepare.yaml ({', '.join(base)}), but {' '.join(arguments)} "
            f"came ({str(error).splitlines()[0]}); see --help."
        ) from None
    absent = [key for key in ("format", "source", "out") if not config[key]]
    if absent:
        raise ValueError(f"format, source and out must be given, but {', '.join(absent)} is not; see --help.")
    # a name that looks like a number is a name all the same
    texts = {key: str(config[key]) for key in ("format", "source", "out", "name")}
    return {**config, **texts}


def main(arguments: list[str]) -> int:
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE + help_text())
        return 0
    shown = Console(stderr=True)
    try:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as bar:
            task = bar.add_task("reading", total=None)
            store = prepare(**settings(arguments), progress=lambda step: bar.update(task, description=f"{step} done"))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    Console().print(card_view(store.card))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
