"""Another installed package brings a backbone, a penalty, a reader, a metric, a table's statistic, a study and configs, a
file each, and nothing of ours is edited.
"""

import csv
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import pytest
from scipy.stats import ttest_ind
from stranger import FILES

from mdm.formats import readers
from mdm.formats.prepare import formats, help_text
from mdm.runs import records
from mdm.statistics import verdicts
from mdm.statistics.verdicts import Statistic

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def site(tmp_path):
    """A folder of installed packages with magpie in it."""
    for name, text in FILES.items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.lstrip("\n"))
    return tmp_path / "site"


def test_a_package_is_prepared_and_trained_with(site, tmp_path, in_turn):
    here = tmp_path / "here"
    here.mkdir()
    with open(here / "birds.csv", "w", newline="", encoding="utf-8") as file:
        for fold, n in (("train", 24), ("valid", 12), ("test", 12)):
            csv.writer(file).writerows([[fold, i % 7 - 3, *(i * k % 5 for k in range(8))] for i in range(n)])
    said = in_turn(
        [
            ["prepare", "--help"],
            ["prepare", "format=magpie", "source=birds.csv", "out=data/nest", "options.scale=0.5"],
            ["train", "data=nest", "model=magpie", "penalty=peck", "trainer.max_epochs=2", "trainer.select=worst"],
            ["train", "-m", "experiment=birds", "table.test=welch"],
            ["table", "experiment=birds", "table.test=welch"],
            ["study", "experiment=birds", "study=perch"],
            ["train", "--help"],  # which ends the process
        ],
        here,
        [site, ROOT],
    )
    assert "\n  magpie\n      A CSV file: fold, label" in said
    assert "options: scale=1.0" in said
    assert "magbert, magpie, magxlnet" in said
    (folder,) = here.glob("outputs/single/nest/magpie/peck/trainer.max_epochs=2,trainer.select=worst/seed=0")
    record = records.read_record(folder)
    # 8 numbers → 6, and 6 → 1, with biases.
    assert record["parameters"] == {"backbone": 8 // 2 * 6 + 6 + 6 + 1, "critics": 0}
    assert (record["data"], record["model"], record["penalty"]) == ("nest", "magpie", "peck")
    predictions, curve = (records.read_table(folder, name) for name in (records.PREDICTIONS, records.CURVE))
    assert record["test"]["worst"] == pytest.approx((predictions.prediction - predictions.label).abs().max())
    assert record["valid"]["worst"] == curve["valid/worst"].min()
    check_table(here / "outputs/birds", said)
    assert "# Birds\n\n12 epochs.\n" in said
    assert {path.name for path in (here / "outputs/birds/perch").iterdir()} == {
        "epochs.csv",
        "summary.md",
        "figure.pdf",
        "figure.png",
    }


def check_table(folder, said):
    """The table's p is Welch's of what the runs recorded, and its words are the statistic's."""
    worst = {
        row: [records.read_record(path)["test"]["worst"] for path in sorted(folder.glob(f"nest/magpie/{row}/**/seed=*"))]
        for row in ("none", "peck")
    }
    assert [len(values) for values in worst.values()] == [3, 3]
    with open(folder / "table.csv", newline="", encoding="utf-8") as file:
        (compared,) = [row for row in csv.DictReader(file) if row["test"]]
    p = ttest_ind(worst["peck"], worst["none"], equal_var=False).pvalue
    assert compared["test"] == "welch"
    assert float(compared["p_welch"]) == pytest.approx(p)
    assert float(compared["p_holm"]) == pytest.approx(p)  # alone in its family
    assert compared["star"] == str(p < 0.05)
    assert "| Welch p |" in said
    assert "on this very test set, by the Welch test over seeds; another test set may not show it. The rule: p < .05" in said


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("csd", "magpie.files:read_magpie", r"Each format has one reader, but magpie\.files:read_magpie is declared as csd"),
        ("magpie", "nobody_has_this:x", r"magpie is an entry point of mdm\.formats, but nobody_has_this:x cannot be imported"),
        (
            "magpie",
            "json:loads",
            r"An entry point of mdm\.formats is a function \(source, .*\) -> Segments, but magpie = json:loads",
        ),
        ("magpie", "json:JSONDecoder", r"but magpie = json:JSONDecoder is none"),
    ],
)
def test_a_declared_format_that_is_none(monkeypatch, name, value, message):
    monkeypatch.setattr(readers, "entry_points", lambda group: [EntryPoint(name, value, group)])
    with pytest.raises(ValueError, match=message):
        formats()
    with pytest.raises(ValueError, match=message):
        help_text()


class Nameless(Statistic):
    def compute_p(self, found):
        return 1.0


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("welch", "nobody_has_this:x", r"welch is an entry point of mdm\.statistics, but nobody_has_this:x cannot be imported"),
        ("welch", "json:JSONDecoder", r"is a concrete subclass of .*Statistic, .* but welch = json:JSONDecoder is not"),
        ("welch", "mdm.statistics.verdicts:Statistic", r"but welch = mdm\.statistics\.verdicts:Statistic is not"),
        ("welch", f"{__name__}:Nameless", r"but welch = .*:Nameless is not"),
        ("crossed", "mdm.statistics.verdicts.wilcoxon:Wilcoxon", r"under a name of its own, but crossed = .*:Wilcoxon is not"),
    ],
)
def test_a_declared_statistic_that_is_none(monkeypatch, name, value, message):
    monkeypatch.setattr(verdicts, "entry_points", lambda group: [EntryPoint(name, value, group)])
    monkeypatch.setitem(sys.modules, __name__, SimpleNamespace(Nameless=Nameless))
    verdicts.declared_statistics.cache_clear()
    with pytest.raises(ValueError, match=message):
        verdicts.find_statistic("crossed")
    verdicts.declared_statistics.cache_clear()


def test_every_statistic_is_found_by_its_file():
    folder = Path(verdicts.__file__).parent
    names = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
    assert set(verdicts.list_statistics()) == names
    assert verdicts.DEFAULT in names
    with pytest.raises(ValueError, match=r"table\.test: expected one of crossed, .*wilcoxon, got 'welch'; choose one of them\."):
        verdicts.find_statistic("welch")
