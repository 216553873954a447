"""Mardia's kurtosis: its definition, known laws, invariances, and moments that it refuses."""

import inspect
import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from scipy.stats import f, moment, norm

from mdm.estimators import mardia_kurtosis


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_mardia_kurtosis_is_the_mean_fourth_power_of_mahalanobis_lengths():
    z = normal(15, 3) @ normal(3, 3, seed=1) + 5
    inverse = np.linalg.inv(np.cov(z.T, bias=True))
    lengths = [mahalanobis(row, z.mean(0), inverse) for row in z]
    assert float(mardia_kurtosis(z)) == pytest.approx(np.mean(np.power(lengths, 4)), rel=1e-9)
    given, s = normal(3, seed=2), normal(3, 3, seed=3)
    s = s @ s.T + torch.eye(3)
    lengths = [mahalanobis(row, given, np.linalg.inv(s)) for row in z]
    assert float(mardia_kurtosis(z, given, s)) == pytest.approx(np.mean(np.power(lengths, 4)), rel=1e-9)
    lengths = [mahalanobis(row, z.mean(0), np.linalg.inv(s)) for row in z]
    assert float(mardia_kurtosis(z, covariance=s)) == pytest.approx(np.mean(np.power(lengths, 4)), rel=1e-9)


def test_mardia_kurtosis_of_one_column_is_the_kurtosis():
    z = normal(30, 1) ** 3
    assert float(mardia_kurtosis(z)) == pytest.approx(float(moment(z, 4)[0] / moment(z, 2)[0] ** 2), rel=1e-9)


@pytest.mark.parametrize(("p", "n", "mean"), [(1, 10, 3 * 9 / 11), (4, 256, 24 * 255 / 257), (20, 64, 426.46)])
def test_mardia_kurtosis_of_gaussian_rows(p, n, mean):
    """p(p+2) with the true moments, p(p+2)(n−1)/(n+1) in expectation with the rows' own: 426.46 in place of 440."""
    assert p * (p + 2) * (n - 1) / (n + 1) == pytest.approx(mean, abs=0.01)
    z = normal(300, n, p)
    for truth, moments in ((mean, ()), (p * (p + 2), (torch.zeros(p), torch.eye(p)))):
        values = torch.stack([mardia_kurtosis(rows, *moments) for rows in z])
        error = float(values.std()) / math.sqrt(len(values))
        assert error < 0.06 * truth
        assert float(values.mean()) == pytest.approx(truth, abs=4 * error)


def independent(ppf, p, n=40_000):
    """Independent columns by permutation of mid-quantiles; about p(p−1) + pb for columns of kurtosis b."""
    rng = np.random.default_rng(0)
    column = ppf((np.arange(n) + 0.5) / n)
    return torch.from_numpy(np.stack([rng.permutation(column) for _ in range(p)], 1))


@pytest.mark.parametrize(
    ("ppf", "kappa"),
    [
        (lambda u: u - 0.5, 29),  # uniform, b = 1.8
        (lambda u: -np.sign(u - 0.5) * np.log1p(-2 * np.abs(u - 0.5)), 50),  # Laplace, b = 6
        (norm.ppf, 35),
    ],
)
def test_mardia_kurtosis_of_independent_columns(ppf, kappa):
    """p(p−1) + p·b at p = 5."""
    assert float(mardia_kurtosis(independent(ppf, 5))) == pytest.approx(kappa, rel=0.01)


def test_mardia_kurtosis_of_heavy_tails():
    """t_ν in p dimensions: p(p+2)(ν−2)/(ν−4), at p = 3, ν = 12: 18.75. By its radius: ‖z‖²/p has the quantiles of F(p, ν)."""
    p, nu, n = 3, 12, 20_000
    directions = torch.nn.functional.normalize(normal(n, p), dim=1)
    radius = torch.from_numpy(np.sqrt(p * f(p, nu).ppf((np.arange(n) + 0.5) / n))).unsqueeze(1)
    assert p * (p + 2) * (nu - 2) / (nu - 4) == 18.75
    exact = torch.eye(p) * nu / (nu - 2)
    assert float(mardia_kurtosis(radius * directions, torch.zeros(p), exact)) == pytest.approx(18.75, rel=0.01)
    assert float(mardia_kurtosis(radius * directions)) == pytest.approx(18.75, rel=0.03)


@pytest.mark.parametrize("p", [1, 2, 5])
def test_mardia_kurtosis_is_least_on_a_sphere(p):
    """p², attained where all Mahalanobis lengths are √p: ±e_i; and nothing is below."""
    ends = torch.cat([torch.eye(p), -torch.eye(p)]).double()
    assert float(mardia_kurtosis(3 * ends + 1)) == pytest.approx(p**2, rel=1e-12)
    for seed in range(20):
        assert float(mardia_kurtosis(normal(p + 2 + seed, p, seed=seed))) >= p**2 - 1e-9
        assert float(mardia_kurtosis(normal(p + 2, p, seed=seed), normal(p, seed=seed + 50))) >= p**2 - 1e-9


@pytest.mark.parametrize("p", [1, 4, 9])
def test_mardia_kurtosis_of_one_row_more_than_columns_is_constant(p):
    """n = p + 1 rows are a simplex up to an affine map, so the value is p² whatever they are, and nothing can be learnt from it."""
    z = normal(p + 1, p).requires_grad_()
    value = mardia_kurtosis(z)
    (gradient,) = torch.autograd.grad(value, z)
    assert float(value.detach()) == pytest.approx(p**2, rel=1e-10)
    assert gradient.abs().max() < 1e-8
    more = normal(p + 3, p).requires_grad_()  # at p = 1 three rows are still 1.5, whatever they are
    assert torch.autograd.grad(mardia_kurtosis(more), more)[0].abs().max() > 1e-3


def test_mardia_kurtosis_is_invariant_under_affine_maps_with_its_own_moments_only():
    z, a, b = normal(50, 4), normal(4, 4, seed=1), normal(4, seed=2)
    value = float(mardia_kurtosis(z))
    assert float(mardia_kurtosis(z @ a + b)) == pytest.approx(value, rel=1e-12)
    for unit in (1e-9, 1e9):
        assert float(mardia_kurtosis(unit * z)) == pytest.approx(value, rel=1e-12)
    # The ridge is relative to the mean variance: not to the scale, but to the shape.
    assert float(mardia_kurtosis(1e3 * z + 7, ridge=0.1)) == pytest.approx(float(mardia_kurtosis(z, ridge=0.1)), rel=1e-12)
    assert float(mardia_kurtosis(z @ a, ridge=0.1)) != pytest.approx(float(mardia_kurtosis(z, ridge=0.1)), rel=1e-3)
    assert float(mardia_kurtosis(2 * z, torch.zeros(4), torch.eye(4))) == pytest.approx(
        16 * float(mardia_kurtosis(z, torch.zeros(4), torch.eye(4))), rel=1e-12
    )


def test_the_ridge_is_in_units_of_the_mean_variance():
    """Variances 1 and 3, ridge ½: S + ½·2·I = diag(2, 4); the four rows (±1, ±√3) have the length ½ + ¾ each, squared 1.5625."""
    z = torch.tensor([[1, 3**0.5], [1, -(3**0.5)], [-1, 3**0.5], [-1, -(3**0.5)]], dtype=torch.float64)
    assert float(mardia_kurtosis(z)) == pytest.approx(4)
    assert float(mardia_kurtosis(z, ridge=0.5)) == pytest.approx(1.5625)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9])
def test_with_a_moving_covariance_the_kurtosis_can_be_lowered_by_shrinking(alpha):
    """S = α·C + (1−α)·C(sz): κ(s) = s⁴κ/(α + (1−α)s²)², so ∂κ/∂s = 4ακ at s = 1; 85.6 at α = .9, κ = 23.8, about p = 4."""
    z = normal(256, 4)
    centred = z - z.mean(0)
    own = centred.T @ centred / 256
    s = torch.ones((), dtype=torch.float64, requires_grad=True)
    value = mardia_kurtosis(s * z, covariance=alpha * own + (1 - alpha) * s**2 * own)
    (slope,) = torch.autograd.grad(value, s)
    assert float(slope) == pytest.approx(4 * alpha * float(mardia_kurtosis(z)), abs=1e-9)
    if alpha == 0.9:
        assert float(slope) == pytest.approx(85.6, rel=0.05)


def test_mardia_kurtosis_is_computed_in_double_precision():
    """Columns of sizes 10⁴ apart and far from 0; single precision's own moments would leave nothing of the smaller one."""
    z = normal(60, 3).float() * torch.tensor([1e-2, 1.0, 1e2]) + torch.tensor([0.0, 10.0, 1e3])
    value = mardia_kurtosis(z)
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(float(mardia_kurtosis(z.double())), rel=1e-6)
    x = normal(12, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: mardia_kurtosis(x, ridge=0.1), x)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (4, 4), (20, 20), (5, 8), (64, 64)])
def test_a_kurtosis_of_too_few_rows_is_refused_whatever_rounding_makes_of_it(rows, columns):
    for seed in range(20):
        with pytest.raises(
            ValueError, match=f"of these {rows} rows of {columns} columns is singular or not finite; give more rows"
        ):
            mardia_kurtosis(normal(rows, columns, seed=seed))
        if columns > 3:  # two columns that are nearly one leave more of rounding in the others
            z = normal(rows, columns, seed=seed)
            z[:, 1] = z[:, 0] + 1e-4 * z[:, 1]
            with pytest.raises(ValueError, match="is singular or not finite"):
                mardia_kurtosis(z)
    if rows > 1:
        assert math.isfinite(mardia_kurtosis(normal(rows, columns), ridge=0.1))


def test_a_kurtosis_of_a_singular_covariance_is_refused():
    z = normal(50, 4)
    sums = torch.cat([z, z[:, :1] + z[:, 1:2]], 1)
    gap = z.clone()
    gap[3, 2] = math.nan
    for bad in (sums, sums.float(), torch.ones(9, 3), z * torch.tensor([1, 1, 1, 0]), gap, gap.nan_to_num(math.inf)):
        with pytest.raises(
            ValueError, match="is singular or not finite; give more rows than columns, none constant and none the sum"
        ):
            mardia_kurtosis(bad)
    indefinite = torch.eye(4) + 2 * torch.eye(4).flip(0)  # with a positive diagonal
    for s in (torch.zeros(4, 4), -torch.eye(4), indefinite, torch.diag(torch.tensor([1.0, 1, 1, 0]))):
        with pytest.raises(ValueError, match=r"a larger ridge than 0\.0"):
            mardia_kurtosis(z, covariance=s)
    nearly = torch.cat([z, z[:, :1] + 1e-3 * normal(50, 1, seed=1)], 1)  # close to dependent is not
    assert math.isfinite(mardia_kurtosis(nearly))


def test_a_kurtosis_of_moments_of_other_columns_is_refused():
    z = normal(9, 3)
    for options in ({"mean": torch.zeros(2)}, {"covariance": torch.eye(2)}, {"ridge": -0.1}, {"ridge": math.nan}):
        with pytest.raises(ValueError, match=r"takes a mean \[3\], a covariance \[3, 3\] and a ridge >= 0, got"):
            inspect.unwrap(mardia_kurtosis)(z, **options)
