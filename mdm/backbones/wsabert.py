"""Stage two, backbone: WSA-BERT, word-wise sparse attention to audio and video inside BERT (Qian et al., 2024).

Each word piece of BERT's embedding output e looks for its own frames: X̃_m = sparsemax(E (X_m W_m)ᵀ) X_m (Qian et al., 2024, Eq.
2), and the gate of MAG moves e by them. So the modalities need no alignment, but they mix before BERT's first layer: nothing except
the cutting into pieces can be done for each modality alone.

Z is what the head reads, BERT's pooler output or the mean over pieces. The paper has no representation of a modality alone;
here they are, as in `mdm.backbones.mag`, what the gate adds up: the mean over pieces of words of e, and the mean over frames of
W'_m x + b'_m.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mdm.backbones.base import Backbone
from mdm.backbones.layers import expand_option, masked_mean
from mdm.backbones.mag import Activation, Gate, find_nonverbal, shrink_layer, small_regressor, summands
from mdm.backbones.text import Pieces, TextEncoder, replace_output
from mdm.hints import Share, require_option
from mdm.types import Batch, DataSpec, Encoded, Feature, Fusion, Sequence

Attention = Literal["sparse", "soft"]
Pooling = Literal["pooler", "mean"]
Head = Literal["linear", "mlp"]


class WSABERT(Backbone):
    """WSA-BERT.

    text_encoder: which transformer of the family bert, see `TextEncoder`
    attention: ``sparse`` (sparsemax, default) or ``soft`` (softmax), the paper's WA
    pooling: ``pooler``, tanh(W·[CLS] + b), as the official code has it (default); ``mean``, the mean of the last layer over
        pieces, as Qian et al. (2024) write it
    beta: how far a piece may be moved, in units of its own length (ε of Qian et al., 2024, Eq. 6)
    activation: of the gate. ``relu`` as official code has it and MAG before it (default); ``sigmoid`` as Qian et al. (2024) print
        it
    gate_dropout: of what the gate returns
    head: ``linear`` (default), Z → dropout → linear, of the model's own code; ``mlp``, Z → dropout → 128 → dropout → 64 → ReLU →
        dropout → linear, of the copy in MIRD's code
    dropout: in the head, one number, or place → number: ``first``, and of ``mlp`` also ``hidden`` and ``last`` (MIRD's copy: 0.1,
        0.5, 0.5)
    max_pieces: official code reads the first 50 pieces, the special ones included; null: all

    The official code attends to padding, whose frames are zeros, as many as its file has (data.padding=official); by default it is
    masked. One thing is left out, a bias in X W + b: e·b is the same for every frame, which neither sparsemax nor softmax sees.

    Raises ValueError without text, on frames that are tokens, and on options that are not these.

    >>> from mdm.data.splits import Splits
    >>> from mdm.data.synthetic import synthetic
    >>> splits = Splits(synthetic(train=16, valid=4, test=4), batch_size=8)
    >>> batch = next(iter(splits.valid()))
    >>> WSABERT(splits.spec)(batch).prediction.shape
    torch.Size([4, 1])
    """

    def __init__(
        self,
        spec: DataSpec,
        text_encoder: str = "tiny",
        attention: Attention = "sparse",
        pooling: Pooling = "pooler",
        beta: float = 1.0,
        activation: Activation = "relu",
        gate_dropout: Share = 0.5,
        head: Head = "linear",
        dropout: Share | Mapping[str, Share] = 0.1,
        max_pieces: int | None = 50,
    ):
        super().__init__()
        others = find_nonverbal(spec, "WSA-BERT")
        require_option("attention", attention, Attention)
        require_option("pooling", pooling, Pooling)
        require_option("activation", activation, Activation)
        require_option("head", head, Head)
        self.pooling, self.modalities = pooling, spec.modalities
        self.text = TextEncoder(spec.features["language"], "bert", text_encoder, max_pieces, pooler=pooling == "pooler")
        self.z_dim = dim = self.text.dim
        self.unimodal_dims = dict.fromkeys(spec.modalities, dim)
        self.injection = Injection(dim, others, attention, beta, gate_dropout, activation)
        rates = expand_option("dropout", dropout, ("first",) if head == "linear" else ("first", "hidden", "last"))
        drop = {place: nn.Dropout(rate) for place, rate in rates.items()}
        if head == "linear":
            self.head = nn.Sequential(drop["first"], small_regressor(dim, spec))
        else:
            wide, narrow = shrink_layer(nn.Linear(dim, 128)), shrink_layer(nn.Linear(128, 64))
            layers = (drop["first"], wide, drop["hidden"], narrow, nn.ReLU(), drop["last"], small_regressor(64, spec))
            self.head = nn.Sequential(*layers)

    encodes_whole = True

    def encode(self, batch: Batch) -> Encoded:
        encoded: Encoded = {}
        for m in self.modalities:
            sequence = batch.sequences[m]
            encoded[m] = self.text.pieces(sequence).parts() if m == "language" else {"frames": sequence}
        return encoded

    def fuse(self, encoded: Encoded) -> Fusion:
        pieces = Pieces.of(encoded["language"])
        frames = {m: parts["frames"] for m, parts in encoded.items() if m != "language"}
        z, before = read_pieces(self.text, self.injection, pieces, frames, self.pooling)
        return Fusion(self.head(z), z, summands(self.injection.gate, encoded, before))


def read_pieces(
    text: TextEncoder, injection: Injection, pieces: Pieces, frames: dict[str, Sequence], pooling: Pooling
) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch pieces dim"]]:
    """BERT on pieces that have been moved by their frames: its summary, and the embeddings as they were before."""
    before: list[Tensor] = []

    def move(e: Tensor) -> Tensor:
        before.append(e)
        return injection(e, frames)

    with replace_output(text.model.get_submodule("embeddings"), move):
        output = text.read(pieces)
    if pooling == "pooler":
        return output.pooler_output, before[0]
    return masked_mean(Sequence(output.last_hidden_state, pieces.mask)), before[0]


class Injection(nn.Module):
    """e → Gate(e, X̃), where each piece's X̃_m is a weighted mean of all frames of modality m (Qian et al., 2024, Eqs. 2–6).

    attention: ``sparse`` or ``soft``; the other options are those of the `Gate`
    features: modality → how its frames look; with none, the gate is Dropout(LN(e))

    Weights start as those of the transformer around them. A row without frames gets X̃_m = 0.
    """

    def __init__(
        self,
        dim: int,
        features: Mapping[str, Feature],
        attention: Attention,
        beta: float,
        dropout: float,
        activation: Activation,
    ):
        super().__init__()
        self.weigh = sparsemax if attention == "sparse" else masked_softmax
        widths = {m: feature.dim for m, feature in features.items()}
        keys = {m: nn.Linear(width, dim, bias=False) for m, width in widths.items()}
        for layer in keys.values():
            nn.init.normal_(layer.weight, std=0.02)
        self.keys = nn.ModuleDict(keys)
        self.gate = Gate(dim, widths, beta, dropout, activation)

    def forward(self, e: Float[Tensor, "batch pieces dim"], frames: dict[str, Sequence]) -> Float[Tensor, "batch pieces dim"]:
        found = {}
        for m, key in self.keys.items():
            values = frames[m].values.masked_fill(~frames[m].mask.unsqueeze(-1), 0)
            weights = self.weigh(e @ key(values).transpose(1, 2), frames[m].mask.unsqueeze(1))
            found[m] = weights.to(values.dtype) @ values
        return self.gate(e, found)


def sparsemax(scores: Float[Tensor, "*batch frames"], mask: Bool[Tensor, "*#batch frames"]) -> Float[Tensor, "*batch frames"]:
    """The point of the probability simplex nearest to the scores of real frames (Martins & Astudillo 2016); 0 elsewhere.

    max(s − τ, 0), where τ makes the sum 1: τ = (Σ_{j≤k} s_(j) − 1) / k for the largest k with 1 + k·s_(k) > Σ_{j≤k} s_(j), scores
    sorted downwards. In fp32 whatever came. Rows without a real frame are zero.
    """
    s = clamp_scores(scores, mask)
    with torch.no_grad():
        # The support is found outside the graph; inside, τ is a mean over it, which has sparsemax's own Jacobian I − 11ᵀ/k.
        ordered = s.sort(dim=-1, descending=True).values
        total = ordered.cumsum(-1)
        rank = torch.arange(1, s.shape[-1] + 1, device=s.device)
        size = (1 + rank * ordered > total).sum(-1, keepdim=True)
        support = (s > (total.gather(-1, size - 1) - 1) / size) & mask
        count = support.sum(-1, keepdim=True).clamp(min=1)
    threshold = ((s * support).sum(-1, keepdim=True) - 1) / count
    # Rounding may leave −1e-8 at the edge of the support.
    return ((s - threshold) * support).clamp(min=0)


def masked_softmax(scores: Float[Tensor, "*batch frames"], mask: Bool[Tensor, "*#batch frames"]) -> Float[Tensor, "*batch frames"]:
    """Softmax over real frames, 0 elsewhere, in fp32; rows without a real frame are zero."""
    lowest = torch.finfo(torch.float32).min
    return scores.float().masked_fill(~mask, lowest).softmax(-1) * mask


def clamp_scores(scores: Tensor, mask: Tensor) -> Tensor:
    """Scores less their row's largest, in [−2, 0]: what is lower than −1 gets no weight, so sums stay small and exact."""
    s = scores.float().masked_fill(~mask, torch.finfo(torch.float32).min)
    return (s - s.amax(-1, keepdim=True).detach()).clamp(min=-2).masked_fill(~mask, -2)
