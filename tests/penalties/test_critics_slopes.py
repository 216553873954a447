"""Slopes of the statistics network: the spectral norm, and the gradient penalty's closed form."""

import math

import pytest
import torch
from penalties.statistics_networks import build, rows
from torch import nn
from torch.nn import functional as F

from mdm.penalties.critics import Critic, gradient_penalty


@pytest.mark.parametrize("architecture", ["plain", "table4"])
@pytest.mark.parametrize("output", ["linear", "tanh", "sigmoid"])
def test_spectral_norm_makes_the_critic_one_lipschitz(architecture, output):
    """Each linear map has norm 1, LeakyReLU and the outputs slopes of at most 1 (sigmoid 1/4), so |T(x) − T(y)| ≤ ‖x − y‖.

    Power iteration meets the norm from below, hence many train-mode calls and 0.1 % to spare. Dropout would rescale: in eval.
    """
    critic = build(architecture=architecture, output=output, maps="spectral_norm", normalize=False)
    with torch.no_grad():
        for layer in critic.layers:
            if isinstance(layer, nn.Linear):
                layer.parametrizations.weight.original.mul_(20)  # undone by the norm
        critic.train()
        for _ in range(200):
            critic(rows(2))
        critic.eval()
        slope = 0.25 if output == "sigmoid" else 1.0
        for scale in (0.01, 1.0, 10.0):
            x, y = rows(2000, scale=scale, seed=1), rows(2000, scale=scale, seed=2)
            assert ((critic(x) - critic(y)).abs() <= 1.001 * slope * (x - y).norm(dim=1) + 1e-6).all()
        for layer in critic.layers:
            if isinstance(layer, nn.Linear):
                assert float(torch.linalg.matrix_norm(layer.weight, 2)) == pytest.approx(1, rel=1e-3)


def multiply_norms(critic):
    return math.prod(float(torch.linalg.matrix_norm(m.weight.detach(), 2)) for m in critic.layers if isinstance(m, nn.Linear))


@pytest.mark.parametrize("architecture", ["plain", "table4"])
def test_no_critic_in_the_middle_of_training_is_steeper_than_one(architecture):
    """Weights that have just moved, for which power iteration has not caught up: while training the product of the norms of 40
    critics passes 1, in evaluation mode it is 1 for each of them, up to rounding."""
    training, evaluated = [], []
    for seed in range(40):
        torch.manual_seed(seed)
        critic = Critic(16, architecture, hidden=16, maps="spectral_norm").train()
        optimizer = torch.optim.Adam(critic.parameters(), lr=0.03)
        for step in range(3):
            optimizer.zero_grad()
            (critic(rows(20, seed=step)).mean() - critic(rows(20, seed=50 + step)).mean()).backward()
            optimizer.step()
        training.append(multiply_norms(critic))
        critic.eval()
        evaluated.append(multiply_norms(critic))
        x, y = critic.prepare(rows(200, seed=1)), critic.prepare(rows(200, seed=2))
        assert ((critic.score(x) - critic.score(y)).abs() <= (1 + 1e-5) * (x - y).norm(dim=1) + 1e-6).all()
    assert max(training) > 1.01
    assert max(abs(product - 1) for product in evaluated) < 1e-5


def test_without_a_device_slopes_are_free():
    critic = build(normalize=False)
    with torch.no_grad():
        for p in critic.parameters():
            p.mul_(20)
        x, y = rows(100, seed=1), rows(100, seed=2)
        assert ((critic(x) - critic(y)).abs() > (x - y).norm(dim=1)).any()


def linear_critic(w, **options):
    """T(x) = ⟨w, x⟩, whose gradient is w everywhere."""
    critic = build(len(w), normalize=False, **options)
    layer = nn.Linear(len(w), 1)
    layer.weight.data = w[None]
    critic.layers = nn.Sequential(layer)
    return critic


@pytest.mark.parametrize("length", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("slope", [1.0, 2.0])
def test_gradient_penalty_of_a_linear_critic(length, slope):
    """(‖w‖ − slope)² at every point."""
    w = length * F.normalize(rows(1, 5)[0], dim=0)
    value = gradient_penalty(linear_critic(w), rows(9, 5), rows(9, 5, seed=1), slope)
    assert float(value.detach()) == pytest.approx((length - slope) ** 2, abs=1e-6)


def test_gradient_penalty_pulls_at_the_critic_only():
    """∂(‖w‖ − 1)² / ∂w = 2 (‖w‖ − 1) w / ‖w‖."""
    w = torch.tensor([0.0, 3.0, 4.0])
    critic = linear_critic(w.clone())
    joint, product = rows(9, 3).requires_grad_(), rows(9, 3, seed=1).requires_grad_()
    gradient_penalty(critic, joint, product).backward()
    torch.testing.assert_close(critic.layers[0].weight.grad[0], 2 * (5 - 1) * w / 5)
    assert joint.grad is None
    assert product.grad is None


def test_gradient_penalty_looks_between_joint_and_product_rows():
    """A critic with slope 2 where x > 0 and ½ where x < 0: rows on one side only see that side's slope."""
    critic = build(1, normalize=False)
    critic.layers = nn.Sequential(nn.Linear(1, 1, bias=False), nn.LeakyReLU(0.25), nn.Linear(1, 1, bias=False))
    critic.layers[0].weight.data, critic.layers[2].weight.data = torch.tensor([[2.0]]), torch.tensor([[1.0]])
    right, left = rows(500, 1).abs() + 0.1, -rows(500, 1).abs() - 0.1
    penalty = {
        "right": gradient_penalty(critic, right, right),  # (2 − 1)²
        "left": gradient_penalty(critic, left, left),  # (½ − 1)²
        "across": gradient_penalty(critic, right, left),  # between the two: points lie on both sides
    }
    assert float(penalty["right"].detach()) == pytest.approx(1.0)
    assert float(penalty["left"].detach()) == pytest.approx(0.25)
    assert 0.35 < float(penalty["across"].detach()) < 0.9


@pytest.mark.parametrize("training", [False, True])
def test_gradient_penalty_leaves_the_mode_alone_and_sees_no_dropout(training):
    critic = build(architecture="table4", dropout=0.9).train(training)
    values = []
    for _ in range(2):
        torch.manual_seed(3)
        mixture = gradient_penalty(critic, rows(), rows(seed=1))
        assert all(m.training is training for m in critic.modules())
        values.append(mixture.detach())
        torch.rand(7)
    torch.manual_seed(3)
    values.append(gradient_penalty(critic.eval(), rows(), rows(seed=1)).detach())
    assert values[0] == values[1] == values[2]


@pytest.mark.parametrize("architecture", ["plain", "table4"])
@pytest.mark.parametrize("output", ["linear", "tanh", "sigmoid"])
def test_slopes_are_those_of_autograd(architecture, output):
    """∇T, and the derivative of a penalty on it by every weight, against going through the graph twice."""
    critic = build(architecture=architecture, output=output, bound=0.5, normalize=False).double().eval()
    points = rows(20).double().requires_grad_()
    (expected,) = torch.autograd.grad(critic.score(points).sum(), points, create_graph=True)
    slopes = critic.slopes(points.detach())
    torch.testing.assert_close(slopes, expected)
    weights = list(critic.parameters())
    pulls = [
        torch.autograd.grad(((s.norm(dim=1) - 1) ** 2).mean(), weights, materialize_grads=True, allow_unused=True)
        for s in (slopes, expected)
    ]
    assert any(float(pull.abs().max()) > 1e-3 for pull in pulls[0])
    for mine, other in zip(*pulls, strict=True):
        torch.testing.assert_close(mine, other)


def test_slopes_of_held_maps_are_our_own_mistake():
    with pytest.raises(AssertionError, match="no other maps"):
        build(maps="orthonormal").slopes(rows())
    with pytest.raises(AssertionError, match="only orthonormal maps"):
        build().tighten()


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_gradient_penalty_of_unequal_numbers_of_rows_takes_as_many_of_each(noise):
    critic = build(noise=noise)
    values = []
    for extra in (rows(seed=1), torch.cat([rows(seed=1), 100 * rows(seed=2)])):
        torch.manual_seed(0)
        values.append(float(gradient_penalty(critic, rows(), extra).detach()))
    assert values[0] == values[1]
