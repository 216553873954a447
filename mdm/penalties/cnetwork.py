"""Stage three, penalty: the parts of Shankar's (2022) C-network, each for all variables at once.

Representations come padded: [v, n, p] holds v variables of n rows, the narrower ones filled up to the width p with columns of
zeros. A step of training spends more on calls than on numbers here, so four small things cost the calls of one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mdm import estimators


class Mlps(nn.Module):
    """Networks of one shape side by side, linear maps with LeakyReLU between them.

    widths: of the layers, input first
    fan_in: inputs that each network has in truth, where that is fewer; weights begin as those of ``nn.Linear`` of that width
    """

    def __init__(self, count: int, widths: Sequence[int], fan_in: Sequence[int] | None = None):
        super().__init__()
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for layer, (a, b) in enumerate(pairwise(widths)):
            inputs = fan_in if fan_in is not None and layer == 0 else [a] * count
            limit = torch.tensor(inputs).view(-1, 1, 1) ** -0.5
            self.weights.append(nn.Parameter(torch.empty(count, a, b).uniform_(-1, 1) * limit))
            self.biases.append(nn.Parameter(torch.empty(count, 1, b).uniform_(-1, 1) * limit))

    def forward(self, x: Float[Tensor, "v n a"]) -> Float[Tensor, "v n b"]:
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, F.leaky_relu(x) if layer else x, weight)
        return x


class Predictors(nn.Module):
    """Q_i of every modality, four layers each (Shankar, 2022, appendix C): Z_i from Z_{-i}."""

    inputs: Tensor
    outputs: Tensor

    def __init__(self, widths: Sequence[int], p: int, hidden: int):
        super().__init__()
        total = sum(widths)
        self.layers = Mlps(len(widths), [total, hidden, hidden, hidden, p], [total - d for d in widths])
        owner = torch.repeat_interleave(torch.arange(len(widths)), torch.tensor(widths))
        own = owner == torch.arange(len(widths)).unsqueeze(1)
        self.register_buffer("inputs", (~own).float().unsqueeze(1), persistent=False)
        self.register_buffer("outputs", torch.stack([(torch.arange(p) < d).float() for d in widths]).unsqueeze(1), persistent=False)

    def forward(self, side_by_side: Float[Tensor, "n d"], target: Float[Tensor, "m n p"]) -> Float[Tensor, "m n p"]:
        """(Q_i(Z_{-i}) − Z_i)², entry by entry, 0 where padded."""
        return ((self.layers(side_by_side * self.inputs) - target) * self.outputs).square()


class Coupling(nn.Module):
    """g_i: four additive couplings, x ↦ (x_b, x_a + m(x_b)). Invertible, and det = 1, whatever the weights are."""

    def __init__(self, count: int, k: int, hidden: int):
        super().__init__()
        halves = [(k // 2, k - k // 2), (k - k // 2, k // 2)] * 2
        self.shifts = nn.ModuleList(Mlps(count, [b, hidden, a]) for a, b in halves)
        self.halves = halves

    def forward(self, x: Float[Tensor, "m n k"]) -> Float[Tensor, "m n k"]:
        for shift, (a, b) in zip(self.shifts, self.halves, strict=True):
            first, second = x.split([a, b], dim=2)
            x = torch.cat([second, first + shift(second)], dim=2)
        return x


def paired_mmd2(x: Float[Tensor, "m n k"], y: Float[Tensor, "m n k"], factors: Sequence[float]) -> Float[Tensor, " m"]:
    """MMD² of the laws of x_i and y_i for each i, from the same n segments: mean over j ≠ l of
    k(x_j, x_l) + k(y_j, y_l) − k(x_j, y_l) − k(y_j, x_l) (Gretton et al. 2012, Eq. 4).

    The kernel is the mean over factors c of e^{−‖a−b‖²/(c·s)}, s the median squared distance between the 2n rows, a constant for
    the gradient. `estimators.mmd2` has pairs of one segment in its last term, which is right for samples that are
    independent of each other. x_j and y_j are not: it would reward what makes the two of a segment alike. This one is unbiased for
    any dependence within a segment, and exactly 0 if x = y. Negative about half of the time if the laws are equal.
    """
    m, n, _ = x.shape
    if n < 2:
        return torch.zeros(m, device=x.device)
    rows = torch.cat([x, y], 1)
    distances = _squared_distances(rows)
    # 2n of the entries are a row's distance to itself, 0, and come first; of the others the lower median.
    rank = 2 * n + (2 * n * (2 * n - 1) + 1) // 2
    scale = distances.detach().flatten(1).kthvalue(rank, dim=1).values.clamp(min=1e-12).view(m, 1, 1)
    gram = torch.stack([torch.exp(distances / (-c * scale)) for c in factors]).mean(0)
    sign = torch.cat([torch.ones(n, device=x.device), -torch.ones(n, device=x.device)])
    weights = torch.outer(sign, sign)
    weights.view(2, n, 2, n).diagonal(dim1=1, dim2=3).zero_()
    return (gram * weights).sum((1, 2)) / (n * (n - 1))


def printed_mmd(x: Float[Tensor, "m n k"], y: Float[Tensor, "m n k"]) -> Float[Tensor, " m"]:
    """Σ k(x_j, x_l) + Σ k(y_j, y_l) − 2 Σ k(x_j, y_l) over all pairs, without 1/n² (section 2.2). The kernel is not
    named; here e^{−‖a−b‖²/2k}, which does not move with the rows."""
    n = x.shape[1]
    gram = torch.exp(_squared_distances(torch.cat([x, y], 1)) / (-2 * x.shape[2]))
    return gram[:, :n, :n].sum((1, 2)) + gram[:, n:, n:].sum((1, 2)) - 2 * gram[:, :n, n:].sum((1, 2))


def printed_kl(joint: Float[Tensor, " n"], product: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """E_P[T] − E_Q[e^T] (section 2.2), Donsker–Varadhan without its logarithm. Its supremum is KL − 1."""
    return joint.mean() - torch.exp(product).mean()


def _squared_distances(rows: Float[Tensor, "m n k"]) -> Float[Tensor, "m n n"]:
    squares = rows.square().sum(2)
    distances = torch.baddbmm(squares.unsqueeze(1) + squares.unsqueeze(2), rows, rows.mT, alpha=-2)
    return distances.clamp(min=0)


class Moments(nn.Module):
    """The covariance S of every variable, moving from batch to batch, and kurtosis relative to it.

    decay: α; after t batches of equal size S = (1−α)/(1−α^t) Σ_s α^{t−s} C_s, which is S ← αS + (1−α)C without the bias of its
        beginning. Larger batches count by their rows
    clip: difference vectors longer than this many times their median length are shortened to it
    ridge: added to the diagonal of S; columns have variance 1, so it is relative to tr(S)/p
    """

    scatter: Tensor
    rows: Tensor
    widths: Tensor

    def __init__(self, widths: Sequence[int], decay: float, clip: float, ridge: float):
        super().__init__()
        self.decay, self.clip, self.ridge = decay, clip, ridge
        self.register_buffer("scatter", torch.zeros(len(widths), max(widths), max(widths)))
        self.register_buffer("rows", torch.zeros(()))
        self.register_buffer("widths", torch.tensor(widths, dtype=torch.float32), persistent=False)

    def forward(self, x: Float[Tensor, "v n p"], update: bool) -> Float[Tensor, " v"]:
        """κ/(p(p+2)) of every variable, from standardised columns: E[m²]/E[m]²·p/(p+2) for m = dᵀ(S + ridge·I)⁻¹d, d clipped.

        With the sample's own S, no ridge and no clipping E[m] = p, so this is Mardia's κ over p(p+2), 1 for a Gaussian. A moving S
        is a constant for the gradient, and E[m] = p only on average: dividing by its square keeps what the value
        means, invariance under scale. It lies between p/(p+2) and n·p/(p+2). Rows of one batch and no others give the
        former whatever they are if n ≤ p + 1.

        update: take this batch into S first. Else S is as it is, or that of these rows if there has been no batch
        """
        length = torch.linalg.vector_norm(x, dim=2, keepdim=True)
        limit = self.clip * length.median(1, keepdim=True).values
        d = x * (limit / length.clamp(min=1e-12)).clamp(max=1)
        with torch.no_grad():
            scatter, rows = d.mT @ d, torch.tensor(float(d.shape[1]), device=d.device)
            if update:
                self.scatter.mul_(self.decay).add_(scatter)
                self.rows.mul_(self.decay).add_(rows)
            if update or self.rows > 0:
                scatter, rows = self.scatter, self.rows
            s = scatter / rows
            s.diagonal(dim1=1, dim2=2).add_(self.ridge)
            # Without a check: what is not finite shows in the term, and the learner names it.
            factor = torch.linalg.cholesky_ex(s).L
        m = torch.linalg.solve_triangular(factor, d.mT, upper=False).square().sum(1)
        return m.square().mean(1) / m.mean(1).square().clamp(min=1e-12) * self.widths / (self.widths + 2)


class PrintedMoments(nn.Module):
    """S and κ as appendix D prints them: S ← αS + C, without 1−α and with gradient through C; only what enters S is clipped, at an
    absolute length; the ridge is an absolute number too; κ is not divided by anything."""

    scatter: Tensor
    seen: Tensor

    def __init__(self, widths: Sequence[int], decay: float, clip: float, ridge: float):
        super().__init__()
        self.widths, self.decay, self.clip, self.ridge = widths, decay, clip, ridge
        self.register_buffer("scatter", torch.zeros(len(widths), max(widths), max(widths)))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Float[Tensor, "v n p"], update: bool) -> Float[Tensor, " v"]:
        """κ of every variable. Raises ValueError where S is singular."""
        d = x - x.mean(1, keepdim=True)
        d = d * (self.clip / torch.linalg.vector_norm(d, dim=2, keepdim=True).clamp(min=1e-12)).clamp(max=1)
        s = self.scatter
        if update or not self.seen > 0:
            s = self.decay * s + d.mT @ d / x.shape[1]
        if update:
            self.scatter.copy_(s.detach())
            self.seen.fill_(1)
        values = []
        for z, covariance, width in zip(x, s, self.widths, strict=True):
            c = self.ridge * torch.eye(width, device=x.device)
            values.append(estimators.mardia_kurtosis(z[:, :width], covariance=covariance[:width, :width] + c))
        return torch.stack(values)


def random_projections(widths: Sequence[int], p: int, k: int, keep_norm: bool) -> Float[Tensor, "v p k"]:
    """R_i for each variable, rows beyond its width 0. Entries N(0, 1/k) keep norms (``keep_norm``, as printed), N(0, 1/d_i) bring
    standardised columns to the same scale for every width."""
    result = torch.zeros(len(widths), p, k)
    for r, d in zip(result, widths, strict=True):
        r[:d] = torch.randn(d, k) / math.sqrt(k if keep_norm else d)
    return result
