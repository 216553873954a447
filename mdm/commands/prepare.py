"""Files that people have → one store that training reads."""

from __future__ import annotations

import sys
from pathlib import Path
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
from mdm.formats.profiles import choose_profile
from mdm.formats.recognize import format_recognized, recognize
from mdm.formats.template import render_template

USAGE = """\
Read files of one format, check and clean them, and write the store that training reads.

  mdm prepare PATH                      say what a file or folder is, and which command reads it
  mdm prepare PATH out=<store>          read it, where its format is clear
  mdm prepare format=<name> source=<file or folder> out=<store> [profile=<data set>] [name=<name>]
              [overwrite=true] [groups=shared] [options.<option>=<value> …] [download=cmu_mosi]

Lists are written options.label_range=[-3,3], mappings options.targets.happiness=1.
Formats:
"""


TEXTS = ("format", "profile", "source", "out", "name", "download")
"""Keys whose values are names, whatever they look like."""


def read_settings(arguments: list[str]) -> dict[str, Any]:
    """configs/prepare.yaml with the command line's ``key=value`` over it. Raises ValueError on an unknown key."""
    base: Any = OmegaConf.load(find_configs() / "prepare.yaml")
    OmegaConf.set_struct(base, True)
    OmegaConf.set_struct(base.options, False)
    if arguments and is_path(arguments[0], base):
        arguments = [f"source={arguments[0]}", *arguments[1:]]
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
    config["format"] = config["format"] or None
    absent = [key for key in ("source", "out") if not config[key] and (key == "source" or config["format"])]
    if absent:
        raise ValueError(f"format, source and out must be given, but {', '.join(absent)} is not; see --help.")
    config["name"] = config["name"] or ""
    if config["profile"]:
        choose_profile(config["profile"])
    check_options(prepare, {key: value for key, value in config.items() if key not in ("format", "out") or value}, "prepare")
    return dict(config)


def is_path(argument: str, known: Any) -> bool:
    """Whether an argument stands for a path: it is none of key=value, or its key is unknown and something is there."""
    key, sign, _ = argument.partition("=")
    return not sign or (key.split(".")[0] not in known and Path(argument).exists())


def complete(settings: dict[str, Any]) -> dict[str, Any] | None:
    """Settings with the format and the profile that the source itself tells, if no format was given; None where it cannot be told,
    or where nobody asked for a store. What was found is printed.

    Raises ValueError where `recognize` does.
    """
    found = recognize(settings["source"])
    print(format_recognized(found))
    if not found.formats and not found.parts:
        lines = render_template(found.contents, settings["out"])
        print(f"Ten lines of Python would; put the names of its parts into them:\n\n{lines}")
    if not settings["out"] or not found.format or (len(found.profiles) > 1 and not settings["profile"]):
        return None
    return {**settings, "format": found.format, "profile": settings["profile"] or found.profile}


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
        settings = read_settings(arguments)
        if not settings["format"]:
            asked = settings["out"]
            completed = complete(settings)
            if completed is None:
                return 2 if asked else 0
            settings = completed
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as bar:
            task = bar.add_task("reading", total=None)
            store = prepare(**settings, progress=lambda step: bar.update(task, description=f"{step} done"))
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
