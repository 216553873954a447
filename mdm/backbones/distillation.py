"""Stage two, backbone: what the modalities of DMD learn from each other: edges of a graph between them, and triplets of codes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class Distillation(nn.Module):
    """Each modality j as a pupil of each other one i, as much as an edge of each segment says.

    With z_j = [W_1 prediction_j; W_2 representation_j], e = softmax over pairs of w·[z_j; z_i]/8, and a prior p of the pairs, the
    softmax of 4 where the teacher is thought to know better (language of any; with ``apart`` video of audio) and of 0 elsewhere:

        10 Σ_pairs (mean e − p)² + Σ_pairs mean (e + p)·(|prediction_j − prediction_i|₁ + 10·[apart] max(0, cos(r_j, r_i)))

    with what is of i, the teacher, taken as given. ``apart`` is of private codes, whose representations are to differ; the mean of
    their cosines is over rows before the edges weigh it, as in the authors' code.
    """

    prior: Tensor

    def __init__(self, modalities: tuple[str, ...], targets: int, dim: int, width: int, apart: bool = False):
        super().__init__()
        self.prediction, self.representation = nn.Linear(targets, width), nn.Linear(dim, width)
        # A bias would be the same for all pairs, which a softmax does not see.
        self.edge = nn.Linear(4 * width, 1, bias=False)
        self.apart = apart
        count = len(modalities)
        self.pairs = [(j, i) for j in range(count) for i in range(count) if i != j]
        better = [
            modalities[i] == "language" or (apart and (modalities[j], modalities[i]) == ("audio", "video")) for j, i in self.pairs
        ]
        self.register_buffer("prior", (4.0 * torch.tensor(better)).softmax(0), persistent=False)

    def forward(
        self, predictions: Float[Tensor, "modalities batch targets"], representations: Float[Tensor, "modalities batch dim"]
    ) -> Float[Tensor, ""]:
        edges = self.find_edges(predictions, representations).float()
        pupils, teachers = (torch.tensor(side, device=edges.device) for side in zip(*self.pairs, strict=True))
        p, r = predictions.float(), representations.float()
        costs = (p[pupils] - p[teachers].detach()).abs().sum(2)
        if self.apart:
            overlap = F.cosine_similarity(r[pupils], r[teachers].detach(), dim=2).clamp(min=0).mean(1, keepdim=True)
            costs = costs + 10 * overlap
        weighted = ((edges + self.prior[:, None]) * costs).mean(1).sum()
        return 10 * (edges.mean(1) - self.prior).square().sum() + weighted

    def find_edges(self, predictions: Tensor, representations: Tensor) -> Float[Tensor, "pairs batch"]:
        """The e of each pair, which sum to 1 in each segment."""
        z = torch.cat([self.prediction(predictions), self.representation(representations)], dim=2)
        pupils, teachers = (torch.tensor(side, device=z.device) for side in zip(*self.pairs, strict=True))
        return (self.edge(torch.cat([z[pupils], z[teachers]], dim=2)).squeeze(2) / 8).softmax(0)


def margin_of_triplets(codes: Float[Tensor, "batch modalities d"], label: Float[Tensor, "batch targets"]) -> Float[Tensor, ""]:
    """Codes of equal labels are to be nearer than others, by .15 of how far the labels of these are off.

    Mean over anchors i that have both, of the mean over positives p (equal labels, itself not) and negatives n of
    max(0, .15 |y_i − y_n| − cos(c_i, c_p) + cos(c_i, c_n)), all modalities' codes alike; 0 without an anchor. With several targets
    the distance of labels is the mean of theirs.
    """
    modalities = codes.shape[1]
    flat = F.normalize(codes.flatten(0, 1), dim=1, eps=1e-4)
    y = label.repeat_interleave(modalities, dim=0)
    cosine, distance = flat @ flat.t(), (y[:, None] - y[None]).abs().mean(2)
    positive, negative = (distance == 0).fill_diagonal_(False), distance > 0
    most = int(positive.sum(1).max()) if len(y) else 0
    if most == 0 or not bool(negative.any()):
        return codes.sum() * 0
    # Anchor × its positives, few, × all others.
    real, order = positive.float().topk(most, dim=1)
    hinge = (0.15 * distance[:, None] - cosine.gather(1, order)[:, :, None] + cosine[:, None]).clamp(min=0)
    weights = real[:, :, None] * negative[:, None]
    each = (hinge * weights).sum((1, 2)) / weights.sum((1, 2)).clamp(min=1)
    anchors = positive.any(1) & negative.any(1)
    return each[anchors].mean()
