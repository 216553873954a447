"""Stage two, backbone: DF, deep fusion of late scores (Nojavanasghari, Gopinath, Koushik, Baltrušaitis, Morency, ICMI 2016).

A deep network for each modality predicts the targets from it alone, s_m; another one reads all these scores beside their
complements:

    u_m = N_m(mean over steps of x_m),    s_m = A_m u_m + b_m,    Z = N([s_m; low + high − s_m] of each m)

The paper predicts persuasiveness, of two classes, with confidences p_m and 1 − p_m; for a number the complement is that within the
range of labels. It trains in two stages, the networks of each modality first: here both are trained at once, by a term for each
s_m; ``detach_scores`` lets the joint loss end at the scores, which are then trained by their own terms alone, as in two stages.

Z is the second layer of N, followed by a linear map; the unimodal representations are the u_m.

Uncertain: the paper's text was not at hand, only its authors' page, what later papers say of it, and a re-implementation. How
it became a regressor for other data is unpublished, as are sizes. Its choice of features by a t-test is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdm.backbones.base import Backbone
from mdm.backbones.layers import PooledEncoder, expand_option, regressor
from mdm.hints import Range, Share, Size, require_option
from mdm.types import Batch, DataSpec, Encoded, Fusion

Error = Literal["absolute", "squared"]


class DF(Backbone):
    """DF.

    hidden: width of the modalities' networks, one number for all, or modality → number
    dropout: before each of them, likewise
    z_dim: width of both layers of the joint network
    unimodal_weight: of the own terms, see `own_terms`
    unimodal_error: ``absolute`` or ``squared``, of these terms
    detach_scores: whether the joint loss ends at the scores

    Raises ValueError on options out of range or unknown, and if scores are detached and have no term that trains them.

    >>> from mdm.types import Feature
    >>> spec = DataSpec({"audio": Feature(5), "video": Feature(4)}, ("y",), (-3.0, 3.0), (0.0,), aligned=False)
    >>> DF(spec).part_dims
    {'score_audio': 1, 'score_video': 1}
    """

    def __init__(
        self,
        spec: DataSpec,
        hidden: Size | Mapping[str, Size] = 32,
        dropout: Share | Mapping[str, Share] = 0.1,
        z_dim: Size = 32,
        unimodal_weight: Annotated[float, Range(0)] = 1.0,
        unimodal_error: Error = "absolute",
        detach_scores: bool = False,
    ):
        super().__init__()
        require_option("unimodal_error", unimodal_error, Error)
        if detach_scores and unimodal_weight == 0:
            raise ValueError(
                "detach_scores: expected unimodal_weight > 0, whose terms alone train the scores, got 0; set "
                "model.backbone.unimodal_weight."
            )
        widths, rates = expand_option("hidden", hidden, spec.modalities), expand_option("dropout", dropout, spec.modalities)
        self.unimodal_weight, self.unimodal_error, self.detach_scores = unimodal_weight, unimodal_error, detach_scores
        self.ends = sum(spec.label_range)
        self.encoders = nn.ModuleDict({m: PooledEncoder(f, widths[m], rates[m]) for m, f in spec.features.items()})
        self.scores = nn.ModuleDict({m: regressor(n, spec) for m, n in widths.items()})
        self.unimodal_dims = widths
        self.part_dims = {f"score_{m}": len(spec.targets) for m in widths}
        self.z_dim = z_dim
        inputs = 2 * len(widths) * len(spec.targets)
        self.joint = nn.Sequential(nn.Linear(inputs, z_dim), nn.ReLU(), nn.Linear(z_dim, z_dim), nn.ReLU())
        self.head = regressor(z_dim, spec)

    def encode(self, batch: Batch) -> Encoded:
        encoded: Encoded = {}
        for m, encoder in self.encoders.items():
            u = encoder(batch.sequences[m])
            encoded[m] = {"u": u, "score": self.scores[m](u)}
        return encoded

    def fuse(self, encoded: Encoded) -> Fusion:
        parts = {f"score_{m}": encoded[m]["score"] for m in self.encoders}
        scores = torch.cat(list(parts.values()), dim=1)
        if self.detach_scores:
            scores = scores.detach()
        z = self.joint(torch.cat([scores, self.ends - scores], dim=1))
        return Fusion(self.head(z), z, {m: encoded[m]["u"] for m in self.encoders}, parts)

    def own_terms(self, batch: Batch, encoded: Encoded, fusion: Fusion) -> dict[str, Float[Tensor, ""]]:
        """unimodal_weight times the error of each s_m, averaged over rows that have a label."""
        if self.unimodal_weight == 0:
            return {}
        label = batch.label[: batch.labelled]
        terms = {}
        for m in self.encoders:
            error = fusion.parts[f"score_{m}"][: len(label)].float() - label
            size = error.abs() if self.unimodal_error == "absolute" else error.square()
            terms[f"unimodal_{m}"] = self.unimodal_weight * size.mean()
        return terms
