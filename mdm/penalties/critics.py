"""Stage three, penalty: the statistics network T_θ, with the choices that decide what an estimate can mean.

Colombo et al. (2021, Table 4) end T_θ in a sigmoid and never constrain its slope. What that can attain is a fact, not a taste:
with T in [0, 1] Donsker–Varadhan stays ≤ 1, NWJ ≤ 1 − 1/e, and an unconstrained "Wasserstein" is the total variation. Each
choice is therefore a named argument and stands in the record of a run.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import register_parametrization

from mdm.hints import require_option

Architecture = Literal["plain", "table4"]
Output = Literal["linear", "tanh", "sigmoid"]
Maps = Literal["free", "spectral_norm", "orthonormal"]


class Critic(nn.Module):
    """T_θ: [rows, dim] → [rows].

    architecture: ``plain``, dim → hidden → hidden → 1 with LeakyReLU; ``table4``, Colombo et al.'s (2021)
        d → d/2 → d → d → d/4 → d/4 → 1, LeakyReLU with dropout between
    output: ``linear``; ``tanh``, bound·tanh(·/bound), which keeps estimates and gradients finite and is
        nearly linear for |T| well below the bound; ``sigmoid``, as printed
    noise: standard deviation of Gaussian noise on the normalised input while training. Noise that is independent of the segment
        leaves any bound a bound (data processing) and hides what only identifies a training row: without it a critic and an
        encoder together memorise a fixed training fold
    normalize: layer normalisation of the input, without parameters. A distance scales with its argument, so without it
        maximising Wasserstein only inflates Z; KL and f do not change by it in theory, and train more evenly.
    maps: the linear maps are ``free``; or have ``spectral_norm`` 1 (see `AtMostOne`); or are ``orthonormal`` (see `orthonormal`),
        with MaxMin instead of LeakyReLU. With the last two T is 1-Lipschitz in its (normalised) input in evaluation mode. While
        training, power iteration meets the norm from below and lags behind the optimiser, so that slopes may pass 1 by some
        per cent; and Table 4's dropout rescales what it keeps, so that they reach (1 − dropout)^−5.

    Raises ValueError on an unknown name, a number out of its range, or a width too small for table4 or for normalising.
    """

    def __init__(
        self,
        dim: int,
        architecture: Architecture = "plain",
        output: Output = "linear",
        hidden: int = 128,
        dropout: float = 0.4,
        bound: float = 8.0,
        noise: float = 0.0,
        normalize: bool = True,
        maps: Maps = "free",
    ):
        super().__init__()
        require_option("architecture", architecture, Architecture)
        require_option("output", output, Output)
        require_option("maps", maps, Maps)
        if architecture == "table4" and dim < 4:
            raise ValueError(f"Table 4's critic has layers of width d/4, so Z needs d >= 4, but d = {dim}; use critic=plain.")
        if hidden < 1 or not 0 < bound < float("inf") or not 0 <= noise < float("inf") or not 0 <= dropout < 1:
            raise ValueError(
                f"A critic needs hidden >= 1, bound > 0, noise >= 0 and 0 <= dropout < 1, got hidden={hidden}, bound={bound}, "
                f"noise={noise}, dropout={dropout}; set penalty.objective.*."
            )
        if normalize and dim < 3:
            raise ValueError(
                f"Normalising Z takes two of its dimensions, so it needs d >= 3, but d = {dim}; use a wider Z or "
                "penalty.objective.normalize=false."
            )
        widths = [hidden, hidden] if architecture == "plain" else [dim // 2, dim, dim, dim // 4, dim // 4]
        layers: list[nn.Module] = []
        for before, after in zip([dim, *widths], widths, strict=False):
            layers += [nn.Linear(before, after), MaxMin() if maps == "orthonormal" else nn.LeakyReLU()]
            if architecture == "table4":
                layers.append(nn.Dropout(dropout))
        layers.append(nn.Linear(widths[-1], 1))
        for layer in layers:
            if isinstance(layer, nn.Linear) and maps == "spectral_norm":
                spectral_norm(layer)
                register_parametrization(layer, "weight", AtMostOne())
            elif isinstance(layer, nn.Linear) and maps == "orthonormal":
                nn.init.orthogonal_(layer.weight)
                register_parametrization(layer, "weight", Orthonormal())
        self.layers = nn.Sequential(*layers)
        self.output, self.bound, self.noise, self.normalize, self.dim, self.maps = output, bound, noise, normalize, dim, maps

    def prepare(self, z: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows dim"]:
        """What T reads of a representation: in fp32, normalised if so set, with noise while training."""
        z = z.float()
        if self.normalize:
            z = F.layer_norm(z, (self.dim,))
        return z + self.noise * torch.randn_like(z) if self.training and self.noise > 0 else z

    def score(self, prepared: Float[Tensor, "rows dim"]) -> Float[Tensor, " rows"]:
        """T of a prepared representation; Lipschitz claims are about this map. In fp32: estimates exponentiate it."""
        with torch.autocast(prepared.device.type, enabled=False):
            value = self.layers(prepared).squeeze(1)
        if self.output == "sigmoid":
            return torch.sigmoid(value)
        return self.bound * torch.tanh(value / self.bound) if self.output == "tanh" else value

    def forward(self, z: Float[Tensor, "rows dim"]) -> Float[Tensor, " rows"]:
        return self.score(self.prepare(z))

    def slopes(self, prepared: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows dim"]:
        """∇T at each prepared row, without dropout, for free maps: the chain rule written out.

        The slopes of LeakyReLU are constants in θ almost everywhere, so this needs one backward pass where autograd needs its own
        and one through that; the numbers are the same.
        """
        assert self.maps == "free", "no other maps need a gradient penalty"
        with torch.autocast(prepared.device.type, enabled=False):
            factors: list[Tensor] = []
            # Only a curved output's slope depends on where T is.
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.output != "linear"):
                value = prepared
                for layer in self.layers:
                    if isinstance(layer, nn.LeakyReLU):
                        factors.append(torch.where(value > 0, 1.0, layer.negative_slope))
                    if not isinstance(layer, nn.Dropout):
                        value = layer(value)
            if self.output == "sigmoid":
                slope = torch.sigmoid(value) * torch.sigmoid(-value)
            elif self.output == "tanh":
                slope = 1 - torch.tanh(value / self.bound).square()
            else:
                slope = torch.ones_like(value)
            for layer in reversed(self.layers):
                if isinstance(layer, nn.Linear):
                    slope = slope @ layer.weight
                elif isinstance(layer, nn.LeakyReLU):
                    slope = slope * factors.pop()
        return slope

    @torch.no_grad()
    def tighten(self) -> None:
        """Put orthonormal maps back where the optimiser's steps have led them away from; for no other maps."""
        assert self.maps == "orthonormal", "only orthonormal maps are tightened"
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                layer.parametrizations.weight.original.copy_(layer.weight)  # type: ignore[union-attr, operator]


class AtMostOne(nn.Module):
    """A parametrisation: in evaluation mode W/max(‖W‖₂, 1), by the singular values themselves; while training W as it is.

    Behind power iteration, one round of which for each step of the optimiser leaves ‖W‖₂ some per cent above 1.
    """

    def forward(self, weight: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
        return weight if self.training else weight / torch.linalg.matrix_norm(weight, 2).clamp(min=1)


class MaxMin(nn.Module):
    """max(a, b) and min(a, b) of each of two halves' units (GroupSort of two; Anil et al. 2019); an odd unit stays.

    It permutes its input, so slopes have norm 1, where ReLU and LeakyReLU shrink them.
    """

    def forward(self, x: Float[Tensor, "rows units"]) -> Float[Tensor, "rows units"]:
        half = x.shape[1] // 2
        a, b, odd = x.split((half, half, x.shape[1] - 2 * half), dim=1)
        return torch.cat([torch.maximum(a, b), torch.minimum(a, b), odd], dim=1)


class Orthonormal(nn.Module):
    """A parametrisation: `orthonormal` of the weight that the optimiser moves."""

    def forward(self, weight: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
        return orthonormal(weight)


def orthonormal(weight: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """Towards the nearest matrix with orthonormal rows or columns, whichever are fewer, and never of norm above 1.

    One iteration of Björck and Bowie (1971), W(3I − WᵀW)/2, takes each singular value s to s(3 − s²)/2. That is at most 1 for s in
    [0, √3], and 1 − 3(1 − s)²/2 near 1: a step of Adam at 0.001 moves s by up to 0.015, of which 0.0003 remains. What may exceed
    √2, by s² ≤ ‖WᵀW‖_∞, the largest sum along a row, is scaled below it first; the scale counts as a constant. Exact
    parametrisations (matrix exponential, Cayley, Householder) cost several times as much.
    """
    with torch.autocast(weight.device.type, enabled=False):
        w = weight if weight.shape[0] >= weight.shape[1] else weight.T
        gram = w.T @ w
        square = (gram.detach().abs().sum(1).max() / 2).clamp(min=1)
        w = torch.addmm(w, w, gram / square, beta=1.5, alpha=-0.5) * square.rsqrt()
        return w if weight.shape[0] >= weight.shape[1] else w.T


def gradient_penalty(
    critic: Critic, joint: Float[Tensor, "n dim"], product: Float[Tensor, "m dim"], slope: float = 1.0
) -> Float[Tensor, ""]:
    """E[(‖∇T(x)‖₂ − slope)²] at random points between joint and product rows as T reads them (Gulrajani et al. 2017).

    Keeps T close to 1-Lipschitz where it matters; estimates may exceed the truth by some per cent, because the norm
    exceeds 1 by as much. Dropout is left out: it is not the function that the claim is about.

    joint, product: prepared by the critic; of different numbers of rows, the first of the larger
    """
    n = min(len(joint), len(product))
    a, b = joint[:n].detach(), product[:n].detach()
    mix = torch.rand(n, 1, device=a.device)
    return ((critic.slopes(mix * a + (1 - mix) * b).norm(dim=1) - slope) ** 2).mean()
