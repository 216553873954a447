"""The papers' printed values: as they were printed, by keys that exist."""

import csv
import math
from importlib.resources import files

import numpy as np
import pytest

from mdm.metrics import evaluate_target
from mdm.reference import find_value, read_rows
from mdm.reference.printed import FILES, KEY, read_results


def test_every_file_is_read_as_text():
    """Row counts of the transcription; a number must not lose its printed decimals."""
    assert {name: len(read_rows(name)) for name in FILES} == {
        "papers": 5,
        "results": 1702,
        "settings": 344,
        "systems": 107,
        "figures": 23,
    }
    for name in FILES:
        assert all(isinstance(cell, str) for row in read_rows(name) for cell in row.values())
        with files("mdm.reference").joinpath(f"{name}.csv").open(encoding="utf-8") as file:
            lengths = {len(line) for line in csv.reader(file)}
        assert len(lengths) == 1


def test_the_key_is_unique():
    assert len({tuple(row[key] for key in KEY) for row in read_rows("results")}) == len(read_rows("results")) == len(read_results())


def test_a_value_is_as_printed():
    """Colombo et al., EMNLP 2021, Table 1, EF-LSTM on MOSI without penalty: 31.1, 76.1, 1.00, 0.65."""
    cells = {m: find_value("000", "T1", "mosi", "sentiment", "EF-LSTM", "none", m) for m in ("acc7", "acc2", "mae", "corr")}
    assert {name: cell.value for name, cell in cells.items()} == {"acc7": "31.1", "acc2": "76.1", "mae": "1.00", "corr": "0.65"}
    assert [cells["mae"].number, cells["mae"].decimals, cells["mae"].unit] == [1.0, 2, "absolute"]
    assert [cells["acc2"].number, cells["acc2"].decimals, cells["acc2"].unit] == [76.1, 1, "percent"]
    assert cells["mae"].provenance == "paper_run"
    assert cells["mae"].significant is None
    assert cells["mae"].flags == ()


def test_marks_of_significance():
    assert find_value("000", "T1", "mosei", "sentiment", "EF-LSTM", "kl", "mae").significant is True
    assert find_value("000", "T1", "mosei", "sentiment", "EF-LSTM", "kl", "acc7").significant is False


def test_a_dash_is_not_a_printed_nan():
    """Tsai et al., supplement Table 2, has a dash for RF's MAE; Han et al., Table 4, prints NaN without history data."""
    dash = find_value("003", "ST2", "mosi", "sentiment", "RF", "", "mae")
    nan = find_value("001", "T4", "mosei", "sentiment", "MMIM", "w/o history data", "mae")
    assert [dash.value, nan.value] == ["", "NaN"]
    assert math.isnan(dash.number)
    assert math.isnan(nan.number)


def test_flags_say_what_is_doubtful():
    """A MAE that contradicts its paper's text, and a row with two flags."""
    (flag,) = find_value("000", "T1", "mosi", "sentiment", "EF-LSTM", "f", "mae").flags
    assert flag.startswith("text sec. 5.1 says a MDM penalty gives stronger performance")
    two = [row for row in read_rows("results") if row["note"].count("FLAG:") == 2]
    cell = read_results()[tuple(two[0][key] for key in KEY)]
    assert len(cell.flags) == 2
    assert not any("FLAG" in flag for flag in cell.flags)
    assert not any(flag.endswith(";") for flag in cell.flags)


def test_pairs_of_a_constant_prediction_are_flagged():
    """A constant prediction of a class of share a has accuracy a and weighted F1 2a²/(1 + a): 43 of the 48 pairs of HCRFs on
    IEMOCAP, within the .12 that rounding to .1 allows, are those of a class whose share the Majority row prints."""
    pairs = {}
    for row in read_rows("results"):
        if (row["paper"], row["table"]) == ("003", "ST3") and row["model"].endswith("HCRF"):
            pairs.setdefault((row["model"], row["target"]), {})[row["metric"]] = row
    constant = []
    for (_, target), pair in pairs.items():
        a, f1 = float(pair["acc2"]["value"]), float(pair["f1"]["value"])
        share = find_value("003", "ST3", "iemocap", target, "Majority", "", "acc2").number
        of_class = min(abs(a - share), abs(100 - a - share)) < 0.15
        if of_class and abs(2 * a * a / (100 + a) - f1) <= 0.12:
            constant.append(pair)
    assert (len(constant), len(pairs)) == (43, 48)
    for cell in (cell for pair in constant for cell in pair.values()):
        assert "constant prediction" in cell["note"] or "degenerate predictor" in cell["note"]


def test_numbers_that_two_systems_share_are_flagged():
    """GPFN and GraphCAGE in Qian et al.'s Table 1; "Majority" of MOSI in Tsai et al., which Liu et al. print as an SVM."""
    for metric in ("mae", "corr"):
        cells = [find_value("004", "T1", "mosi", "sentiment", model, "", metric) for model in ("GPFN", "GraphCAGE")]
        assert cells[0].value == cells[1].value
        assert all("GPFN and GraphCAGE have the same MAE" in cell.flags[-1] for cell in cells)
    assert "those of an SVM" in find_value("003", "ST2", "mosi", "sentiment", "Majority", "", "mae").flags[-1]


def test_in_every_table_each_row_meets_each_column():
    """So a key whose parts all exist has a cell: rows times columns, summed over the tables, are as many as the cells."""
    cells = 0
    for table in {(row["paper"], row["table"]) for row in read_rows("results")}:
        here = [row for row in read_rows("results") if (row["paper"], row["table"]) == table]
        rows = {(row["model"], row["penalty_or_variant"]) for row in here}
        columns = {(row["dataset"], row["target"], row["metric"]) for row in here}
        cells += len(rows) * len(columns)
    assert cells == len(read_rows("results"))


def test_percent_are_accuracies_and_f1():
    """What `mdm.tables` shows in percent, by the names of our metrics, the papers print in percent too."""
    ends = np.array([-1.0, 1.0])
    ours = set(evaluate_target(ends, ends, (-3, 3)))
    assert {"mae", "corr", "acc7", "acc2_pos", "f1_nonneg"} <= ours
    for row in read_rows("results"):
        assert (row["unit"] == "percent") == row["metric"].startswith(("acc", "f1")), row


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"paper": "005"}, r"Paper 005 prints no table='T1'; the papers are 000, Colombo et al., EMNLP 2021; 001, Han et al"),
        ({"table": "T9"}, r"Paper 000 \(Colombo et al\., EMNLP 2021\) prints no table='T9'; it prints table='T1'; table='T2'\."),
        ({"model": "EFLSTM"}, r"prints no model='EFLSTM' penalty_or_variant='none' in T1; it prints model='EF-LSTM' penalty_or_"),
        ({"penalty_or_variant": "W"}, r"prints no model='EF-LSTM' penalty_or_variant='W' in T1"),
        ({"metric": "acc2_pos"}, r"metric='acc2_pos' in T1; the nearest are dataset='mosi' target='sentiment' metric='acc2';"),
        ({"dataset": "pom"}, r"prints no dataset='pom' target='sentiment' metric='mae' in T1"),
    ],
)
def test_a_key_that_matches_nothing_names_the_nearest(change, message):
    key = dict(zip(KEY, ("000", "T1", "mosi", "sentiment", "EF-LSTM", "none", "mae"), strict=True))
    with pytest.raises(ValueError, match=message):
        find_value(**{**key, **change})


def test_another_file():
    with pytest.raises(ValueError, match="is in papers, results, settings, systems, figures, but prices was asked for"):
        read_rows("prices")
