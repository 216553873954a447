"""Stage two, backbone: TETFN, the text enhanced transformer fusion network (Wang, Guo, Wang, Du, Xiao, Pattern Recognition 2023).

Language's pieces, and the states of an LSTM over each other modality's steps, are mapped to one width, x_m. As in MulT, each
modality reads each other one, and a memory sums up what it has read in its last step. Where neither is language, the source first
reads the language: with CT a cross-modal transformer,

    target m ← source s:  CT(x_m, x_s) if either is language, else CT(x_m, CT'(x_s, x_l)), CT' of one layer

A head for each modality reads the maximum of x_m over steps and learns labels that are generated as in Self-MM.

Z is the fused feature, behind the first layer of the fusion and its ReLU, and is followed by a two-layer head; the unimodal
representations are the maxima.

The only code is MMSA's; the paper's text was not at hand. There the kernel of audio's convolution is video's, too (1 on MOSI and
MOSEI; here all kernels are 1, which makes them linear maps), and neither maxima nor memories know of padding, which is masked here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdm.backbones.base import require_modalities
from mdm.backbones.layers import expand_option, real_steps_first, regressor
from mdm.backbones.mult import CrossModal, Layer, Memory, Reach, add_positions, find_reach
from mdm.backbones.selfmm import LabelMoving, Labels, UnimodalHead
from mdm.backbones.text import TextEncoder, keep_whole, read_steps
from mdm.hints import Depth, Share, Size, require_option
from mdm.types import Batch, DataSpec, Encoded, Feature, Fusion, Sequence

Centres = Literal["official", "exclude_zero"]


class TETFN(LabelMoving):
    """TETFN.

    text_encoder: of language as words or tokens, see `TextEncoder`; its pieces are the steps. Vectors are mapped as they are
    max_pieces: of a text, the special ones included; null: all that the encoder can read
    hidden: units of the LSTMs of other modalities, one number for all, or modality → number
    dim, heads: width of x_m, and of how many attention heads
    layers: of cross-modal transformers and memories (MMSA: 2; the enhancement CT' has one)
    attention_dropout: of attention weights, one number for all, or *source* modality → number; memories have that of language
    relu_dropout, residual_dropout, embedding_dropout: as in `MulT`
    feature, dropout: width of the hidden layers of the unimodal heads, and the dropout before them, one number or modality → number
    z_dim, fusion_dropout: width of Z, and the dropout before the fusion
    centres, labels: as in `SelfMM`

    Raises ValueError without language and another modality of vectors, and on options out of range or unknown.

    >>> from mdm.types import Feature
    >>> spec = DataSpec({"language": Feature(6), "audio": Feature(5)}, ("y",), (-3.0, 3.0), (0.0,), aligned=False)
    >>> TETFN(spec, dim=10, heads=2).unimodal_dims
    {'language': 10, 'audio': 10}
    """

    def __init__(
        self,
        spec: DataSpec,
        text_encoder: str = "tiny",
        max_pieces: int | None = 50,
        hidden: Size | Mapping[str, Size] = 16,
        dim: Size = 20,
        heads: Size = 2,
        layers: Depth = 1,
        attention_dropout: Share | Mapping[str, Share] = 0.0,
        relu_dropout: Share = 0.0,
        residual_dropout: Share = 0.1,
        embedding_dropout: Share = 0.0,
        feature: Size | Mapping[str, Size] = 32,
        dropout: Share | Mapping[str, Share] = 0.0,
        z_dim: Size = 64,
        fusion_dropout: Share = 0.0,
        centres: Centres = "exclude_zero",
        labels: Labels = "generated",
    ):
        super().__init__()
        require_option("centres", centres, Centres)
        require_option("labels", labels, Labels)
        require_modalities(spec, ("language",), "TETFN")
        modalities = self.modalities = spec.modalities
        others = tuple(m for m in modalities if m != "language")
        tokens = [m for m in others if spec.features[m].tokens]
        if not others or tokens:
            raise ValueError(
                f"TETFN needs language and at least one other modality of vectors, but the data have {', '.join(modalities)} "
                f"({', '.join(tokens) or 'none'} as tokens); set data.modalities, or choose another model."
            )
        if dim % heads:
            raise ValueError(f"heads: expected a divisor of dim={dim}, got {heads}; set model.backbone.heads.")
        units = expand_option("hidden", hidden, others)
        rates = expand_option("attention_dropout", attention_dropout, modalities)
        widths, dropouts = expand_option("feature", feature, modalities), expand_option("dropout", dropout, modalities)
        language = spec.features["language"]
        self.text = TextEncoder(language, "bert", text_encoder, max_pieces) if language.tokens else None
        self.project = nn.ModuleDict({"language": nn.Linear(self.text.dim if self.text else language.dim, dim, bias=False)})
        self.encoders = nn.ModuleDict({m: StateReader(spec.features[m], units[m], dim) for m in others})

        def stack(width: int, count: int, attention: float) -> nn.ModuleList:
            return nn.ModuleList([Layer(width, heads, attention, relu_dropout, residual_dropout) for _ in range(count)])

        self.pairs = [(m, s) for m in modalities for s in modalities if s != m]
        self.cross = nn.ModuleDict(
            {f"{m}_{s}": CrossModal(stack(dim, layers, rates[s]), dim, embedding_dropout) for m, s in self.pairs}
        )
        self.enhance = nn.ModuleDict(
            {
                f"{m}_{s}": CrossModal(stack(dim, 1, rates["language"]), dim, embedding_dropout)
                for m, s in self.pairs
                if "language" not in (m, s)
            }
        )
        width = len(others) * dim
        self.memory = nn.ModuleDict(
            {m: Memory(stack(width, layers, rates["language"]), width, embedding_dropout) for m in modalities}
        )
        self.unimodal_dims = dict.fromkeys(modalities, dim)
        self.unimodal_heads = nn.ModuleDict({m: UnimodalHead(dim, widths[m], dropouts[m], spec) for m in modalities})
        self.z_dim = z_dim
        self.fusion = nn.Sequential(nn.Dropout(fusion_dropout), nn.Linear(len(modalities) * width, z_dim), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(z_dim, z_dim), nn.ReLU(), regressor(z_dim, spec))
        self.part_dims = {f"feature_{m}": n for m, n in widths.items()}
        self.part_dims |= {f"prediction_{m}": len(spec.targets) for m in modalities}
        self.keep_labels(spec, z_dim, widths, centres, labels)

    def encode(self, batch: Batch) -> Encoded:
        encoded: Encoded = {}
        for m in self.modalities:
            steps = self._read(m, batch.sequences[m])
            largest = find_maximum(steps)
            feature, prediction = self.unimodal_heads[m](largest)
            kept = keep_whole(steps) if self.text is not None and m == "language" else {"steps": steps}
            encoded[m] = {**kept, "maximum": largest, "feature": feature, "prediction": prediction}
        return encoded

    def _read(self, modality: str, sequence: Sequence) -> Sequence:
        if modality != "language":
            return self.encoders[modality](sequence)
        if self.text is not None:
            pieces = self.text.pieces(sequence)
            sequence = Sequence(self.text(pieces).last_hidden_state, pieces.mask)
        else:
            sequence = real_steps_first(sequence)
        values = sequence.values.masked_fill(~sequence.mask.unsqueeze(2), 0)
        return Sequence(self.project["language"](values), sequence.mask)

    def fuse(self, encoded: Encoded) -> Fusion:
        steps: dict[str, Sequence] = {m: read_steps(encoded[m]) for m in self.modalities}
        placed = {m: add_positions(s.values) for m, s in steps.items()}

        def reach(target: str, source: str) -> Reach:
            return find_reach(steps[target], steps[source], future_mask=True)

        memories = []
        for m in self.modalities:
            read = []
            for s in (s for target, s in self.pairs if target == m):
                source, name = placed[s], f"{m}_{s}"
                if name in self.enhance:
                    source = add_positions(self.enhance[name](source, placed["language"], reach(s, "language")))
                read.append(self.cross[name](placed[m], source, reach(m, s)))
            memories.append(self.memory[m](Sequence(torch.cat(read, dim=2), steps[m].mask), True, "all"))
        z = self.fusion(torch.cat(memories, dim=1))
        parts = {f"{key}_{m}": encoded[m][key] for key in ("feature", "prediction") for m in self.modalities}
        return Fusion(self.head(z), z, {m: encoded[m]["maximum"] for m in self.modalities}, parts)


class StateReader(nn.Module):
    """The states of an LSTM at every step, mapped to ``dim`` without bias; padding behind and zero."""

    def __init__(self, feature: Feature, hidden: int, dim: int):
        super().__init__()
        self.lstm = nn.LSTM(feature.dim, hidden, batch_first=True)
        self.project = nn.Linear(hidden, dim, bias=False)

    def forward(self, sequence: Sequence) -> Sequence:
        sequence = real_steps_first(sequence)
        padding = ~sequence.mask.unsqueeze(2)
        states = self.lstm(sequence.values.masked_fill(padding, 0))[0]
        return Sequence(self.project(states).masked_fill(padding, 0), sequence.mask)


def find_maximum(sequence: Sequence) -> Float[Tensor, "batch dim"]:
    """Of each coordinate over real steps; zero where there is none."""
    values = sequence.values.masked_fill(~sequence.mask.unsqueeze(2), -torch.inf).amax(1)
    return torch.where(sequence.mask.any(1, keepdim=True), values, 0.0)
