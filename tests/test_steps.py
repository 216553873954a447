"""How gradients become steps: sums of batches, clipping by value, decay by group, what is frozen, and when critics train."""

import copy

import pytest
import torch
from test_learner import same
from torch import nn

from mdm.runs.build import build_learner, build_splits
from mdm.training.groups import freeze, parameter_groups
from mdm.training.objective import CriticTraining
from mdm.training.steps import Accumulation, Clipping

SGD = ("~model.optimizer", "+model.optimizer={_target_: torch.optim.SGD, lr: 1.0}", "trainer.max_epochs=1")


@pytest.mark.parametrize(
    ("accumulation", "divisors", "ends"),
    [
        (Accumulation(), [1] * 5, [True] * 5),
        (Accumulation(2), [2, 2, 2, 2, 1], [False, True, False, True, True]),
        (Accumulation(2, "sum"), [1] * 5, [False, True, False, True, False]),
        (Accumulation(9, "sum"), [1] * 5, [False] * 5),
    ],
)
def test_which_of_five_batches_make_steps(accumulation, divisors, ends):
    assert [accumulation.divide_by(i, 5) for i in range(5)] == divisors
    assert [accumulation.ends(i, 5) for i in range(5)] == ends
    assert accumulation.count_steps(5) == sum(ends)


def test_sums_of_batches_move_as_a_bare_loop_and_drop_what_is_left_over(config, fit, tmp_path):
    """Six batches of 16 by four: one step on the sum of four gradients, and none on the last two."""
    cfg = config(
        *SGD, "model.backbone.dropout=0", "data.batch_size=16", "trainer.accumulate_grad_batches=4", "trainer.accumulate_by=sum"
    )
    splits = build_splits(cfg)
    bare = build_learner(cfg, splits).backbone
    loader = splits.train()
    loader.batch_sampler.set_epoch(0)
    for batch, _ in zip(loader, range(4), strict=False):
        (bare(batch).prediction - batch.label).abs().mean().backward()
    with torch.no_grad():
        for parameter in bare.parameters():
            parameter -= parameter.grad
    learner, _ = fit(cfg, tmp_path)
    assert same(learner.backbone, bare)


def test_a_clip_by_value_bounds_every_entry(config, fit, tmp_path):
    """Plain descent at rate 1 moves each number by 1e-4 at most in each of three steps, and some by just that."""
    cfg = config(*SGD, "trainer.gradient_clip=1e-4", "trainer.gradient_clip_by=value")
    start = build_learner(cfg, build_splits(cfg)).backbone
    learner, _ = fit(cfg, tmp_path)
    moved = torch.cat([(a - b).flatten() for a, b in zip(learner.backbone.parameters(), start.parameters(), strict=True)]).abs()
    assert 2.9e-4 < moved.max() <= 3.01e-4


def test_a_group_says_what_its_decay_acts_on():
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.LayerNorm(2)})
    groups = parameter_groups(model, {"b": {"decay": "weights"}}, decay="matrices")
    assert [(len(g["params"]), g.get("weight_decay")) for g in groups] == [(1, None), (1, 0.0), (1, None), (1, 0.0)]
    assert groups[2]["params"][0] is model["b"].weight


def test_a_group_may_be_of_a_submodule_that_a_variant_leaves_empty():
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "decoders": nn.ModuleDict()})
    groups = parameter_groups(model, {"decoders": {"lr": 0.1}})
    assert [len(group["params"]) for group in groups] == [2]


def test_what_is_frozen_stays_and_gets_no_optimiser(config, fit, tmp_path):
    cfg = config("model=lmf", "+model.freeze=[encoders.language]", "trainer.max_epochs=1")
    start = copy.deepcopy(build_learner(cfg, build_splits(cfg)).backbone)
    learner, _ = fit(cfg, tmp_path)
    assert same(learner.backbone.encoders["language"], start.encoders["language"])
    assert not same(learner.backbone.head, start.head)


def test_a_parameter_is_frozen_by_its_name():
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    freeze(model, ["a.bias", "b"])
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == ["a.weight"]


def test_what_cannot_be_frozen_is_refused():
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.ReLU()})
    with pytest.raises(
        ValueError,
        match=r"What does not learn is a parameter or a submodule of ModuleDict that has parameters \(a\), but 'b' is none",
    ):
        freeze(model, ["b"])
    with pytest.raises(ValueError, match="Something must learn, but a are all of ModuleDict"):
        freeze(model, ["a"])


@pytest.mark.parametrize(("more", "wanted"), [([], 3), (["penalty.critic.interleave=epoch", "penalty.critic.batches=fresh"], 3)])
def test_critics_behind_the_step_see_the_backbone_as_it_is_then(config, fit, tmp_path, more, wanted):
    """Three batches, two critic steps for each; behind the step, the last view is what the backbone makes of the last batch."""
    seen = []

    def watch(learner):
        critic_loss = learner.penalties["club"].critic_loss
        learner.penalties["club"].critic_loss = lambda view: seen.append(view) or critic_loss(view)

    base = ["model=lmf", "penalty=club", "model.backbone.dropout=0", "trainer.max_epochs=1", "penalty.critic.steps=2"]
    behind = ["penalty.critic.interleave=after", "penalty.critic.batches=shared"]
    learner, _ = fit(config(*base, *(more or behind)), tmp_path, watch)
    assert len(seen) == 2 * wanted
    if not more:
        assert torch.equal(seen[-1].joint.z, seen[-2].joint.z), "the backbone does not move between a batch's critic steps"
        assert not torch.equal(seen[-1].joint.z, learner._recent["club"].views[-1].joint.z), "it has moved since it was stepped"


def test_a_share_of_a_pass(config, fit, tmp_path):
    """Half of three batches are two."""
    seen = []

    def watch(learner):
        critic_loss = learner.penalties["club"].critic_loss
        learner.penalties["club"].critic_loss = lambda view: seen.append(view) or critic_loss(view)

    more = [
        "penalty.critic.interleave=epoch",
        "penalty.critic.batches=fresh",
        "+penalty.critic.share=0.5",
        "penalty.critic.steps=1",
    ]
    fit(config("model=lmf", "penalty=club", "trainer.max_epochs=1", *more), tmp_path, watch)
    assert len(seen) == 2


def test_options_that_do_not_go_together(config):
    with pytest.raises(ValueError, match=r"gradient_clip_over=all is of a norm of gradients"):
        Clipping(1.0, "value", "all")
    with pytest.raises(ValueError, match=r"share of a pass in \(0, 1\], and no other, but share=0.5 and interleave=batch came"):
        CriticTraining(torch.optim.Adam, share=0.5)
    cfg = config("penalty=kl", "trainer.gradient_clip=1.0", "trainer.gradient_clip_over=all")
    with pytest.raises(ValueError, match="Critics are clipped with the backbone where each of their steps encodes a batch"):
        build_learner(cfg, build_splits(cfg))
