"""Searches: the papers' grids, equal for all runs, and what is to be run of them."""

import csv
import json
from pathlib import Path

import pytest
from made_searches import declare_search
from omegaconf import OmegaConf

from mdm.runs.protocol import run
from mdm.sweeps.search import list_search_cells, list_trials, parse_search

ROOT = Path(__file__).resolve().parents[1]
FILES = ["search/mdm", "search/mmim", "search/synergy"]


# ---- the files


def test_the_searches_are_those_of_the_papers():
    folder = ROOT / "configs" / "experiment" / "search"
    assert sorted(f"search/{path.stem}" for path in folder.glob("*.yaml")) == FILES


@pytest.fixture(scope="module")
def printed():
    """What the papers print about their grids."""
    with open(ROOT / "mdm" / "reference" / "settings.csv", newline="", encoding="utf-8") as file:
        return {(row["paper"], row["item"]): row["value"] for row in csv.DictReader(file)}


@pytest.mark.parametrize(
    ("file", "key", "paper", "item"),
    [
        ("search/mdm", "model.optimizer.lr", "000", "learning_rate_grid"),
        ("search/mmim", "data.batch_size", "001", "grid_batch_size"),
        ("search/mmim", "model.own_penalty.critic.optimizer.lr", "001", "grid_eta_ld"),
        ("search/mmim", "model.optimizer.lr", "001", "grid_eta_main"),
        ("search/mmim", "model.backbone.alpha", "001", "grid_alpha"),
        ("search/mmim", "model.own_penalty.weight", "001", "grid_beta"),
        ("search/mmim", "model.backbone.hidden", "001", "grid_hidden_dim"),
        ("search/mmim", "model.own_penalty.objective.memory", "001", "grid_memory_size_batches"),
        ("search/synergy", "data.batch_size", "002", "grid_batch_size"),
        ("search/synergy", "model.optimizer.lr", "002", "grid_learning_rate"),
    ],
)
def test_a_grid_is_the_papers(config, printed, file, key, paper, item):
    values = printed[paper, item].strip("{}").split(",")
    assert set(parse_search(config(f"experiment={file}", small=False)).grid[key]) == {float(value) for value in values}


@pytest.mark.parametrize("file", FILES)
def test_every_run_of_a_file_composes_and_gets_as_many_tries(config, file):
    cfg = config(f"experiment={file}", small=False)
    of_run = {}
    for trial in list_trials(parse_search(cfg), [f"experiment={file}"]):
        of_run.setdefault(trial.run, []).append(trial)
    assert {len(of_it) for of_it in of_run.values()} == {{"search/mdm": 4, "search/mmim": 60, "search/synergy": 10}[file]}
    assert len({json.dumps([trial.point for trial in of_it]) for of_it in of_run.values()}) == 1, "the same points"
    for name, of_it in of_run.items():
        last = of_it[-1]
        composed = config(*last.cell.runs()[-1], small=False)
        assert composed.seed == 2
        assert name == composed.model.name + ("" if file == "search/mmim" else f"_{composed.penalty.name}")
        for key, value in last.point.items():
            assert OmegaConf.select(composed, key) == value
        if "mag" in name:
            assert composed.model.groups["text.model"].lr == composed.model.optimizer.lr, "one rate, in every trial its own"


@pytest.mark.parametrize("file", FILES)
def test_the_last_run_of_a_file_trains(config, file):
    cell = list_search_cells(config(f"experiment={file}", small=False), [f"experiment={file}"])[-1]
    record = run(config(*cell.runs()[0], "trainer.max_epochs=1", "data.segments.train=64"))
    assert record["name"] == file


# ---- what is to be run


def test_the_command_line_chooses():
    cfg = declare_search()
    cells = list_search_cells(
        cfg, ["experiment=search/it", "penalty=kl", "data=synthetic,gaussian", "seed=5,7", "trainer.max_epochs=1"]
    )
    assert [cell.data for cell in cells] == ["synthetic"] * 4 + ["gaussian"] * 4
    assert cells[0].runs() == [
        [
            "experiment=search/it",
            "data=synthetic",
            "model=lmf",
            "penalty=kl",
            "model.optimizer.lr=0.01",
            "trainer.gradient_clip=null",
            "trainer.max_epochs=1",
            f"seed={seed}",
        ]
        for seed in (5, 7)
    ]
    assert len({cell.row for cell in list_search_cells(cfg, [])}) == 8, "a row of its own for every run and point"
    assert list_search_cells(cfg, [])[0].seeds == (0, 1)


def test_draws_are_distinct_points_and_more_of_them_contain_fewer():
    grid = {"a.b": list(range(10)), "a.c": list(range(7))}
    drawn = [parse_search(declare_search(grid=grid, draws=draws)).points() for draws in (5, 20, 70)]
    as_sets = [{tuple(point.values()) for point in points} for points in drawn]
    assert [len(points) for points in as_sets] == [5, 20, 70]
    assert as_sets[0] < as_sets[1] < as_sets[2]
    whole = parse_search(declare_search(grid=grid)).points()
    assert drawn[2] == whole
    assert drawn[1] == [point for point in whole if point in drawn[1]], "in the grid's order"
    assert drawn[1] != whole[:20]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"source": "absent"},
            r"A search has data, grid, runs, seeds, select, source, title, and may have draws, but search/it has",
        ),
        ({"seeds": 0}, r"needs a seed, a data set and a run, but search/it has seeds=0"),
        ({"grid": {"lr": [1]}}, r"keys below a group to lists of numbers, words or null, got lr"),
        ({"grid": {"a.lr": 0.1}}, r"got an empty one; set search\.grid"),
        ({"grid": {"a.lr": [[1]]}}, r"got a\.lr"),
        (
            {"select": "loss"},
            r"search\.select: A metric is one of mae, .*, got loss",
        ),
        ({"draws": 5}, r"drawn among the grid's 4, got draws=5; set search\.draws"),
        ({"runs": {"a": ["model=lmf", "seed=3"]}}, r"search\.runs\.a has seed=3; it could not be written"),
        ({"runs": {"a": ["+penalty@penalty.sum.kl=kl"]}}, r"search\.runs\.a has \+penalty@penalty\.sum\.kl=kl"),
        (
            {"runs": {"a": ["model.optimizer.lr=1"]}},
            r"keys that are no part of the grid, but search\.runs\.a has model\.optimizer\.lr=1",
        ),
    ],
)
def test_a_file_that_does_not_fit_together_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        parse_search(declare_search(**changes))


def test_other_refusals(config):
    with pytest.raises(ValueError, match=r"declares its search in a section, but single has none; choose one"):
        parse_search(config())
    search = parse_search(declare_search())
    with pytest.raises(ValueError, match=r"model\.optimizer\.lr is searched, got model\.optimizer\.lr=3"):
        list_trials(search, ["model.optimizer.lr=3"])
    with pytest.raises(
        ValueError, match=r"No run of this search has .*mfn.*; its runs are lmf_none: model=lmf penalty=none; lmf_kl"
    ):
        list_trials(search, ["model=mfn"])
