"""Stage two, backbone: MAG-BERT and MAG-XLNet, a pretrained transformer whose word vectors are shifted by audio and video.

The multimodal adaptation gate sits between two layers of the transformer: each piece's vector e is moved by a gated
combination of the frames of its word, never further than β times its own length. So audio and video enter early, and
nothing but the cutting into pieces can be done for each modality alone.

Z is the last layer at [CLS], as Colombo et al. (2021) have it, or the pooler's output, which the head of the official code reads.
The paper knows no representation of a modality alone. Here they are what the gate adds up: of language the mean over pieces of
words of e, which nothing but language has touched, and of the others the mean over frames of W_m x + b_m.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdm.backbones.base import Backbone, require_modalities
from mdm.backbones.encoders import Family
from mdm.backbones.layers import masked_mean, regressor
from mdm.backbones.packing import join_rows
from mdm.backbones.text import Gelu, Pieces, TextEncoder, frames_of_pieces, replace_output
from mdm.hints import Count, Share, require_option
from mdm.types import Batch, DataSpec, Encoded, Feature, Fusion, Sequence

Summary = Literal["cls", "pooler"]
Activation = Literal["relu", "sigmoid"]
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}


class MAG(Backbone):
    """MAG-BERT and MAG-XLNet.

    family: ``bert`` or ``xlnet``
    text_encoder: which transformer, see `TextEncoder`
    inject: where the gate stands: 0, behind the embeddings (before XLNet's dropout on them); k, behind the k-th layer. The
        official code has 0 for BERT and 1 for XLNet. Not behind the last layer: the frames of special pieces are zero, so Z
        would read neither audio nor video
    beta, activation: of the `Gate`
    gate_dropout: of what the gate returns
    dropout: before the head
    z: ``cls``, the last layer at [CLS] (default, what Colombo et al., 2021 penalise and calls Z); ``pooler``, tanh(W·[CLS] + b),
        what the head of the official code reads. BERT's pooler comes from the checkpoint; XLNet has none, so its one begins at
        random
    max_pieces: official code reads the first 50 pieces, the special ones included; null: all
    gelu: of XLNet, see `TextEncoder`; official code has ``tanh``

    Raises ValueError without text, on unaligned data (frames belong to words), on frames that are tokens, and on options that
    are not these.

    >>> from mdm.data.splits import Splits
    >>> from mdm.data.synthetic import synthetic
    >>> splits = Splits(synthetic(train=16, valid=4, test=4), batch_size=8)
    >>> batch = next(iter(splits.valid()))
    >>> MAG(splits.spec)(batch).z.shape
    torch.Size([4, 64])
    """

    def __init__(
        self,
        spec: DataSpec,
        family: Family = "bert",
        text_encoder: str = "tiny",
        inject: Count = 0,
        beta: float = 1.0,
        activation: Activation = "relu",
        gate_dropout: Share = 0.5,
        dropout: Share = 0.1,
        z: Summary = "cls",
        max_pieces: int | None = 50,
        gelu: Gelu = "exact",
    ):
        super().__init__()
        others = find_nonverbal(spec, "MAG")
        if others and not spec.aligned:
            raise ValueError(
                "MAG gives each word its own frames, so it needs word-aligned data, but these are unaligned; use aligned data, or "
                "a model that aligns by attention."
            )
        require_option("family", family, Family)
        require_option("activation", activation, Activation)
        require_option("z", z, Summary)
        require_option("gelu", gelu, Gelu)
        self.z, self.modalities = z, spec.modalities
        self.text = TextEncoder(
            spec.features["language"], family, text_encoder, max_pieces, pooler=z == "pooler" and family == "bert", gelu=gelu
        )
        layers = self.text.model.config.num_hidden_layers
        if not 0 <= inject < layers:
            raise ValueError(
                f"The gate stands behind the embeddings (0) or behind a layer that is not the last, so inject is in 0 … "
                f"{layers - 1} with text_encoder={text_encoder}, but is {inject}; set model.backbone.inject."
            )
        self.inject = inject
        self.z_dim = dim = self.text.dim
        self.unimodal_dims = dict.fromkeys(spec.modalities, dim)
        self.gate = Gate(dim, {m: feature.dim for m, feature in others.items()}, beta, gate_dropout, activation)
        if z == "pooler" and family == "xlnet":
            self.pooler = nn.Sequential(shrink_layer(nn.Linear(dim, dim)), nn.Tanh())
        self.head = nn.Sequential(nn.Dropout(dropout), small_regressor(dim, spec))

    encodes_whole = True

    def encode(self, batch: Batch) -> Encoded:
        encoded: Encoded = {}
        for m in self.modalities:
            sequence = batch.sequences[m]
            encoded[m] = self.text.pieces(sequence).parts() if m == "language" else {"frames": sequence}
        return encoded

    def fuse(self, encoded: Encoded) -> Fusion:
        pieces = Pieces.of(encoded["language"])
        groups = self.text.divide(pieces)
        if len(groups) == 1:
            found = self._read(encoded)
        else:
            embedded, parts = self.text.embed(pieces), []
            for rows in groups:
                part: Encoded = {m: {key: value[rows] for key, value in its.items()} for m, its in encoded.items()}
                parts.append(self._read({**part, "language": pieces[rows].parts()}, embedded[rows]))
            found = join_rows(parts, groups)
        z = found.pop("z")
        return Fusion(self.head(z), z, found)

    def _read(self, encoded: Encoded, embedded: Float[Tensor, "batch time dim"] | None = None) -> dict[str, Tensor]:
        """Z, and the unimodal representations."""
        pieces = Pieces.of(encoded["language"])
        frames = {m: frames_of_pieces(parts["frames"], pieces.word) for m, parts in encoded.items() if m != "language"}
        before: list[Tensor] = []

        def shift(e: Tensor) -> Tensor:
            # Inside XLNet time comes first.
            e = e.transpose(0, 1) if self.text.family == "xlnet" else e
            before.append(e)
            e = self.gate(e, frames)
            return e.transpose(0, 1) if self.text.family == "xlnet" else e

        with replace_output(self._place(), shift):
            output = self.text.read(pieces, embedded)
        z = self.text.summary(output.last_hidden_state)
        if self.z == "pooler":
            z = output.pooler_output if self.text.family == "bert" else self.pooler(z)
        return {"z": z, **summands(self.gate, encoded, before[0])}

    def _place(self) -> nn.Module:
        """The module whose output the gate changes."""
        embeddings, layers = ("word_embedding", "layer") if self.text.family == "xlnet" else ("embeddings", "encoder.layer")
        return self.text.model.get_submodule(embeddings if self.inject == 0 else f"{layers}.{self.inject - 1}")


class Gate(nn.Module):
    """The multimodal adaptation gate: Dropout(LN(e + α h)), h = Σ_m g_m ⊙ (W_m x_m + b_m), g_m = act(W_gm [x_m; e] + b_gm).

    α = min(β‖e‖ / ‖h‖, 1), one number per piece. Gradient flows through α, as in the official code.

    dim: width of e
    feature_dims: modality → width of its frames; with none, the gate is Dropout(LN(e))
    beta: how far a piece may be moved, in units of its own length
    activation: ``relu`` as all official code has it, or ``sigmoid`` as Qian et al. (2024) write it

    Raises ValueError unless beta >= 0.
    """

    def __init__(
        self, dim: int, feature_dims: Mapping[str, int], beta: float = 1.0, dropout: float = 0.5, activation: Activation = "relu"
    ):
        super().__init__()
        if not beta >= 0:
            raise ValueError(f"The gate needs beta >= 0, but {beta} came; set model.backbone.beta.")
        self.beta = beta
        self.gates = nn.ModuleDict({m: shrink_layer(nn.Linear(d + dim, dim)) for m, d in feature_dims.items()})
        self.project = nn.ModuleDict({m: shrink_layer(nn.Linear(d, dim)) for m, d in feature_dims.items()})
        self.activation = ACTIVATIONS[activation]()
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, e: Float[Tensor, "batch pieces dim"], frames: dict[str, Float[Tensor, "batch pieces d_m"]]
    ) -> Float[Tensor, "batch pieces dim"]:
        h = torch.zeros_like(e)
        for m, project in self.project.items():
            gate = self.activation(self.gates[m](torch.cat([frames[m], e], dim=2)))
            h = h + gate * project(frames[m])
        # In full precision, which half precision's sum of squares would not have.
        length = torch.linalg.vector_norm(h.float(), dim=2, keepdim=True)
        # As the official code has it: 1 for a length of 0, so that there too α, the gradient's factor, knows β.
        length = torch.where(length == 0, 1.0, length)
        alpha = (self.beta * torch.linalg.vector_norm(e.float(), dim=2, keepdim=True) / (length + 1e-6)).clamp(max=1)
        moved = (e + alpha * h).to(next(self.gates.parameters(), e).dtype)
        return self.dropout(self.norm(moved))


def find_nonverbal(spec: DataSpec, model: str) -> dict[str, Feature]:
    """The modalities beside language; ValueError unless there is language and they are vectors."""
    require_modalities(spec, ("language",), model)
    others = {m: feature for m, feature in spec.features.items() if m != "language"}
    tokens = [m for m, feature in others.items() if feature.tokens]
    if tokens:
        raise ValueError(
            f"{model} needs vectors for what is not language, but {', '.join(tokens)} comes as tokens; set data.modalities."
        )
    return others


def summands(gate: Gate, encoded: Encoded, before: Float[Tensor, "batch pieces dim"]) -> dict[str, Float[Tensor, "batch dim"]]:
    """The unimodal representations: means of what the gate adds up, ``before`` being e; zero where a modality is absent."""
    unimodal = {}
    for m, parts in encoded.items():
        if m == "language":
            unimodal[m] = masked_mean(Sequence(before, parts["word"] >= 0))
        else:
            # The map is linear, so its mean is the map of the mean; without a frame both are to be zero.
            there = parts["frames"].mask.any(1, keepdim=True)
            unimodal[m] = gate.project[m](masked_mean(parts["frames"])) * there
    return unimodal


def shrink_layer(layer: nn.Linear) -> nn.Linear:
    """As the layers of the transformers around it begin: weights normal with standard deviation 0.02, biases 0."""
    nn.init.normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer


def small_regressor(dim: int, spec: DataSpec) -> nn.Linear:
    """A `regressor` that begins as the layers of the transformer around it: its bias at 0, or at the label mean."""
    layer = regressor(dim, spec)
    start = layer.bias.detach().clone()
    shrink_layer(layer)
    if spec.head_start == "label_mean":
        with torch.no_grad():
            layer.bias.copy_(start)
    return layer
