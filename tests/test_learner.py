"""The training loop against a bare PyTorch loop, and what a penalty may and may not touch."""

import copy

import pytest
import torch
from made_learners import same

from mdm.estimators import donsker_varadhan
from mdm.runs.build import build_learner, build_splits
from mdm.seeds import derive


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
