"""Files that people have → one store that training reads."""

from __future__ import annotations

import sys
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from yaml import YAMLError, safe_load

from mdm.compose import find_configs
from mdm.data.base import FORBIDDEN_IN_TEXT
from mdm.formats.options import check_options
from mdm.formats.prepare import card_view, help_text, prepare

USAGE = """\
Read files of one format, check and clean them, and write the store that training reads.

  mdm prepare format=<name> source=<file or folder> out=<store> [name=<data set>]
              [overwrite=true] [groups=shared] [options.<option>=<value> …] [download=cmu_mosi]

Lists are written options.label_range=[-3,3], mappings options.targets.happiness=1.
Formats:
"""


TEXTS = ("format", "source", "out", "name", "download")
"""Keys whose values are names, whatever they look like."""


def read_settings(arguments: list[str]) -> dict[str, Any]:
    """configs/prepare.yaml with the command line's ``key=value`` over it. Raises ValueError on an unknown key."""
    base: Any = OmegaConf.load(find_configs() / "prepare.yaml")
    OmegaConf.set_struct(base, True)
    OmegaConf.set_struct(base.options, False)
    given = [argument.partition("=") for argument in arguments]
    twice = sorted({key for key, _, _ in given if [other for other, _, _ in given].count(key) > 1})
    if twice:
        raise ValueError(f"Each key must be given once, got {', '.join(twice)} twice; leave one.")
    for key, _, value in given:
        if key in TEXTS and FORBIDDEN_IN_TEXT.search(value):
            raise ValueError(f"{key} must be written without control characters, but is {value!r:.80}; correct it.")
    texts = {key: read_name(value) for key, sign, value in given if sign and key in TEXTS}
    others = ["=".join((key, value)) if sign else key for key, sign, value in given if not (sign and key in TEXTS)]
    try:
        config: Any = OmegaConf.to_container(OmegaConf.merge(base, OmegaConf.from_cli(others)))
        parts = [key for key in TEXTS if config[key] != base[key]]
        if parts:
            raise ValueError(f"{parts[0]} has no keys of its own")
        config |= texts
    except (OmegaConfBaseException, YAMLError, AttributeError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(
            f"Arguments must be key=value with keys of configs/prepare.yaml ({', '.join(base)}), got {' '.join(arguments):.200} "
            f"({str(error).splitlines()[0]:.200}); see --help."
        ) from None
    absent = [key for key in ("format", "source", "out") if not config[key]]
    if absent:
        raise ValueError(f"format, source and out must be given, but {', '.join(absent)} is not; see --help.")
    config["name"] = config["name"] or ""
    check_options(prepare, config, "prepare")
    return dict(config)


def read_name(value: str) -> str | None:
    """What was written for a name: as it stands but for YAML's quotes and null; a name like a number is a name all the same."""
    try:
        read = safe_load(value)
    except (YAMLError, ValueError, RecursionError):
        return value
    return read if read is None or isinstance(read, str) else value


def main(arguments: list[str]) -> int:
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE + help_text())
        return 0
    shown = Console(stderr=True)
    try:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as bar:
            task = bar.add_task("reading", total=None)
            store = prepare(**read_settings(arguments), progress=lambda step: bar.update(task, description=f"{step} done"))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except MemoryError:
        print("The segments must fit into memory, but do not; take a machine with more, or fewer segments.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; nothing was written.", file=sys.stderr)
        return 130
    Console().print(card_view(store.card))
    return 0
