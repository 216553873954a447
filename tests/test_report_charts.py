"""The report's curves and charts: what is averaged, what is shown, and that no two share an id."""

import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from made_reports import write_outputs

from mdm.report import charts, curves
from mdm.runs import records
from mdm.tables.gather import Run


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return write_outputs(tmp_path_factory.mktemp("outputs"))


@pytest.fixture(scope="module")
def text(outputs):
    return outputs.page()


# Curves -------------------------------------------------------------------------------------------------


def a_curve(seed, chosen, **columns):
    values = {name.replace("__", "/"): np.array(value, dtype=np.float64) for name, value in columns.items()}
    return curves.Curve(seed, chosen, np.arange(len(next(iter(values.values()))), dtype=np.float64), values)


def test_means_end_where_the_first_seed_stopped():
    """Losses 4, 2 and 2, 0, 8: after epoch 1 only the run that went on is left, and it is no mean of both."""
    found = curves.summarise_seeds([a_curve(0, 1, train__task=[4, 2]), a_curve(1, 2, train__task=[2, 0, 8])], "train/task")
    assert {name: values.tolist() for name, values in found.items()} == {
        "epoch": [0, 1],
        "mean": [3, 1],
        "low": [2, 0],
        "high": [4, 2],
    }
    assert not len(curves.summarise_seeds([a_curve(0, 1, train__task=[4, 2])], "train/other")["mean"])


def test_estimates_are_shown_on_both_folds_and_metrics_only_if_chosen():
    """A record's validation numbers hold the penalties' estimates too; taken for metrics, training would pass for validation."""
    one = a_curve(
        0, 0, train__kl__estimate=[5], valid__kl__estimate=[-5], valid__mae=[1], valid__corr=[1], train__task=[1], seconds=[1]
    )
    found = curves.list_quantities([one, a_curve(1, 0, train__cpc_audio=[1])], ["mae"])
    assert found == {
        "task": ("train/task",),
        "mae": ("valid/mae",),
        "cpc_audio": ("train/cpc_audio",),
        "kl/estimate": ("valid/kl/estimate", "train/kl/estimate"),
    }
    names = [
        curves.name_quantity(name, ["mae", "acc2_pos"]) for name in ("task", "mae", "acc2_pos", "cpc_audio", "kl/term", "own/a_b")
    ]
    assert names[:3] == ["task loss on training batches", "validation MAE", "validation Acc-2 (pos), %"]
    assert names[3:] == ["cpc audio: the model's own term", "kl: term of the loss", "own: a b"]


def a_run(folder, epoch=1):
    return Run(0, folder, "finished", {"selected": {"epoch": epoch}, "test": {"mae": 1.0, "acc2_pos": 1.0}})


def test_a_curve_is_read_as_tables_show_it(tmp_path):
    """Accuracies in percent; what diverged is a gap, not the end of the scale."""
    records.write_table(
        tmp_path / records.CURVE, [{"epoch": float(e), "valid/acc2_pos": 0.5, "train/task": math.inf} for e in (0, 1)]
    )
    found = curves.read_curve(a_run(tmp_path))
    assert found.at_chosen("valid/acc2_pos") == 50.0
    assert np.isnan(found.columns["train/task"]).all()
    with pytest.raises(ValueError, match=r"A curve has the chosen epoch, but .*curve\.csv has no epoch 7; remove the folder"):
        curves.read_curve(a_run(tmp_path, epoch=7))
    with pytest.raises(ValueError, match=r"A run has a curve\.csv, but .* has none; restore it, or remove the folder"):
        curves.read_curve(a_run(tmp_path / "nowhere"))


# Charts -------------------------------------------------------------------------------------------------


def test_a_chart_belongs_to_a_page():
    """It is XML, without matplotlib's colours and style; whatever is referred to is in it, and no text was changed."""
    drawn = charts.draw_bands("a & b: 1; 2", [charts.Band("x: <y>", 1, *(np.array([0.0, 1.0, 2.0]) for _ in range(4)))])
    root = ET.fromstring(drawn)
    assert root.get("role") == "img"
    assert root.get("aria-label") == "a & b: 1; 2 by epoch: x: <y>"
    assert not {e.tag.split("}")[1] for e in root.iter()} & {"style", "metadata", "script", "image"}
    ids = {e.get("id") for e in root.iter()} - {None}
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', drawn)) == ids
    assert not [placeholder for placeholder in charts.PLACEHOLDERS.values() if placeholder in drawn]
    assert set(re.findall(r"#[0-9a-f]{6}\b", drawn)) <= {"#ffffff", "#000000"}
    assert "a & b: 1; 2" in [e.text for e in root.iter()]
    (line,) = [e for e in root.iter() if "row-1" in e.get("class", "") and e.find("{*}title") is not None]
    assert line.find("{*}title").text == "x: <y>: 0 in the first epoch, 2 in epoch 2"
    place = [float(v) for v in re.findall(r"[\d.]+", line.find("{*}path").get("d"))]
    assert place[2] - place[0] == pytest.approx(place[4] - place[2], abs=0.11)  # equal steps to the right,
    assert place[1] - place[3] == pytest.approx(place[3] - place[5], abs=0.11)  # and upwards
    assert place[5] < place[3] < place[1]


def test_no_two_charts_share_an_id_unless_they_are_the_same(text):
    found = re.findall(r' id="([^"]+)"', text)
    assert len(found) == len(set(found))


def test_beyond_eight_rows_lines_are_dashed():
    assert charts.find_colour(0) == charts.find_colour(8) != charts.find_colour(1)
    assert (charts.find_dash(0), charts.find_dash(8)) == ("-", "--")
