"""Informations and entropies from densities, against closed forms for Gaussians and mixtures of them."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import digamma
from scipy.stats import multivariate_normal, norm

from mdm.estimators import barber_agakov, club, gaussian_entropy, gaussian_mixture_entropy


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def white(n, d, seed=0):
    """[n, d] rows whose mean is 0 and whose covariance (1/n) is I, exactly: sample moments are those of the population."""
    x = normal(n, d, seed=seed)
    x = x - x.mean(0)
    return torch.linalg.solve_triangular(torch.linalg.cholesky(x.T @ x / n), x.T, upper=False).T


def test_barber_agakov_is_the_mean_log_density():
    given = normal(3, 9, 4)
    densities = [multivariate_normal(m, np.diag(np.exp(v))).logpdf(x) for x, m, v in zip(*given.numpy(), strict=True)]
    assert float(barber_agakov(*given)) == pytest.approx(np.mean(densities), rel=1e-9)


def test_barber_agakov_is_minus_the_conditional_entropy_at_the_true_conditional_and_less_by_the_divergence():
    """y = x + s·ε: E log q = −Σ ½ log(2πe s²) for q = N(x, s²); q = N(x, 1) loses ½ Σ (s² − 1 − log s²).

    ε is standardised, so sample means are expectations.
    """
    s = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    noise = normal(50, 3)
    noise = (noise - noise.mean(0)) / noise.std(0, correction=0)
    x = normal(50, 3, seed=1)
    exact = barber_agakov(x + s * noise, x, 2 * s.log().expand(50, 3))
    assert float(exact) == pytest.approx(-float((0.5 * (2 * math.pi * math.e * s**2).log()).sum()), abs=1e-9)
    loss = float(exact - barber_agakov(x + s * noise, x, torch.zeros(50, 3, dtype=torch.float64)))
    assert loss == pytest.approx(float((s**2 - 1 - (s**2).log()).sum()) / 2, abs=1e-9)


def test_barber_agakov_plus_the_entropy_is_the_information_of_a_linear_gaussian_channel():
    """y = Ax + s·ε: I = ½ log det Σ_y − ½ log det Σ_ε at q = N(Ax, s²); with q = N(Ax, 1) it is ½ Σ (s² − 1 − log s²) less.

    A = [[1, 2], [0, 1]], s = (½, 3/2): Σ_y = [[5¼, 2], [2, 3¼]], I = ½ log(13.0625/.5625) = 1.5725; gap ½ (.25 + 2.25 − 2 −
    log .5625) = .5377.
    """
    both = white(60, 4)
    x, noise = both[:, :2], both[:, 2:]
    s = torch.tensor([0.5, 1.5], dtype=torch.float64)
    mean = x @ torch.tensor([[1.0, 2.0], [0.0, 1.0]], dtype=torch.float64).T
    y = mean + s * noise
    entropy = float(gaussian_entropy(y, ridge=1e-12))
    exact = float(barber_agakov(y, mean, (2 * s.log()).expand(60, 2))) + entropy
    assert exact == pytest.approx(math.log(13.0625 / 0.5625) / 2, abs=1e-9) == pytest.approx(1.5725, abs=1e-4)
    loose = float(barber_agakov(y, mean, torch.zeros_like(y))) + entropy
    assert exact - loose == pytest.approx(0.5377, abs=1e-4)
    for seed in range(20):  # no other q says more
        tilt, scale = 0.3 * normal(2, 2, seed=seed), 0.3 * normal(2, seed=seed + 50)
        assert float(barber_agakov(y, mean + x @ tilt, 2 * s.log() + scale.expand(60, 2))) + entropy < exact


def test_the_bound_of_paper_001_on_independent_variables_is_the_entropy_of_its_labels():
    """X ⊥ Y, labels at random: q = N(mean, variance) of Y is the best there is, −log q its entropy, and Eq. 7 adds log 2.

    I = 0 < log 2: an upper bound for H(Y) leaves no lower bound on I.
    """
    y = white(40, 3)
    nothing = torch.zeros_like(y)
    halves = [torch.cat([y, -y]), torch.cat([-y, y])]  # both classes have the moments of all
    value = float(barber_agakov(y, nothing, nothing)) + float(gaussian_mixture_entropy(halves, ridge=1e-12))
    assert value == pytest.approx(math.log(2), abs=1e-9)


def test_a_wide_conditional_is_not_best():
    """Official code of MMIM leaves −½ log σ² out, and reads −0.0002 at log σ² = 10; the density is −½(10 + log 2π) or so."""
    zero = torch.zeros(4, 1)
    assert float(barber_agakov(zero, zero, zero + 10)) == pytest.approx(-(10 + math.log(2 * math.pi)) / 2)
    assert float(barber_agakov(zero, zero, zero)) == pytest.approx(-math.log(2 * math.pi) / 2)


@pytest.mark.parametrize("unbiased", [False, True])
def test_club_is_its_definition_over_all_pairs(unbiased):
    n, given = 7, normal(3, 7, 4)
    y, mean, log_variance = given.numpy()
    log_q = np.array([[norm(mean[i], np.exp(log_variance[i] / 2)).logpdf(y[j]).sum() for j in range(n)] for i in range(n)])
    negative = log_q.mean() if not unbiased else log_q[~np.eye(n, dtype=bool)].mean()
    assert float(club(*given, unbiased)) == pytest.approx(log_q.diagonal().mean() - negative, rel=1e-9)


@pytest.mark.parametrize("rho", [0.1, 0.5, 0.7, 0.9])
def test_club_at_the_true_conditional_is_the_jeffreys_divergence(rho):
    """ρ²/(1 − ρ²) for each dimension, above I = −½ log(1 − ρ²). The sample has exactly these second moments."""
    x, noise = normal(2, 40, 1)
    x = (x - x.mean()) / x.std(correction=0)
    noise = noise - noise.mean() - x * (x * noise).mean()
    noise = noise / noise.std(correction=0)
    y = rho * x + math.sqrt(1 - rho**2) * noise
    value = float(club(y, rho * x, torch.full_like(y, math.log(1 - rho**2))))
    assert value == pytest.approx(rho**2 / (1 - rho**2), rel=1e-9)
    assert value > -0.5 * math.log(1 - rho**2)


def test_club_without_the_diagonal_has_the_expectation_of_the_population():
    """2 rows in each of 4000 batches, ρ = 0.7: mean .9608 against half of it with the diagonal. Standard errors: .04, .02."""
    rho, rng = 0.7, torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, 4000, 2, 1, generator=rng, dtype=torch.float64)
    y = rho * x + math.sqrt(1 - rho**2) * noise
    log_variance = torch.full((2, 1), math.log(1 - rho**2), dtype=torch.float64)
    both = {u: torch.stack([club(b, rho * a, log_variance, u) for a, b in zip(x, y, strict=True)]) for u in (False, True)}
    for unbiased, truth in ((True, 0.9608), (False, 0.4804)):
        error = float(both[unbiased].std()) / math.sqrt(4000)
        assert error < 0.05
        assert float(both[unbiased].mean()) == pytest.approx(truth, abs=4 * error)


def test_club_of_constants_and_of_one_row_is_zero():
    y = normal(6, 3)
    assert float(club(y[:1].expand(6, 3), normal(6, 3, seed=1), normal(6, 3, seed=2))) == pytest.approx(0, abs=1e-12)
    assert float(club(y[:1], y[1:2], y[2:3])) == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="at least two rows, got one"):
        club(y[:1], y[1:2], y[2:3], unbiased=True)


@pytest.mark.parametrize("rho", [-0.7, 0.1, 0.5, 0.7, 0.9, 0.99])
def test_club_of_gaussians_is_one_number_in_both_directions(rho):
    """Jeffreys' divergence is symmetric: q(y|x) and q(x|y), each the true conditional, ρ²/(1 − ρ²) for each of three dimensions."""
    both = white(50, 6)
    x, y = both[:, :3], rho * both[:, :3] + math.sqrt(1 - rho**2) * both[:, 3:]
    log_variance = torch.full_like(y, math.log(1 - rho**2))
    forward, backward = float(club(y, rho * x, log_variance)), float(club(x, rho * y, log_variance))
    assert forward == pytest.approx(3 * rho**2 / (1 - rho**2), rel=1e-9)
    assert backward == pytest.approx(forward, rel=1e-9)


def test_club_of_gaussians_has_its_known_values():
    """And exceeds I = −½ log(1 − ρ²) by ρ²/(1 − ρ²) + ½ log(1 − ρ²), at .99 twenty-five times."""
    expected = {0.1: (0.0101, 0.0050), 0.5: (0.3333, 0.1438), 0.7: (0.9608, 0.3367), 0.9: (4.263, 0.830), 0.99: (49.25, 1.96)}
    both = white(50, 2)
    for rho, (bound, information) in expected.items():
        y = rho * both[:, :1] + math.sqrt(1 - rho**2) * both[:, 1:]
        value = float(club(y, rho * both[:, :1], torch.full_like(y, math.log(1 - rho**2))))
        assert value == pytest.approx(bound, rel=1e-2)
        assert -math.log(1 - rho**2) / 2 == pytest.approx(information, rel=1e-2)


@pytest.mark.parametrize(("a", "s2", "value"), [(-0.7, 0.51, -0.961), (0.0, 1.0, 0.0), (0.7, 0.51, 0.961), (0.7, 0.1, 4.9)])
def test_club_of_a_wrong_conditional_has_either_sign(a, s2, value):
    """q = N(ax, s²): aρ/s² for any of them, where I = .337 at ρ = .7."""
    both = white(50, 2)
    x, y = both[:, :1], 0.7 * both[:, :1] + math.sqrt(0.51) * both[:, 1:]
    assert float(club(y, a * x, torch.full_like(y, math.log(s2)))) == pytest.approx(a * 0.7 / s2, abs=1e-9)
    assert a * 0.7 / s2 == pytest.approx(value, abs=1e-3)


# ---- entropies


def test_gaussian_entropy_is_that_of_the_gaussian_with_these_moments():
    h = normal(50, 4) @ normal(4, 4, seed=1)
    for covariance, s in (("full", np.cov(h.T, bias=True)), ("diagonal", np.diag(h.var(0, correction=0)))):
        truth = multivariate_normal(np.zeros(4), s + 0.01 * np.eye(4)).entropy()
        assert float(gaussian_entropy(h, covariance, ridge=0.01)) == pytest.approx(truth, rel=1e-9)
        assert float(gaussian_entropy((h + 1000).float(), covariance, ridge=0.01)) == pytest.approx(truth, abs=1e-2)


def test_small_samples_lower_the_entropy_as_much_as_they_should():
    """E log det S = Σ_{i<k} [ψ((n−1−i)/2) + log(2/n)] for n rows of N(0, I_k): −10.87 at k = 32, n = 64. Half of it in entropy."""
    k, n, draws = 32, 64, 100
    truth = float(sum(digamma((n - 1 - i) / 2) + math.log(2 / n) for i in range(k)))
    assert truth == pytest.approx(-10.87, abs=0.01)
    exact = k / 2 * math.log(2 * math.pi * math.e)
    values = torch.stack([gaussian_entropy(normal(n, k, seed=i), ridge=1e-9) for i in range(draws)])
    error = float(values.std()) / math.sqrt(draws)
    assert float(values.mean()) - exact == pytest.approx(truth / 2, abs=4 * error)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_entropy_of_few_rows_is_finite_and_so_is_its_gradient(covariance, rows):
    """A full covariance of fewer rows than columns is singular; of one row, or equal ones, it is 0."""
    for h in (torch.randn(rows, 8), torch.ones(rows, 8)):
        h.requires_grad_()
        value = gaussian_entropy(h, covariance)
        (gradient,) = torch.autograd.grad(value, h)
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()
    assert float(value.detach()) == pytest.approx(8 / 2 * math.log(2 * math.pi * math.e * 1e-4), rel=1e-5)


def test_gradient_of_the_entropy_is_that_of_the_log_determinant():
    """∂(½ log det S)/∂h_i = S⁻¹ (h_i − h̄) / n."""
    h = normal(20, 3).requires_grad_()
    (gradient,) = torch.autograd.grad(gaussian_entropy(h, ridge=0.1), h)
    centred = (h - h.mean(0)).detach()
    s = centred.T @ centred / 20 + 0.1 * torch.eye(3)
    torch.testing.assert_close(gradient, torch.linalg.solve(s, centred.T).T / 20)


def test_a_covariance_that_rounding_makes_indefinite_is_refused():
    """Rank one at a scale of 1e20, beside which the ridge is nothing."""
    h = 1e10 * torch.randn(8, 1, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match="that of these 8 rows is not, to rounding"):
        gaussian_entropy(h)


@pytest.mark.parametrize(("separation", "entropy"), [(0, 1.4189), (1, 1.5304), (2, 1.7558), (4, 2.0517), (8, 2.1120)])
def test_mixture_entropy_is_an_upper_bound_that_closes_with_separation(separation, entropy):
    """Two unit Gaussians: log 2 + ½ log 2πe = 2.1121 wherever they are, against the integral of −p log p."""
    sample = torch.from_numpy(norm.ppf((np.arange(4000) + 0.5) / 4000))
    sample = (sample / sample.std(correction=0)).unsqueeze(1)
    value = float(gaussian_mixture_entropy([sample, sample + separation], ridge=1e-9))
    assert value == pytest.approx(2.1121, abs=1e-4)

    def minus_p_log_p(x):
        p = (norm.pdf(x) + norm.pdf(x - separation)) / 2
        return -p * math.log(p)

    assert quad(minus_p_log_p, -9, separation + 9)[0] == pytest.approx(entropy, abs=1e-4)
    assert value >= entropy


def test_mixture_entropy_weighs_its_classes():
    """Σ w (h − log w); equal weights and k dimensions give Han et al.'s (2021) log 2 + ½ Σ_c h_c."""
    a, b = normal(30, 4), 3 * normal(20, 4, seed=1)
    h = [float(gaussian_entropy(x, "diagonal")) for x in (a, b)]
    equal = float(gaussian_mixture_entropy([a, b], covariance="diagonal"))
    assert equal == pytest.approx(math.log(2) + sum(h) / 2)
    weighted = float(gaussian_mixture_entropy([a, b], [0.71, 0.29], "diagonal"))
    assert weighted == pytest.approx(0.71 * (h[0] - math.log(0.71)) + 0.29 * (h[1] - math.log(0.29)))
    assert float(gaussian_mixture_entropy([a], covariance="diagonal")) == pytest.approx(h[0])


def test_small_samples_lower_the_entropy_of_a_diagonal_covariance_less():
    """k·[ψ((n−1)/2) + log(2/n)] = −1.01 at k = 32, n = 64: each variance alone, χ²_{n−1}/n."""
    k, n, draws = 32, 64, 100
    truth = k * float(digamma((n - 1) / 2) + math.log(2 / n))
    assert truth == pytest.approx(-1.01, abs=0.01)
    exact = k / 2 * math.log(2 * math.pi * math.e)
    values = torch.stack([gaussian_entropy(normal(n, k, seed=i), "diagonal", ridge=1e-9) for i in range(draws)])
    error = float(values.std()) / math.sqrt(draws)
    assert float(values.mean()) - exact == pytest.approx(truth / 2, abs=4 * error)


@pytest.mark.parametrize(("weights", "entropy"), [([0.71, 0.29], 7.03), (None, 11.78)])
def test_equal_weights_misjudge_unequal_classes(weights, entropy):
    """Scales 1 and 2 in 32 dimensions, over (k/2) log 2πe: H(w) + w₂·32 log 2, .602 + .29·22.18 against log 2 + ½·22.18."""
    rows = white(40, 32)
    value = float(gaussian_mixture_entropy([rows, 2 * rows], weights, ridge=1e-12)) - 16 * math.log(2 * math.pi * math.e)
    assert value == pytest.approx(entropy, abs=0.01)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_entropy_of_rows_that_are_not_finite_is_refused(covariance, bad):
    h = torch.randn(9, 3)
    h[4, 1] = bad
    with pytest.raises(ValueError, match="An entropy is of finite rows"):
        gaussian_entropy(h, covariance)
