"""The report against numbers done by hand, from records that were made up, and in a real browser where there is one."""

import base64
import html
import json
import math
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from scipy import stats

from mdm.commands.report import main
from mdm.metrics import evaluate
from mdm.report import charts, curves, provenance
from mdm.report.differences import describe_block, draw_forest
from mdm.report.page import quote, render_page
from mdm.report.pictures import read_studies
from mdm.runs import claims, records
from mdm.studies import Frames
from mdm.studies._write import write_figure
from mdm.studies.robustness import Robustness
from mdm.study import Experiment
from mdm.sweeps.experiment import Row, Table, list_cells
from mdm.tables.build import build_sheet
from mdm.tables.gather import Run, gather_runs

ROOT = Path(__file__).resolve().parents[1]
SEEDS = 6
LABEL = np.array([-2.0, -1.0, 1.0, 2.0] * 3)
ERRORS = {"none": [0.80 + 0.01 * s for s in range(SEEDS)], "kl": [0.50 + 0.02 * s for s in range(SEEDS)]}
ROWS = {
    "none": Row("none", "<b>plain</b> & simple", ("penalty=none",)),
    "kl": Row("kl", "+ KL", ("penalty=kl",), baseline="none"),
}


def curve(seed, epochs, penalty):
    """Losses fall by a tenth an epoch; a penalty reads 5 on its rows and −5 on others, whose difference must not be lost."""
    for epoch in range(epochs):
        row = {"epoch": float(epoch), "train/task": 1.5 - 0.1 * epoch + 0.01 * seed}
        if penalty == "kl":
            row |= {"train/kl/term": -0.5 * epoch}
        row |= {"valid/mae": 1.4 - 0.1 * epoch + 0.01 * seed, "valid/corr": 0.5, "valid/acc2_pos": 0.75}
        if penalty == "kl":
            row |= {"valid/kl/estimate": -5.0, "train/kl/estimate": 5.0}
        yield {**row, "seconds": 1.0}


class Outputs:
    """Records of an experiment ``t`` with two rows. Seed s trains 5 + s epochs; the last of them is chosen."""

    def __init__(self, root):
        self.root = root

    def place(self, run):
        at = dict(override.split("=", 1) for override in run)
        config = {"name": "t", "seed": int(at["seed"]), "trainer": {"max_epochs": 8, "patience": 3}, "penalty": at["penalty"]}
        return self.root / "t" / at["data"] / at["penalty"] / f"seed={at['seed']}", config

    def write(self, penalty, seed, data="synthetic"):
        folder, config = self.place([f"data={data}", f"penalty={penalty}", f"seed={seed}"])
        prediction = (LABEL + ERRORS[penalty][seed])[:, None]
        metrics = evaluate(prediction, LABEL[:, None], (-3.0, 3.0), ("sentiment",))
        epochs = min(5 + seed, 8)
        record = {"data": data, "seed": seed, "test": metrics, "test_of_train_mean": {**metrics, "corr": None}, "synthetic": True}
        record |= {
            "valid_of_train_mean": {"mae": 99.0},
            "valid": metrics | ({"kl/estimate": -5.0} if penalty == "kl" else {}),
            "label_range": [-3.0, 3.0],
        }
        record |= {"selected": {"by": "valid/mae", "epoch": epochs - 1, "epochs": epochs}, "seconds": 30.0 + seed}
        record |= {
            "folds": {"train": 400, "valid": 100, "test": 12},
            "modalities": ["language", "audio"],
            "commit": "0123456789abc",
        }
        record |= {
            "parameters": {"backbone": 1234, "critics": 0 if penalty == "none" else 56},
            "truth": {"total_correlation": 4.3586},
        }
        record |= {
            "uncommitted_changes": False,
            "versions": {"torch": "2.9"},
            "machine": {"threads": 1},
            "data_card": f"{data}-card",
        }
        folder.mkdir(parents=True)
        records.write_atomically(folder / records.CONFIG, claims.dump({**config, "data_card": f"{data}-card"}))
        records.write_table(folder / records.CURVE, list(curve(seed, epochs, penalty)))
        table = zip([f"s{i}" for i in range(len(LABEL))], LABEL.tolist(), prediction[:, 0].tolist(), strict=True)
        found = [{"id": i, "group": i, "label": label, "prediction": value} for i, label, value in table]
        records.finish(folder, record, found)
        return folder

    def read(self, seeds=SEEDS, rows=ROWS, **judged):
        columns = {"mosi": {"mae": "mae", "acc2_pos": ""}}
        declared = Table("A <title>", seeds, {"synthetic": "mosi"}, columns, {"mosi": "mae"}, rows, **judged)
        gathered = gather_runs(list_cells(declared, ()), self.place)
        return build_sheet("t", declared, gathered), gathered

    def page(self):
        return render_page(*self.read(), self.root / "t", ["experiment=t", "seed=range(6)", "paths.outputs=/some/where"])


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """All runs of both rows, with two studies."""
    made = Outputs(tmp_path_factory.mktemp("outputs"))
    for penalty in ERRORS:
        for seed in range(SEEDS):
            made.write(penalty, seed)
    drop(made.root / "t" / "robustness")
    disentangle(made.root / "t" / "codes")
    return made


@pytest.fixture(scope="module")
def text(outputs):
    return outputs.page()


def drop(folder):
    """As its study leaves it: without language .6 is left to ``none``, .7 to ``kl``; the seeds of both lie ±.01 about that."""
    folder.mkdir(parents=True)
    rows = []
    for row in ROWS.values():
        for seed in range(SEEDS):
            base = {
                "data": "synthetic",
                "row": row.name,
                "label": row.label,
                "seed": seed,
                "mae": 1.0,
                "corr": 0.5,
                "constant": False,
                "majority": 0.5,
            }
            rows.append({**base, "kept": "language+audio", "corruption": "none", "level": 0.0, "acc2_pos": 1.0, "ratio": 1.0})
            for corruption, level in (("absent", 1.0), ("noise", 0.5), ("noise", 1.0)):
                ratio = (0.6 if row.name == "none" else 0.7) + (0.01 if seed % 2 else -0.01)
                own = {"kept": "audio", "corruption": corruption, "level": level, "acc2_pos": ratio, "ratio": ratio}
                rows.append({**base, **own})
    study = Robustness([["audio"]], ["absent", "noise"], [0.5, 1.0])
    experiment = Experiment(OmegaConf.create(), Table("A title", SEEDS, {}, {}, {}, ROWS), [], [])
    frames = Frames({"runs": pd.DataFrame(rows)}, experiment, "What is left")
    frames = Frames({**frames.tables, **study.derive(frames)}, experiment, "What is left")
    (folder / "summary.md").write_text(study.summary(frames), encoding="utf-8")
    write_figure(folder, lambda: study.figure(frames))


def disentangle(folder):
    """As any study leaves it."""
    folder.mkdir(parents=True)
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1])
    figure.savefig(folder / "figure.png")
    told = "# Clouds\n\n## On *test*\n\n| of | R² |\n|---|---|\n| a <u>pair</u> | 0.5 |\n\nNot <script>alert()</script> obeyed.\n"
    (folder / "summary.md").write_text(told, encoding="utf-8")


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


# Words and numbers --------------------------------------------------------------------------------------


def test_differences_are_the_tables(outputs):
    """MAE .50 + .02 s less .80 + .01 s, in every video alike: the two-way t is that of seeds, its interval scipy's."""
    sheet, _ = outputs.read()
    low, high = stats.ttest_rel(ERRORS["kl"], ERRORS["none"]).confidence_interval(0.95)
    said = f"−0.275, simultaneous 95 % [−{-low:.3f}, −{-high:.3f}]"
    expected = f"★ in MAE, for new seeds and new videos: + KL is better than its baseline ({said})."
    assert describe_block(sheet.blocks[0], sheet) == expected
    drawn = html.unescape(draw_forest(sheet.blocks[0], sheet))
    assert f"95 % over seeds [−{-low:.4f}, −{-high:.4f}]" in drawn
    assert f"simultaneous 95 % over seeds and videos [−{-low:.4f}, −{-high:.4f}]" in drawn
    assert "left of the line is better" in drawn
    assert "★ + KL" in drawn


def test_intervals_are_those_of_the_whole_table(outputs):
    """With a second comparison declared, though it has not run, the first is at .05/2, in words and in the picture."""
    sheet, _ = outputs.read(rows={**ROWS, "f": Row("f", "+ F", ("penalty=f",), baseline="none")})
    low, high = stats.ttest_rel(ERRORS["kl"], ERRORS["none"]).confidence_interval(1 - 0.05 / 2)
    said = describe_block(sheet.blocks[0], sheet)
    assert f"+ KL is better than its baseline (−0.275, simultaneous 95 % [−{-low:.3f}, −{-high:.3f}])" in said
    assert said.endswith("Whether + F differs cannot be told: 0 of 6 seeds in both.")
    drawn = html.unescape(draw_forest(sheet.blocks[0], sheet))
    assert f"simultaneous 95 % over seeds and videos [−{-low:.4f}, −{-high:.4f}]" in drawn


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ("wilcoxon", "☆ in MAE, on this very test set (Wilcoxon): + KL is better than its baseline (−0.275, 96.9 % over seeds"),
        ("sign_flip", "☆ in MAE, on this very test set (sign-flip): + KL is better than its baseline (−0.275, 95 % over seeds"),
    ],
)
def test_a_star_over_seeds_is_called_that(outputs, test, said):
    """Six seeds: 2/2⁶ = .03125, and the interval of all shifts between the extremes covers with 1 − 2/2⁶."""
    sheet, _ = outputs.read(test=test)
    assert describe_block(sheet.blocks[0], sheet).startswith(said)
    assert "☆ + KL" in html.unescape(draw_forest(sheet.blocks[0], sheet))


def test_without_comparisons_there_is_no_picture_of_them(tmp_path):
    made = Outputs(tmp_path)
    made.write("none", 0)
    sheet = made.read()[0]
    assert draw_forest(sheet.blocks[0], sheet) == ""
    assert describe_block(sheet.blocks[0], sheet) == "Whether + KL differs cannot be told: 0 of 6 seeds in both."


def test_what_shows_no_difference_is_said_so(tmp_path, monkeypatch):
    made = Outputs(tmp_path)
    monkeypatch.setitem(ERRORS, "kl", [value + (0.01 if s % 2 else -0.01) for s, value in enumerate(ERRORS["none"])])
    for penalty in ERRORS:
        for seed in range(SEEDS):
            made.write(penalty, seed)
    sheet = made.read()[0]
    assert describe_block(sheet.blocks[0], sheet) == "No evidence in MAE that + KL differs from the baseline."


def test_what_few_seeds_cannot_tell_is_no_lack_of_evidence(tmp_path):
    """All three seeds are better by far: by the two-way t it cannot be told, and three signs give .25 at best."""
    made = Outputs(tmp_path)
    for penalty in ERRORS:
        for seed in range(3):
            made.write(penalty, seed)
    for test, why in (
        ("crossed", "3 paired runs, 5 are needed"),
        ("sign_flip", "n=3 cannot reach .05 in a family of 1 (smallest p .25)"),
    ):
        sheet = made.read(3, test=test)[0]
        assert describe_block(sheet.blocks[0], sheet) == f"Whether + KL differs cannot be told: {why}."


def test_how_it_was_run(outputs):
    """Seeds 3 to 5 of either row train all 8 epochs and choose the last: 6 of 12 runs. Seconds: 30 to 35, twice: 390."""
    sheet, gathered = outputs.read()
    protocol, code, data = (
        provenance.describe_protocol(sheet, gathered),
        provenance.describe_code(sheet),
        provenance.describe_data(sheet.blocks[0]),
    )
    assert ("checkpoint chosen by", "valid/mae") in protocol
    assert ("epochs trained", "7.5 (5 to 8)") in protocol
    assert ("chosen at the very end", "6 of 12 runs: with more epochs they might have gone further") in protocol
    assert ("time of all runs together", "6.5 min") in code
    assert ("seconds a run", "32.5 (30.0 to 35.0)") in code
    assert ("planted total correlation", "4.36 nats") in data
    assert ("segments", "train 400, valid 100, test 12") in data
    assert ("floor: always the training mean", "MAE 0.800, Acc-2 (pos) 100.0 %") in data
    assert provenance.build_run_rows(sheet.blocks[0])[1] == [
        "+ KL",
        "6/6",
        "7.5 (5 to 8)",
        "6.5 (4 to 7)",
        "32.5 (30.0 to 35.0)",
        "1,234",
        "56",
    ]
    settings = provenance.compare_settings(sheet.blocks[0], gathered)
    assert settings["others"] == [("+ KL", ["penalty: none → kl"])]
    assert [provenance.format_duration(s) for s in (3.21, 89, 91, 5000, 6000)] == ["3.2 s", "89 s", "1.5 min", "83.3 min", "1.7 h"]


def test_missing_and_failed_runs_are_on_the_page(tmp_path):
    made = Outputs(tmp_path)
    made.write("none", 0)
    folder = made.place(["data=synthetic", "penalty=kl", "seed=2"])[0]
    folder.mkdir(parents=True)
    (folder / records.ERROR).write_text("Traceback\nValueError: it <broke>\n")
    text = made.page()
    assert "<b>11 of 12 runs have no record.</b>" in text
    assert "ValueError: it &lt;broke&gt;" in text
    assert text.count("mdm study experiment=t &#39;seed=range(6)&#39;") == 1
    assert "/some/where" not in text


def test_with_no_run_at_all_there_is_still_a_page(tmp_path):
    text = Outputs(tmp_path).page()
    assert "12 of 12 runs have no record." in text
    assert "No run has finished." in text


# Studies ------------------------------------------------------------------------------------------------


def test_a_study_is_shown_as_it_was_made(outputs):
    """Kept ratio .6 and .7, equal deviations: a difference of .1 in every pair, so its interval is a point and p is 2/2⁶."""
    _, part = read_studies(outputs.root / "t")
    assert (part["id"], part["title"]) == ("robustness", "What is left")
    picture = base64.b64decode(part["picture"].removeprefix("data:image/png;base64,"))
    assert picture == (outputs.root / "t" / "robustness" / "figure.png").read_bytes()
    for cell in ("0.700 [0.689, 0.711]", "+0.100 [+0.100, +0.100], p 0.031", "synthetic, removed: absent (no step at all)"):
        assert cell in part["summary"]


def test_studies_in_any_words(outputs, tmp_path):
    """Not one that was broken off before its picture."""
    assert read_studies(tmp_path) == []
    shutil.copytree(outputs.root / "t" / "codes", tmp_path / "broken")
    (tmp_path / "broken" / "figure.png").unlink()
    assert read_studies(tmp_path) == []
    part, _ = read_studies(outputs.root / "t")
    assert (part["id"], part["title"]) == ("codes", "Clouds")
    assert base64.b64decode(part["picture"].removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")
    for line in ("<h4>On <em>test</em></h4>", "<td>0.5</td>", "<td>a &lt;u&gt;pair&lt;/u&gt;</td>", "Not &lt;script&gt;"):
        assert line in part["summary"]
    assert part["summary"].count('<div class="wide" tabindex="0"><table>') == 1


# The page -----------------------------------------------------------------------------------------------


def test_the_page_loads_nothing_and_escapes_everything(text):
    assert "default-src 'none'" in text
    assert not re.findall(r'(?:src|href)="(?!#|data:image/png;base64,)', text)
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert "url(" not in re.sub(r"url\(#", "", text)
    assert "@import" not in text
    assert "<b>plain" not in text
    assert "<u>pair" not in text
    assert "A &lt;title&gt;" in text


def test_the_page_has_every_part(text):
    for heading in ("Results", "Training", "Studies", "How it was run"):
        assert f"<h2>{heading}</h2>" in text
    titles = [html.unescape(label) for label in re.findall(r'aria-label="([^"]+ a line a seed[^"]*)"', text)]
    assert sum("kl: estimate" in title for title in titles) == 1
    assert sum("kl: term of the loss" in title for title in titles) == 1
    assert sum("task loss" in title for title in titles) == 2
    assert text.count(": epoch 4 chosen") >= 2  # seed 0 of either row


def test_made_again_it_is_the_same_to_the_byte(outputs, text):
    assert outputs.page() == text


def test_arguments_as_a_shell_takes_them():
    assert [quote(a) for a in ("data=mosi", "seed=range(3)", "a=[1,2]", "a={b:1}")] == [
        "data=mosi",
        "'seed=range(3)'",
        "'a=[1,2]'",
        "'a={b:1}'",
    ]


# In a browser -------------------------------------------------------------------------------------------

BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)

PROBE = """<script>
const root = document.documentElement;
const out = {width: innerWidth, client: root.clientWidth, scroll: root.scrollWidth, shown: 0, empty: []};
for (const chart of document.querySelectorAll("svg.chart")) {
  if (!chart.getClientRects().length) continue;
  const box = chart.getBBox();
  if (box.width > 50 && box.height > 30 && chart.querySelectorAll("path").length > 3) out.shown++;
  else out.empty.push(chart.getAttribute("aria-label"));
}
const rows = () => [...document.querySelectorAll(".row")].filter(row => !row.hidden).map(row => row.id);
const select = document.querySelector(".chooser select");
out.before = rows();
select.value = select.options[1].value;
select.dispatchEvent(new Event("change", {bubbles: true}));
out.row = rows();
const key = document.querySelector(".keys button"), mark = document.querySelector(".curves ." + key.dataset.row);
key.click();
out.toggled = [key.getAttribute("aria-pressed"), getComputedStyle(mark).display];
key.click();
out.again = [key.getAttribute("aria-pressed"), getComputedStyle(mark).display !== "none"];
const paint = getComputedStyle(document.body);
out.dark = matchMedia("(prefers-color-scheme: dark)").matches;
out.page = paint.backgroundColor;
out.chart = getComputedStyle(document.querySelector("svg.chart text")).fill;
out.pictures = [...document.images].map(image => image.naturalWidth > 0 && image.getBoundingClientRect().width > 200);
out.requests = performance.getEntriesByType("resource").map(entry => entry.name);
parent.document.documentElement.dataset.found = JSON.stringify(out);
</script></body>"""


def looked_at(path, text, profile, extra="", flags=()):
    """What a browser makes of a page 390 pixels wide, and what it says on its console.

    The page is a frame, as no window of the browser is narrower than 500.
    """
    framed = html.escape(text.replace("</body>", extra + PROBE))
    frame = f'<iframe style="width: 390px; height: 844px; border: 0" srcdoc="{framed}"></iframe>'
    path.write_text(f'<!doctype html><html><head><meta charset="utf-8"></head><body>{frame}</body></html>', encoding="utf-8")
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=800,900", f"--user-data-dir={profile}"]
    command += ["--enable-logging=stderr", "--v=0", "--virtual-time-budget=2000", "--dump-dom", *flags, path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'data-found="([^"]*)"', done.stdout)
    assert found, done.stderr[-2000:]
    return json.loads(html.unescape(found[1])), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on this machine")
def test_in_a_browser_on_a_phone(text, tmp_path):
    found, console = looked_at(tmp_path / "page.html", text, tmp_path / "profile")
    assert console == []
    assert found["requests"] == []
    assert found["width"] == 390
    assert found["scroll"] == found["client"]
    assert found["empty"] == []
    assert found["pictures"] == [True, True]
    # 1 of differences, 3 together, 3 of the first row alone
    assert found["shown"] == 7
    assert (found["before"], found["row"]) == (["curves-0-0"], ["curves-0-1"])
    assert (found["toggled"], found["again"]) == (["false", "none"], ["true", True])


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on this machine")
def test_dark_where_the_reader_has_it_dark(text, tmp_path):
    """Page and text of charts change places: light on dark by more than half of the scale, and the other way round."""
    for name, setting, sign in (("dark", 0, 1), ("light", 1, -1)):
        flags = [f"--blink-settings=preferredColorScheme={setting}"]
        found, _ = looked_at(tmp_path / f"{name}.html", text, tmp_path / name, flags=flags)
        page, chart = ([int(v) for v in re.findall(r"\d+", found[what])[:3]] for what in ("page", "chart"))
        assert found["dark"] == (name == "dark")
        assert sign * (np.mean(chart) - np.mean(page)) > 128


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on this machine")
def test_the_browser_would_see_what_is_wrong(text, tmp_path):
    """The test above can fail: an error, a request and something wide are planted."""
    bad = '<div style="width: 2000px">wide</div><img src="http://127.0.0.1:9/x.png"><script>nowhere.to();</script>'
    found, console = looked_at(tmp_path / "page.html", text, tmp_path / "profile", bad)
    assert found["scroll"] > found["client"]
    assert any("nowhere is not defined" in line for line in console)
    assert any("Content Security Policy" in line for line in console)


# The command ---------------------------------------------------------------------------------------------


def test_the_command_writes_one_file(tmp_path, capsys):
    main(["experiment=mdm/table1", "data=synthetic", "seed=0,1", f"paths.outputs={tmp_path}"])
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()] == ["mdm/table1/report.html"]
    assert "report.html: 0 of 8 runs" in capsys.readouterr().out
    assert "'seed=0,1'" in html.unescape((tmp_path / "mdm/table1/report.html").read_text())


def test_the_command_refuses_what_it_does_not_know(tmp_path):
    with pytest.raises(ValueError, match="mixed is true or false, got mixed=perhaps"):
        main(["experiment=mdm/table1", "mixed=perhaps"])
    with pytest.raises(ValueError, match="A table is declared by an experiment, but single has no table"):
        main([f"paths.outputs={tmp_path}"])
