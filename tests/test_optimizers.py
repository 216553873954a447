"""AdamW as transformers 3.0.2 had it, against its formula step by step in double precision, and against torch where both agree."""

import copy

import pytest
import torch

from mdm.training.optimizers import AdamW302


def by_hand(start, gradients, lr, betas, eps, decay):
    """p after so many steps, one number at a time."""
    p, mean, square = start, 0.0, 0.0
    for t, g in enumerate(gradients, start=1):
        mean = betas[0] * mean + (1 - betas[0]) * g
        square = betas[1] * square + (1 - betas[1]) * g * g
        p -= lr * (1 - betas[1] ** t) ** 0.5 / (1 - betas[0] ** t) * mean / (square**0.5 + eps)
        p -= lr * decay * p
    return p


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_every_entry_follows_the_formula(decay):
    torch.manual_seed(0)
    gradients = [torch.randn(3, 2, dtype=torch.float64) * 1e-5 for _ in range(7)]
    start = torch.randn(3, 2, dtype=torch.float64)
    p = torch.nn.Parameter(start.clone())
    optimizer = AdamW302([p], lr=0.01, betas=(0.8, 0.99), eps=1e-6, weight_decay=decay)
    for gradient in gradients:
        p.grad = gradient.clone()
        optimizer.step()
    for i in range(3):
        for j in range(2):
            hand = by_hand(float(start[i, j]), [float(g[i, j]) for g in gradients], 0.01, (0.8, 0.99), 1e-6, decay)
            assert p[i, j].item() == pytest.approx(hand, rel=1e-12)


def test_without_epsilon_it_is_torchs_and_with_it_the_first_step_is_shorter():
    """ε = 0: the same quotient. ε = √v: torch halves its first step nearly not at all, this one halves it."""
    for eps, shares in ((0.0, (1.0, 1.0)), (1e-5, (1 / 1.01, 1 / (1 + 0.01 * 1000**0.5)))):
        moved = []
        for kind in (torch.optim.AdamW, AdamW302):
            p = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
            p.grad = torch.full((1,), 1e-3, dtype=torch.float64)
            kind([p], lr=1.0, eps=eps, weight_decay=0.0).step()
            moved.append(-p.item())
        assert moved == pytest.approx(shares, rel=1e-9)


def test_parameters_without_a_gradient_stay_and_count_their_own_steps():
    a, b = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = AdamW302([a, b], lr=0.1, weight_decay=0.5)
    a.grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(b, torch.ones(2))
    b.grad = torch.ones(2)
    optimizer.step()
    torch.testing.assert_close(b.detach(), torch.full((2,), by_hand(1.0, [1.0], 0.1, (0.9, 0.999), 1e-6, 0.5)))
    torch.testing.assert_close(a.detach(), torch.full((2,), by_hand(1.0, [1.0, 1.0], 0.1, (0.9, 0.999), 1e-6, 0.5)))


def test_it_goes_on_from_its_state():
    torch.manual_seed(0)
    p = torch.nn.Parameter(torch.randn(4))
    first = AdamW302([p], lr=0.1)
    p.grad = torch.randn(4)
    first.step()
    q = torch.nn.Parameter(p.detach().clone())
    second = AdamW302([q], lr=0.1)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    p.grad, q.grad = torch.ones(4), torch.ones(4)
    first.step()
    second.step()
    assert torch.equal(p, q)


@pytest.mark.parametrize("options", [{"lr": -1.0}, {"eps": -1.0}, {"weight_decay": -0.1}, {"betas": (1.0, 0.9)}])
def test_what_is_no_number_for_it_is_refused(options):
    with pytest.raises(ValueError, match=r"AdamW302 needs lr, eps, weight_decay >= 0 and betas in \[0, 1\)"):
        AdamW302([torch.nn.Parameter(torch.ones(1))], **options)
