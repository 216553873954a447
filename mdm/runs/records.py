"""Stage five, record: what a run leaves on disk, and all that tables and statistics ever read.

A run's folder holds ``config.yaml`` (written first), checkpoints and ``curve.csv`` while it trains, ``predictions.csv``, and last
``metrics.json``, which appears in one rename and marks the run as finished. It holds the hash of every other file, and of itself:
whatever is read of a finished run is held against them, so a file that was edited, cut short or exchanged is refused by name.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mdm.data.base import hash_file
from mdm.runs.untrusted import parse_yaml

VERSION = 4
"""Of the form of a record."""

CONFIG, METRICS, PREDICTIONS, CURVE = "config.yaml", "metrics.json", "predictions.csv", "curve.csv"

BEST, LAST = "best.ckpt", "last.ckpt"
"""The checkpoint of the chosen epoch, and that of the last one, which is there while the run is not finished."""

HASHED = (CONFIG, CURVE, PREDICTIONS, BEST)
"""What a record holds the hashes of."""

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
    seal(folder, metrics)


def seal(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Write the metrics with the hashes of all that lies in the folder."""
    plain = replace_nan(metrics)
    files = {name: hash_file(folder / name) for name in HASHED if (folder / name).is_file()}
    stored = {"version": VERSION, "files": files}
    plain["stored"] = {**stored, "sha256": hash_content({**plain, "stored": stored})}
    write_atomically(folder / METRICS, json.dumps(plain, indent=1, allow_nan=False) + "\n")


def hash_content(content: Any) -> str:
    """SHA-256 of what JSON says, however it is laid out."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def replace_nan(value: Any) -> Any:
    """JSON has no NaN: a metric that is not defined (correlation of a constant) is null."""
    if isinstance(value, Mapping):
        return {k: replace_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [replace_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_record(folder: str | Path) -> dict[str, Any]:
    """A finished run's metrics.

    Raises ValueError if the folder holds none, if its file is not as it was written, and if it is of another version.
    """
    return read_whole(Path(folder))[0]


def read_result(folder: str | Path) -> dict[str, Any]:
    """A finished run's metrics, to be counted or compared.

    Raises ValueError for a debug run, and where `read_record` does.
    """
    record = read_record(folder)
    if record.get("debug"):
        raise ValueError(f"Results are counted, but {folder} is of a debug run ({', '.join(record['debug'])}); train it without.")
    return record


def read_whole(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """A finished run's metrics, and the hashes of its other files; raises as `read_record`."""
    path = folder / METRICS
    if not path.is_file():
        raise ValueError(f"A finished run has a {METRICS}, but {folder} has none; run its command again, it resumes.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        stored = content.pop("stored", None)
        version = 1 if stored is None else stored["version"]
        if version == VERSION:
            said = stored.pop("sha256")
            whole = hash_content({**content, "stored": stored}) == said
            files = {str(name): str(value) for name, value in stored["files"].items()}
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} must be a whole record, but cannot be read ({type(error).__name__}: {error}); {AGAIN}") from None
    if version != VERSION:
        raise ValueError(f"{path} is a record of version {version}, but this code reads version {VERSION}; {AGAIN}")
    if not whole:
        raise ValueError(f"{path} must be as the run wrote it, but its content does not give its hash: it was edited; {AGAIN}")
    return content, files


AGAIN = "restore it, or remove the folder and run again."


def read_bytes(folder: Path, name: str) -> bytes:
    """A file of a run; of a finished one, after it was held against the record.

    Raises ValueError if it is not there, or is not what the finished run wrote.
    """
    path = folder / name
    if not path.is_file():
        raise ValueError(f"A run has a {name}, but {folder} has none; {AGAIN}")
    content = path.read_bytes()
    if (folder / METRICS).is_file():
        expect(path, hashlib.sha256(content).hexdigest(), read_whole(folder)[1])
    return content


def expect(path: Path, found: str, files: Mapping[str, str]) -> None:
    """Raise ValueError unless a file has the hash that the record says."""
    if found != files.get(path.name):
        raise ValueError(f"{path} must be as the run wrote it, but its hash is not the record's: it was edited or damaged; {AGAIN}")


def read_config(folder: Path) -> dict[str, Any]:
    """The config of a run, finished or not.

    Raises ValueError if it is no mapping of plain values, as it was written, or if `read_bytes` does.
    """
    return parse_yaml(read_bytes(folder, CONFIG), folder / CONFIG)


def read_table(folder: Path, name: str, **options: Any) -> Any:
    """`CURVE` or `PREDICTIONS` as a pandas frame; options: of `pandas.read_csv`.

    Raises ValueError if the file is no table, or if `read_bytes` does.
    """
    import pandas as pd

    content = read_bytes(folder, name)
    try:
        return pd.read_csv(io.BytesIO(content), **options)
    except ValueError as error:  # of which pandas's own are
        raise ValueError(f"{folder / name} must be a table, but cannot be read ({error}); {AGAIN}") from None


def read_error(folder: Path) -> str:
    """The last line of what a failed run left."""
    lines = (folder / ERROR).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it left no traceback"


def find_problems(folder: Path) -> list[str]:
    """What is wrong with a finished run's files, a line each; reads all of them."""
    try:
        files = read_whole(folder)[1]
    except ValueError as error:
        return [str(error)]
    found = []
    for name in files:
        try:
            if not (folder / name).is_file():
                raise ValueError(f"{folder / name} is in the record, but is not there; {AGAIN}")
            expect(folder / name, hash_file(folder / name), files)
        except (ValueError, OSError) as error:
            found.append(str(error))
    return found


def read_records(root: str | Path) -> Any:
    """Every finished run below a folder as one pandas frame, sorted by folder; nested keys joined by dots. Debug runs are left out.

    Raises ValueError if there is none, and where `read_record` does.
    """
    import pandas as pd

    folders = sorted(path.parent for path in Path(root).rglob(METRICS))
    if not folders:
        raise ValueError(f"{root} holds no finished run; train first, or correct the path.")
    records = [{"folder": str(folder.relative_to(root)), **read_record(folder)} for folder in folders]
    results = [record for record in records if not record.get("debug")]
    if not results:
        raise ValueError(f"{root} holds no result but {len(records)} debug runs; train without debug=… and limits of batches.")
    return pd.json_normalize(results)
