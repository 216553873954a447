"""Groups of parameters belong to submodules; their decay and their learning rates."""

import inspect

import pytest
import torch
from torch import nn

from mdm.runs.build import build_learner, build_splits
from mdm.training.groups import parameter_groups


def test_parameter_groups_belong_to_submodules():
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))})
    groups = parameter_groups(model, {"b.1": {"lr": 0.5}})
    assert [len(g["params"]) for g in groups] == [4, 2]
    assert groups[1]["lr"] == 0.5
    with pytest.raises(ValueError, match="belongs to a submodule"):
        parameter_groups(model, {"c": {}})
    with pytest.raises(ValueError, match="must not share parameters"):
        parameter_groups(model, {"b": {}, "b.1": {}})


def test_weight_decay_of_matrices_leaves_vectors_alone():
    model = nn.ModuleDict({"a": nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), "b": nn.Linear(2, 1)})
    groups = parameter_groups(model, {"b": {"lr": 0.5, "weight_decay": 0.3}}, decay="matrices")
    shapes = [sorted(tuple(p.shape) for p in g["params"]) for g in groups]
    assert shapes == [[(2, 2)], [(2,), (2,), (2,)], [(1, 2)], [(1,)]]
    assert [g.get("weight_decay") for g in groups] == [None, 0.0, 0.3, 0.0]
    assert [g.get("lr") for g in groups] == [None, None, 0.5, 0.5]
    model["b"].requires_grad_(False)
    assert sum(len(g["params"]) for g in parameter_groups(model, {}, decay="all")) == 4
    with pytest.raises(ValueError, match="decay: expected one of all, matrices, weights, got 'some'"):
        inspect.unwrap(parameter_groups)(model, {}, decay="some")


def test_a_schedule_sets_every_learning_rate_before_each_step(config, tmp_path, fit):
    """Two epochs of three batches, half of them warm-up: factors 0, 1/3, 2/3, 1, 2/3, 1/3."""
    cfg = config("+model.groups.head={lr: 0.5}", "model.schedule={_target_: mdm.training.schedules.Linear, warmup: 0.5}")
    rates = []

    def watch(learner):
        step = learner._step

        def watched(terms):
            step(terms)
            rates.append([group["lr"] for group in learner.trainer.optimizers[0].param_groups])

        learner._step = watched

    fit(cfg, tmp_path / "run", watch)
    factors = torch.tensor([0, 1 / 3, 2 / 3, 1, 2 / 3, 1 / 3])
    torch.testing.assert_close(torch.tensor(rates), factors[:, None] * torch.tensor([[0.001, 0.5]]))


def test_biases_that_are_matrices_are_not_decayed(config):
    """XLNet has a bias for each head."""
    learner = build_learner(cfg := config("model=magxlnet"), build_splits(cfg))
    decayed = {id(p) for g in learner.configure_optimizers()[0].param_groups if g["weight_decay"] for p in g["params"]}
    names = {name for name, p in learner.backbone.named_parameters() if id(p) in decayed}
    assert any(name.endswith("rel_attn.q") for name in names)
    assert not [name for name in names if name.endswith("bias") or "norm" in name]


def test_groups_reach_the_optimizer(config):
    cfg = config("+model.groups.head={lr: 0.5}")
    learner = build_learner(cfg, build_splits(cfg))
    optimizer = learner.configure_optimizers()[0]
    assert [g["lr"] for g in optimizer.param_groups] == [0.001, 0.5]
