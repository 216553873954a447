"""Slopes of mutual dependency critics: the gradient penalty, and devices that hold every slope below one."""

import math

import pytest
import torch
from penalties.dependency import DIM, ROWS, build, number, view
from torch import nn
from torch.nn.utils import parametrize

from mdm.penalties.critics import gradient_penalty


def test_gradient_penalty_is_added_to_the_critics_loss_with_its_weight():
    v = view()
    plain = build(measure="wasserstein", training="bound", output="linear")
    held = build(
        measure="wasserstein", training="bound", output="linear", lipschitz="gradient_penalty", gradient_penalty_weight=4.0
    )
    torch.manual_seed(1)  # the penalty's points are random
    prepare = plain.critic.prepare
    expected = plain.critic_loss(v) + 4 * gradient_penalty(plain.critic, prepare(v.joint.z), prepare(v.product.z))
    torch.manual_seed(1)
    torch.testing.assert_close(held.critic_loss(v), expected)
    # A device for the critic: what is reported and added to the task loss is the bound.
    assert number(held.estimate(v)) == pytest.approx(number(plain.estimate(v)))


def test_gradient_penalty_is_on_the_normalised_input():
    """Lipschitz claims are about T of the prepared representation, so the loss does not see the scale of Z."""
    v, values = view(), []
    for scale in (1.0, 100.0):
        torch.manual_seed(0)
        penalty = build(measure="wasserstein", training="bound", output="linear", lipschitz="gradient_penalty")
        values.append(float(penalty.critic_loss(view(scale * v.joint.z, scale * v.product.z)).detach()))
    assert values[0] == pytest.approx(values[1], rel=1e-3)


@pytest.mark.parametrize(
    ("lipschitz", "constrained"),
    [("spectral_norm", True), ("orthonormal", True), ("gradient_penalty", False), ("none", False)],
)
def test_held_maps_are_all_maps_or_none(lipschitz, constrained):
    maps = [m for m in build(lipschitz=lipschitz).modules() if isinstance(m, nn.Linear)]
    assert len(maps) == 3
    assert all(parametrize.is_parametrized(m, "weight") is constrained for m in maps)


def test_valid_devices_stay_below_the_distance_and_orthonormal_maps_reach_it():
    """Rows of Q, moved by 0.3 on every axis: T = ⟨w, z⟩ along the move has the slope 1, and no estimate more than 0.3·√8."""
    distance, estimates = 0.3 * math.sqrt(DIM), {}
    for lipschitz in ("spectral_norm", "orthonormal"):
        rng = torch.Generator().manual_seed(0)
        penalty = build(measure="wasserstein", training="bound", output="linear", lipschitz=lipschitz, normalize=False).train()
        optimizer = torch.optim.Adam(penalty.parameters(), lr=3e-3)
        for _ in range(150):
            x = torch.randn(ROWS, DIM, generator=rng)
            optimizer.zero_grad()
            penalty.critic_loss(view(x + 0.3, x)).backward()
            optimizer.step()
        x = torch.randn(2000, DIM, generator=rng)
        estimates[lipschitz] = number(penalty.eval().estimate(view(x + 0.3, x))) / distance
    assert 0.2 < estimates["spectral_norm"] <= 1.001
    assert 0.97 < estimates["orthonormal"] <= 1 + 1e-5
