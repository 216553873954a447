"""Stage two, backbone: SAL-CNN, select-additive learning on a convolutional network (Wang, Meghawat, Morency, Xing, ICME 2017).

What a network has learned of who is speaking tells nothing of others. Select-additive learning finds where the representation m can
be told from the speaker b, and drowns it in noise there:

    m = [CNN(words); N_m(mean over steps) of each other modality]
    selection:  least ‖m − c − δ_b‖₁ + sparsity·‖δ‖₁ over c and δ
    addition, in training:  m̃ = m + σ |δ_b|∘ε,  ε ~ N(0, 1)

δ_b is the speaker's own part, c what all have in common; m̃ = m for a speaker that training has not, so in every test. The text CNN
has two convolutions over steps and coordinates as over an image, each with a tanh and a pooling over pairs of coordinates.

Z = tanh(W m̃ + b), followed by a linear map. The unimodal representations are the parts of m.

Uncertain: of the paper, equations are those of summaries; the authors' code has the text model alone and there selects by the
classification error that the speaker's identity reaches by itself, while 73.0 on MOSI is of a model of all modalities, whose
other networks are unpublished (here: the pooled networks of TFN). There pre-training, selection and addition follow one another;
here they run at once, each with its own term, as δ starts at 0, without noise. Their CNN flattens 60 padded steps; here the maximum
over real steps stands in place of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from mdm.backbones.base import Backbone
from mdm.backbones.layers import PooledEncoder, Steps, expand_option, real_steps_first, regressor
from mdm.hints import Range, Share, Size
from mdm.types import Batch, DataSpec, Encoded, Feature, Fusion, Sequence

Weight = Annotated[float, Range(0)]


class SALCNN(Backbone):
    """SAL-CNN.

    channels: of the two convolutions of language (official 25 and 50)
    hidden: width of the networks of other modalities, one number for all, or modality → number
    dropout: before these, likewise
    z_dim: width of Z (official 200)
    noise: σ (official ½); 0: none
    selection: weight of the term that finds δ and c; its gradient does not reach m
    sparsity: weight of ‖δ‖₁ in it, relative to the fit (official 1e-3)
    embedding_dim: width of the trainable word embedding, where the text is words

    A segment's speaker is the part of its name before ``[`` (``video[3]``), all of it where there is none.

    Raises ValueError on options out of range, other channels than two, and steps of language that two poolings leave nothing of.

    >>> from mdm.types import Feature
    >>> spec = DataSpec({"language": Feature(8), "audio": Feature(5)}, ("y",), (-3.0, 3.0), (0.0,), False, ("a[0]", "a[1]", "b[0]"))
    >>> model = SALCNN(spec, channels=(3, 4))
    >>> model.unimodal_dims, list(model.speakers)
    ({'language': 8, 'audio': 32}, ['a', 'b'])
    """

    def __init__(
        self,
        spec: DataSpec,
        channels: tuple[Size, Size] | list[Size] = (8, 8),
        hidden: Size | Mapping[str, Size] = 32,
        dropout: Share | Mapping[str, Share] = 0.1,
        z_dim: Size = 200,
        noise: Weight = 0.5,
        selection: Weight = 1.0,
        sparsity: Weight = 0.001,
        embedding_dim: Size = 64,
    ):
        super().__init__()
        if len(channels) != 2:
            raise ValueError(f"channels: expected those of two convolutions, got {list(channels)}; set model.backbone.channels.")
        others = tuple(m for m in spec.modalities if m != "language")
        widths, rates = expand_option("hidden", hidden, others), expand_option("dropout", dropout, others)
        encoders: dict[str, TextCNN | PooledEncoder] = {}
        for m, feature in spec.features.items():
            if m == "language":
                encoders[m] = TextCNN(feature, embedding_dim, (channels[0], channels[1]))
            else:
                encoders[m] = PooledEncoder(feature, widths[m], rates[m])
        self.encoders = nn.ModuleDict(encoders)
        self.unimodal_dims = {m: encoder.dim for m, encoder in encoders.items()}
        self.speakers = {name: i for i, name in enumerate(dict.fromkeys(map(find_speaker, spec.train_ids)))}
        self.noise, self.selection, self.sparsity = noise, selection, sparsity
        learned = selection > 0
        # The last row is that of unknown speakers; it stays 0.
        self.own = nn.ParameterDict(
            {m: torch.zeros(len(self.speakers) + 1, d) for m, d in self.unimodal_dims.items() if learned and self.speakers}
        )
        self.common = nn.ParameterDict({m: torch.zeros(self.unimodal_dims[m]) for m in self.own})
        self.z_dim = z_dim
        self.fusion = nn.Sequential(nn.Linear(sum(self.unimodal_dims.values()), z_dim), nn.Tanh())
        self.head = regressor(z_dim, spec)

    def encode(self, batch: Batch) -> Encoded:
        unknown = len(self.speakers)
        speaker = torch.tensor([self.speakers.get(find_speaker(name), unknown) for name in batch.ids], device=batch.label.device)
        return {m: {"m": encoder(batch.sequences[m]), "speaker": speaker} for m, encoder in self.encoders.items()}

    def fuse(self, encoded: Encoded) -> Fusion:
        unimodal = {m: encoded[m]["m"] for m in self.encoders}
        noisy = [self._add_noise(m, u, encoded[m]["speaker"]) for m, u in unimodal.items()]
        z = self.fusion(torch.cat(noisy, dim=1))
        return Fusion(self.head(z), z, unimodal)

    def _add_noise(self, m: str, u: Float[Tensor, "batch d"], speaker: Int[Tensor, " batch"]) -> Float[Tensor, "batch d"]:
        if not self.training or self.noise == 0 or m not in self.own:
            return u
        return u + self.noise * self._find_own(m, speaker).detach().abs() * torch.randn_like(u)

    def _find_own(self, m: str, speaker: Int[Tensor, " batch"]) -> Float[Tensor, "batch d"]:
        return self.own[m][speaker] * (speaker < len(self.speakers)).unsqueeze(1)

    def own_terms(self, batch: Batch, encoded: Encoded, fusion: Fusion) -> dict[str, Float[Tensor, ""]]:
        """selection·(mean |m − c − δ_b| + sparsity·mean |δ_b|), over rows, coordinates and then modalities."""
        if not self.own:
            return {}
        costs = []
        for m, common in self.common.items():
            own = self._find_own(m, encoded[m]["speaker"])
            costs.append((fusion.unimodal[m].detach().float() - common - own).abs().mean() + self.sparsity * own.abs().mean())
        return {"selection": self.selection * torch.stack(costs).mean()}


def find_speaker(name: str) -> str:
    """The video that a segment is of.

    >>> find_speaker("_dI--eQ6qVU[3]")
    '_dI--eQ6qVU'
    """
    return name.partition("[")[0]


class TextCNN(nn.Module):
    """Steps × coordinates as an image → [batch, channels·⌊d/4⌋]: two convolutions with tanh, then the maximum over real steps.

    Each sees 3 steps and 3 coordinates and halves the coordinates by a maximum over pairs (official: 3 × 3 and 2 × 2, and steps are
    halved, too). A row without a step gives zero.
    """

    def __init__(self, feature: Feature, embedding_dim: int, channels: tuple[int, int]):
        super().__init__()
        self.steps = Steps(feature, embedding_dim)
        if self.steps.dim < 4:
            raise ValueError(
                f"SAL-CNN needs language of at least 4 coordinates, of which two poolings leave 1, got {self.steps.dim}."
            )
        self.first = nn.Conv2d(1, channels[0], 3, padding=1)
        self.second = nn.Conv2d(channels[0], channels[1], 3, padding=1)
        self.dim = channels[1] * (self.steps.dim // 2 // 2)

    def forward(self, sequence: Sequence) -> Float[Tensor, "batch dim"]:
        sequence = real_steps_first(self.steps(sequence))
        # Beside the ends there are zeros, as beside the ends of the tensor.
        mask = sequence.mask[:, None, :, None]
        x = sequence.values.unsqueeze(1)
        for conv in (self.first, self.second):
            x = F.max_pool2d(conv(x.masked_fill(~mask, 0)), (1, 2)).tanh()
        # tanh is above −1, so padding is never the maximum where there is a step.
        x = x.masked_fill(~mask, -1).amax(2) * sequence.mask.any(1)[:, None, None]
        return x.flatten(1)
