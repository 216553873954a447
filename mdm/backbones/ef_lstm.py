"""Stage two, backbone: EF-LSTM, the early-fusion baseline of Colombo et al. and Tsai et al., and its separate-encoder variant.

``concat`` (Tsai et al., 2019, supplement): one LSTM over the per-step concatenation of all modalities; S, B and SB of
the supplement are ``num_layers=2`` and ``bidirectional=true``. ``separate`` (Colombo et al., 2021, section 4.3): each view
through an LSTM of its own, then concatenated.

Z is the LSTM's top state after the last word (``concat``) or [h_l; h_a; h_v] (``separate``), the latter also the unimodal
representations. ``concat`` encodes no modality for itself; its unimodal representations are what each adds to the cell's
candidate on average, W_g,m x̄_m with W_g,m the columns of the first layer's weights that read modality m.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mdm.backbones.base import Backbone, require_equal_padding
from mdm.backbones.layers import Steps, last_state, masked_mean, real_steps_first, regressor
from mdm.hints import Depth, Share, Size, require_option
from mdm.types import Batch, DataSpec, Encoded, Fusion, Sequence

Variant = Literal["concat", "separate"]
Head = Literal["mlp", "linear"]
Norm = Literal["none", "positions"]


class EFLSTM(Backbone):
    """EF-LSTM.

    hidden: units per direction; for ``separate`` one number for all, or modality → number
    embedding_dim: width of the trainable word embedding, where the text is words
    dropout: in the head, and between stacked LSTM layers
    head: ``mlp``, y = W₂·Drop(ReLU(W₁·Z)), as the official code of Tsai et al.'s (2019) EF-LSTM has it (default);
        ``linear``, y = A·Drop(Z), as Colombo et al. (2021) say of all its models
    z_dropout: of Z, before the head; MMSA's code has one there, too
    norm: of what the one LSTM of ``concat`` reads. ``none`` (default); ``positions``, as in MMSA's code, a BatchNorm of each time
        position over the batch and all features (the code that it goes back to normalises each feature). Segments must have one
        length (data.padding=official). Rows of a modality may move: a position's statistics stay

    Raises ValueError on unaligned data for ``concat``: steps must correspond to be concatenated; and on ``positions`` without them.

    >>> from mdm.data.splits import Splits
    >>> from mdm.data.synthetic import synthetic
    >>> splits = Splits(synthetic(train=16, valid=4, test=4), batch_size=8)
    >>> batch = next(iter(splits.valid()))
    >>> EFLSTM(splits.spec, hidden=8)(batch).z.shape
    torch.Size([4, 8])
    """

    def __init__(
        self,
        spec: DataSpec,
        variant: Variant = "concat",
        hidden: Size | Mapping[str, Size] = 128,
        num_layers: Depth = 1,
        bidirectional: bool = False,
        dropout: Share = 0.5,
        head: Head = "mlp",
        z_dropout: Share = 0.0,
        norm: Norm = "none",
        embedding_dim: Size = 300,
    ):
        super().__init__()
        require_option("variant", variant, Variant)
        require_option("head", head, Head)
        require_option("norm", norm, Norm)
        if variant == "concat" and not spec.aligned:
            raise ValueError(
                "EF-LSTM concatenates the modalities step by step, so it needs word-aligned data, but these are unaligned; "
                "use aligned data, or model.backbone.variant=separate."
            )
        if variant == "concat":
            require_equal_padding(spec, "EF-LSTM")
        if isinstance(hidden, Mapping) and (variant == "concat" or set(hidden) != set(spec.modalities)):
            raise ValueError(
                f"hidden must be one number, or with variant=separate a number for each of {', '.join(spec.modalities)}, "
                f"but is {dict(hidden)}; set model.backbone.hidden."
            )
        self.variant = variant
        self.norm = nn.BatchNorm1d(count_positions(spec, variant)) if norm == "positions" else None
        steps = {m: Steps(feature, embedding_dim) for m, feature in spec.features.items()}
        self.steps = nn.ModuleDict(steps)
        widths = {m: s.dim for m, s in steps.items()}
        directions = 2 if bidirectional else 1

        def lstm(width: int, units: int) -> nn.LSTM:
            between = dropout if num_layers > 1 else 0.0
            return nn.LSTM(width, units, num_layers, batch_first=True, dropout=between, bidirectional=bidirectional)

        if variant == "concat":
            assert isinstance(hidden, int)
            self.lstms = nn.ModuleDict({"all": lstm(sum(widths.values()), hidden)})
            self.z_dim = hidden * directions
            self.unimodal_dims = dict.fromkeys(widths, self.z_dim)
        else:
            units = dict(hidden) if isinstance(hidden, Mapping) else dict.fromkeys(widths, hidden)
            self.lstms = nn.ModuleDict({m: lstm(width, units[m]) for m, width in widths.items()})
            self.unimodal_dims = {m: units[m] * directions for m in widths}
            self.z_dim = sum(self.unimodal_dims.values())
        before = [nn.Linear(self.z_dim, self.z_dim), nn.ReLU()] if head == "mlp" else []
        self.z_dropout = nn.Dropout(z_dropout)
        self.head = nn.Sequential(*before, nn.Dropout(dropout), regressor(self.z_dim, spec))

    def encode(self, batch: Batch) -> Encoded:
        steps = {m: embed(batch.sequences[m]) for m, embed in self.steps.items()}
        if self.norm is not None:
            steps = self._normalize(steps)
        if self.variant == "concat":
            return {m: {"steps": sequence, "mean": masked_mean(sequence)} for m, sequence in steps.items()}
        return {m: {"state": last_state(self.lstms[m], sequence)} for m, sequence in steps.items()}

    def fuse(self, encoded: Encoded) -> Fusion:
        if self.variant == "concat":
            z = last_state(self.lstms["all"], concatenate_steps([encoded[m]["steps"] for m in self.steps]))
            return Fusion(self.head(self.z_dropout(z)), z, self._shares({m: encoded[m]["mean"] for m in self.steps}))
        unimodal = {m: encoded[m]["state"] for m in self.steps}
        z = torch.cat(list(unimodal.values()), dim=1)
        return Fusion(self.head(self.z_dropout(z)), z, unimodal)

    def _normalize(self, steps: dict[str, Sequence]) -> dict[str, Sequence]:
        """Here and not in `fuse`, where samples of the product would count in the running statistics."""
        assert self.norm is not None
        together = self.norm(torch.cat([sequence.values for sequence in steps.values()], dim=2))
        parts = together.split([sequence.values.shape[2] for sequence in steps.values()], dim=2)
        return {m: Sequence(part, sequence.mask) for (m, sequence), part in zip(steps.items(), parts, strict=True)}

    def _shares(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        """What each modality's mean step adds to the candidate of the cell, in either direction of the first layer."""
        lstm, shares = self.lstms["all"], {}
        assert isinstance(lstm, nn.LSTM)
        g = slice(2 * lstm.hidden_size, 3 * lstm.hidden_size)  # torch stacks the gates i, f, g, o
        directions = ("", "_reverse") if lstm.bidirectional else ("",)
        weights = torch.cat([getattr(lstm, f"weight_ih_l0{direction}")[g] for direction in directions])
        columns = weights.split([mean.shape[1] for mean in means.values()], dim=1)
        for (m, mean), weight in zip(means.items(), columns, strict=True):
            shares[m] = F.linear(mean, weight)
        return shares


def count_positions(spec: DataSpec, variant: str) -> int:
    """The one length of all segments, in steps.

    Raises ValueError where they have none, and where several LSTMs read them.
    """
    lengths = {m: feature.steps for m, feature in spec.features.items()}
    length = next(iter(lengths.values()))
    if variant != "concat" or length is None or len(set(lengths.values())) > 1:
        found = ", ".join(f"{m} {steps or 'any'}" for m, steps in lengths.items())
        raise ValueError(
            f"norm=positions normalises each step of one length before one LSTM, but variant={variant} and these lengths came: "
            f"{found}; use variant=concat, data.text=vectors, data.padding=official and one data.max_steps, or "
            "model.backbone.norm=none."
        )
    return length


def concatenate_steps(sequences: list[Sequence]) -> Sequence:
    """Aligned sequences concatenated step by step; a modality that a segment lacks is zero there.

    A step is real if it is real in any modality.
    """
    sequences = [real_steps_first(s) for s in sequences]
    time = max(s.values.shape[1] for s in sequences)
    values = [F.pad(s.values.masked_fill(~s.mask.unsqueeze(-1), 0), (0, 0, 0, time - s.values.shape[1])) for s in sequences]
    masks = [F.pad(s.mask, (0, time - s.mask.shape[1])) for s in sequences]
    return Sequence(torch.cat(values, dim=2), torch.stack(masks).any(0))
