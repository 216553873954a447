"""The site and the README: the facts that stand elsewhere too, links, and code blocks."""

import importlib.util
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import matplotlib
import matplotlib.image
import numpy as np
import pytest
import yaml
from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser

from mdm.__main__ import list_commands as known_commands
from mdm.compose import use_configs
from mdm.reference import read_rows
from mdm.studies._write import set_math

ROOT = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location("gallery", ROOT / "scripts" / "gallery.py")
gallery = importlib.util.module_from_spec(spec)
spec.loader.exec_module(gallery)
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


# Links and code blocks ----------------------------------------------------------------------------------

PAGES = [README, *sorted(DOCS.glob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)]*))?\)")
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)


def find_headings(path):
    """The anchors of a page's headings."""
    return {
        re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in path.read_text().splitlines()
        if line[:1] == "#"
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_links_lead_somewhere(page):
    for target, anchor in LINK.findall(page.read_text()):
        if not target.startswith("http"):
            path = (page.parent / target).resolve() if target else page
            assert path.exists(), target
            assert not anchor or anchor in find_headings(path), anchor


def test_the_site_names_each_page_once():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    named = [
        page
        for entry in nav
        for part in ([entry] if isinstance(entry, str) else next(iter(entry.values())))
        for page in ([part] if isinstance(part, str) else part.values())
    ]
    assert sorted(named) == sorted(path.name for path in DOCS.glob("*.md"))


def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="no mkdocs: make docs installs it")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "first_hour.html").is_file()


def test_the_readme_is_short_and_has_a_picture():
    text = README.read_text()
    assert len(text.splitlines()) <= 180
    assert (ROOT / re.search(r"!\[[^\]]*\]\(([^)]*)\)", text)[1]).is_file()


def list_commands():
    """Each command of mdm in a block of any page: a page, and its words."""
    found = {}
    for page in PAGES:
        for language, text in BLOCK.findall(page.read_text()):
            if language in ("", "sh", "bash"):
                for line in text.splitlines():
                    if line.startswith("mdm "):
                        found.setdefault(line.split(" #")[0].strip(), page.name)
    return sorted(found)


@pytest.fixture(scope="module")
def first_configs(tmp_path_factory):
    """The folder of configs that the first hour writes."""
    folder = tmp_path_factory.mktemp("docs") / "my_configs"
    for path, text in read_titled():
        (folder.parent / path).parent.mkdir(parents=True)
        (folder.parent / path).write_text(text)
    return folder


def read_titled():
    """Files that the first hour writes: path → text."""
    return re.findall(r'^```yaml title="([^"]+)"\n(.*?)^```', (DOCS / "first_hour.md").read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("command", list_commands())
def test_commands_are_those_that_there_are(command, first_configs):
    """Each names a command, and its overrides compose to the config of a run, of what they sweep the first."""
    _, name, *words = shlex.split(command)
    assert name in known_commands()
    if name in ("prepare", "verify") or "--help" in words or any(word.startswith("folder=") for word in words):
        return
    path = [first_configs] if "--config-dir" in words else []
    flags = {"-m", "--dry-run", "--config-dir", "my_configs", "--part", "results", "tests"}
    given = [
        word
        for word in words
        if word not in flags
        and not word.startswith(("hydra", "mixed=", "jobs=", "overwrite=", "[", "…", "study", "table.test", "table.zeros"))
    ]
    parsed = OverridesParser.create().parse_overrides(given)
    first = [f"{o.get_key_element()}={next(o.sweep_string_iterator())}" if o.is_sweep_override() else o.input_line for o in parsed]
    with use_configs([f"file://{folder}" for folder in path]):
        assert compose("train", first).name


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory, in_turn):
    """A folder where the README's one run has been trained, on fewer segments."""
    folder = tmp_path_factory.mktemp("trained")
    few = ["data.segments.train=96", "data.segments.valid=32", "data.segments.test=40", "trainer.max_epochs=1"]
    in_turn([["train", "model=lmf", "penalty=kl", *few]], folder)
    (made,) = (path.parent for path in folder.rglob("metrics.json"))
    made.rename(folder / "outputs/single/synthetic/lmf/kl/seed=0")
    return folder


def test_the_readmes_python_runs_as_printed(trained_once, monkeypatch):
    monkeypatch.chdir(trained_once)
    blocks = [text for language, text in BLOCK.findall(README.read_text()) if language == "python"]
    names = {}
    for text in blocks:
        exec(text, names)
    assert len(blocks) == 1
    assert names["trained"].predict(names["new"]).shape == (1, 1)


def test_the_notebook_runs(trained_once, monkeypatch):
    """Its cells in order; what it trains learns something: below the error of always saying the middle of the scale."""
    monkeypatch.chdir(trained_once)
    matplotlib.use("agg")
    names = {}
    for cell in json.loads((DOCS / "notebooks" / "without_hydra.ipynb").read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert len(names["curve"]) == 4
    assert all(0 < value < 3 for value in names["curve"])
    assert names["trained"].backbone.z_dim
    assert [line.get_label() for line in names["axes"].lines][1] == "the finished run"


@pytest.mark.slow
def test_the_first_hour_ends_in_a_table_and_a_page(first_configs, in_turn):
    """Its commands in order as printed, of runs that are shorter: an epoch on 96 segments."""
    here = first_configs.parent
    file = here / "my_configs/experiment/first.yaml"
    few = "trainer: {max_epochs: 1}\ndata: {segments: {train: 96, valid: 32, test: 40}}"
    file.write_text(file.read_text().replace("trainer: {max_epochs: 6}", few))
    blocks = [text for language, text in BLOCK.findall((DOCS / "first_hour.md").read_text()) if not language]
    commands = [shlex.split(line)[1:] for text in blocks for line in text.splitlines() if line.startswith("mdm ")]
    assert len(commands) >= 6
    said = [run_alone(command, here) for command in commands]
    assert "15 runs: 0 done, 15 missing" in said[0]
    assert (here / "outputs/first/table.tex").is_file()
    assert "+ L_kl" in (here / "outputs/first/table.md").read_text()
    assert (here / "outputs/first/report.html").is_file()


def run_alone(command, cwd):
    """A command in a process of its own, as a person gives it: Hydra's multirun is one a process."""
    done = subprocess.run([sys.executable, "-m", "mdm", *command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# The gallery --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", gallery.PICTURES)
def test_the_gallery_is_what_the_studies_draw(name, tmp_path):
    """Drawn anew it is the picture that lies there, but for how letters are smoothed, and as wide as one column or two."""
    assert f"(images/{name}.png)" in (DOCS / "gallery.md").read_text()
    new = read_image(gallery.write_picture(name, tmp_path))
    old = read_image(DOCS / "images" / f"{name}.png")
    assert new.shape == old.shape
    assert np.abs(new - old).mean() < 0.02
    width = float(re.search(rb"/MediaBox \[ ?0 0 ([\d.]+)", (tmp_path / f"{name}.pdf").read_bytes())[1]) / 72
    assert width == pytest.approx(3.3, abs=0.01) or width == pytest.approx(6.9, abs=0.01)


def read_image(path):
    return matplotlib.image.imread(path)[..., :3]


def test_no_panel_is_empty_and_no_rows_are_joined():
    """Systems with 1 + 3 + 3 kinds of loss are seven panels; lines of a grid are upright: intervals, never from row to row."""
    panels = [axes for axes in gallery.build_traces().axes if axes.get_visible()]
    assert [bool(axes.lines) for axes in panels] == [True] * 7
    for axes in gallery.build_grid(5).axes:
        assert all(line.get_linestyle() == "None" or len(set(line.get_xdata())) == 1 for line in axes.lines)


def test_two_seeds_do_not_stretch_the_scale():
    """The ratios lie between .5 and 1.1; t intervals of two seeds would reach far beyond."""
    low, high = gallery.build_robustness(2).axes[0].get_ylim()
    assert 0.0 < low < 0.7
    assert 1.0 <= high < 1.5


def test_labels_are_mathematics_and_stand_ins_are_named():
    figure = gallery.build_grid(5)
    set_math(figure)
    assert "+ $L_{kl}$" in [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert figure.axes[0].get_title().startswith("stand-in for CMU-MOSI")
    assert "the paper on the real data,\nmean of 10 runs" in figure.legends[0].texts[-1].get_text()
