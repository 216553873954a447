"""The bounds and distances themselves: pure functions of critic outputs, as the corrected mathematics has them.

``joint`` are values T(z) of a critic on samples of the joint law P, ``product`` values T(z̄) on samples of the product of
the marginals Q; their numbers need not agree. Every function returns the *estimate* as a scalar tensor, in nats where it
bounds an information; a loss that maximises dependence subtracts it. A value on the rows that the critic was just
fitted on is not a bound: measure on others.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


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


def _check(joint: Tensor, product: Tensor) -> None:
    for name, values in (("joint", joint), ("product", product)):
        if values.ndim != 1 or len(values) == 0:
            raise ValueError(
                f"An estimator takes one critic value per sample, a non-empty vector, but {name} has shape {list(values.shape)}; "
                "squeeze the critic's last axis."
            )
