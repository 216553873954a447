"""A table as Markdown, LaTeX, HTML and CSV, and the command that writes them."""

import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from made_tables import BETTER, NONE, SEEDS, Outputs, declare_table, rows
from scipy import stats

from mdm.commands.table import main
from mdm.runs import records
from mdm.runs.config import to_plain
from mdm.runs.naming import record_folder
from mdm.sweeps.experiment import Row, list_cells, parse_table
from mdm.tables.markdown import render_markdown
from mdm.tables.page import Axis, find_axis, render_page
from mdm.tables.rows import build_cell_rows, build_seed_rows

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def outputs(tmp_path):
    return Outputs(tmp_path)


# Formats ------------------------------------------------------------------------------------------------


class Balanced(HTMLParser):
    """Tags that are closed in order; what the page would load; numbers of elements."""

    VOID = ("meta", "line", "path", "br")

    def __init__(self):
        super().__init__()
        self.open, self.loads, self.count = [], [], {}

    def handle_starttag(self, tag, attributes):
        self.count[tag] = self.count.get(tag, 0) + 1
        self.loads += [value for name, value in attributes if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.count[tag] = self.count.get(tag, 0) + 1

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_draws_every_seed_and_loads_nothing(outputs):
    """2 rows × 2 metrics × 10 seeds, and one dot in the legend."""
    outputs.fill({"none": NONE, "kl": BETTER})
    text = render_page(outputs.sheet(declare_table(rows(x=Row("x", "<b>&", ("penalty=f",))), notes="a < b")))
    parser = Balanced()
    parser.feed(text.removeprefix("<!doctype html>"))
    assert parser.open == []
    assert parser.loads == []
    assert "http" not in text
    assert "@import" not in text
    assert parser.count["circle"] == 2 * 2 * SEEDS + 1
    assert "<title>seed 3: 0.56000</title>" in text
    assert "&lt;b&gt;&amp;" in text
    assert "a &lt; b" in text
    assert "prefers-color-scheme: dark" in text


def test_an_axis_holds_our_values_and_what_is_printed_near_by(outputs):
    """MAE from .50 to .89; the paper's 1.00 is nearer than these are apart, its 76.1 % is not near 100 %."""
    outputs.fill({"none": NONE, "kl": BETTER})
    block = outputs.sheet(declare_table()).blocks[0]
    mae, acc = (find_axis(block, column) for column in block.columns)
    assert mae.low == pytest.approx(0.50 - 0.05 * 0.50)
    assert mae.high == pytest.approx(1.00 + 0.05 * 0.50)
    assert (acc.beyond(76.1), acc.beyond(100.0), acc.beyond(101.0 + acc.high)) == ("left", "", "right")
    assert (Axis(0.0, 2.0).x(1.0), Axis(0.0, 2.0).x(-5.0), Axis(0.0, 2.0).x(9.0)) == (70.0, 6.0, 134.0)


def test_csv_has_every_digit(outputs, tmp_path):
    outputs.fill({"none": NONE, "kl": BETTER[:9]})
    sheet = outputs.sheet(declare_table())
    found = {(row["row"], row["metric"]): row for row in build_cell_rows(sheet)}
    kl = found["kl", "mae"]
    assert kl["mean"] == np.mean(
        [records.read_record(outputs.place(["data=synthetic", "penalty=kl", f"seed={s}"])[0])["test"]["mae"] for s in range(9)]
    )
    assert (kl["n"], kl["declared"], kl["paper"], kl["unit"], kl["baseline"]) == (9, 10, "1.00", "absolute", "EF-LSTM")
    assert (kl["pairs"], kl["p_sign_flip"], kl["star"]) == (9, 2 / 2**9, False)
    assert (kl["test"], kl["lost"], kl["videos"], kl["share_runs"]) == ("crossed", 0, 12, 1)
    assert kl["p_crossed"] == kl["p_holm"] == pytest.approx(stats.ttest_rel(BETTER[:9], NONE[:9]).pvalue)
    assert found["kl", "acc2_pos"]["p_sign_flip"] == ""
    assert found["none", "mae"]["baseline"] == ""
    assert found["none", "acc2_pos"]["unit"] == "percent"

    of_seeds = build_seed_rows(sheet, tmp_path)
    assert [(r["row"], r["seed"], r["state"]) for r in of_seeds][-2:] == [("kl", 8, "finished"), ("kl", 9, "missing")]
    assert of_seeds[3]["folder"] == "t/synthetic/none/seed=3"
    assert of_seeds[3]["test/mae"] == pytest.approx(0.83)
    assert of_seeds[3]["valid/acc2_pos"] == 1.0
    assert of_seeds[-1]["test/mae"] is None


def test_markdown_tables_are_whole(outputs):
    outputs.fill({"none": NONE, "kl": BETTER})
    text = render_markdown(outputs.sheet(declare_table(rows(x=Row("x", "a|b*", ("penalty=f",))))))
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(line) for line in table.splitlines()}) == 1
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    assert "**0.590 ± 0.061** ★" in text
    assert r"| a\|b\* " in text
    assert "synthetic is SYNTHETIC and stands in for CMU-MOSI: its numbers say nothing about people" in text
    assert "The paper does not say how it counts zeros in its acc2." in text


# The command ---------------------------------------------------------------------------------------------

EXPERIMENT = ("experiment=mdm/table1", "data=synthetic", "penalty=none,kl", "seed=range(3)")
FILES = ("table.md", "table.tex", "table.html", "table.csv", "seeds.csv")


@pytest.fixture
def swept(tmp_path):
    """Records as a sweep of a real experiment would leave them, made up."""
    root = tmp_path / "outputs"
    outputs = Outputs(root)
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("train", ["experiment=mdm/table1"])
        for cell in list_cells(parse_table(cfg), [f"paths.outputs={root}", *EXPERIMENT]):
            composed = compose("train", cell.runs()[0])
            folder = record_folder(composed, cell.runs()[0]).parent
            for seed in cell.seeds:
                made = outputs.write(cell.row, seed, 0.5 + 0.1 * seed, config={**to_plain(composed, resolve=False), "seed": seed})
                (folder / f"seed={seed}").parent.mkdir(parents=True, exist_ok=True)
                made.rename(folder / f"seed={seed}")
    return root


def test_the_command_prints_and_writes_the_same_bytes_twice(swept, capsys):
    arguments = [*EXPERIMENT, f"paths.outputs={swept}"]
    main(arguments)
    first, printed = {name: (swept / "mdm/table1" / name).read_bytes() for name in FILES}, capsys.readouterr().out
    assert printed == first["table.md"].decode()
    assert "EF-LSTM" in printed
    assert "cannot be told: 3 paired runs, 5 are needed" in printed
    main([*arguments, "mixed=true"])
    assert {name: (swept / "mdm/table1" / name).read_bytes() for name in FILES} == first
    (row, *_) = csv.DictReader(io.StringIO(first["table.csv"].decode()))
    assert (row["data"], row["stands_for"], row["row"], row["n"]) == ("synthetic", "mosi", "none", "3")
    assert str(swept) not in "".join(text.decode() for text in first.values())
    main([*arguments, "--part", "tests"])
    parts = (swept / "mdm/table1/table.tex").read_text()
    assert parts != first["table.tex"].decode()
    assert "-tests}" in parts
    with pytest.raises(ValueError, match=r"--part is results, tests or both, got numbers"):
        main([*arguments, "--part=numbers"])


def test_the_command_line_says_which_test_stars(swept, capsys):
    """It is no part of the runs, whose folders and configs are the same."""
    arguments = [*EXPERIMENT, f"paths.outputs={swept}"]
    main([*arguments, "table.test=wilcoxon", "table.zeros=split"])
    printed = capsys.readouterr().out
    assert "☆ in MAE, declared beforehand: the runs differ from the row's baseline on this very test set" in printed
    assert "Pairs that do not differ give half of their rank to each side" in printed
    assert "n=3, 3 of them equal, cannot reach .05 in a family of" in printed  # made of the same errors
    with pytest.raises(ValueError, match=r"table\.test: expected one of crossed, mann_whitney, sign_flip, wilcoxon, got 'welch'"):
        main([*arguments, "table.test=welch"])
    with pytest.raises(ValueError, match=r"only data, seed, model and penalty choose among them, got table\.test=wilcoxon,crossed"):
        main([*arguments, "table.test=wilcoxon,crossed"])


def test_the_command_refuses_records_of_other_settings(swept, capsys):
    arguments = [*EXPERIMENT, f"paths.outputs={swept}"]
    config = next(swept.rglob("kl/**/seed=1/config.yaml"))
    record = records.read_record(config.parent)
    config.write_text(config.read_text().replace("batch_size: 32", "batch_size: 16"))
    records.seal(config.parent, record)
    with pytest.raises(ValueError, match=r"config of kl on synthetic, recorded → declared, data\.batch_size: 16 → 32"):
        main(arguments)
    assert not (swept / "mdm/table1/table.md").exists()
    main([*arguments, "mixed=true"])
    assert "MIXED, as asked for. Records differ in config of kl on synthetic" in capsys.readouterr().out


def test_what_the_script_does_not_know(capsys):
    with pytest.raises(ValueError, match="mixed is true or false, got mixed=maybe"):
        main(["experiment=mdm/table1", "mixed=maybe"])
    with pytest.raises(ValueError, match="single has no table"):
        main([])
    main(["--help"])
    assert "mixed=true" in capsys.readouterr().out
