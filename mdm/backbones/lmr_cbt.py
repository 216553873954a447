"""Stage two, backbone: LMR-CBT, learning modality-fused representations with CB-Transformer (Fu, Liu, Wang, et al., 2021).

Audio and video each go through a convolution, BatchNorm and a transformer, whose last step is y_m. Language goes through a
bidirectional LSTM of two layers and LN, x_t, and is then changed by each other modality in turn:

    x_t ← softmax_k(tanh(W x_t + b + U y_m))    over the coordinates k of a step

A transformer reads what results plus the first x_t; its last step is h. Z = [h; y_m of each]; a network of three layers follows.
The unimodal representations are the y_m and, for language, the mean of the first x_t.

The authors' code reads [time, batch, d] as [batch, time, d]: its LSTM runs from one segment of the batch to the next, not from word
to word, and predictions depend on their neighbours. ``lstm=official`` has that, for comparison alone. A step that was changed sums
to 1 over its coordinates, whatever was read, so audio and video hardly move language. The F1 of its README is the highest on test
of 120 epochs.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdm.backbones.base import Backbone, require_modalities
from mdm.backbones.layers import Steps, masked_mean, real_steps_first, regressor
from mdm.backbones.mult import Layer, Memory, Projection
from mdm.hints import Depth, Share, Size, require_option
from mdm.types import Batch, DataSpec, Encoded, Feature, Fusion, Sequence

Axis = Literal["corrected", "official"]


class LMRCBT(Backbone):
    """LMR-CBT.

    dim, heads, layers: of all transformers (official 40, 8 and 5); the LSTM has dim / 2 units in each direction
    kernel: steps that the convolutions see, odd (official 3)
    lstm: ``corrected``, along the steps of a segment (default); ``official``, along the segments of a batch, so that a prediction
        depends on its batch
    language_dropout, lstm_dropout: before the LSTM and between its layers (official .3 and .5)
    attention_dropout, relu_dropout, residual_dropout, embedding_dropout: as in `MulT`
    output_dropout: in the head (official .1)
    embedding_dim: width of the trainable word embedding, where the text is words

    Raises ValueError without language and another modality, and on options out of range or unknown.

    >>> from mdm.types import Feature
    >>> features = {"language": Feature(300), "audio": Feature(74), "video": Feature(35)}
    >>> model = LMRCBT(DataSpec(features, ("y",), (-3.0, 3.0), (0.0,), aligned=False), dim=40, heads=8, layers=5)
    >>> sum(p.numel() for p in model.parameters())
    406441
    """

    def __init__(
        self,
        spec: DataSpec,
        dim: Size = 20,
        heads: Size = 2,
        layers: Depth = 1,
        kernel: Size = 3,
        lstm: Axis = "corrected",
        language_dropout: Share = 0.1,
        lstm_dropout: Share = 0.1,
        attention_dropout: Share = 0.0,
        relu_dropout: Share = 0.0,
        residual_dropout: Share = 0.1,
        embedding_dropout: Share = 0.1,
        output_dropout: Share = 0.1,
        embedding_dim: Size = 64,
    ):
        super().__init__()
        require_option("lstm", lstm, Axis)
        require_modalities(spec, ("language",), "LMR-CBT")
        self.others = [m for m in spec.modalities if m != "language"]
        if not self.others:
            raise ValueError("LMR-CBT needs language and at least one other modality, got language alone; set data.modalities.")
        if dim % heads or dim % 2 or kernel % 2 == 0:
            raise ValueError(
                f"LMR-CBT needs an even dim that heads divide and an odd kernel, got dim={dim}, heads={heads}, kernel={kernel}; "
                "set model.backbone.*."
            )

        def make_transformer() -> Memory:
            stack = [Layer(dim, heads, attention_dropout, relu_dropout, residual_dropout) for _ in range(layers)]
            return Memory(nn.ModuleList(stack), dim, embedding_dropout)

        self.encodes_whole = lstm == "official"  # which carries words from row to row
        self.modalities = spec.modalities
        self.project = nn.ModuleDict({m: Projection(spec.features[m], embedding_dim, dim, kernel, 0.0) for m in self.others})
        self.norms = nn.ModuleDict({m: nn.BatchNorm1d(dim) for m in self.others})
        self.transformers = nn.ModuleDict({m: make_transformer() for m in spec.modalities})
        self.words = WordReader(spec.features["language"], embedding_dim, dim, language_dropout, lstm_dropout, lstm == "official")
        self.blocks = nn.ModuleDict({m: CrossBlock(dim) for m in reversed(self.others)})
        self.unimodal_dims = dict.fromkeys(spec.modalities, dim)
        self.z_dim = dim * len(spec.modalities)
        self.head = nn.Sequential(
            nn.Linear(self.z_dim, self.z_dim),
            nn.ReLU(),
            nn.Dropout(output_dropout),
            nn.Linear(self.z_dim, self.z_dim),
            regressor(self.z_dim, spec),
        )

    def encode(self, batch: Batch) -> Encoded:
        encoded: Encoded = {}
        for m in self.modalities:
            if m == "language":
                encoded[m] = {"x": self.words(batch.sequences[m])}
                continue
            steps = self.project[m](batch.sequences[m])
            values = torch.zeros_like(steps.values)
            values[steps.mask] = self.norms[m](steps.values[steps.mask]).to(values.dtype)
            encoded[m] = {"y": self.transformers[m](Sequence(values, steps.mask), True, "all")}
        return encoded

    def fuse(self, encoded: Encoded) -> Fusion:
        words: Sequence = encoded["language"]["x"]
        y = {m: encoded[m]["y"] for m in self.others}
        x = words.values
        for m, block in self.blocks.items():
            x = block(x, y[m])
        x = (x + words.values).masked_fill(~words.mask.unsqueeze(2), 0)
        h = self.transformers["language"](Sequence(x, words.mask), True, "all")
        z = torch.cat([h, *y.values()], dim=1)
        unimodal = {"language": masked_mean(words), **y}
        return Fusion(self.head(z), z, {m: unimodal[m] for m in self.modalities})


class WordReader(nn.Module):
    """Language → [batch, time, dim], real steps first: dropout, bidirectional LSTM of two layers, LN."""

    def __init__(self, feature: Feature, embedding_dim: int, dim: int, before: float, between: float, across: bool):
        super().__init__()
        self.steps, self.dropout, self.across = Steps(feature, embedding_dim), nn.Dropout(before), across
        self.lstm = nn.LSTM(self.steps.dim, dim // 2, 2, batch_first=True, bidirectional=True, dropout=between)
        self.norm = nn.LayerNorm(dim)

    def forward(self, sequence: Sequence) -> Sequence:
        sequence = real_steps_first(self.steps(sequence))
        padding = ~sequence.mask.unsqueeze(2)
        x = self.dropout(sequence.values.masked_fill(padding, 0))
        if self.across:
            states = self.lstm(x.transpose(0, 1))[0].transpose(0, 1)
        else:
            # Only packing keeps the backward direction from starting in the padding.
            lengths = sequence.lengths.clamp(min=1).cpu()
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            states = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.shape[1])[0]
        return Sequence(self.norm(states).masked_fill(padding, 0), sequence.mask)


class CrossBlock(nn.Module):
    """x_t, y → softmax over coordinates of tanh(W x_t + b + U y)."""

    def __init__(self, dim: int):
        super().__init__()
        self.own, self.other = nn.Linear(dim, dim), nn.Linear(dim, dim, bias=False)

    def forward(self, x: Float[Tensor, "batch time dim"], y: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch time dim"]:
        return (self.own(x) + self.other(y).unsqueeze(1)).tanh().softmax(2)
