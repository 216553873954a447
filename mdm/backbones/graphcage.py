"""Stage two, backbone: GraphCAGE, graph capsule aggregation (Wu, Mai, Hu, Yan, ICMI 2021).

Each modality reads every other one as in MulT, without memories: x_t is what a step has read from all of them, side by side. Then
each sequence becomes a graph of n nodes, whose capsules the steps vote for:

    p_{t,i} = W_i (x_t + position t),    node_i = tanh(Σ_t c_{t,i} p_{t,i}),    A = I + ReLU(Q Kᵀ / d_c)

c_t is a softmax over nodes of b, found by *routing*: b = 0, then so many times b_{t,i} += ⟨node_i, p_{t,i}⟩, without a gradient.
Two layers of graph convolutions follow, X ← tanh(A (X W + b) W_o). After each, the nodes vote for one capsule, by matrices and
routing of their own. Modalities share convolutions and these matrices. Z is these capsules of all modalities and both layers; a
layer with tanh and a linear map follow. The unimodal representations are the means of the projected sequences.

The authors' code has a W_{t,i} for each step t, too, 99 of 100 of its weights (``capsules=positional``). There padded steps vote,
and the prediction is ten times the last layer's; here padding does not vote, and the last bias begins at the mean of labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mdm.backbones.base import Backbone
from mdm.backbones.layers import expand_option, masked_mean, regressor
from mdm.backbones.mult import CrossModal, Layer, Projection, add_positions, find_reach
from mdm.hints import Count, Depth, Range, Share, Size, require_option
from mdm.types import Batch, DataSpec, Encoded, Fusion, Sequence

Capsules = Literal["shared", "positional"]


class GraphCAGE(Backbone):
    """GraphCAGE.

    dim, heads, layers: of the cross-modal transformers (official 30, 5 and 5)
    nodes, capsule: of each graph, and their width (official 20; 32 on MOSI, 64 on MOSEI)
    routing: rounds (official 2); 0: every step votes alike
    capsules: ``shared`` by the steps, with a learned vector for each position (default); ``positional``, a matrix for each
    max_steps: positions that are learned, of each modality; later steps share the last one's
    z_hidden: width of the layer behind Z (official 64)
    attention_dropout, relu_dropout, residual_dropout, embedding_dropout: as in `MulT`
    penalty: λ of the own term (official 1e-4)
    embedding_dim: width of the trainable word embedding, where the text is words

    Raises ValueError with one modality, if heads do not divide dim, and on options out of range or unknown.

    >>> from mdm.types import Feature
    >>> spec = DataSpec({"audio": Feature(5), "video": Feature(4)}, ("y",), (-3.0, 3.0), (0.0,), aligned=False)
    >>> GraphCAGE(spec, capsule=8).z_dim
    32
    """

    def __init__(
        self,
        spec: DataSpec,
        dim: Size = 20,
        heads: Size = 2,
        layers: Depth = 1,
        nodes: Size = 8,
        capsule: Size = 16,
        routing: Count = 2,
        capsules: Capsules = "shared",
        max_steps: Size | Mapping[str, Size] = 128,
        z_hidden: Size = 64,
        attention_dropout: Share = 0.0,
        relu_dropout: Share = 0.0,
        residual_dropout: Share = 0.1,
        embedding_dropout: Share = 0.1,
        penalty: Annotated[float, Range(0)] = 0.0001,
        embedding_dim: Size = 64,
    ):
        super().__init__()
        require_option("capsules", capsules, Capsules)
        modalities = spec.modalities
        if len(modalities) < 2:
            raise ValueError(f"GraphCAGE needs two modalities, one to read the other, but the data have only {modalities[0]}.")
        if dim % heads:
            raise ValueError(f"heads: expected a divisor of dim={dim}, got {heads}; set model.backbone.heads.")
        steps = expand_option("max_steps", max_steps, modalities)
        self.penalty, self.rounds = penalty, routing
        self.project = nn.ModuleDict({m: Projection(f, embedding_dim, dim, 1, 0.0) for m, f in spec.features.items()})

        def make_layers() -> nn.ModuleList:
            return nn.ModuleList([Layer(dim, heads, attention_dropout, relu_dropout, residual_dropout) for _ in range(layers)])

        self.pairs = [(m, s) for m in modalities for s in modalities if s != m]
        self.cross = nn.ModuleDict({f"{m}_{s}": CrossModal(make_layers(), dim, embedding_dropout) for m, s in self.pairs})
        width = (len(modalities) - 1) * dim
        self.graphs = nn.ModuleDict(
            {m: SequenceToGraph(width, nodes, capsule, routing, steps[m], capsules == "positional") for m in modalities}
        )
        self.convolutions = nn.ModuleList([Convolution(capsule) for _ in range(2)])
        self.readouts = nn.ParameterList([torch.randn(nodes, capsule, capsule) / capsule**0.5 for _ in range(2)])
        self.unimodal_dims = dict.fromkeys(modalities, dim)
        self.z_dim = 2 * capsule * len(modalities)
        self.head = nn.Sequential(nn.Linear(self.z_dim, z_hidden), nn.Tanh(), regressor(z_hidden, spec))

    def encode(self, batch: Batch) -> Encoded:
        return {m: {"steps": project(batch.sequences[m])} for m, project in self.project.items()}

    def fuse(self, encoded: Encoded) -> Fusion:
        steps: dict[str, Sequence] = {m: encoded[m]["steps"] for m in self.project}
        placed = {m: add_positions(s.values) for m, s in steps.items()}
        read: dict[str, list[Tensor]] = {m: [] for m in steps}
        for m, s in self.pairs:
            read[m].append(self.cross[f"{m}_{s}"](placed[m], placed[s], find_reach(steps[m], steps[s], future_mask=True)))
        capsules = []
        for m, graph in self.graphs.items():
            x, edges = graph(torch.cat(read[m], dim=2), steps[m].mask)
            for convolution, weight in zip(self.convolutions, self.readouts, strict=True):
                x = convolution(x, edges)
                capsules.append(vote_for_one(torch.einsum("bnd,nde->bne", x, weight), self.rounds))
        z = torch.cat(capsules, dim=1)
        return Fusion(self.head(z), z, {m: masked_mean(s) for m, s in steps.items()})

    def own_terms(self, batch: Batch, encoded: Encoded, fusion: Fusion) -> dict[str, Float[Tensor, ""]]:
        """λ Σ_m ‖W^m‖, the norm of all matrices that make a modality's steps capsules."""
        if self.penalty == 0:
            return {}
        norms = [torch.linalg.vector_norm(graph.get_parameter("weight")) for graph in self.graphs.values()]
        return {"capsules": self.penalty * torch.stack(norms).sum()}


class SequenceToGraph(nn.Module):
    """Steps [batch, time, width] → nodes [batch, nodes, capsule] and A [batch, nodes, nodes]."""

    def __init__(self, width: int, nodes: int, capsule: int, rounds: int, max_steps: int, positional: bool):
        super().__init__()
        self.rounds, self.max_steps = rounds, max_steps
        shape = (max_steps, nodes, width, capsule) if positional else (nodes, width, capsule)
        self.weight = nn.Parameter(torch.randn(shape) / width**0.5)
        self.position = None if positional else nn.Parameter(0.02 * torch.randn(max_steps, width))
        self.query, self.key = (nn.Linear(capsule, capsule, bias=False) for _ in range(2))

    def forward(self, x: Float[Tensor, "batch time width"], mask: Bool[Tensor, "batch time"]) -> tuple[Tensor, Tensor]:
        place = torch.arange(x.shape[1], device=x.device).clamp(max=self.max_steps - 1)
        if self.position is None:
            votes = torch.einsum("btd,tnde->btne", x, self.weight[place])
        else:
            votes = torch.einsum("btd,nde->btne", x + self.position[place], self.weight)
        nodes = vote_for_nodes(votes, mask, self.rounds)
        scores = self.query(nodes) @ self.key(nodes).transpose(1, 2) / nodes.shape[2]
        return nodes, torch.eye(nodes.shape[1], device=x.device) + scores.relu()


def vote_for_nodes(
    votes: Float[Tensor, "batch time nodes capsule"], mask: Bool[Tensor, "batch time"], rounds: int
) -> Float[Tensor, "batch nodes capsule"]:
    """tanh(Σ_t c_{t,i} p_{t,i}) over real steps, c_t a softmax over nodes found by routing, which has no gradient."""
    p, real = votes.detach(), mask[:, :, None]
    b = torch.zeros_like(p[..., 0])
    for _ in range(rounds):
        nodes = (p * (b.softmax(2) * real).unsqueeze(3)).sum(1).tanh()
        b = b + (p * nodes.unsqueeze(1)).sum(3)
    return (votes * (b.softmax(2) * real).unsqueeze(3)).sum(1).tanh()


def vote_for_one(votes: Float[Tensor, "batch nodes capsule"], rounds: int) -> Float[Tensor, "batch capsule"]:
    """tanh(Σ_i c_i p_i), c a softmax over nodes found by routing, which has no gradient."""
    p = votes.detach()
    b = torch.zeros_like(p[..., 0])
    for _ in range(rounds):
        one = (p * b.softmax(1).unsqueeze(2)).sum(1).tanh()
        b = b + (p * one.unsqueeze(1)).sum(2)
    return (votes * b.softmax(1).unsqueeze(2)).sum(1).tanh()


class Convolution(nn.Module):
    """X, A → tanh(A (X W + b) W_o)."""

    def __init__(self, capsule: int):
        super().__init__()
        self.inner, self.outer = nn.Linear(capsule, capsule), nn.Linear(capsule, capsule, bias=False)

    def forward(self, x: Float[Tensor, "batch nodes capsule"], edges: Float[Tensor, "batch nodes nodes"]) -> Tensor:
        return self.outer(edges @ self.inner(x)).tanh()
