"""Learning-rate factors by hand, and against the library that fine-tuning code uses."""

import numpy as np
import pytest
import torch
from transformers import get_linear_schedule_with_warmup

from mdm.training.schedules import Linear, Plateau, Progress


def at(step, steps, full=None):
    return Progress(step, steps, steps if full is None else full)


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 1.0])
def test_equals_the_schedule_of_transformers(warmup):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = get_linear_schedule_with_warmup(optimizer, int(40 * warmup), 40)
    ours = Linear(warmup)
    for step in range(40):
        assert ours(at(step, 40)) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


def test_warm_up_over_the_whole_run_only_rises():
    """What interchanged arguments do in the code of WSA-BERT and MIRD."""
    factors = [Linear(1.0)(at(step, 10)) for step in range(10)]
    assert factors == pytest.approx([step / 10 for step in range(10)])


@pytest.mark.parametrize("warmup", [0.1, 1.0])
def test_a_horizon_of_full_batches_ends_before_the_steps_do(warmup):
    """27 steps an epoch, 26 of them full, 40 epochs: MAG on MOSI. The last 40 of 1,080 steps have a rate of 0."""
    ours = Linear(warmup, end="full")
    factors = [ours(at(step, 1080, full=1040)) for step in range(1080)]
    assert factors[:1040] == pytest.approx([Linear(warmup)(at(step, 1040)) for step in range(1040)])
    assert factors[1040:] == [0.0] * 40
    assert ours(at(1, 4, full=0)) == Linear(warmup)(at(1, 4)), "one small batch an epoch has its steps all the same"


def test_a_share_outside_the_run_is_refused():
    with pytest.raises(ValueError, match=r"a share of training in \[0, 1\], but is 1.5"):
        Linear(1.5)


@pytest.mark.parametrize("seed", range(20))
def test_a_plateau_is_that_of_torch(seed):
    """Random metrics, with ties and a value that is not finite; told epoch by epoch."""
    rng = np.random.default_rng(seed)
    patience, factor = int(rng.integers(0, 4)), float(rng.choice([0.1, 0.5]))
    values = np.round(2 - 0.02 * np.arange(40) * rng.random() + 0.1 * rng.standard_normal(40), 2)
    values[7] = np.nan
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=factor, patience=patience, eps=0.0)
    ours, curve = Plateau(factor, patience), []
    for value in values:
        assert ours(curve) == pytest.approx(optimizer.param_groups[0]["lr"])
        curve.append({"valid/mae": float(value)})
        theirs.step(float(value))


@pytest.mark.parametrize("options", [{"factor": 1.0}, {"patience": -1}, {"threshold": 1.0}])
def test_a_plateau_that_could_not_fall_is_refused(options):
    with pytest.raises(ValueError, match=r"A plateau has a factor in \(0, 1\), patience >= 0 and a threshold"):
        Plateau(**{"factor": 0.1, "patience": 10, **options})
