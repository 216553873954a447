"""A printed value by its key."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files

FILES = ("papers", "results", "settings", "systems", "figures")
KEY = ("paper", "table", "dataset", "target", "model", "penalty_or_variant", "metric")


@dataclass(frozen=True)
class Printed:
    """A cell of a paper's table.

    value: as printed; unit: percent or absolute; significant: the paper's mark, None where it has none for this cell
    """

    value: str
    unit: str
    significant: bool | None
    provenance: str
    note: str

    @property
    def number(self) -> float:
        """NaN for a dash, and where the paper prints NaN."""
        return float(self.value) if self.value else float("nan")

    @property
    def decimals(self) -> int:
        """As many as are printed."""
        return len(self.value.partition(".")[2])

    @property
    def flags(self) -> tuple[str, ...]:
        """Why the value is doubtful; empty for nearly all."""
        return tuple(name_papers(part.strip(" ;")) for part in self.note.split("FLAG:")[1:])


@cache
def read_rows(name: str) -> tuple[dict[str, str], ...]:
    """The rows of ``papers``, ``results``, ``settings``, ``systems`` or ``figures``; every value the text that is printed.

    Raises ValueError for another name.
    """
    if name not in FILES:
        raise ValueError(f"What the papers print is in {', '.join(FILES)}, but {name} was asked for.")
    with files(__package__).joinpath(f"{name}.csv").open(encoding="utf-8") as file:
        return tuple(csv.DictReader(file))


@cache
def read_results() -> dict[tuple[str, ...], Printed]:
    """Every printed cell by its key."""
    marks = {"true": True, "false": False, "": None}
    return {
        tuple(row[key] for key in KEY): Printed(
            row["value"], row["unit"], marks[row["significant"]], row["provenance"], row["note"]
        )
        for row in read_rows("results")
    }


@cache
def list_keys(of: tuple[str, ...]) -> frozenset[tuple[str, ...]]:
    """The combinations of these parts of a key that occur."""
    return frozenset(tuple(row[key] for key in of) for row in read_rows("results"))


def find_value(paper: str, table: str, dataset: str, target: str, model: str, penalty_or_variant: str, metric: str) -> Printed:
    """The cell of a table where a row and a column meet; its value is empty where the paper prints a dash.

    Raises ValueError, naming the nearest, if the paper has no such table, or the table no such row (model, penalty_or_variant) or
    column (dataset, target, metric).

    >>> find_value("000", "T1", "mosi", "sentiment", "EF-LSTM", "none", "mae").value
    '1.00'
    """
    asked = dict(zip(KEY, (paper, table, dataset, target, model, penalty_or_variant, metric), strict=True))
    for of in (("paper", "table"), ("model", "penalty_or_variant"), ("dataset", "target", "metric")):
        place = tuple(dict.fromkeys(("paper", "table", *of)))
        if tuple(asked[key] for key in place) not in list_keys(place):
            raise ValueError(
                f"{name_paper(paper)} prints no {format_key(asked, of)}{format_place(asked, of)}; {suggest_nearest(asked, of)}"
            )
    return read_results()[tuple(asked.values())]


def name_papers(text: str) -> str:
    """A note with the names of papers in the place of their keys.

    >>> name_papers("1.0 below 000's value")
    "1.0 below Colombo et al., EMNLP 2021's value"
    """
    names = {row["paper"]: row["name"] for row in read_rows("papers")}
    return re.sub(rf"\b(?:[Pp]aper )?({'|'.join(names)})\b", lambda found: names[found[1]], text)


def describe_runs(paper: str) -> str:
    """How many runs the numbers of a paper's tables are of, as it says.

    >>> describe_runs("000"), describe_runs("002")
    ('mean of 10 runs', 'number of runs not stated')
    """
    counts = {row["value"] for row in read_rows("settings") if (row["paper"], row["item"]) == (paper, "n_runs")} - {""}
    return f"mean of {max(counts, key=int)} runs" if counts else "number of runs not stated"


def name_paper(key: str) -> str:
    """``Paper 000 (Colombo et al., EMNLP 2021)``; of an unknown key the key alone."""
    names = {row["paper"]: row["name"] for row in read_rows("papers")}
    return f"Paper {key} ({names[key]})" if key in names else f"Paper {key}"


def format_key(asked: Mapping[str, str], of: tuple[str, ...]) -> str:
    return " ".join(f"{key}={asked[key]!r}" for key in of if key != "paper")


def format_place(asked: Mapping[str, str], of: tuple[str, ...]) -> str:
    return "" if "table" in of else f" in {asked['table']}"


def suggest_nearest(asked: Mapping[str, str], of: tuple[str, ...]) -> str:
    """What is printed there and looks most like what was asked for."""
    fixed = ("paper",) if "table" in of else ("paper", "table")
    there = {format_key(row, of): None for row in read_rows("results") if all(row[key] == asked[key] for key in fixed)}
    if not there:
        return f"the papers are {'; '.join(row['paper'] + ', ' + row['name'] for row in read_rows('papers'))}."
    close = get_close_matches(format_key(asked, of), there, n=3, cutoff=0) if len(there) > 6 else list(there)
    return f"{'the nearest are' if len(there) > 6 else 'it prints'} {'; '.join(close)}."
