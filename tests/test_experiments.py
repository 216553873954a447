"""Every table of the papers has its file, and each file says the whole table."""

import re
from pathlib import Path

import pytest
from experiments import CONFIGS, EXPERIMENTS, HARDEST, PRINTED, STUDIES, TABLES, compose_run, read_experiment
from omegaconf import OmegaConf

from mdm.reference import read_rows
from mdm.sweeps.experiment import list_cells

SWEEPS = {"mird/figure6", "mird/figure7"}
"""Of settings, with few seeds each."""
OTHERS = {"mird/table2", "mdm/figure1", "mdm/critics", "mdm/lipschitz"}
"""Costs and estimates."""


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
