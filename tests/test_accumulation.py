"""Several batches a step: gradients are those of a bare loop, and critics are fitted on every batch."""

import pytest
import torch

from mdm.runs.build import build_learner, build_splits
from mdm.seeds import derive
from mdm.training.schedules import Progress

STILL = ("model.backbone.dropout=0",)


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.mark.parametrize(("accumulate", "groups"), [(1, [1] * 6), (2, [2, 2, 2]), (4, [4, 2]), (9, [6])])
def test_accumulated_gradients_are_those_of_a_bare_loop(config, tmp_path, accumulate, groups, fit):
    """Six batches: the gradient is the mean over the batches of a step, clipped as a whole; the schedule moves step by step."""
    cfg = config(
        f"trainer.accumulate_grad_batches={accumulate}",
        "data.batch_size=16",
        "trainer.gradient_clip=0.05",
        "model.schedule={_target_: mdm.training.schedules.Linear, warmup: 0.5}",
    )
    splits = build_splits(cfg)
    bare = build_learner(cfg, splits).backbone
    options = {"lr": cfg.model.optimizer.lr, "weight_decay": cfg.model.optimizer.weight_decay}
    optimizer = torch.optim.AdamW(bare.parameters(), **options, fused=True)
    schedule, loader, step = build_learner(cfg, splits).schedule, splits.train(), 0
    steps = 2 * len(groups)
    for epoch in range(2):
        torch.manual_seed(derive(cfg.seed, "dropout", epoch))
        loader.batch_sampler.set_epoch(epoch)
        bare.train()
        batches = iter(loader)
        for size in groups:
            optimizer.zero_grad()
            for _ in range(size):
                batch = next(batches)
                ((bare(batch).prediction - batch.label).abs().mean() / size).backward()
            torch.nn.utils.clip_grad_norm_(bare.parameters(), 0.05)
            optimizer.param_groups[0]["lr"] = cfg.model.optimizer.lr * schedule(Progress(step, steps, steps))
            optimizer.step()
            step += 1
    learner, _ = fit(cfg, tmp_path)
    assert torch.equal(weights(learner.backbone), weights(bare))


def test_two_batches_of_16_are_one_of_32(config, tmp_path, fit):
    """Without dropout and BatchNorm the loss is a mean over rows, so gradients differ by rounding alone, in double precision by
    1e-15 of their size; Adam divides by their size, which eight digits outlive."""
    of = ["trainer.precision=64-true", "model=eflstm", *STILL]
    halves, _ = fit(config(*of, "data.batch_size=16", "trainer.accumulate_grad_batches=2"), tmp_path / "two")
    whole, _ = fit(config(*of, "data.batch_size=32"), tmp_path / "one")
    a, b = weights(halves.backbone), weights(whole.backbone)
    assert a.dtype == torch.float64
    torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


def test_critics_are_fitted_on_every_batch(config, tmp_path, fit):
    counts = []

    def counting(learner):
        fit_critic = learner._fit_critic
        learner._fit_critic = lambda *a: counts.append(1) or fit_critic(*a)

    fit(config("penalty=kl", "data.batch_size=16", "trainer.max_epochs=1", "trainer.accumulate_grad_batches=4"), tmp_path, counting)
    assert len(counts) == 6
