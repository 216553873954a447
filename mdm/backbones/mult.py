"""Stage two, backbone: MulT, the multimodal transformer (Tsai et al., 2019).

Every modality is projected to one width by a convolution over time, then read by every other one: in a cross-modal transformer the
steps of a target attend to the steps of a source, so the modalities need no alignment. What a target has read from all its sources
is laid side by side, and a transformer over the target's own steps (its memory) sums it up in its last step.

Z is [last step of each memory], followed by a residual block and a linear map. From the first cross-modal layer on the modalities
are mixed, so MulT has no representation of a modality alone; here it is the mean over steps of the projected sequence, which is
all that the transformers get to know of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from mdm.backbones.base import Backbone
from mdm.backbones.layers import Steps, at_last_step, expand_option, masked_mean, real_steps_first, regressor
from mdm.backbones.packing import read_by_length
from mdm.hints import Depth, Share, Size, require_option
from mdm.types import Batch, DataSpec, Encoded, Feature, Fusion, Sequence

Positions = Literal["all", "nonzero"]


class MulT(Backbone):
    """MulT for two modalities or more.

    dim, heads: width of the projected modalities, and of how many attention heads; memories are as wide as all that their
        modality has read, (number of modalities − 1)·dim
    layers, memory_layers: of each cross-modal transformer and of each memory (official: 5 and as many, but never fewer than 3)
    kernel: steps that a convolution sees, one odd number for all, or modality → number (official 1, the paper 1 or 3)
    attention_dropout: of the weights in cross-modal transformers, one number for all, or *source* modality → number; only 0 runs
        attention fused on a CPU, which at 375 steps is more than twice as fast
    memory_dropout: of the attention weights in memories (official: that of language)
    relu_dropout, residual_dropout: inside and behind each feed-forward network; the latter behind each attention, too
    embedding_dropout: on what enters a transformer, of its target and of its source
    language_dropout: on the words' vectors, before their projection
    output_dropout: in the residual block of the head
    future_mask: whether step i of n may read only steps j ≤ i + |n − n'| of a source of n' (official), so that in aligned data
        no step reads a later one
    embedding_dim: width of the trainable word embedding, where the text is words
    positions: ``all`` steps have theirs (default); ``nonzero``, those whose first number, as it comes to a transformer, is not
        exactly 0, as in official code, so that steps of zeros have none

    Official code has no masks: real steps attend to padding, and Z is read at the last step of the padded length, which is a
    real one because its files pad in front, to the longest segment of the data (data.padding=official). By default the padded
    length is that of the batch, so without masks a prediction would depend on its neighbours. Padding is then masked
    everywhere, positions count from a segment's first step, the lengths in the future mask are a segment's own, and Z is read
    at its last step. Convolutions keep the length (official code shortens it by kernel − 1). Keys and values share one draw of
    dropout.

    Raises ValueError with one modality, and on numbers out of range.

    >>> from mdm.data.splits import Splits
    >>> from mdm.data.synthetic import synthetic
    >>> splits = Splits(synthetic(train=16, valid=4, test=4), batch_size=8)
    >>> batch = next(iter(splits.valid()))
    >>> model = MulT(splits.spec, dim=8)
    >>> model.z_dim, model(batch).prediction.shape
    (48, torch.Size([4, 1]))
    """

    def __init__(
        self,
        spec: DataSpec,
        dim: Size = 20,
        heads: Size = 2,
        layers: Depth = 1,
        memory_layers: Depth = 1,
        kernel: Size | Mapping[str, Size] = 1,
        attention_dropout: Share | Mapping[str, Share] = 0.0,
        memory_dropout: Share = 0.0,
        relu_dropout: Share = 0.0,
        residual_dropout: Share = 0.1,
        embedding_dropout: Share = 0.1,
        language_dropout: Share = 0.1,
        output_dropout: Share = 0.1,
        future_mask: bool = True,
        embedding_dim: Size = 300,
        positions: Positions = "all",
    ):
        super().__init__()
        modalities = spec.modalities
        kernels = expand_option("kernel", kernel, modalities)
        dropouts = expand_option("attention_dropout", attention_dropout, modalities)
        if len(modalities) < 2:
            raise ValueError(
                f"MulT needs two modalities, one to read the other, but the data have only {modalities[0]}; choose data with more, "
                "or another model."
            )
        if min(dim, heads, layers, memory_layers) < 1 or dim % heads or any(k < 1 or k % 2 == 0 for k in kernels.values()):
            raise ValueError(
                "MulT needs dim, heads, layers, memory_layers >= 1, heads that divide dim, and odd kernels, in whose middle a step "
                f"stays, but dim={dim}, heads={heads}, layers={layers}, memory_layers={memory_layers}, kernel={kernels} came; "
                "set model.backbone.*."
            )
        require_option("positions", positions, Positions)
        self.future_mask, self.positions = future_mask, positions
        self.sources = {m: [s for s in modalities if s != m] for m in modalities}
        width = (len(modalities) - 1) * dim
        self.z_dim = len(modalities) * width
        self.unimodal_dims = dict.fromkeys(modalities, dim)
        self.project = nn.ModuleDict(
            {
                m: Projection(feature, embedding_dim, dim, kernels[m], language_dropout if m == "language" else 0.0)
                for m, feature in spec.features.items()
            }
        )

        def stack(width: int, layers: int, attention: float) -> nn.ModuleList:
            return nn.ModuleList([Layer(width, heads, attention, relu_dropout, residual_dropout) for _ in range(layers)])

        pairs = [(m, s) for m, sources in self.sources.items() for s in sources]
        self.cross = nn.ModuleDict(
            {f"{m}_{s}": CrossModal(stack(dim, layers, dropouts[s]), dim, embedding_dropout) for m, s in pairs}
        )
        self.memory = nn.ModuleDict(
            {m: Memory(stack(width, memory_layers, memory_dropout), width, embedding_dropout) for m in modalities}
        )
        self.head = ResidualHead(self.z_dim, output_dropout, spec)

    def encode(self, batch: Batch) -> Encoded:
        return {m: {"steps": project(batch.sequences[m])} for m, project in self.project.items()}

    def fuse(self, encoded: Encoded) -> Fusion:
        found = read_by_length(self._read, {m: encoded[m]["steps"] for m in self.project})
        z = found.pop("z")
        return Fusion(self.head(z), z, found)

    def _read(self, steps: dict[str, Sequence]) -> dict[str, Tensor]:
        """Z, and the unimodal representations."""
        placed = {m: add_positions(s.values, self.positions) for m, s in steps.items()}
        memories = []
        for m, sources in self.sources.items():
            read = [self.cross[f"{m}_{s}"](placed[m], placed[s], find_reach(steps[m], steps[s], self.future_mask)) for s in sources]
            memories.append(self.memory[m](Sequence(torch.cat(read, dim=2), steps[m].mask), self.future_mask, self.positions))
        return {"z": torch.cat(memories, dim=1), **{m: masked_mean(s) for m, s in steps.items()}}


class Projection(nn.Module):
    """Dropout → convolution over the real steps, without bias: a modality → [batch, time, dim], padding behind and zero."""

    def __init__(self, feature: Feature, embedding_dim: int, dim: int, kernel: int, dropout: float):
        super().__init__()
        self.steps = Steps(feature, embedding_dim)
        self.dropout = nn.Dropout(dropout)
        self.conv = nn.Conv1d(self.steps.dim, dim, kernel, padding=kernel // 2, bias=False)

    def forward(self, sequence: Sequence) -> Sequence:
        sequence = real_steps_first(self.steps(sequence))
        padding = ~sequence.mask.unsqueeze(2)
        # Steps beside the ends see zeros, as they do beside the ends of the tensor.
        values = self.dropout(sequence.values.masked_fill(padding, 0))
        return Sequence(self.conv(values.transpose(1, 2)).transpose(1, 2).masked_fill(padding, 0), sequence.mask)


class ResidualHead(nn.Module):
    """Z → A·(Z + W₂·Drop(ReLU(W₁·Z)))."""

    def __init__(self, dim: int, dropout: float, spec: DataSpec):
        super().__init__()
        self.residual = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim, dim))
        self.out = regressor(dim, spec)

    def forward(self, z: Float[Tensor, "batch d"]) -> Float[Tensor, "batch targets"]:
        return self.out(z + self.residual(z))


# ---- what a step may read


@dataclass(frozen=True)
class Reach:
    """Which steps of a source each step of a target attends to.

    allowed: [batch, 1, target, source]; at least one per target step, so that no softmax is empty
    there: [batch, 1, 1], 1 where there is a source at all, else 0
    """

    allowed: Bool[Tensor, "batch 1 target source"]
    there: Float[Tensor, "batch 1 1"]


def find_reach(target: Sequence, source: Sequence, future_mask: bool) -> Reach:
    """Real steps of the source; with ``future_mask`` for step i only those j ≤ i + |n − n'|. Real steps must come first."""
    allowed = source.mask[:, None, :]
    if future_mask:
        i = torch.arange(target.mask.shape[1], device=allowed.device)[:, None]
        j = torch.arange(source.mask.shape[1], device=allowed.device)
        allowed = allowed & (j <= i + (target.lengths - source.lengths).abs()[:, None, None])
    else:
        allowed = allowed.expand(-1, target.mask.shape[1], -1)
    there = source.mask.any(1)[:, None, None]
    return Reach((allowed | ~there).unsqueeze(1), there.to(source.values.dtype))


def add_positions(values: Float[Tensor, "batch time dim"], positions: Positions = "all") -> Float[Tensor, "batch time dim"]:
    """√dim·x_t + P_t for t = 1, 2, …; P_t are the sines of t·10000^(−i / (dim/2 − 1)) for i = 0 … dim/2 − 1, then their cosines.

    With ``positions=nonzero`` P_t is 0 where the first number of x_t is.
    """
    time, dim = values.shape[1:]
    half = dim // 2
    rate = torch.exp(torch.arange(half, device=values.device) * (-math.log(10000.0) / max(half - 1, 1)))
    angle = torch.arange(1, time + 1, device=values.device)[:, None] * rate
    place = F.pad(torch.cat([angle.sin(), angle.cos()], dim=1), (0, dim - 2 * half))
    place = place.to(values.dtype)
    if positions == "nonzero":
        return math.sqrt(dim) * values + place * (values[:, :, :1] != 0)
    return math.sqrt(dim) * values + place


# ---- transformers


class CrossModal(nn.Module):
    """A target reads a source, both with their positions. All layers read the source as low-level as it came."""

    def __init__(self, layers: nn.ModuleList, dim: int, dropout: float):
        super().__init__()
        self.dropout, self.layers, self.norm = nn.Dropout(dropout), layers, nn.LayerNorm(dim)

    def forward(
        self, target: Float[Tensor, "batch target dim"], source: Float[Tensor, "batch source dim"], reach: Reach
    ) -> Float[Tensor, "batch target dim"]:
        x, source = self.dropout(target), self.dropout(source)
        for layer in self.layers:
            x = layer(x, source, reach)
        return self.norm(x)


class Memory(nn.Module):
    """The last real step of a sequence that has read itself; zero where there is none. Real steps must come first.

    Of the last layer only that step is computed: nothing reads the others.
    """

    def __init__(self, layers: nn.ModuleList, dim: int, dropout: float):
        super().__init__()
        self.dropout, self.layers, self.norm = nn.Dropout(dropout), layers, nn.LayerNorm(dim)

    def forward(self, sequence: Sequence, future_mask: bool, positions: Positions) -> Float[Tensor, "batch dim"]:
        x = self.dropout(add_positions(sequence.values, positions))
        for layer in self.layers[:-1]:
            x = layer(x, x, find_reach(sequence, sequence, future_mask))
        # The last step may read all real ones, with or without a future mask.
        last = at_last_step(Sequence(x, sequence.mask)).unsqueeze(1)
        there = sequence.mask.any(1, keepdim=True)
        among = find_reach(Sequence(last, there), sequence, future_mask=False)
        return self.norm(self.layers[-1](last, x, among)).squeeze(1) * there


class Layer(nn.Module):
    """x + Attention(LN x, LN source), then x + W₂·ReLU(W₁·LN' x); one LN for target and source, as in the official code."""

    def __init__(self, dim: int, heads: int, attention: float, relu: float, residual: float):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        self.attention_dropout = nn.Dropout(attention)
        self.dropout = nn.Dropout(residual)
        wide, narrow = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.feed_forward = nn.Sequential(nn.LayerNorm(dim), wide, nn.ReLU(), nn.Dropout(relu), narrow)
        for linear in (self.query, self.key_value, self.out, wide, narrow):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        # Queries, keys and values are one matrix of 3·dim rows in the official code, which sets how wide they begin.
        for linear in (self.query, self.key_value):
            nn.init.uniform_(linear.weight, -math.sqrt(1.5 / dim), math.sqrt(1.5 / dim))

    def forward(
        self, x: Float[Tensor, "batch target dim"], source: Float[Tensor, "batch source dim"], reach: Reach
    ) -> Float[Tensor, "batch target dim"]:
        x = x + self.dropout(self.read(x, source, reach))
        return x + self.dropout(self.feed_forward(x))

    def read(
        self, x: Float[Tensor, "batch target dim"], source: Float[Tensor, "batch source dim"], reach: Reach
    ) -> Float[Tensor, "batch target dim"]:
        """Attention(LN x, LN source) alone."""
        normed = self.norm(x)
        keys, values = self.key_value(normed if source is x else self.norm(source)).chunk(2, dim=2)
        # [batch, time, dim] → [batch, heads, time, dim / heads]
        q, k, v = (each.unflatten(2, (self.heads, -1)).transpose(1, 2) for each in (self.query(normed), keys, values))
        dropout = self.attention_dropout.p if self.training else 0.0
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=reach.allowed, dropout_p=dropout)
        return self.out(read.transpose(1, 2).flatten(2) * reach.there)
