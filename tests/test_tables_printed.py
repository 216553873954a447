"""The paper's side of a table: what was printed, what is doubtful in it, and what it claims."""

import re

import pytest
from made_tables import BETTER, METRICS, NONE, Outputs, declare_table, lines_of, rows

from mdm.reference import read_rows
from mdm.sweeps.experiment import Row
from mdm.tables.build import find_columns
from mdm.tables.caption import render_caption
from mdm.tables.latex import render_latex
from mdm.tables.markdown import render_markdown
from mdm.tables.page import render_page


@pytest.fixture
def outputs(tmp_path):
    return Outputs(tmp_path)


def test_systems_that_are_not_built_show_what_was_printed(outputs):
    """Han et al., EMNLP 2021, Table 2, MOSI: ICCN is cited from Hazarika et al. there."""
    table = declare_table(
        {"none": Row("none", "ours", ("penalty=none",)), "iccn": Row("iccn", "ICCN", paper={"model": "ICCN"})},
        paper={"paper": "001", "table": "T2"},
        metrics={"mosi": {"mae": "mae", "acc2_pos": "acc2_pos"}},
    )
    outputs.fill({"none": NONE})
    sheet = outputs.sheet(table)
    line = lines_of(sheet)["iccn"]
    printed = {
        r["metric"]: r["value"]
        for r in read_rows("results")
        if (r["paper"], r["table"], r["dataset"], r["model"]) == ("001", "T2", "mosi", "ICCN")
    }
    assert re.search(rf"\| \*ICCN\* +\| cited \| {printed['mae']} +\| {printed['acc2_pos']} ", render_markdown(sheet))
    assert line.contrast is None
    assert any("cited there from Hazarika et al. (2020): ICCN" in said for said in render_caption(sheet))
    assert "\\textit{ICCN}" in render_latex(sheet)
    assert 'class="cited"' in render_page(sheet)


def test_doubtful_values_have_footnotes(outputs):
    """A MAE of Colombo et al. with a flag of its own; a row of Tsai et al.'s all of whose values are flagged has it on its name."""
    f = Row("f", "+ f", ("penalty=f",), paper={"model": "EF-LSTM", "penalty_or_variant": "f"}, note="a note of the row")
    outputs.fill({"none": NONE, "kl": BETTER, "f": BETTER})
    sheet = outputs.sheet(declare_table(rows(f=f)))
    line = lines_of(sheet)["f"]
    assert (line.marks, line.entries["mae"].marks, line.entries["acc2_pos"].marks) == ((1,), (2,), ())
    assert sheet.footnotes[0] == "a note of the row"
    assert sheet.footnotes[1].startswith("text sec. 5.1 says")
    text = render_markdown(sheet)
    assert re.search(r"\| \+ f \[1\]", text)
    assert re.search(r"1\.02 \(−0\.430\) \[2\]", text)
    assert "[2] text sec. 5.1" in text
    assert "[2] text sec. 5.1" in render_latex(sheet)


def test_a_flag_of_all_values_of_a_row_is_on_its_name(outputs):
    """Shankar, ACL 2022, Table 2: every cell of the MFN row is flagged for its likeness to Colombo et al. (2021), with one text."""
    mfn = Row("mfn", "MFN", paper={"model": "MFN", "penalty_or_variant": "none"})
    table = declare_table({"none": Row("none", "ours", ("penalty=none",)), "mfn": mfn}, paper={"paper": "002", "table": "T2"})
    line = lines_of(outputs.sheet(table))["mfn"]
    assert line.marks == (1,)
    assert all(entry.marks == () for entry in line.entries.values())
    assert re.search(r"\| \*MFN\* \[1\] +\| cited \| 1\.01 +\| 76\.6 ", render_markdown(outputs.sheet(table)))


def test_significance_that_the_paper_claims_is_marked(outputs):
    """Colombo et al., EMNLP 2021, Table 1 underlines the MAE of KL on MOSEI, .70."""
    outputs.fill({"none": NONE, "kl": BETTER})
    text = render_markdown(outputs.sheet(declare_table(data={"synthetic": "mosei"})))
    assert "0.70† (−0.110)" in text
    assert "†: significant, says the paper." in text


@pytest.mark.parametrize(
    ("paper", "message"),
    [
        ({"model": "EFLSTM"}, r"table\.rows\.none\.paper: Paper 000 \(Colombo et al\., EMNLP 2021\) prints no model='EFLSTM'"),
        ({"penalty_or_variant": "none"}, r"but table\.paper and table\.rows\.none\.paper lack model; correct them"),
        ({"model": "EF-LSTM", "colour": "red"}, r"have also colour; correct them"),
    ],
)
def test_keys_that_match_nothing(outputs, paper, message):
    with pytest.raises(ValueError, match=message):
        outputs.sheet(declare_table({"none": Row("none", "x", ("penalty=none",), paper=paper)}))


def test_columns_of_data_that_are_not_declared():
    """One set of columns for all stands for any data; of several, nobody knows which."""
    same = declare_table(data={"synthetic": "mosi", "synthetic_mosei": "mosei"})
    stands_for, columns = find_columns(same, "gaussian")
    assert (stands_for, [(c.metric, c.printed) for c in columns]) == ("gaussian", [("mae", ""), ("acc2_pos", "")])
    assert [c.printed for c in find_columns(same, "mosei")[1]] == ["mae", "acc2"]
    other = declare_table(metrics={"mosi": METRICS, "pom": {"mae": "mae"}})
    with pytest.raises(ValueError, match=r"of this table differ between mosi, pom, so those of data=gaussian are unknown"):
        find_columns(other, "gaussian")


def test_a_row_that_exists_for_other_data_is_left_out(outputs):
    only = Row("pom", "for POM", ("penalty=f",), only=("pom",), paper={"model": "nowhere"})
    outputs.fill({"none": NONE, "kl": BETTER})
    assert list(lines_of(outputs.sheet(declare_table(rows(pom=only))))) == ["none", "kl"]
