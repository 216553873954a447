"""What measures of dependence are of Gaussians: each divergence in closed form, bounds on the distance, and the best critic."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mdm.data.gaussian import total_correlation


def list_eigenvalues(rho: float, dim: int, modalities: int) -> list[tuple[float, int]]:
    """Eigenvalues of R ⊗ I_d and how often each occurs: 1 + (M−1)ρ d times, 1 − ρ (M−1)d times.

    Raises ValueError where `total_correlation` does.
    """
    total_correlation(rho, dim, modalities)
    return [(1 + (modalities - 1) * rho, dim), (1 - rho, (modalities - 1) * dim)]


def compute_divergence(name: str, rho: float, dim: int, modalities: int) -> float | None:
    """D_f(P‖Q) for the names of `mdm.estimators.DIVERGENCES`; None where there is no closed form (Jensen–Shannon, total variation).

    With λ the eigenvalues of R ⊗ I_d: KL ½ Σ (λ − 1 − log λ), which is the total correlation; KL(Q‖P) ½ Σ (1/λ − 1 + log λ);
    ∫(p−q)²/q ∏ (λ(2−λ))^{−½} − 1, infinite where a λ ≥ 2; ∫(√p−√q)² 2 − 2 ∏ λ^{¼} ((1+λ)/2)^{−½}.
    """
    values = list_eigenvalues(rho, dim, modalities)
    if name == "kl":
        return total_correlation(rho, dim, modalities)
    if name == "reverse_kl":
        return sum(k * (1 / v - 1 + math.log(v)) for v, k in values) / 2
    if name == "pearson":
        if max(v for v, _ in values) >= 2:
            return math.inf
        return math.expm1(-sum(k * math.log(v * (2 - v)) for v, k in values) / 2)
    if name == "squared_hellinger":
        return -2 * math.expm1(sum(k * (math.log(v) / 4 - math.log((1 + v) / 2) / 2) for v, k in values))
    return None


def bound_wasserstein(rho: float, dim: int, modalities: int) -> tuple[float, float]:
    """Lower and upper bound on W1(P, Q), less than 1 % apart for d = 20.

    √(Σ_λ χ_k² (√λ−1)²) ≤ W1 ≤ E‖(Λ^{½} − I) z‖, z ~ N(0, I), χ_k = E‖N(0, I_k)‖, k the multiplicity of λ. Below, the witness is a
    weighted sum of the distances to 0 within each eigenspace; above, the coupling is x ↦ Λ^{½} x. The upper is the integral
    E√W = π^{−½} ∫_0^∞ (1 − E e^{−u²W}) u^{−2} du, with u = s·tan θ, by Gauss–Legendre.
    """
    stretch = [(abs(math.sqrt(v) - 1), k) for v, k in list_eigenvalues(rho, dim, modalities)]
    scale = math.sqrt(sum(k * a * a for a, k in stretch))
    if scale == 0:
        return 0.0, 0.0
    chi = {k: math.sqrt(2) * math.exp(math.lgamma((k + 1) / 2) - math.lgamma(k / 2)) for _, k in stretch}
    lower = math.sqrt(sum((a * chi[k]) ** 2 for a, k in stretch))
    nodes, weights = np.polynomial.legendre.leggauss(200)
    theta = (nodes + 1) * np.pi / 4
    u = np.tan(theta) / scale
    laplace = np.exp(-sum(k * np.log1p(2 * (a * u) ** 2) for a, k in stretch) / 2)
    return lower, float(scale * (weights * (1 - laplace) / np.sin(theta) ** 2).sum() * np.pi / 4 / math.sqrt(math.pi))


def find_truth(measure: str, rho: float, dim: int, modalities: int, of: str = "kl") -> tuple[float | None, float | None]:
    """Lower and upper bound on what a measure estimates, equal where it is known; of: the divergence, for ``f``."""
    if measure == "wasserstein":
        return bound_wasserstein(rho, dim, modalities)
    value = compute_divergence(of if measure == "f" else "kl", rho, dim, modalities)
    return value, value


def draw_sigmoid_caps(rho: float, dim: int, modalities: int, draws: int = 100_000) -> dict[str, float]:
    """The most that a critic in [0, 1] (Table 4's) can read for each measure, by sampling r = log p/q.

    f: NWJ at clip(1 + r, 0, 1). kl: Donsker–Varadhan at clip(r + c, 0, 1), the best c. wasserstein, when nothing bounds the slope:
    the total variation P(r > 0) − Q(r > 0).
    """
    rng = np.random.default_rng(0)
    p, q = np.zeros(draws), np.zeros(draws)
    for v, k in list_eigenvalues(rho, dim, modalities):
        squares = rng.chisquare(k, draws)  # the same for both: for ρ → 0 noise vanishes with the difference
        p -= ((1 - v) * squares + k * math.log(v)) / 2
        q -= ((1 / v - 1) * squares + k * math.log(v)) / 2

    def values(c: float) -> tuple[np.ndarray, np.ndarray]:
        return np.clip(p + c, 0, 1), np.clip(q + c, 0, 1)

    f = values(1.0)
    shifts = np.linspace(-np.quantile(p, 0.99), 1 - np.quantile(q, 0.01), 200)
    kl = max(float(t.mean() - np.log(np.exp(s).mean())) for t, s in map(values, shifts))
    return {
        "kl": kl,
        "f": float(f[0].mean() - np.exp(f[1] - 1).mean()),
        "wasserstein": float((p > 0).mean() - (q > 0).mean()),
    }


def log_ratio(z: Float[Tensor, "n width"], rho: float, dim: int, modalities: int) -> Float[Tensor, " n"]:
    """r = log p/q, the best critic: −½ xᵀ(R⁻¹ − I)x − ½ log det R, summed over the coordinates."""
    precision = torch.linalg.inv(correlation(rho, modalities)) - torch.eye(modalities, dtype=torch.float64)
    x = z.double().unflatten(1, (modalities, dim))
    return -torch.einsum("nid,ij,njd->n", x, precision, x) / 2 + total_correlation(rho, dim, modalities)


def correlation(rho: float, modalities: int) -> Float[Tensor, "m m"]:
    return (1 - rho) * torch.eye(modalities, dtype=torch.float64) + rho
