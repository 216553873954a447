"""Distances and dependence by kernels, k(a, b) = e^{−‖a−b‖²/s}; s = 2σ² for a bandwidth σ."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mdm.estimators.checks import check_scales, require_matrices


def mmd2(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], scales: Sequence[float], unbiased: bool = True) -> Float[Tensor, ""]:
    """MMD² for the kernel k(a, b) = mean over scales s of e^{−‖a−b‖²/s} (Shankar, 2022, section 2.2; Tsai et al., 2019, Eq. 4).

    unbiased: leave k(x_i, x_i) = 1 out; about half of the values are then negative where the laws are equal, so take no root
        or logarithm. Kept, the value is ≥ 0 and (1 − E k(x, x'))/n + (1 − E k(y, y'))/m too high in expectation there.

    x and y must be independent of each other: of two representations of the same segments the pairs (x_i, y_i) bias it.

    Shankar (2022) prints sums without 1/n², which for n ≠ m are not 0 for equal laws.

    Raises ValueError unless x and y are [n, d] and [m, d] with n, m ≥ 1 (≥ 2 if unbiased), and scales positive.
    """
    x, y = require_matrices(x=x, y=y)
    if x.shape[1] != y.shape[1] or (unbiased and min(len(x), len(y)) < 2):
        raise ValueError(
            f"MMD² compares samples [n, d] and [m, d], without k(x_i, x_i) of two rows at least, got {list(x.shape)} and "
            f"{list(y.shape)} with unbiased={unbiased}; use one width and larger batches, or unbiased=False."
        )
    check_scales(scales)
    within = [_mean_of_pairs(_kernel(_squared_distances(z, z), scales), unbiased) for z in (x, y)]
    return within[0] + within[1] - 2 * _kernel(_squared_distances(x, y), scales).mean()


def median_scale(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"] | None = None) -> Float[Tensor, ""]:
    """The median heuristic for a kernel's s: the (lower) median of the squared distances between rows, of both samples if two.

    Of rows that differ, as Gretton's code has it: segments that lack a modality are one point and may be most of the rows, and with
    a median of 0 no two others would be alike. 1 if all rows coincide. It carries no gradient.

    Raises ValueError unless x and y are [n, d] and [m, d] with n, m ≥ 1, and two rows at least.
    """
    rows = require_matrices(x=x) if y is None else require_matrices(x=x, y=y)
    if len({z.shape[1] for z in rows}) > 1 or sum(len(z) for z in rows) < 2:
        raise ValueError(
            f"Distances are between two rows at least, of one width, got {' and '.join(str(list(z.shape)) for z in rows)}; "
            "give larger batches, or project to one width."
        )
    distances = torch.pdist(torch.cat(rows).detach())
    distances = distances[distances > 0]
    if not len(distances):
        return rows[0].new_ones(())
    return distances.median().square().clamp(min=torch.finfo(distances.dtype).tiny)


def mmd2_to_standard_normal(z: Float[Tensor, "n d"], scale: float) -> Float[Tensor, ""]:
    """MMD² between the empirical law of z and N(0, I) itself for k = e^{−‖a−b‖²/s}: no samples of the prior, so no noise.

    (1 + 4/s)^{−d/2} + mean_ij k(z_i, z_j) − 2 (1 + 2/s)^{−d/2} mean_i e^{−‖z_i‖²/(s+2)}; ≥ 0, with k(z_i, z_i) kept.

    Raises ValueError unless z is [n, d] with n, d ≥ 1, and the scale positive.
    """
    (z,) = require_matrices(z=z)
    check_scales([scale])
    half = z.shape[1] / 2
    cross = torch.exp(-z.square().sum(1) / (scale + 2)).mean() * (1 + 2 / scale) ** -half
    return (1 + 4 / scale) ** -half + _kernel(_squared_distances(z, z), [scale]).mean() - 2 * cross


def hsic(
    x: Float[Tensor, "n d_x"],
    y: Float[Tensor, "n d_y"],
    scale_x: float | Float[Tensor, ""] | None = None,
    scale_y: float | Float[Tensor, ""] | None = None,
    unbiased: bool = True,
    normalized: bool = False,
) -> Float[Tensor, ""]:
    """HSIC, the squared distance of kernel means of the joint law and of the product of the marginals; 0 iff independent.

    scale_x, scale_y: the kernels' s; None: `median_scale` of the sample itself. A fixed s below the dimension makes K ≈ I, and then
        the biased normalised value reads 1 for whatever comes (Tsai et al., 2019, supplement F, has σ = 1 for 20 and more
        dimensions)
    unbiased: Song et al. (2012), Eq. 5; its mean is 0 for independent rows, so half of the values are negative. Else
        tr(KHLH)/n², which is ≥ 0 and of the order 1/n there
    normalized: divided by √(HSIC(x, x)·HSIC(y, y)), in both forms (Tsai et al., 2019, Eq. 5; centred kernel alignment): 1 for y = x
        up to isometry; 0 where either kernel varies by no more than rounding. Both forms are inner products of centred matrices, so
        the quotient is a cosine and never beyond ±1, however small the denominator

    Raises ValueError unless x and y are [n, d_x] and [n, d_y] with n ≥ 2 (≥ 4 if unbiased), and scales positive.
    """
    x, y = require_matrices(x=x, y=y)
    least = 4 if unbiased else 2
    if len(x) != len(y) or len(x) < least:
        raise ValueError(
            f"HSIC is of the same n rows of x and y, n >= {least} with unbiased={unbiased}, got {list(x.shape)} and "
            f"{list(y.shape)}; give both for the same samples, in larger batches."
        )
    grams, varies, same = [], [], torch.eye(len(x), dtype=torch.bool, device=x.device)
    for z, scale in ((x, scale_x), (y, scale_y)):
        s = median_scale(z) if scale is None else scale
        check_scales([float(s)])
        distances = _squared_distances(z, z).masked_fill(same, 0)
        # k − 1 in the place of k: centring takes constants away, and of a wide kernel the digits stay.
        gram = centred_gram(torch.expm1(-distances / s), unbiased)
        # The distances are as good as the squares that they are made of.
        largest = (z.detach() - z.detach().mean(0)).square().sum(1).max()
        rounding = 16 * torch.finfo(gram.dtype).eps * (largest / s).clamp(max=1)
        grams.append(gram)
        varies.append((gram.detach().square().mean().sqrt() > rounding) & ~is_constant(z.detach()))
    n, product = len(x), (grams[0] * grams[1]).sum()
    if not normalized:
        return product / (n * (n - 3) if unbiased else n**2)
    both = varies[0] & varies[1]
    norms = [torch.where(both, gram.square().sum(), 1.0).rsqrt() for gram in grams]
    return torch.where(both, product * norms[0] * norms[1], 0.0)


def is_constant(z: Float[Tensor, "n d"]) -> Bool[Tensor, ""]:
    """Whether rows differ by no more than rounding of what they have in common, as those of a collapsed code do."""
    return (z - z.mean(0)).abs().max() <= 16 * torch.finfo(z.dtype).eps * z.abs().max()


def centred_gram(k: Tensor, unbiased: bool) -> Tensor:
    """HKH; or for Song's estimate the U-centred K (Székely and Rizzo 2014), whose rows sum to 0 without the diagonal.

    The diagonal of k is 0.
    """
    n = len(k)
    if not unbiased:
        return k - k.mean(0) - k.mean(1, keepdim=True) + k.mean()
    rows = k.sum(1)
    centred = k - (rows[:, None] + rows) / (n - 2) + rows.sum() / ((n - 1) * (n - 2))
    return centred.masked_fill(torch.eye(n, dtype=torch.bool, device=k.device), 0)


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """‖x_i − y_j‖², by one product of matrices: differences of all pairs would be n·m·d numbers.

    Centred first, so that the squares are no larger than they must be and little is lost between them.
    """
    centre = x.detach().mean(0)
    x, y = x - centre, y - centre
    with torch.autocast(x.device.type, enabled=False):
        squares = x.square().sum(1)[:, None] + y.square().sum(1)[None]
        return torch.addmm(squares, x, y.T, alpha=-2).clamp(min=0)


def _kernel(distances: Tensor, scales: Sequence[float]) -> Tensor:
    return torch.stack([torch.exp(-distances / s) for s in scales]).mean(0)


def _mean_of_pairs(gram: Tensor, unbiased: bool) -> Tensor:
    n = len(gram)
    return (gram.sum() - gram.diagonal().sum()) / (n * (n - 1)) if unbiased else gram.mean()
