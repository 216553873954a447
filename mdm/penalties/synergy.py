"""Stage three, penalty: synergy, the C-network of Shankar (2022, section 4.1, appendix D). All three parts are *lowered*.

    l2         what a modality's representation keeps to itself: the error of predicting Z_i from the others
    alignment  distance of the laws of Z_i and of Z, both projected at random to k numbers: MMD² or KL
    kurtosis   Mardia's, of every Z_i and of Z, relative to a moving covariance

Shankar (2022) has no code in public. As printed each part has a way to 0 (or to nothing) that is not the one meant;
``mode=literal`` keeps these forms, and the tests show what happens to them. The corrected ones look at representations whose
columns are standardised over the batch by statistics that carry gradient, so nothing is won by shrinking or shifting them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdm import estimators
from mdm.hints import Size, require_option
from mdm.penalties.base import Penalty, View
from mdm.penalties.cnetwork import (
    Coupling,
    Mlps,
    Moments,
    Predictors,
    PrintedMoments,
    paired_mmd2,
    printed_kl,
    printed_mmd,
    random_projections,
)
from mdm.penalties.critics import Critic
from mdm.penalties.pairs import pad_columns, standardize_columns

Divergence = Literal["mmd", "kl"]
Map = Literal["identity", "coupling", "mlp"]
Variables = Literal["all", "fused"]
Mode = Literal["corrected", "literal"]

FACTORS = (0.25, 1.0, 4.0)
"""The kernel's scales, as multiples of the median squared distance."""


class Synergy(Penalty):
    """+λ·(γ_L2·L_L2 + γ_d·L_d + γ_κ·L_κ), each a mean over the modalities (or variables), near 1 or 0 where there is nothing.

    L_L2 = E‖Q_i(Z_{−i}) − Z_i‖²/d_i, the share of variance that a four-layer network Q_i does not predict. Q_i is the critic and
        minimises the same
    L_d = d(p(g_i(R_i Z_i)), p(g_i(R Z))) with fixed projections R_i, R and one map g_i for both
    L_κ = κ/(p(p+2)), 1 for a Gaussian, see `Moments`

    l2, alignment, kurtosis: γ_L2, γ_d, γ_κ ≥ 0, of which the paper names none. A part with 0 is not built (its Table 5 has each
        alone). γ_κ = 1 costs LMF 0.03 of MAE on the synthetic default at λ = 0.1 (three seeds), 0.1 nothing that three seeds show
    divergence: ``mmd``, unbiased, at three scales about the median distance, see `paired_mmd2`. ``kl``, by a critic T that is
        trained to tell Z_i from Z (logistically) and read out by Donsker–Varadhan: a lower bound for a fixed T, and to lower a
        lower bound certifies nothing about the divergence unless T is near its optimum. Validation reports that bound, too
    flip: False, KL(unimodal‖fused) as printed; True, the other direction. MMD has none
    g: ``identity`` (default): MMD with a Gaussian kernel is 0 only for equal laws of R_i Z_i and R Z already, and KL is
        unchanged by any invertible map, so there is nothing that a map would have to add, and it has no way to cheat. ``coupling``,
        an invertible network that *raises* the MMD, as in MMD-GAN. ``mlp``, four square layers with LeakyReLU that lower it, as
        appendices C and D have it: it finds a map whose images agree before the laws do; with it the estimate holds
        ``alignment_identity``, the divergence without the map, and ``spread``, the mean standard deviation of its output.
        null: identity, or mlp in mode literal
    projection: k, or less where a representation is narrower
    detach_targets: whether the Z_i to be predicted is a constant for the backbone
    variables: of the kurtosis. ``all``, every Z_i and Z (section 4.1); ``fused``, Z (appendix D)
    decay, clip, ridge: of the moving covariance, see `Moments`. Shankar (2022) names no values. 0.95 remembers some 1200 rows at
        batch size 32, the training fold of MOSI once, and Z has up to some hundred columns
    hidden: of Q, T (twice as many) and the couplings
    bound: T ends in bound·tanh(·/bound)
    mode: ``corrected``, or ``literal``: L_L2 summed over rows, columns and modalities of representations as they are; MMD as sums
        of all pairs without 1/n² at a fixed scale, KL read out as E T − E e^T, the supremum of which is KL − 1, T raising that;
        the κ of `PrintedMoments`, where clip and ridge are absolute; each summed over the modalities

    Raises ValueError without representations to work on, if every γ is 0, on unknown names, and numbers out of range.

    >>> import torch
    >>> from mdm.penalties.base import View
    >>> from mdm.types import Fusion
    >>> rows = torch.randn(64, 3)
    >>> joint = Fusion(torch.zeros(64, 1), rows, {"language": rows, "audio": rows[:, :2]})
    >>> view = View(joint, None, label=torch.zeros(64, 1))
    >>> synergy = Synergy(z_dim=3, weight=0.1, unimodal_dims={"language": 3, "audio": 2})
    >>> sorted(synergy.estimate(view))
    ['alignment', 'kurtosis', 'l2']
    """

    lowers = True

    projections: Tensor
    share: Tensor

    def __init__(
        self,
        z_dim: int,
        weight: float,
        unimodal_dims: Mapping[str, Size],
        part_dims: Mapping[str, Size] | None = None,
        l2: float = 1.0,
        alignment: float = 1.0,
        kurtosis: float = 0.1,
        divergence: Divergence = "mmd",
        flip: bool = False,
        g: Map | None = None,
        projection: Size = 16,
        detach_targets: bool = False,
        variables: Variables = "all",
        decay: float = 0.95,
        clip: float = 3.0,
        ridge: float = 0.05,
        hidden: Size = 64,
        bound: float = 8.0,
        mode: Mode = "corrected",
    ):
        super().__init__(weight)
        gammas = {"l2": l2, "alignment": alignment, "kurtosis": kurtosis}
        if not all(0 <= gamma < float("inf") for gamma in gammas.values()) or not any(gammas.values()):
            raise ValueError(
                "Synergy's l2, alignment and kurtosis are the weights of its parts, >= 0 and one at least > 0, got "
                f"{l2}, {alignment} and {kurtosis}; set these of penalty.objective."
            )
        for name, value, options in (
            ("divergence", divergence, Divergence),
            ("variables", variables, Variables),
            ("mode", mode, Mode),
        ):
            require_option(name, value, options)
        if g is not None:
            require_option("g", g, Map)
        if min(projection, hidden) < 1 or not (clip >= 1 and ridge > 0 and bound > 0 and 0 <= decay < 1):
            raise ValueError(
                "Synergy needs projection >= 1, hidden >= 1, clip >= 1, ridge > 0, bound > 0 and 0 <= decay < 1, got "
                f"projection={projection}, hidden={hidden}, clip={clip}, ridge={ridge}, bound={bound}, decay={decay}; set "
                "these of penalty.objective."
            )
        least = 2 if l2 else 1 if alignment or variables == "all" else 0
        if len(unimodal_dims) < least:
            raise ValueError(
                f"Synergy needs unimodal representations beside Z, {least} or more for these parts, but the model offers "
                f"{', '.join(unimodal_dims) or 'none'}; choose another model, more modalities, or set the weight of a part to 0 "
                "(penalty.objective.l2)."
            )
        self.gammas = {part: gamma for part, gamma in gammas.items() if gamma}
        self.literal, self.divergence, self.flip, self.detach_targets = mode == "literal", divergence, flip, detach_targets
        self.names, self.variables = list(unimodal_dims), variables
        widths = [*unimodal_dims.values(), z_dim]
        m, self.p = len(self.names), max(widths)
        k = min(projection, *widths)
        if l2:
            self.q = Predictors(widths[:-1], self.p, hidden)
            share = torch.tensor([1 / (m * d) for d in widths[:-1]]).view(-1, 1, 1)
            self.register_buffer("share", torch.ones_like(share) if self.literal else share, persistent=False)
        if alignment:
            name = g or ("mlp" if self.literal else "identity")
            if name == "coupling" and (k < 2 or divergence == "kl"):
                raise ValueError(
                    "Coupling takes two numbers at least, and changes nothing about a KL divergence, but the projection has "
                    f"{k} and the divergence is {divergence}; set penalty.objective.g=identity."
                )
            self.register_buffer("projections", random_projections(widths, self.p, k, keep_norm=self.literal))
            self.g_lowers = name == "mlp"
            self.g: nn.Module
            if name == "identity":
                self.g = nn.Identity()
            else:
                self.g = Mlps(m, [k] * 5) if name == "mlp" else Coupling(m, k, hidden)
            if divergence == "kl":
                # One network for all modalities, which is told by k + i which it looks at.
                self.t = Critic(k + m, output="tanh", hidden=2 * hidden, bound=bound, normalize=False)
        if kurtosis:
            of = widths if variables == "all" else [z_dim]
            self.moments = PrintedMoments(of, decay, clip, ridge) if self.literal else Moments(of, decay, clip, ridge)

    def estimate(self, view: View) -> dict[str, Float[Tensor, ""]]:
        """The parts, without their γ. In training mode too, it leaves the moving covariance alone."""
        with torch.autocast(view.joint.z.device.type, enabled=False):
            side_by_side, stacked = self._representations(view)
            values = self._parts(side_by_side, stacked, update=False)
            if "alignment" in values and self.g_lowers:
                x, y = self._mapped(stacked)
                values["spread"] = torch.cat([x, y], 1).std(1, unbiased=False).mean()
                values["alignment_identity"] = self._distance(*self._projected(stacked))
        return values

    def forward(self, view: View) -> dict[str, Float[Tensor, ""]]:
        with torch.autocast(view.joint.z.device.type, enabled=False):
            values = self._parts(*self._representations(view), update=self.training)
        return {f"{part}_term": self.weight * self.gammas[part] * value for part, value in values.items()}

    def critic_loss(self, view: View) -> Float[Tensor, ""]:
        with torch.autocast(view.joint.z.device.type, enabled=False):
            side_by_side, stacked = self._representations(view)
            losses = []
            if "l2" in self.gammas:
                losses.append(self._l2(side_by_side, stacked))
            if "alignment" in self.gammas:
                losses += self._alignment_losses(stacked)
        return torch.stack(losses).sum()

    def _representations(self, view: View) -> tuple[Tensor, Tensor]:
        """Z_i of all modalities and Z, [n, Σ d], and one over the other, [m + 1, n, p]."""
        values = [*(view.joint.unimodal[name] for name in self.names), view.joint.z]
        side_by_side = torch.cat(values, 1).float()
        if not self.literal:
            side_by_side = standardize_columns(side_by_side)
        return side_by_side, pad_columns(side_by_side.split([v.shape[1] for v in values], 1), self.p)

    def _parts(self, side_by_side: Tensor, stacked: Tensor, update: bool) -> dict[str, Float[Tensor, ""]]:
        values = {}
        if "l2" in self.gammas:
            values["l2"] = self._l2(side_by_side, stacked)
        if "alignment" in self.gammas:
            values["alignment"] = self._distance(*self._mapped(stacked))
        if "kurtosis" in self.gammas:
            x = stacked if self.variables == "all" else stacked[-1:, :, : self.moments.scatter.shape[1]]
            values["kurtosis"] = self._over_modalities(self.moments(x, update))
        return values

    def _over_modalities(self, values: Float[Tensor, " v"]) -> Float[Tensor, ""]:
        return values.sum() if self.literal else values.mean()

    def _l2(self, side_by_side: Tensor, stacked: Tensor) -> Float[Tensor, ""]:
        target = stacked[:-1]
        error = self.q(side_by_side[:, : self.q.inputs.shape[2]], target.detach() if self.detach_targets else target)
        error = error * self.share
        return error.sum() if self.literal else error.sum() / error.shape[1]

    # ---- alignment

    def _projected(self, stacked: Float[Tensor, "v n p"]) -> tuple[Float[Tensor, "m n k"], Float[Tensor, "m n k"]]:
        """R_i Z_i and R Z, for each modality."""
        low = stacked @ self.projections
        return low[:-1], low[-1:].expand(len(low) - 1, -1, -1)

    def _mapped(self, stacked: Tensor) -> tuple[Tensor, Tensor]:
        """The same behind g_i."""
        x, y = self._projected(stacked)
        first, second = self.g(torch.cat([x, y], 1)).chunk(2, 1)
        return first, second

    def _distance(self, x: Float[Tensor, "m n k"], y: Float[Tensor, "m n k"]) -> Float[Tensor, ""]:
        if self.divergence == "kl":
            read = printed_kl if self.literal else estimators.donsker_varadhan
            values = torch.stack([read(p, q) for p, q in zip(*self._scores(x, y), strict=True)])
        else:
            values = printed_mmd(x, y) if self.literal else paired_mmd2(x, y, FACTORS)
        return self._over_modalities(values)

    def _scores(self, x: Tensor, y: Tensor) -> tuple[Float[Tensor, "m n"], Float[Tensor, "m n"]]:
        """T on samples of P and of Q, KL(P‖Q)."""
        m, n, _ = x.shape
        rows = torch.cat([x, y], 1)
        which = torch.eye(m, device=x.device).unsqueeze(1).expand(-1, 2 * n, -1)
        values = self.t(torch.cat([rows, which], 2).flatten(0, 1)).view(m, 2, n)
        p, q = values.unbind(1)
        return (q, p) if self.flip else (p, q)

    def _alignment_losses(self, stacked: Tensor) -> list[Float[Tensor, ""]]:
        """What T, which raises its bound, and g minimise."""
        if self.divergence == "mmd":
            if not list(self.g.parameters()):
                return []
            distance = self._distance(*self._mapped(stacked))
            return [distance if self.g_lowers else -distance]
        x, y = self._mapped(stacked)
        if self.g_lowers:
            # The same values with the opposite gradient: what T raises, g lowers.
            x, y = (2 * value.detach() - value for value in (x, y))
        if self.literal:
            return [-self._distance(x, y)]
        p, q = self._scores(x, y)
        return [estimators.logistic_loss(p.flatten(), q.flatten())]
