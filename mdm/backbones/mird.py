"""Stage two, backbone: MIRD, mutual-information-based disentanglement (Qian et al., 2024).

What the modalities share is *one* representation, z_S, read from all of them by WSA-BERT; each has one of its own, z_m, from an
LSTM. They are to be independent (the own penalty, `mdm.penalties.club`) and together to lose nothing: a decoder per modality
rebuilds its input from [z_S; z_m].

Z is [z_S; z_L; z_A; z_V] (Eq. 16), followed by a two-layer head; the unimodal representations are the z_m, and z_S is the part
``shared``.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mdm.backbones.base import Backbone
from mdm.backbones.layers import last_state, masked_mean, real_steps_first, regressor
from mdm.backbones.mag import Activation, find_nonverbal
from mdm.backbones.mird_decoder import Decoder, cross_entropy, mean_squared_error
from mdm.backbones.text import Pieces, TextEncoder
from mdm.backbones.wsabert import Attention, Injection, Pooling, read_pieces
from mdm.hints import Share, Size, require_option
from mdm.types import Batch, DataSpec, Encoded, Fusion, Sequence

SharedInit = Literal["pretrained", "random"]
LanguageEncoding = Literal["lstm", "bert"]
Reconstruction = Literal["log", "plain", "none"]
TextPadding = Literal["masked", "official"]

FLOOR = 1e-8
"""Losses below this count as this, where their logarithm is taken: log 0 has no gradient that a step could use."""


class MIRD(Backbone):
    """MIRD.

    text_encoder: which transformer of the family bert, see `TextEncoder`
    shared_init: how z_S's BERT begins. ``pretrained``, as ``text_encoder`` comes (default, and what Qian et al., 2024 say);
        ``random``, as in the official code, whose loader matches no key of that module
    language_encoder: of z_L. ``lstm``, an embedding of the pieces and an LSTM (default; the paper's "LSTM for all modalities",
        and the only one that has Table 2's 121 M parameters); ``bert``, a second transformer, as the official code runs
    dim: width of each of z_S and the z_m
    embedding_dim: of the pieces, for ``lstm``
    attention, beta, activation, gate_dropout: of the WSA-BERT that z_S comes from, see `WSABERT`
    pooling: of z_S's BERT. ``mean`` as the paper has it (default) or ``pooler`` as the official code
    dropout: before the linear maps to z_S and to a BERT's z_L, and in the head
    reconstruction: ``log``, Σ_m log of the batch's mean loss (Eq. 19, default), whose gradient does not depend on the units of the
        features; ``plain``, their sum; ``none``, no decoders (the paper's ablation)
    reconstruct_unlabeled: whether segments without a label are reconstructed too (Table 6)
    raw_terms: whether ``raw_<modality>``, statistics of what came in, are parts too, for the terms I(X_m; z_S) of Eq. 20: mean and
        standard deviation over frames, mean embedding over words. The paper does not say how a network reads a sequence. Off by
        default: the paper itself finds the model no worse without them, and official code has none
    max_pieces: official code reads the first 50 pieces, the special ones included; null: all
    text_padding: ``masked`` (default); ``official``, texts are filled up to max_pieces with [PAD], which z_L's encoder reads as
        pieces and the decoder rebuilds. (z_S's BERT has a mask in official code, too.)

    Losses, encoders and decoders see real steps only; official code reads and rebuilds zero frames too, as many as the longest
    segment of a file asks for (data.padding=official). With ``log`` a batch is one mean: the terms of two half batches do not
    average to that of the whole.

    Raises ValueError without text, on frames that are tokens, and on options that are not these.

    >>> from mdm.data.splits import Splits
    >>> from mdm.data.synthetic import synthetic
    >>> splits = Splits(synthetic(train=16, valid=4, test=4), batch_size=8)
    >>> batch = next(iter(splits.valid()))
    >>> fusion = MIRD(splits.spec, dim=8)(batch)
    >>> fusion.parts["shared"].shape, fusion.z.shape
    (torch.Size([4, 8]), torch.Size([4, 32]))
    """

    def __init__(
        self,
        spec: DataSpec,
        text_encoder: str = "tiny",
        shared_init: SharedInit = "pretrained",
        language_encoder: LanguageEncoding = "lstm",
        dim: Size = 64,
        embedding_dim: Size = 128,
        attention: Attention = "sparse",
        pooling: Pooling = "mean",
        beta: float = 1.0,
        activation: Activation = "relu",
        gate_dropout: Share = 0.5,
        dropout: Share = 0.5,
        reconstruction: Reconstruction = "log",
        reconstruct_unlabeled: bool = True,
        raw_terms: bool = False,
        max_pieces: int | None = 50,
        text_padding: TextPadding = "masked",
    ):
        super().__init__()
        others = find_nonverbal(spec, "MIRD")
        require_option("attention", attention, Attention)
        require_option("pooling", pooling, Pooling)
        require_option("activation", activation, Activation)
        require_option("shared_init", shared_init, SharedInit)
        require_option("language_encoder", language_encoder, LanguageEncoding)
        require_option("reconstruction", reconstruction, Reconstruction)
        require_option("text_padding", text_padding, TextPadding)
        self.pooling, self.reconstruction, self.raw_terms, self.text_padding = pooling, reconstruction, raw_terms, text_padding
        self.reconstruct_unlabeled = reconstruct_unlabeled
        language = spec.features["language"]
        self.text = TextEncoder(language, "bert", text_encoder, max_pieces, pooler=pooling == "pooler")
        if shared_init == "random":
            self.text.model = type(self.text.model)(self.text.model.config, add_pooling_layer=pooling == "pooler").train()
        self.injection = Injection(self.text.dim, others, attention, beta, gate_dropout, activation)
        self.to_shared = nn.Sequential(nn.Dropout(dropout), nn.Linear(self.text.dim, dim))
        vocabulary = self.text.model.config.vocab_size
        encoders: dict[str, nn.Module] = {}
        for m, feature in spec.features.items():
            if m != "language":
                encoders[m] = FrameEncoder(feature.dim, dim)
            elif language_encoder == "lstm":
                encoders[m] = PieceEncoder(vocabulary, embedding_dim, dim)
            else:
                encoders[m] = SecondBERT(TextEncoder(language, "bert", text_encoder, max_pieces, pooler=True), dim, dropout)
        self.encoders = nn.ModuleDict(encoders)
        widths = {m: vocabulary if m == "language" else feature.dim for m, feature in spec.features.items()}
        decoders = {} if reconstruction == "none" else {m: Decoder(2 * dim, width) for m, width in widths.items()}
        self.decoders = nn.ModuleDict(decoders)
        self.unimodal_dims = dict.fromkeys(spec.modalities, dim)
        self.part_dims = {"shared": dim}
        if raw_terms:
            self.part_dims |= {f"raw_{m}": self.text.dim if m == "language" else 2 * widths[m] for m in spec.modalities}
        self.z_dim = dim * (1 + len(spec.modalities))
        self.head = nn.Sequential(nn.Linear(self.z_dim, dim), nn.ReLU(), nn.Dropout(dropout), regressor(dim, spec))

    def encode(self, batch: Batch) -> Encoded:
        encoded: Encoded = {}
        for m, encoder in self.encoders.items():
            if m == "language":
                pieces = self.text.pieces(batch.sequences[m])
                encoded[m] = {**pieces.parts(), "z": encoder(self._read_pieces(pieces))}
            else:
                encoded[m] = {"frames": batch.sequences[m], "z": encoder(batch.sequences[m])}
        if self.raw_terms:
            for m, parts in encoded.items():
                parts["raw"] = self._words(Pieces.of(parts)) if m == "language" else statistics(parts["frames"])
        return encoded

    def _read_pieces(self, pieces: Pieces) -> Pieces:
        """What z_L's encoder and the decoder take for pieces."""
        if self.text_padding == "masked":
            return pieces
        rest = (0, self.text.max_pieces - pieces.ids.shape[1])
        ids = F.pad(torch.where(pieces.mask, pieces.ids, self.text.padding), rest, value=self.text.padding)
        return Pieces(ids, torch.ones_like(ids, dtype=torch.bool), F.pad(pieces.word, rest, value=-1))

    def fuse(self, encoded: Encoded) -> Fusion:
        pieces = Pieces.of(encoded["language"])
        frames = {m: parts["frames"] for m, parts in encoded.items() if m != "language"}
        shared = self.to_shared(read_pieces(self.text, self.injection, pieces, frames, self.pooling)[0])
        unimodal = {m: parts["z"] for m, parts in encoded.items()}
        z = torch.cat([shared, *unimodal.values()], dim=1)
        raw = {f"raw_{m}": parts["raw"] for m, parts in encoded.items()} if self.raw_terms else {}
        return Fusion(self.head(z), z, unimodal, {"shared": shared, **raw})

    def own_terms(self, batch: Batch, encoded: Encoded, fusion: Fusion) -> dict[str, Float[Tensor, ""]]:
        """L_recon (Eq. 19) by modality, of all rows whether they have a label or not, or of those that have."""
        rows = slice(None if self.reconstruct_unlabeled else batch.labelled)
        terms = {}
        for m, decoder in self.decoders.items():
            assert isinstance(decoder, Decoder)
            code = torch.cat([fusion.parts["shared"], fusion.unimodal[m]], dim=1)[rows]
            if m == "language":
                whole = self._read_pieces(Pieces.of(encoded[m]))
                pieces = Pieces(whole.ids[rows], whole.mask[rows], whole.word[rows])
                states = decoder.states(code, pieces.ids.shape[1])
                loss = cross_entropy(states[pieces.mask], decoder.project, pieces.ids[pieces.mask])
                there = pieces.mask.any()
            else:
                frames = real_steps_first(encoded[m]["frames"][rows])
                rebuilt = decoder.project(decoder.states(code, frames.mask.shape[1]))
                loss = mean_squared_error(rebuilt, frames)
                there = frames.mask.any()
            if self.reconstruction == "log":
                # A batch without this modality has lost nothing: 0, not the logarithm of the floor.
                loss = torch.where(there, logarithm(loss), 0.0)
            terms[f"reconstruct_{m}"] = loss
        return terms

    @torch.no_grad()
    def _words(self, pieces: Pieces) -> Float[Tensor, "batch dim"]:
        """The mean over words of their embeddings, as something given."""
        embedded = self.text.model.get_input_embeddings()(pieces.ids)
        return masked_mean(Sequence(embedded, pieces.word >= 0))


class LogMSE(nn.Module):
    """log of the mean squared error (Qian et al., 2024, Eq. 18): its gradient, 2·error / MSE, keeps its size while the error falls.

    floor: below which the error counts as this, so that a batch that is fitted perfectly ends no run

    >>> LogMSE()(torch.tensor([[1.0], [3.0]]), torch.tensor([[1.0], [1.0]]))
    tensor(0.6931)
    """

    def __init__(self, floor: float = FLOOR):
        super().__init__()
        self.floor = floor

    def forward(self, prediction: Float[Tensor, "batch targets"], label: Float[Tensor, "batch targets"]) -> Float[Tensor, ""]:
        return logarithm(F.mse_loss(prediction.float(), label), self.floor)


def logarithm(loss: Float[Tensor, ""], floor: float = FLOOR) -> Float[Tensor, ""]:
    """log max(loss, floor)."""
    return loss.clamp(min=floor).log()


# ---- encoders of each modality alone


class FrameEncoder(nn.Module):
    """LSTM → linear on its last state: frames → z_m."""

    def __init__(self, width: int, dim: int):
        super().__init__()
        self.lstm = nn.LSTM(width, dim, batch_first=True)
        self.project = nn.Linear(dim, dim)

    def forward(self, frames: Sequence) -> Float[Tensor, "batch dim"]:
        return self.project(last_state(self.lstm, frames))


class PieceEncoder(nn.Module):
    """Embedding → LSTM → linear on its last state: pieces → z_L."""

    def __init__(self, vocabulary: int, embedding_dim: int, dim: int):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding_dim)
        self.encoder = FrameEncoder(embedding_dim, dim)

    def forward(self, pieces: Pieces) -> Float[Tensor, "batch dim"]:
        return self.encoder(Sequence(self.embedding(pieces.ids), pieces.mask))


class SecondBERT(nn.Module):
    """BERT → pooler → dropout → linear: pieces → z_L."""

    def __init__(self, text: TextEncoder, dim: int, dropout: float):
        super().__init__()
        self.text = text
        self.project = nn.Sequential(nn.Dropout(dropout), nn.Linear(text.dim, dim))

    def forward(self, pieces: Pieces) -> Float[Tensor, "batch dim"]:
        return self.project(self.text(pieces).pooler_output)


def statistics(frames: Sequence) -> Float[Tensor, "batch two_dims"]:
    """[mean; standard deviation] over real frames, as something given; zero where there is none."""
    values = frames.values.detach()
    mean = masked_mean(Sequence(values, frames.mask))
    square = masked_mean(Sequence((values - mean.unsqueeze(1)).square(), frames.mask))
    return torch.cat([mean, square.sqrt()], dim=1)
