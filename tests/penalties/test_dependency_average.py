"""The moving average in the gradient of Donsker–Varadhan's bound, and what holds and does not when T can tell a batch apart."""

import math

import numpy as np
import pytest
import torch
from penalties.dependency import DIM, ROWS, build, number, view
from torch import nn

from mdm import estimators
from mdm.training.product import shifts

# ---- the moving average


class Linear(nn.Module):
    """T = θx."""

    def __init__(self, theta):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta))

    def prepare(self, z):
        return z

    def score(self, z):
        return self.theta * z[:, 0]


def gradients(training, theta=1.5, m=32, batches=1500):
    """dL/dθ of many batches, Q = N(0, 1) and E_P[x] = 0, so that all of it is the second term's."""
    rng = torch.Generator().manual_seed(0)
    penalty = build(z_dim=1, normalize=False, training=training).train()
    penalty.critic = Linear(theta)
    zero = torch.zeros(1, 1)
    result = []
    for _ in range(batches):
        loss = penalty.critic_loss(view(zero, torch.randn(m, 1, generator=rng)))
        (slope,) = torch.autograd.grad(loss, penalty.critic.theta)
        result.append(float(slope))
    return np.array(result)


def test_the_moving_average_takes_the_bias_out_of_the_gradient():
    """log E_Q[e^{θx}] = θ²/2 has the slope θ = 1.5; 32 rows alone give 1.29 (theory: a ratio of two means of the same rows).

    E[(x e^{θx})²] = e^{2θ²}(1 + 4θ²), so with the true average one batch's slope has the variance (e^{θ²}(1 + 4θ²) − θ²)/m, 1.70².
    """
    theta, m = 1.5, 32
    naive, average = gradients("bound"), gradients("ema")
    deviation = math.sqrt((math.exp(theta**2) * (1 + 4 * theta**2) - theta**2) / m)
    assert deviation == pytest.approx(1.70, abs=0.01)
    assert naive.mean() == pytest.approx(1.290, abs=0.03)  # deviation .46 / √1500 = .012
    assert average.mean() == pytest.approx(theta, abs=0.13)  # 1.7 / √1500 = .044
    assert naive.std() == pytest.approx(0.46, abs=0.05)
    assert average.std() == pytest.approx(deviation, rel=0.2)


def test_the_average_is_a_geometric_one_that_begins_with_the_first_batch():
    penalty, rate = build(training="ema", ema_rate=0.2).train(), 0.2
    views = [view(product=torch.randn(ROWS, DIM, generator=torch.Generator().manual_seed(i))) for i in range(4)]
    with torch.no_grad():
        means = [penalty.critic(v.product.z).exp().mean() for v in views]
    expected = means[0]
    for v, mean in zip(views, means, strict=True):
        expected = (1 - rate) * expected + rate * mean
        loss = penalty.critic_loss(v)
        assert float(penalty.log_average) == pytest.approx(math.log(float(expected)), abs=1e-5)
        # The bound at it, a lower bound on the batch's DV.
        with torch.no_grad():
            value = penalty.critic(v.joint.z).mean() - (expected.log() + mean / expected - 1)
        assert -float(loss.detach()) == pytest.approx(float(value), abs=1e-5)
        assert -float(loss.detach()) <= number(penalty.estimate(v)) + 1e-6


def test_the_average_moves_in_a_critic_step_only():
    penalty, v = build(training="ema").train(), view()
    penalty.critic_loss(v)
    before = penalty.log_average.clone()
    other = view(product=3 * v.product.z)
    penalty.estimate(other), penalty(other), penalty.score(other)
    penalty.eval().critic_loss(other)
    assert torch.equal(penalty.log_average, before)
    penalty.train().critic_loss(other)
    assert not torch.equal(penalty.log_average, before)


def test_the_average_survives_a_checkpoint():
    penalty, other, v = build(training="ema").train(), build(training="ema").train(), view()
    for _ in range(3):
        penalty.critic_loss(v)
    other.load_state_dict(penalty.state_dict())
    assert torch.isfinite(other.log_average)
    assert torch.equal(penalty.critic_loss(v), other.critic_loss(v))
    assert "log_average" not in build().state_dict()


def test_a_far_batch_pulls_no_harder_than_the_rate_allows():
    """e^T / a ≤ 1 / rate, because the average includes the batch: finite where e^T alone is not."""
    penalty = build(z_dim=1, normalize=False, training="ema", ema_rate=0.05).train()
    penalty.critic = Linear(1.0)
    for scale in (0.0, 1000.0):
        loss = penalty.critic_loss(view(torch.zeros(1, 1), torch.full((4, 1), scale)))
    # log a = 1000 + log rate to within rounding, and the surrogate −(0 − (log a + 1/rate − 1)).
    assert float(loss.detach()) == pytest.approx(1000 + math.log(0.05) + 20 - 1, abs=1e-3)


# ---- what holds and what does not


def test_on_a_batch_that_can_be_told_apart_only_dv_on_its_bound_pays_forever():
    """Scale T on rows where min over P > max over Q: DV grows without end, NWJ and the average's bound fall in the end.

    That is why an unbounded critic diverges in small batches; the logistic loss only flattens (slope at most 1 a row).
    """
    joint, product = torch.tensor([2.0, 3.0]), torch.tensor([-1.0, 1.0])
    dv, nwj, logistic = [], [], []
    for scale in (1.0, 10.0, 100.0, 1000.0):
        t, u = scale * joint, scale * product
        dv.append(float(estimators.donsker_varadhan(t, u)))
        nwj.append(float(estimators.nwj(t, u)))
        t.requires_grad_()
        (slope,) = torch.autograd.grad(estimators.logistic_loss(t, u), t)
        logistic.append(float(slope.abs().max()))
    assert dv == sorted(dv)
    assert dv[-1] > 1000
    assert nwj[-1] == -math.inf
    assert max(logistic) <= 0.5


@pytest.mark.parametrize(("rows", "k"), [(8, 1), (8, 8), (32, 8)])
def test_more_shifts_lower_the_variance_of_the_product_side(rows, k):
    """T = xy on N(0, 1) values, whose mean over a re-paired batch has the variance 1/n.

    Two re-pairings are correlated where they pair a row alike, which any two do with probability 1/(n − 1): K of them have the
    variance (1 + (K − 1)/(n − 1)) / (Kn). 800 batches: standard error 5 % of it.
    """
    rng, draws = torch.Generator().manual_seed(0), np.random.default_rng(0)
    penalty = build(measure="wasserstein", training="bound", output="linear", shifts=k)
    assert penalty.products == k

    class Product(Linear):
        def score(self, z):
            return z[:, 0] * z[:, 1]

    penalty.critic = Product(1.0)
    estimates = []
    for _ in range(800):
        x = torch.randn(rows, 2, generator=rng)
        index = np.concatenate([shifts(np.ones((2, rows), int), draws) for _ in range(k)], axis=1)
        assert index.shape == (2, k * rows)
        moved = torch.stack([x[index[0], 0], x[index[1], 1]], 1)
        estimates.append(number(penalty.estimate(view(torch.zeros(1, 2), moved))))
    expected = (1 + (k - 1) / (rows - 1)) / (k * rows)
    assert np.var(estimates) == pytest.approx(expected, rel=0.15)
