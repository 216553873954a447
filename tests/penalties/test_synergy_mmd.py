"""Synergy's MMD part: its definition, closed forms for Gaussians, and maps that the printed form makes vacuous."""

import math

import pytest
import torch
from penalties.synergy import DIMS, Z, build, random_view, view

from mdm import estimators
from mdm.penalties.cnetwork import Coupling, paired_mmd2, printed_mmd
from mdm.penalties.pairs import standardize_columns
from mdm.penalties.synergy import FACTORS


def test_mmd_is_its_definition_over_pairs_of_different_segments():
    torch.manual_seed(0)
    x, y = torch.randn(2, 3, 6, 4)
    y = 2 * y + x
    got = paired_mmd2(x, y, FACTORS)
    for i in range(3):
        scale = float(estimators.median_scale(x[i], y[i]))

        def k(a, b, scale=scale):
            return sum(math.exp(-float((a - b).square().sum()) / (c * scale)) for c in FACTORS) / len(FACTORS)

        want = 0.0
        for j in range(6):
            for m in range(6):
                if j != m:
                    want += k(x[i, j], x[i, m]) + k(y[i, j], y[i, m]) - k(x[i, j], y[i, m]) - k(y[i, j], x[i, m])
        assert float(got[i]) == pytest.approx(want / 30, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(("mean", "variance"), [(1.0, 1.0), (0.0, 4.0)])
def test_mmd_of_gaussians_has_its_closed_form(mean, variance):
    """N(0, I) against N(μ, vI), ‖μ‖ = mean, k = e^{−‖·‖²/s}: E(0,2) + E(0,2v) − 2E(μ,1+v) with
    E(Δ,S) = (1+2S/s)^{−d/2}·e^{−‖Δ‖²/(s+2S)}, at the s that the median gave. Values are about 0.1, sampling errors 0.004."""
    d, rng = 5, torch.Generator().manual_seed(0)
    x, y = torch.randn(1, 800, d, generator=rng), math.sqrt(variance) * torch.randn(1, 800, d, generator=rng)
    y[..., 0] += mean
    median = float(estimators.median_scale(x[0], y[0]))
    want = 0.0
    for factor in FACTORS:
        s = factor * median

        def e(shift, total, s=s):
            return (1 + 2 * total / s) ** (-d / 2) * math.exp(-(shift**2) / (s + 2 * total))

        want += (e(0, 2) + e(0, 2 * variance) - 2 * e(mean, 1 + variance)) / len(FACTORS)
    assert float(paired_mmd2(x, y, FACTORS)) == pytest.approx(want, abs=0.01)


def test_equal_laws_of_dependent_rows_have_mean_zero():
    """x_j and y_j share three quarters of their variance. Counting the pairs of one segment with the others would give
    −2(E k(x_j, y_j) − E k(x_j, y_l))/n, some −0.02 here; the mean of 300 samples has an error of 0.001."""
    rng = torch.Generator().manual_seed(0)
    shared, noise = torch.randn(300, 16, 4, generator=rng), torch.randn(2, 300, 16, 4, generator=rng)
    x, y = math.sqrt(0.75) * shared + 0.5 * noise
    ours = float(paired_mmd2(x, y, [1.0]).mean())
    theirs = [estimators.mmd2(a, b, [float(estimators.median_scale(a, b))]) for a, b in zip(x, y, strict=True)]
    assert abs(ours) < 0.003
    assert float(torch.stack(theirs).mean()) < -0.015


def test_one_sample_has_no_distance_from_itself():
    x = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(0))
    assert (paired_mmd2(x, x, FACTORS).abs() < 1e-7).all()


def test_identity_leaves_no_parameters_and_compares_the_projections():
    penalty, v = build(part="alignment").eval(), random_view()
    assert not list(penalty.parameters())
    z = standardize_columns(v.joint.z) @ penalty.projections[3, :Z]
    want = 0.0
    for i, (name, d) in enumerate(DIMS.items()):
        x = standardize_columns(v.joint.unimodal[name]) @ penalty.projections[i, :d]
        assert x.shape[1] == 3, "as narrow as the narrowest"
        want += float(paired_mmd2(x[None], z[None], FACTORS)) / 3
    assert float(penalty.estimate(v)["alignment"]) == pytest.approx(want, rel=1e-4)


@pytest.mark.parametrize("mode", ["corrected", "literal"])
def test_projections_have_the_stated_variances(mode):
    """As printed 1/k, which keeps norms; corrected 1/d_i, which makes the norms of standardised columns equal."""
    dims = {"language": 300, "audio": 80}
    projections = build(dims, 200, part="alignment", mode=mode).projections
    assert projections.shape == (3, 300, 16)
    for r, d in zip(projections, (300, 80, 200), strict=True):
        assert float(r[:d].square().mean()) == pytest.approx(1 / 16 if mode == "literal" else 1 / d, rel=0.1)
        assert not r[d:].any()


def test_coupling_is_invertible_whatever_its_weights():
    """det = 1 at every point, and images of different points differ."""
    torch.manual_seed(0)
    for k in (2, 3, 5):
        g = Coupling(1, k, 8)
        with torch.no_grad():
            for p in g.parameters():
                p.mul_(3)
        for _ in range(3):
            jacobian = torch.autograd.functional.jacobian(lambda x, g=g, k=k: g(x.view(1, 1, k)).flatten(), torch.randn(k))
            assert float(torch.linalg.det(jacobian.double()).abs()) == pytest.approx(1, rel=1e-4)
        assert not torch.allclose(jacobian, torch.eye(k), atol=0.1)


HELD_OUT = 400


def frozen_rows(n, rng):
    """Language is N(0, I), Z a mixture of two Gaussians with the same two moments, both of width 6."""
    z = 0.4 * torch.randn(n, 6, generator=rng) + math.sqrt(0.84) * torch.randn(n, 1, generator=rng).sign()
    return view({"language": torch.randn(n, 6, generator=rng)}, z)


@pytest.mark.parametrize(("g", "mode", "sign"), [("mlp", "corrected", 1), ("mlp", "literal", 1), ("coupling", "corrected", -1)])
def test_the_printed_map_descends_the_distance_and_the_coupling_ascends_it(g, mode, sign):
    """g's own loss is ± the distance, value and gradient."""
    penalty, v = build({"language": 6}, 6, part="alignment", g=g, mode=mode), frozen_rows(64, torch.Generator().manual_seed(0))
    losses = penalty.critic_loss(v), sign * penalty.estimate(v)["alignment"]
    torch.testing.assert_close(*losses)
    ours, wanted = (torch.autograd.grad(loss, list(penalty.g.parameters())) for loss in losses)
    assert any(gradient.any() for gradient in wanted)
    for gradient, want in zip(ours, wanted, strict=True):
        torch.testing.assert_close(gradient, want)


@pytest.mark.parametrize("mode", ["corrected", "literal"])
def test_a_map_that_lowers_the_distance_has_a_vacuous_minimum(mode):
    """The encoder is frozen, its two laws differ, and stay so. A map without slopes sends all rows to one point: the distance is 0,
    in rounding of its n² terms of size 1, and only the distance without a map still tells the laws apart."""
    penalty = build({"language": 6}, 6, part="alignment", g="mlp", mode=mode).eval()
    v = frozen_rows(HELD_OUT, torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = penalty.estimate(v)
        penalty.g.weights[-1].zero_()
        after = penalty.estimate(v)
    rounding = 1e-5 * (HELD_OUT**2 if mode == "literal" else 1)
    assert abs(float(after["alignment"])) < rounding < float(before["alignment_identity"])
    assert float(after["spread"]) == pytest.approx(0, abs=1e-6)
    assert float(before["spread"]) > 1e-3
    torch.testing.assert_close(after["alignment_identity"], before["alignment_identity"], rtol=0, atol=0)


def test_a_coupling_leaves_the_distance_as_it_is_and_can_only_raise_it():
    """With networks that say 0 it re-orders columns, which no distance between rows sees: the supremum over its weights, which it
    ascends, is the distance without a map or more. That a bijection brings no laws together is
    `test_coupling_is_invertible_whatever_its_weights`."""
    v = frozen_rows(HELD_OUT, torch.Generator().manual_seed(1))
    coupling, plain = (build({"language": 6}, 6, part="alignment", g=g).eval() for g in ("coupling", None))
    plain.projections.copy_(coupling.projections)
    with torch.no_grad():
        for p in coupling.g.parameters():
            p.zero_()
        torch.testing.assert_close(coupling.estimate(v)["alignment"], plain.estimate(v)["alignment"], rtol=1e-4, atol=1e-6)


def test_mmd_as_printed_grows_with_the_square_of_the_rows():
    torch.manual_seed(0)
    x, y = torch.randn(2, 1, 40, 3)
    want = estimators.mmd2(x[0], 2 * y[0], [6.0], unbiased=False) * 40**2
    torch.testing.assert_close(printed_mmd(x, 2 * y)[0], want, rtol=1e-4, atol=1e-3)
