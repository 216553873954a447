"""Orthonormal maps of the statistics network: they stay so under an optimiser, and no slope exceeds one."""

import pytest
import torch
from penalties.statistics_networks import build, rows
from torch import nn

from mdm.penalties.critics import MaxMin, orthonormal


def singular_values(w):
    return torch.linalg.svdvals(w.detach().double())


def maps_of(critic):
    return [layer for layer in critic.layers if isinstance(layer, nn.Linear)]


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9), (1, 7), (7, 1)])
def test_an_iteration_takes_each_singular_value_to_a_polynomial_of_it(shape):
    """s → s(3 − s²)/2 with the singular vectors unchanged; W by its singular values."""
    k = min(shape)
    u, v = (torch.linalg.qr(rows(n, k, seed=n)).Q.double() for n in shape)
    s = torch.tensor([0.9, 1.1, 1.0, 0.8, 1.2, 0.95][:k], dtype=torch.float64)
    expected = u @ torch.diag(s * (3 - s**2) / 2) @ v.T
    torch.testing.assert_close(orthonormal(u @ torch.diag(s) @ v.T), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1e-3, 0.3, 1.0, 3.0, 1e4])
@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (1, 30)])
def test_no_matrix_is_taken_above_norm_one(shape, scale):
    """Also those whose singular values exceed √3, where the polynomial alone would blow up."""
    w = scale * rows(*shape)
    assert float(singular_values(orthonormal(w)).max()) <= 1 + 1e-5  # rounding of 30 products
    for _ in range(60):
        w = orthonormal(w)
    if scale:  # and again and again leads to an orthonormal one
        assert float((singular_values(w) - 1).abs().max()) < 1e-5


@pytest.mark.parametrize("units", [1, 2, 5, 8])
def test_maxmin_moves_units_about_and_a_slope_keeps_its_norm(units):
    x = rows(50, units).requires_grad_()
    y = MaxMin()(x)
    assert torch.equal(y.detach().sort(1).values, x.detach().sort(1).values)
    half = units // 2
    assert (y[:, :half] >= y[:, half : 2 * half]).all()
    back = rows(50, units, seed=1)
    (slope,) = torch.autograd.grad(y, x, back)
    torch.testing.assert_close(slope.norm(dim=1), back.norm(dim=1))


@pytest.mark.parametrize("steps", [0, 40])
@pytest.mark.parametrize(("architecture", "dim"), [("plain", 6), ("table4", 18)])
def test_orthonormal_maps_stay_so_under_an_optimiser_and_make_the_critic_one_lipschitz(architecture, dim, steps):
    """|T(x) − T(y)| ≤ ‖x − y‖ (1 + 10⁻⁵), near and far, in double precision; each map within 10⁻³ of orthonormal."""
    critic = build(dim, architecture=architecture, maps="orthonormal", normalize=False, hidden=15)
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
    for step in range(steps):
        critic.tighten()
        optimizer.zero_grad()
        (critic(rows(dim=dim, seed=step)) * rows(dim=1, seed=step + 1)[:, 0]).sum().backward()
        optimizer.step()
    for layer in maps_of(critic):
        values = singular_values(layer.weight)
        assert float(values.max()) <= 1 + 1e-5
        assert float(values.min()) >= 1 - 1e-3
    critic = critic.double().eval()
    for scale in (1e-4, 1.0, 100.0):
        x = rows(3000, dim, seed=1).double()
        y = x + scale * rows(3000, dim, seed=2).double()
        quotient = (critic.score(x) - critic.score(y)).abs() / (x - y).norm(dim=1)
        assert float(quotient.detach().max()) <= 1 + 1e-5


def test_slopes_have_norm_one_where_no_map_widens():
    """Orthonormal rows from 16 to 8 to 8 to 1 and permutations between: ∇T has norm 1 everywhere, where LeakyReLU shrinks it."""
    for maps, least in (("orthonormal", 1 - 1e-5), ("spectral_norm", 0.0)):
        points = rows(100).requires_grad_()
        critic = build(16, hidden=8, maps=maps, normalize=False).eval()
        (slopes,) = torch.autograd.grad(critic.score(points).sum(), points)
        norms = slopes.norm(dim=1)
        assert least <= float(norms.min())
        assert float(norms.max()) <= 1 + 1e-3
    assert float(norms.max()) < 0.9  # what is lost without


def test_tightening_changes_the_weights_that_the_optimiser_moves_and_hardly_the_map():
    critic = build(maps="orthonormal")
    with torch.no_grad():
        for layer in maps_of(critic):
            layer.parametrizations.weight.original += 0.003 * torch.randn_like(layer.weight)
    before = [singular_values(layer.parametrizations.weight.original) for layer in maps_of(critic)]
    assert all(0.002 < (b - 1).abs().max() < 0.3 for b in before)
    z = rows()
    value = critic(z).detach()
    critic.tighten()
    after = [singular_values(layer.parametrizations.weight.original) for layer in maps_of(critic)]
    assert all((a - 1).abs().max() < 0.5 * (b - 1).abs().max() for a, b in zip(after, before, strict=True))
    torch.testing.assert_close(critic(z).detach(), value, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("maps", ["free", "orthonormal"])
def test_under_autocast_values_are_those_without(maps):
    critic = build(maps=maps)
    expected = critic(rows()).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = critic(rows()).detach()
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)


def test_dropout_of_table4_is_off_in_evaluation_and_breaks_the_slope_in_training():
    """What dropout keeps it divides by 1 − p, five times over: a claim about slopes is one about evaluation mode."""
    critic = build(architecture="table4", maps="orthonormal", dropout=0.4, normalize=False)
    x, y = rows(2000, seed=1), 1e-3 * rows(2000, seed=2)

    def quotient():
        values = []
        for z in (x, x + y):
            torch.manual_seed(0)  # the same dropout for both
            values.append(critic(z).detach())
        return float(((values[1] - values[0]).abs() / y.norm(dim=1)).max())

    assert quotient() > 1.1
    critic.eval()
    assert quotient() <= 1 + 1e-3  # single precision at a distance of 10⁻³
    assert torch.equal(critic(x), critic(x))
