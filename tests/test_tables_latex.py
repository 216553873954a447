"""A table as LaTeX: whole rows, aligned numbers, parts, and what a real LaTeX says of every table of every paper."""

import math
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_tables import BETTER, NONE, Outputs, declare_table, rows

from mdm.compose import use_configs
from mdm.reference import read_rows
from mdm.study import read_experiment
from mdm.sweeps.experiment import Row
from mdm.tables.build import build_sheet
from mdm.tables.escapes import escape_latex
from mdm.tables.latex import Cells, render_latex, split_columns

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def outputs(tmp_path):
    return Outputs(tmp_path)


def test_latex_has_whole_rows_and_escapes(outputs):
    outputs.fill({"none": NONE, "kl": BETTER})
    text = render_latex(outputs.sheet(declare_table(rows(x=Row("x", "50 % & L_kl^{2}~#", ("penalty=f",))), notes="α → ∞")))
    assert r"50 \% \& $L_{kl}$\textasciicircum{}\{2\}\textasciitilde{}\#" in text
    assert r"$\alpha$ $\rightarrow$ $\infty$" in text
    assert re.sub(r"\\[{}]", "", text).count("{") == re.sub(r"\\[{}]", "", text).count("}")
    assert text.count(r"\begin") == text.count(r"\end")
    tables = re.findall(r"\\begin{tabular}{([^\n]*)}\n\\toprule\n(.*?)\\bottomrule", text, re.DOTALL)
    assert len(tables) > 1
    for preamble, body in tables:
        columns = re.findall(r"p\{\d+pt\}|S\[[^]]*\]|r|l", re.sub(r"@\{[^}]*\}|>\{\\raggedright\\arraybackslash\}", "", preamble))
        for line in filter(lambda line: line.endswith(r"\\"), body.splitlines()):
            spanned = sum(int(found) - 1 for found in re.findall(r"\\multicolumn{(\d)}", line))
            alone = line.startswith(r"\textit{against")  # names those below it
            assert alone or len(re.findall(r"(?<!\\)&", line)) + 1 + spanned == len(columns)
    assert r"\bfseries 0.590 & $\pm$ 0.061$^{\star}$" in text


def test_latex_aligns_numbers_by_their_longest():
    """One that is negative, three digits before the point and two behind; what is no number is set as it is."""
    cells = Cells("MAE", ("−10.25", "100.5", "–"), ("$\\pm$ 0.1", "", ""))
    assert cells.format == r"S[table-format=-3.2]@{\,}l"
    assert [cells.render(row) for row in range(3)] == [r"-10.25 & $\pm$ 0.1", "100.5 & ", "{--} & "]
    assert cells.render_head() == r"\multicolumn{2}{c}{MAE}"
    assert Cells("n", ("3/5", "cited")).format == "r"


def test_columns_that_do_not_fit_go_below():
    """A column of 40 characters is 40 · 4.3 + 6 = 178 points wide: one fits in 340 points, three are three tabulars."""
    wide = [Cells("x", ("1" * 40,)) for _ in range(3)]
    assert [column.width for column in wide] == [pytest.approx(178)] * 3
    assert [len(group) for group in split_columns(wide, 340)] == [1, 1, 1]
    assert [len(group) for group in split_columns(wide, 360)] == [2, 1]


def test_the_parts_of_latex_are_floats_of_their_own(outputs):
    """Both are the results and the tests; each float has a label, and the prose below refers to it."""
    outputs.fill({"none": NONE, "kl": BETTER})
    sheet = outputs.sheet(declare_table())
    both, results, tests = (render_latex(sheet, part) for part in ("both", "results", "tests"))
    assert [re.findall(r"\\label\{(.*?)\}", text) for text in (both, results, tests)] == [
        ["tab:t", "tab:t-tests"],
        ["tab:t"],
        ["tab:t-tests"],
    ]
    assert "against the baseline" not in results
    assert "test mean" not in tests
    assert set(both.splitlines()) == set(results.splitlines()) | set(tests.splitlines())


needs_latex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex")


def find_faults(texts, layout, folder):
    """What a real LaTeX complains of: boxes that are too wide or floats that are too long, errors, labels that are not there."""
    packages = r"\usepackage[T1]{fontenc}\usepackage{booktabs,siunitx,amssymb}"
    body = "\n\\clearpage\n".join(texts)
    (folder / "all.tex").write_text(
        f"\\documentclass[{layout}]{{article}}{packages}\n\\begin{{document}}\n{body}\\end{{document}}\n"
    )
    for _ in range(2):  # labels are known to the second
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
        subprocess.run(command, cwd=folder, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    log = (folder / "all.log").read_text(errors="replace")
    assert "Output written on all.pdf" in log, log[-2000:]
    return re.findall(r"Overfull.*|.*too large.*|^! .*|.*undefined.*", log, re.MULTILINE)


@needs_latex
@pytest.mark.parametrize("layout", ["", "twocolumn"])
def test_a_table_compiles_in_both_layouts(outputs, layout, tmp_path):
    outputs.fill({"none": NONE, "kl": BETTER})
    sheet = outputs.sheet(
        declare_table(rows(x=Row("x", "50 % & L_λ^{2}~#", ("penalty=f",)), y=Row("y", "MMIM + NCE + CPC", ("penalty=hsic",))))
    )
    assert find_faults([render_latex(sheet)], layout, tmp_path) == []


def plant_values(sheet, rng):
    """Ten values in each cell of ours, about what is printed."""
    blocks = []
    for block in sheet.blocks:
        decimals = {column.metric: column.decimals for column in block.columns}
        lines = []
        for line in block.lines:
            entries = dict(line.entries)
            for name, entry in line.entries.items() if line.runs else ():
                scale = 1.0 if decimals[name] < 3 else 0.02
                middle = entry.printed.number if entry.printed and not math.isnan(entry.printed.number) else 70 * scale
                values = dict(enumerate(middle + scale * rng.normal(size=10)))
                entries[name] = replace(entry, values=values, best=bool(rng.random() < 0.2))
            lines.append(replace(line, entries=entries))
        blocks.append(replace(block, lines=tuple(lines)))
    return replace(sheet, blocks=tuple(blocks))


@needs_latex
@pytest.mark.slow
def test_every_table_of_every_paper_compiles_in_both_layouts(tmp_path):
    rng, texts = np.random.default_rng(0), []
    experiments = ROOT / "configs" / "experiment"
    with use_configs(()):
        for path in sorted(experiments.rglob("*.yaml")):
            name = str(path.relative_to(experiments).with_suffix(""))
            if name.startswith(("base", "search")):
                continue
            try:
                study = read_experiment([f"experiment={name}", f"paths.outputs={tmp_path}"], False)
            except ValueError as error:
                if "has no table" not in str(error):
                    raise
                continue
            texts.append(render_latex(plant_values(build_sheet(study.cfg.name, study.table, study.gathered, study.differing), rng)))
    assert len(texts) > 20
    for layout in ("", "twocolumn"):
        assert find_faults(texts, layout, tmp_path) == []


def test_latex_can_set_whatever_a_table_may_say():
    """Labels and notes of every experiment, and of the reference."""
    said = "".join(row["note"] + row["provenance"] + row["value"] for row in read_rows("results"))
    said += "".join(path.read_text(encoding="utf-8") for path in (ROOT / "configs" / "experiment").rglob("*.yaml"))
    said += "".join(path.read_text(encoding="utf-8") for path in (ROOT / "mdm" / "tables").glob("*.py") if path.stem != "escapes")
    left = {character for character in escape_latex(said) if ord(character) > 0xFF}
    assert left == set()
