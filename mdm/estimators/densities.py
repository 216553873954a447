"""Informations and entropies, from the densities of a learned conditional or from second moments."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mdm.estimators.checks import require_alike, require_matrices
from mdm.hints import require_option

Covariance = Literal["diagonal", "full"]


def barber_agakov(y: Float[Tensor, "n d"], mean: Float[Tensor, "n d"], log_variance: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """E[log q(y|x)] for q = N(μ(x), diag σ²(x)), in full (Han et al., 2021, Eq. 4); plus H(Y) it is a lower bound on I(X; Y).

    Official code of Han et al. (2021) leaves −½ log σ² out, so that a q that says nothing (σ → ∞) is best.

    Raises ValueError unless all three have one shape [n, d], n and d ≥ 1.
    """
    y, mean, log_variance = require_alike(y=y, mean=mean, log_variance=log_variance)
    log_density = (y - mean).square() * torch.exp(-log_variance) + log_variance + math.log(2 * math.pi)
    return -0.5 * log_density.sum(1).mean()


def club(
    y: Float[Tensor, "n d"], mean: Float[Tensor, "n d"], log_variance: Float[Tensor, "n d"], unbiased: bool = False
) -> Float[Tensor, ""]:
    """(1/n) Σ_i log q(y_i|x_i) − (1/n²) Σ_ij log q(y_j|x_i), for q = N(μ(x), diag σ²(x)) (Qian et al., 2024, Eq. 12).

    In O(n·d): log σ cancels, and the mean over j of (y_j − μ_i)² is Var(y) + (ȳ − μ_i)².

    unbiased: leave i = j out of the second sum, which multiplies the value by n/(n−1). The paper keeps it and calls the result
        unbiased (Eq. 11), but its expectation is (1 − 1/n) of the population's value.

    Raises ValueError unless all three have one shape [n, d], n and d ≥ 1 (n ≥ 2 if unbiased).
    """
    y, mean, log_variance = require_alike(y=y, mean=mean, log_variance=log_variance)
    n = len(y)
    if unbiased and n < 2:
        raise ValueError("An estimate without the diagonal needs at least two rows, got one; use larger batches.")
    centre = y.mean(0)
    every = (y - centre).square().mean(0) + (centre - mean).square()
    value = ((every - (y - mean).square()) * torch.exp(-log_variance)).sum(1).mean() / 2
    return value * n / (n - 1) if unbiased else value


def gaussian_entropy(h: Float[Tensor, "n d"], covariance: Covariance = "full", ridge: float = 1e-4) -> Float[Tensor, ""]:
    """½ log det(2πe(S + ridge·I)), S the rows' covariance (1/n) or its diagonal (Han et al., 2021, Eq. 6): entropy of a Gaussian.

    No law with that covariance has more. With n ≤ d a full S is singular and the value is the ridge's; even above, sampling
    lowers it (by 10.9 nats at d = 32, n = 64). By Cholesky, in double precision: the logarithm of a determinant that rounding
    makes 0 or negative is −∞ or NaN.

    Raises ValueError unless h is [n, d] with n, d ≥ 1 and finite, on an unknown covariance, unless ridge >= 0, and if the
    sum is singular.
    """
    require_matrices(h=h)
    require_option("covariance", covariance, Covariance)
    if not ridge >= 0:
        raise ValueError(f"ridge: expected a number of at least 0, got {ridge}; set ridge.")
    double = h.double()
    if not torch.isfinite(double).all():
        raise ValueError(f"An entropy is of finite rows, but some of the {len(h)} hold NaN or infinity; look where they come from.")
    centred = double - double.mean(0)
    if covariance == "diagonal":
        diagonal, failed = torch.sqrt(centred.square().mean(0) + ridge), 0
    else:
        s = centred.T @ centred / len(h) + ridge * torch.eye(h.shape[1], dtype=torch.float64, device=h.device)
        root, failed = torch.linalg.cholesky_ex(s)
        diagonal = root.diagonal()
    if failed or not bool((diagonal > 0).all()):
        raise ValueError(
            f"A covariance with a ridge is positive definite, but that of these {len(h)} rows is not, to rounding; raise "
            f"ridge={ridge}, or scale the rows down."
        )
    log_det = 2 * diagonal.log().sum()
    return (0.5 * log_det + h.shape[1] / 2 * math.log(2 * math.pi * math.e)).to(torch.promote_types(h.dtype, torch.float32))


def gaussian_mixture_entropy(
    classes: list[Float[Tensor, "_ d"]],
    weights: list[float] | None = None,
    covariance: Covariance = "full",
    ridge: float = 1e-4,
) -> Float[Tensor, ""]:
    """Σ_c w_c (−log w_c + h_c), h_c the `gaussian_entropy` of each class's rows (Han et al., 2021, Eq. 7).

    An upper bound on the entropy of the mixture, too high by up to log C where classes overlap; so with it, `barber_agakov` gives
    no bound on an information.

    weights: of the classes; None: equal, as the paper's Eq. 8

    Raises ValueError on no class, an empty one, weights that are not one positive number for each class with sum 1, and as
    `gaussian_entropy`.
    """
    require_option("covariance", covariance, Covariance)
    given = [1 / len(classes)] * len(classes) if weights is None and classes else list(weights or [])
    if not classes or len(given) != len(classes) or not all(w > 0 for w in given) or abs(sum(given) - 1) > 1e-6:
        raise ValueError(
            f"A mixture has at least one class and a positive weight for each, their sum 1, got {len(classes)} classes with "
            f"weights {weights}; leave out classes that have no rows."
        )
    entropies = [gaussian_entropy(rows, covariance, ridge) for rows in classes]
    return torch.stack([w * (h - math.log(w)) for w, h in zip(given, entropies, strict=True)]).sum()
