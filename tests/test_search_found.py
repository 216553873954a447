"""What a search found: a choice that the test fold cannot move, and a file that gives its run again."""

import math
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from made_searches import declare_search

from mdm.commands.search import main
from mdm.runs import claims, records
from mdm.runs.protocol import run
from mdm.sweeps.experiment import Cell
from mdm.sweeps.found import (
    TrialResult,
    choose_point,
    rank_points,
    read_trial,
    read_validation,
    render_ranking,
    render_tuned,
    write_tuned,
)
from mdm.sweeps.search import Search, Trial, list_search_cells, parse_search

ROOT = Path(__file__).resolve().parents[1]


def found(*points, values=(), failed=0, missing=0, cards=("card",), commits=("abc",)):
    """One outcome at each point, or a list of them with the given values."""
    cell = Cell("row", "synthetic", (), (0, 1))
    outcomes = []
    for point, of_point in zip(points, values, strict=True):
        trial = Trial("lmf_none", point, cell)
        outcomes.append(TrialResult(trial, tuple(of_point), failed, missing, frozenset(cards), frozenset(commits)))
    return outcomes


POINTS = [{"model.optimizer.lr": lr} for lr in (0.1, 0.2, 0.3, 0.4)]


def test_the_order_by_hand():
    outcomes = found(*POINTS, values=[(3.0, 1.0), (math.nan, 0.0), (1.0, 1.5), (1.5, 1.0)])
    # Means 2, none, 1.25, 1.25: of equals the first of the grid; what is not defined is worst in both directions.
    assert [f.trial.point["model.optimizer.lr"] for f in rank_points(outcomes, "rmse")] == [0.3, 0.4, 0.1, 0.2]
    assert [f.trial.point["model.optimizer.lr"] for f in rank_points(outcomes, "corr")] == [0.1, 0.3, 0.4, 0.2]
    assert choose_point(outcomes, "corr") is outcomes[0]
    # Of 3 and 1: mean 2, squared deviations 1 + 1 over n − 1 = 1.
    assert outcomes[0].summary == "2.0000 ± 1.4142"
    assert found(POINTS[0], values=[(2.0,)])[0].summary == "2.0000"


def test_a_point_where_a_seed_failed_is_not_chosen():
    good, bad = found(POINTS[0], values=[(2.0, 2.0)]), found(POINTS[1], values=[(0.0,)], failed=1)
    assert choose_point(good + bad, "mae") is good[0]
    lines = render_ranking(parse_search(declare_search()), bad + good).splitlines()
    assert lines[4:] == ["| 0.1 | 2.0000 ± 0.0000 | 2 |  |", "| 0.2 | 0.0000 | 1 | 1 failed |"]
    with pytest.raises(
        ValueError, match=r"At no point of the grid did all seeds of lmf_none finish with a number; widen search\.grid"
    ):
        choose_point(bad, "mae")


def test_no_choice_is_made_too_early_or_among_different_data():
    late = found(POINTS[0], values=[(2.0, 2.0)]) + found(POINTS[1], values=[(1.0,)], missing=1)
    with pytest.raises(ValueError, match=r"among finished runs, but 1 of lmf_none are missing; run the search first"):
        choose_point(late, "mae")
    mixed = found(POINTS[0], values=[(2.0, 2.0)]) + found(POINTS[1], values=[(1.0, 1.0)], cards=("other",))
    with pytest.raises(ValueError, match=r"on one data set, but records of lmf_none have 2"):
        choose_point(mixed, "mae")


def record_at(folder, **changes):
    folder.mkdir(parents=True)
    record = {"valid": {"mae": 0.5, "corr": None}, "data_card": "card", "commit": "a" * 40, "uncommitted_changes": False} | changes
    (folder / records.CONFIG).write_text(
        claims.dump({"seed": 0, "model": {"lr": 1e-05}, "machine": {"threads": 1}, "data_card": "card"})
    )
    records.seal(folder, record)


def test_reading_counts_what_failed_and_what_is_missing(tmp_path):
    trial = Trial("run", {}, Cell("row", "data", (), (0, 1, 2)))
    folders = [tmp_path / f"seed={seed}" for seed in trial.cell.seeds]
    config = {"seed": 9, "model": {"lr": 1e-05}, "machine": {"threads": 2}}
    record_at(folders[0], uncommitted_changes=True)
    folders[1].mkdir()
    (folders[1] / records.ERROR).write_text("Traceback")
    of_it = read_trial(trial, folders, config, "mae")
    assert (of_it.values, of_it.failed, of_it.missing) == ((0.5,), 1, 1)
    assert of_it.commits == {"a" * 12 + " with uncommitted changes"}
    assert math.isnan(read_trial(trial, folders, config, "corr").values[0]), "null: the metric is not defined"
    with pytest.raises(ValueError, match=r"has no acc9, but mae, corr; set search\.select"):
        read_trial(trial, folders, config, "acc9")
    with pytest.raises(ValueError, match=r"made with other settings than this search has now:\s+model\.lr: 1e-05 → 0\.1"):
        read_trial(trial, folders, {**config, "model": {"lr": 0.1}}, "mae")


def test_nothing_of_the_test_fold_is_returned(tmp_path):
    record_at(tmp_path / "a", test={"mae": -1e9}, test_of_train_mean={"mae": 1.0})
    assert read_validation(tmp_path / "a") == {
        "valid": {"mae": 0.5, "corr": None},
        "data_card": "card",
        "commit": "a" * 40,
        "uncommitted_changes": False,
    }
    assert read_validation(tmp_path) is None
    source = (ROOT / "mdm" / "sweeps" / "found.py").read_text()
    assert source.count("read_result(") == 1, "in validation alone"
    assert "PREDICTIONS" not in source
    assert "read_record" not in (ROOT / "mdm" / "commands" / "search.py").read_text()


def test_another_file_is_not_overwritten_silently(tmp_path):
    path = tmp_path / "search" / "synthetic" / "lmf.yaml"
    for _ in range(2):
        write_tuned(path, "a: 1\n", overwrite=False)
    with pytest.raises(ValueError, match=r"lmf\.yaml differs from what this search would write; add overwrite=true"):
        write_tuned(path, "a: 2\n", overwrite=False)
    assert path.read_text() == "a: 1\n"
    write_tuned(path, "a: 2\n", overwrite=True)
    assert path.read_text() == "a: 2\n"


def compose_run(folder, *overrides):
    """A config that also finds options below a folder."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("train", [f"hydra.searchpath=[file://{folder}]", *overrides])


def test_a_file_may_begin_with_published_settings(tmp_path):
    search = Search("", "", ("synthetic",), 1, {"a": ("tuned=mmsa/mosi/lmf", "penalty=kl")}, {"penalty.weight": (0.5, 2)}, "mae")
    outcome = TrialResult(
        Trial("a", {"penalty.weight": 0.5}, Cell("", "synthetic", (), (0,))), (1.0,), 0, 0, frozenset("c"), frozenset("c")
    )
    write_tuned(
        tmp_path / "tuned/search/synthetic/a.yaml",
        render_tuned(search, "search/it", [outcome], outcome, {"penalty": {"weight": 0.5}}),
        False,
    )
    cfg = compose_run(tmp_path, "tuned=search/synthetic/a")
    theirs = compose_run(tmp_path, "tuned=mmsa/mosi/lmf", "penalty=kl", "penalty.weight=0.5")
    assert cfg == theirs
    assert cfg.model.name == "lmf"


def test_from_a_search_to_a_tuned_run(config, tmp_path, capsys):
    """Records → ranking → file → the same run again; without the records' test metrics, the same file."""
    arguments = ["experiment=search/mdm", "model=lmf", "penalty=none", "seed=0,1"]
    small = [
        "data.segments.train=64",
        "data.segments.valid=32",
        "data.segments.test=32",
        "trainer.max_epochs=1",
        "model.backbone.rank=1",
    ]
    arguments += [f"paths.outputs={tmp_path}/outputs", *small]
    valid = {}
    for cell in list_search_cells(config("experiment=search/mdm", small=False), arguments):
        for overrides in cell.runs():
            cfg = compose_run(tmp_path, *overrides)
            valid.setdefault(cfg.model.optimizer.lr, []).append(run(cfg, overrides)["valid"]["mae"])
    assert {len(values) for values in valid.values()} == {2}
    capsys.readouterr()

    found = tmp_path / "found"
    found.mkdir()
    main([*arguments, "--config-dir", str(found)])
    path = found / "tuned" / "search" / "synthetic" / "lmf_none.yaml"
    chosen = min(valid, key=lambda lr: sum(valid[lr]))
    said = capsys.readouterr().out
    order = [line.split(" | ")[0] for line in said.splitlines() if line.startswith("| 0.")]
    assert order == [f"| {lr}" for lr in sorted(valid, key=lambda lr: sum(valid[lr]))]
    assert said.rstrip().endswith(f"→ {path}")

    text = path.read_text()
    first, second = text.splitlines()[:2]
    assert first == "# @package _global_"
    assert second.startswith(
        "# Source: experiment=search/mdm (Colombo et al. (2021), appendix A.1.2) on data=synthetic data.segments.train=64 "
    )
    assert "best validation mae" in second
    assert "over seeds 0, 1, among 4 points; commit " in second
    assert "outputs" not in second
    assert yaml.safe_load(text) == {
        "defaults": [{"override /model": "lmf"}, {"override /penalty": "none"}],
        "model": {"optimizer": {"lr": chosen}},
    }

    cfg = compose_run(found, "tuned=search/synthetic/lmf_none", "seed=1", f"paths.outputs={tmp_path}/outputs", *small)
    assert run(cfg)["valid"]["mae"] == valid[chosen][1], "the chosen run, bit for bit"

    for file in (tmp_path / "outputs" / "search").rglob(records.METRICS):
        record = records.read_record(file.parent)
        del record["test"], record["test_of_train_mean"]
        records.seal(file.parent, record)
        (file.parent / records.PREDICTIONS).unlink()
    (tmp_path / "again").mkdir()
    main([*arguments, f"hydra.searchpath=[file://{tmp_path}/again]"])
    assert (tmp_path / "again/tuned/search/synthetic/lmf_none.yaml").read_text() == text

    path.write_text("a: 1\n")
    with pytest.raises(SystemExit, match=r"differs from what this search would write"):
        main([*arguments, "--config-dir", str(found)])
    main([*arguments, "overwrite=true", "--config-dir", str(found)])
    assert path.read_text() == text
    with pytest.raises(SystemExit, match=r"among finished runs, but 4 of lmf_none are missing"):
        main([*arguments[:3], "seed=0,1,2", *arguments[4:], "--config-dir", str(found)])
