"""Wasserstein distances: Kantorovich–Rubinstein at the optimal potential, memorised rows, and bounds on both sides."""

import math

import numpy as np
import ot
import pytest
import torch
from scipy.special import gammaln, ndtri
from scipy.stats import chi, wasserstein_distance

from mdm.estimators import kantorovich_rubinstein


@pytest.mark.parametrize("seed", range(5))
def test_kantorovich_rubinstein_with_the_optimal_potential_is_the_distance(seed):
    """On a line W1 = ∫|F_P − F_Q| and E_P[T] − E_Q[T] = −∫T'(F_P − F_Q), so the optimal T has the slope −sign(F_P − F_Q)."""
    rng = np.random.default_rng(seed)
    x = np.sort(rng.normal(size=7))
    p, q = rng.integers(0, 9, (2, 7)) + np.eye(7, dtype=int)[[0, 6]]  # neither is empty
    gap = np.cumsum(p / p.sum() - q / q.sum())[:-1]
    potential = torch.from_numpy(np.concatenate([[0], np.cumsum(-np.sign(gap) * np.diff(x))]))
    joint, prod = (potential.repeat_interleave(torch.from_numpy(count)) for count in (p, q))
    distance = wasserstein_distance(x, x, p, q)
    assert float(kantorovich_rubinstein(joint, prod)) == pytest.approx(distance, abs=1e-6)
    assert float(kantorovich_rubinstein(joint + 5, prod + 5)) == pytest.approx(distance, abs=1e-6)


@pytest.mark.parametrize("dim", [1, 2, 7])
def test_a_translation_costs_its_length(dim):
    """W1(P, P + s) = ‖s‖₂, attained by the 1-Lipschitz T(x) = ⟨s, x⟩ / ‖s‖."""
    rng = torch.Generator().manual_seed(dim)
    x = torch.randn(64, dim, generator=rng, dtype=torch.float64)
    s = torch.randn(dim, generator=rng, dtype=torch.float64)
    moved = (x + s)[torch.randperm(64, generator=rng)]
    assert float(kantorovich_rubinstein(moved @ s / s.norm(), x @ s / s.norm())) == pytest.approx(float(s.norm()), abs=1e-6)


@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_a_spread_costs_its_mean_displacement(sigma):
    """W1(N(0, 1), N(0, σ²)) = |σ − 1|·E|x| = |σ − 1|√(2/π), attained by T = ±|x|."""
    x = torch.from_numpy(ndtri((np.arange(20_000) + 0.5) / 20_000)).abs()
    value = kantorovich_rubinstein(sigma * x, x) if sigma > 1 else kantorovich_rubinstein(-sigma * x, -x)
    assert float(value) == pytest.approx(abs(sigma - 1) * math.sqrt(2 / math.pi), abs=1e-3)


def potential(x, y):
    """The 1-Lipschitz T(z) = min_j (‖z − y_j‖ − v_j) of the optimal dual, and the exact W1 of the two samples (POT)."""
    cost, log = ot.emd2([], [], ot.dist(x, y, metric="euclidean"), log=True)
    return lambda z: torch.from_numpy((ot.dist(z, y, metric="euclidean") - log["v"]).min(1)), cost


@pytest.mark.parametrize(("n", "m", "dim"), [(40, 40, 5), (30, 50, 2), (1, 7, 3)])
def test_kantorovich_rubinstein_attains_the_distance_of_samples_and_no_critic_exceeds_it(n, m, dim):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, dim)), 1.5 * rng.normal(size=(m, dim)) + 0.5
    best, distance = potential(x, y)
    assert float(kantorovich_rubinstein(best(x), best(y))) == pytest.approx(distance, rel=1e-6)
    for _ in range(50):
        centres, heights = rng.normal(size=(6, dim)), rng.normal(size=6)
        critic = [torch.from_numpy((ot.dist(z, centres, metric="euclidean") + heights).min(1)) for z in (x, y)]
        assert float(kantorovich_rubinstein(*critic)) <= distance + 1e-9


def test_a_critic_that_memorised_its_rows_reports_noise():
    """W1 between two samples of 32 of one law in 60 dimensions is 9.52 (sd 0.13), where the largest of Fig. 1's truths is 7.12.

    The same critic on rows that it was not made for has an expectation of 0.
    """
    rng = np.random.default_rng(0)
    seen, fresh = [], []
    for _ in range(20):
        x, y, other_x, other_y = rng.normal(size=(4, 32, 60))
        best, distance = potential(x, y)
        seen.append(float(kantorovich_rubinstein(best(x), best(y))))
        assert seen[-1] == pytest.approx(distance, rel=1e-6)
        fresh.append(float(kantorovich_rubinstein(best(other_x), best(other_y))))
    assert np.mean(seen) == pytest.approx(9.52, abs=4 * 0.13 / math.sqrt(20))
    assert abs(np.mean(fresh)) < 4 * np.std(fresh) / math.sqrt(20) < 0.5


SANDWICH = {  # (M, ρ): bounds on W1 from below and from above, d = 20
    (2, 0.3): (0.951, 0.957),
    (2, 0.6): (2.001, 2.012),
    (2, 0.9): (3.452, 3.468),
    (3, 0.3): (1.557, 1.563),
    (3, 0.6): (3.145, 3.160),
    (3, 0.9): (5.226, 5.248),
}


def blocks(modalities, rho, d):
    """(eigenvalue, multiplicity) of the covariance."""
    return ((1 + (modalities - 1) * rho, d), (1 - rho, (modalities - 1) * d))


def witness(modalities, rho, d):
    """T(z) = Σ_λ c_λ‖z_λ‖ with Σ c² = 1, so 1-Lipschitz; c_λ ∝ χ_k·(√λ − 1), χ_k the mean length of N(0, I_k)."""
    mean = [math.exp(gammaln((k + 1) / 2) - gammaln(k / 2)) * math.sqrt(2) for _, k in blocks(modalities, rho, d)]
    c = np.array([m * (math.sqrt(eigenvalue) - 1) for m, (eigenvalue, _) in zip(mean, blocks(modalities, rho, d), strict=True)])
    return c / np.linalg.norm(c), np.linalg.norm(c)


@pytest.mark.parametrize(("modalities", "rho"), SANDWICH)
def test_the_radial_witness_bounds_wasserstein_from_below(modalities, rho):
    """√(Σ χ_k²(√λ − 1)²) ≤ W1 ≤ E‖(Λ^½ − I)z‖ ≤ W2 = √(Σ k(√λ − 1)²), the last one as POT has it."""
    d, n = 20, 20_000
    both = blocks(modalities, rho, d)
    c, least = witness(modalities, rho, d)
    lengths = [chi(k).ppf((np.arange(n) + 0.5) / n) for _, k in both]
    joint = sum(w * math.sqrt(eigenvalue) * x for w, x, (eigenvalue, _) in zip(c, lengths, both, strict=True))
    prod = sum(w * x for w, x in zip(c, lengths, strict=True))
    value = float(kantorovich_rubinstein(torch.from_numpy(joint), torch.from_numpy(prod)))
    assert value == pytest.approx(least, rel=1e-5)
    below, above = SANDWICH[modalities, rho]
    assert value == pytest.approx(below, abs=1e-3)
    root = np.concatenate([np.full(k, math.sqrt(eigenvalue)) for eigenvalue, k in both])
    moved = np.linalg.norm((root - 1) * np.random.default_rng(0).normal(size=(20_000, len(root))), axis=1)
    assert moved.mean() == pytest.approx(above, abs=1e-3 + 4 * moved.std() / math.sqrt(20_000))
    zero = np.zeros(len(root))
    w2 = ot.gaussian.bures_wasserstein_distance(zero, zero, np.diag(root**2), np.eye(len(root)))
    assert value < moved.mean() < float(w2)


def test_the_sandwich_holds_on_every_sample():
    """With z_i ↦ Λ^½ z_i as coupling: E_P T − E_Q T of the witness ≤ the exact distance of the samples ≤ the mean displacement."""
    modalities, rho, d = 3, 0.6, 2
    root = np.sqrt(np.concatenate([np.full(k, eigenvalue) for eigenvalue, k in blocks(modalities, rho, d)]))
    c, _ = witness(modalities, rho, d)
    rng = np.random.default_rng(0)
    for _ in range(5):
        z = rng.normal(size=(100, modalities * d))
        x = z * root
        values = [
            torch.from_numpy(np.linalg.norm(v[:, :d], axis=1) * c[0] + np.linalg.norm(v[:, d:], axis=1) * c[1]) for v in (x, z)
        ]
        distance = ot.emd2([], [], ot.dist(x, z, metric="euclidean"))
        assert float(kantorovich_rubinstein(*values)) <= distance <= np.linalg.norm(x - z, axis=1).mean() + 1e-9
