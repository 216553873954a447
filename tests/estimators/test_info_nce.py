"""InfoNCE from scores: by hand, the range and cap of its values, and that it stays below the information."""

import math

import pytest
import torch
from torch import nn

from mdm.estimators import info_nce


def test_info_nce_of_scores_that_know_all_or_nothing():
    """log n for scores that single the diagonal out, 0 for equal ones, and below for wrong ones."""
    assert float(info_nce(1e3 * torch.eye(8))) == pytest.approx(math.log(8))
    assert float(info_nce(torch.full((8, 8), 3.7))) == pytest.approx(0, abs=1e-6)
    assert float(info_nce(-torch.eye(8))) < 0


def test_info_nce_by_hand_and_by_direction():
    """[[0, log 3], [0, 0]]: rows log 2 + ½(−log 4 − log 2) = ½ log ½; columns log 2 + ½(−log 2 − log 4), the same by symmetry.

    [[log 3, log 3], [0, 0]]: equal within rows, 0; columns log 2 + ½(log ¾ + log ¼) = ½ log ¾.
    """
    log3 = math.log(3)
    assert float(info_nce(torch.tensor([[0.0, log3], [0.0, 0.0]]))) == pytest.approx(math.log(0.5) / 2)
    scores = torch.tensor([[log3, log3], [0.0, 0.0]])
    assert float(info_nce(scores)) == pytest.approx(0, abs=1e-6)
    assert float(info_nce(scores.T)) == pytest.approx(math.log(0.75) / 2)


@pytest.mark.parametrize("n", [2, 8, 32])
def test_info_nce_of_cosines_has_its_range(n):
    """At most log n − log(1 + (n−1)·e^{−n/(n−1)}) < 1, attained by a simplex (n = 32: .9773), whatever the vectors."""
    most = math.log(n) - math.log(1 + (n - 1) * math.exp(-n / (n - 1)))
    simplex = torch.eye(n, dtype=torch.float64) - 1 / n
    simplex = simplex / simplex.norm(dim=1, keepdim=True)
    assert float(info_nce(simplex @ simplex.T)) == pytest.approx(most, abs=1e-9)
    assert most < 1
    for seed in range(20):
        g, h = nn.functional.normalize(
            torch.randn(2, n, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=2
        )
        assert float(info_nce(g @ h.T)) <= most + 1e-9
        assert float(info_nce(1e4 * g @ h.T)) <= math.log(n) + 1e-9


@pytest.mark.parametrize(("n", "chance", "least"), [(8, 2.0794, 1.1732), (32, 3.4657, 2.4884), (64, 4.1589, 3.1702)])
def test_the_loss_of_cosines_moves_by_less_than_one_nat(n, chance, least):
    """log n − InfoNCE: log n at equal scores, log(1 + (n−1)·e^{−n/(n−1)}) at best.

    One anchor alone is between log(1 + (n−1)e^{−2}) and log(1 + (n−1)e²), where its candidates are all at −1 or at 1.
    """
    assert math.log(n) - float(info_nce(torch.zeros(n, n))) == pytest.approx(chance, abs=1e-4)
    simplex = (torch.eye(n, dtype=torch.float64) - 1 / n) * n / (n - 1)  # cosines of its corners: 1, else −1/(n−1)
    assert math.log(n) - float(info_nce(simplex)) == pytest.approx(least, abs=1e-4)
    assert chance - least < 1
    for sign in (1, -1):
        anchor = sign * (2 * torch.eye(n, dtype=torch.float64) - 1)
        assert math.log(n) - float(info_nce(anchor)) == pytest.approx(math.log(1 + (n - 1) * math.exp(-2 * sign)), abs=1e-9)


@pytest.mark.parametrize(("n", "cap"), [(8, 2.079), (64, 4.159)])
def test_info_nce_of_much_dependence_is_its_cap(n, cap):
    """ρ = .9 in 20 dimensions, 16.6 nats, with the exact log ratio as score: log n."""
    rho, rng = 0.9, torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, n, 20, generator=rng, dtype=torch.float64)
    y = rho * x + math.sqrt(1 - rho**2) * noise
    ratio = ((y.square()[None] - (y[None] - rho * x[:, None]).square() / (1 - rho**2)) / 2).sum(2)
    assert cap - 0.02 < float(info_nce(ratio)) <= math.log(n)


def test_info_nce_is_a_lower_bound():
    """x, y standard normal, ρ = .9 and the exact log ratio as score: below I = .830, and closer with more candidates."""
    rho, rng = 0.9, torch.Generator().manual_seed(0)
    values = {}
    for n in (4, 64):
        x, noise = torch.randn(2, 200, n, generator=rng, dtype=torch.float64)
        y = rho * x + math.sqrt(1 - rho**2) * noise
        a, b = x[:, :, None], y[:, None, :]
        ratio = -((b - rho * a) ** 2) / (2 * (1 - rho**2)) + b**2 / 2
        values[n] = float(torch.stack([info_nce(r) for r in ratio]).mean())
    assert 0.4 < values[4] < values[64] < -0.5 * math.log(1 - rho**2)
