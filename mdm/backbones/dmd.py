"""Stage two, backbone: DMD, decoupled multimodal distilling (Li, Wang, Cui, CVPR 2023).

A convolution maps each modality to steps x_m of one width. Of each step come a private code s_m = W_m x_m and a common one
c_m = W x_m, W the same for all; D_m [s_m; c_m] rebuilds x_m. The common codes of each modality read themselves, and what their
last steps have read is r_c, side by side; the private codes read each other and themselves as in MulT, which gives r_m:

    Z = [σ(A_m r_m + a_m) of each m; σ(A_c r_c + a_c)]

followed by a residual block and a linear map. r_c, and of each modality the mean of c_m and r_m, have heads of their own, which
learn the labels and from each other, by edges that a small network gives each pair (`Distillation`). Unimodal representations are
the means of s_m; parts are these (``private_<m>``), the means of c_m (``common_<m>``), r_m and r_c (``memory_<m>``,
``memory_common``).

The authors' code flattens padded steps of a fixed length where the means over real steps stand here, which makes most of its
parameters; it has no masks; the orthogonal term there is a cosine along the rows of a batch, which today's torch refuses, and here
one along the coordinates of each step. Convolutions keep the length here. Users of the code report that they could not reach the
paper's scores for MOSI.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mdm.backbones.base import Backbone, require_modalities
from mdm.backbones.distillation import Distillation, margin_of_triplets
from mdm.backbones.layers import expand_option, masked_mean, regressor
from mdm.backbones.mult import CrossModal, Layer, Memory, Projection, ResidualHead, add_positions, find_reach
from mdm.backbones.text import TextEncoder, keep_whole, read_steps
from mdm.hints import Depth, Range, Share, Size
from mdm.types import Batch, DataSpec, Encoded, Feature, Fusion, Sequence

Weight = Annotated[float, Range(0)]


class DMD(Backbone):
    """DMD.

    text_encoder, max_pieces: of language as words or tokens, see `TextEncoder`; its pieces are the steps
    dim, heads: width of all steps (official 50 on MOSI, 30 on MOSEI), and of how many attention heads (10 and 6)
    layers: of all transformers (official 4)
    kernel: steps that a convolution sees, one odd number for all, or modality → number
    attention_dropout: of attention weights, one number for all, or *source* modality → number; memories have that of language
    relu_dropout, residual_dropout, embedding_dropout, language_dropout, output_dropout: as in `MulT`
    edges: width of the networks that give the edges of common and of private codes (official 64 and 32)
    tasks, distillation, decoupling, margin: weights of the own terms, see `own_terms`; the defaults are official

    Raises ValueError without language and another modality, on heads that do not divide dim, and on even kernels.

    >>> spec = DataSpec({"language": Feature(6), "audio": Feature(5)}, ("y",), (-3.0, 3.0), (0.0,), aligned=False)
    >>> DMD(spec, dim=10, heads=2).z_dim
    40
    """

    def __init__(
        self,
        spec: DataSpec,
        text_encoder: str = "tiny",
        max_pieces: int | None = None,
        dim: Size = 20,
        heads: Size = 2,
        layers: Depth = 1,
        kernel: Size | Mapping[str, Size] = 1,
        attention_dropout: Share | Mapping[str, Share] = 0.0,
        relu_dropout: Share = 0.0,
        residual_dropout: Share = 0.1,
        embedding_dropout: Share = 0.1,
        language_dropout: Share = 0.1,
        output_dropout: Share = 0.1,
        edges: tuple[Size, Size] | list[Size] = (64, 32),
        tasks: Weight = 1.0,
        distillation: Weight = 0.05,
        decoupling: Weight = 0.1,
        margin: Weight = 0.1,
    ):
        super().__init__()
        require_modalities(spec, ("language",), "DMD")
        modalities = spec.modalities
        if len(modalities) < 2:
            raise ValueError("DMD needs language and another modality, which learn from each other; choose data with more.")
        kernels = expand_option("kernel", kernel, modalities)
        rates = expand_option("attention_dropout", attention_dropout, modalities)
        if dim % heads or any(k % 2 == 0 for k in kernels.values()) or len(edges) != 2:
            raise ValueError(
                "DMD needs heads that divide dim, odd kernels, in whose middle a step stays, and two numbers of edges, but dim="
                f"{dim}, heads={heads}, kernel={kernels}, edges={list(edges)} came; set model.backbone.*."
            )
        self.weights = {"tasks": tasks, "distillation": distillation, "decoupling": decoupling, "margin": margin}
        language = spec.features["language"]
        self.text = TextEncoder(language, "bert", text_encoder, max_pieces) if language.tokens else None
        features = {**spec.features, "language": Feature(self.text.dim) if self.text else language}
        self.project = nn.ModuleDict(
            {m: Projection(features[m], dim, dim, kernels[m], language_dropout if m == "language" else 0.0) for m in modalities}
        )
        self.private = nn.ModuleDict({m: nn.Linear(dim, dim, bias=False) for m in modalities})
        self.common = nn.Linear(dim, dim, bias=False)
        self.decode = nn.ModuleDict({m: nn.Linear(2 * dim, dim, bias=False) for m in modalities if decoupling > 0})
        self.align = nn.ModuleDict({m: nn.Linear(dim, dim) for m in modalities if decoupling * margin > 0})

        def stack(width: int, attention: float) -> nn.ModuleList:
            return nn.ModuleList([Layer(width, heads, attention, relu_dropout, residual_dropout) for _ in range(layers)])

        self.pairs = [(m, s) for m in modalities for s in modalities if s != m]
        self.cross = nn.ModuleDict({f"{m}_{s}": CrossModal(stack(dim, rates[s]), dim, embedding_dropout) for m, s in self.pairs})
        width = (len(modalities) - 1) * dim
        self.memory = nn.ModuleDict({m: Memory(stack(width, rates["language"]), width, embedding_dropout) for m in modalities})
        self.common_memory = nn.ModuleDict({m: Memory(stack(dim, rates[m]), dim, embedding_dropout) for m in modalities})
        self.part_dims = {f"{kind}_{m}": dim for kind in ("private", "common") for m in modalities}
        memories = {f"memory_{m}": width for m in modalities} | {"memory_common": len(modalities) * dim}
        self.part_dims |= memories
        self.squash = nn.ModuleDict({name: nn.Sequential(nn.Linear(d, d), nn.Sigmoid()) for name, d in memories.items()})
        heard = tasks + distillation > 0
        self.common_heads = nn.ModuleDict({m: Readout(dim, output_dropout, spec) for m in modalities if heard})
        self.private_heads = nn.ModuleDict({m: Readout(width, output_dropout, spec) for m in modalities if heard})
        self.joint_head = Readout(len(modalities) * dim, output_dropout, spec) if tasks > 0 else None
        self.graphs = nn.ModuleDict()
        if distillation > 0:
            targets = len(spec.targets)
            self.graphs["common"] = Distillation(modalities, targets, dim, edges[0])
            self.graphs["private"] = Distillation(modalities, targets, width, edges[1], apart=True)
        self.unimodal_dims = dict.fromkeys(modalities, dim)
        self.z_dim = sum(memories.values())
        self.head = ResidualHead(self.z_dim, output_dropout, spec)

    def encode(self, batch: Batch) -> Encoded:
        encoded: Encoded = {}
        for m, project in self.project.items():
            sequence = batch.sequences[m]
            if self.text is not None and m == "language":
                pieces = self.text.pieces(sequence)
                sequence = Sequence(self.text(pieces).last_hidden_state, pieces.mask)
                encoded[m] = keep_whole(project(sequence))
            else:
                encoded[m] = {"steps": project(sequence)}
        return encoded

    def fuse(self, encoded: Encoded) -> Fusion:
        steps: dict[str, Sequence] = {m: read_steps(encoded[m]) for m in self.project}
        private = {m: Sequence(self.private[m](s.values), s.mask) for m, s in steps.items()}
        common = {m: Sequence(self.common(s.values), s.mask) for m, s in steps.items()}
        parts = {f"private_{m}": masked_mean(s) for m, s in private.items()}
        parts |= {f"common_{m}": masked_mean(s) for m, s in common.items()}
        placed = {m: add_positions(s.values) for m, s in private.items()}
        read: dict[str, list[Tensor]] = {m: [] for m in steps}
        for m, s in self.pairs:
            read[m].append(self.cross[f"{m}_{s}"](placed[m], placed[s], find_reach(steps[m], steps[s], future_mask=True)))
        for m, memory in self.memory.items():
            parts[f"memory_{m}"] = memory(Sequence(torch.cat(read[m], dim=2), steps[m].mask), True, "all")
        parts["memory_common"] = torch.cat([memory(common[m], True, "all") for m, memory in self.common_memory.items()], dim=1)
        z = torch.cat([squash(parts[name]) for name, squash in self.squash.items()], dim=1)
        return Fusion(self.head(z), z, {m: parts[f"private_{m}"] for m in steps}, parts)

    def own_terms(self, batch: Batch, encoded: Encoded, fusion: Fusion) -> dict[str, Float[Tensor, ""]]:
        """All weighted as in the authors' code:

        tasks: absolute errors of the 2M + 1 further heads, summed
        distillation: of `Distillation` between the heads of common codes, and between those of private ones, summed
        decoupling: Σ_m of the mean squared error of x̂_m = D_m [s_m; c_m] against x_m, and of W_m x̂_m against s_m; plus margin times
            (`margin_of_triplets` of the means of c_m, each through a linear map; Σ_m mean over steps of max(0, cos(s_m, c_m)))

        Terms that read labels are of rows that have one.
        """
        modalities, parts, weights, terms = list(self.project), fusion.parts, self.weights, {}
        label = batch.label[: batch.labelled]
        heads = {"common": self.common_heads, "private": self.private_heads}
        inputs = {"common": "common", "private": "memory"}
        said = {kind: [head(parts[f"{inputs[kind]}_{m}"]) for m, head in each.items()] for kind, each in heads.items()}
        if self.joint_head is not None:
            predictions = [prediction for each in said.values() for prediction, _, _ in each]
            predictions.append(self.joint_head(parts["memory_common"])[0])
            errors = [(prediction[: len(label)].float() - label).abs().mean() for prediction in predictions]
            terms["tasks"] = weights["tasks"] * torch.stack(errors).sum()
        if self.graphs:
            # Of common codes the hidden layer of their heads, of private ones the residual block, as in the authors' code.
            costs = [
                graph(torch.stack([s[0] for s in said[kind]]), torch.stack([s[1 if kind == "common" else 2] for s in said[kind]]))
                for kind, graph in self.graphs.items()
            ]
            terms["distillation"] = weights["distillation"] * torch.stack(costs).sum()
        if weights["decoupling"] > 0:
            costs = [self._decouple(m, read_steps(encoded[m])) for m in modalities]
            total = torch.stack(costs).sum()
            if weights["margin"] > 0:
                codes = torch.stack([self.align[m](parts[f"common_{m}"])[: len(label)].float() for m in modalities], dim=1)
                total = total + weights["margin"] * margin_of_triplets(codes, label)
            terms["decoupling"] = weights["decoupling"] * total
        return terms

    def _decouple(self, m: str, steps: Sequence) -> Float[Tensor, ""]:
        """Reconstruction, cycle and orthogonality of a modality, over its real steps."""
        x = steps.values[steps.mask]
        s, c = self.private[m](x), self.common(x)
        rebuilt = self.decode[m](torch.cat([s, c], dim=1))
        cycle, kept = self.private[m](rebuilt).float(), rebuilt.float()
        overlap = F.cosine_similarity(s.float(), c.float(), dim=1).clamp(min=0)
        count = max(len(x), 1)
        errors = ((kept - x.float()).square().mean(1) + (cycle - s.float()).square().mean(1)).sum()
        return (errors + self.weights["margin"] * overlap.sum()) / count


class Readout(nn.Module):
    """x → (prediction, ReLU(W₁x), x + W₂·Drop(ReLU(W₁x))), the prediction a linear map of the last."""

    def __init__(self, dim: int, dropout: float, spec: DataSpec):
        super().__init__()
        self.first, self.second = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.dropout, self.out = nn.Dropout(dropout), regressor(dim, spec)

    def forward(self, x: Float[Tensor, "batch d"]) -> tuple[Tensor, Tensor, Tensor]:
        hidden = self.first(x).relu()
        block = x + self.second(self.dropout(hidden))
        return self.out(block), hidden, block
