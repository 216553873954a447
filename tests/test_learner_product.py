"""Samples of the product in training: how many, re-paired with whom, and of which draws in which epoch."""

import dataclasses
from itertools import combinations

import numpy as np
import pytest
import torch
from made_learners import watched

from mdm.penalties.base import View
from mdm.runs.build import build_learner, build_splits
from mdm.training import views
from mdm.training.product import batch_lengths
from mdm.training.views import Here, Recent, select_samples
from mdm.types import Fusion

# ---- samples of the product


def built(config, *overrides):
    """A learner, its first training batch, and what the backbone makes of it."""
    cfg = config("model=lmf", *overrides)
    splits = build_splits(cfg)
    learner = build_learner(cfg, splits)
    batch = next(iter(splits.train()))
    with torch.no_grad():
        encoded = learner.backbone.encode(batch)
        return learner, Here(batch, encoded, learner.backbone.fuse(encoded), batch_lengths(batch))


@pytest.mark.parametrize("missing", ["null", "{audio: 0.3}"])
def test_three_samples_of_the_product_are_three_re_pairings_without_old_partners(config, monkeypatch, missing):
    """One after the other, of one size, also where a modality is missing from some rows."""
    learner, here = built(config, "penalty=kl", "penalty.objective.shifts=3", f"data.segments.missing={missing}")
    seen = []
    monkeypatch.setattr(views, "product", lambda encoded, index, lengths: seen.append(index) or encoded)
    learner.passes.view(here, learner.penalties["kl"].products)
    (index,) = seen
    three = np.split(index, 3, axis=1)
    present = here.lengths > 0
    assert present.all() == (missing == "null")
    assert all((one[0] == three[0][0]).all() for one in three), "the first modality stays where it is"
    for one in three:
        assert all((np.sort(rows) == np.sort(one[0])).all() for rows in one), "each modality is a permutation"
        for a, b in combinations(range(3), 2):
            both = present[a, one[0]] & present[b, one[0]]
            assert both.any()
            assert (one[a] != one[b])[both].all()
    assert not any((a == b).all() for a, b in combinations(three, 2))


@pytest.mark.parametrize("batches", ["fresh", "shared", "replay"])
def test_every_view_has_as_many_samples_as_its_penalty_asks_for(config, tmp_path, batches, fit):
    """32 joint rows and 3 · 32 of the product, in each of 2 critic steps and in stage two of 3 batches."""
    seen = {}
    cfg = config(
        "model=lmf",
        "penalty=kl",
        "penalty.objective.shifts=3",
        "penalty.critic.steps=2",
        f"penalty.critic.batches={batches}",
        "trainer.max_epochs=1",
    )
    learner, _ = fit(cfg, tmp_path, lambda learner: seen.update(kl=watched(learner, "kl")))
    critic, term = seen["kl"]
    assert [(len(v.joint.z), len(v.product.z)) for v in critic] == [(32, 96)] * 6
    assert [(len(v.joint.z), len(v.product.z)) for v in term] == [(32, 96)] * 3
    assert [len(v.product.z) for v in learner._recent["kl"].views] == [96] * 3


def test_shared_batches_are_re_paired_for_every_step_and_fused_at_once(config):
    """Four steps of three samples: 4 · 3 · 32 rows through one call, all parts different, each as `fuse` makes it alone."""
    options = ["penalty.objective.shifts=3", "penalty.critic.steps=4", "penalty.critic.batches=shared"]
    learner, here = built(config, "penalty=kl", *options)
    learner.eval()  # no dropout, so that rows can be compared
    calls, fuse = [], learner.backbone.fuse
    learner.backbone.fuse = lambda encoded: calls.append(fuse(encoded)) or calls[-1]
    views = list(learner._critic_views("kl", 3, learner.objectives["kl"].critic, here))
    (fused,) = calls
    assert len(fused.z) == 4 * 96
    assert torch.equal(torch.cat([v.product.z for v in views]), fused.z)
    assert all(v.joint.z is views[0].joint.z and len(v.product.z) == 96 for v in views)
    assert not any(torch.equal(a.product.z, b.product.z) for a, b in combinations(views, 2))


def test_penalties_that_ask_for_different_numbers_get_what_they_ask_for(config, tmp_path, fit):
    """One wants three samples, one the first of these, and one none at all."""
    seen = {}
    cfg = config(
        "model=lmf",
        "penalty=sum",
        "+penalty@penalty.sum.one=kl",
        "+penalty@penalty.sum.three=f",
        "+penalty@penalty.sum.none=club",
        "penalty.sum.three.objective.shifts=3",
        "trainer.max_epochs=1",
    )
    learner, _ = fit(cfg, tmp_path, lambda learner: seen.update({n: watched(learner, n) for n in learner.penalties}))
    for given in zip(*(seen[name][1] for name in ("one", "three", "none")), strict=True):
        one, three, none = given
        assert none.product is None
        assert len(three.product.z) == 96
        assert torch.equal(one.product.z, three.product.z[:32])
        assert torch.equal(one.product.prediction, three.product.prediction[:32])
    for name, rows in (("one", 32), ("three", 96)):
        assert {len(v.product.z) for v in seen[name][0]} == {rows}
        assert [len(v.product.z) for v in learner._recent[name].views] == [rows] * 3
    assert all(v.product is None for v in seen["none"][0])


def test_samples_of_a_view():
    z = torch.arange(12.0)[:, None]
    view = View(Fusion(z[:4], z[:4]), Fusion(z, z, {"m": 2 * z}), z[:4])
    part = select_samples(view, 1, 3, 6)
    assert part.product.z.flatten().tolist() == [2, 3, 4, 5]
    assert part.product.unimodal["m"].flatten().tolist() == [4, 6, 8, 10]
    assert part.joint is view.joint
    assert select_samples(view, 0, 0, 6).product is None
    assert select_samples(View(view.joint, None, view.label), 0, 1, 1).product is None


def test_the_first_batch_of_replay_is_re_paired_once_for_all_steps(config):
    """Four steps of three samples: 3 · 32 rows through one call, and every step sees them; then what is remembered, and no call."""
    learner, here = built(config, "penalty=kl", "penalty.objective.shifts=3", "penalty.critic.steps=4")
    critic = dataclasses.replace(learner.objectives["kl"].critic, batches="replay")
    calls, fuse = [], learner.backbone.fuse
    learner.backbone.fuse = lambda encoded: calls.append(fuse(encoded)) or calls[-1]
    views = list(learner._critic_views("kl", 3, critic, here))
    (fused,) = calls
    assert len(views) == 4
    assert all(torch.equal(v.product.z, fused.z) and v.joint.z is views[0].joint.z for v in views)
    assert len(fused.z) == 96
    learner._recent["kl"].keep(views[0])
    assert all(view is views[0] for view in learner._critic_views("kl", 3, critic, here))
    assert len(calls) == 1


# ---- draws of an epoch


def test_draws_of_replay_are_a_function_of_seed_and_epoch(config):
    """Twenty of sixteen views: two epochs agree by chance with probability 16⁻²⁰."""
    z = torch.zeros(1, 1)

    def draw(epoch, seed=0):
        learner, _ = built(config, "penalty=kl", f"seed={seed}")
        learner._start_epoch(epoch)
        for i in range(Recent.size):
            learner._recent["kl"].keep(View(Fusion(z, z), None, z + i))
        return [int(learner._recent["kl"].draw().label) for _ in range(20)]

    assert draw(1) == draw(1)
    assert len({tuple(draw(*which)) for which in ((0,), (1,), (2,), (1, 1))}) == 4


def test_fresh_batches_come_in_another_order_in_each_pass_and_epoch(config):
    """96 segments in batches of 32: every third batch begins a pass, and each pass is all of them."""
    learner, _ = built(config, "penalty=kl", "penalty.critic.batches=fresh")

    def order(epoch):
        learner._start_epoch(epoch)
        return [tuple(name for _ in range(3) for name in next(learner._fresh_batches).ids) for _ in range(2)]

    orders = [order(epoch) for epoch in range(3)]
    assert order(1) == orders[1]
    passes = [one for of_epoch in orders for one in of_epoch]
    assert len({tuple(sorted(one)) for one in passes}) == 1
    assert len(set(passes)) == 6
    assert passes[0] != tuple(name for batch in build_splits(config("model=lmf")).train() for name in batch.ids), (
        "the backbone's own"
    )


@pytest.mark.parametrize("steps", [1, 3])
def test_re_pairings_of_validation_are_the_same_in_every_epoch(config, tmp_path, steps, fit):
    """Where no weight moves an estimate is one number, however many re-pairings training has drawn. EF-LSTM has no BatchNorm."""
    still = ("model.optimizer.lr=0", "penalty.critic.optimizer.lr=0", f"penalty.critic.steps={steps}", "trainer.max_epochs=3")
    views = []

    def watch(learner):
        inner = learner.penalties["kl"].estimate
        learner.penalties["kl"].estimate = lambda view: views.append(view) or inner(view)

    learner, _ = fit(config("penalty=kl", "model=eflstm", *still), tmp_path / "run", watch)
    assert len({row["valid/kl/estimate"] for row in learner.curve}) == 1
    assert len({row["train/kl/estimate"] for row in learner.curve}) == 3, "training's own change"
    products = [view.product.z for view in views if len(view.label) == 32 and torch.equal(view.label, views[0].label)]
    assert len(products) == 3
    assert all(torch.equal(z, products[0]) for z in products)
