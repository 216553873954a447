"""Configs of a folder of one's own are found by every command: by --config-dir, by hydra.searchpath, and in every worker."""

import csv
import os
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import yaml
from hydra import compose

from mdm import compose as composing
from mdm.boundary import exit_on_error
from mdm.commands import report, search, table
from mdm.compose import (
    find_configs,
    find_declared_configs,
    format_search_path,
    take_search_path,
    use_configs,
)
from mdm.runs import records
from mdm.study import read_finished, run_with_configs
from mdm.sweeps import attempt

ROOT = Path(__file__).resolve().parents[1]
SMALL = ("data.segments.train=40", "data.segments.valid=20", "data.segments.test=24", "trainer.max_epochs=1")

TABLE = """\
# @package _global_
name: me/first
table:
  title: Mine
  seeds: 2
  data: {synthetic: mosi}
  metrics: {mae: mae}
  primary: mae
  rows:
    none: {label: plain, run: [model=mylmf, penalty=none]}
    hsic: {label: + HSIC, run: [model=mylmf, penalty=hsic], baseline: none}
"""
SEARCH = """\
# @package _global_
name: me/hunt
search:
  title: Mine
  source: nobody
  data: [synthetic]
  seeds: 1
  runs: {plain: [model=mylmf, penalty=none]}
  grid: {model.optimizer.lr: [0.01, 0.001]}
  select: mae
"""


def write_mine(folder):
    """A folder of configs: a model, an experiment and a search that the package has not."""
    model = yaml.safe_load((ROOT / "configs" / "model" / "lmf.yaml").read_text()) | {"name": "mylmf"}
    model["backbone"]["rank"] = 2
    for name, text in (("model/mylmf", yaml.safe_dump(model)), ("experiment/me/first", TABLE), ("experiment/me/hunt", SEARCH)):
        path = folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture
def mine(tmp_path):
    return write_mine(tmp_path / "mine")


@pytest.fixture(scope="module")
def swept(tmp_path_factory, in_turn):
    """What four commands leave that are given in a folder with a folder of configs, in one process."""
    here = tmp_path_factory.mktemp("swept")
    write_mine(here / "mine")
    experiment, workers = (
        ("experiment=me/first", "table.test=wilcoxon", *SMALL),
        ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
    )
    in_turn(
        [
            ["train", "--config-dir", "mine", "model=mylmf", "seed=3", *SMALL],
            ["train", "-m", "--config-dir=mine", *experiment, "hydra.sweeper.runs_per_task=2", "paths.outputs=packed"],
            ["train", "-m", "hydra.searchpath=[mine]", *experiment, *workers, "paths.outputs=workers"],
            ["train", "-m", "--config-dir", "mine", "experiment=me/hunt", *SMALL],
        ],
        here,
    )
    return here


def test_a_run(swept):
    (folder,) = swept.glob("outputs/single/synthetic/mylmf/none/*/seed=3")
    assert records.read_record(folder)["model"] == "mylmf"


@pytest.mark.parametrize("outputs", ["packed", "workers"])
@pytest.mark.parametrize("said", [["--config-dir", "mine"], ["hydra.searchpath=[mine]", "hydra/launcher=joblib"]])
def test_a_sweep_and_its_table(swept, outputs, said, monkeypatch, capsys):
    """The table finds every run, whatever ran it; keys of Hydra's that say how are nothing to it."""
    monkeypatch.chdir(swept)
    table.main([*said, "experiment=me/first", "table.test=wilcoxon", *SMALL, f"paths.outputs={outputs}"])
    printed = capsys.readouterr().out
    assert "| + HSIC | 2 " in printed
    assert "by the exact Wilcoxon test over seeds" in printed
    with open(swept / outputs / "me/first/seeds.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["row"], row["seed"]) for row in rows] == [("none", "0"), ("none", "1"), ("hsic", "0"), ("hsic", "1")]
    assert all(row["state"] == "finished" for row in rows)


@pytest.mark.slow
def test_tasks_of_several_runs_in_workers(tmp_path, in_turn):
    folder = write_mine(tmp_path / "mine")
    sweep = ("train", "-m", f"hydra.searchpath=[file://{folder}]", "experiment=me/first", *SMALL, "hydra.sweeper.runs_per_task=2")
    in_turn([[*sweep, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]], tmp_path)
    assert len([*tmp_path.rglob(records.METRICS)]) == 4


def test_a_report_shows_commands_that_find_the_configs(swept, monkeypatch, capsys):
    monkeypatch.chdir(swept)
    report.main(["experiment=me/first", *SMALL, "paths.outputs=packed", "--config-dir", "mine"])
    assert "report.html: 4 of 4 runs" in capsys.readouterr().out
    text = (swept / "packed/me/first/report.html").read_text()
    assert f"hydra.searchpath=[file://{swept}/mine]" in text


def test_a_search_writes_where_its_configs_are(swept, monkeypatch, capsys):
    monkeypatch.chdir(swept)
    search.main(["--config-dir", "mine", "experiment=me/hunt", *SMALL])
    path = swept / "mine/tuned/search/synthetic/plain.yaml"
    assert capsys.readouterr().out.rstrip().endswith(f"→ {path}")
    with use_configs([f"file://{swept}/mine"]):
        cfg = compose("train", ["tuned=search/synthetic/plain"])
    assert cfg.model.name == "mylmf"
    assert cfg.model.optimizer.lr == yaml.safe_load(path.read_text())["model"]["optimizer"]["lr"]


def test_a_search_without_a_folder_writes_into_the_repository_or_here(monkeypatch):
    assert search.find_own_folder([]) == ROOT / "configs"
    assert search.find_own_folder(["pkg://magpie.configs", "file:///a", "file:///b"]) == Path("/a")
    monkeypatch.setattr(search, "is_in_repository", lambda: False)
    assert search.find_own_folder([]) == Path("configs")


def test_runs_that_are_missing_are_asked_for_with_their_configs(mine, tmp_path):
    given = ["--config-dir", str(mine), "experiment=me/first", f"paths.outputs={tmp_path}"]
    with pytest.raises(ValueError, match=rf"run `mdm train -m experiment=me/first .*hydra\.searchpath=\[file://{mine}\]` first"):
        run_with_configs(given, None, lambda overrides, mixed: read_finished(overrides, mixed) and None)


# ---- command lines


def test_a_search_path_is_taken_from_a_command_line(mine, monkeypatch):
    monkeypatch.chdir(mine.parent)
    url = f"file://{mine}"
    for said in (["--config-dir", "mine"], ["--config-dir=mine"], ["-cd", str(mine)], [f"hydra.searchpath=[{url}]"]):
        assert take_search_path(["model=lmf", *said, "seed=1"]) == (["model=lmf", "seed=1"], [url])
    assert take_search_path(["hydra.searchpath=[mine,pkg://a.b]", "--config-dir", "."]) == (
        [],
        [f"file://{mine.parent}", url, "pkg://a.b"],
    )
    assert take_search_path(["hydra/launcher=joblib", "++hydra.verbose=true", "hydrant=1"]) == (["hydrant=1"], [])
    with use_configs([url]):
        (said,) = format_search_path()
        assert take_search_path([said]) == ([], [url])
    with use_configs():
        assert format_search_path() == []


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (["--config-dir", "nothing"], "--config-dir names a folder of configs, but nothing is not one"),
        (["--config-dir"], "--config-dir names a folder of configs, but nothing is not one"),
        (["hydra.searchpath=[file://gone]"], "hydra.searchpath names a folder of configs, but gone is not one"),
        (["hydra.searchpath=mine"], "hydra.searchpath is a list of folders, got hydra.searchpath=mine"),
        (["hydra.searchpath=[1]"], "hydra.searchpath is a list of folders"),
        (["--config-dir", "mine", "-cd", "mine"], "are given once each"),
        (["hydra.searchpath=[mine]", "hydra.searchpath=[mine]"], r"name all folders in one hydra.searchpath=[…]"),
    ],
)
def test_a_search_path_that_leads_nowhere(mine, monkeypatch, said, message):
    monkeypatch.chdir(mine.parent)
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        take_search_path(said)
    assert message in str(raised.value)


def test_a_message_lists_the_options_of_the_search_path(mine, capsys):
    with pytest.raises(SystemExit), exit_on_error():
        table.main(["--config-dir", str(mine), "experiment=me/second"])
    said = capsys.readouterr().err
    assert "experiment= may be mdm/critics, " in said
    assert ", me/first, me/hunt, " in said
    with pytest.raises(SystemExit), exit_on_error():
        table.main(["experiment=me/second"])
    assert "me/first" not in capsys.readouterr().err


def test_a_task_carries_its_search_path(mine, monkeypatch):
    done = []
    monkeypatch.setattr(attempt, "attempt", lambda cfg, overrides: done.append((cfg.model.name, overrides)))
    with use_configs():
        attempt.run_task(attempt.pack_task([["model=mylmf"], ["model=mylmf", "seed=1"]], 1, [f"file://{mine}"]))
        assert compose("train").model.name == "eflstm", "and Hydra goes on as it was"
    assert done == [("mylmf", ["model=mylmf"]), ("mylmf", ["model=mylmf", "seed=1"])]


# ---- where configs are


def test_configs_are_the_packages_own_or_the_repositorys(tmp_path, monkeypatch):
    assert find_configs() == ROOT / "configs"
    package = tmp_path / "mdm"
    package.mkdir()
    monkeypatch.setattr(composing, "PACKAGE", package)
    with pytest.raises(ValueError, match=r"mdm must have its configs in .*mdm/configs, but they are not there; install it again"):
        find_configs()
    for place in (tmp_path / "configs", package / "configs"):
        place.mkdir()
        (place / "train.yaml").touch()
        assert find_configs() == place


def test_declared_configs(tmp_path, monkeypatch):
    (tmp_path / "wren" / "configs").mkdir(parents=True)
    (tmp_path / "wren.py").touch()
    monkeypatch.syspath_prepend(tmp_path)

    def declare(value):
        monkeypatch.setattr(composing, "entry_points", lambda group: [EntryPoint("wren", value, group)])

    declare("wren_configs_that_are_not_there")
    with pytest.raises(
        ValueError, match=r"entry point of mdm\.configs names a package .* wren = wren_.* is not one; mend or remove"
    ):
        find_declared_configs()
    (tmp_path / "wren.py").unlink()
    declare("wren.configs")
    assert find_declared_configs() == [tmp_path / "wren" / "configs"]


def test_other_applications_of_hydra_are_left_as_they_are(tmp_path, monkeypatch):
    """Hydra asks plugins wherever it composes; only our configs get what is declared for them."""
    from hydra._internal.utils import create_config_search_path

    monkeypatch.setattr(composing, "entry_points", lambda group: [EntryPoint("os", "json", group)])
    of_json = f"file://{Path(os.__file__).parent / 'json'}"
    paths = {folder: [each.path for each in create_config_search_path(folder).get_path()] for folder in (str(find_configs()), "/")}
    assert of_json in paths[str(find_configs())]
    assert of_json not in paths["/"]
