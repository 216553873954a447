"""Stage three, penalty: the statistics network T_θ, with the choices that decide what an estimate can mean.

Paper 000 (Table 4) ends T_θ in a sigmoid and never constrains its slope. What that can attain is a fact, not a taste: with
T in [0, 1] Donsker–Varadhan stays ≤ 1, NWJ ≤ 1 − 1/e, and an unconstrained "Wasserstein" is the total variation. Each
choice is therefore a named argument and stands in the record of a run.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm


class Critic(nn.Module):
    """T_θ: [rows, dim] → [rows].

    architecture: ``plain``, dim → hidden → hidden → 1 with LeakyReLU; ``table4``, paper 000's
        d → d/2 → d → d → d/4 → d/4 → 1, LeakyReLU with dropout between
    output: ``linear``; ``tanh``, bound·tanh(·/bound), which keeps estimates and gradients finite and is
        nearly linear for |T| well below the bound; ``sigmoid``, as printed
    noise: standard deviation of Gaussian noise on the normalised input while training. Noise that is independent of the segment
        leaves any bound a bound (data processing) and hides what only identifies a training row: without it a critic and an
        encoder together memorise a fixed training fold
    normalize: layer normalisation of the input, without parameters. A distance scales with its argument, so without it
        maximising Wasserstein only inflates Z; KL and f do not change by it in theory, and train more evenly.
    spectral: spectral norm on every linear map; then T is 1-Lipschitz in its (normalised) input

    Raises ValueError on an unknown name, a number out of its range, or a width too small for table4 or for normalising.
    """

    def __init__(
        self,
        dim: int,
        architecture: str = "plain",
        output: str = "linear",
        hidden: int = 128,
        dropout: float = 0.4,
        bound: float = 8.0,
        noise: float = 0.0,
        normalize: bool = True,
        spectral: bool = False,
    ):
        super().__init__()
        if architecture not in ("plain", "table4") or output not in ("linear", "tanh", "sigmoid"):
            raise ValueError(
                f"A critic is plain or table4 and ends linear, tanh or sigmoid, but {architecture!r} and {output!r} came; set "
                "penalty.objective.critic and penalty.objective.output."
            )
        if architecture == "table4" and dim < 4:
            raise ValueError(f"Table 4's critic has layers of width d/4, so Z needs d >= 4, but d = {dim}; use critic=plain.")
        if hidden < 1 or bound <= 0 or noise < 0 or not 0 <= dropout < 1:
            raise ValueError(
                f"A critic needs hidden >= 1, bound > 0, noise >= 0 and 0 <= dropout < 1, but hidden={hidden}, bound={bound}, "
                f"noise={noise}, dropout={dropout} came; set penalty.objective.*."
            )
        if normalize and dim < 3:
            raise ValueError(
                f"Normalising Z takes two of its dimensions, so it needs d >= 3, but d = {dim}; use a wider Z or "
                "penalty.objective.normalize=false."
            )
        widths = [hidden, hidden] if architecture == "plain" else [dim // 2, dim, dim, dim // 4, dim // 4]
        layers: list[nn.Module] = []
        for before, after in zip([dim, *widths], widths, strict=False):
            layers += [nn.Linear(before, after), nn.LeakyReLU()]
            if architecture == "table4":
                layers.append(nn.Dropout(dropout))
        layers.append(nn.Linear(widths[-1], 1))
        if spectral:
            layers = [spectral_norm(layer) if isinstance(layer, nn.Linear) else layer for layer in layers]
        self.layers = nn.Sequential(*layers)
        self.output, self.bound, self.noise, self.normalize, self.dim = output, bound, noise, normalize, dim

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


def gradient_penalty(
    critic: Critic, joint: Float[Tensor, "n dim"], product: Float[Tensor, "m dim"], slope: float = 1.0
) -> Float[Tensor, ""]:
    """E[(‖∇T(x)‖₂ − slope)²] at random points between joint and product rows (Gulrajani et al. 2017).

    Keeps T close to 1-Lipschitz where it matters; estimates may exceed the truth by some per cent, because the norm
    exceeds 1 by as much. Dropout is switched off: it is not the function that the claim is about.
    """
    n = min(len(joint), len(product))
    a, b = critic.prepare(joint[:n].detach()), critic.prepare(product[:n].detach())
    mix = torch.rand(len(a), 1, device=a.device)
    points = (mix * a + (1 - mix) * b).requires_grad_()
    training = critic.training
    critic.eval()
    try:
        with torch.enable_grad():
            (slopes,) = torch.autograd.grad(critic.score(points).sum(), points, create_graph=True)
    finally:
        critic.train(training)
    return ((slopes.norm(dim=1) - slope) ** 2).mean()
