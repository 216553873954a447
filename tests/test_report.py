"""The report against numbers done by hand, from records that were made up, and the command that writes it."""

import base64
import html
import re
import shutil

import pytest
from made_reports import ERRORS, ROWS, SEEDS, Outputs, write_outputs
from scipy import stats

from mdm.commands.report import main
from mdm.report import provenance
from mdm.report.differences import describe_block, draw_forest
from mdm.report.page import quote
from mdm.report.pictures import read_studies
from mdm.runs import records
from mdm.sweeps.experiment import Row


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return write_outputs(tmp_path_factory.mktemp("outputs"))


@pytest.fixture(scope="module")
def text(outputs):
    return outputs.page()


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
        main(["seed=0,1", f"paths.outputs={tmp_path}"])
    with pytest.raises(ValueError, match=r"has no run; train first, or say paths\.outputs"):
        main([f"paths.outputs={tmp_path}"])
