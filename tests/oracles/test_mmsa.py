"""EF-LSTM and LMF of MMSA 2.2.1, as `tuned=mmsa/…` sets or names them, against frozen runs of its own classes (`freeze_mmsa.py`).

A norm of time positions and a second dropout in the head; weights of ranks and a bias that never train; averages over padding.
"""

import pytest
import torch
from oracles.contract import (
    FORWARD,
    GRADIENT,
    TRAJECTORY,
    build,
    columns_difference,
    forward_difference,
    gradient_difference,
    loss_difference,
    trajectory_differences,
)
from oracles.frozen import Frozen, read
from oracles.recurrent import OF_MMSA

PREDICTION = {"prediction": lambda backbone, fusion, batch: fusion.prediction}


@pytest.fixture
def built(config, tmp_path, request):
    """The system that the parameter names, with the frozen weights; more: overrides of the published setting."""

    def make(name, *more):
        built = build(OF_MMSA[name], Frozen(name), config, tmp_path, extra=more)
        if name == "mmsa_eflstm":
            lstm = built.learner.backbone.lstms["all"]
            assert lstm.dropout == built.frozen.used["dropout"]
            lstm.dropout = 0.0  # between layers it is no call that could be replaced
        return built

    return make


@pytest.mark.parametrize("name", OF_MMSA)
def test_forward_pass_loss_gradients_and_places_of_dropout(built, name):
    built = built(name)
    assert forward_difference(built, PREDICTION) < FORWARD
    assert loss_difference(built, {"task": "task"}) < FORWARD
    assert gradient_difference(built) < GRADIENT
    assert columns_difference(built) < FORWARD


@pytest.mark.parametrize("name", OF_MMSA)
def test_twenty_steps_of_the_learner(built, tmp_path, name):
    built = built(name)
    still = {official: own for official, own in built.names.items() if official in ("fusion_weights", "fusion_bias")}
    before = read(built.learner, still)
    found = trajectory_differences(built, tmp_path / "run")
    assert max(found.values()) < TRAJECTORY, found
    assert all(torch.equal(value, before[official]) for official, value in read(built.learner, still).items())


@pytest.mark.parametrize(
    ("name", "without"),
    [("mmsa_eflstm", "model.backbone.z_dropout=0"), ("mmsa_eflstm", "data.keep=last"), ("mmsa_lmf", "data.padding=masked")],
)
def test_each_detail_counts(built, name, without):
    """Else the comparisons above could not see it."""
    assert columns_difference(built(name, without)) > 100 * FORWARD
