"""Critics on Gaussians: exact ones, the best of a class, and what minibatches make of them.

The component-wise model: M blocks of d dimensions, correlation ρ between blocks. In its eigenbasis P = N(0, Λ) with 1 + (M−1)ρ on
d axes and 1 − ρ on (M−1)d, Q = N(0, I).
"""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import ndtri, roots_genlaguerre
from scipy.stats import chi2

from mdm.estimators import donsker_varadhan, f_divergence, kantorovich_rubinstein, nwj

# ---- linear critics on Gaussians


@pytest.mark.parametrize("mu", [0.0, 0.5, 1.5])
@pytest.mark.parametrize("theta", [-0.5, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("b", [-1.0, 0.0, 0.3])
def test_linear_critics_have_their_closed_forms(mu, theta, b):
    """P = N(μ, 1), Q = N(0, 1), T = θx + b: DV = θμ − θ²/2 and NWJ = θμ + b − e^{θ²/2+b−1}.

    Expectations by 10⁶ mid-quantiles. They miss the outermost tail of e^{θx}: 2.4e-4 at θ = 1.5, less below; so 1e-3.
    """
    n = 1_000_000 if theta > 1 else 200_000
    q = torch.from_numpy(ndtri((np.arange(n) + 0.5) / n))
    joint, prod = theta * (q + mu) + b, theta * q + b
    assert float(donsker_varadhan(joint, prod)) == pytest.approx(theta * mu - theta**2 / 2, abs=1e-3)
    assert float(nwj(joint, prod)) == pytest.approx(theta * mu + b - math.exp(theta**2 / 2 + b - 1), abs=1e-3)


def test_linear_critics_peak_at_kl():
    """Both are largest at θ = μ (NWJ with b = 1 − μ²/2), there μ²/2 = KL(N(μ, 1) ‖ N(0, 1)). Tolerance as above."""
    mu, q = 1.0, torch.from_numpy(ndtri((np.arange(200_000) + 0.5) / 200_000))
    theta = np.linspace(0.5, 1.5, 21)
    dv = [float(donsker_varadhan(t * (q + mu), t * q)) for t in theta]
    f = [float(nwj(t * (q + mu) + 1 - t**2 / 2, t * q + 1 - t**2 / 2)) for t in theta]
    for values in (dv, f):
        assert theta[np.argmax(values)] == pytest.approx(mu)
        assert max(values) == pytest.approx(mu**2 / 2, abs=1e-3)


# ---- exact critics on the component-wise model


def log_ratio(a, b, d, rho, modalities=2):
    """log p/q where the first d coordinates have the squared length a and the others b."""
    most, least = 1 + (modalities - 1) * rho, 1 - rho
    determinant = d * math.log(most) + (modalities - 1) * d * math.log(least)
    return torch.from_numpy(((1 - 1 / most) * a + (1 - 1 / least) * b - determinant).ravel() / 2)


def truths(d, rho):
    """D_f for M = 2, where it has a closed form."""
    s = 1 - rho**2
    return {
        "kl": -d / 2 * math.log(s),
        "reverse_kl": d * (rho**2 / s + math.log(s) / 2),
        "pearson": s**-d - 1,
        "squared_hellinger": 2 * (1 - (s**0.25 / (1 - rho**2 / 4) ** 0.5) ** d),
    }


def test_closed_forms_have_their_known_values():
    """ρ = .6, d = 2; the squared Hellinger distance here is ∫(√p − √q)² = 2(1 − BC)."""
    expected = {"kl": 0.4463, "reverse_kl": 0.6787, "pearson": 1.4414, "squared_hellinger": 2 * 0.12088}
    assert truths(2, 0.6) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("d", "rho"), [(1, 0.3), (2, 0.6), (2, -0.6), (5, 0.4)])
def test_f_divergences_of_gaussians_at_the_exact_log_ratio(d, rho):
    """Expectations by Gauss–Laguerre quadrature over both χ²_d: each node is a sample of one, weighed afterwards."""
    nodes, weights = roots_genlaguerre(60, d / 2 - 1)
    a, b = np.meshgrid(2 * nodes, 2 * nodes)
    weights = torch.from_numpy(np.outer(weights, weights).ravel() / weights.sum() ** 2)
    joint, prod = log_ratio((1 + rho) * a, (1 - rho) * b, d, rho), log_ratio(a, b, d, rho)

    def expectation(estimator):
        return float(weights @ torch.func.vmap(lambda p, q: estimator(p[None], q[None]))(joint, prod))

    for name, truth in truths(d, rho).items():
        value = expectation(lambda p, q, name=name: f_divergence(p, q, name, log_ratio=True))
        assert value == pytest.approx(truth, rel=1e-6), name
    kl = truths(d, rho)["kl"]
    assert expectation(lambda p, q: nwj(p + 1, q + 1)) == pytest.approx(kl, rel=1e-9)
    assert expectation(nwj) == pytest.approx(kl - 1 / math.e, abs=1e-9)  # without the 1


def total_variation(d, rho, modalities=2):
    """P(r > 0) − Q(r > 0), over b for a given a by its distribution function."""
    most, least, k = 1 + (modalities - 1) * rho, 1 - rho, (modalities - 1) * d

    def positive(scale_a, scale_b):
        def given(a):
            r = float(log_ratio(np.array(scale_a * a), np.array(0.0), d, rho, modalities))
            return chi2.pdf(a, d) * chi2.cdf(max(0, 2 * r / (1 / least - 1)) / scale_b, k)

        return quad(given, 0, d + 15 * math.sqrt(2 * d), limit=200)[0]

    return positive(most, least) - positive(1, 1)


def quantiles(d, rho, modalities=2, n=200):
    """log p/q at n² pairs of mid-quantiles, under P and under Q; for bounded functions of it, whose tails do not matter."""
    at = (np.arange(n) + 0.5) / n
    a, b = np.meshgrid(chi2(d).ppf(at), chi2((modalities - 1) * d).ppf(at))
    joint = log_ratio((1 + (modalities - 1) * rho) * a, (1 - rho) * b, d, rho, modalities)
    return joint, log_ratio(a, b, d, rho, modalities)


def test_total_variation_of_gaussians():
    """d = 2, ρ = .6: .3565 by integration. A log ratio that is sure of itself attains it, the true one stays below."""
    truth = total_variation(2, 0.6)
    assert truth == pytest.approx(0.3565, abs=1e-4)
    joint, prod = quantiles(2, 0.6)
    values = [float(f_divergence(s * joint, s * prod, "total_variation", log_ratio=True)) for s in (1, 3, 1e4)]
    assert values[0] < values[1] < values[2] == pytest.approx(truth, abs=2e-3)


def test_jensen_shannon_of_gaussians_is_below_its_relatives():
    """No closed form: with 2·JS this is at most 2 log 2·TV, at least TV² (Pinsker twice), and ≤ the squared Hellinger distance."""
    joint, prod = quantiles(2, 0.6)
    value = float(f_divergence(joint, prod, "jensen_shannon", log_ratio=True))
    truth = total_variation(2, 0.6)
    assert truth**2 < value < 2 * math.log(2) * truth
    assert truths(2, 0.6)["squared_hellinger"] / 2 < value < truths(2, 0.6)["squared_hellinger"]


CAPS = {  # (M, ρ): the largest DV, NWJ and difference of means for T in [0, 1], d = 20
    (2, 0.1): (0.087, 0.045, 0.176),
    (2, 0.2): (0.248, 0.146, 0.347),
    (2, 0.3): (0.418, 0.262, 0.510),
    (2, 0.5): (0.733, 0.471, 0.788),
    (2, 0.7): (0.944, 0.601, 0.958),
    (2, 0.9): (1.000, 0.632, 1.000),
    (3, 0.1): (0.192, 0.103, 0.288),
    (3, 0.2): (0.443, 0.271, 0.529),
    (3, 0.3): (0.656, 0.414, 0.718),
    (3, 0.5): (0.921, 0.585, 0.938),
    (3, 0.7): (0.997, 0.630, 0.997),
    (3, 0.9): (1.000, 0.632, 1.000),
}


@pytest.mark.parametrize(("modalities", "rho"), CAPS)
def test_the_best_critic_between_zero_and_one(modalities, rho):
    """T = clip(r + c, 0, 1) for DV, with the best c; clip(1 + r, 0, 1) for NWJ; 1 where r > 0 for the difference, then TV.

    Each is the pointwise maximiser, and no other function of r in [0, 1] does better.
    """
    joint, prod = quantiles(20, rho, modalities)

    def dv(c):
        return float(donsker_varadhan((joint + c).clamp(0, 1), (prod + c).clamp(0, 1)))

    best = [
        max(dv(c) for c in np.linspace(0, 1, 11)),
        float(nwj((1 + joint).clamp(0, 1), (1 + prod).clamp(0, 1))),
        float(kantorovich_rubinstein((joint > 0).double(), (prod > 0).double())),
    ]
    assert best == pytest.approx(CAPS[modalities, rho], abs=2e-3)
    assert best[2] == pytest.approx(total_variation(20, rho, modalities), abs=2e-3)
    for slope, shift in ((0.3, 0.0), (1.0, 0.5), (4.0, -1.0), (4.0, 1.0)):
        others = [torch.sigmoid(slope * r + shift) for r in (joint, prod)]
        values = [float(estimator(*others)) for estimator in (donsker_varadhan, nwj, kantorovich_rubinstein)]
        assert all(v <= b + 1e-4 for v, b in zip(values, best, strict=True))  # c is one of eleven


# ---- minibatches


def test_a_minibatch_raises_the_value_of_donsker_varadhan():
    """T = θx under N(0, 1): E[−log mean e^{θx}] + θ²/2 = v/2m − (v³ + 3v²)/3m² + 3v²/4m² + …, v = e^{θ²} − 1.

    From log(1 + e) = e − e²/2 + e³/3 − e⁴/4, with E e² = v/m, E e³ = (v³ + 3v²)/m² and E e⁴ ≈ 3v²/m². NWJ has no such bias.
    """
    zero = torch.zeros(1, dtype=torch.float64)
    rng = torch.Generator().manual_seed(0)
    for theta, m in ((0.5, 8), (1.0, 32)):
        t = theta * torch.randn(40_000, m, generator=rng, dtype=torch.float64)
        v = math.exp(theta**2) - 1
        for estimator, exact, bias in (
            (donsker_varadhan, -(theta**2) / 2, v / (2 * m) - (v**3 + 3 * v**2) / (3 * m**2) + 3 * v**2 / (4 * m**2)),
            (nwj, -math.exp(theta**2 / 2 - 1), 0),
        ):
            values = torch.func.vmap(lambda q, estimator=estimator: estimator(zero, q))(t)
            error = float(values.std()) / math.sqrt(len(values))
            assert error < 0.002
            assert float(values.mean()) - exact == pytest.approx(bias, abs=4 * error)


def test_a_minibatch_shrinks_the_gradient_of_donsker_varadhan():
    """∂/∂θ (−log E e^{θx}) = −θ; from 32 rows at θ = 1.5 it is −1.29 in the mean."""
    zero = torch.zeros(1, dtype=torch.float64)
    x = torch.randn(5000, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    theta = torch.full((5000, 1), 1.5, dtype=torch.float64, requires_grad=True)
    values = torch.func.vmap(lambda q: donsker_varadhan(zero, q))(theta * x)
    (slopes,) = torch.autograd.grad(values.sum(), theta)
    assert float(slopes.mean()) == pytest.approx(-1.29, abs=4 * 0.46 / math.sqrt(5000))


@pytest.mark.parametrize(("rho", "truth", "mean"), [(0.5, 2.88, 3.36), (0.7, 6.73, 9.41), (0.9, 16.61, 40.2)])
def test_the_value_of_a_minibatch_is_no_lower_bound(rho, truth, mean):
    """Even of the exact critic: d = 20, 32 rows. The larger the dependence, the surer the smallest of E_Q's terms is missed."""
    d, rng = 20, np.random.default_rng(0)
    a, b, c, e = rng.chisquare(d, (4, 2000, 32))
    joint, prod = log_ratio((1 + rho) * a, (1 - rho) * b, d, rho), log_ratio(c, e, d, rho)
    values = torch.func.vmap(donsker_varadhan)(joint.reshape(2000, 32), prod.reshape(2000, 32))
    error = float(values.std()) / math.sqrt(len(values))
    assert -d / 2 * math.log(1 - rho**2) == pytest.approx(truth, abs=0.01)
    assert float(values.mean()) == pytest.approx(mean, abs=4 * error + 0.01)
    assert float(values.mean()) > truth + 10 * error
