"""What an experiment's file says can run: rows compose and build, cells train."""

from functools import cache

import numpy as np
import pytest
from experiments import EXPERIMENTS, HARDEST, compose_run, read_experiment
from omegaconf import OmegaConf

from mdm.metrics import evaluate
from mdm.runs.build import build_learner, build_splits
from mdm.runs.members import make
from mdm.runs.naming import record_folder
from mdm.runs.protocol import run
from mdm.sweeps.experiment import CHOOSE, list_cells

LIKE_ANOTHER = {
    *("mdm/figure4", "mdm/robustness", "mdm/table5", "mdm/table3_lmf", "mmim/figure2", "mmim/table5", "mird/figure4"),
}
"""Files whose row runs in another file, too: that they run is `slow`."""
SMALL = ("data.segments.train=48", "data.segments.valid=16", "data.segments.test=16", "data.batch_size=16")


def all_cells(name):
    return list_cells(read_experiment(name)[1], [f"experiment={name}"])


def small(overrides):
    """A cell in little: few segments, and as many without labels as the row asks for."""
    unlabeled = ("data.segments.unlabeled=80",) if any("unlabeled" in override for override in overrides) else ()
    return compose_run(*overrides, *SMALL, *unlabeled)


def distinct():
    """Each combination of overrides that occurs among the rows, once, on a stand-in: (row.run, data)."""
    seen = {}
    for name in EXPERIMENTS:
        for cell in all_cells(name):
            row = read_experiment(name)[1].rows[cell.row]
            unlabeled = any(override.startswith("data.unlabeled") for override in row.run)
            seen.setdefault(row.run, (f"experiment={name}", f"data={cell.data}", *row.run) if not unlabeled else cell.overrides)
    return list(seen.values())


def test_every_row_composes_and_builds():
    """Learner, or baseline, from the config; each combination of overrides once, where several tables have it, and so all data."""
    read = {}
    for overrides in distinct():
        cfg = small(overrides)
        key = OmegaConf.to_yaml(cfg.data, resolve=True), cfg.model.get("by_length"), cfg.seed
        splits = read[key] = read.get(key) or build_splits(cfg)
        if "baseline" in cfg.model:
            make(cfg.model.baseline, spec=splits.spec, seed=cfg.seed)
            continue
        learner = build_learner(cfg, splits)
        assert learner.objectives or cfg.penalty.name == "none"


@cache
def measured(data):
    """The metrics that a stand-in's targets and range have."""
    segments = make(small((f"data={data}",)).data.segments)
    ends = np.array([[end] * len(segments.targets) for end in segments.label_range])
    return set(evaluate(ends, ends, segments.label_range, segments.targets))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_columns_are_measured(name):
    """On each stand-in the targets and the range have every metric that the table shows and that chooses a checkpoint."""
    cfg, table = read_experiment(name)
    for data, stands_for in table.data.items():
        assert {*table.metrics[stands_for], cfg.trainer.select} <= measured(data)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_no_two_cells_share_a_record(name):
    """Where what overrides say alone decides the folder: by the model, the penalty and the rest."""
    table = read_experiment(name)[1]
    for data in table.data:
        runs = [row.run for row in table.rows.values() if row.runs_on(data, table.data[data])]
        assert len({frozenset(run_) for run_ in runs}) == len(runs)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in LIKE_ANOTHER else ()) for n in EXPERIMENTS])
def test_a_cell_runs(name, tmp_path):
    """The row that asks most, in little, as the sweep would run it; its record has the table's columns."""
    row, data = HARDEST[name]
    cell = next(cell for cell in all_cells(name) if (cell.row, cell.data) == (row, data))
    overrides = cell.runs()[0]
    steps = (
        ("penalty.critic.steps=2",) if any(o in cell.overrides for o in ("penalty=kl", "penalty=f", "penalty=wasserstein")) else ()
    )
    cfg = small((*overrides, "trainer.max_epochs=1", f"paths.outputs={tmp_path}", *steps))
    record = run(cfg, overrides)
    table = read_experiment(name)[1]
    assert set(table.metrics[table.data[data]]) <= set(record["test"])
    assert (record["name"], record["data"]) == (name, data)
    assert (record_folder(cfg, overrides) / "metrics.json").is_file()
    assert record_folder(cfg, overrides).relative_to(tmp_path).parts[:2] == tuple(name.split("/"))


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_cell_composes_with_its_published_settings(name):
    """On the real data sets too: the row's own overrides win over the settings, and no two cells have one folder."""
    table = read_experiment(name)[1]
    real = sorted({data for row in table.rows.values() for data in row.tuned})
    for data in (*table.data, *real):
        folders = []
        for cell in list_cells(table, [f"experiment={name}", f"data={data}"]):
            cfg = compose_run(*cell.overrides)
            folders.append(record_folder(cfg, cell.overrides))
            for override in table.rows[cell.row].run:
                key, _, value = override.partition("=")
                found = cfg[key].name if key in (*CHOOSE, "data") else OmegaConf.select(cfg, key)
                said = OmegaConf.create(f"value: {value}").value
                assert found == said, (cell, override)
        assert len(set(folders)) == len(folders)
