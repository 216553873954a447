"""Stage two, backbone: BC-LSTM, which reads a segment among the others of its video (Poria et al., ACL 2017).

Each segment of a video is one step: of modality m the mean x_i over its own steps. A bidirectional LSTM of each modality reads the
video, another one all modalities together:

    u_i = tanh(A BiLSTM_m(x_1 … x_n)_i + b),    Z = ReLU(W BiLSTM([u_i of each modality])_i + b) at the segment's own i

A linear map follows Z; the unimodal representations are the u_i at the segment's own place. From each of them another linear map
predicts the targets, for the own terms.

The authors' code trains in two stages, a classifier of each modality first, whose u_i (of its own training segments) the second one
reads; ``detach_stages`` has that in one run, as the joint loss then ends at the u_i. There a batch is ten whole videos; here each
row brings its own (model.context=true), so that no prediction depends on the batch; without, it is a video of one segment.
Samples of the product move a modality's whole video; videos meet at the segments that are paired.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mdm.backbones.base import Backbone
from mdm.backbones.layers import Steps, expand_option, masked_mean, regressor
from mdm.hints import Range, Share, Size
from mdm.types import Batch, DataSpec, Encoded, Fusion


class BCLSTM(Backbone):
    """BC-LSTM.

    hidden: units of each direction of the modalities' LSTMs (official 300), one number for all, or modality → number
    dim: width of u_i (official 100), likewise
    fusion_hidden, z_dim: units of each direction of the joint LSTM (official 300), and width of Z (official 500)
    input_dropout, dropout: before and behind the modalities' LSTMs (official .6 and .9)
    fusion_input_dropout, fusion_dropout: before and behind the joint one (official .4 and .9)
    unimodal_weight: of the own terms, see `own_terms`
    detach_stages: whether the joint loss ends at the u_i
    embedding_dim: width of the trainable word embedding, where the text is words

    Parameters of a bidirectional LSTM: 8h(d + h + 2).

    Raises ValueError on options out of range, and if stages are detached and the first has no term that trains it.

    >>> from mdm.types import Feature
    >>> spec = DataSpec({"audio": Feature(5), "video": Feature(4)}, ("y",), (-3.0, 3.0), (0.0,), aligned=False)
    >>> BCLSTM(spec).unimodal_dims
    {'audio': 32, 'video': 32}
    """

    def __init__(
        self,
        spec: DataSpec,
        hidden: Size | Mapping[str, Size] = 32,
        dim: Size | Mapping[str, Size] = 32,
        fusion_hidden: Size = 32,
        z_dim: Size = 64,
        input_dropout: Share = 0.1,
        dropout: Share = 0.2,
        fusion_input_dropout: Share = 0.1,
        fusion_dropout: Share = 0.2,
        unimodal_weight: Annotated[float, Range(0)] = 1.0,
        detach_stages: bool = False,
        embedding_dim: Size = 64,
    ):
        super().__init__()
        if detach_stages and unimodal_weight == 0:
            raise ValueError(
                "detach_stages: expected unimodal_weight > 0, whose terms alone train the first stage, got 0; set "
                "model.backbone.unimodal_weight."
            )
        units, widths = expand_option("hidden", hidden, spec.modalities), expand_option("dim", dim, spec.modalities)
        self.unimodal_weight, self.detach_stages = unimodal_weight, detach_stages
        self.steps = nn.ModuleDict({m: Steps(f, embedding_dim) for m, f in spec.features.items()})
        self.readers = nn.ModuleDict()
        for m, f in spec.features.items():
            given = embedding_dim if f.tokens else f.dim
            self.readers[m] = VideoReader(given, units[m], widths[m], input_dropout, dropout, nn.Tanh())
        self.unimodal_dims = widths
        self.scores = nn.ModuleDict({m: regressor(n, spec) for m, n in widths.items()})
        self.part_dims = {f"score_{m}": len(spec.targets) for m in widths}
        self.z_dim = z_dim
        self.joint = VideoReader(sum(widths.values()), fusion_hidden, z_dim, fusion_input_dropout, fusion_dropout, nn.ReLU())
        self.head = regressor(z_dim, spec)

    def encode(self, batch: Batch) -> Encoded:
        encoded: Encoded = {}
        for m, reader in self.readers.items():
            if batch.context is None:
                x = masked_mean(self.steps[m](batch.sequences[m])).unsqueeze(1)
                there, own = torch.ones_like(x[..., 0], dtype=torch.bool), torch.zeros(len(x), dtype=torch.long, device=x.device)
            else:
                x = batch.context.arrange(masked_mean(self.steps[m](batch.context.sequences[m])))
                there, own = batch.context.mask, batch.context.own
            encoded[m] = {"u": reader(x, there), "there": there, "own": own}
        return encoded

    def fuse(self, encoded: Encoded) -> Fusion:
        unimodal = {m: select_step(encoded[m]["u"], encoded[m]["own"]) for m in self.readers}
        parts = {f"score_{m}": self.scores[m](u) for m, u in unimodal.items()}
        steps, there, own = join_at_own([(encoded[m]["u"], encoded[m]["there"], encoded[m]["own"]) for m in self.readers])
        z = select_step(self.joint(steps.detach() if self.detach_stages else steps, there), own)
        return Fusion(self.head(z), z, unimodal, parts)

    def own_terms(self, batch: Batch, encoded: Encoded, fusion: Fusion) -> dict[str, Float[Tensor, ""]]:
        """unimodal_weight times the mean absolute error of the prediction from each u, over rows that have a label."""
        if self.unimodal_weight == 0:
            return {}
        label = batch.label[: batch.labelled]
        return {
            f"unimodal_{m}": self.unimodal_weight * (fusion.parts[f"score_{m}"][: len(label)].float() - label).abs().mean()
            for m in self.readers
        }


class VideoReader(nn.Module):
    """Dropout → bidirectional LSTM → dropout → linear → activation, at each segment of a video; segments come first."""

    def __init__(self, dim: int, hidden: int, out: int, before: float, behind: float, activation: nn.Module):
        super().__init__()
        self.before, self.lstm = nn.Dropout(before), nn.LSTM(dim, hidden, batch_first=True, bidirectional=True)
        self.project = nn.Sequential(nn.Dropout(behind), nn.Linear(2 * hidden, out), activation)

    def forward(self, x: Float[Tensor, "batch segments dim"], there: Bool[Tensor, "batch segments"]) -> Tensor:
        # Only packing keeps the backward direction from starting in the padding.
        packed = nn.utils.rnn.pack_padded_sequence(self.before(x), there.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        states = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.shape[1])[0]
        return self.project(states)


def select_step(x: Float[Tensor, "batch segments dim"], own: Int[Tensor, " batch"]) -> Float[Tensor, "batch dim"]:
    """The vector at each row's own place."""
    return x.gather(1, own[:, None, None].expand(-1, 1, x.shape[2])).squeeze(1)


def join_at_own(views: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """(vectors, there, own) of each modality → those of all side by side, so that their own places meet; zero where one has none.

    In a sample of the product modalities have other videos; the joint one begins with the first segment that any has.
    """
    first = torch.stack([own for *_, own in views]).amax(0)
    width = max(int((first - own).max()) + x.shape[1] for x, _, own in views)
    vectors, masks = [], []
    for x, there, own in views:
        index = torch.arange(width, device=x.device) - (first - own).unsqueeze(1)
        inside = (index >= 0) & (index < x.shape[1])
        index = index.clamp(0, x.shape[1] - 1)
        mask = there.gather(1, index) & inside
        vectors.append(x.gather(1, index.unsqueeze(2).expand(-1, -1, x.shape[2])) * mask.unsqueeze(2))
        masks.append(mask)
    there = torch.stack(masks).any(0)
    return torch.cat(vectors, 2), there, first
