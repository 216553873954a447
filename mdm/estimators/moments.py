"""Distances, dependence and shape by moments."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mdm.estimators.checks import require_matrices
from mdm.hints import require_option

Form = Literal["features", "gram"]


def central_moment_discrepancy(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], moments: int = 5) -> Float[Tensor, ""]:
    """‖E x − E y‖ + Σ_{k=2..K} ‖c_k(x) − c_k(y)‖, c_k the k-th central moment of each column (CMD, as MISA has it).

    Made for values in [0, 1]; those of other ranges [a, b] would need (b−a)^{−k} before each term. Marginals of columns only. At
    equal moments the gradient is zero.

    Raises ValueError unless x and y are [n, d] and [m, d] with n, m ≥ 1, and moments ≥ 1.
    """
    x, y = require_matrices(x=x, y=y)
    if x.shape[1] != y.shape[1] or moments < 1:
        raise ValueError(
            f"CMD compares at least one moment of samples [n, d] and [m, d], got {moments} moments of {list(x.shape)} and "
            f"{list(y.shape)}; use one width."
        )
    means = x.mean(0), y.mean(0)
    value = torch.linalg.vector_norm(means[0] - means[1])
    for k in range(2, moments + 1):
        value = value + torch.linalg.vector_norm((x - means[0]).pow(k).mean(0) - (y - means[1]).pow(k).mean(0))
    return value


def orthogonality(a: Float[Tensor, "n d_a"], b: Float[Tensor, "n d_b"], form: Form = "features") -> Float[Tensor, ""]:
    """How far two representations of the same rows are from orthogonal; 0 if they are. What is orthogonal may yet be dependent.

    form: ``features``, mean over all d_a·d_b entries of (ÂᵀB̂)², columns centred, then each row divided by its norm, which carries
        no gradient (MISA's code; its paper has the plain squared norm ‖AᵀB‖_F²). So 0 says that the directions of the rows are
        uncorrelated, not the columns themselves. Their scale is of no effect, so the gradient grows as rows draw together; rows
        that agree up to rounding count as 0 and have none. It grows with n for independent rows and with n² for dependent ones.
        ``gram``, ‖ABᵀ‖_F² over the n × n pairs of rows, as Qian et al. (2024) print it (Eq. 9). It is 0 for a = (t, 0), b = (0, t),
        where each determines the other, and not for uncorrelated columns.

    Raises ValueError unless a and b are [n, d_a] and [n, d_b] with n ≥ 1 (one width for gram), or on an unknown form.
    """
    a, b = require_matrices(a=a, b=b)
    require_option("form", form, Form)
    if len(a) != len(b) or (form == "gram" and a.shape[1] != b.shape[1]):
        raise ValueError(
            "Orthogonality is of features [n, d_a] and [n, d_b], or with form=gram of [n, d] and [n, d], got "
            f"form={form!r}, {list(a.shape)} and {list(b.shape)}; give the same rows of both."
        )
    with torch.autocast(a.device.type, enabled=False):
        if form == "gram":
            # ‖ABᵀ‖_F² = tr(AᵀA BᵀB): d × d products in the place of n × n.
            return ((a.T @ a) * (b.T @ b)).sum()
        return (_rows_of_length_one(a).T @ _rows_of_length_one(b)).square().mean()


def canonical_correlation(x: Float[Tensor, "n d_x"], y: Float[Tensor, "n d_y"], ridge: float = 1e-3) -> Float[Tensor, ""]:
    """Σ_i σ_i(Σ_xx^{−1/2} Σ_xy Σ_yy^{−1/2}), the sum of the canonical correlations; in [0, min(d_x, d_y)] (deep CCA's objective).

    ridge: added to the diagonals of Σ_xx and Σ_yy, which it keeps invertible; it lowers the value. At 0 the value is the same for
        any invertible linear maps of x and of y

    The singular values come from L_x⁻¹ Σ_xy L_y⁻ᵀ with Cholesky factors, which has the same ones and a gradient where some are 0.
    For Gaussians −½ Σ log(1 − σ_i²) is their mutual information. In a sample the value is biased upwards: ten correlations of
    independent Gaussians sum to about 7.5 of 10 for n = 16 rows, 4.9 for 32, 3.4 for 64, 1.2 for 512; with n ≤ d_x + d_y some are 1
    whatever comes. Compare values of equal n only.

    Raises ValueError unless x and y are [n, d_x] and [n, d_y] with n ≥ 2, and ridge ≥ 0.
    """
    x, y = require_matrices(x=x, y=y)
    if len(x) != len(y) or len(x) < 2 or not ridge >= 0:
        raise ValueError(
            f"CCA is of the same n >= 2 rows of x and y, with ridge >= 0, got {list(x.shape)}, {list(y.shape)} and ridge={ridge}; "
            "give both for the same samples, in larger batches."
        )
    with torch.autocast(x.device.type, enabled=False):
        x, y = x - x.mean(0), y - y.mean(0)
        factors = [
            torch.linalg.cholesky(z.T @ z / (len(z) - 1) + ridge * torch.eye(z.shape[1], dtype=z.dtype, device=z.device))
            for z in (x, y)
        ]
        cross = torch.linalg.solve_triangular(factors[0], x.T @ y / (len(x) - 1), upper=False)
        return torch.linalg.svdvals(torch.linalg.solve_triangular(factors[1], cross.T, upper=False)).sum()


def mardia_kurtosis(
    z: Float[Tensor, "n p"],
    mean: Float[Tensor, " p"] | None = None,
    covariance: Float[Tensor, "p p"] | None = None,
    ridge: float = 0.0,
) -> Float[Tensor, ""]:
    """κ = mean_i [((z_i − z̄)ᵀ (S + ridge·tr(S)/p·I)⁻¹ (z_i − z̄))²], Mardia's kurtosis (Shankar, 2022, sections 2.3 and 4.1).

    p(p+2) for a Gaussian, and p(p+2)(n−1)/(n+1) in expectation for a sample of one with its own S; never below p² with that S,
    which a sphere attains, and so does any sample of n = p + 1 rows, exactly. Invariant under affine maps with the sample's own
    moments and no ridge, and under no other choice. In double precision, by Cholesky.

    mean, covariance: z̄ and S; None: those of the rows (1/n)
    ridge: relative to the mean variance, so that it does not depend on the scale of z

    Raises ValueError unless z is [n, p] with n, p ≥ 1, mean and covariance fit it, the ridge is ≥ 0, and S + ridge is positive
    definite beyond rounding, 1e-10 of each variance (with its own S and no ridge that takes n > p).
    """
    (z,) = require_matrices(z=z)
    p, dtype = z.shape[1], z.dtype
    double = z.double()
    centre = double.mean(0) if mean is None else mean.double()
    if centre.shape != (p,) or (covariance is not None and covariance.shape != (p, p)) or not ridge >= 0:
        raise ValueError(
            f"A kurtosis of rows [n, {p}] takes a mean [{p}], a covariance [{p}, {p}] and a ridge >= 0, got {list(centre.shape)}, "
            f"{None if covariance is None else list(covariance.shape)} and {ridge}; give moments of the same columns."
        )
    centred = double - centre
    s = centred.T @ centred / len(z) if covariance is None else covariance.double()
    s = s + ridge * s.diagonal().mean() * torch.eye(p, dtype=torch.float64, device=z.device)
    factor, failed = torch.linalg.cholesky_ex(s)
    # A singular S rarely fails: rounding makes a pivot of what should be 0, and the value is what that divides.
    pivots = factor.diagonal().square() / s.diagonal()
    if (covariance is None and ridge == 0 and len(z) <= p) or failed or not (pivots > 1e-10).all():
        raise ValueError(
            f"A kurtosis divides by a covariance, but that of these {len(z)} rows of {p} columns is singular or not finite; give "
            f"more rows than columns, none constant and none the sum of others, or a larger ridge than {ridge}."
        )
    whitened = torch.linalg.solve_triangular(factor, centred.T, upper=False)
    return whitened.square().sum(0).square().mean().to(dtype)


def _rows_of_length_one(a: Tensor) -> Tensor:
    """Columns centred, then each row divided by its norm, which is as good as given.

    A row that differs from the mean by no more than rounding of what all rows have in common has no direction: it is 0.
    """
    rounding = 16 * torch.finfo(a.dtype).eps * a.detach().abs().max()
    a = a - a.mean(0)
    given = a.detach()
    same = given.abs().amax(1, keepdim=True) <= rounding
    return torch.where(same, 0.0, a / (torch.linalg.vector_norm(given, dim=1, keepdim=True) + 1e-6))
