"""Stage two, backbone: ALMT, the adaptive language-guided multimodal transformer (Zhang, Wang, Yin, Liu, Liu, Yu, EMNLP 2023).

A transformer of each modality has n tokens of its own in front of the steps and gives what these have read, h_m [n, dim].
Language goes through further layers, whose states guide what a *hyper* representation takes from the other modalities:

    H_0 = h_l + positions,    H_i = Layer_i(H_{i−1})
    y ← LN(y) + W Σ_{m ≠ l} [Attention(Q = LN H_i, K, V = LN h_m)] + b    for i = 0, 1, …

A cross transformer lets the last language state read y, both with one token in front; its own token, after all, is Z, followed by a
linear map. The unimodal representations are the means of the tokens h_m.

The residual is on LN(y), not on y: the authors' code normalises first and adds in place. It has no masks; here padding is masked.
Their number on MOSI is that of the best of 200 epochs by test scores, as the maintainer says; each metric's best seed may differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from mdm.backbones.base import Backbone, require_modalities
from mdm.backbones.layers import expand_option, real_steps_first, regressor
from mdm.backbones.misa import freeze
from mdm.backbones.text import TextEncoder
from mdm.hints import Count, Depth, Share, Size, require_option
from mdm.types import Batch, DataSpec, Encoded, Fusion, Sequence

Start = Literal["normal", "ones"]


class ALMT(Backbone):
    """ALMT.

    text_encoder: of language as words or tokens, a transformer of the family bert, see `TextEncoder`; its pieces are the steps.
        Language as vectors is read as the other modalities are
    freeze_layers: how many of its first layers, with the embeddings, stay as they came
    max_pieces: of a text, the special ones included; null: all that the encoder can read
    dim, tokens: width of all representations (official 128), and of how many tokens each consists (official 8)
    layers, guides: of each modality's transformer (1), and of the hyper representation (official 3; language has one layer less)
    fusion_layers: of the cross transformer (official 2 on MOSI, 4 on MOSEI)
    heads, head_dim: of the transformers (official 8 of 64); those of the hyper representation are dim / heads wide
    feedforward: width of the feed-forward networks (official 128)
    max_steps: positions that are learned, one number for all, or modality → number; later steps share the last one's
    dropout: behind attention and in feed-forward networks (official 0)
    start: of y. ``normal``, standard normal draws (default); ``ones`` (official), of which LN leaves only its bias

    Raises ValueError without language, with language alone, or if heads do not divide dim, and on an unknown start.

    >>> from mdm.types import Feature
    >>> spec = DataSpec({"language": Feature(6), "audio": Feature(5)}, ("y",), (-3.0, 3.0), (0.0,), aligned=False)
    >>> ALMT(spec, dim=16).unimodal_dims
    {'language': 16, 'audio': 16}
    """

    def __init__(
        self,
        spec: DataSpec,
        text_encoder: str = "tiny",
        freeze_layers: Count = 0,
        max_pieces: int | None = None,
        dim: Size = 32,
        tokens: Size = 8,
        layers: Depth = 1,
        guides: Depth = 3,
        fusion_layers: Depth = 2,
        heads: Size = 8,
        head_dim: Size = 16,
        feedforward: Size = 64,
        max_steps: Size | Mapping[str, Size] = 512,
        dropout: Share = 0.0,
        start: Start = "normal",
    ):
        super().__init__()
        require_option("start", start, Start)
        require_modalities(spec, ("language",), "ALMT")
        others = [m for m in spec.modalities if m != "language"]
        tokens_too = [m for m in others if spec.features[m].tokens]
        if not others or tokens_too:
            raise ValueError(
                f"ALMT needs language and at least one other modality of vectors, but the data have {', '.join(spec.modalities)} "
                f"({', '.join(tokens_too) or 'none'} as tokens); set data.modalities, or choose another model."
            )
        if dim % heads:
            raise ValueError(f"heads: expected a divisor of dim={dim}, got {heads}; set model.backbone.heads.")
        text = spec.features["language"].tokens
        self.text = TextEncoder(spec.features["language"], "bert", text_encoder, max_pieces) if text else None
        freeze(self.text, freeze_layers)

        def stack(count: int) -> list[TransformerLayer]:
            return [TransformerLayer(dim, heads, head_dim, feedforward, dropout) for _ in range(count)]

        steps = expand_option("max_steps", max_steps, spec.modalities)
        self.readers = nn.ModuleDict()
        for m, feature in spec.features.items():
            width = self.text.dim if self.text is not None and m == "language" else feature.dim
            self.readers[m] = TokenReader(width, dim, tokens, steps[m], stack(layers))
        self.guide = nn.ModuleList(stack(guides - 1))
        self.guide_positions = nn.Parameter(torch.randn(tokens, dim))
        self.hyper = nn.ModuleList([HyperLayer(dim, heads, others) for _ in range(guides)])
        self.start = nn.Parameter(torch.ones(tokens, dim) if start == "ones" else torch.randn(tokens, dim))
        self.fusion = CrossTransformer(dim, tokens, stack(fusion_layers))
        self.z_dim = dim
        self.unimodal_dims = dict.fromkeys(spec.modalities, dim)
        self.head = regressor(dim, spec)

    def encode(self, batch: Batch) -> Encoded:
        encoded: Encoded = {}
        for m, reader in self.readers.items():
            sequence = batch.sequences[m]
            if self.text is not None and m == "language":
                pieces = self.text.pieces(sequence)
                sequence = Sequence(self.text(pieces).last_hidden_state, pieces.mask)
            encoded[m] = {"tokens": reader(sequence)}
        return encoded

    def fuse(self, encoded: Encoded) -> Fusion:
        tokens = {m: encoded[m]["tokens"] for m in self.readers}
        guide = tokens["language"] + self.guide_positions
        hyper = self.start.expand(len(guide), -1, -1)
        for i, layer in enumerate(self.hyper):
            if i > 0:
                guide = self.guide[i - 1](guide)
            hyper = layer(hyper, guide, tokens)
        z = self.fusion(hyper, guide)
        return Fusion(self.head(z), z, {m: part.mean(1) for m, part in tokens.items()})


class TransformerLayer(nn.Module):
    """x + Attention(LN x, LN' source, LN'' source), then x + W₂·GELU(W₁·LN x); without a source, x reads itself.

    Queries, keys and values have a norm each and no biases; attention is of ``heads`` times ``head_dim``.
    """

    def __init__(self, dim: int, heads: int, head_dim: int, feedforward: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (
            nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, heads * head_dim, bias=False)) for _ in range(3)
        )
        self.out = nn.Sequential(nn.Linear(heads * head_dim, dim), nn.Dropout(dropout))
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Linear(dim, feedforward),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(feedforward, dim),
            nn.Dropout(dropout),
        )

    def forward(
        self,
        x: Float[Tensor, "batch time dim"],
        source: Float[Tensor, "batch source dim"] | None = None,
        mask: Bool[Tensor, "batch source"] | None = None,
    ) -> Float[Tensor, "batch time dim"]:
        source = x if source is None else source
        allowed = None if mask is None else mask[:, None, None, :]
        q, k, v = (split_heads(part, self.heads) for part in (self.query(x), self.key(source), self.value(source)))
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=allowed).transpose(1, 2).flatten(2))
        return x + self.feed_forward(x)


def split_heads(x: Float[Tensor, "batch time width"], heads: int) -> Float[Tensor, "batch heads time head_dim"]:
    """The width in as many parts, each a head's."""
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


class TokenReader(nn.Module):
    """A modality's steps → tokens that have read them, [batch, tokens, dim]; tokens are always real, so absence is a constant."""

    def __init__(self, width: int, dim: int, tokens: int, max_steps: int, layers: list[TransformerLayer]):
        super().__init__()
        self.project = nn.Linear(width, dim)
        self.tokens = nn.Parameter(torch.zeros(tokens, dim))
        self.positions = nn.Parameter(torch.randn(tokens + max_steps, dim))
        self.layers = nn.ModuleList(layers)

    def forward(self, sequence: Sequence) -> Float[Tensor, "batch tokens dim"]:
        sequence = real_steps_first(sequence)
        count = len(self.tokens)
        steps = self.project(sequence.values.masked_fill(~sequence.mask.unsqueeze(2), 0))
        x = torch.cat([self.tokens.expand(len(steps), -1, -1), steps], dim=1)
        mask = F.pad(sequence.mask, (count, 0), value=True)
        x = x + self.positions[torch.arange(x.shape[1], device=x.device).clamp(max=len(self.positions) - 1)]
        for layer in self.layers:
            x = layer(x, mask=mask)
        return x[:, :count]


class HyperLayer(nn.Module):
    """LN(y) + W Σ_m Attention(Q = LN guide, K, V = LN h_m) + b: one query for all modalities, keys and values for each."""

    def __init__(self, dim: int, heads: int, modalities: list[str]):
        super().__init__()
        self.heads = heads
        self.norm, self.guide_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.norms = nn.ModuleDict({m: nn.LayerNorm(dim) for m in modalities})
        self.query = nn.Linear(dim, dim, bias=False)
        self.key_values = nn.ModuleDict({m: nn.Linear(dim, 2 * dim, bias=False) for m in modalities})
        self.out = nn.Linear(dim, dim)

    def forward(
        self, y: Float[Tensor, "batch n dim"], guide: Float[Tensor, "batch n dim"], tokens: dict[str, Tensor]
    ) -> Float[Tensor, "batch n dim"]:
        query = split_heads(self.query(self.guide_norm(guide)), self.heads)
        read: Tensor | float = 0.0
        for m, norm in self.norms.items():
            keys, values = self.key_values[m](norm(tokens[m])).chunk(2, dim=2)
            read = read + F.scaled_dot_product_attention(query, split_heads(keys, self.heads), split_heads(values, self.heads))
        assert isinstance(read, Tensor)
        return self.norm(y) + self.out(read.transpose(1, 2).flatten(2))


class CrossTransformer(nn.Module):
    """A target reads a source, each with a token and learned positions in front → the target's token, [batch, dim]."""

    def __init__(self, dim: int, steps: int, layers: list[TransformerLayer]):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(dim))
        self.source_positions = nn.Parameter(torch.randn(steps + 1, dim))
        self.target_positions = nn.Parameter(torch.randn(steps + 1, dim))
        self.layers = nn.ModuleList(layers)

    def forward(self, source: Float[Tensor, "batch n dim"], target: Float[Tensor, "batch n dim"]) -> Float[Tensor, "batch dim"]:
        token = self.token.expand(len(target), 1, -1)
        source = torch.cat([token, source], dim=1) + self.source_positions
        x = torch.cat([token, target], dim=1) + self.target_positions
        for layer in self.layers:
            x = layer(x, source)
        return x[:, 0]
