"""Stage two, backbone: ConFEDE, contrastive feature decomposition (Yang, Yu, Niu, Guo, Xu, ACL 2023).

Each modality's vector h_m is split by two projectors into what it shares with the others and what it does not, s_m and d_m:

    s_m = Drop(tanh(W LN(h_m) + b)),    d_m likewise,    Z = [s_m of all; d_m of all]

followed by a network of five layers. h of language is BERT's pooler; of other modalities it is the mean over steps of a transformer
with a learned first step, and so it is of language where that comes as vectors. The unimodal representations are the h_m.

Own terms: one linear map predicts from every code; and a contrastive loss around each row's s_l, the text being the pivot. Near it
are the s_m of the other modalities, of the row and of rows of an equal rounded label, and the s_l of these; far from it are all d_m
of the row, and the s_l of rows of another label:

    −mean over near u of log( exp(cos(s_l, u)/τ) / (exp(cos(s_l, u)/τ) + Σ over far v of exp(cos(s_l, v)/τ)) )

The paper takes two near and two far rows for each, found among all of training by cosines; its code stores their ranks in the place
of their numbers, so it takes rows from the beginning and the end of the file, whatever their labels. A backbone sees its batch
alone, so here near and far rows are those of the batch. The paper trains encoders first and freezes BERT then; here is one stage.
"""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mdm.backbones.base import Backbone, require_modalities
from mdm.backbones.layers import masked_mean, real_steps_first, regressor
from mdm.backbones.misa import freeze
from mdm.backbones.text import TextEncoder
from mdm.hints import Count, Depth, Positive, Range, Share, Size
from mdm.types import Batch, DataSpec, Encoded, Feature, Fusion, Sequence

Weight = Annotated[float, Range(0)]


class ConFEDE(Backbone):
    """ConFEDE.

    text_encoder, freeze_layers: of language as words or tokens, see `TextEncoder`, and how many of its first layers stay
    max_pieces: of a text, the special ones included; null: all that the encoder can read
    dim, heads, layers: of the transformers of other modalities (official 768, 8 and 2)
    code: width of s_m and d_m (official 384)
    max_steps: positions that are learned; later steps share the last one's
    encoder_dropout, dropout: in these transformers, and behind the projectors (official .5 each)
    contrast, mono: weights of the own terms (official .1 and .01)
    temperature: τ (official .5)

    Raises ValueError without language and another modality of vectors, and on options out of range.

    >>> from mdm.types import Feature
    >>> spec = DataSpec({"language": Feature(6), "audio": Feature(5)}, ("y",), (-3.0, 3.0), (0.0,), aligned=False)
    >>> ConFEDE(spec, code=8).z_dim
    32
    """

    def __init__(
        self,
        spec: DataSpec,
        text_encoder: str = "tiny",
        freeze_layers: Count = 0,
        max_pieces: int | None = 50,
        dim: Size = 32,
        heads: Size = 2,
        layers: Depth = 1,
        code: Size = 32,
        max_steps: Size = 512,
        encoder_dropout: Share = 0.1,
        dropout: Share = 0.1,
        contrast: Weight = 0.1,
        mono: Weight = 0.01,
        temperature: Positive = 0.5,
    ):
        super().__init__()
        require_modalities(spec, ("language",), "ConFEDE")
        others = [m for m in spec.modalities if m != "language"]
        tokens = [m for m in others if spec.features[m].tokens]
        if not others or tokens:
            raise ValueError(
                f"ConFEDE needs language and at least one other modality of vectors, but of {', '.join(spec.modalities)} "
                f"{', '.join(tokens) or 'none'} are tokens; set data.modalities, or choose another model."
            )
        if dim % heads:
            raise ValueError(f"heads: expected a divisor of dim={dim}, got {heads}; set model.backbone.heads.")
        self.modalities, self.contrast, self.mono, self.temperature = spec.modalities, contrast, mono, temperature
        language = spec.features["language"]
        self.text = TextEncoder(language, "bert", text_encoder, max_pieces, pooler=True) if language.tokens else None
        freeze(self.text, freeze_layers)
        self.readers = nn.ModuleDict()
        for m, feature in spec.features.items():
            if m != "language" or self.text is None:
                self.readers[m] = StepReader(feature, dim, heads, layers, max_steps, encoder_dropout)
        self.unimodal_dims = {m: dim if m in self.readers or self.text is None else self.text.dim for m in spec.modalities}
        self.names = [f"{kind}_{m}" for kind in ("similar", "dissimilar") for m in spec.modalities]
        self.projectors = nn.ModuleDict(
            {name: make_projector(self.unimodal_dims[name.partition("_")[2]], code, dropout) for name in self.names}
        )
        self.part_dims = dict.fromkeys(self.names, code)
        self.mono_head = regressor(code, spec) if mono > 0 else None
        self.z_dim = wide = code * len(self.names)
        hidden = [max(wide // k, 1) for k in (3, 6, 12, 24)]
        maps = [part for a, b in zip([wide, *hidden], hidden, strict=False) for part in (nn.Linear(a, b), nn.GELU())]
        self.head = nn.Sequential(*maps, regressor(hidden[-1], spec))

    def encode(self, batch: Batch) -> Encoded:
        encoded: Encoded = {}
        for m in self.modalities:
            if self.text is not None and m == "language":
                h = self.text(self.text.pieces(batch.sequences[m])).pooler_output
            else:
                h = self.readers[m](batch.sequences[m])
            encoded[m] = {"h": h}
        return encoded

    def fuse(self, encoded: Encoded) -> Fusion:
        h = {m: encoded[m]["h"] for m in self.modalities}
        parts = {name: self.projectors[name](h[name.partition("_")[2]]) for name in self.names}
        z = torch.cat(list(parts.values()), dim=1)
        return Fusion(self.head(z), z, h, parts)

    def own_terms(self, batch: Batch, encoded: Encoded, fusion: Fusion) -> dict[str, Float[Tensor, ""]]:
        """contrast times `contrast_around_text`; mono times the mean squared error from each code, over rows that have a label."""
        label = batch.label[: batch.labelled]
        codes = {name: fusion.parts[name][: len(label)].float() for name in self.names}
        terms = {}
        if self.contrast > 0:
            similar = torch.stack([codes[f"similar_{m}"] for m in ("language", *(m for m in self.modalities if m != "language"))])
            dissimilar = torch.stack([codes[f"dissimilar_{m}"] for m in self.modalities])
            terms["contrast"] = self.contrast * contrast_around_text(similar, dissimilar, label, self.temperature)
        if self.mono_head is not None:
            errors = [(self.mono_head(code).float() - label).square().mean() for code in codes.values()]
            terms["mono"] = self.mono * torch.stack(errors).mean()
        return terms


def contrast_around_text(
    similar: Float[Tensor, "modality n d"], dissimilar: Float[Tensor, "modality n d"], label: Float[Tensor, "n targets"], tau: float
) -> Float[Tensor, ""]:
    """The contrastive term of the module's docstring, averaged over near pairs of all rows; the first of ``similar`` is language.

    Rows are alike where all their rounded labels are equal. Where n = 0 it is 0.
    """
    if len(label) == 0:
        return 0.0 * similar.sum()
    similar, dissimilar = F.normalize(similar, dim=2), F.normalize(dissimilar, dim=2)
    alike = (label.round().unsqueeze(1) == label.round().unsqueeze(0)).all(2)
    cosines = torch.einsum("nd,mkd->nmk", similar[0], similar) / tau
    near = alike.unsqueeze(1).repeat(1, len(similar), 1)
    near[:, 0] &= ~torch.eye(len(label), dtype=torch.bool, device=label.device)
    own = torch.einsum("nd,mnd->nm", similar[0], dissimilar) / tau
    others = cosines[:, 0].masked_fill(alike, -torch.inf)
    far = torch.cat([own, others], dim=1).logsumexp(1)
    return F.softplus(far[:, None, None] - cosines)[near].mean()


def make_projector(dim: int, code: int, dropout: float) -> nn.Sequential:
    """LN → linear → tanh → dropout."""
    return nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, code), nn.Tanh(), nn.Dropout(dropout))


class StepReader(nn.Module):
    """Steps of vectors → [batch, dim]: linear, a learned first step, positions, a transformer, LN, mean over all steps."""

    def __init__(self, feature: Feature, dim: int, heads: int, layers: int, max_steps: int, dropout: float):
        super().__init__()
        self.project = nn.Linear(feature.dim, dim)
        self.first = nn.Parameter(torch.ones(dim))
        self.positions = nn.Parameter(0.02 * torch.randn(max_steps + 1, dim))
        layer = nn.TransformerEncoderLayer(dim, heads, dim, dropout, batch_first=True)
        self.transformer = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(dim)

    def forward(self, sequence: Sequence) -> Float[Tensor, "batch dim"]:
        sequence = real_steps_first(sequence)
        x = self.project(sequence.values.masked_fill(~sequence.mask.unsqueeze(2), 0))
        x = torch.cat([self.first.to(x).expand(len(x), 1, -1), x], dim=1)
        mask = F.pad(sequence.mask, (1, 0), value=True)
        place = torch.arange(x.shape[1], device=x.device).clamp(max=len(self.positions) - 1)
        x = self.transformer(x + self.positions[place], src_key_padding_mask=~mask)
        return masked_mean(Sequence(self.norm(x), mask))
