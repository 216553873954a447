"""Adam in one pass over its parameters is torch's Adam up to rounding, and only where nobody asked for another."""

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from mdm.runs.build import build_factory, build_learner, build_splits


def make(target, mixed=False, **options):
    cfg = OmegaConf.create({"optimizer": {"_target_": target, "lr": 1e-3, **options}})
    torch.manual_seed(0)
    module = nn.LSTM(70, 33, 2)  # sizes that are no multiple of a vector register
    return list(module.parameters()), build_factory(cfg.optimizer, mixed)(module.parameters())


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_it_is_the_same_step_up_to_rounding(name):
    """A step rounds p twice, by half a unit in the last place each, and its update of size ≤ 10·lr a dozen times; in both."""
    steps, target = 50, f"torch.optim.{name}"
    ours, fused = make(target, weight_decay=0.01)
    plain, default = make(target, weight_decay=0.01, fused=False)
    assert fused.defaults["fused"]
    assert not default.defaults["fused"]
    for step in range(steps):
        torch.manual_seed(step)
        for a, b in zip(ours, plain, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        fused.step()
        default.step()
    bound = steps * torch.finfo(torch.float32).eps * 2 * (max(float(p.detach().abs().max()) for p in plain) + 12 * 10 * 1e-3)
    assert max(float((a - b).detach().abs().max()) for a, b in zip(ours, plain, strict=True)) <= bound


def test_only_where_nothing_else_was_asked_for():
    assert make("torch.optim.SGD")[1].defaults["fused"] is None
    assert make("torch.optim.Adam", foreach=True)[1].defaults["fused"] is None
    assert make("torch.optim.AdamW", fused=False)[1].defaults["fused"] is False
    assert make("torch.optim.AdamW", mixed=True)[1].defaults["fused"] is None


@pytest.mark.parametrize(("precision", "fused"), [("32-true", True), ("bf16-mixed", None), ("bf16-true", True)])
def test_lightning_clips_no_fused_optimizer_of_mixed_precision(config, precision, fused):
    cfg = config("model=lmf", f"trainer.precision={precision}", "trainer.gradient_clip=1.0")
    assert build_learner(cfg, build_splits(cfg)).configure_optimizers()[0].defaults["fused"] is fused
