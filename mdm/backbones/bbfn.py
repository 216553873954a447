"""Stage two, backbone: BBFN, the bi-bimodal fusion network (Han, Chen, Gelbukh, Zadeh, Morency, Poria, ICMI 2021).

Language and each other modality o go through a stack of layers of their own. In each, both read one another as in MulT, but what
was read and what was there pass gates that are one for all steps of a segment:

    x ← σ(W_f c)∘Attention(LN x, LN x') + σ(W_m c)∘x, then x ← x + FF(x),    c = [enc(x_l); enc(x_o)]

enc is the mean over steps of a linear map in the first layer, of a bidirectional GRU's states in later ones. A discriminator tells
enc(x_l) from enc(x_o); its cross-entropy is minimised by all, so that the two stay apart.

Z is the first step of both sequences of each stack, followed by a residual block and a linear map. The unimodal representations are
the means over steps of the projected sequences.

After the authors' code. Its base class is still called MULTModel, and without its discriminator it reads a variable that is not
there. Padding is masked here. Z of a segment without a modality has zeros in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mdm.backbones.base import Backbone, require_modalities
from mdm.backbones.layers import expand_option, masked_mean, real_steps_first
from mdm.backbones.misa import freeze
from mdm.backbones.mult import Layer, Projection, ResidualHead, add_positions, find_reach
from mdm.backbones.text import TextEncoder, keep_whole, read_steps
from mdm.hints import Count, Depth, Range, Share, Size
from mdm.types import Batch, DataSpec, Encoded, Fusion, Sequence


class BBFN(Backbone):
    """BBFN.

    text_encoder, freeze_layers: of language as words or tokens, see `TextEncoder`, and how many of its first layers stay as they
        came (official 9); its pieces are the steps. Vectors are projected as the other modalities are
    max_pieces: of a text, the special ones included; null: all that the encoder can read
    dim, heads, layers: of both stacks (official 40, 5 and 5)
    kernel: steps that the projection of frames sees, one odd number for all, or modality → number
    attention_dropout, relu_dropout, residual_dropout, output_dropout: as in `MulT`
    discrimination: weight λ of the own term (official .1)

    Raises ValueError without language and another modality of vectors, and on options out of range.

    >>> from mdm.types import Feature
    >>> spec = DataSpec({"language": Feature(6), "audio": Feature(5), "video": Feature(4)}, ("y",), (-3.0, 3.0), (0.0,), False)
    >>> BBFN(spec, dim=40, heads=5).z_dim
    160
    """

    def __init__(
        self,
        spec: DataSpec,
        text_encoder: str = "tiny",
        freeze_layers: Count = 0,
        max_pieces: int | None = 50,
        dim: Size = 20,
        heads: Size = 2,
        layers: Depth = 2,
        kernel: Size | Mapping[str, Size] = 1,
        attention_dropout: Share = 0.0,
        relu_dropout: Share = 0.0,
        residual_dropout: Share = 0.1,
        output_dropout: Share = 0.1,
        discrimination: Annotated[float, Range(0)] = 0.1,
    ):
        super().__init__()
        require_modalities(spec, ("language",), "BBFN")
        self.others = [m for m in spec.modalities if m != "language"]
        tokens = [m for m in self.others if spec.features[m].tokens]
        if not self.others or tokens:
            raise ValueError(
                f"BBFN needs language and at least one other modality of vectors, but the data have {', '.join(spec.modalities)} "
                f"({', '.join(tokens) or 'none'} as tokens); set data.modalities, or choose another model."
            )
        kernels = expand_option("kernel", kernel, spec.modalities)
        if dim % heads or dim % 2 or any(k % 2 == 0 for k in kernels.values()):
            raise ValueError(
                f"BBFN needs an even dim that heads divide and odd kernels, got dim={dim}, heads={heads}, kernel={kernels}; set "
                "model.backbone.*."
            )
        language = spec.features["language"]
        self.modalities, self.discrimination = spec.modalities, discrimination
        self.text = TextEncoder(language, "bert", text_encoder, max_pieces) if language.tokens else None
        freeze(self.text, freeze_layers)
        self.project = nn.ModuleDict()
        for m, feature in spec.features.items():
            if self.text is not None and m == "language":
                self.project[m] = nn.Linear(self.text.dim, dim, bias=False)
            else:
                self.project[m] = Projection(feature, dim, dim, kernels[m], 0.0)

        def make_layer(first: bool) -> Complementation:
            rates = attention_dropout, relu_dropout, residual_dropout
            return Complementation(dim, Layer(dim, heads, *rates), Layer(dim, heads, *rates), first, discrimination > 0)

        self.stacks = nn.ModuleDict({m: nn.ModuleList([make_layer(i == 0) for i in range(layers)]) for m in self.others})
        self.unimodal_dims = dict.fromkeys(spec.modalities, dim)
        self.part_dims = {f"told_{m}": 2 * layers for m in self.others} if discrimination > 0 else {}
        self.z_dim = 2 * dim * len(self.others)
        self.head = ResidualHead(self.z_dim, output_dropout, spec)

    def encode(self, batch: Batch) -> Encoded:
        encoded: Encoded = {}
        for m in self.modalities:
            if self.text is not None and m == "language":
                pieces = self.text.pieces(batch.sequences[m])
                values = self.project[m](self.text(pieces).last_hidden_state)
                encoded[m] = keep_whole(Sequence(values.masked_fill(~pieces.mask.unsqueeze(2), 0), pieces.mask))
            else:
                encoded[m] = {"steps": self.project[m](batch.sequences[m])}
        return encoded

    def fuse(self, encoded: Encoded) -> Fusion:
        steps = {m: read_steps(encoded[m]) for m in self.modalities}
        first, parts = [], {}
        for m in self.others:
            pair = [Sequence(add_positions(s.values), s.mask) for s in (steps["language"], steps[m])]
            told: list[Tensor] = []
            layers: Any = self.stacks[m]
            for layer in layers:
                pair, codes = layer(*pair)
                told += [layer.discriminator(code) for code in codes if self.part_dims]
            first += [s.values[:, 0] * s.mask.any(1, keepdim=True) for s in pair]
            if self.part_dims:
                parts[f"told_{m}"] = torch.cat(told, dim=1)
        z = torch.cat(first, dim=1)
        return Fusion(self.head(z), z, {m: masked_mean(s) for m, s in steps.items()}, parts)

    def own_terms(self, batch: Batch, encoded: Encoded, fusion: Fusion) -> dict[str, Float[Tensor, ""]]:
        """λ times the cross-entropy of telling enc(x_l), 1, from enc(x_o), 0, averaged over rows, layers and both."""
        terms = {}
        for name in self.part_dims:
            logits = fusion.parts[name].float()
            truth = torch.tensor([1.0, 0.0], device=logits.device).repeat(logits.shape[1] // 2).expand_as(logits)
            terms[name] = self.discrimination * F.binary_cross_entropy_with_logits(logits, truth)
        return terms


class Complementation(nn.Module):
    """One layer of a stack: two sequences → both, having read one another, and enc of both, which ``discriminator`` tells apart."""

    def __init__(self, dim: int, language: Layer, other: Layer, first: bool, discriminated: bool):
        super().__init__()
        self.layers = nn.ModuleList([language, other])
        self.summaries = nn.ModuleList([Summary(dim, first) for _ in range(2)])
        self.gates = nn.ModuleList([nn.Linear(2 * dim, 2 * dim) for _ in range(2)])
        self.discriminator = nn.Linear(dim, 1) if discriminated else None

    def forward(self, language: Sequence, other: Sequence) -> tuple[list[Sequence], list[Tensor]]:
        pair = [language, other]
        codes = [summary(s) for summary, s in zip(self.summaries, pair, strict=True)]
        c, changed = torch.cat(codes, dim=1), []
        for i, (s, source) in enumerate(((language, other), (other, language))):
            layer, (passed, kept) = self.layers[i], self.gates[i](c).sigmoid().unsqueeze(1).chunk(2, dim=2)
            read = layer.read(s.values, source.values, find_reach(s, source, future_mask=False))  # type: ignore[operator]
            x = passed * layer.dropout(read) + kept * s.values  # type: ignore[operator]
            changed.append(Sequence(x + layer.dropout(layer.feed_forward(x)), s.mask))  # type: ignore[operator]
        return changed, codes


class Summary(nn.Module):
    """A sequence → the mean over its steps of a linear map, or of a bidirectional GRU's states, [batch, dim]."""

    def __init__(self, dim: int, linear: bool):
        super().__init__()
        self.linear = nn.Linear(dim, dim) if linear else None
        self.gru = None if linear else nn.GRU(dim, dim // 2, batch_first=True, bidirectional=True)

    def forward(self, sequence: Sequence) -> Float[Tensor, "batch dim"]:
        if self.gru is None:
            assert self.linear is not None
            return masked_mean(Sequence(self.linear(sequence.values), sequence.mask))
        # Only packing keeps the backward direction from starting in the padding.
        sequence = real_steps_first(sequence)
        lengths = sequence.lengths.clamp(min=1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(sequence.values, lengths, batch_first=True, enforce_sorted=False)
        time = sequence.mask.shape[1]
        states = nn.utils.rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=time)[0]
        return masked_mean(Sequence(states, sequence.mask))
