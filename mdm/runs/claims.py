"""Whose a run's folder is: its config is written first, and a record is reused only by a run of the same config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from mdm.runs.records import CONFIG, METRICS, read_config, read_record, write_atomically

DECLARED = ("table", "search", "study")
"""Sections of an experiment that say what is made of its runs; no part of any of them."""

NOT_COMPARED = ("machine", "logger", "callbacks", "paths", "departs", *DECLARED)
"""Groups of a config that say where and how a run happens, how runs are laid out, or of what settings are no copy, not what one
computes."""


def claim(folder: Path, config: Mapping[str, Any]) -> None:
    """Take a run's folder for this config: write it there, unless the same one is there already.

    Raises ValueError, naming the keys, if the folder belongs to a run of another config.
    """
    if examine(folder, config) == "new":
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / CONFIG, dump(config))


def examine(folder: Path, config: Mapping[str, Any]) -> Literal["new", "broken", "finished"]:
    """What a run's folder holds; nothing is written.

    ``new``: nothing. ``broken``: the same run began here and did not finish. ``finished``: its record is complete.

    Raises ValueError, naming the keys, if the folder belongs to a run of another config, and where `read_record` does.
    """
    if (folder / CONFIG).is_file():
        old, new = read_config(folder), yaml.safe_load(dump(config))
        differing = list_differences(select_compared(old), select_compared(new))
        if differing:
            raise ValueError(
                f"A record is reused only by the run that it belongs to, but {folder} differs from this run in:\n  "
                + "\n  ".join(differing)
                + "\nChoose another paths.outputs or name, or remove the folder."
            )
        if not (folder / METRICS).is_file():
            return "broken"
        read_record(folder)
        return "finished"
    if (folder / METRICS).is_file():
        raise ValueError(f"{folder} holds a {METRICS} but no {CONFIG}, so nobody can say what it is; remove the folder.")
    return "new"


def dump(config: Mapping[str, Any]) -> str:
    """A config as YAML, keys in their order."""
    return yaml.safe_dump(replace_tuples(config), sort_keys=False)


def replace_tuples(value: Any) -> Any:
    """YAML knows lists only."""
    if isinstance(value, Mapping):
        return {k: replace_tuples(v) for k, v in value.items()}
    return [replace_tuples(v) for v in value] if isinstance(value, list | tuple) else value


def select_compared(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a config that decides the numbers."""
    return {key: value for key, value in config.items() if key not in NOT_COMPARED}


def list_differences(old: Any, new: Any, key: str = "") -> list[str]:
    """``key: old → new`` for every leaf that differs."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        lines = []
        for name in [*old, *(n for n in new if n not in old)]:
            lines += list_differences(old.get(name, "(absent)"), new.get(name, "(absent)"), f"{key}.{name}" if key else str(name))
        return lines
    same = old == new or (old != old and new != new)  # NaN is the same setting as NaN
    return [] if same else [f"{key}: {old} → {new}"]
