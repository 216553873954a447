"""Stage two, backbone: PMR, progressive modality reinforcement (Lv, Chen, Huang, Duan, Lin, CVPR 2021); our reading.

Modalities exchange what they know through a common message hub C, at first all of their projected steps one after the other. In
each layer every modality reads the hub, and the hub reads every modality:

    X_m ← MRU(X_m, C),    C_m = MRU(C, X_m),    C ← FF(Σ_m e_m C_m),    e = softmax_m(wᵀ tanh(W C_m + b)) at each step of C
    MRU(X, Y) = X' + FF(X'),    X' = g∘(X + Attention(LN X, LN Y)) + (1 − g)∘X,    g = σ(W_g [X; X + Attention] + b_g)

In the end a transformer reads [C; all X_m]. Z is its mean over the real steps of the hub, followed by a residual block and a linear
map. The unimodal representations are the means of the projected sequences.

From summaries: neither the paper's text nor official code was at hand. Assumed are the form of the gate g, the paper's filter of
what is reinforced (``gate=none`` leaves it out); that each pair, direction and layer has weights of its own; that weights e are one
for each step; positions; masks (of padding alone); and where Z is read (re-implementations take the last step of
[C; X_l; X_v; X_a], which is audio's).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdm.backbones.base import Backbone
from mdm.backbones.layers import expand_option, masked_mean
from mdm.backbones.mult import CrossModal, Layer, Projection, Reach, ResidualHead, add_positions, find_reach
from mdm.hints import Depth, Range, Share, Size, require_option
from mdm.types import Batch, DataSpec, Encoded, Fusion, Sequence

Gate = Literal["sigmoid", "none"]


class PMR(Backbone):
    """PMR.

    dim, heads: width of all sequences (40 in re-implementations), and of how many attention heads
    layers: of exchange; 0: one transformer reads all modalities one after the other
    memory_layers: of that transformer
    kernel: steps that the projections see, one odd number for all, or modality → number (3, 5 and 3 in re-implementations)
    gate: ``sigmoid`` (our reading of the paper's filter) or ``none``
    attention_dropout, relu_dropout, residual_dropout, embedding_dropout, output_dropout: as in `MulT`
    embedding_dim: width of the trainable word embedding, where the text is words

    Raises ValueError with one modality, if heads do not divide dim, and on options out of range or unknown.

    >>> from mdm.types import Feature
    >>> spec = DataSpec({"audio": Feature(5), "video": Feature(4)}, ("y",), (-3.0, 3.0), (0.0,), aligned=False)
    >>> PMR(spec, dim=8).unimodal_dims
    {'audio': 8, 'video': 8}
    """

    def __init__(
        self,
        spec: DataSpec,
        dim: Size = 20,
        heads: Size = 2,
        layers: Annotated[int, Range(0, 1_000)] = 1,
        memory_layers: Depth = 1,
        kernel: Size | Mapping[str, Size] = 1,
        gate: Gate = "sigmoid",
        attention_dropout: Share = 0.0,
        relu_dropout: Share = 0.0,
        residual_dropout: Share = 0.1,
        embedding_dropout: Share = 0.1,
        output_dropout: Share = 0.1,
        embedding_dim: Size = 64,
    ):
        super().__init__()
        require_option("gate", gate, Gate)
        modalities = spec.modalities
        if len(modalities) < 2:
            raise ValueError(f"PMR needs two modalities, to exchange what they know, but the data have only {modalities[0]}.")
        kernels = expand_option("kernel", kernel, modalities)
        if dim % heads or any(k % 2 == 0 for k in kernels.values()):
            raise ValueError(
                f"PMR needs heads that divide dim and odd kernels, got dim={dim}, heads={heads}, kernel={kernels}; set "
                "model.backbone.*."
            )
        rates = attention_dropout, relu_dropout, residual_dropout
        self.project = nn.ModuleDict({m: Projection(f, embedding_dim, dim, kernels[m], 0.0) for m, f in spec.features.items()})
        self.dropout = nn.Dropout(embedding_dropout)

        def make_units() -> nn.ModuleDict:
            return nn.ModuleDict({m: Reinforcement(Layer(dim, heads, *rates), dim, gate == "sigmoid") for m in modalities})

        self.inward = nn.ModuleList([make_units() for _ in range(layers)])
        self.outward = nn.ModuleList([make_units() for _ in range(layers)])
        self.mixing = nn.ModuleList([Mixing(dim, residual_dropout) for _ in range(layers)])
        self.memory = CrossModal(nn.ModuleList([Layer(dim, heads, *rates) for _ in range(memory_layers)]), dim, embedding_dropout)
        self.unimodal_dims = dict.fromkeys(modalities, dim)
        self.z_dim = dim
        self.head = ResidualHead(dim, output_dropout, spec)

    def encode(self, batch: Batch) -> Encoded:
        return {m: {"steps": project(batch.sequences[m])} for m, project in self.project.items()}

    def fuse(self, encoded: Encoded) -> Fusion:
        steps: dict[str, Sequence] = {m: encoded[m]["steps"] for m in self.project}
        x = {m: Sequence(self.dropout(add_positions(s.values)), s.mask) for m, s in steps.items()}
        hub = join_in_time(list(x.values()))
        exchanges: Any = zip(self.inward, self.outward, self.mixing, strict=True)
        for inward, outward, mix in exchanges:
            x = {m: Sequence(unit(x[m], hub), x[m].mask) for m, unit in inward.items()}
            hub = Sequence(mix(torch.stack([unit(hub, x[m]) for m, unit in outward.items()])), hub.mask)
        whole = join_in_time([hub, *x.values()] if self.mixing else [hub])
        read = self.memory(hub.values, whole.values, attend_to(hub, whole))
        z = masked_mean(Sequence(read, hub.mask))
        return Fusion(self.head(z), z, {m: masked_mean(s) for m, s in steps.items()})


def join_in_time(parts: list[Sequence]) -> Sequence:
    """One sequence after the other; padding may stand between them."""
    return Sequence(torch.cat([s.values for s in parts], dim=1), torch.cat([s.mask for s in parts], dim=1))


def attend_to(target: Sequence, source: Sequence) -> Reach:
    """All real steps of the source, wherever they stand."""
    return find_reach(target, source, future_mask=False)


class Reinforcement(nn.Module):
    """MRU: a target that has read a source, as much as its gate lets pass."""

    def __init__(self, layer: Layer, dim: int, gated: bool):
        super().__init__()
        self.layer, self.gate = layer, nn.Linear(2 * dim, dim) if gated else None

    def forward(self, target: Sequence, source: Sequence) -> Float[Tensor, "batch time dim"]:
        x = target.values
        reinforced = x + self.layer.dropout(self.layer.read(x, source.values, attend_to(target, source)))
        if self.gate is not None:
            g = self.gate(torch.cat([x, reinforced], dim=2)).sigmoid()
            reinforced = g * reinforced + (1 - g) * x
        return reinforced + self.layer.dropout(self.layer.feed_forward(reinforced))


class Mixing(nn.Module):
    """The C_m, stacked, → C: at each step weighed by a softmax over m, then x + W₂·ReLU(W₁·LN x)."""

    def __init__(self, dim: int, dropout: float):
        super().__init__()
        self.score = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, 1, bias=False))
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.ReLU(), nn.Linear(4 * dim, dim), nn.Dropout(dropout)
        )

    def weigh(self, hubs: Float[Tensor, "modality batch time dim"]) -> Float[Tensor, "batch time dim"]:
        """Σ_m e_m C_m."""
        return (self.score(hubs).softmax(0) * hubs).sum(0)

    def forward(self, hubs: Float[Tensor, "modality batch time dim"]) -> Float[Tensor, "batch time dim"]:
        x = self.weigh(hubs)
        return x + self.feed_forward(x)
