"""Synergy's KL part: closed forms in each direction, and the supremum of the printed form."""

import math

import pytest
import torch
from penalties.synergy import DIMS, Z, build, fit, random_view, view

from mdm import estimators
from mdm.penalties.cnetwork import printed_kl


def gaussian_rows(n, rho, rng):
    """Language: two columns of correlation ρ; Z: two independent ones."""
    a, b = torch.randn(2, n, 1, generator=rng)
    return view({"language": torch.cat([a, rho * a + math.sqrt(1 - rho**2) * b], 1)}, torch.randn(n, 2, generator=rng))


@pytest.mark.parametrize("flip", [False, True])
def test_kl_approaches_the_closed_form_in_each_direction(flip):
    """KL(N(0,R)‖N(0,I)) = −½ log(1−ρ²) = 0.22 at ρ = 0.6; the other way ρ²/(1−ρ²) + ½ log(1−ρ²) = 0.34. R_i are set to I."""
    rho, rng = 0.6, torch.Generator().manual_seed(0)
    own = -0.5 * math.log(1 - rho**2)
    truth = rho**2 / (1 - rho**2) - own if flip else own
    penalty = build({"language": 2}, 2, part="alignment", divergence="kl", flip=flip)
    penalty.projections.copy_(torch.eye(2))
    fit(penalty, (gaussian_rows(256, rho, rng) for _ in range(200)), lr=3e-3)
    with torch.no_grad():
        assert float(penalty.estimate(gaussian_rows(20_000, rho, rng))["alignment"]) == pytest.approx(truth, rel=0.15)


def test_t_knows_which_modality_it_looks_at():
    penalty, v = build(part="alignment", divergence="kl").eval(), random_view()
    same = view(dict.fromkeys(DIMS, v.joint.z), v.joint.z)
    penalty = build(dict.fromkeys(DIMS, Z), part="alignment", divergence="kl").eval()
    with torch.no_grad():
        penalty.projections[:] = penalty.projections[0].clone()
        p, q = penalty._scores(*penalty._projected(penalty._representations(same)[1]))
    assert not torch.allclose(q[0], q[1])
    torch.testing.assert_close(p, q)


def test_kl_as_printed_has_the_supremum_kl_minus_one():
    """N(1,1) against N(0,1), KL = ½, T = log p/q = x − ½: the printed form gives ½ − 1."""
    rng = torch.Generator().manual_seed(0)
    p, q = torch.randn(2, 200_000, generator=rng)
    joint, product = p + 1 - 0.5, q - 0.5
    assert float(printed_kl(joint, product)) == pytest.approx(-0.5, abs=0.01)
    assert float(estimators.donsker_varadhan(joint, product)) == pytest.approx(0.5, abs=0.01)
    # Any factor e^c on the exponential only loses: c ↦ c − e^c has its maximum −1 at 0.
    assert all(float(printed_kl(joint + c, product + c)) < -0.5 for c in (-0.5, 0.5))


def test_in_literal_mode_the_critic_raises_what_map_and_encoder_lower():
    """One step each of T and of g on the critic's loss moves the printed bound up and down."""
    v = random_view()
    for name, sign in (("t", 1), ("g", -1)):
        penalty = build(part="alignment", divergence="kl", mode="literal")
        before = float(penalty.estimate(v)["alignment"].detach())
        penalty.critic_loss(v).backward()
        with torch.no_grad():
            for p in getattr(penalty, name).parameters():
                p -= 1e-3 * p.grad
        assert sign * (float(penalty.estimate(v)["alignment"].detach()) - before) > 0
