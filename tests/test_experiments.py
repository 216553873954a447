"""Every table of the papers has its file; each file says the whole table, and what it says can run."""

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from mdm.metrics import evaluate
from mdm.reference import read_rows
from mdm.runs.build import build_learner, build_splits
from mdm.runs.members import make
from mdm.runs.naming import record_folder
from mdm.runs.protocol import run
from mdm.sweeps.experiment import CHOOSE, list_cells, parse_table

CONFIGS = Path(__file__).resolve().parents[1] / "configs"

TABLES = {
    "mdm/table1": ("000", "T1"),
    "mdm/table2": ("000", "T2"),
    "mmim/table2": ("001", "T2"),
    "mmim/table4": ("001", "T4"),
    "synergy/table2": ("002", "T2"),
    "synergy/table3": ("002", "T3"),
    "synergy/table4": ("002", "T4"),
    "synergy/table5": ("002", "T5"),
    "synergy/table6": ("002", "T6"),
    "mfm/table1": ("003", "T1"),
    "mfm/table2": ("003", "T2"),
    "mfm/supplement1": ("003", "ST1"),
    "mfm/supplement2": ("003", "ST2"),
    "mfm/supplement3": ("003", "ST3"),
    "mird/table1": ("004", "T1"),
    "mird/table4": ("004", "T4"),
    "mird/table5": ("004", "T5"),
    "mird/table6": ("004", "T6"),
}
FIGURES = {
    "mdm/figure2": ("000", "T2"),
    "mdm/figure4": ("000", "T2"),
    "mdm/robustness": ("000", "T2"),
    "mird/figure4": ("004", "T5"),
    "mird/figure6": ("004", "T1"),
    "mird/figure7": ("004", "F7"),
    "mird/figure8": ("004", "T5"),
}
"""Grids whose numbers are in a figure; the table has the few that the text prints."""
SWEEPS = {"mird/figure6", "mird/figure7"}
"""Of settings, with few seeds each."""
STUDIES = {
    "mdm/dependence": "000",
    "mdm/table3": "000",
    "mdm/table3_lmf": "000",
    "mdm/table5": "000",
    "mmim/figure2": "001",
    "mmim/table5": "001",
    "mfm/figure5": "003",
    "mird/figure5": "004",
    "mfm/figure9": "003",
}
"""Runs that are explained or whose curves are drawn; the paper prints no value of their tables."""
OTHERS = {"mird/table2", "mdm/figure1", "mdm/critics", "mdm/lipschitz"}
"""Costs and estimates."""
PRINTED = {**TABLES, **FIGURES}
EXPERIMENTS = [*PRINTED, *STUDIES]

HARDEST = {
    "mdm/table1": ("wasserstein", "synthetic_mosei"),
    "mdm/table2": ("magxlnet_kl", "synthetic"),
    "mmim/table2": ("mmim", "synthetic_mosei"),
    "mmim/table4": ("no_history", "synthetic_mosei"),
    "synergy/table2": ("mim_synergy_kl", "synthetic"),
    "synergy/table3": ("magbert_wasserstein", "synthetic_mosei"),
    "synergy/table4": ("synergy_kl", "synthetic"),
    "synergy/table5": ("kurtosis", "synthetic_mosei"),
    "synergy/table6": ("misa_synergy_kl", "synthetic_ur_funny"),
    "mfm/table1": ("mfm_emotions", "synthetic_iemocap"),
    "mfm/table2": ("M_A", "synthetic"),
    "mfm/supplement1": ("mfm", "synthetic_pom"),
    "mfm/supplement2": ("ef_sblstm", "synthetic_youtube"),
    "mfm/supplement3": ("svm", "synthetic_iemocap"),
    "mird/table1": ("mird2", "synthetic_mosei_unlabeled"),
    "mird/table4": ("no_mim", "synthetic_unlabeled"),
    "mird/table5": ("oc", "synthetic_mosei"),
    "mird/table6": ("both", "synthetic_unlabeled"),
    "mdm/figure2": ("f", "synthetic"),
    "mdm/figure4": ("wasserstein", "synthetic"),
    "mdm/robustness": ("wasserstein", "synthetic"),
    "mird/figure6": ("rate5", "synthetic_unlabeled"),
    "mird/figure7": ("alpha10", "synthetic"),
    "mird/figure4": ("mim", "synthetic"),
    "mfm/figure5": ("mfm", "synthetic_digits"),
    "mird/figure5": ("mim_unlabeled", "synthetic_unlabeled"),
    "mird/figure8": ("mim", "synthetic"),
    "mdm/dependence": ("replay", "gaussian"),
    "mdm/table3": ("wasserstein_measured", "synthetic"),
    "mdm/table3_lmf": ("wasserstein_measured", "synthetic"),
    "mdm/table5": ("wasserstein", "synthetic"),
    "mmim/figure2": ("mmim", "synthetic"),
    "mmim/table5": ("mmim", "synthetic"),
    "mfm/figure9": ("official", "synthetic"),
}
"""A row of each file that really runs: (row, data)."""
LIKE_ANOTHER = {
    *("mdm/figure4", "mdm/robustness", "mdm/table5", "mdm/table3_lmf", "mmim/figure2", "mmim/table5", "mird/figure4"),
}
"""Files whose row runs in another file, too: that they run is `slow`."""

SMALL = ("data.segments.train=48", "data.segments.valid=16", "data.segments.test=16", "data.batch_size=16")


def compose_run(*overrides):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", list(overrides))


@cache
def read_experiment(name):
    """An experiment's config and its table."""
    cfg = compose_run(f"experiment={name}")
    return cfg, parse_table(cfg)


def all_cells(name):
    return list_cells(read_experiment(name)[1], [f"experiment={name}"])


def small(overrides):
    """A cell in little: few segments, and as many without labels as the row asks for."""
    unlabeled = ("data.segments.unlabeled=80",) if any("unlabeled" in override for override in overrides) else ()
    return compose_run(*overrides, *SMALL, *unlabeled)


# Which files there are ----------------------------------------------------------------------------------


def test_every_table_of_the_papers_has_its_file():
    files = {
        path.relative_to(CONFIGS / "experiment").with_suffix("").as_posix() for path in (CONFIGS / "experiment").rglob("*.yaml")
    }
    assert {name for name in files if not name.startswith(("search/", "base/"))} == {*EXPERIMENTS, *OTHERS}
    for name in OTHERS:
        assert "table" not in OmegaConf.load(CONFIGS / "experiment" / f"{name}.yaml")
    printed = {(row["paper"], row["table"]) for row in read_rows("results")}
    # What is left prints no result of a model: parameters, cases, a measure of finished models.
    assert printed - set(PRINTED.values()) == {("001", "T5"), ("003", "F9a"), ("004", "T2")}
    assert set(HARDEST) == set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_file_says_what_it_is_and_how_it_is_run(name):
    lines = (CONFIGS / "experiment" / f"{name}.yaml").read_text(encoding="utf-8").split("\n")
    paper = PRINTED[name][0] if name in PRINTED else STUDIES[name]
    assert lines[0] == "# @package _global_"
    authors, year = next((row["name"].split(",")[0], row["year"]) for row in read_rows("papers") if row["paper"] == paper)
    assert lines[1].startswith(f"# {authors}")
    assert year in lines[1]
    assert f"#   mdm train -m experiment={name}" in lines
    assert any(re.fullmatch(rf"#   mdm \w+ experiment={name}", line) for line in lines)
    cfg, declaration = read_experiment(name)
    assert cfg.name == name
    assert dict(declaration.paper) == ({"paper": paper, "table": PRINTED[name][1]} if name in PRINTED else {})
    assert declaration.seeds == (10 if name in TABLES else 3 if name in SWEEPS else 5)
    assert declaration.notes


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_no_two_rows_are_the_same_run(name):
    """On the paper's data, where published settings may bring what another row declares."""
    _, table = read_experiment(name)
    alike = {}
    for cell in list_cells(table, [f"experiment={name}", f"data={','.join(dict.fromkeys(table.data.values()))}"]):
        chosen = (o for o in cell.overrides if o.split("=")[0] in ("data", "model", "penalty", "tuned"))
        alike.setdefault(tuple(chosen), []).append(cell)
    for those in (group for group in alike.values() if len(group) > 1):
        seen = {}
        for cell in those:
            cfg = compose_run(*cell.overrides)
            run = OmegaConf.to_yaml(OmegaConf.create({key: cfg[key] for key in ("model", "penalty", "data")}))
            assert run not in seen, f"{cell.row} and {seen[run]} are one run on {cell.data}"
            seen[run] = cell.row


# What a file declares of the paper ----------------------------------------------------------------------


@pytest.mark.parametrize("name", PRINTED)
def test_rows_and_columns_are_the_paper_s(name):
    """No printed row is forgotten or there twice, and every column that is declared is printed."""
    table = read_experiment(name)[1]
    paper, number = PRINTED[name]
    cells_of_paper = [row for row in read_rows("results") if (row["paper"], row["table"]) == (paper, number)]
    if name in TABLES:
        assert set(table.data.values()) == {row["dataset"] for row in cells_of_paper}
    for dataset in table.data.values():
        here = [row for row in cells_of_paper if row["dataset"] == dataset]
        printed_rows = {(row["model"], row["penalty_or_variant"]) for row in here}
        rows = [
            (row.paper["model"], row.paper.get("penalty_or_variant", ""))
            for row in table.rows.values()
            if row.paper and (row.only is None or dataset in row.only)
        ]
        assert len(set(rows)) == len(rows)
        assert set(rows) <= printed_rows
        printed_columns = {(row["target"], row["metric"]) for row in here}
        columns = [column.rpartition("/") for column in table.metrics[dataset].values() if column]
        assert {(target or "sentiment", metric) for target, _, metric in columns} <= printed_columns
        if name in TABLES:
            assert set(rows) == printed_rows
            dropped = {(t, m) for t, m in printed_columns if m.startswith("acc2_drop_") and m != "acc2_drop_none"}
            assert {(target or "sentiment", metric) for target, _, metric in columns} == printed_columns - dropped


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_tuned_values_exist_and_are_of_the_row_s_model(name):
    """They belong to real data, which a stand-in of the table stands for."""
    table = read_experiment(name)[1]
    for row in table.rows.values():
        for data, option in row.tuned.items():
            assert (CONFIGS / "tuned" / f"{option}.yaml").is_file(), option
            assert f"model={Path(option).name}" in row.run
            assert data in {*table.data.values(), "mosi", "mosei"}
            assert OmegaConf.load(CONFIGS / "data" / f"{data}.yaml").segments["_target_"] == "mdm.data.store.open_store"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_text_encoder_on_real_data_is_not_the_tiny_one(name):
    """On MOSI and MOSEI a model that reads with a transformer has settings that name one."""
    table = read_experiment(name)[1]
    models = {path.stem for path in (CONFIGS / "model").glob("*.yaml") if "text_encoder" in path.read_text()} | {"mird_oc"}
    for row in table.rows.values():
        model = next((o.removeprefix("model=") for o in row.run or () if o.startswith("model=")), "")
        if model in models:
            real = {d for d in table.data.values() if row.only is None or d in row.only}
            assert real <= set(row.tuned), row.name
            for option in row.tuned.values():
                assert OmegaConf.load(CONFIGS / "tuned" / f"{option}.yaml").model.backbone.text_encoder != "tiny"


# What can run -------------------------------------------------------------------------------------------


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
    """Learner, or baseline, from the config; each combination of overrides once, where several tables have it."""
    for overrides in distinct():
        cfg = small(overrides)
        splits = build_splits(cfg)
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
