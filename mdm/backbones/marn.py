"""Stage two, backbone: MARN, the multi-attention recurrent network (Zadeh, Liang, Poria, Vij, Cambria, Morency, AAAI 2018).

Each modality m has a long-short term hybrid memory, an LSTM that also reads the code z of the step before, in which all modalities
are mixed:

    s = W_m x_t + U_m h_{t−1} + V_m z_{t−1} + biases, in parts i, f, o, g; z_0 = 0
    c_t = σ(f)∘c_{t−1} + σ(i)∘tanh(g),    h_t = σ(o)∘tanh(c_t)

The multi-attention block makes the code from h = [h^1; …; h^M] ∈ R^D: K attentions, each a softmax over the D coordinates, weigh K
copies of h; the copies of each modality are reduced together, and a map G of what results is the code:

    a_k = softmax(A_k h),    s_m = C_m [a_1∘h; …; a_K∘h]_m,    z = G [s_1; …; s_M] ∈ R^D

Z = [h_T; z_T], followed by a two-layer head. From the second step on every state depends on all modalities, so the
unimodal representations are what each modality by itself puts into its cells on average, the mean over steps of W_m x_t + b in
the candidate g.

Uncertain: the paper's text was not at hand. Equations are those of reviews of it and of the authors' SDK, which has no G and one
softmax over all K·D numbers; sizes for MOSI are unpublished. A, C_m and G are one linear map each here (the paper calls them deep
networks). The head reads [h_T; z_T]; a re-implementation reads z_T alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdm.backbones.base import Backbone
from mdm.backbones.layers import expand_option, regressor
from mdm.backbones.views import GateInputs, join_views, require_steps_correspond, step_cells
from mdm.hints import Share, Size, require_option
from mdm.types import Batch, DataSpec, Encoded, Fusion

Softmax = Literal["per_attention", "joint"]
Code = Literal["linear", "none"]


class MARN(Backbone):
    """MARN.

    hidden: units of each modality's memory, one number for all, or modality → number
    attentions: K
    reduced: width of s_m, one number for all, or modality → number
    softmax: ``per_attention``, each of the K attentions sums to 1 (the paper); ``joint``, all of them together (the authors' SDK),
        which makes weights smaller by 1/K
    code: ``linear``, z = G [s_m], as wide as h (the paper); ``none``, z = [s_m] (the authors' SDK)
    head, dropout: width of the hidden layer of the head and the dropout behind it
    embedding_dim: width of the trainable word embedding, where the text is words

    Numbers of parameters: Σ_m 4h_m(d_m + h_m + |z| + 3) + (D+1)KD + Σ_m (K h_m + 1)s_m, and with G (Σ s_m + 1)D.

    Raises ValueError on unaligned data (steps must correspond), and on an option out of range or unknown.

    >>> from mdm.types import Feature
    >>> spec = DataSpec({"audio": Feature(5), "video": Feature(4)}, ("y",), (-3.0, 3.0), (0.0,), aligned=True)
    >>> MARN(spec, hidden={"audio": 6, "video": 8}).z_dim
    28
    """

    def __init__(
        self,
        spec: DataSpec,
        hidden: Size | Mapping[str, Size] = 32,
        attentions: Size = 4,
        reduced: Size | Mapping[str, Size] = 16,
        softmax: Softmax = "per_attention",
        code: Code = "linear",
        head: Size = 64,
        dropout: Share = 0.2,
        embedding_dim: Size = 300,
    ):
        super().__init__()
        require_option("softmax", softmax, Softmax)
        require_option("code", code, Code)
        require_steps_correspond(spec, "MARN")
        units, widths = expand_option("hidden", hidden, spec.modalities), expand_option("reduced", reduced, spec.modalities)
        total = sum(units.values())
        self.inputs = nn.ModuleDict({m: GateInputs(f, embedding_dim, units[m]) for m, f in spec.features.items()})
        self.recurrent = nn.ModuleDict({m: nn.Linear(n, 4 * n) for m, n in units.items()})
        self.block = MultiAttention(units, attentions, widths, softmax, code)
        self.from_code = nn.Linear(self.block.dim, 4 * total)
        self.unimodal_dims = units
        self.z_dim = total + self.block.dim
        self.head = nn.Sequential(nn.Linear(self.z_dim, head), nn.ReLU(), nn.Dropout(dropout), regressor(head, spec))

    def encode(self, batch: Batch) -> Encoded:
        return {m: inputs(batch.sequences[m]) for m, inputs in self.inputs.items()}

    def fuse(self, encoded: Encoded) -> Fusion:
        given, there, any_there = join_views([encoded[m]["gates"] for m in self.inputs])
        weight, bias = self._join_recurrent()
        given = given + bias
        weight, code_weight = weight.t(), self.from_code.weight.t()
        h = c = given.new_zeros(len(given), there.shape[2])
        z = given.new_zeros(len(given), self.block.dim)
        for here, cells, any_cell in zip(given.unbind(1), there.unbind(1), any_there.unbind(1), strict=True):
            h, c = step_cells(torch.addmm(torch.addmm(here, h, weight), z, code_weight), h, c, cells)
            z = torch.where(any_cell, self.block(h), z)
        both = torch.cat([h, z], dim=1)
        return Fusion(self.head(both), both, {m: encoded[m]["candidate"] for m in self.inputs})

    def _join_recurrent(self) -> tuple[Float[Tensor, "four_cells cells"], Float[Tensor, " four_cells"]]:
        """The U_m as one matrix for all cells, block diagonal in each gate, and all biases but those of the inputs."""
        layers = list(self.recurrent.values())
        weights = [layer.get_parameter("weight").chunk(4) for layer in layers]
        biases = [layer.get_parameter("bias").chunk(4) for layer in layers]
        weight = torch.cat([torch.block_diag(*gate) for gate in zip(*weights, strict=True)])
        return weight, torch.cat([part for gate in zip(*biases, strict=True) for part in gate]) + self.from_code.bias


class MultiAttention(nn.Module):
    """h [batch, D] → the code z [batch, dim]."""

    def __init__(self, units: dict[str, int], attentions: int, reduced: dict[str, int], softmax: Softmax, code: Code):
        super().__init__()
        total, width = sum(units.values()), sum(reduced.values())
        self.attentions, self.softmax, self.widths = attentions, softmax, list(units.values())
        self.attention = nn.Linear(total, attentions * total)
        self.reduce = nn.ModuleDict({m: nn.Linear(attentions * n, reduced[m]) for m, n in units.items()})
        self.code = nn.Linear(width, total) if code == "linear" else nn.Identity()
        self.dim = total if code == "linear" else width

    def forward(self, h: Float[Tensor, "batch cells"]) -> Float[Tensor, "batch dim"]:
        slices = (self.attend(h) * h.unsqueeze(1)).split(self.widths, dim=2)
        return self.code(torch.cat([reduce(part.flatten(1)) for reduce, part in zip(self.reduce.values(), slices, strict=True)], 1))

    def attend(self, h: Float[Tensor, "batch cells"]) -> Float[Tensor, "batch attentions cells"]:
        """The weights a of each attention."""
        scores = self.attention(h)
        if self.softmax == "joint":
            return scores.softmax(1).unflatten(1, (self.attentions, -1))
        return scores.unflatten(1, (self.attentions, -1)).softmax(2)
