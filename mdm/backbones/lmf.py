"""Stage two, backbone: Low-rank Multimodal Fusion (LMF; "LFN" in Colombo et al., 2021; Shankar, 2022).

h = Σ_r w_r ∏_m (F_m^{(r)} [1; z_m]) + b: a tensor fusion whose weight tensor is a sum of R rank-one terms. Audio and
video are averaged over their real steps and go through a small network, language through an LSTM; so inputs need no
alignment, and nearly all the work is done for each modality alone.

Z is the o-dimensional fused vector h, followed by a linear head. Official code has o = 1 on sentiment and no head (head=none):
there the fused vector *is* the prediction and no penalty could act on it; the paper's general form and Colombo et al.'s (2021) "Z,
then a linear A" ask for o > 1. The unimodal representations are the z_m.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdm.backbones.base import Backbone
from mdm.backbones.layers import LanguageEncoder, PooledEncoder, expand_option, regressor
from mdm.hints import Share, Size, require_option
from mdm.types import Batch, DataSpec, Encoded, Fusion

Init = Literal["unit", "official"]
Head = Literal["linear", "none"]


class LMF(Backbone):
    """LMF.

    z_dim: o, width of the fused vector
    rank: R
    language_hidden: units of the language LSTM; z_l has half as many, as in the official code
    hidden: width of the networks of the other modalities, one number for all, or modality → number
    dropout: before the modality networks, after the LSTM and before the head: one number for all four places, or place → number,
        the places being the modalities and ``head``. (Official code declares a dropout after the fusion and never applies it.)
    head: ``linear``; ``none``, h is the prediction, as in the official code, so z_dim is the number of targets
    init: of the factors. ``official``, Xavier on the three-dimensional tensor: for o = 1 sensible, but its scale falls with √o,
        so that for o = 64 the product of three starts near 1e-4 and neither task nor penalty moves it for epochs. ``unit``
        (default): the constant's row is 1 and the others have variance 1/d_m, so h starts near a sum over modalities.
    embedding_dim: width of the trainable word embedding, where the text is words

    Raises ValueError on a size below 1, widths for other modalities, an unknown init or head, or a z_dim that is no prediction.

    >>> from mdm.data.splits import Splits
    >>> from mdm.data.synthetic import synthetic
    >>> splits = Splits(synthetic(train=16, valid=4, test=4), batch_size=8)
    >>> batch = next(iter(splits.valid()))
    >>> fusion = LMF(splits.spec, z_dim=8, rank=2)(batch)
    >>> fusion.z.shape, sorted(fusion.unimodal)
    (torch.Size([4, 8]), ['audio', 'language', 'video'])
    """

    def __init__(
        self,
        spec: DataSpec,
        z_dim: Size = 64,
        rank: Size = 4,
        language_hidden: Size = 128,
        hidden: Size | Mapping[str, Size] = 16,
        dropout: Share | Mapping[str, Share] = 0.1,
        init: Init = "unit",
        head: Head = "linear",
        embedding_dim: Size = 300,
    ):
        super().__init__()
        others = tuple(m for m in spec.modalities if m != "language")
        widths = expand_option("hidden", hidden, others)
        if min(z_dim, rank, language_hidden // 2, *widths.values()) < 1:
            raise ValueError(
                f"LMF needs z_dim, rank, hidden >= 1 and language_hidden >= 2, but z_dim={z_dim}, rank={rank}, hidden={widths}, "
                f"language_hidden={language_hidden} came; set model.backbone.*."
            )
        require_option("init", init, Init)
        require_option("head", head, Head)
        if head == "none" and z_dim != len(spec.targets):
            raise ValueError(
                f"With head=none the fused vector is the prediction, so z_dim must be the number of targets ({len(spec.targets)}), "
                f"but is {z_dim}; set model.backbone.z_dim, or model.backbone.head=linear."
            )
        rates = expand_option("dropout", dropout, (*spec.modalities, *(["head"] if head == "linear" else [])))
        self.z_dim = z_dim
        encoders: dict[str, LanguageEncoder | PooledEncoder] = {}
        for m, feature in spec.features.items():
            if m == "language":
                encoders[m] = LanguageEncoder(feature, embedding_dim, language_hidden, language_hidden // 2, rates[m])
            else:
                encoders[m] = PooledEncoder(feature, widths[m], rates[m])
        self.encoders = nn.ModuleDict(encoders)
        self.unimodal_dims = {m: encoder.dim for m, encoder in encoders.items()}
        self.factors = nn.ParameterDict({m: torch.empty(rank, d + 1, z_dim) for m, d in self.unimodal_dims.items()})
        self.rank_weights = nn.Parameter(torch.empty(1, rank))
        self.bias = nn.Parameter(torch.zeros(z_dim))
        self.head = nn.Sequential(nn.Dropout(rates["head"]), regressor(z_dim, spec)) if head == "linear" else nn.Identity()
        nn.init.xavier_normal_(self.rank_weights)
        for m, factor in self.factors.items():
            if init == "official":
                nn.init.xavier_normal_(factor)
            else:
                nn.init.normal_(factor, std=self.unimodal_dims[m] ** -0.5)
                with torch.no_grad():
                    factor[:, 0] = 1.0

    def encode(self, batch: Batch) -> Encoded:
        return {m: {"z": encoder(batch.sequences[m])} for m, encoder in self.encoders.items()}

    def fuse(self, encoded: Encoded) -> Fusion:
        unimodal = {m: encoded[m]["z"] for m in self.encoders}
        z = low_rank_fusion(unimodal, dict(self.factors.items()), self.rank_weights[0], self.bias)
        return Fusion(self.head(z), z, unimodal)


def low_rank_fusion(
    representations: dict[str, Float[Tensor, "batch d_m"]],
    factors: dict[str, Float[Tensor, "rank d_m_plus_1 o"]],
    weights: Float[Tensor, " rank"],
    bias: Float[Tensor, " o"],
) -> Float[Tensor, "batch o"]:
    """Σ_r w_r ∏_m (F_m^{(r)} [1; z_m]) + b (LMF, its equation for h).

    The first row of each factor is that of the constant 1. Equal to tensor fusion with W = Σ_r w_r ⊗_m F_m^{(r)}.
    """
    product: Tensor | None = None
    for m, z in representations.items():
        term = factors[m][:, 0].unsqueeze(1) + z @ factors[m][:, 1:]
        product = term if product is None else product * term
    assert product is not None
    return torch.einsum("r,rbo->bo", weights, product) + bias
