"""HSIC as a penalty and its estimator: closed forms of Gaussians, Cauchy–Schwarz, what a bandwidth does, rows that are no data."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from mdm import estimators
from mdm.penalties.base import View
from mdm.penalties.hsic import Hsic
from mdm.types import Fusion

DIMS = {"language": 3, "audio": 2, "video": 4}


def build(dims=DIMS, **options):
    return Hsic(8, options.pop("weight", 1.0), dims, **options)


def view(z=None, **values) -> View:
    rows = len(next(iter(values.values())))
    return View(Fusion(torch.zeros(rows, 1), torch.zeros(rows, 8) if z is None else z, values), None, torch.zeros(rows, 1))


def one(x, y, **options):
    return build({"x": x.shape[1], "y": y.shape[1]}, **options).estimate(view(x=x, y=y))["x_y"]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- values


def population(rho, s):
    """HSIC of standard normals of correlation ρ for σ² = s (Tsai et al., Eq. 5): E k k' + E k E k' − 2 E[E k · E k']."""
    joint = ((1 + 2 / s) ** 2 - (2 * rho / s) ** 2) ** -0.5
    mixed = s / (1 + s) * ((1 + 1 / (1 + s)) ** 2 - (rho / (1 + s)) ** 2) ** -0.5
    return joint + 1 / (1 + 2 / s) - 2 * mixed


@pytest.mark.parametrize(("rho", "truth"), [(0.0, 0.0), (0.5, 0.1466), (0.9, 0.6964), (1.0, 1.0)])
def test_a_bandwidth_of_one_has_the_closed_form(rho, truth):
    """h(ρ)/h(1) at σ = 1, within about 1/√n for n rows; the biased value is of the order 1/n above that."""
    assert population(rho, 1.0) / population(1.0, 1.0) == pytest.approx(truth, abs=1e-4)
    x, noise = normal(2, 1200, 1)
    y = rho * x + math.sqrt(1 - rho**2) * noise
    for unbiased in (True, False):
        value = float(one(x, y, bandwidth=1.0, unbiased=unbiased, standardize=False))
        assert value == pytest.approx(truth, abs=0.04)
        plain = float(one(x, y, bandwidth=1.0, unbiased=unbiased, normalized=False, standardize=False))
        assert plain == pytest.approx(population(rho, 1.0), abs=0.005)


@pytest.mark.parametrize("unbiased", [True, False])
def test_the_estimator_by_its_definition(unbiased):
    """tr(KHLH)/n², and Song's Eq. 5 with the diagonals out, by matrices in numpy."""
    n, s, t = 9, 1.7, 0.6
    x, y = normal(n, 2).numpy(), normal(n, 3, seed=1).numpy()
    k, l = (np.exp(-((a[:, None] - a[None]) ** 2).sum(2) / scale) for a, scale in ((x, s), (y, t)))  # noqa: E741
    if unbiased:
        k, l, e = k - np.eye(n), l - np.eye(n), np.ones(n)  # noqa: E741
        traces = np.trace(k @ l) + e @ k @ e * (e @ l @ e) / ((n - 1) * (n - 2)) - 2 * e @ k @ l @ e / (n - 2)
        truth = traces / (n * (n - 3))
    else:
        h = np.eye(n) - 1 / n
        truth = np.trace(k @ h @ l @ h) / n**2
    assert float(estimators.hsic(torch.from_numpy(x), torch.from_numpy(y), s, t, unbiased)) == pytest.approx(truth, abs=1e-12)


def test_the_debiased_value_of_independent_rows_has_mean_0_and_the_biased_one_has_not():
    x, y = normal(2, 200, 16, 3)
    for unbiased in (True, False):
        values = torch.stack([one(a, b, unbiased=unbiased) for a, b in zip(x, y, strict=True)])
        if unbiased:
            assert abs(values.mean()) < 4 * values.std() / math.sqrt(200)
            assert 0.3 < (values < 0).float().mean() < 0.7
        else:
            assert values.min() > 0.05


def test_representations_of_the_same_geometry_read_1():
    x = normal(30, 4)
    turn = torch.linalg.qr(normal(4, 4, seed=1))[0]
    for unbiased in (True, False):
        assert float(one(x, x @ turn + 3, unbiased=unbiased, standardize=False)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("rows", [4, 5, 8])
def test_a_quotient_of_few_rows_stays_within_1_and_its_gradient_is_finite(rows):
    """Both products are inner products of centred matrices, so the debiased quotient obeys Cauchy–Schwarz too."""
    for seed in range(200):
        x, y = normal(rows, 2, seed=seed).requires_grad_(), normal(rows, 3, seed=1000 + seed)
        value = one(x, y)
        value.backward()
        assert abs(float(value.detach())) <= 1 + 1e-5
        assert torch.isfinite(x.grad).all()


# ---- bandwidth and scale


def test_a_bandwidth_below_the_dimension_reads_1_or_0_for_whatever_comes():
    """Tsai et al. (2019), supplement F: σ = 1 on 20 and more independent dimensions. A median bandwidth does not."""
    x, y = normal(2, 64, 40)
    literal = {"bandwidth": 1.0, "standardize": False}
    assert float(one(x, y, unbiased=False, **literal)) > 0.9999
    assert abs(float(one(x, y, **literal))) < 0.2
    assert abs(float(one(10 * x, 10 * y, **literal))) == 0
    assert float(one(1000 * x, 1000 * y, unbiased=False, **literal)) == pytest.approx(1)
    assert abs(float(one(x, y))) < 0.05


def test_a_bandwidth_far_above_the_spread_keeps_its_digits():
    """There the kernel is 1 − ‖a − b‖²/s, so the quotient tends to that of inner products; k itself would round to 1."""
    x = normal(40, 3).float()
    y = x + normal(40, 3, seed=1).float()
    values = [float(one(x, y, bandwidth=b, standardize=False)) for b in (3e2, 3e4, 3e8)]
    assert values[1:] == pytest.approx(2 * [values[0]], rel=1e-3)
    assert values[0] > 0.2


@pytest.mark.parametrize(("bandwidth", "standardize"), [("median", True), ("median", False), (2.0, True)])
def test_scale_does_not_pay(bandwidth, standardize):
    x = normal(40, 3).requires_grad_()
    y = (x + normal(40, 3, seed=1)).detach()
    value = one(x, y, bandwidth=bandwidth, standardize=standardize)
    value.backward()
    assert float(one(100 * x.detach() + 5, y, bandwidth=bandwidth, standardize=standardize)) == pytest.approx(
        float(value.detach()), rel=1e-3
    )
    along = float((x.grad * x.detach()).sum() / x.grad.norm() / x.detach().norm())
    # A median without gradient keeps the value, but lets the gradient push along the scale.
    assert (abs(along) < 1e-3) is standardize


# ---- rows that are no data


def test_constants_are_independent_of_everything_and_pull_at_nothing():
    x = torch.full((20, 3), 3.7).requires_grad_()
    y = normal(20, 2).float().requires_grad_()
    for options in ({}, {"standardize": False}, {"unbiased": False}, {"bandwidth": 1.0, "standardize": False}):
        value = one(x, y, **options)
        assert float(value.detach()) == 0
        for gradient in torch.autograd.grad(value, (x, y)):
            assert torch.isfinite(gradient).all()
            assert gradient.abs().max() == 0


@pytest.mark.parametrize("absent", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("standardize", [True, False])
def test_absent_modalities_leave_the_gradient_small(absent, standardize):
    """Most pairs of rows may be equal: the bandwidth is that of the others, and what is of one point pulls at nothing."""
    x = normal(40, 5).float()
    x[: int(40 * absent)] = 0
    x.requires_grad_()
    value = one(x, normal(40, 4, seed=1).float(), standardize=standardize)
    value.backward()
    assert abs(float(value.detach())) < 0.3
    assert x.grad.abs().max() < 1


@pytest.mark.parametrize("widths", [(1, 300), (300, 1), (300, 300)])
def test_widths(widths):
    x = normal(32, widths[0]).float().requires_grad_()
    y = normal(32, widths[1], seed=1).float() + x[:, :1].detach()
    one(x, y).backward()
    assert torch.isfinite(x.grad).all()
    assert x.grad.abs().max() > 0


def test_half_precision_is_computed_in_full():
    x, y = normal(2, 32, 6).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = one(x.bfloat16(), y.bfloat16())
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(float(one(x, y)), abs=0.01)


# ---- the penalty


def test_the_term_is_minus_weight_times_the_sum_over_pairs():
    torch.manual_seed(0)
    values = {m: torch.randn(20, d) for m, d in DIMS.items()}
    penalty = build(weight=0.3)
    estimate = penalty.estimate(view(**values))
    assert list(estimate) == ["language_audio", "language_video", "audio_video"]
    torch.testing.assert_close(penalty(view(**values))["term"], -0.3 * sum(estimate.values()))
    assert not list(penalty.parameters())
    assert penalty.products == 0


def test_z_may_be_named():
    torch.manual_seed(0)
    values = {m: torch.randn(20, d) for m, d in DIMS.items()}
    z = torch.cat([values["audio"], torch.zeros(20, 6)], 1)
    estimate = build(pairs=[["audio", "z"]], standardize=False).estimate(view(z, **values))
    assert list(estimate) == ["audio_z"]
    assert float(estimate["audio_z"]) == pytest.approx(1)


def test_raising_it_finds_what_two_representations_share():
    """Each side sees one shared coordinate among three, and its map begins more on the others.

    Of any rows the greatest value is 1, where both maps read the shared coordinate alone, and ascent gets there: 30 samples of
    which the first is this one end within 10⁻³ of it.
    """
    shared, a, b = normal(100, 1), normal(100, 2, seed=1), normal(100, 2, seed=2)
    sides = [torch.cat([shared, a], 1).float(), torch.cat([shared, b], 1).float()]
    maps = nn.ModuleList([nn.Linear(3, 1, bias=False) for _ in range(2)])
    for layer in maps:
        layer.weight.data = torch.tensor([[0.8, 0.8, -0.5]])
    optimizer, penalty = torch.optim.Adam(maps.parameters(), lr=0.05), build({"x": 1, "y": 1})
    for _ in range(120):
        given = view(**dict(zip("xy", (f(s) for f, s in zip(maps, sides, strict=True)), strict=True)))
        optimizer.zero_grad()
        penalty(given)["term"].backward()
        optimizer.step()
    for layer in maps:
        weight = layer.weight.detach()[0]
        assert weight[0].abs() > 0.99 * weight.norm()
    assert float(penalty.estimate(given)["x_y"].detach()) > 0.98


@pytest.mark.parametrize("bandwidth", ["mean", 0.0, -1.0, float("inf"), float("nan")])
def test_a_bandwidth_is_median_or_a_positive_number(bandwidth):
    with pytest.raises(ValueError, match="bandwidth is median or a positive number"):
        build(bandwidth=bandwidth)


def test_refusals():
    with pytest.raises(ValueError, match="audio is not among them"):
        build({"language": 3, "video": 2}, pairs=[["audio", "z"]])
    with pytest.raises(ValueError, match="needs at least two of them"):
        build({})
    with pytest.raises(ValueError, match="n >= 4 with unbiased=True"):
        one(normal(3, 2), normal(3, 2))
    assert torch.isfinite(one(normal(2, 2), normal(2, 2), unbiased=False))
