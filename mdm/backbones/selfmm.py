"""Stage two, backbone: Self-MM, self-supervised labels for each modality alone (Yu et al., 2021).

Every modality has a small network and a head of its own, trained on labels that nobody gave: they start at the segment's one
label and move by how much nearer the modality's feature is to the mean feature of positive segments than to that of
negative ones, measured against the same distances of the fused feature. The more a modality's label has moved, the more its
loss counts. Where people have labelled each modality alone (CH-SIMS), ``labels=human`` puts theirs in place of these.

Z is the fused feature, behind the first layer of the fusion and its ReLU, and is followed by a two-layer head. The unimodal
representations are what the fusion reads: BERT's [CLS] and the linear maps of the LSTMs' last states. The features F_s of the
unimodal heads (parts ``feature_<modality>``) would be another choice, but the fusion never sees them, and they learn nothing
before labels have moved.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mdm.backbones.base import Backbone
from mdm.backbones.layers import expand_option, last_state, regressor
from mdm.backbones.text import TextEncoder
from mdm.hints import Share, Size, require_option
from mdm.types import Batch, DataSpec, Encoded, Fusion, Sequence

Centres = Literal["official", "exclude_zero"]
Labels = Literal["generated", "human"]

EPSILON = 1e-8


class LabelMoving(Backbone):
    """A model with a head for each modality, whose labels move by the rule of `SelfMM`.

    It calls `keep_labels` when it is built, and its parts are ``feature_<modality>`` and ``prediction_<modality>``.
    """

    modalities: tuple[str, ...]
    labels: Tensor
    features: Tensor
    known: Tensor
    sums: Tensor
    counts: Tensor

    def keep_labels(self, spec: DataSpec, z_dim: int, widths: dict[str, int], centres: Centres, labels: Labels) -> None:
        """Make the buffers that generated labels need, for features of these widths.

        Raises ValueError where human labels are asked for and a modality of the data has none.
        """
        self.human = labels == "human"
        low, high = spec.label_range
        self.middle, self.half_range = (low + high) / 2, (high - low) / 2
        self.row_of = {name: row for row, name in enumerate(spec.train_ids)}
        absent = [m for m in spec.modalities if m not in spec.unimodal]
        if self.human and absent:
            raise ValueError(
                f"labels=human needs labels of each modality alone, but the data have none of {', '.join(absent)}; prepare the "
                "store from files that hold them, as CH-SIMS' do, or set model.backbone.labels=generated."
            )
        if self.human:
            return
        self.centres = centres
        # What is kept of each training segment: for the fusion (kind 0) and each modality a label, and features side by side.
        self.widths = [z_dim, *widths.values()]
        kinds, rows = len(self.widths), len(spec.train_ids)
        self.register_buffer("labels", torch.zeros(kinds, rows, len(spec.targets)))
        self.register_buffer("features", torch.zeros(rows, sum(self.widths)))
        self.register_buffer("known", torch.zeros(kinds, rows, dtype=torch.bool))
        # Of the features of each class (positive, negative); double, so that what is added and taken away leaves no trace.
        self.register_buffer("sums", torch.zeros(2, len(spec.targets), sum(self.widths), dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(kinds, 2, len(spec.targets), dtype=torch.float64))

    @abstractmethod
    def fuse(self, encoded: Encoded) -> Fusion:
        """Z and the prediction, with the parts that labels move by."""

    def own_terms(self, batch: Batch, encoded: Encoded, fusion: Fusion) -> dict[str, Float[Tensor, ""]]:
        """mean tanh|y_s − y_m|·|ŷ_s − y_s| for each modality s, over rows that have labels: 0 until generated ones move."""
        rows, y_m = self._labelled(batch)
        terms = {}
        for kind, m in enumerate(self.modalities, start=1):
            y_s = batch.unimodal[m][: len(rows)] - self.middle if self.human else self._present(kind, rows, y_m)
            given = ~y_s.isnan()
            prediction = fusion.parts[f"prediction_{m}"][: len(rows)].float() - self.middle
            losses = (y_s - y_m)[given].abs().tanh() * (prediction - y_s)[given].abs()
            terms[f"unimodal_{m}"] = losses.sum() / given.sum().clamp(min=1)
        return terms

    def after_step(self, batch: Batch, fusion: Fusion, epoch: int) -> None:
        """Move the labels of the batch's segments by centres of before this step, then keep their features."""
        if self.human:
            return
        rows, y_m = self._labelled(batch)
        features = [fusion.z, *(fusion.parts[f"feature_{m}"] for m in self.modalities)]
        features = [f[: len(rows)].float() for f in features]
        there = [torch.ones_like(rows, dtype=torch.bool)]
        there += [batch.sequences[m].mask[: len(rows)].any(1) for m in self.modalities]
        labels = [y_m, *(self._present(kind, rows, y_m) for kind in range(1, len(self.widths)))]
        if epoch > 0:
            n = epoch + 1
            nearness = [self._nearness(kind, f) for kind, f in enumerate(features)]
            delta_m = nearness[0][0]
            for kind in range(1, len(self.widths)):
                delta_s, defined = nearness[kind]  # then that of the fusion is, for the given labels have both signs
                new = generated_label(y_m, delta_s, delta_m, self.half_range)
                moved = (n - 1) / (n + 1) * labels[kind] + 2 / (n + 1) * new
                labels[kind] = torch.where(there[kind][:, None] & defined, moved, labels[kind])
        self._tally(rows, -1)
        self.labels[:, rows] = torch.stack(labels).to(self.labels.dtype)
        self.known[:, rows] = torch.stack(there)
        self.features[rows] = torch.cat(features, dim=1).to(self.features.dtype)
        self._tally(rows, +1)

    def _labelled(self, batch: Batch) -> tuple[Int[Tensor, " labelled"], Float[Tensor, "labelled targets"]]:
        """Rows of the buffers for the segments of a training batch that have a label, and that label from the middle on."""
        label = batch.label[: batch.labelled] - self.middle
        return torch.tensor([self.row_of[name] for name in batch.ids[: len(label)]], device=label.device), label

    def _present(
        self, kind: int, rows: Int[Tensor, " labelled"], y_m: Float[Tensor, "labelled targets"]
    ) -> Float[Tensor, "labelled targets"]:
        """The labels of a kind as they stand; those of segments not seen before are the given ones."""
        return torch.where(self.known[kind, rows][:, None], self.labels[kind, rows], y_m)

    def _nearness(
        self, kind: int, features: Float[Tensor, "labelled d"]
    ) -> tuple[Float[Tensor, "labelled targets"], Bool[Tensor, " targets"]]:
        """δ of features of a kind for each target, and whether both of its centres are defined."""
        counts = self.counts[kind]
        positive, negative = (self.sums.split(self.widths, dim=2)[kind] / counts.clamp(min=1).unsqueeze(2)).float()
        return relative_nearness(features, positive, negative), (counts > 0).all(0)

    def _tally(self, rows: Int[Tensor, " labelled"], sign: int) -> None:
        """Add rows to the sums of their classes, or take them away, so that no step costs more than its batch."""
        for kind, sums in enumerate(self.sums.split(self.widths, dim=2)):
            label, known = self.labels[kind, rows].T, self.known[kind, rows]
            positive = label > 0 if self.centres == "exclude_zero" else label >= 0
            members = (torch.stack([positive, label < 0]) & known).double()
            sums += sign * members @ self.features[rows].split(self.widths, dim=1)[kind].double()
            self.counts[kind] += sign * members.sum(2)


class SelfMM(LabelMoving):
    """Self-MM.

    text_encoder: which transformer of the family bert, see `TextEncoder`; where language comes as vectors, it has an LSTM
    hidden, dim: units of the LSTMs and widths of what is read off their last states, one number for all, or modality → number
    feature: width of F_s, the hidden layers of the unimodal heads, likewise
    dropout: before the unimodal heads, likewise
    z_dim: width of Z
    fusion_dropout: before the fusion
    labels: of the unimodal heads, ``generated`` by the rule below; or ``human``, those of the data, which must have them of every
        modality (`mdm.data.base.Segments.unimodal`)
    centres: whose features the positive centre is the mean of. ``official``, segments with a label ≥ 0 (default); ``exclude_zero``,
        > 0 (MMSA)
    max_pieces: official code reads the first 50 pieces, the special ones included; null: all

    Labels count from the middle of their range, which is 0 where the official code runs. With F_s, F_m = Z the features of a
    segment, P and N the centres of positive and negative ones (by the present label of that modality, over all training
    segments, with their latest features), from the second epoch on

        δ_s = (|F_s − N_s| − |F_s − P_s|) / (|F_s − P_s| + ε)
        y_new = ½ (δ_s / δ_m) y_m + ½ (y_m + δ_s − δ_m), clamped to the labels' range
        y_s ← (n − 1)/(n + 1) y_s + 2/(n + 1) y_new, in epoch n = 2, 3, …

    as in the official code; the √d by which the paper divides distances cancels in δ. Three things are said here that are open
    there: δ_m keeps its sign when ε is added, so no division is by zero; a label moves only while both classes have a member
    (there it becomes NaN); and a segment that lacks a modality keeps its label for it and is in none of its centres. Each of
    several targets has labels and centres of its own.

    Labels and features are buffers with a row for each of ``spec.train_ids``, so a resumed run has them.

    Raises ValueError on numbers out of range, an unknown rule for centres, frames that are tokens, and human labels not there.

    >>> from mdm.data.splits import Splits
    >>> from mdm.data.synthetic import synthetic
    >>> splits = Splits(synthetic(train=16, valid=4, test=4), batch_size=8)
    >>> batch = next(iter(splits.valid()))
    >>> fusion = SelfMM(splits.spec)(batch)
    >>> fusion.parts["prediction_audio"].shape
    torch.Size([4, 1])
    """

    def __init__(
        self,
        spec: DataSpec,
        text_encoder: str = "tiny",
        hidden: Size | Mapping[str, Size] = 32,
        dim: Size | Mapping[str, Size] = 32,
        feature: Size | Mapping[str, Size] = 32,
        dropout: Share | Mapping[str, Share] = 0.1,
        z_dim: Size = 128,
        fusion_dropout: Share = 0.1,
        centres: Centres = "official",
        labels: Labels = "generated",
        max_pieces: int | None = 50,
    ):
        super().__init__()
        text = "language" in spec.features and spec.features["language"].tokens
        others = tuple(m for m in spec.modalities if not (text and m == "language"))
        tokens = [m for m in others if spec.features[m].tokens]
        if tokens:
            raise ValueError(
                f"Self-MM needs vectors for what is not language, but {', '.join(tokens)} comes as tokens; set data.modalities."
            )
        units, dims = expand_option("hidden", hidden, others), expand_option("dim", dim, others)
        widths, dropouts = expand_option("feature", feature, spec.modalities), expand_option("dropout", dropout, spec.modalities)
        require_option("centres", centres, Centres)
        require_option("labels", labels, Labels)
        if min(z_dim, *units.values(), *dims.values(), *widths.values()) < 1:
            raise ValueError(
                f"Self-MM needs z_dim, hidden, dim, feature >= 1, got z_dim={z_dim}, hidden={units}, dim={dims}, feature={widths}; "
                "set model.backbone.*."
            )
        self.modalities = spec.modalities
        self.text = TextEncoder(spec.features["language"], "bert", text_encoder, max_pieces) if text else None
        self.encoders = nn.ModuleDict({m: LastState(spec.features[m].dim, units[m], dims[m]) for m in others})
        self.unimodal_dims = {m: dims[m] if self.text is None or m != "language" else self.text.dim for m in spec.modalities}
        self.unimodal_heads = nn.ModuleDict(
            {m: UnimodalHead(d, widths[m], dropouts[m], spec) for m, d in self.unimodal_dims.items()}
        )
        self.z_dim = z_dim
        self.fusion = nn.Sequential(nn.Dropout(fusion_dropout), nn.Linear(sum(self.unimodal_dims.values()), z_dim), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(z_dim, z_dim), nn.ReLU(), regressor(z_dim, spec))
        self.part_dims = {f"feature_{m}": width for m, width in widths.items()}
        self.part_dims |= {f"prediction_{m}": len(spec.targets) for m in spec.modalities}
        self.keep_labels(spec, z_dim, widths, centres, labels)

    def encode(self, batch: Batch) -> Encoded:
        encoded: Encoded = {}
        for m in self.modalities:
            sequence = batch.sequences[m]
            if self.text is not None and m == "language":
                z = self.text.summary(self.text(self.text.pieces(sequence)).last_hidden_state)
            else:
                z = self.encoders[m](sequence)
            feature, prediction = self.unimodal_heads[m](z)
            encoded[m] = {"z": z, "feature": feature, "prediction": prediction}
        return encoded

    def fuse(self, encoded: Encoded) -> Fusion:
        unimodal = {m: encoded[m]["z"] for m in self.modalities}
        parts = {f"{key}_{m}": encoded[m][key] for key in ("feature", "prediction") for m in self.modalities}
        z = self.fusion(torch.cat(list(unimodal.values()), dim=1))
        return Fusion(self.head(z), z, unimodal, parts)


class LastState(nn.Module):
    """LSTM → linear on its last state."""

    def __init__(self, width: int, hidden: int, dim: int):
        super().__init__()
        self.lstm = nn.LSTM(width, hidden, batch_first=True)
        self.project = nn.Linear(hidden, dim)

    def forward(self, sequence: Sequence) -> Float[Tensor, "batch dim"]:
        return self.project(last_state(self.lstm, sequence))


class UnimodalHead(nn.Module):
    """A modality's representation → (F_s, ŷ_s), by two hidden layers."""

    def __init__(self, dim: int, width: int, dropout: float, spec: DataSpec):
        super().__init__()
        self.feature = nn.Sequential(nn.Dropout(dropout), nn.Linear(dim, width), nn.ReLU())
        self.predict = nn.Sequential(nn.Linear(width, width), nn.ReLU(), regressor(width, spec))

    def forward(self, z: Float[Tensor, "batch d"]) -> tuple[Float[Tensor, "batch feature"], Float[Tensor, "batch targets"]]:
        feature = self.feature(z)
        return feature, self.predict(feature)


# ---- the rule by which labels move


def relative_nearness(
    features: Float[Tensor, "batch d"], positive: Float[Tensor, "targets d"], negative: Float[Tensor, "targets d"]
) -> Float[Tensor, "batch targets"]:
    """δ = (|F − N| − |F − P|) / (|F − P| + ε): positive where F is nearer to the positive centre."""
    to_positive = (features[:, None] - positive).norm(dim=2)
    to_negative = (features[:, None] - negative).norm(dim=2)
    return (to_negative - to_positive) / (to_positive + EPSILON)


def generated_label(
    y_m: Float[Tensor, "batch targets"],
    delta_s: Float[Tensor, "batch targets"],
    delta_m: Float[Tensor, "batch targets"],
    limit: float,
) -> Float[Tensor, "batch targets"]:
    """½ (δ_s / δ_m) y_m + ½ (y_m + δ_s − δ_m), in [−limit, limit]: the mean of y_m scaled and y_m shifted.

    The first half has no bound near δ_m = 0, so the clamp decides there.
    """
    ratio = delta_s / (delta_m + torch.where(delta_m < 0, -EPSILON, EPSILON))
    return (0.5 * (ratio * y_m + y_m + delta_s - delta_m)).clamp(-limit, limit)
