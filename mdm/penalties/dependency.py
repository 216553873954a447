"""Stage three, penalty: mutual dependency measures of paper 000, L = L_task − λ·I (Eq. 5).

A critic T_θ tells fused representations Z of real segments from Z̄ of segments whose modalities were re-paired; how well
it can is the estimate of D(p_Z ‖ p_Z̄) ≤ D(joint ‖ product of marginals). Critic and backbone both *raise* it: the
critic to estimate, the backbone to keep what the modalities share.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mdm import estimators
from mdm.penalties.base import Penalty, View
from mdm.penalties.critics import Critic, gradient_penalty

MEASURES = {
    "kl": estimators.donsker_varadhan,
    "f": estimators.nwj,
    "wasserstein": estimators.kantorovich_rubinstein,
}


class Dependency(Penalty):
    """−λ·(estimated dependence between the modalities, read off Z).

    measure: ``kl`` (Donsker–Varadhan), ``f`` (NWJ) or ``wasserstein`` (Kantorovich–Rubinstein)
    critic, output, hidden, dropout, bound, noise, normalize: see `Critic`
    lipschitz: ``gradient_penalty`` (accurate to a few per cent), ``spectral_norm`` (always valid, but plain networks attain half
        of the distance), or ``none``: right for the divergences, whose bound a constraint only loosens, and wrong for a distance
    training: what the critic minimises. ``bound``, minus its own bound; ``logistic`` (kl and f only), the loss of telling joint
        from product rows, whose gradient is bounded for every sample; the bound then only reads the critic out
    gradient_penalty_weight: of the term added to the critic's loss
    unimodal_dims, part_dims: accepted for the common call, not read: the measure is a function of Z

    Defaults are for kl and f: a plain critic, because Table 4's dropout and sigmoid leave 0 only after hundreds of steps and its
    values saturate below 1; trained logistically and ended by tanh, because a critic trained on a bound in minibatches
    diverges once the dependence exceeds about 0.7·log m nats, which an encoder that maximises it soon reaches.
    ``configs/penalty/wasserstein.yaml`` has those of the distance: trained on its bound, linear, under the gradient penalty.

    Raises ValueError on an unknown name or a weight that is not positive.
    """

    products = 1

    def __init__(
        self,
        z_dim: int,
        weight: float,
        unimodal_dims: dict[str, int] | None = None,
        part_dims: dict[str, int] | None = None,
        measure: str = "kl",
        critic: str = "plain",
        output: str = "tanh",
        lipschitz: str = "none",
        training: str = "logistic",
        gradient_penalty_weight: float = 10.0,
        hidden: int = 128,
        dropout: float = 0.4,
        bound: float = 8.0,
        noise: float = 0.0,
        normalize: bool = True,
    ):
        super().__init__(weight)
        if training not in ("bound", "logistic") or (measure == "wasserstein" and training == "logistic"):
            raise ValueError(
                "A critic trains on its own bound, or logistically if the measure is a function of log p/q (kl, f), but "
                f"training={training!r} came with measure={measure!r}; set penalty.objective.training."
            )
        if measure not in MEASURES or lipschitz not in ("gradient_penalty", "spectral_norm", "none"):
            raise ValueError(
                f"A dependency penalty measures {', '.join(MEASURES)} under gradient_penalty, spectral_norm or none, but "
                f"{measure!r} and {lipschitz!r} came; set penalty.objective.measure and penalty.objective.lipschitz."
            )
        self.measure, self.fit, self.lipschitz = measure, training, lipschitz
        self.gradient_penalty_weight = gradient_penalty_weight
        spectral = lipschitz == "spectral_norm"
        self.critic = Critic(z_dim, critic, output, hidden, dropout, bound, noise, normalize, spectral)

    def estimate(self, view: View) -> dict[str, Float[Tensor, ""]]:
        return {"estimate": self._estimate(*_representations(view))}

    def forward(self, view: View) -> dict[str, Float[Tensor, ""]]:
        return {"term": -self.weight * self._estimate(*_representations(view))}

    def critic_loss(self, view: View) -> Float[Tensor, ""]:
        joint, product = _representations(view)
        if self.fit == "logistic":
            values = self.critic(torch.cat([joint, product]))
            loss = estimators.logistic_loss(values[: len(joint)], values[len(joint) :])
        else:
            loss = -self._estimate(joint, product)
        if self.lipschitz == "gradient_penalty":
            loss = loss + self.gradient_penalty_weight * gradient_penalty(self.critic, joint, product)
        return loss

    def score(self, view: View) -> Float[Tensor, " batch"]:
        """T_θ of each joint row: high where the modalities belong together (paper 000, Section 5.4)."""
        return self.critic(view.joint.z)

    def _estimate(self, joint: Tensor, product: Tensor) -> Float[Tensor, ""]:
        # One call for both, so that dropout and spectral norm treat them alike.
        values = self.critic(torch.cat([joint, product]))
        if self.fit == "logistic" and self.measure == "f":
            values = values + 1
        return MEASURES[self.measure](values[: len(joint)], values[len(joint) :])


def _representations(view: View) -> tuple[Tensor, Tensor]:
    assert view.product is not None, "the learner gives product rows to a penalty that needs them"
    return view.joint.z, view.product.z
