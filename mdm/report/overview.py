"""All experiments below a folder on one page: what is done, failed and missing, with their tables, pages and studies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdm.runs import records
from mdm.runs.naming import name_penalty
from mdm.runs.options import DEBUG
from mdm.sweeps.progress import read_state
from mdm.tables.page import build_environment

PAGES = ("report.html", "table.html", "table.md", "table.tex", "table.csv")
"""What other commands write into an experiment's folder, the first for reading first."""


@dataclass(frozen=True)
class Group:
    """Runs of an experiment that share data, model and penalty; done, failed, open: how many are in which state."""

    data: str
    model: str
    penalty: str
    done: int
    failed: int
    open: int


@dataclass(frozen=True)
class Overview:
    """An experiment. declared: runs that its file declares as it stands, None without a file

    pages: name → address, as seen from the page of all
    """

    name: str
    groups: tuple[Group, ...]
    declared: int | None
    pages: Mapping[str, str]

    @property
    def done(self) -> int:
        return sum(group.done for group in self.groups)

    @property
    def failed(self) -> int:
        return sum(group.failed for group in self.groups)

    @property
    def open(self) -> int:
        """Begun and not finished; some may be running."""
        return sum(group.open for group in self.groups)

    @property
    def missing(self) -> int | None:
        """Declared, and not even begun. Runs of other seeds or data than the file's count as they are, so it is never below 0."""
        return None if self.declared is None else max(0, self.declared - self.done - self.failed - self.open)


def list_experiments(outputs: Path, declared: Mapping[str, int]) -> list[Overview]:
    """Every experiment below a folder, by name; debug runs are left out.

    declared: experiment → runs that its file declares

    Raises ValueError if there is no run, and where `mdm.runs.records.read_config` does.
    """
    counts: dict[str, dict[tuple[str, str, str], Counter[str]]] = {}
    for folder, config in read_configs(outputs):
        choices = (config["data"]["name"], config["model"]["name"], name_penalty(config))
        state = read_state(folder)
        counts.setdefault(config["name"], {}).setdefault(choices, Counter())[state] += 1
    if not counts:
        raise ValueError(f"{outputs} has no run; train first, or say paths.outputs=….")
    found = []
    for name, groups in sorted(counts.items()):
        rows = tuple(
            Group(*choices, of["finished"], of["failed"], of.total() - of["finished"] - of["failed"])
            for choices, of in groups.items()
        )
        found.append(Overview(name, rows, declared.get(name), dict(find_pages(outputs, name))))
    return found


def read_configs(outputs: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Each run that has begun, and its config."""
    for path in sorted(outputs.rglob(records.CONFIG)):
        if path.relative_to(outputs).parts[0] != DEBUG:
            yield path.parent, records.read_config(path.parent)


def find_pages(outputs: Path, name: str) -> Iterator[tuple[str, str]]:
    """What was made of an experiment: what it is called, and where it lies."""
    for page in PAGES:
        if (outputs / name / page).is_file():
            yield page, f"{name}/{page}"
    for summary in sorted((outputs / name).glob("*/summary.md")):
        yield summary.parent.name, f"{name}/{summary.parent.name}/figure.png"


def render_overview(experiments: Sequence[Overview]) -> str:
    """The page: a row an experiment and group, which choosers of data, model and penalty filter."""
    groups = [group for each in experiments for group in each.groups]
    choosers = {key: sorted({getattr(group, key) for group in groups}) for key in ("data", "model", "penalty")}
    return build_environment().get_template("report/overview.html.jinja").render(experiments=experiments, choosers=choosers)
