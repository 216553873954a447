"""The study of factors on a run of a second: what it reads, finds at once in two processes, and refuses."""

import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from made_factors import SMALL, WIDTHS, build_untrained

from mdm.commands.study import main
from mdm.data import lexicon
from mdm.data.lexicon import VOCABULARY
from mdm.runs.build import build_learner, build_splits
from mdm.runs.protocol import run
from mdm.runs.trained import Trained
from mdm.studies.factors import inference
from mdm.studies.factors.dependence import measure_ratios
from mdm.studies.factors.gradient_flow import (
    SENTIMENT,
    measure_flow,
    pick_steps,
)
from mdm.studies.factors.inference import infer, require_mfm
from mdm.studies.factors.wording import render_orders
from mdm.sweeps.experiment import list_cells, parse_table

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    return build_untrained(tmp_path_factory.mktemp("fresh"))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Both rows of Figure 9, in little, one seed."""
    root = tmp_path_factory.mktemp("factors")
    overrides = ["experiment=mfm/figure9", *SMALL, f"paths.outputs={root}"]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        for cell in list_cells(parse_table(compose("train", ["experiment=mfm/figure9"])), overrides):
            run(compose("train", cell.runs()[0]), cell.runs()[0])
    return root


def test_the_study_reads_an_experiment_and_a_folder(outputs, capsys):
    overrides = [*SMALL, f"paths.outputs={outputs}", "study.permutations=19", "study.donors=20"]
    main(["experiment=mfm/figure9", *overrides])
    said = capsys.readouterr().out
    assert "| MFM | language | literal |" in said
    assert "| 0.307 |" in said
    assert "Without it the label loses, of its variance, audio 64 %, video 60 %, language 12 %" in said
    folder = outputs / "mfm/figure9/factors"
    made = {"ratios.csv", "flow.csv", "steps.csv", "generation.csv", "summary.md", "figure.pdf", "figure.png"}
    assert {path.name for path in folder.iterdir()} == made
    tables = {name: pd.read_csv(folder / f"{name}.csv") for name in ("ratios", "flow", "steps", "generation")}
    assert {name: table.groupby("row").size().tolist() for name, table in tables.items() if name != "steps"} == {
        "ratios": [6, 6],
        "flow": [3, 3],
        "generation": [6, 6],
    }
    ratios = tables["ratios"]
    told = ratios[(ratios.kernel == "literal") | (ratios.own_p <= 0.05)]
    assert told.ratio.to_numpy() == pytest.approx((told.y / told.own).to_numpy())
    assert ratios.drop(told.index).ratio.isna().all()
    steps = tables["steps"]
    assert 8 <= steps.step.max() <= 16
    assert steps.sentiment.any()
    assert (steps.flow > 0).all()
    one = next(path.parent for path in outputs.rglob("metrics.json"))
    main(["study=factors", f"folder={one}", "study.permutations=19", "study.donors=20"])
    assert "| mfm · none | audio | corrected |" in capsys.readouterr().out
    assert {path.name for path in (one / "factors").iterdir()} == made


@pytest.mark.slow
def test_two_at_once_find_the_same(outputs):
    """In a process of its own, as workers must import what they run."""
    command = [sys.executable, "scripts/study.py", "experiment=mfm/figure9", *SMALL, f"paths.outputs={outputs}"]
    command += ["study.permutations=19", "study.donors=10"]
    found = []
    for jobs in (1, 2):
        subprocess.run([*command, f"jobs={jobs}"], cwd=ROOT, check=True, capture_output=True)
        found.append({path.name: path.read_bytes() for path in (outputs / "mfm/figure9/factors").glob("*.csv")})
    assert len(found[0]) == 4
    assert found[0] == found[1]


def test_words_of_another_vocabulary_are_not_those_of_the_lexicon(fresh, monkeypatch):
    """As in a store: nothing is marked there, since ids mean other words."""
    assert len(infer(fresh, "valid").words) == 16
    # Where the words are told apart only: data that are read again are drawn from the lexicon itself.
    monkeypatch.setattr(inference, "lexicon", SimpleNamespace(VOCABULARY=(*VOCABULARY[:-1], "other"), ID=lexicon.ID))
    of = infer(fresh, "valid")
    assert of.words == ()
    rows, flows = measure_flow(fresh, of)
    assert all(math.isnan(row["auc"]) for row in rows)
    segments = fresh.data
    rows = pick_steps(lambda i: fresh.splits.place_words(segments.words(i).split()), segments.ids, of, flows)
    assert not any(row["sentiment"] for row in rows)


def test_the_words_shown_are_those_of_the_steps_that_were_read(config):
    cfg = config("model=mfm", "data.max_steps=9", *WIDTHS)
    splits = build_splits(cfg)
    cut = Trained(Path("nowhere"), cfg, {"seed": 0}, splits, build_learner(cfg, splits).eval())
    of = infer(cut, "valid")
    flows = {"language": np.ones((len(of.ids), 9))}
    rows = pick_steps(lambda i: splits.place_words(cut.data.words(i).split()), cut.data.ids, of, flows)
    whole = cut.data.words(cut.data.ids.index(rows[0]["id"])).split()
    assert len(whole) > len(rows)  # else nothing was cut
    assert [row["word"] for row in rows] == whole[-len(rows) :]
    assert [row["sentiment"] for row in rows] == [VOCABULARY.index(word) in SENTIMENT for word in whole[-len(rows) :]]


def test_too_few_permutations_are_refused(fresh):
    with pytest.raises(ValueError, match=r"p <= 0\.05, which takes 19 permutations, got 18; set study\.permutations"):
        measure_ratios(fresh, infer(fresh, "valid"), 18)


def test_the_smallest_dependence_is_first_also_below_zero():
    kernel, row = "corrected", {"row": "mfm", "label": "MFM", "seed": 0}
    own = {"language": -0.001, "audio": 0.3, "video": 0.2}
    rows = [{**row, "kernel": kernel, "modality": m, "ratio": 1.0, "y": 1.0, "own": value} for m, value in own.items()]
    said = render_orders(pd.DataFrame(rows), "synthetic")
    assert "| smallest Depen(F_a, X̂) | 1 of 1 | 0 of 1 | audio 3.0, video 2.0, language 1.0 |" in said


def test_other_models_are_refused(fresh, config):
    for overrides, names in ((("model=mfm", "model.backbone.variant=M_A"), "MFM with z_"), (("model=lmf",), "LMF with no factors")):
        cfg = config(*overrides)
        splits = build_splits(cfg)
        other = Trained(fresh.folder, cfg, {"seed": 0}, splits, build_learner(cfg, splits))
        with pytest.raises(ValueError, match=rf"is a run of {names}.*; use model=mfm with variant=mfm"):
            require_mfm(other)


def test_the_study_says_what_it_needs(tmp_path, outputs):
    with pytest.raises(ValueError, match=r"has none; run `mdm train -m"):
        main(["experiment=mfm/figure9", f"paths.outputs={tmp_path}"])
    with pytest.raises(ValueError, match=r"or one of folder=…, got folder=x seed=0"):
        main(["study=factors", "folder=x", "seed=0"])
    with pytest.raises(ValueError, match=r"jobs is a number of processes, 1 to 512, got jobs=two"):
        main(["experiment=mfm/figure9", "jobs=two"])
