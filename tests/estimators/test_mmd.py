"""MMD against another library's kernels, closed forms for Gaussians, and sums written out."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import chi2, norm
from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel

from mdm.estimators import median_scale, mmd2, mmd2_to_standard_normal


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("unbiased", [False, True])
def test_mmd2_is_its_definition_with_another_librarys_kernels(unbiased):
    x, y, scales = normal(9, 3), normal(6, 3, seed=1) + 0.5, (0.5, 2.0, 7.0)
    within = []
    for z in (x, y):
        gram = np.mean([rbf_kernel(z, gamma=1 / s) for s in scales], axis=0)
        n = len(z)
        within.append((gram.sum() - np.trace(gram)) / (n * (n - 1)) if unbiased else gram.mean())
    between = np.mean([rbf_kernel(x, y, gamma=1 / s) for s in scales], axis=0).mean()
    assert float(mmd2(x, y, scales, unbiased)) == pytest.approx(within[0] + within[1] - 2 * between, rel=1e-9)
    far = float(mmd2((x + 300).float(), (y + 300).float(), scales, unbiased))  # far from the origin, in single precision
    assert far == pytest.approx(within[0] + within[1] - 2 * between, abs=1e-4)


@pytest.mark.parametrize(("mean", "variance", "truth"), [(1.0, 1.0, 0.05945), (0.0, 4.0, 0.16939)])
def test_mmd2_of_gaussians_has_its_closed_form(mean, variance, truth):
    """N(0, I_5) and N(μ, vI_5), s = 2σ² = 10: E(0, 2) + E(0, 2v) − 2E(μ, 1 + v), E(Δ, S) = (1 + S/σ²)^{−d/2} e^{−Δ²/2(σ² + S)}.

    The mean over 200 samples of 100 rows, without bias; five standard errors.
    """
    d, sigma2, draws = 5, 5.0, 200

    def e(delta, s):
        return (1 + s / sigma2) ** (-d / 2) * math.exp(-(delta**2) / (2 * (sigma2 + s)))

    assert e(0, 2) + e(0, 2 * variance) - 2 * e(mean, 1 + variance) == pytest.approx(truth, abs=1e-5)
    x, y = normal(draws, 100, d), math.sqrt(variance) * normal(draws, 100, d, seed=1)
    y[..., 0] += mean
    values = torch.stack([mmd2(a, b, [2 * sigma2]) for a, b in zip(x, y, strict=True)])
    error = float(values.std()) / math.sqrt(draws)
    assert error < 0.05 * truth
    assert float(values.mean()) == pytest.approx(truth, abs=5 * error)


def test_unbiased_mmd2_has_mean_zero_for_equal_laws_and_the_other_its_bias():
    """1000 pairs of samples of 8 and 12: (1 − E k)(1/8 + 1/12) with E k = (1 + 4/s)^{−d/2} for N(0, I); four standard errors."""
    d, s, n, m, draws = 3, 6.0, 8, 12, 1000
    z = normal(draws, n + m, d)
    for unbiased, truth in ((True, 0.0), (False, (1 - (1 + 4 / s) ** (-d / 2)) * (1 / n + 1 / m))):
        values = torch.stack([mmd2(rows[:n], rows[n:], [s], unbiased) for rows in z])
        error = float(values.std()) / math.sqrt(draws)
        assert error < 0.004
        assert float(values.mean()) == pytest.approx(truth, abs=4 * error)
        negative = float((values < 0).double().mean())
        assert 0.3 < negative < 0.8 if unbiased else negative == 0


@pytest.mark.parametrize("d", [1, 8])
@pytest.mark.parametrize("scale", [1.0, 16.0, 64.0])
def test_mmd2_to_standard_normal_is_the_limit_of_many_samples_of_it(d, scale):
    """Against 60 000 samples of the prior, its own term from 30 000 pairs of them: within four standard errors."""
    z = 1.5 * normal(12, d) + 0.3
    prior = normal(60_000, d, seed=1)
    gamma = 1 / scale
    cross = rbf_kernel(z, prior, gamma=gamma).mean(0)
    own = np.exp(-gamma * ((prior[:30_000] - prior[30_000:]) ** 2).sum(1).numpy())
    value = own.mean() + rbf_kernel(z, gamma=gamma).mean() - 2 * cross.mean()
    error = math.sqrt(own.var() / 30_000 + 4 * cross.var() / 60_000)
    assert float(mmd2_to_standard_normal(z, scale)) == pytest.approx(value, abs=4 * error)
    assert error < 0.01


def test_mmd2_to_standard_normal_by_integration():
    """One dimension, two points: ∬ k dN dN + mean k(z_i, z_j) − 2 mean ∫ k(z_i, g) dN(g), each integral by quadrature.

    The difference of two standard normal draws is N(0, 2).
    """
    s, z = 1.7, [0.4, -1.3]
    own = quad(lambda g: math.exp(-(g**2) / s) * norm.pdf(g, scale=math.sqrt(2)), -12, 12)[0]
    cross = np.mean([quad(lambda g, a=a: math.exp(-((a - g) ** 2) / s) * norm.pdf(g), -12, 12)[0] for a in z])
    pairs = (2 + 2 * math.exp(-(1.7**2) / s)) / 4
    value = mmd2_to_standard_normal(torch.tensor(z, dtype=torch.float64).unsqueeze(1), s)
    assert float(value) == pytest.approx(own + pairs - 2 * cross, abs=1e-9)


def test_mmd2_to_standard_normal_of_official_scale_prefers_collapse():
    """The scale d² of Tsai et al.'s (2019) code at d = 80: all rows at 0 (.0005) beat 64 true samples (.0008); 2d does not."""
    zero, sample = torch.zeros(64, 80, dtype=torch.float64), normal(64, 80)
    assert float(mmd2_to_standard_normal(zero, 80.0**2)) < float(mmd2_to_standard_normal(sample, 80.0**2))
    assert float(mmd2_to_standard_normal(zero, 160.0)) > 5 * float(mmd2_to_standard_normal(sample, 160.0))


def test_median_scale_is_the_median_of_squared_distances():
    x, y = normal(5, 3), normal(6, 3, seed=1)
    pooled = torch.cat([x, y])
    distances = euclidean_distances(pooled, squared=True)[np.triu_indices(11, 1)]  # 55 of them, so the median is one
    assert float(median_scale(x, y)) == pytest.approx(np.median(distances), rel=1e-9)
    big = normal(4000, 5)
    assert float(median_scale(big[:600], big[600:1200])) == pytest.approx(2 * chi2(5).median(), rel=0.03)  # ‖a − b‖² ~ 2χ²_5
    scale = median_scale(x.requires_grad_(), y)
    assert not scale.requires_grad
    same = torch.ones(4, 3)
    assert float(mmd2(same, same, [float(median_scale(same, same))])) == 0


def test_median_scale_of_one_sample_is_of_its_own_pairs():
    x = normal(11, 3)  # 55 pairs, so the median is one of them
    assert float(median_scale(x)) == pytest.approx(
        np.median(euclidean_distances(x, squared=True)[np.triu_indices(11, 1)]), rel=1e-9
    )
    assert float(median_scale(x)) == float(median_scale(x[:4], x[4:]))
    assert float(median_scale(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))) == 25
    assert float(median_scale(torch.tensor([[0.0], [1.0], [3.0]]))) == 4
    assert float(median_scale(torch.tensor([[0.0], [1.0], [3.0], [7.0]]))) == 9  # of 1, 4, 9, 16, 36, 49 the lower middle
    with pytest.raises(ValueError, match=r"two rows at least, of one width, got \[1, 3\]"):
        median_scale(x[:1])


def test_median_scale_is_of_rows_that_differ():
    """Segments without a modality are one point; here 15 of 28 distances are 0, and the others would be alike to no one."""
    x = normal(8, 3)
    x[:6] = 0
    distances = euclidean_distances(x, squared=True)[np.triu_indices(8, 1)]
    assert np.median(distances) < 1e-12
    assert float(median_scale(x)) == pytest.approx(np.median(distances[distances > 1e-9]), rel=1e-9)
    assert float(median_scale(torch.zeros(5, 3))) == 1
    assert float(median_scale(torch.full((5, 3), 0.1))) == 1
    tiny = 1e-21 * normal(5, 3).float()  # a scale whose inverse is finite
    assert float(median_scale(tiny)) >= torch.finfo(torch.float32).tiny


def test_distances_that_rounding_makes_negative_are_none():
    """Rows come twice, 10⁴ from the centre, so that ‖x − x'‖² is a difference of 10⁸s; at s = .01 e^{−(…)/s} would be infinite."""
    x = (1e4 * normal(20, 5)).float().repeat(2, 1)
    for unbiased in (True, False):
        assert -2 <= float(mmd2(x, x + 1, [0.01], unbiased)) <= 2


def test_mmd2_to_standard_normal_sees_blocks_that_are_copies_only_jointly():
    """z_a = z_y ~ N(0, I₄): each block alone is normal, together they are not. s = 2·8 for 8 dimensions:

    E k(z, z') = ∏ (1 + 4λ/s)^{−½}, E k(z, g) = ∏ (1 + 2(λ + 1)/s)^{−½} over the covariance's eigenvalues λ = 2 and 0, four each.
    """
    s = 16.0

    def mean(*terms):
        return math.prod((1 + 2 * t / s) ** (-4 / 2) for t in terms)

    joint = mean(2, 2) + mean(4, 0) - 2 * mean(3, 1)
    assert joint == pytest.approx(0.0182, abs=1e-4)
    half = normal(2000, 4)
    both = float(mmd2_to_standard_normal(torch.cat([half, half], 1), s))
    alone = float(mmd2_to_standard_normal(half, s))
    assert both == pytest.approx(joint, abs=3e-3)
    assert alone < 1e-3 < 0.01 < joint


@pytest.mark.parametrize(("scale", "cost", "floor"), [(32.0**2, 1.0e-3, 3.8e-3), (2 * 32.0, 0.157, 0.0388)])
def test_collapse_is_cheaper_than_sampling_noise_at_the_official_scale(scale, cost, floor):
    """d = 32: all rows at 0 cost 1 + (1 + 4/s)^{−16} − 2(1 + 2/s)^{−16}, and two samples of 32 of one law 2(1 − E k)/32."""
    zero = torch.zeros(32, 32, dtype=torch.float64)
    assert float(mmd2_to_standard_normal(zero, scale)) == pytest.approx(cost, rel=0.03)
    values = [float(mmd2(normal(32, 32, seed=i), normal(32, 32, seed=i + 100), [scale], unbiased=False)) for i in range(40)]
    assert 2 * (1 - (1 + 4 / scale) ** -16) / 32 == pytest.approx(floor, rel=0.01)
    assert np.mean(values) == pytest.approx(floor, abs=4 * np.std(values) / math.sqrt(40))
    assert (cost < floor) == (scale == 32.0**2)
