"""The training loop against a bare PyTorch loop, and what a penalty may and may not touch."""

import copy
import dataclasses
import inspect
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn

from mdm.data.batches import InOrder
from mdm.estimators import donsker_varadhan
from mdm.ownership import own
from mdm.penalties.base import View
from mdm.penalties.dependency import Dependency
from mdm.penalties.hsic import Hsic
from mdm.runs.build import build_learner, build_splits
from mdm.runs.trainer import build_trainer
from mdm.seeds import derive
from mdm.training import learner as learners
from mdm.training.groups import parameter_groups
from mdm.training.objective import CriticTraining, Objective
from mdm.training.predict import predict
from mdm.training.product import batch_lengths
from mdm.training.views import Here, Recent, keeping_buffers, select_samples
from mdm.types import Fusion


def same(a: nn.Module, b: nn.Module) -> bool:
    """Bit for bit, buffers too."""
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("model", ["eflstm", "lmf"])
def test_no_penalty_equals_a_bare_loop_bit_for_bit(config, tmp_path, model, fit):
    cfg = config(f"model={model}")
    splits = build_splits(cfg)
    bare = build_learner(cfg, splits).backbone
    optimizer = torch.optim.AdamW(bare.parameters(), lr=1e-3, weight_decay=0.01, fused=True)
    loader = splits.train()
    for epoch in range(cfg.trainer.max_epochs):
        torch.manual_seed(derive(cfg.seed, "dropout", epoch))
        loader.batch_sampler.set_epoch(epoch)
        bare.train()
        for batch in loader:
            loss = (bare(batch).prediction - batch.label).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    learner, _ = fit(cfg, tmp_path / "run")
    assert same(learner.backbone, bare)


@pytest.mark.parametrize("batches", ["fresh", "shared", "replay"])
@pytest.mark.parametrize("model", ["eflstm", "lmf"])
def test_a_critic_that_only_measures_leaves_the_backbone_bit_identical(config, tmp_path, model, batches, fit):
    """LMF has BatchNorm and dropout, so statistics and random draws are both at stake."""
    plain, _ = fit(config(f"model={model}"), tmp_path / "none")
    measured, _ = fit(
        config(f"model={model}", "penalty=kl", "penalty.measure_only=true", f"penalty.critic.batches={batches}"), tmp_path / "kl"
    )
    assert same(plain.backbone, measured.backbone)
    assert {"valid/kl/estimate", "train/kl/estimate"} <= set(measured.curve[-1])


def test_the_training_estimate_is_that_of_the_last_rows_that_were_trained_on(config, tmp_path, fit):
    """Three batches of 32; validation has 60 rows, so the last two count, and the critic is as validation has it."""
    cfg = config("model=lmf", "penalty=kl", "data.segments.valid=60", "trainer.max_epochs=1")
    learner, _ = fit(cfg, tmp_path)
    views, penalty = learner._recent["kl"].views, learner.penalties["kl"].eval()
    assert [len(view.label) for view in views] == [32] * 3
    with torch.no_grad():
        t = [penalty.critic(torch.cat([getattr(view, side).z for view in views[1:]])) for side in ("joint", "product")]
    assert learner.curve[-1]["train/kl/estimate"] == pytest.approx(float(donsker_varadhan(*t)), abs=1e-5)


def test_a_penalty_and_none_start_alike_and_see_the_same_batches_and_dropout(config, tmp_path, fit):
    """Truly paired seeds: up to the first step of the backbone, every prediction is the same number."""
    seen = {}

    def recording(name):
        def change(learner):
            def record(module, arguments):
                seen.setdefault(name, []).append([a.detach().clone() for a in arguments])

            learner.loss.register_forward_pre_hook(record)

        return change

    fit(config("model=lmf"), tmp_path / "none", recording("none"))
    fit(config("model=lmf", "penalty=kl"), tmp_path / "kl", recording("kl"))
    assert torch.equal(seen["none"][0][0], seen["kl"][0][0])
    assert all(torch.equal(a[1], b[1]) for a, b in zip(seen["none"], seen["kl"], strict=True))
    assert not torch.equal(seen["none"][1][0], seen["kl"][1][0]), "the penalty moved nothing"


@pytest.mark.parametrize(("batches", "interleave"), [(b, "batch") for b in ("fresh", "shared", "replay")] + [("fresh", "epoch")])
def test_the_critic_moves_by_its_own_steps_only(config, tmp_path, batches, interleave, fit):
    """With a critic's learning rate of 0 its weights stay, whatever the backbone's step does; with another they move."""

    def critic(lr):
        cfg = config(
            "penalty=kl",
            f"penalty.critic.batches={batches}",
            f"penalty.critic.interleave={interleave}",
            "penalty.critic.steps=2",
            f"penalty.critic.optimizer.lr={lr}",
        )
        start = copy.deepcopy(build_learner(cfg, build_splits(cfg)).penalties)
        return start, fit(cfg, tmp_path / f"{lr}")[0].penalties

    assert same(*critic(0.0))
    assert not same(*critic(0.01))


@pytest.mark.parametrize("measure_only", [True, False])
def test_replay_remembers_different_batches(config, tmp_path, measure_only, fit):
    """Whether or not there is a stage two to make the views."""
    cfg = config("penalty=kl", "penalty.critic.batches=replay", f"penalty.measure_only={measure_only}", "trainer.max_epochs=1")
    learner, _ = fit(cfg, tmp_path)
    labels = [tuple(view.label.flatten().tolist()) for view in learner._recent["kl"].views]
    assert len(labels) == len(set(labels)) == 3


def test_steps_per_epoch(config, tmp_path, fit):
    """96 segments in batches of 32: 3 steps of the backbone, and ``steps`` of the critic for each, however interleaved."""
    for interleave in ("batch", "epoch"):
        counts = {"critic": 0}

        def change(learner, counts=counts):
            penalty = learner.penalties["kl"]
            inner = penalty.critic_loss

            def counting(view):
                counts["critic"] += 1
                return inner(view)

            penalty.critic_loss = counting

        cfg = config(
            "penalty=kl",
            "penalty.critic.batches=fresh",
            f"penalty.critic.interleave={interleave}",
            "penalty.critic.steps=4",
            "trainer.max_epochs=1",
        )
        fit(cfg, tmp_path / interleave, change)
        assert counts["critic"] == 12


def test_lightning_counts_the_steps_of_the_backbone_alone(config, tmp_path, fit):
    """Two epochs of three batches, whatever the critics do between them."""
    learner, _ = fit(config("model=lmf", "penalty=kl"), tmp_path)
    assert learner.trainer.global_step == 6


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
    monkeypatch.setattr(learners, "product", lambda encoded, index, lengths: seen.append(index) or encoded)
    learner._view(here, learner.penalties["kl"].products)
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


def watched(learner, name):
    """What one penalty is given: (rows of Z, rows of Z of product samples), for critic and for stage two."""
    critic, term, penalty = [], [], learner.penalties[name]
    for views, method in ((critic, "critic_loss"), (term, "forward")):
        inner = getattr(penalty, method)
        setattr(penalty, method, lambda view, views=views, inner=inner: views.append(view.detach()) or inner(view))
    return critic, term


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
    for views in zip(*(seen[name][1] for name in ("one", "three", "none")), strict=True):
        one, three, none = views
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


# ---- what can go wrong


def test_a_term_that_is_not_finite_stops_before_any_weight_changes(config, tmp_path):
    cfg = config()
    splits = build_splits(cfg)
    learner = build_learner(cfg, splits)
    before = copy.deepcopy(learner.backbone)
    learner.loss.register_forward_hook(lambda module, arguments, value: value * float("nan"))
    with pytest.raises(ValueError, match="Every loss term must be finite, but task is not, in epoch 0"), own(tmp_path) as owner:
        build_trainer(cfg, owner, splits.spec).fit(learner, splits.train(), splits.valid())
    assert same(learner.backbone, before)


def test_a_critic_that_diverges_is_named(config, tmp_path):
    cfg = config("penalty=kl")
    splits = build_splits(cfg)
    learner = build_learner(cfg, splits)
    weight = next(learner.penalties["kl"].parameters())
    learner.penalties["kl"].critic_loss = lambda view: weight.sum() * float("inf")
    with pytest.raises(ValueError, match="A critic's loss must be finite, but that of kl is not"), own(tmp_path) as owner:
        build_trainer(cfg, owner, splits.spec).fit(learner, splits.train(), splits.valid())


def test_gradient_clip_bounds_the_step_of_the_backbone(config, tmp_path, fit):
    """SGD with lr 1 moves by the gradient: with the norm clipped to 1e-3, three steps move at most 3e-3."""
    sgd = ("~model.optimizer", "+model.optimizer={_target_: torch.optim.SGD, lr: 1.0}", "trainer.max_epochs=1")
    cfg = config(*sgd, "trainer.gradient_clip=0.001")
    start = build_learner(cfg, build_splits(cfg)).backbone
    learner, _ = fit(cfg, tmp_path)
    moved = torch.cat([(a - b).flatten() for a, b in zip(learner.backbone.parameters(), start.parameters(), strict=True)])
    assert 0 < moved.norm() <= 3.01e-3


def test_the_estimate_is_measured_on_validation_rows(config, tmp_path, fit):
    """A critic that memorises the training fold must not report dependence, so what it reads is the validation fold, all of it and
    nothing else: its joint rows as the backbone makes them, its product rows re-pairings of these."""
    cfg = config("data=gaussian", "model=lmf", "penalty=kl", "data.segments.valid=60", "trainer.max_epochs=1")
    seen = []

    def watch(learner):
        learner.penalties["kl"].estimate = lambda view: seen.append(view) or {"estimate": view.label.mean()}

    learner, splits = fit(cfg, tmp_path, watch)
    learner.eval()
    with torch.no_grad():
        fold = [(batch.label, learner.backbone(batch)) for batch in splits.valid()]
    (valid, train), label = seen, torch.cat([label for label, _ in fold])
    assert torch.equal(valid.label, label)
    torch.testing.assert_close(valid.joint.z, torch.cat([fusion.z for _, fusion in fold]))
    for name, rows in valid.joint.unimodal.items():
        again = valid.product.unimodal[name]
        assert torch.equal(again.sort(0).values, rows.sort(0).values), name
    assert not torch.equal(valid.product.z, valid.joint.z)
    (row,) = learner.curve
    assert (row["valid/kl/estimate"], row["train/kl/estimate"]) == (float(valid.label.mean()), float(train.label.mean()))


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


def test_the_task_loss_is_of_labelled_rows_and_the_rest_of_all(config, tmp_path, fit):
    cfg = config("data.segments.unlabeled=30", "data.unlabeled=2", "trainer.max_epochs=1", "model=lmf", "penalty=kl")
    seen = []

    def watch(learner):
        learner.loss.register_forward_pre_hook(lambda _, given: seen.append((len(given[0]), given[1])))
        own_terms = learner.backbone.own_terms
        learner.backbone.own_terms = lambda batch, *rest: seen.append(len(batch)) or own_terms(batch, *rest)

    learner, _ = fit(cfg, tmp_path / "run", watch)
    assert [rows for rows in seen if isinstance(rows, int)] == [96, 96, 96]
    assert all(rows == 32 and torch.isfinite(label).all() for rows, label in (s for s in seen if not isinstance(s, int)))
    assert torch.isfinite(torch.tensor(learner.curve[0]["train/task"]))


def test_biases_that_are_matrices_are_not_decayed(config):
    """XLNet has a bias for each head."""
    learner = build_learner(cfg := config("model=magxlnet"), build_splits(cfg))
    decayed = {id(p) for g in learner.configure_optimizers()[0].param_groups if g["weight_decay"] for p in g["params"]}
    names = {name for name, p in learner.backbone.named_parameters() if id(p) in decayed}
    assert any(name.endswith("rel_attn.q") for name in names)
    assert not [name for name in names if name.endswith("bias") or "norm" in name]


def test_a_penalty_forgets_at_the_start_of_every_epoch(config, tmp_path, fit):
    started = []

    def watch(learner):
        penalty = learner.objectives["kl"].penalty
        penalty.start_epoch = lambda: started.append(learner.current_epoch)

    fit(config("model=lmf", "penalty=kl", "trainer.max_epochs=3"), tmp_path / "run", watch)
    assert started == [0, 1, 2]


def test_groups_reach_the_optimizer(config):
    cfg = config("+model.groups.head={lr: 0.5}")
    learner = build_learner(cfg, build_splits(cfg))
    optimizer = learner.configure_optimizers()[0]
    assert [g["lr"] for g in optimizer.param_groups] == [0.001, 0.5]


def test_keeping_buffers():
    norm = nn.BatchNorm1d(3)
    before = copy.deepcopy(norm.state_dict())
    with keeping_buffers(norm):
        norm(torch.randn(8, 3) + 5)
    assert all(torch.equal(before[k], v) for k, v in norm.state_dict().items())


def test_recent_views_forget_the_oldest():
    recent = Recent(0)
    z = torch.zeros(1, 1)
    views = [View(Fusion(z, z), None, z + i) for i in range(Recent.size + 3)]
    for view in views:
        recent.keep(view)
    assert [v.label.item() for v in recent.views] == list(range(3, Recent.size + 3))
    assert any(recent.draw() is view for view in recent.views)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "at least 1 step, .* but steps=0"),
        ({"interleave": "epoch"}, "needs fresh batches, but steps=10, batches=replay and interleave=epoch came"),
    ],
)
def test_options_that_do_not_go_together(options, message):
    with pytest.raises(ValueError, match=message):
        CriticTraining(torch.optim.Adam, **options)


def test_a_critic_is_trained_and_what_has_none_is_not():
    with pytest.raises(ValueError, match="The critic of Dependency must be trained, but critic=null came"):
        Objective(Dependency(4, weight=1.0))
    with pytest.raises(ValueError, match="Hsic has no critic to train"):
        Objective(Hsic(4, weight=1.0, unimodal_dims={"a": 2, "b": 2}), CriticTraining(torch.optim.Adam))


def test_a_critic_has_a_clip_of_its_own(config, tmp_path, fit):
    """Plain gradient descent at rate 1 moves at most by the clip in each step: 3 batches, 2 steps each."""

    def moved(clip):
        sgd = "penalty.critic.optimizer={_target_: torch.optim.SGD, lr: 1.0}"
        more = (
            "penalty.critic.steps=2",
            f"penalty.critic.gradient_clip={clip}",
            "trainer.max_epochs=1",
            sgd,
            "~penalty.critic.optimizer.fused",
        )
        cfg = config("penalty=kl", "penalty.measure_only=true", *more)
        start = copy.deepcopy(build_learner(cfg, build_splits(cfg)).penalties)
        end = fit(cfg, tmp_path / f"{clip}")[0].penalties
        pairs = zip(start.parameters(), end.parameters(), strict=True)
        return float(torch.stack([((a - b) ** 2).sum() for a, b in pairs]).sum().sqrt().detach())

    assert 0 < moved(1e-3) <= 6 * 1e-3 * (1 + 1e-5) < moved("null")


def test_predict_does_not_depend_on_the_batches(config):
    cfg = config("model=lmf")
    splits = build_splits(cfg)
    backbone = build_learner(cfg, splits).backbone
    whole, label = predict(backbone, splits.in_order("train"))
    parts, again = predict(backbone, (splits._loader(splits._folds["train"], InOrder(96, 7))))
    assert (label == again).all()
    assert abs(whole - parts).max() < 1e-5
