"""Stage two, backbone: the parts that several fusion models share, correct under padding.

Padding may stand in front, behind or between real steps: every function here gives what it would give on
the real steps alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mdm.backbones.packing import can_pack, pack, run_lstm
from mdm.data.base import PADDING, UNKNOWN
from mdm.types import DataSpec, Feature, Sequence


class Steps(nn.Module):
    """The steps of one modality as vectors: given vectors as they are, tokens through a trainable embedding.

    Words outside the training fold share the embedding of the unknown word. ``dim`` is the output width.
    """

    def __init__(self, feature: Feature, embedding_dim: int):
        super().__init__()
        self.dim = embedding_dim if feature.tokens else feature.dim
        self.embedding = nn.Embedding(feature.dim, embedding_dim, padding_idx=PADDING) if feature.tokens else None

    def forward(self, sequence: Sequence) -> Sequence:
        if self.embedding is None:
            return sequence
        return Sequence(self.embedding(replace_unknown(sequence.values, self.embedding.num_embeddings)), sequence.mask)


def replace_unknown(ids: Int[Tensor, "*shape"], dim: int) -> Int[Tensor, "*shape"]:
    """Ids for a learned table of ``dim`` rows: words that the training fold lacks (`Feature`) become the unknown word."""
    return torch.where(ids < dim, ids, UNKNOWN)


def real_steps_first(sequence: Sequence) -> Sequence:
    """The same steps in the same order with all padding behind."""
    mask = sequence.mask
    if not bool((mask[:, 1:] & ~mask[:, :-1]).any()):
        return sequence
    order = torch.argsort(~mask, dim=1, stable=True)
    index = order if sequence.values.ndim == 2 else order[:, :, None].expand_as(sequence.values)
    return Sequence(sequence.values.gather(1, index), mask.gather(1, order))


def masked_mean(sequence: Sequence) -> Float[Tensor, "batch dim"]:
    """Mean over real steps; zero where there is none."""
    mask = sequence.mask.unsqueeze(-1)
    return sequence.values.masked_fill(~mask, 0).sum(1) / mask.sum(1).clamp(min=1)


def at_last_step(sequence: Sequence) -> Float[Tensor, "batch dim"]:
    """The vector of the last real step; zero where there is none. Real steps must come first."""
    lengths = sequence.lengths
    last = (lengths.clamp(min=1) - 1)[:, None, None].expand(-1, 1, sequence.values.shape[2])
    return sequence.values.gather(1, last).squeeze(1) * (lengths > 0).unsqueeze(1)


def last_state(lstm: nn.Module, sequence: Sequence) -> Float[Tensor, "batch hidden"]:
    """The top layer's state after the last real step; for a bidirectional LSTM [forward at T; backward at 1].

    A row without a real step gives zero, the state before any step. ``lstm`` is an ``nn.LSTM`` with ``batch_first``.
    """
    sequence = real_steps_first(sequence)
    assert isinstance(lstm, nn.LSTM)
    if can_pack(lstm, sequence.values):
        return run_lstm(lstm, pack(sequence)).at_last_step()
    if not lstm.bidirectional:
        # A forward LSTM at its last real step has not yet seen the padding behind it: no packing, one fused call.
        return at_last_step(Sequence(lstm(sequence.values)[0], sequence.mask))
    # Only packing keeps the backward direction from starting in the padding.
    lengths = sequence.lengths
    packed = nn.utils.rnn.pack_padded_sequence(sequence.values, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
    hidden = lstm(packed)[1][0]
    return torch.cat([hidden[-2], hidden[-1]], dim=1) * (lengths > 0).unsqueeze(1)


class LanguageEncoder(nn.Module):
    """LSTM → dropout → linear, no activation: [batch, time, d] → [batch, dim] (TFN, LMF)."""

    def __init__(self, feature: Feature, embedding_dim: int, hidden: int, dim: int, dropout: float):
        super().__init__()
        self.steps = Steps(feature, embedding_dim)
        self.lstm = nn.LSTM(self.steps.dim, hidden, batch_first=True)
        self.dim = dim
        self.project = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, dim))

    def forward(self, sequence: Sequence) -> Float[Tensor, "batch dim"]:
        return self.project(last_state(self.lstm, self.steps(sequence)))


class PooledEncoder(nn.Module):
    """Mean over real steps → BatchNorm → dropout → 3 × (linear → ReLU): [batch, time, d] → [batch, hidden] (TFN, LMF).

    BatchNorm sits before the fusion, so its statistics see joint rows only. (Published code averages over padding too.)
    """

    def __init__(self, feature: Feature, hidden: int, dropout: float):
        super().__init__()
        self.steps = Steps(feature, hidden)
        self.dim = hidden
        self.norm = nn.BatchNorm1d(self.steps.dim)
        self.project = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(self.steps.dim, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
        )

    def forward(self, sequence: Sequence) -> Float[Tensor, "batch dim"]:
        return self.project(self.norm(masked_mean(self.steps(sequence))))


Number = TypeVar("Number", int, float)


def expand_option(option: str, value: Number | Mapping[str, Number], names: tuple[str, ...]) -> dict[str, Number]:
    """An option that is a number for all names, or a mapping that has each of them; in the order of the names.

    Raises ValueError if the mapping has others.
    """
    result = dict(value) if isinstance(value, Mapping) else dict.fromkeys(names, value)
    if set(result) != set(names):
        raise ValueError(
            f"{option} must be one number, or a number for each of {', '.join(names)}, but is {result}; set "
            f"model.backbone.{option}."
        )
    return {name: result[name] for name in names}


def regressor(dim: int, spec: DataSpec) -> nn.Linear:
    """The last linear map to the targets; its bias starts at the training mean of the labels, or with head_start=random as drawn.

    Published code starts near 0, which is the mean of labels in [-3, 3]; labels in other ranges would otherwise
    spend their first epochs on the offset.
    """
    layer = nn.Linear(dim, len(spec.targets))
    if spec.head_start == "label_mean":
        with torch.no_grad():
            layer.bias.copy_(torch.tensor(spec.label_mean))
    return layer
