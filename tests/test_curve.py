"""A curve's columns say what they are: by name, and of a run that was trained."""

import pytest

from mdm.runs import records
from mdm.runs.naming import record_folder
from mdm.runs.protocol import run
from mdm.training.curve import describe_columns, name_estimate, name_metric, name_term


def test_columns_of_a_trained_run_are_known_by_kind(config):
    """LMF with a penalty of one critic: metrics of validation, the task loss, the penalty's term, and its estimates of both."""
    cfg = config("model=lmf", "penalty=kl", "trainer.max_epochs=1")
    record = run(cfg)
    columns = describe_columns(records.read_table(record_folder(cfg, ()), records.CURVE).columns)
    of = {kind: {c.name for c in columns.values() if c.kind == kind} for kind in {c.kind for c in columns.values()}}
    assert of["metric"] == {name_metric(metric) for metric in record["test"]}
    assert of["task"] == {name_term("task")}
    assert of["setting"] == {"epoch", "seconds"}
    assert name_estimate("valid", "kl", "estimate") in of["estimate"]
    assert {columns[name].penalty for name in of["estimate"] | of["penalty term"]} == {"kl"}
    assert all(f"train/{columns[name].quantity}" in of["estimate"] for name in of["estimate"])


@pytest.mark.parametrize(
    ("name", "kind", "fold", "quantity", "penalty"),
    [
        ("valid/happy/mae", "metric", "valid", "happy/mae", ""),
        ("train/cpc_audio", "own term", "train", "cpc_audio", ""),
        ("train/kl/term", "penalty term", "train", "kl/term", "kl"),
        ("train/kl/estimate", "estimate", "train", "kl/estimate", "kl"),
        ("alpha", "setting", None, "alpha", ""),
    ],
)
def test_a_column_is_known_among_the_others(name, kind, fold, quantity, penalty):
    """A metric of one of several targets is named like an estimate, but training has no such column."""
    column = describe_columns([name, "valid/kl/estimate", "train/kl/estimate"])[name]
    assert (column.kind, column.fold, column.quantity, column.penalty) == (kind, fold, quantity, penalty)
