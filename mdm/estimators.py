"""The bounds and distances themselves: pure functions of critic outputs and samples, as the corrected mathematics has them.

Every function returns the *estimate* as a scalar tensor, in nats where it is about an information; a loss that maximises
dependence subtracts it. A value on the rows that a critic was just fitted on is not a bound: measure on others.

Lower bounds, in expectation: `nwj` and, never below it, `donsker_varadhan` on KL (a batch's value of the latter is biased upwards);
    `kantorovich_rubinstein` on W1 for a 1-Lipschitz critic; `info_nce` on I; `barber_agakov` on −H(Y|X)
Upper bounds: `club` on I if its q is the true conditional, else of either sign; the entropies, on that of any law with these
    moments and weights
Distances, 0 where the laws agree: `mmd2`, `mmd2_to_standard_normal`; of moments only, `central_moment_discrepancy`
None of these: `logistic_loss`, a loss; `orthogonality`, 0 for what is orthogonal; `median_scale`

What takes samples instead of a critic's values is computed in single precision at least, under autocast too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

# ---- from a critic: ``joint``, its values T(z) on samples of the joint law P, and ``product``, those T(z̄) on samples of the
# product of the marginals Q; their numbers need not agree


def donsker_varadhan(joint: Float[Tensor, " n"], product: Float[Tensor, " m"]) -> Float[Tensor, ""]:
    """E_P[T] − log E_Q[e^T]: lower bound on KL(P‖Q), the total correlation (paper 000, Eq. 6).

    Tight at T = log p/q + any constant. Its minibatch value is biased upwards and, for an unbounded critic, has no
    finite supremum beyond roughly 0.7·log m nats.

    Raises ValueError unless both are non-empty vectors.
    """
    _check(joint, product)
    return joint.mean() - (torch.logsumexp(product, 0) - math.log(len(product)))


def nwj(joint: Float[Tensor, " n"], product: Float[Tensor, " m"]) -> Float[Tensor, ""]:
    """E_P[T] − E_Q[e^{T−1}]: the Nguyen–Wainwright–Jordan lower bound on KL(P‖Q) (paper 000, Eq. 7).

    The paper prints the exponent as T^{-1}, for which a constant critic is optimal and the value grows without bound even
    when P = Q. Tight at T = 1 + log p/q; never above `donsker_varadhan` for the same values.

    Raises ValueError unless both are non-empty vectors.
    """
    _check(joint, product)
    return joint.mean() - torch.exp(product - 1).mean()


def kantorovich_rubinstein(joint: Float[Tensor, " n"], product: Float[Tensor, " m"]) -> Float[Tensor, ""]:
    """E_P[T] − E_Q[T]: lower bound on the Wasserstein-1 distance for a 1-Lipschitz critic (paper 000, Eq. 8).

    The paper prints a logarithm around the second term, which makes constants optimal. Nothing here keeps T 1-Lipschitz: a
    critic in [0, 1] without that constraint gives the total variation instead.

    Raises ValueError unless both are non-empty vectors.
    """
    _check(joint, product)
    return joint.mean() - product.mean()


def logistic_loss(joint: Float[Tensor, " n"], product: Float[Tensor, " m"]) -> Float[Tensor, ""]:
    """E_P[softplus(−T)] + E_Q[softplus(T)]: the loss of telling P from Q, minimal at T = log p/q, there 2·log 2 − 2·JS(P, Q).

    No estimate itself: a critic fitted with it is read out by `donsker_varadhan` (T) or `nwj` (T + 1). Its gradient is bounded
    for every sample, so that it does not diverge where the bounds do.

    Raises ValueError unless both are non-empty vectors.
    """
    _check(joint, product)
    return torch.nn.functional.softplus(-joint).mean() + torch.nn.functional.softplus(product).mean()


# ---- from the densities of a learned conditional


def barber_agakov(y: Float[Tensor, "n d"], mean: Float[Tensor, "n d"], log_variance: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """E[log q(y|x)] for q = N(μ(x), diag σ²(x)), in full (paper 001, Eq. 4); plus H(Y) it is a lower bound on I(X; Y).

    Official code of paper 001 leaves −½ log σ² out, so that a q that says nothing (σ → ∞) is best.

    Raises ValueError unless all three have one shape [n, d], n and d ≥ 1.
    """
    y, mean, log_variance = _alike(y=y, mean=mean, log_variance=log_variance)
    log_density = (y - mean).square() * torch.exp(-log_variance) + log_variance + math.log(2 * math.pi)
    return -0.5 * log_density.sum(1).mean()


def club(
    y: Float[Tensor, "n d"], mean: Float[Tensor, "n d"], log_variance: Float[Tensor, "n d"], unbiased: bool = False
) -> Float[Tensor, ""]:
    """(1/n) Σ_i log q(y_i|x_i) − (1/n²) Σ_ij log q(y_j|x_i), for q = N(μ(x), diag σ²(x)) (paper 004, Eq. 12).

    In O(n·d): log σ cancels, and the mean over j of (y_j − μ_i)² is Var(y) + (ȳ − μ_i)².

    unbiased: leave i = j out of the second sum, which multiplies the value by n/(n−1). The paper keeps it and calls the result
        unbiased (Eq. 11), but its expectation is (1 − 1/n) of the population's value.

    Raises ValueError unless all three have one shape [n, d], n and d ≥ 1 (n ≥ 2 if unbiased).
    """
    y, mean, log_variance = _alike(y=y, mean=mean, log_variance=log_variance)
    n = len(y)
    if unbiased and n < 2:
        raise ValueError("An estimate without the diagonal needs at least two rows, but one came; use larger batches.")
    centre = y.mean(0)
    every = (y - centre).square().mean(0) + (centre - mean).square()
    value = ((every - (y - mean).square()) * torch.exp(-log_variance)).sum(1).mean() / 2
    return value * n / (n - 1) if unbiased else value


def info_nce(scores: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """log n + E_i[s_ii − log Σ_j e^{s_ij}]: lower bound on I(X; Y), never above log n (CPC; paper 001, Eqs. 10–12).

    Rows are anchors, columns their candidates, the diagonal the true pairs. Transposed, the candidates are drawn from the other
    side: another number. Cosines as scores keep it below 1, whatever the information (more exactly, below
    log n − log(1 + (n−1)·e^{−n/(n−1)})).

    Raises ValueError unless the scores are a square matrix with n ≥ 1.
    """
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1] or not len(scores):
        raise ValueError(
            f"InfoNCE takes a score for each pair of n anchors and n candidates, a matrix [n, n], but {list(scores.shape)} came; "
            "give as many candidates as anchors, true pairs on the diagonal."
        )
    (scores,) = _full(scores)
    return math.log(len(scores)) + (scores.diagonal() - torch.logsumexp(scores, 1)).mean()


# ---- entropies by second moments


def gaussian_entropy(h: Float[Tensor, "n d"], covariance: str = "full", ridge: float = 1e-4) -> Float[Tensor, ""]:
    """½ log det(2πe(S + ridge·I)), S the rows' covariance (1/n) or its diagonal (paper 001, Eq. 6): entropy of a Gaussian.

    No law with that covariance has more. With n ≤ d a full S is singular and the value is the ridge's; even above, sampling
    lowers it (by 10.9 nats at d = 32, n = 64). By Cholesky, in double precision: the logarithm of a determinant that rounding
    makes 0 or negative is −∞ or NaN.

    Raises ValueError unless h is [n, d] with n, d ≥ 1 and finite, on an unknown covariance, or unless ridge > 0.
    """
    _matrices(h=h)
    if covariance not in ("full", "diagonal") or not ridge > 0:
        raise ValueError(
            f"A Gaussian's covariance is full or diagonal, and the ridge positive, but {covariance!r} and {ridge} came; "
            "set covariance and ridge."
        )
    double = h.double()
    if not torch.isfinite(double).all():
        raise ValueError(f"An entropy is of finite rows, but some of the {len(h)} hold NaN or infinity; look where they come from.")
    centred = double - double.mean(0)
    if covariance == "diagonal":
        log_det = torch.log(centred.square().mean(0) + ridge).sum()
    else:
        s = centred.T @ centred / len(h) + ridge * torch.eye(h.shape[1], dtype=torch.float64, device=h.device)
        try:
            log_det = 2 * torch.linalg.cholesky(s).diagonal().log().sum()
        except torch.linalg.LinAlgError:
            raise ValueError(
                f"A covariance with a ridge is positive definite, but rounding makes that of these {len(h)} rows indefinite; raise "
                f"ridge={ridge}, or scale the rows down."
            ) from None
    return (0.5 * log_det + h.shape[1] / 2 * math.log(2 * math.pi * math.e)).to(torch.promote_types(h.dtype, torch.float32))


def gaussian_mixture_entropy(
    classes: list[Float[Tensor, "_ d"]],
    weights: list[float] | None = None,
    covariance: str = "full",
    ridge: float = 1e-4,
) -> Float[Tensor, ""]:
    """Σ_c w_c (−log w_c + h_c), h_c the `gaussian_entropy` of each class's rows (paper 001, Eq. 7).

    An upper bound on the entropy of the mixture, too high by up to log C where classes overlap; so with it, `barber_agakov` gives
    no bound on an information.

    weights: of the classes; None: equal, as the paper's Eq. 8

    Raises ValueError on no class, an empty one, weights that are not one positive number for each class with sum 1, and as
    `gaussian_entropy`.
    """
    given = [1 / len(classes)] * len(classes) if weights is None and classes else list(weights or [])
    if not classes or len(given) != len(classes) or not all(w > 0 for w in given) or abs(sum(given) - 1) > 1e-6:
        raise ValueError(
            f"A mixture has at least one class and a positive weight for each, their sum 1, but {len(classes)} classes came with "
            f"weights {weights}; leave out classes that have no rows."
        )
    entropies = [gaussian_entropy(rows, covariance, ridge) for rows in classes]
    return torch.stack([w * (h - math.log(w)) for w, h in zip(given, entropies, strict=True)]).sum()


# ---- distances of two samples


def mmd2(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], scales: Sequence[float], unbiased: bool = True) -> Float[Tensor, ""]:
    """MMD² for the kernel k(a, b) = mean over scales s of e^{−‖a−b‖²/s} (paper 002, section 2.2; paper 003, Eq. 4).

    unbiased: leave k(x_i, x_i) = 1 out; about half of the values are then negative where the laws are equal, so take no root
        or logarithm. Kept, the value is ≥ 0 and (1 − E k(x, x'))/n + (1 − E k(y, y'))/m too high in expectation there.

    Paper 002 prints sums without 1/n², which for n ≠ m are not 0 for equal laws.

    Raises ValueError unless x and y are [n, d] and [m, d] with n, m ≥ 1 (≥ 2 if unbiased), and scales positive.
    """
    x, y = _matrices(x=x, y=y)
    if x.shape[1] != y.shape[1] or (unbiased and min(len(x), len(y)) < 2):
        raise ValueError(
            f"MMD² compares samples [n, d] and [m, d], without k(x_i, x_i) of two rows at least, but {list(x.shape)} and "
            f"{list(y.shape)} came with unbiased={unbiased}; use one width and larger batches, or unbiased=False."
        )
    _check_scales(scales)
    within = [_mean_of_pairs(_kernel(_squared_distances(z, z), scales), unbiased) for z in (x, y)]
    return within[0] + within[1] - 2 * _kernel(_squared_distances(x, y), scales).mean()


def median_scale(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, ""]:
    """The median heuristic for a kernel's s: the (lower) median of the squared distances between all rows of both samples.

    It carries no gradient, and is at least 1e-12 where rows coincide.

    Raises ValueError unless x and y are [n, d] and [m, d] with n, m ≥ 1.
    """
    x, y = _matrices(x=x, y=y)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"Distances are between rows of one width, but {list(x.shape)} and {list(y.shape)} came.")
    return torch.pdist(torch.cat([x, y]).detach()).median().square().clamp(min=1e-12)


def mmd2_to_standard_normal(z: Float[Tensor, "n d"], scale: float) -> Float[Tensor, ""]:
    """MMD² between the empirical law of z and N(0, I) itself for k = e^{−‖a−b‖²/s}: no samples of the prior, so no noise.

    (1 + 4/s)^{−d/2} + mean_ij k(z_i, z_j) − 2 (1 + 2/s)^{−d/2} mean_i e^{−‖z_i‖²/(s+2)}; ≥ 0, with k(z_i, z_i) kept.

    Raises ValueError unless z is [n, d] with n, d ≥ 1, and the scale positive.
    """
    (z,) = _matrices(z=z)
    _check_scales([scale])
    half = z.shape[1] / 2
    cross = torch.exp(-z.square().sum(1) / (scale + 2)).mean() * (1 + 2 / scale) ** -half
    return (1 + 4 / scale) ** -half + _kernel(_squared_distances(z, z), [scale]).mean() - 2 * cross


def central_moment_discrepancy(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], moments: int = 5) -> Float[Tensor, ""]:
    """‖E x − E y‖ + Σ_{k=2..K} ‖c_k(x) − c_k(y)‖, c_k the k-th central moment of each column (CMD, as MISA has it).

    Made for values in [0, 1]; those of other ranges [a, b] would need (b−a)^{−k} before each term. Marginals of columns only. At
    equal moments the gradient is zero.

    Raises ValueError unless x and y are [n, d] and [m, d] with n, m ≥ 1, and moments ≥ 1.
    """
    x, y = _matrices(x=x, y=y)
    if x.shape[1] != y.shape[1] or moments < 1:
        raise ValueError(
            f"CMD compares at least one moment of samples [n, d] and [m, d], but {moments} moments of {list(x.shape)} and "
            f"{list(y.shape)} came; use one width."
        )
    means = x.mean(0), y.mean(0)
    value = torch.linalg.vector_norm(means[0] - means[1])
    for k in range(2, moments + 1):
        value = value + torch.linalg.vector_norm((x - means[0]).pow(k).mean(0) - (y - means[1]).pow(k).mean(0))
    return value


# ---- linear dependence


def orthogonality(a: Float[Tensor, "n d_a"], b: Float[Tensor, "n d_b"], form: str = "features") -> Float[Tensor, ""]:
    """How far two representations of the same rows are from orthogonal; 0 if they are. What is orthogonal may yet be dependent.

    form: ``features``, mean over all d_a·d_b entries of (ÂᵀB̂)², columns centred, then each row divided by its norm, which carries
        no gradient (MISA's code; its paper has the plain squared norm ‖AᵀB‖_F²). So 0 says that the directions of the rows are
        uncorrelated, not the columns themselves. It grows with n for independent rows and with n² for dependent ones.
        ``gram``, ‖ABᵀ‖_F² over the n × n pairs of rows, as paper 004 prints it (Eq. 9). It is 0 for a = (t, 0), b = (0, t),
        where each determines the other, and not for uncorrelated columns.

    Raises ValueError unless a and b are [n, d_a] and [n, d_b] with n ≥ 1 (one width for gram), or on an unknown form.
    """
    a, b = _matrices(a=a, b=b)
    if form not in ("features", "gram") or len(a) != len(b) or (form == "gram" and a.shape[1] != b.shape[1]):
        raise ValueError(
            "Orthogonality is of features [n, d_a] and [n, d_b], or with form=gram of [n, d] and [n, d], but "
            f"form={form!r}, {list(a.shape)} and {list(b.shape)} came; give the same rows of both."
        )
    with torch.autocast(a.device.type, enabled=False):
        if form == "gram":
            # ‖ABᵀ‖_F² = tr(AᵀA BᵀB): d × d products in the place of n × n.
            return ((a.T @ a) * (b.T @ b)).sum()
        return (_rows_of_length_one(a).T @ _rows_of_length_one(b)).square().mean()


# ---- parts


def _rows_of_length_one(a: Tensor) -> Tensor:
    """Columns centred, then each row divided by its norm, which is as good as given; a row of zeros stays zero."""
    a = a - a.mean(0)
    return a / (torch.linalg.vector_norm(a.detach(), dim=1, keepdim=True) + 1e-6)


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


def _full(*tensors: Tensor) -> list[Tensor]:
    """In single precision, or in double where they are."""
    return [t.to(torch.promote_types(t.dtype, torch.float32)) for t in tensors]


def _check_scales(scales: Sequence[float]) -> None:
    if not len(scales) or not all(s > 0 for s in scales):
        raise ValueError(f"A kernel's scales are positive numbers, at least one, but {list(scales)} came; set the kernel's scale.")


def _matrices(**named: Tensor) -> list[Tensor]:
    for name, value in named.items():
        if value.ndim != 2 or not value.numel():
            raise ValueError(
                f"An estimator takes rows of numbers, [n, d] with n and d at least 1, but {name} has shape {list(value.shape)}; "
                "give one row for each sample."
            )
    return _full(*named.values())


def _alike(**named: Tensor) -> list[Tensor]:
    tensors = _matrices(**named)
    if len({t.shape for t in tensors}) > 1:
        raise ValueError(
            "A conditional density needs a mean and a variance for every number of y, but the shapes are "
            f"{', '.join(f'{name} {list(t.shape)}' for name, t in named.items())}; predict one of each for every column of y."
        )
    return tensors


def _check(joint: Tensor, product: Tensor) -> None:
    for name, values in (("joint", joint), ("product", product)):
        if values.ndim != 1 or len(values) == 0:
            raise ValueError(
                f"An estimator takes one critic value per sample, a non-empty vector, but {name} has shape {list(values.shape)}; "
                "squeeze the critic's last axis."
            )
