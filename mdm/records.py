"""Stage five, record: what a run leaves on disk, and all that tables and statistics ever read.

A run's folder holds ``config.yaml`` (written first), checkpoints and ``curve.csv`` while it trains, ``predictions.csv``, and last
``metrics.json``, which appears in one rename and marks the run as finished.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

DECLARED = ("table", "search", "robustness", "study")
"""Sections of an experiment that say what is made of its runs; no part of any of them."""
NOT_COMPARED = ("machine", "logger", "paths", *DECLARED)
"""Groups of a config that say where and how a run happens, or how runs are laid out, not what one computes."""

CONFIG, METRICS, PREDICTIONS, CURVE = "config.yaml", "metrics.json", "predictions.csv", "curve.csv"
ERROR = "error.txt"
"""The traceback of a run of a sweep that failed."""


def write_atomically(path: Path, text: str) -> None:
    """All of the text or nothing: a temporary name in the same folder, flushed to disk, renamed last."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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

    Raises ValueError, naming the keys, if the folder belongs to a run of another config.
    """
    path = folder / CONFIG
    if path.is_file():
        old, new = yaml.safe_load(path.read_text(encoding="utf-8")) or {}, yaml.safe_load(dump(config))
        differing = differences(compared(old), compared(new))
        if differing:
            raise ValueError(
                f"A record is reused only by the run that it belongs to, but {folder} differs from this run in:\n  "
                + "\n  ".join(differing)
                + "\nChoose another paths.outputs or name, or remove the folder."
            )
        return "finished" if (folder / METRICS).is_file() else "broken"
    if (folder / METRICS).is_file():
        raise ValueError(f"{folder} holds a {METRICS} but no {CONFIG}, so nobody can say what it is; remove the folder.")
    return "new"


def dump(config: Mapping[str, Any]) -> str:
    """A config as YAML, keys in their order."""
    return yaml.safe_dump(without_tuples(config), sort_keys=False)


def without_tuples(value: Any) -> Any:
    """YAML knows lists only."""
    if isinstance(value, Mapping):
        return {k: without_tuples(v) for k, v in value.items()}
    return [without_tuples(v) for v in value] if isinstance(value, list | tuple) else value


def compared(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a config that decides the numbers."""
    return {key: value for key, value in config.items() if key not in NOT_COMPARED}


def differences(old: Any, new: Any, key: str = "") -> list[str]:
    """``key: old → new`` for every leaf that differs."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        lines = []
        for name in [*old, *(n for n in new if n not in old)]:
            lines += differences(old.get(name, "(absent)"), new.get(name, "(absent)"), f"{key}.{name}" if key else str(name))
        return lines
    same = old == new or (old != old and new != new)  # NaN is the same setting as NaN
    return [] if same else [f"{key}: {old} → {new}"]


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows as CSV, atomically; columns in the order in which they first occur. Floats keep every bit."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines: list[str] = []

    class Lines:
        write = staticmethod(lines.append)

    writer = csv.DictWriter(Lines, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: repr(float(v)) if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    write_atomically(path, "".join(lines))


def finish(folder: Path, metrics: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]) -> None:
    """Write the predictions, then the metrics: with the second rename the run is finished. NaN and infinities become null."""
    write_table(folder / PREDICTIONS, predictions)
    write_atomically(folder / METRICS, json.dumps(without_nan(metrics), indent=1, allow_nan=False) + "\n")


def without_nan(value: Any) -> Any:
    """JSON has no NaN: a metric that is not defined (correlation of a constant) is null."""
    if isinstance(value, Mapping):
        return {k: without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_record(folder: str | Path) -> dict[str, Any]:
    """A finished run's metrics.

    Raises ValueError if the folder holds none.
    """
    path = Path(folder) / METRICS
    if not path.is_file():
        raise ValueError(f"A finished run has a {METRICS}, but {folder} has none; run its command again, it resumes.")
    return json.loads(path.read_text(encoding="utf-8"))


def read_records(root: str | Path) -> Any:
    """Every finished run below a folder as one pandas frame, sorted by folder; nested keys joined by dots.

    Raises ValueError if there is none.
    """
    import pandas as pd

    folders = sorted(path.parent for path in Path(root).rglob(METRICS))
    if not folders:
        raise ValueError(f"{root} holds no finished run; train first, or correct the path.")
    records = [{"folder": str(folder.relative_to(root)), **read_record(folder)} for folder in folders]
    return pd.json_normalize(records)
