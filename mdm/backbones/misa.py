"""Stage two, backbone: MISA, modality-invariant and modality-specific representations (Hazarika et al. 2020).

Each modality is read into one vector and projected to a common width, p_m. Two codes come from it: a private one, of a map of its
own, and a shared one, of the same map for all modalities. The model's own terms make the shared codes alike in law, the
codes otherwise uncorrelated, and let both together rebuild p_m. The 2M codes are the tokens of one transformer layer.

Z is the concatenation of that layer's outputs, followed by a two-layer head; the unimodal representations are the p_m, and
the codes are the parts ``private_<modality>`` and ``shared_<modality>``. All but the transformer layer belongs to one modality
alone, so samples of the product need the text encoder only once.
"""

from __future__ import annotations

from itertools import combinations
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from mdm.backbones.base import Backbone
from mdm.backbones.layers import masked_mean, real_steps_first, regressor
from mdm.backbones.text import TextEncoder
from mdm.estimators import central_moment_discrepancy, orthogonality
from mdm.hints import Count, Share, Size, require_option
from mdm.types import Batch, DataSpec, Encoded, Fusion, Sequence

TextCut = Literal["none", "batch"]
Target = Literal["attached", "detached"]


class MISA(Backbone):
    """MISA.

    text_encoder: of language as words or tokens, a transformer of the family bert, see `TextEncoder`; its last layer is averaged
        over all pieces, the special ones too, as in the official code. Language as vectors is read as the other modalities are,
        by stacked LSTMs (the official code's GloVe path)
    freeze_layers: how many of the transformer's first layers, with the embeddings below them, stay as they came. The official code
        freezes 9 of 12 on MOSEI and leaves the embeddings to learn, so that gradients still run through all layers
    max_pieces: null (default), all that the encoder can read
    cut: of texts. ``none`` (default) beside max_pieces; ``batch``, as in official code: as many pieces are kept as the longest
        segment of the batch has words, and 2; so what is read of a sentence depends on the batch
    dim: width of projections and codes (128 in the official code)
    heads, feedforward, transformer_dropout: of the transformer layer (2, 2048 and 0.1 in the official code)
    dropout: in the head
    similarity, difference, reconstruction: weights of the own terms, 0 for none; the defaults are those of the official code. See
        `own_terms`
    target: of the reconstruction, p_m. ``attached``, it moves towards its reconstruction too (default, official: the layer norm
        keeps it from vanishing); ``detached``, it is as good as given

    A segment that lacks a modality has constants for its codes.

    Raises ValueError with fewer than two modalities, if a modality beside language comes as tokens, on freeze_layers without text
    or beyond the encoder's layers, on sizes that do not fit, a negative weight, or an unknown target or cut.

    >>> from mdm.data.splits import Splits
    >>> from mdm.data.synthetic import synthetic
    >>> splits = Splits(synthetic(train=16, valid=4, test=4), batch_size=8)
    >>> batch = next(iter(splits.valid()))
    >>> model = MISA(splits.spec, dim=8)
    >>> encoded = model.encode(batch)
    >>> sorted(model.own_terms(batch, encoded, model.fuse(encoded)))
    ['difference', 'reconstruction', 'similarity']
    """

    def __init__(
        self,
        spec: DataSpec,
        text_encoder: str = "tiny",
        freeze_layers: Count = 0,
        max_pieces: int | None = None,
        cut: TextCut = "none",
        dim: Size = 64,
        heads: Size = 2,
        feedforward: Size = 256,
        transformer_dropout: Share = 0.1,
        dropout: Share = 0.5,
        similarity: float = 1.0,
        difference: float = 0.3,
        reconstruction: float = 1.0,
        target: Target = "attached",
    ):
        super().__init__()
        check_data(spec)
        if min(dim, heads, feedforward) < 1 or dim % heads:
            raise ValueError(
                f"MISA takes dim, heads, feedforward >= 1 and dim a multiple of heads, but dim={dim}, heads={heads}, "
                f"feedforward={feedforward} came; set model.backbone.*."
            )
        if not min(similarity, difference, reconstruction) >= 0:
            raise ValueError(
                f"MISA's terms have weights >= 0, but similarity={similarity}, difference={difference}, "
                f"reconstruction={reconstruction} came; set model.backbone.*."
            )
        require_option("cut", cut, TextCut)
        require_option("target", target, Target)
        self.similarity, self.difference, self.reconstruction, self.target = similarity, difference, reconstruction, target
        self.cut = cut
        modalities = spec.modalities
        text = "language" in spec.features and spec.features["language"].tokens
        self.text = TextEncoder(spec.features["language"], "bert", text_encoder, max_pieces) if text else None
        freeze(self.text, freeze_layers)
        encoders = {m: StackedLSTM(f.dim) for m, f in spec.features.items() if not f.tokens}
        self.encoders = nn.ModuleDict(encoders)
        widths = {m: encoder.dim for m, encoder in encoders.items()}
        if self.text is not None:
            widths["language"] = self.text.dim
        self.project = nn.ModuleDict(
            {m: nn.Sequential(nn.Linear(widths[m], dim), nn.ReLU(), nn.LayerNorm(dim)) for m in modalities}
        )
        self.private = nn.ModuleDict({m: nn.Sequential(nn.Linear(dim, dim), nn.Sigmoid()) for m in modalities})
        self.shared = nn.Sequential(nn.Linear(dim, dim), nn.Sigmoid())
        self.rebuild = nn.ModuleDict({m: nn.Linear(dim, dim) for m in modalities if reconstruction > 0})
        self.transformer = nn.TransformerEncoderLayer(dim, heads, feedforward, transformer_dropout, batch_first=True)
        self.unimodal_dims = dict.fromkeys(modalities, dim)
        self.part_dims = {f"{kind}_{m}": dim for kind in ("private", "shared") for m in modalities}
        self.z_dim = 2 * len(modalities) * dim
        half = self.z_dim // 2
        self.head = nn.Sequential(nn.Linear(self.z_dim, half), nn.Dropout(dropout), nn.ReLU(), regressor(half, spec))

    def encode(self, batch: Batch) -> Encoded:
        encoded: Encoded = {}
        for m, project in self.project.items():
            projected = project(self._read(m, batch.sequences[m]))
            encoded[m] = {"projected": projected, "private": self.private[m](projected), "shared": self.shared(projected)}
        return encoded

    def _read(self, modality: str, sequence: Sequence) -> Float[Tensor, "batch dim"]:
        if modality in self.encoders:
            return self.encoders[modality](sequence)
        assert self.text is not None
        pieces = self.text.pieces(sequence, int(sequence.lengths.max()) + 2 if self.cut == "batch" else None)
        return masked_mean(Sequence(self.text(pieces).last_hidden_state, pieces.mask))

    def fuse(self, encoded: Encoded) -> Fusion:
        parts = {f"{kind}_{m}": encoded[m][kind] for kind in ("private", "shared") for m in self.project}
        # No positions: the concatenation tells the tokens apart.
        z = self.transformer(torch.stack(list(parts.values()), dim=1)).flatten(1)
        return Fusion(self.head(z), z, {m: encoded[m]["projected"] for m in self.project}, parts)

    def own_terms(self, batch: Batch, encoded: Encoded, fusion: Fusion) -> dict[str, Float[Tensor, ""]]:
        """Of all rows, labelled or not, as in the official code:

        similarity: mean over pairs of modalities of the CMD of their shared codes
        difference: sum of `orthogonality` between each modality's private and shared code, and between every two private codes.
            A mean over the entries of d × d matrices, 1/d² of the squared norm in the paper, that grows with the square of the rows
        reconstruction: mean over modalities of the mean squared error of W_m(private + shared) + b_m against p_m
        """
        private, shared = ({m: fusion.parts[f"{kind}_{m}"] for m in self.project} for kind in ("private", "shared"))
        pairs = list(combinations(self.project, 2))
        terms = {}
        if self.similarity > 0:
            distances = [central_moment_discrepancy(shared[a], shared[b]) for a, b in pairs]
            terms["similarity"] = self.similarity * torch.stack(distances).mean()
        if self.difference > 0:
            overlaps = [orthogonality(private[m], shared[m]) for m in private]
            overlaps += [orthogonality(private[a], private[b]) for a, b in pairs]
            terms["difference"] = self.difference * torch.stack(overlaps).sum()
        if self.reconstruction > 0:
            errors = []
            for m, rebuild in self.rebuild.items():
                wanted = fusion.unimodal[m].detach() if self.target == "detached" else fusion.unimodal[m]
                errors.append(F.mse_loss(rebuild(private[m] + shared[m]).float(), wanted.float()))
            terms["reconstruction"] = self.reconstruction * torch.stack(errors).mean()
        return terms


class StackedLSTM(nn.Module):
    """BiLSTM → layer norm → BiLSTM, each with as many units as numbers come in: steps → the final states of both, [batch, 4·width].

    A row without a real step gives zero. Recurrent matrices begin orthogonal, those of the four gates as one 4d × d matrix, as in
    the official code.
    """

    def __init__(self, width: int):
        super().__init__()
        self.dim = 4 * width
        self.first = nn.LSTM(width, width, batch_first=True, bidirectional=True)
        self.norm = nn.LayerNorm(2 * width)
        self.second = nn.LSTM(2 * width, width, batch_first=True, bidirectional=True)
        for lstm in (self.first, self.second):
            for name, parameter in lstm.named_parameters():
                if name.startswith("weight_hh"):
                    nn.init.orthogonal_(parameter)

    def forward(self, sequence: Sequence) -> Float[Tensor, "batch four_widths"]:
        sequence = real_steps_first(sequence)
        lengths = sequence.lengths
        packed = pack_padded_sequence(sequence.values, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
        steps, (first, _) = self.first(packed)
        # The norm is of each step alone, so steps stay packed.
        between = PackedSequence(self.norm(steps.data), steps.batch_sizes, steps.sorted_indices, steps.unsorted_indices)
        second = self.second(between)[1][0]
        return torch.cat([*first, *second], dim=1) * (lengths > 0).unsqueeze(1)


def check_data(spec: DataSpec) -> None:
    """Raise ValueError unless there are two modalities at least, and vectors where it is not language."""
    if len(spec.modalities) < 2:
        raise ValueError(
            f"MISA needs at least two modalities to tell what they share, but the data have {', '.join(spec.modalities)}; choose "
            "data with more, or another model."
        )
    tokens = [m for m, feature in spec.features.items() if feature.tokens and m != "language"]
    if tokens:
        raise ValueError(
            f"MISA needs vectors for what is not language, but {', '.join(tokens)} comes as tokens; set data.modalities."
        )


def freeze(text: TextEncoder | None, layers: int) -> None:
    """Let the embeddings and the first layers be as they came; as nothing below them learns, no gradient is computed there.

    Raises ValueError if there are no such layers.
    """
    there = 0 if text is None else text.model.config.num_hidden_layers
    if not 0 <= layers <= there:
        raise ValueError(
            f"freeze_layers needs that many layers of a text encoder, of which there are {there}, but is {layers}; set "
            "model.backbone.freeze_layers (0 where language comes as vectors)."
        )
    if text is not None and layers > 0:
        text.model.get_submodule("embeddings").requires_grad_(False)
        for i in range(layers):
            text.model.get_submodule(f"encoder.layer.{i}").requires_grad_(False)
