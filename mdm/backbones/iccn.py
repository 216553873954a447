"""Stage two, backbone: ICCN, the interaction canonical correlation network (Sun, Sarma, Sethares, Liang, AAAI 2020).

A vector of the text and one of each other modality make an image, their outer product; a small convolutional network reads it:

    K_m = CNN_m(LN(h_l) LN(h_m)ᵀ),    Z = [LN(h_l); K_a; K_v]

K_a and K_v, the text-based audio and video, are trained to agree: their canonical correlations are raised (deep CCA) by
`penalty=cca`, here the model's own penalty on the parts ``text_audio`` and ``text_video``. A linear map follows Z. The unimodal
representations are LN(h_l) and the LN(h_m).

The layer norms are ours: products of small numbers would leave the convolutions little but their biases.

Uncertain: the paper's text was not at hand and no official code was found. Sure are the outer products, the two networks, the
objective of CCA and a simple classifier on the concatenation; sizes, optimiser, and whether the classifier trains the networks too
(here it does, at once with CCA) are not. Text was BERT's sentence vector; here it is the mean of the last layer over pieces,
mapped to the width of the image, or an LSTM's last state where language comes as vectors.
"""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdm.backbones.base import Backbone, require_modalities
from mdm.backbones.layers import LanguageEncoder, Steps, last_state, masked_mean, regressor
from mdm.backbones.text import TextEncoder
from mdm.hints import Range, Share, Size
from mdm.types import Batch, DataSpec, Encoded, Feature, Fusion, Sequence

Side = Annotated[int, Range(4)]


class ICCN(Backbone):
    """ICCN.

    text_encoder: of language as words or tokens, a transformer of the family bert, see `TextEncoder`
    max_pieces: of a text, the special ones included; null: all that the encoder can read
    dim: width of h_l and of each h_m, the sides of the images; at least 4, of which two poolings leave 1
    channels: of both convolutions of each image (kernels 3 × 3, ReLU, pooling by 2)
    correlated: width of each K_m. The canonical correlations of a batch say little unless it has many times as many rows
    dropout: before the head

    Parameters of one CNN with c channels: 10c + (9c + 1)c + (c⌊dim/4⌋² + 1)·correlated.

    Raises ValueError without language and another modality of vectors, and on options out of range.

    >>> from mdm.types import Feature
    >>> spec = DataSpec({"language": Feature(6), "audio": Feature(5)}, ("y",), (-3.0, 3.0), (0.0,), aligned=False)
    >>> model = ICCN(spec, dim=8, correlated=3)
    >>> model.z_dim, model.unimodal_dims, model.part_dims
    (11, {'language': 8, 'audio': 8}, {'text_audio': 3})
    """

    def __init__(
        self,
        spec: DataSpec,
        text_encoder: str = "tiny",
        max_pieces: int | None = 50,
        dim: Side = 16,
        channels: Size = 8,
        correlated: Size = 8,
        dropout: Share = 0.1,
    ):
        super().__init__()
        require_modalities(spec, ("language",), "ICCN")
        self.others = [m for m in spec.modalities if m != "language"]
        tokens = [m for m in self.others if spec.features[m].tokens]
        if not self.others or tokens:
            raise ValueError(
                f"ICCN needs language and at least one other modality of vectors, but the data have {', '.join(spec.modalities)} "
                f"({', '.join(tokens) or 'none'} as tokens); set data.modalities, or choose another model."
            )
        self.encoders = nn.ModuleDict()
        for m, feature in spec.features.items():
            if m != "language":
                self.encoders[m] = StateEncoder(feature, dim)
            elif feature.tokens:
                self.encoders[m] = SentenceEncoder(feature, text_encoder, max_pieces, dim)
            else:
                self.encoders[m] = LanguageEncoder(feature, dim, 4 * dim, dim, 0.0)
        self.norms = nn.ModuleDict({m: nn.LayerNorm(dim) for m in self.encoders})
        self.images = nn.ModuleDict({m: ProductNetwork(dim, channels, correlated) for m in self.others})
        self.unimodal_dims = dict.fromkeys(spec.modalities, dim)
        self.part_dims = {f"text_{m}": correlated for m in self.others}
        self.z_dim = dim + correlated * len(self.others)
        self.head = nn.Sequential(nn.Dropout(dropout), regressor(self.z_dim, spec))

    def encode(self, batch: Batch) -> Encoded:
        return {m: {"h": self.norms[m](encoder(batch.sequences[m]))} for m, encoder in self.encoders.items()}

    def fuse(self, encoded: Encoded) -> Fusion:
        h = {m: encoded[m]["h"] for m in self.encoders}
        parts = {f"text_{m}": self.images[m](h["language"], h[m]) for m in self.others}
        z = torch.cat([h["language"], *parts.values()], dim=1)
        return Fusion(self.head(z), z, h, parts)


class SentenceEncoder(nn.Module):
    """Words → the mean of a transformer's last layer over all pieces, mapped to [batch, dim]."""

    def __init__(self, feature: Feature, name: str, max_pieces: int | None, dim: int):
        super().__init__()
        self.text = TextEncoder(feature, "bert", name, max_pieces)
        self.project = nn.Linear(self.text.dim, dim)

    def forward(self, sequence: Sequence) -> Float[Tensor, "batch dim"]:
        pieces = self.text.pieces(sequence)
        return self.project(masked_mean(Sequence(self.text(pieces).last_hidden_state, pieces.mask)))


class StateEncoder(nn.Module):
    """Steps of vectors → an LSTM's last state, [batch, dim]."""

    def __init__(self, feature: Feature, dim: int):
        super().__init__()
        self.steps = Steps(feature, dim)
        self.lstm = nn.LSTM(self.steps.dim, dim, batch_first=True)

    def forward(self, sequence: Sequence) -> Float[Tensor, "batch dim"]:
        return last_state(self.lstm, self.steps(sequence))


class ProductNetwork(nn.Module):
    """h_l, h_m → CNN(h_l h_mᵀ), [batch, out]: twice convolution 3 × 3, ReLU and maxima of 2 × 2, then a linear map."""

    def __init__(self, side: int, channels: int, out: int):
        super().__init__()
        layers: list[nn.Module] = []
        for given in (1, channels):
            layers += [nn.Conv2d(given, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        self.network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * (side // 4) ** 2, out))

    def forward(self, a: Float[Tensor, "batch side"], b: Float[Tensor, "batch side"]) -> Float[Tensor, "batch out"]:
        return self.network(torch.einsum("ni,nj->nij", a, b).unsqueeze(1))
