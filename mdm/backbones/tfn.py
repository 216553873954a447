"""Stage two, backbone: the Tensor Fusion Network (TFN).

t = [1; z_l] ⊗ [1; z_a] ⊗ [1; z_v]: with the ones, the outer product holds each modality alone, all their pairs and all their
triples. Two linear layers with ReLU read it. Audio and video are averaged over their real steps and go through a small
network, language through an LSTM (the same as in LMF), so inputs need no alignment, and nearly all but the product is
done for each modality alone.

Z is the second of the two layers, what the output layer reads; the tensor, of 10⁴ to 10⁵ coordinates, is nothing a critic
could read. The unimodal representations are the z_m.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mdm.backbones.base import Backbone
from mdm.backbones.layers import LanguageEncoder, PooledEncoder, expand_option, regressor
from mdm.hints import Share, Size, require_option
from mdm.types import Batch, DataSpec, Encoded, Fusion

Output = Literal["bounded", "linear"]


class TFN(Backbone):
    """TFN.

    z_dim: width of the two layers after the tensor
    hidden: width of the networks of audio, video and others, one number for all, or modality → number
    language_hidden: units of the language LSTM
    language_out: width of z_l
    dropout: before each modality network of `hidden`, one number for all, or modality → number
    language_dropout: after the LSTM
    tensor_dropout: on the tensor
    output: ``bounded``, a sigmoid between the ends of the labels' range, as in the official code (6σ − 3 for labels in [−3, 3];
        with an absolute loss its gradient vanishes at the ends); ``linear``
    embedding_dim: width of the trainable word embedding, where the text is words

    The tensor has (language_out + 1) ∏_m (hidden_m + 1) coordinates; the layer that reads it is by far the largest.

    Raises ValueError on a width below 1, widths for other modalities, or an unknown output.

    >>> from mdm.data.splits import Splits
    >>> from mdm.data.synthetic import synthetic
    >>> splits = Splits(synthetic(train=16, valid=4, test=4), batch_size=8)
    >>> batch = next(iter(splits.valid()))
    >>> fusion = TFN(splits.spec, z_dim=8, hidden=4, language_out=4)(batch)
    >>> fusion.z.shape, sorted(fusion.unimodal)
    (torch.Size([4, 8]), ['audio', 'language', 'video'])
    """

    def __init__(
        self,
        spec: DataSpec,
        z_dim: Size = 64,
        hidden: Size | Mapping[str, Size] = 16,
        language_hidden: Size = 128,
        language_out: Size = 32,
        dropout: Share | Mapping[str, Share] = 0.1,
        language_dropout: Share = 0.1,
        tensor_dropout: Share = 0.3,
        output: Output = "bounded",
        embedding_dim: Size = 300,
    ):
        super().__init__()
        others = tuple(m for m in spec.modalities if m != "language")
        widths, rates = expand_option("hidden", hidden, others), expand_option("dropout", dropout, others)
        if min(z_dim, language_hidden, language_out, *widths.values()) < 1:
            raise ValueError(
                f"TFN needs z_dim, hidden, language_hidden, language_out >= 1, but z_dim={z_dim}, hidden={widths}, "
                f"language_hidden={language_hidden}, language_out={language_out} came; set model.backbone.*."
            )
        require_option("output", output, Output)
        self.z_dim = z_dim
        encoders: dict[str, LanguageEncoder | PooledEncoder] = {}
        for m, feature in spec.features.items():
            if m == "language":
                encoders[m] = LanguageEncoder(feature, embedding_dim, language_hidden, language_out, language_dropout)
            else:
                encoders[m] = PooledEncoder(feature, widths[m], rates[m])
        self.encoders = nn.ModuleDict(encoders)
        self.unimodal_dims = {m: encoder.dim for m, encoder in encoders.items()}
        size = math.prod(d + 1 for d in self.unimodal_dims.values())
        self.after = nn.Sequential(
            CheapDropout(tensor_dropout), nn.Linear(size, z_dim), nn.ReLU(), nn.Linear(z_dim, z_dim), nn.ReLU()
        )
        self.head = Bounded(z_dim, spec) if output == "bounded" else regressor(z_dim, spec)

    def encode(self, batch: Batch) -> Encoded:
        return {m: {"z": encoder(batch.sequences[m])} for m, encoder in self.encoders.items()}

    def fuse(self, encoded: Encoded) -> Fusion:
        unimodal = {m: encoded[m]["z"] for m in self.encoders}
        z = self.after(tensor_fusion(unimodal.values()))
        return Fusion(self.head(z), z, unimodal)


def tensor_fusion(representations: Iterable[Float[Tensor, "batch _"]]) -> Float[Tensor, "batch size"]:
    """⊗_m [1; z_m], flattened: the first modality's coordinates change slowest, the last one's fastest.

    Coordinate 0 is the constant 1. (Official code has the order audio, video, language; here it is that of the data, which is
    the same up to the order of the weights.)
    """
    product: Tensor | None = None
    for z in representations:
        z = F.pad(z, (1, 0), value=1.0)
        # A matrix product, whose gradients are two matrix products; those of a broadcast ``*`` read the whole tensor four times.
        product = z if product is None else torch.bmm(product.unsqueeze(2), z.unsqueeze(1)).flatten(1)
    assert product is not None
    return product


class CheapDropout(nn.Dropout):
    """Dropout that on a CPU draws 16 bits per coordinate, so the rate is exact to 2⁻¹⁶.

    PyTorch draws 64, which for a tensor of 10⁵ coordinates per row takes as long as both passes of the layer that reads it.
    """

    def forward(self, input: Float[Tensor, "batch size"]) -> Float[Tensor, "batch size"]:
        if input.device.type != "cpu" or not self.training or not 0 < self.p < 1:
            return super().forward(input)
        draws = torch.empty(-(-input.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        keep = draws.view(torch.int16)[: input.numel()].view(input.shape) >= round(self.p * 2**16) - 2**15
        return input * (keep * (1 / (1 - self.p)))


class Bounded(nn.Module):
    """A linear map and a sigmoid onto the labels' range; starts at their training mean, or with head_start=random as drawn."""

    def __init__(self, dim: int, spec: DataSpec):
        super().__init__()
        self.low, self.high = spec.label_range
        self.linear = nn.Linear(dim, len(spec.targets))
        if spec.head_start == "label_mean":
            share = (torch.tensor(spec.label_mean) - self.low) / (self.high - self.low)
            with torch.no_grad():
                # A mean at an end of the range would start where the sigmoid has no gradient.
                self.linear.bias.copy_(share.clamp(0.01, 0.99).logit())

    def forward(self, z: Float[Tensor, "batch d"]) -> Float[Tensor, "batch targets"]:
        return self.low + (self.high - self.low) * self.linear(z).sigmoid()
