"""Stage two, backbone: MIRD's decoder, from a code to the steps of a modality, and how far they are from those that came in."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mdm.types import Sequence

CHUNK = 2048
"""Pieces whose scores over the whole vocabulary are in memory at a time (0.25 GB for BERT's)."""


class Decoder(nn.Module):
    """[z_S; z_m] → the steps of a modality, by an LSTM that reads its own last state (Qian et al., 2024, Eq. 8).

    The first input is the code, from the zero state; every later one is the state before it. Official code runs this step by step.
    """

    def __init__(self, dim: int, out: int):
        super().__init__()
        self.cell = nn.LSTMCell(dim, dim)
        self.project = nn.Linear(dim, out)

    def states(self, code: Float[Tensor, "batch dim"], steps: int) -> Float[Tensor, "batch steps dim"]:
        """Hidden states of all steps in one call: W_ih h + W_hh h = (W_ih + W_hh) h, so no input is left after the first."""
        h, c = self.cell(code)
        if steps == 1:
            return h.unsqueeze(1)
        # cuDNN and the CPU's kernel want an input; theirs is a zero.
        nothing, weight = code.new_zeros(len(code), steps - 1, 1), self.cell.weight_ih.new_zeros(4 * self.cell.hidden_size, 1)
        weights = [weight, self.cell.weight_ih + self.cell.weight_hh, self.cell.bias_ih, self.cell.bias_hh]
        later = torch.lstm(nothing, (h.unsqueeze(0), c.unsqueeze(0)), weights, True, 1, 0.0, self.training, False, True)[0]
        return torch.cat([h.unsqueeze(1), later], dim=1)


def mean_squared_error(rebuilt: Float[Tensor, "batch time dim"], frames: Sequence) -> Float[Tensor, ""]:
    """Mean over real frames and their numbers; 0 where there is none."""
    mask = frames.mask.unsqueeze(-1)
    error = (rebuilt.float() - frames.values.masked_fill(~mask, 0)).masked_fill(~mask, 0)
    return error.square().sum() / (mask.sum().clamp(min=1) * rebuilt.shape[2])


def cross_entropy(
    states: Float[Tensor, "pieces dim"], project: nn.Module, ids: Int[Tensor, " pieces"], chunk: int = CHUNK
) -> Float[Tensor, ""]:
    """Mean of −log softmax(project(state))[id], in nats per piece.

    Chunk by chunk, and each chunk again on the way back, so that the scores over the vocabulary are never there for all pieces.
    """

    def part(states: Tensor, ids: Tensor) -> Tensor:
        return F.cross_entropy(project(states).float(), ids, reduction="sum")

    if len(states) <= chunk:
        return part(states, ids) / max(len(states), 1)
    parts = zip(states.split(chunk), ids.split(chunk), strict=True)
    return torch.stack([checkpoint(part, s, i, use_reentrant=False) for s, i in parts]).sum() / len(states)
