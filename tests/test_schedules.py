"""Learning-rate factors by hand, and against the library that fine-tuning code uses."""

import pytest
import torch
from transformers import get_linear_schedule_with_warmup

from mdm.training.schedules import Linear


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 1.0])
def test_equals_the_schedule_of_transformers(warmup):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = get_linear_schedule_with_warmup(optimizer, int(40 * warmup), 40)
    ours = Linear(warmup)
    for step in range(40):
        assert ours(step / 40) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


def test_warm_up_over_the_whole_run_only_rises():
    """What interchanged arguments do in the code of WSA-BERT and MIRD."""
    factors = [Linear(1.0)(step / 10) for step in range(10)]
    assert factors == pytest.approx([step / 10 for step in range(10)])


def test_a_share_outside_the_run_is_refused():
    with pytest.raises(ValueError, match=r"a share of training in \[0, 1\], but is 1.5"):
        Linear(1.5)
