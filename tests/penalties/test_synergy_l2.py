"""Synergy's L2 part: the variance that no prediction explains, and how the printed form collapses."""

import math

import pytest
import torch
from penalties.synergy import DIMS, Z, build, fit, random_view, total, view
from torch import nn

from mdm.penalties.cnetwork import Mlps, Predictors
from mdm.penalties.pairs import standardize_columns


def equicorrelated(rows, d, rho, modalities, rng):
    """For each of d columns, `modalities` standard normals with pairwise correlation ρ."""
    shared = torch.randn(rows, d, generator=rng)
    noise = (torch.randn(rows, d, generator=rng) for _ in range(modalities))
    return [math.sqrt(rho) * shared + math.sqrt(1 - rho) * e for e in noise]


@pytest.mark.parametrize("modalities", [2, 3])
def test_l2_approaches_the_variance_that_no_prediction_explains(modalities):
    """Per column 1 − ρ² with one other modality, (1−ρ)(1+2ρ)/(1+ρ) with two: the conditional variance of standard normals.

    Below it no Q can go but by the sampling error, 1.5 % at 4000 rows; 10 % are for a Q of 200 steps.
    """
    rho, d, rng = 0.8, 2, torch.Generator().manual_seed(0)
    truth = 1 - rho**2 if modalities == 2 else (1 - rho) * (1 + 2 * rho) / (1 + rho)
    names = list(DIMS)[:modalities]

    def rows(n):
        return view(dict(zip(names, equicorrelated(n, d, rho, modalities, rng), strict=True)), torch.zeros(n, 2))

    penalty = fit(build(dict.fromkeys(names, d), 2, part="l2"), (rows(128) for _ in range(200)), lr=5e-3)
    with torch.no_grad():
        assert 0.97 * truth < float(penalty.estimate(rows(4000))["l2"]) < 1.1 * truth


def test_independent_modalities_have_all_of_their_variance_to_themselves():
    rng = torch.Generator().manual_seed(0)

    def rows(n):
        return view({m: torch.randn(n, d, generator=rng) for m, d in DIMS.items()}, torch.zeros(n, Z))

    penalty = fit(build(part="l2"), (rows(256) for _ in range(100)))
    with torch.no_grad():
        assert float(penalty.estimate(rows(4000))["l2"]) == pytest.approx(1, abs=0.03)


def test_predictors_are_networks_of_their_own_that_never_see_their_target():
    torch.manual_seed(0)
    widths = [5, 3, 4]
    q, parts = Predictors(widths, 7, 8), [torch.randn(6, d) for d in widths]
    with torch.no_grad():
        errors = q(torch.cat(parts, 1), torch.zeros(3, 6, 7))
        for i, d in enumerate(widths):
            x = torch.cat([p if j != i else torch.zeros_like(p) for j, p in enumerate(parts)], 1)
            for layer, (weight, bias) in enumerate(zip(q.layers.weights, q.layers.biases, strict=True)):
                x = (nn.functional.leaky_relu(x) if layer else x) @ weight[i] + bias[i]
            assert layer == 3
            torch.testing.assert_close(errors[i, :, :d], x[:, :d].square())
            assert not errors[i, :, d:].any()


def test_networks_of_different_widths_begin_as_layers_of_their_own():
    """Uniform in ±1/√fan-in: a maximum of many draws is within 2 % of the limit."""
    torch.manual_seed(0)
    net = Mlps(2, [100, 64, 3], fan_in=[4, 100])
    for weight, limit in zip([*net.weights[0], net.weights[1]], (0.5, 0.1, 0.125), strict=True):
        assert float(weight.abs().max().detach()) == pytest.approx(limit, rel=0.02)


def test_targets_can_be_held_still():
    """Then only what predicts moves: the gradient that reaches audio comes from the prediction of the others."""
    gradients = {}
    for detach in (False, True):
        v = random_view(grad=True)
        total(build(part="l2", detach_targets=detach), v).backward()
        gradients[detach] = v.joint.unimodal["audio"].grad
    assert gradients[True].norm() > 0
    assert not torch.allclose(gradients[True], gradients[False])


def test_the_error_is_a_mean_over_rows_columns_and_modalities():
    penalty, v = build(part="l2").eval(), random_view()
    with torch.no_grad():
        given = torch.cat([standardize_columns(u) for u in v.joint.unimodal.values()], 1)
        want = 0.0
        for i, (name, d) in enumerate(DIMS.items()):
            x = given * penalty.q.inputs[i]
            for layer, (weight, bias) in enumerate(zip(penalty.q.layers.weights, penalty.q.layers.biases, strict=True)):
                x = (nn.functional.leaky_relu(x) if layer else x) @ weight[i] + bias[i]
            want += float((x[:, :d] - standardize_columns(v.joint.unimodal[name])).square().mean()) / 3
        assert float(penalty.estimate(v)["l2"]) == pytest.approx(want, rel=1e-5)


def scale_after_training(mode):
    """Q and an encoder that may only choose the size of its output, both descending L_L2 as in appendix D."""
    rng, penalty = torch.Generator().manual_seed(0), build(part="l2", mode=mode)
    size = torch.ones((), requires_grad=True)
    optimizer = torch.optim.SGD([*penalty.parameters(), size], lr=1e-4)
    for _ in range(50):
        v = view({m: size * torch.randn(32, d, generator=rng) for m, d in DIMS.items()}, torch.zeros(32, Z))
        optimizer.zero_grad()
        total(penalty, v).backward()
        optimizer.step()
    return float(size.detach())


def test_l2_as_printed_collapses_by_scale_and_the_corrected_one_does_not():
    """L(cZ) = c²·L(Z): independent modalities, of which nothing can be predicted, shrink until the error is 0. Corrected, the slope
    along c is 0 up to rounding, of which 50 steps add up some 10⁻⁵."""
    assert scale_after_training("literal") < 0.1
    assert scale_after_training("corrected") == pytest.approx(1, abs=1e-3)


def test_l2_as_printed_is_a_sum_over_the_batch():
    v = random_view()
    twice = view({m: torch.cat([u, u]) for m, u in v.joint.unimodal.items()}, torch.cat([v.joint.z, v.joint.z]))
    with torch.no_grad():
        for mode, factor in (("literal", 2), ("corrected", 1)):
            penalty = build(part="l2", mode=mode).eval()
            assert float(penalty.estimate(twice)["l2"]) == pytest.approx(factor * float(penalty.estimate(v)["l2"]), rel=1e-5)
        raw = build(part="l2", mode="literal").eval()
        target = penalty._representations(v)
        assert target[0].mean(0).abs().max() < 1e-5, "the corrected form standardises"
        errors = raw.q(raw._representations(v)[0][:, :12], raw._representations(v)[1][:-1])
        torch.testing.assert_close(raw.estimate(v)["l2"], errors.sum())
