"""What stops the learner, what bounds its steps, what is measured and forgotten each epoch, and what is refused."""

import copy

import pytest
import torch
from made_learners import same
from torch import nn

from mdm.data.batches import InOrder
from mdm.ownership import own
from mdm.penalties.base import View
from mdm.penalties.dependency import Dependency
from mdm.penalties.hsic import Hsic
from mdm.runs.build import build_learner, build_splits
from mdm.runs.trainer import build_trainer
from mdm.training.objective import CriticTraining, Objective
from mdm.training.predict import predict
from mdm.training.views import Recent, keeping_buffers
from mdm.types import Fusion


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


def test_a_penalty_forgets_at_the_start_of_every_epoch(config, tmp_path, fit):
    started = []

    def watch(learner):
        penalty = learner.objectives["kl"].penalty
        penalty.start_epoch = lambda: started.append(learner.current_epoch)

    fit(config("model=lmf", "penalty=kl", "trainer.max_epochs=3"), tmp_path / "run", watch)
    assert started == [0, 1, 2]


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
