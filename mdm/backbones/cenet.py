"""Stage two, backbone: CENET, the cross-modal enhancement network (Wang, Liu, Wang, Tian, He, Gao, IEEE TMM 2022).

The pieces h of a text, between two layers of its transformer, read the frames e_m of each other modality and are moved by what they
find; there is one such module, with one head:

    ĥ = h + W [A_m]_m + b,    A_m = softmax(s · (Q_m h)(K_m e_m)ᵀ) V_m e_m,    e_m = MLP(x_m)

Z is the last layer at [CLS], followed by a head. The unimodal representations are the means of the e_m over frames and, for
language, the mean of h over pieces of words before they are moved.

Both codes have s = 8, a factor where attention usually has 1/√d: ``scale=official``. Two systems have this name: the authors' reads
words by SentiLARE and frames as the ids of 16 clusters of them, made beforehand; MMSA's, which this is, reads words by BERT and
frames by two layers. Neither masks the padding of frames, which is masked here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from mdm.backbones.base import Backbone
from mdm.backbones.layers import masked_mean, real_steps_first, regressor
from mdm.backbones.mag import find_nonverbal
from mdm.backbones.text import Pieces, TextEncoder, replace_output
from mdm.hints import Share, Size, require_option
from mdm.types import Batch, DataSpec, Encoded, Fusion, Sequence

Scale = Literal["sqrt", "official"]


class CENET(Backbone):
    """CENET.

    text_encoder: a transformer of the family bert, see `TextEncoder`
    inject: behind which layer the module stands (official 1, the first of them), never behind the last
    hidden: width of e_m and of attention
    scale: of scores. ``sqrt``, 1/√hidden (default); ``official``, 8
    dropout: before the head
    max_pieces: of a text, the special ones included; null: all that the encoder can read

    Parameters beside the transformer's, d wide, and the head's: Σ_m (d_m + 1)h + (d + 1)h + 3(h + 1)h, and (Mh + 1)d of W.

    Raises ValueError without text and another modality of vectors, if inject is no such layer, and on options out of range or
    unknown.

    >>> from mdm.types import Feature
    >>> features = {"language": Feature(6, tokens=True), "audio": Feature(5)}
    >>> spec = DataSpec(features, ("y",), (-3.0, 3.0), (0.0,), aligned=False)
    >>> CENET(spec, hidden=8).unimodal_dims
    {'language': 64, 'audio': 8}
    """

    def __init__(
        self,
        spec: DataSpec,
        text_encoder: str = "tiny",
        inject: Size = 1,
        hidden: Size = 32,
        scale: Scale = "sqrt",
        dropout: Share = 0.1,
        max_pieces: int | None = 50,
    ):
        super().__init__()
        require_option("scale", scale, Scale)
        others = find_nonverbal(spec, "CENET")
        if not others:
            raise ValueError("CENET needs language and at least one other modality of vectors; set data.modalities.")
        self.text = TextEncoder(spec.features["language"], "bert", text_encoder, max_pieces)
        layers = self.text.model.config.num_hidden_layers
        if inject >= layers:
            raise ValueError(
                f"inject: expected a layer that is not the last of text_encoder={text_encoder}, 1 … {layers - 1}, got {inject}; "
                "set model.backbone.inject."
            )
        self.inject, self.modalities = inject, spec.modalities
        self.z_dim = self.text.dim
        self.unimodal_dims = {m: self.text.dim if m == "language" else hidden for m in spec.modalities}
        self.frames = nn.ModuleDict(
            {m: nn.Sequential(nn.Linear(f.dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden)) for m, f in others.items()}
        )
        self.enhance = Enhancement(self.text.dim, hidden, tuple(others), scale)
        self.head = nn.Sequential(nn.Dropout(dropout), regressor(self.z_dim, spec))

    def encode(self, batch: Batch) -> Encoded:
        encoded: Encoded = {}
        for m in self.modalities:
            if m == "language":
                encoded[m] = self.text.pieces(batch.sequences[m]).parts()
            else:
                sequence = real_steps_first(batch.sequences[m])
                values = self.frames[m](sequence.values.masked_fill(~sequence.mask.unsqueeze(2), 0))
                encoded[m] = {"frames": Sequence(values, sequence.mask)}
        return encoded

    def fuse(self, encoded: Encoded) -> Fusion:
        pieces = Pieces.of(encoded["language"])
        frames: dict[str, Sequence] = {m: encoded[m]["frames"] for m in self.frames}
        before: list[Tensor] = []

        def move(h: Tensor) -> Tensor:
            before.append(h)
            return self.enhance(h, frames)

        with replace_output(self.text.model.get_submodule(f"encoder.layer.{self.inject - 1}"), move):
            z = self.text.summary(self.text.read(pieces).last_hidden_state)
        unimodal = {m: masked_mean(s) for m, s in frames.items()}
        unimodal["language"] = masked_mean(Sequence(before[0], pieces.word >= 0))
        return Fusion(self.head(z), z, {m: unimodal[m] for m in self.modalities})


class Enhancement(nn.Module):
    """h → h + W [A_m]_m + b; a modality without a frame gives A_m = 0."""

    def __init__(self, dim: int, hidden: int, modalities: tuple[str, ...], scale: Scale):
        super().__init__()
        self.scale = 8.0 if scale == "official" else 1 / math.sqrt(hidden)
        self.query = nn.ModuleDict({m: nn.Linear(dim, hidden) for m in modalities})
        self.key_value = nn.ModuleDict({m: nn.Linear(hidden, 2 * hidden) for m in modalities})
        self.out = nn.Linear(len(modalities) * hidden, dim)

    def forward(self, h: Float[Tensor, "batch pieces dim"], frames: Mapping[str, Sequence]) -> Float[Tensor, "batch pieces dim"]:
        return h + self.out(torch.cat([self._read(m, h, frames[m]) for m in self.query], dim=2))

    def _read(self, m: str, h: Float[Tensor, "batch pieces dim"], frames: Sequence) -> Float[Tensor, "batch pieces hidden"]:
        keys, values = self.key_value[m](frames.values).chunk(2, dim=2)
        there: Bool[Tensor, "batch 1 1"] = frames.mask.any(1)[:, None, None]
        allowed = frames.mask.unsqueeze(1) | ~there
        return F.scaled_dot_product_attention(self.query[m](h), keys, values, attn_mask=allowed, scale=self.scale) * there
