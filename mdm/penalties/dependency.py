"""Stage three, penalty: mutual dependency measures of Colombo et al. (2021), L = L_task − λ·I (Eq. 5).

A critic T_θ tells fused representations Z of real segments from Z̄ of segments whose modalities were re-paired; how well
it can is the estimate of D(p_Z ‖ p_Z̄) ≤ D(joint ‖ product of marginals). Critic and backbone both *raise* it: the
critic to estimate, the backbone to keep what the modalities share.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mdm import estimators
from mdm.hints import Share, Size, require_option
from mdm.penalties.base import Penalty, View
from mdm.penalties.critics import Architecture, Critic, Maps, Output, gradient_penalty

Measure = Literal["kl", "f", "wasserstein"]
Lipschitz = Literal["gradient_penalty", "spectral_norm", "orthonormal", "none"]
Training = Literal["bound", "logistic", "ema"]
TRAININGS: dict[Measure, tuple[Training, ...]] = {
    "kl": ("bound", "logistic", "ema"),
    "f": ("bound", "logistic"),
    "wasserstein": ("bound",),
}
"""Measure → what its critic may minimise."""
MAPS: dict[Lipschitz, Maps] = {"spectral_norm": "spectral_norm", "orthonormal": "orthonormal"}
"""Of the critic, which are free otherwise."""


class Dependency(Penalty):
    """−λ·(estimated dependence between the modalities, read off Z).

    measure, what the estimate means on rows that the critic was not fitted on: ``kl``, a lower bound on KL(p_Z ‖ p_Z̄), by
        Donsker–Varadhan (Eq. 6); ``f``, one on the f-divergence below, for KL that of NWJ (Eq. 7); ``wasserstein``, one on the
        distance if T is 1-Lipschitz, by Kantorovich–Rubinstein (Eq. 8). KL in nats; a distance in units of what T reads, which
        for normalised Z of d dimensions is a point on the sphere of radius √d
    divergence: of measure=f, a name of `estimators.DIVERGENCES`. The critic's value is T itself where T may be any number and
        the critic trains on the bound (``kl``, ``pearson``), else v = log p/q, of which T is a function
    training, what the critic minimises:
        ``bound``, minus the estimate itself. In batches of m rows a DV critic without an output bound diverges once the
            dependence exceeds about 0.7·log m nats, which an encoder that maximises it soon reaches
        ``logistic`` (kl, f), the loss of telling joint from product rows, whose gradient is bounded for every row; the values
            are then log p/q, and the bound only reads them out. For total variation that is less than trained on its bound:
            ½∫(p − q)²/(p + q)
        ``ema`` (kl), DV with the gradient of log E_Q[e^T] taken at a moving average of E_Q[e^T] over batches (MINE, Belghazi et
            al. 2018): all but unbiased, with several times the variance. What the critic sees, E_P[T] − E_Q[e^T]/a − log a + 1
            with the average a, is at most the batch's DV, whose value is still what is reported and added to the task loss
    ema_rate: weight of the newest batch in that average
    shifts: samples of the product of the marginals for each batch; K of them lower the variance of E_Q, at the cost of fusing
        K times as many re-paired rows
    critic, hidden, dropout: see `Critic`; Table 4's dropout keeps a fixed training fold from being memorised, as ``noise`` does
    output, bound: ``tanh`` keeps values in ±bound: a remedy for the divergence of any bound, a cap on the estimate (DV at most
        2·bound), and on how hard one row can pull at the encoder. ``sigmoid``, Table 4 as printed, caps DV at 1, NWJ at 1 − 1/e,
        and makes of an unconstrained wasserstein the total variation; it goes with training=bound
    noise, normalize: see `Critic`
    lipschitz, for wasserstein; the divergences need none, it only loosens their bound:
        ``gradient_penalty``, nearly right: T is 1-Lipschitz only about the rows and only nearly, so that estimates may exceed the
            distance by some per cent
        ``spectral_norm``, valid in evaluation mode (see `Critic`), but slopes shrink from layer to layer, so that plain networks
            attain half of the distance
        ``orthonormal``, valid, and attains nine tenths of it, at some times the cost of a step
        ``none``: not the distance, which then has no finite estimate unless the output is bounded
    gradient_penalty_weight: of the term added to the critic's loss
    unimodal_dims, part_dims: accepted for the common call, not read: the measure is a function of Z

    Pearson's divergence grows with e^{2v}. Read off a logistic critic in ±8, one overconfident row would pull at the encoder up
    to 2e¹⁶ times as hard as another, so it needs ±4 there, where rows pull about as hard as at KL in ±8; trained on its bound,
    with T in ±8, five times at most.

    The defaults are for kl and f: a plain critic, because Table 4's dropout and sigmoid leave 0 only after hundreds of steps and
    its values saturate below 1; trained logistically and ended by tanh.
    ``configs/penalty/wasserstein.yaml`` has those of the distance: trained on its bound, linear, under the gradient penalty.

    Raises ValueError on an unknown name, a number out of its range, a training or a divergence that the measure does not offer, or
    Pearson's divergence of an unbounded log p/q.

    >>> import torch
    >>> from mdm.penalties.base import View
    >>> from mdm.types import Fusion
    >>> rows = torch.randn(64, 3)
    >>> joint = Fusion(torch.zeros(64, 1), rows, {"language": rows, "audio": rows[:, :2]})
    >>> view = View(joint, product=joint[torch.randperm(64)], label=torch.zeros(64, 1))
    >>> kl = Dependency(z_dim=3, weight=0.1, shifts=1)
    >>> list(kl.estimate(view)), kl.critic_loss(view).shape
    (['estimate'], torch.Size([]))
    """

    lowers = False
    bound_from = "below"

    log_average: Tensor

    def __init__(
        self,
        z_dim: int,
        weight: float,
        unimodal_dims: dict[str, Size] | None = None,
        part_dims: dict[str, Size] | None = None,
        measure: Measure = "kl",
        divergence: estimators.DivergenceName = "kl",
        critic: Architecture = "plain",
        output: Output = "tanh",
        lipschitz: Lipschitz = "none",
        training: Training = "logistic",
        ema_rate: float = 0.01,
        shifts: Size = 1,
        gradient_penalty_weight: float = 10.0,
        hidden: Size = 128,
        dropout: Share = 0.4,
        bound: float = 8.0,
        noise: float = 0.0,
        normalize: bool = True,
    ):
        super().__init__(weight)
        for name, value, options in (
            ("measure", measure, Measure),
            ("divergence", divergence, estimators.DivergenceName),
            ("critic", critic, Architecture),
            ("output", output, Output),
            ("lipschitz", lipschitz, Lipschitz),
            ("training", training, Training),
        ):
            require_option(name, value, options)
        if training not in TRAININGS[measure]:
            raise ValueError(
                "A critic trains on its own bound, or logistically if the measure is a function of log p/q (kl, f), or by ema if "
                f"it is kl, got training={training!r} with measure={measure!r}; set penalty.objective.training."
            )
        if divergence != "kl" and measure != "f":
            raise ValueError(
                f"Only measure=f has other divergences than kl, got {divergence!r} with measure={measure!r}; set "
                "penalty.objective.divergence."
            )
        if divergence == "pearson" and training == "logistic" and (output == "linear" or (output == "tanh" and bound > 4)):
            raise ValueError(
                "Pearson's divergence of a logistic critic grows with the square of p/q, so it needs output=tanh and bound <= 4, "
                f"got output={output!r} and bound={bound}; set penalty.objective.bound=4, or penalty.objective.training=bound."
            )
        if not 0 < ema_rate < 1 or shifts < 1 or not 0 < gradient_penalty_weight < math.inf:
            raise ValueError(
                "A dependency penalty needs 0 < ema_rate < 1, shifts >= 1 and gradient_penalty_weight > 0, got "
                f"ema_rate={ema_rate}, shifts={shifts} and gradient_penalty_weight={gradient_penalty_weight}; set "
                "penalty.objective.*."
            )
        self.fit, self.ema_rate, self.products = training, ema_rate, shifts
        self.lipschitz, self.gradient_penalty_weight = lipschitz, gradient_penalty_weight
        self.read_out = _read_out(measure, divergence, training)
        maps = MAPS.get(lipschitz, "free")
        self.critic = Critic(z_dim, critic, output, hidden, dropout, bound, noise, normalize, maps)
        if training == "ema":
            # log of the average over no batch
            self.register_buffer("log_average", torch.tensor(-math.inf))

    def estimate(self, view: View) -> dict[str, Float[Tensor, ""]]:
        return {"estimate": self.read_out(*self._values(view)[:2])}

    def forward(self, view: View) -> dict[str, Float[Tensor, ""]]:
        return {"term": -self.weight * self.read_out(*self._values(view)[:2])}

    def critic_loss(self, view: View) -> Float[Tensor, ""]:
        if self.training and self.lipschitz == "orthonormal":
            self.critic.tighten()
        joint, product, prepared = self._values(view)
        if self.fit == "logistic":
            loss = estimators.logistic_loss(joint, product)
        elif self.fit == "ema":
            loss = -self._at_average(joint, product)
        else:
            loss = -self.read_out(joint, product)
        if self.lipschitz == "gradient_penalty":
            loss = loss + self.gradient_penalty_weight * gradient_penalty(
                self.critic, prepared[: len(joint)], prepared[len(joint) :]
            )
        return loss

    def score(self, view: View) -> Float[Tensor, " batch"]:
        """T_θ of each joint row: high where the modalities belong together (Colombo et al., 2021, Section 5.4); in evaluation mode.

        In units of the training: log p/q (logistic), that and any constant (kl), 1 + log p/q (f: kl on its bound), 2(p/q − 1)
        (f: pearson on its bound), log p/q (f: the other divergences), the potential (wasserstein).
        """
        return self.critic(view.joint.z)

    def _values(self, view: View) -> tuple[Float[Tensor, " n"], Float[Tensor, " m"], Float[Tensor, "n+m dim"]]:
        """T of joint and of product rows, and all rows as T reads them."""
        assert view.product is not None, "the learner gives product rows to a penalty that needs them"
        # One call for both, so that dropout and spectral norm treat them alike.
        prepared = self.critic.prepare(torch.cat([view.joint.z, view.product.z]))
        values = self.critic.score(prepared)
        return values[: len(view.joint.z)], values[len(view.joint.z) :], prepared

    def _at_average(self, joint: Float[Tensor, " n"], product: Float[Tensor, " m"]) -> Float[Tensor, ""]:
        """E_P[T] − (log a + E_Q[e^T]/a − 1) ≤ DV, by log u ≤ log a + u/a − 1; a, a constant, is the average with this batch.

        The average changes in training mode only.
        """
        batch = torch.logsumexp(product, 0) - math.log(len(product))
        with torch.no_grad():
            average = torch.where(torch.isinf(self.log_average), batch, self.log_average)
            if self.training:
                average = torch.logaddexp(average + math.log1p(-self.ema_rate), batch + math.log(self.ema_rate))
                self.log_average.copy_(average)
        return joint.mean() - (average + torch.exp(batch - average) - 1)


def _read_out(measure: Measure, divergence: estimators.DivergenceName, training: Training) -> Callable[[Tensor, Tensor], Tensor]:
    """The bound as a function of the critic's values on joint and product rows."""
    if measure == "kl":
        return estimators.donsker_varadhan
    if measure == "wasserstein":
        return estimators.kantorovich_rubinstein
    if training == "bound" and divergence == "kl":
        return estimators.nwj
    log_ratio = training == "logistic" or divergence != "pearson"
    return partial(estimators.f_divergence, divergence=divergence, log_ratio=log_ratio)
