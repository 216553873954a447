"""Variational bounds and divergences, from the values of a critic.

``joint``: its values T(z) on samples of the joint law P; ``product``: those T(z̄) on samples of the product of the marginals Q;
their numbers need not agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from mdm.estimators.checks import raise_precision, require_critic_values
from mdm.hints import require_option


class Divergence(NamedTuple):
    """D_f(P‖Q) = E_Q[f(p/q)], as its variational bound needs it.

    critic: v ↦ f'(e^v), the optimal T at v = log p/q
    conjugate: f*(T)
    of_log_ratio: v ↦ f*(f'(e^v)), simplified, because the composition loses what rounding takes
    allowed: the T that f* is defined for, and in words
    """

    critic: Callable[[Tensor], Tensor]
    conjugate: Callable[[Tensor], Tensor]
    of_log_ratio: Callable[[Tensor], Tensor]
    allowed: Callable[[Tensor], Tensor]
    domain: str


DivergenceName = Literal["kl", "reverse_kl", "pearson", "squared_hellinger", "jensen_shannon", "total_variation"]
DIVERGENCES: dict[DivergenceName, Divergence] = {
    "kl": Divergence(lambda v: 1 + v, lambda t: torch.exp(t - 1), torch.exp, torch.isfinite, "any T"),
    "reverse_kl": Divergence(lambda v: -torch.exp(-v), lambda t: -1 - torch.log(-t), lambda v: v - 1, lambda t: t < 0, "T < 0"),
    "pearson": Divergence(
        lambda v: 2 * torch.expm1(v),
        lambda t: t.square() / 4 + t,
        lambda v: torch.expm1(2 * v),
        torch.isfinite,
        "any T",
    ),
    "squared_hellinger": Divergence(
        lambda v: -torch.expm1(-v / 2), lambda t: t / (1 - t), lambda v: torch.expm1(v / 2), lambda t: t < 1, "T < 1"
    ),
    "jensen_shannon": Divergence(
        lambda v: math.log(2) + logsigmoid(v),
        lambda t: -torch.log(2 - torch.exp(t)),
        lambda v: softplus(v) - math.log(2),
        lambda t: t < math.log(2),
        "T < log 2",
    ),
    # f' is a step, without a gradient; any increasing function of v that stays within ±½ gives a bound, and v → ±∞ the step.
    "total_variation": Divergence(
        lambda v: torch.tanh(v / 2) / 2, lambda t: t, lambda v: torch.tanh(v / 2) / 2, lambda t: t.abs() <= 0.5, "|T| ≤ ½"
    ),
}
"""Name → divergence. ``jensen_shannon`` is twice the divergence of that name, KL(P‖M) + KL(Q‖M) with M = (P + Q)/2."""


def donsker_varadhan(joint: Float[Tensor, " n"], product: Float[Tensor, " m"]) -> Float[Tensor, ""]:
    """E_P[T] − log E_Q[e^T]: lower bound on KL(P‖Q), the total correlation (Colombo et al., 2021, Eq. 6).

    Tight at T = log p/q + any constant. Its minibatch value is biased upwards and, for an unbounded critic, has no
    finite supremum beyond roughly 0.7·log m nats.

    Raises ValueError unless both are non-empty vectors.
    """
    joint, product = require_critic_values(joint, product)
    return joint.mean() - (torch.logsumexp(product, 0) - math.log(len(product)))


def nwj(joint: Float[Tensor, " n"], product: Float[Tensor, " m"]) -> Float[Tensor, ""]:
    """E_P[T] − E_Q[e^{T−1}]: the Nguyen–Wainwright–Jordan lower bound on KL(P‖Q) (Colombo et al., 2021, Eq. 7).

    The paper prints the exponent as T^{-1}, for which a constant critic is optimal and the value grows without bound even
    when P = Q. Tight at T = 1 + log p/q; never above `donsker_varadhan` for the same values.

    Raises ValueError unless both are non-empty vectors.
    """
    joint, product = require_critic_values(joint, product)
    return joint.mean() - torch.exp(product - 1).mean()


def f_divergence(
    joint: Float[Tensor, " n"], product: Float[Tensor, " m"], divergence: DivergenceName = "kl", log_ratio: bool = False
) -> Float[Tensor, ""]:
    """E_P[T] − E_Q[f*(T)]: lower bound on D_f(P‖Q) for any T in the domain of f* (f-GAN; "any f" of Colombo et al., 2021).

    divergence: ``kl`` (then this is `nwj`), ``reverse_kl`` KL(Q‖P), ``pearson`` ∫(p−q)²/q, ``squared_hellinger`` ∫(√p−√q)²,
        ``jensen_shannon`` (twice that divergence), ``total_variation`` ½∫|p−q|
    log_ratio: the values are read as v = log p/q and T = f'(e^v), which is in the domain for every v and tight at the true one
        (total variation: T = ½ tanh(v/2), tight as |v| → ∞)

    In single precision the value with log_ratio is finite for |v| ≤ 88 (``pearson``: 44; ``squared_hellinger``: 176), and may be −∞
    or NaN beyond; for ``jensen_shannon`` and ``total_variation`` it is always finite.

    Raises ValueError unless both are non-empty vectors, on an unknown divergence, or on a T that is infinite or out of its domain.
    """
    joint, product = require_critic_values(joint, product)
    require_option("divergence", divergence, DivergenceName)
    f = DIVERGENCES[divergence]
    if log_ratio:
        return f.critic(joint).mean() - f.of_log_ratio(product).mean()
    values = torch.cat([joint, product]).detach()
    if not (torch.isfinite(values) & f.allowed(values)).all():
        raise ValueError(
            f"The conjugate of {divergence} takes finite critic values, {f.domain}, but these reach from {float(values.min())} to "
            f"{float(values.max())}; bound the critic's output, or give log p/q with log_ratio=True."
        )
    return joint.mean() - f.conjugate(product).mean()


def kantorovich_rubinstein(joint: Float[Tensor, " n"], product: Float[Tensor, " m"]) -> Float[Tensor, ""]:
    """E_P[T] − E_Q[T]: lower bound on the Wasserstein-1 distance for a 1-Lipschitz critic (Colombo et al., 2021, Eq. 8).

    The paper prints a logarithm around the second term, which makes constants optimal. Nothing here keeps T 1-Lipschitz: a
    critic in [0, 1] without that constraint gives the total variation instead.

    Raises ValueError unless both are non-empty vectors.
    """
    joint, product = require_critic_values(joint, product)
    return joint.mean() - product.mean()


def logistic_loss(joint: Float[Tensor, " n"], product: Float[Tensor, " m"]) -> Float[Tensor, ""]:
    """E_P[softplus(−T)] + E_Q[softplus(T)]: the loss of telling P from Q, minimal at T = log p/q, there 2·log 2 − 2·JS(P, Q).

    No estimate itself: a critic fitted with it is read out by `donsker_varadhan` (T) or `nwj` (T + 1). Its gradient is bounded
    for every sample, so that it does not diverge where the bounds do.

    Raises ValueError unless both are non-empty vectors.
    """
    joint, product = require_critic_values(joint, product)
    return softplus(-joint).mean() + softplus(product).mean()


def info_nce(scores: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """log n + E_i[s_ii − log Σ_j e^{s_ij}]: lower bound on I(X; Y), never above log n (CPC; Han et al., 2021, Eqs. 10–12).

    Rows are anchors, columns their candidates, the diagonal the true pairs. Transposed, the candidates are drawn from the other
    side: another number. Cosines as scores keep it below 1, whatever the information (more exactly, below
    log n − log(1 + (n−1)·e^{−n/(n−1)})).

    Raises ValueError unless the scores are a square matrix with n ≥ 1.
    """
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1] or not len(scores):
        raise ValueError(
            f"InfoNCE takes a score for each pair of n anchors and n candidates, a matrix [n, n], got {list(scores.shape)}; "
            "give as many candidates as anchors, true pairs on the diagonal."
        )
    (scores,) = raise_precision(scores)
    return math.log(len(scores)) + (scores.diagonal() - torch.logsumexp(scores, 1)).mean()
