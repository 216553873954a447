"""The site and the README: the facts that stand elsewhere too, links, and code blocks."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from mdm.reference import read_rows

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
NUMBERED = re.compile(r"\b[Pp]apers?\s+(?:# )?00[0-4]\b(?! \()|paper00[0-4]")


@pytest.mark.parametrize("paper", read_rows("papers"), ids=lambda paper: paper["paper"])
def test_the_bibliography_has_every_fact_about_a_paper(paper):
    row = next(line for line in (DOCS / "bibliography.md").read_text().splitlines() if line.startswith(f"| {paper['paper']} |"))
    assert [name for name, fact in paper.items() if fact not in row] == []


def test_the_citation_file_is_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "license"} <= set(cited)
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    assert (cited["version"], cited["license"], cited["title"]) == (project["version"], project["license"], project["name"])
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_paper_number_in_public_text_has_become_a_name():
    """A key stands in quotes, in the reference data, or beside its name; no page calls a paper by its number alone."""
    told = [README, *sorted(DOCS.glob("*.md")), *sorted((ROOT / "configs").rglob("*.yaml")), *sorted((ROOT / "mdm").rglob("*.py"))]
    left = [f"{path.relative_to(ROOT)}: {found[0]}" for path in told for found in NUMBERED.finditer(path.read_text())]
    assert left == []
