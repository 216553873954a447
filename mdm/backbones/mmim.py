"""Stage two, backbone: MMIM, multimodal infomax (Han et al., 2021).

Text through BERT, other modalities through LSTMs, then two dense layers; no word is fused with a frame, so inputs need no
alignment. Information is raised at two levels: between text and each other modality (the own penalty,
`mdm.penalties.infomax`), and between Z and each modality by contrastive predictive coding (CPC, Eqs. 10–12), whose
networks G_m belong to the backbone because they learn with it.

Z is the second layer of the fusion, after its tanh, followed by a linear head; the unimodal representations are the h_m.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Sequence as Listed
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mdm import estimators
from mdm.backbones.base import Backbone
from mdm.backbones.layers import Steps, last_state, regressor
from mdm.backbones.text import TextEncoder
from mdm.hints import Share, Size, require_option
from mdm.types import Batch, DataSpec, Encoded, Feature, Fusion, Sequence

Axis = Literal["h", "z"]


class MMIM(Backbone):
    """MMIM.

    text_encoder: which transformer of the family bert reads the text, see `TextEncoder`; h_l is its last layer at [CLS]
    language_hidden: units of the LSTM whose last state is h_l, where language comes as vectors
    hidden: units per direction of the other LSTMs, one number for all, or modality → number
    dim: width of their h_m, a linear map of the last state
    bidirectional: of all LSTMs (MMSA's configuration)
    z_dim: width of both layers of the fusion
    dropout: before the first of them
    alpha: weight of the CPC terms (0.3 on MOSI and 0.1 on MOSEI in the paper)
    cpc: modalities that Z predicts; null: all. [] is the ablation without CPC
    cpc_axis: what the denominator sums over. ``h``, the h_m of the batch for a fixed Z, as Eq. 11 says (default); ``z``, the
        predictions of all Z for a fixed h_m, as in the official code
    temperature: of the cosines. With 1 (default; the paper has none) a term lowers its loss by less than 1 nat from chance,
        log n, whatever is learned; 0.1 is usual elsewhere
    max_pieces: official code reads the first 50 pieces, the special ones included; null: all

    Rows that lack a modality take no part in its CPC term. Matrices begin Xavier-normal, as in the official code, but for the
    transformer's.

    Raises ValueError on numbers out of range, an unknown axis, and modalities that the data lack.

    >>> from mdm.data.splits import Splits
    >>> from mdm.data.synthetic import synthetic
    >>> splits = Splits(synthetic(train=16, valid=4, test=4), batch_size=8)
    >>> batch = next(iter(splits.valid()))
    >>> model = MMIM(splits.spec)
    >>> encoded = model.encode(batch)
    >>> sorted(model.own_terms(batch, encoded, model.fuse(encoded)))
    ['cpc_audio', 'cpc_language', 'cpc_video']
    """

    def __init__(
        self,
        spec: DataSpec,
        text_encoder: str = "tiny",
        language_hidden: Size = 128,
        hidden: Size | Mapping[str, Size] = 16,
        dim: Size = 16,
        bidirectional: bool = False,
        z_dim: Size = 128,
        dropout: Share = 0.1,
        alpha: float = 0.1,
        cpc: Listed[str] | None = None,
        cpc_axis: Axis = "h",
        temperature: float = 1.0,
        max_pieces: int | None = 50,
    ):
        super().__init__()
        others = [m for m in spec.modalities if m != "language"]
        units = dict(hidden) if isinstance(hidden, Mapping) else dict.fromkeys(others, hidden)
        if min(language_hidden, dim, z_dim, *units.values()) < 1 or not (alpha > 0 and temperature > 0):
            raise ValueError(
                f"MMIM needs sizes of at least 1, alpha > 0 and temperature > 0, but language_hidden={language_hidden}, "
                f"hidden={hidden}, dim={dim}, z_dim={z_dim}, alpha={alpha}, temperature={temperature} came; set "
                "model.backbone.*, with cpc=[] for no CPC."
            )
        require_option("cpc_axis", cpc_axis, Axis)
        predicted = spec.modalities if cpc is None else tuple(cpc)
        if set(units) != set(others) or not set(predicted) <= set(spec.modalities):
            raise ValueError(
                f"hidden must be one number, or one for each of {', '.join(others) or 'none'}, and cpc a list of some of "
                f"{', '.join(spec.modalities)}, but hidden={hidden} and cpc={list(predicted)} came; set model.backbone.hidden and "
                "model.backbone.cpc."
            )
        self.alpha, self.axis, self.temperature, self.z_dim = alpha, cpc_axis, temperature, z_dim
        encoders: dict[str, nn.Module] = {}
        self.unimodal_dims = {}
        self.text = None
        for m, feature in spec.features.items():
            if m == "language" and feature.tokens:
                self.text = TextEncoder(feature, "bert", text_encoder, max_pieces)
                self.unimodal_dims[m] = self.text.dim
                continue
            size, out = (language_hidden, None) if m == "language" else (units[m], dim)
            encoder = LastState(feature, size, out, bidirectional)
            encoders[m] = encoder
            self.unimodal_dims[m] = encoder.dim
        self.encoders = nn.ModuleDict(encoders)
        first = nn.Linear(sum(self.unimodal_dims.values()), z_dim)
        self.fusion = nn.Sequential(nn.Dropout(dropout), first, nn.Tanh(), nn.Linear(z_dim, z_dim), nn.Tanh())
        self.head = regressor(z_dim, spec)
        self.cpc = nn.ModuleDict({m: nn.Linear(z_dim, self.unimodal_dims[m]) for m in predicted})
        for part in (self.encoders, self.fusion, self.head, self.cpc):
            for module in part.modules():
                if isinstance(module, nn.Linear | nn.LSTM):
                    for parameter in module.parameters():
                        if parameter.ndim > 1:
                            nn.init.xavier_normal_(parameter)

    def encode(self, batch: Batch) -> Encoded:
        return {m: {"h": self._encode(m, batch.sequences[m])} for m in self.unimodal_dims}

    def _encode(self, modality: str, sequence: Sequence) -> Float[Tensor, "batch d_m"]:
        if modality in self.encoders:
            return self.encoders[modality](sequence)
        assert self.text is not None
        return self.text.summary(self.text(self.text.pieces(sequence)).last_hidden_state)

    def fuse(self, encoded: Encoded) -> Fusion:
        unimodal = {m: encoded[m]["h"] for m in self.unimodal_dims}
        z = self.fusion(torch.cat(list(unimodal.values()), dim=1))
        return Fusion(self.head(z), z, unimodal)

    def own_terms(self, batch: Batch, encoded: Encoded, fusion: Fusion) -> dict[str, Float[Tensor, ""]]:
        """α·L_N^{z,m} (Eq. 11) by modality, of all rows whether they have a label or not."""
        terms = {}
        for m, predict in self.cpc.items():
            there = batch.sequences[m].mask.any(1)
            terms[f"cpc_{m}"] = self.alpha * score_contrast(
                fusion.unimodal[m][there], predict(fusion.z)[there], self.axis, self.temperature
            )
        return terms


class LastState(nn.Module):
    """LSTM → its last state → linear (with ``out=None`` the state itself): [batch, time, d] → [batch, out]."""

    def __init__(self, feature: Feature, hidden: int, out: int | None, bidirectional: bool):
        super().__init__()
        self.steps = Steps(feature, hidden)
        self.lstm = nn.LSTM(self.steps.dim, hidden, batch_first=True, bidirectional=bidirectional)
        state = hidden * (2 if bidirectional else 1)
        self.project = nn.Identity() if out is None else nn.Linear(state, out)
        self.dim = state if out is None else out

    def forward(self, sequence: Sequence) -> Float[Tensor, "batch out"]:
        return self.project(last_state(self.lstm, self.steps(sequence)))


def score_contrast(
    h: Float[Tensor, "batch d"], prediction: Float[Tensor, "batch d"], axis: Axis = "h", temperature: float = 1.0
) -> Float[Tensor, ""]:
    """−mean_i log(e^{s_ii} / Σ_j e^{s_ij}), s_ij = cos(prediction_i, h_j)/τ (Han et al., Eqs. 10–11); over s_ji with ``axis=z``.

    log n at chance; 0 without rows. In fp32.
    """
    if len(h) == 0:
        return h.new_zeros(())
    with torch.autocast(h.device.type, enabled=False):
        scores = F.normalize(prediction.float(), dim=1) @ F.normalize(h.float(), dim=1).T / temperature
        return math.log(len(h)) - estimators.info_nce(scores if axis == "h" else scores.T)
