"""Stage one, data: the rows of a table as texts, from csv, tsv or parquet."""

from __future__ import annotations

import csv
from pathlib import Path

from mdm.extras import require_extra
from mdm.formats.base import require_file
from mdm.formats.contents import TABLES
from mdm.formats.damage import describe_damage


def read_rows(path: Path) -> list[dict[str, str]]:
    """Each row as column → what stands there, without blanks around it; "" where nothing does.

    Raises ValueError if the file is missing or no table, has no row, two columns of one name, or a row of another length.
    """
    require_file(path, "format=table")
    if what := describe_damage(path):
        raise ValueError(f"{path.name} must be a table, but is {what}.")
    return read_parquet(path) if path.suffix.lower() == ".parquet" else read_csv(path)


def read_csv(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *lines = list(csv.reader(file, delimiter=TABLES.get(path.suffix.lower(), ","))) or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path.name} must be a table of UTF-8 (csv), but cannot be read ({error}); save it as such.") from None
    lines = [line for line in lines if line]
    if not header or not lines or len(set(header)) < len(header):
        raise ValueError(
            f"{path.name} must have columns of different names and a row, but has {', '.join(header) or 'none'}; correct it."
        )
    for k, line in enumerate(lines, start=2):
        if len(line) != len(header):
            raise ValueError(
                f"{path.name}: each row must have {len(header)} columns, but row {k} has {len(line)}; quote texts with separators."
            )
    return [{column: value.strip() for column, value in zip(header, line, strict=True)} for line in lines]


def read_parquet(path: Path) -> list[dict[str, str]]:
    require_extra("pyarrow", "A table in parquet")
    import pyarrow.parquet  # not everybody has it

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise ValueError(f"{path.name} must be a table in parquet, but cannot be read ({error!s:.80}); save it again.") from None
    rows = table.to_pylist()
    if not rows:
        raise ValueError(f"{path.name} must have columns of different names and a row, but has no row; correct it.")
    return [{str(column): "" if value is None else str(value).strip() for column, value in row.items()} for row in rows]
