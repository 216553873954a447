"""HSIC against definitions written out, closed forms for Gaussians, and linear kernels."""

import inspect
import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import rbf_kernel

from mdm.estimators import hsic, median_scale, mmd2


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gram(z, s):
    return rbf_kernel(z, gamma=1 / s)


def pair(n, rho, seed=0, d=1):
    x, noise = normal(2, n, d, seed=seed)
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def test_biased_hsic_is_the_trace_of_centred_kernels():
    """tr(KHLH)/n² with another library's kernels; normalised by ‖HKH‖·‖HLH‖."""
    x, y, s_x, s_y = normal(9, 3), normal(9, 2, seed=1) + normal(9, 1), 2.5, 0.7
    h = np.eye(9) - 1 / 9
    k, l = h @ gram(x, s_x) @ h, h @ gram(y, s_y) @ h  # noqa: E741
    assert float(hsic(x, y, s_x, s_y, unbiased=False)) == pytest.approx(np.trace(k @ l) / 81, rel=1e-9)
    cosine = (k * l).sum() / np.linalg.norm(k) / np.linalg.norm(l)
    assert float(hsic(x, y, s_x, s_y, unbiased=False, normalized=True)) == pytest.approx(cosine, rel=1e-9)
    scales = [float(median_scale(z)) for z in (x, y)]
    assert float(hsic(x, y, unbiased=False)) == pytest.approx(float(hsic(x, y, *scales, unbiased=False)), rel=1e-12)


def u_statistic(k, l):  # noqa: E741
    """E[k₁₂l₁₂ + k₁₂l₃₄ − 2k₁₂l₁₃] over all ordered choices of four different rows."""
    terms = [k[a, b] * (l[a, b] + l[c, d] - 2 * l[a, c]) for a, b, c, d in itertools.permutations(range(len(k)), 4)]
    return np.mean(terms)


@pytest.mark.parametrize("n", [4, 5, 7])
def test_unbiased_hsic_is_the_u_statistic_over_all_fours_of_rows(n):
    """And Song et al.'s Eq. 5, with the diagonals of K and L 0."""
    x, y, s_x, s_y = normal(n, 3), normal(n, 2, seed=1) + normal(n, 1), 2.5, 0.7
    k, l = gram(x, s_x), gram(y, s_y)  # noqa: E741
    value = float(hsic(x, y, s_x, s_y))
    assert value == pytest.approx(u_statistic(k, l), rel=1e-9, abs=1e-15)
    off = 1 - np.eye(n)
    k, l, one = k * off, l * off, np.ones(n)  # noqa: E741
    song = np.trace(k @ l) + one @ k @ one * (one @ l @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ l @ one)
    assert value == pytest.approx(song / (n * (n - 3)), rel=1e-9, abs=1e-15)
    if n > 4:
        own = math.sqrt(u_statistic(gram(x, s_x), gram(x, s_x)) * u_statistic(gram(y, s_y), gram(y, s_y)))
        assert float(hsic(x, y, s_x, s_y, normalized=True)) == pytest.approx(value / own, rel=1e-9)


def test_biased_hsic_is_the_mmd_between_joint_and_product_samples():
    """Under the product of both kernels, the n rows (x_i, y_i) against all n² rows (x_i, y_j), each divided by √s."""
    x, y, s_x, s_y = normal(8, 3), normal(8, 2, seed=1) + normal(8, 1), 2.5, 0.7
    a, b = x / math.sqrt(s_x), y / math.sqrt(s_y)
    product = torch.cat([a.repeat_interleave(8, 0), b.repeat(8, 1)], 1)
    distance = mmd2(torch.cat([a, b], 1), product, [1.0], unbiased=False)
    assert float(hsic(x, y, s_x, s_y, unbiased=False)) == pytest.approx(float(distance), rel=1e-9)


def h(rho, s):
    """HSIC of standard normals with correlation ρ, k = e^{−(a−b)²/2s} for both.

    E[k₁₂l₁₂] + E[k₁₂]E[l₁₂] − 2E[k₁₂l₁₃], each from E e^{−vᵀv/2s} = det(I + Cov(v)/s)^{−½}, v the differences in question.
    """
    cov = [2 * np.array([[1, rho], [rho, 1]]), np.diag([2.0, 2.0]), np.array([[2, rho], [rho, 2]])]
    both, apart, shared = (np.linalg.det(np.eye(2) + c / s) ** -0.5 for c in cov)
    return both + apart - 2 * shared


@pytest.mark.parametrize(("rho", "normalised"), [(0.0, 0.0), (0.5, 0.1466), (0.9, 0.6964), (-0.9, 0.6964)])
def test_hsic_of_gaussians_has_its_closed_form(rho, normalised):
    s = 1.0
    assert h(rho, s) / h(1, s) == pytest.approx(normalised, abs=1e-4)
    written = ((1 + 2 / s) ** 2 - (2 * rho / s) ** 2) ** -0.5 + 1 / (1 + 2 / s)
    written -= 2 * (s / (1 + s)) * ((1 + 1 / (1 + s)) ** 2 - (rho / (1 + s)) ** 2) ** -0.5
    assert h(rho, s) == pytest.approx(written, abs=1e-12)
    samples = [pair(200, rho, seed=i) for i in range(40)]
    for options, truth in (({}, h(rho, s)), ({"normalized": True}, normalised)):
        values = torch.stack([hsic(x, y, 2 * s, 2 * s, **options) for x, y in samples])
        error = float(values.std()) / math.sqrt(len(values))
        assert error < 0.01
        assert float(values.mean()) == pytest.approx(truth, abs=4 * error + 1e-4)
    for sign in (1, -1):
        assert float(hsic(samples[0][0], sign * samples[0][0], 2.0, 2.0, normalized=True)) == pytest.approx(1)


@pytest.mark.parametrize(("rho", "n"), [(0.0, 5), (0.8, 5), (0.0, 12)])
def test_unbiased_hsic_is_unbiased_and_the_other_is_too_high(rho, n):
    """800 samples. Biased under independence: (1 − Ek)²·(n − 1)/n² in expectation, E k = 3^{−½} at s = 1."""
    samples = [pair(n, rho, seed=i) for i in range(800)]
    for unbiased in (True, False):
        values = torch.stack([hsic(x, y, 2.0, 2.0, unbiased) for x, y in samples])
        error = float(values.std()) / math.sqrt(len(values))
        assert error < 0.005
        if unbiased:
            assert float(values.mean()) == pytest.approx(h(rho, 1.0), abs=4 * error)
        elif rho == 0:
            assert float(values.mean()) == pytest.approx((1 - 3**-0.5) ** 2 * (n - 1) / n**2, abs=4 * error)
        if rho == 0:
            negative = float((values < 0).double().mean())
            assert 0.3 < negative < 0.8 if unbiased else negative == 0


@pytest.mark.parametrize("d", [5, 20, 300])
def test_a_bandwidth_far_below_the_dimension_sees_nothing(d):
    """Tsai et al.'s (2019) σ = 1 on 686 independent rows: .11 at d = 5, then 1; with σ² = d .56 at d = 300; debiased about 0."""
    x, y = normal(2, 686, d).float()
    literal = {5: 0.108, 20: 1.0, 300: 1.0}
    assert float(hsic(x, y, 2.0, 2.0, unbiased=False, normalized=True)) == pytest.approx(literal[d], abs=0.01)
    if d == 300:
        assert float(hsic(x, y, 2.0 * d, 2.0 * d, unbiased=False, normalized=True)) == pytest.approx(0.563, abs=0.01)
    for scale in (2.0 * d, None):
        assert abs(float(hsic(x, y, scale, scale, normalized=True))) < 0.02
    if d == 300:  # all distances are alike to the last digit: what rounding leaves of the centred kernels is not compared
        assert float(hsic(x, y, 2.0, 2.0, normalized=True)) == 0


@pytest.mark.parametrize("unbiased", [False, True])
def test_hsic_is_one_for_the_same_geometry_and_zero_for_a_constant(unbiased):
    x = normal(30, 4)
    turn, _ = torch.linalg.qr(normal(4, 4, seed=1))
    options = {"unbiased": unbiased, "normalized": True}
    for other in (x, x @ turn + 3, torch.cat([x, torch.zeros(30, 2)], 1)):
        assert float(hsic(x, other, 3.0, 3.0, **options)) == pytest.approx(1, abs=1e-9)
    assert float(hsic(x, 7 * x @ turn - 3, **options)) == pytest.approx(1, abs=1e-9)  # the median turns with the unit
    for constant in (torch.zeros(30, 2), torch.full((30, 2), 1e5) / 3):
        for scale in (None, 1.0):
            for dtype in (torch.float32, torch.float64):
                a, b = (v.to(dtype).clone().requires_grad_() for v in (x, constant))
                value = hsic(a, b, None, scale, **options)
                assert float(value.detach()) == 0
                assert float(hsic(b, b, scale, scale, **options).detach()) == 0
                assert float(hsic(b, a, scale, None, **options).detach()) == 0
                assert float(hsic(a, b, None, scale, unbiased).detach()) == pytest.approx(0, abs=1e-9)
                assert all((g == 0).all() for g in torch.autograd.grad(value, [a, b]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hsic_of_wide_kernels_is_that_of_linear_ones(dtype):
    """s → ∞: k = 1 − ‖a − b‖²/s, centred 2·aᵀb/s, so 4‖XᵀY‖²_F/(n²·s²), X and Y centred; normalised, linear CKA.

    In single precision k itself would be 1 for all.
    """
    x, y, s = normal(40, 5), normal(40, 3, seed=1), 1e8
    y[:, 0] += x[:, 0]
    a, b = x - x.mean(0), y - y.mean(0)
    norms = [float((p.T @ q).square().sum()) for p, q in ((a, b), (a, a), (b, b))]
    x, y = x.to(dtype), y.to(dtype)
    assert float(hsic(x, y, s, s, unbiased=False)) == pytest.approx(4 * norms[0] / (40 * s) ** 2, rel=1e-4)
    cka = float(hsic(x, y, s, s, unbiased=False, normalized=True))
    assert cka == pytest.approx(norms[0] / math.sqrt(norms[1] * norms[2]), rel=1e-4)
    assert float(hsic(x + 1000, y - 1000, s, s, unbiased=False, normalized=True)) == pytest.approx(cka, rel=1e-3)


def test_hsic_of_equidistant_rows_is_zero_and_not_what_rounding_leaves():
    """Corners of a simplex: all off-diagonal k are one number, which debiased centring takes away."""
    for n in (5, 17, 64):
        corners = 3 * torch.eye(n) + 0.1
        for other in (corners, normal(n, 3).float()):
            assert float(hsic(corners, other, 7.0, normalized=True)) == 0
            assert float(hsic(corners, other, 7.0)) == pytest.approx(0, abs=1e-7)


def test_a_row_is_its_own_neighbour_however_far_out_it_is():
    """Rows some 10⁴ apart, s = 2: K = I, and 1 for whatever comes, if the diagonal is not what rounding leaves of ‖x‖² − xᵀx."""
    x, y = (1e4 * normal(2, 40, 30)).float()
    assert float(hsic(x, y, 2.0, 2.0, unbiased=False, normalized=True)) == pytest.approx(1, abs=1e-6)


def test_normalised_hsic_is_a_cosine():
    """Also debiased, also of four rows, where it is the inner product of U-centred matrices."""
    for seed in range(100):
        n = 4 + seed % 5
        x, y = normal(n, 2, seed=seed), normal(n, 3, seed=seed + 1000)
        for unbiased in (True, False):
            assert abs(float(hsic(x.float(), y.float(), unbiased=unbiased, normalized=True))) <= 1 + 1e-5


def test_a_scale_may_be_a_tensor_and_medians_carry_no_gradient():
    x, y = pair(8, 0.5, d=3)
    s = median_scale(x)
    assert float(hsic(x, y, s, None)) == float(hsic(x, y, float(s), None)) == float(hsic(x, y))
    x.requires_grad_()
    gradients = [torch.autograd.grad(hsic(x, y, scale, normalized=True), x)[0] for scale in (None, float(s))]
    torch.testing.assert_close(*gradients)
    assert torch.autograd.gradcheck(lambda x: hsic(x, y, 3.0, 3.0, normalized=True), x)
    assert torch.autograd.gradcheck(lambda x: hsic(x, y, 3.0, 3.0, unbiased=False), x)


def test_rows_of_a_missing_modality_do_not_hide_the_others():
    """20 of 60 segments have audio, the others one and the same vector: the kernel still has a width among those that have it."""
    x, y = pair(60, 0.95, d=4)
    x[20:] = 0
    y = y.clone().requires_grad_()
    scale = median_scale(x)
    assert 1 < float(scale) < 20
    x.requires_grad_()
    value = hsic(x, y, normalized=True)
    (gradient,) = torch.autograd.grad(value, x)
    assert gradient[:20].abs().max() > 1e-4


def test_hsic_refuses_what_it_cannot_compare():
    x = normal(5, 2)
    with pytest.raises(ValueError, match=r"the same n rows of x and y, n >= 4 with unbiased=True, got \[3, 2\] and \[3, 2\]"):
        hsic(x[:3], x[:3])
    with pytest.raises(ValueError, match=r"the same n rows .* got \[4, 2\] and \[5, 2\]"):
        inspect.unwrap(hsic)(x[:4], x)
    with pytest.raises(ValueError, match="n >= 2 with unbiased=False"):
        hsic(x[:1], x[:1], unbiased=False)
    for scale in (0.0, -1.0, math.nan, torch.tensor(0.0)):
        with pytest.raises(ValueError, match="scales are positive numbers"):
            hsic(x, x, 1.0, scale)
        with pytest.raises(ValueError, match="scales are positive numbers"):
            hsic(x, x, scale)
