"""Stage two, backbone: the cells of several modalities side by side, as the models have them that mix states at every step.

What the inputs give to the gates is of each modality alone, so it is computed for all steps at once; the loop over steps runs
for all modalities together. Gates stand in the order i, f, o, g, and within each gate the cells in the order of the modalities.
"""

from __future__ import annotations

from collections.abc import Sequence as Ordered

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from mdm.backbones.base import require_equal_padding
from mdm.backbones.layers import Steps, masked_mean, real_steps_first
from mdm.types import DataSpec, Feature, Sequence


class GateInputs(nn.Module):
    """A modality's steps → W x_t + b for the gates of its cells, [batch, time, 4·hidden], real steps first.

    ``candidate``: the mean of its last quarter over real steps, what the modality by itself puts into its cells on average;
    [batch, hidden], zero where there is no step.
    """

    def __init__(self, feature: Feature, embedding_dim: int, hidden: int, bias: bool = True):
        super().__init__()
        self.steps = Steps(feature, embedding_dim)
        self.linear = nn.Linear(self.steps.dim, 4 * hidden, bias)
        self.hidden = hidden

    def forward(self, sequence: Sequence) -> dict[str, Sequence | Tensor]:
        sequence = real_steps_first(self.steps(sequence))
        gates = Sequence(self.linear(sequence.values.masked_fill(~sequence.mask.unsqueeze(2), 0)), sequence.mask)
        return {"gates": gates, "candidate": masked_mean(Sequence(gates.values[..., -self.hidden :], gates.mask))}


def join_views(
    views: Ordered[Sequence],
) -> tuple[Float[Tensor, "batch time four_cells"], Bool[Tensor, "batch time cells"], Bool[Tensor, "batch time 1"]]:
    """What `GateInputs` gives, for all cells: inputs, whether a cell has a step there, and whether any has."""
    time = max(view.values.shape[1] for view in views)
    gates = [F.pad(view.values, (0, 0, 0, time - view.values.shape[1])).unflatten(2, (4, -1)) for view in views]
    masks = [F.pad(view.mask, (0, time - view.mask.shape[1])).unsqueeze(2) for view in views]
    there = torch.cat([mask.expand(-1, -1, g.shape[3]) for mask, g in zip(masks, gates, strict=True)], dim=2)
    return torch.cat(gates, dim=3).flatten(2), there, torch.cat(masks, dim=2).any(2, keepdim=True)


def step_cells(
    gates: Float[Tensor, "batch four_cells"], h: Tensor, c: Tensor, there: Bool[Tensor, "batch cells"], squash: bool = True
) -> tuple[Float[Tensor, "batch cells"], Float[Tensor, "batch cells"]]:
    """c' = σ(f)∘c + σ(i)∘tanh(g), h' = σ(o)∘tanh(c'), without ``squash`` σ(o)∘c'; a cell without a step keeps both."""
    i, f, o, g = gates.chunk(4, dim=1)
    new = f.sigmoid() * c + i.sigmoid() * g.tanh()
    out = o.sigmoid() * (new.tanh() if squash else new)
    return torch.where(there, out, h), torch.where(there, new, c)


def require_steps_correspond(spec: DataSpec, model: str) -> None:
    """Raise ValueError unless the modalities have one step per word each, with padding treated alike."""
    if not spec.aligned:
        raise ValueError(
            f"{model} compares the modalities step by step, so it needs word-aligned data, but these are unaligned; use aligned "
            "data, or a model that pools each modality (df, lmf, tfn)."
        )
    require_equal_padding(spec, model)
