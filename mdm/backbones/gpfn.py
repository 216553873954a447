"""Stage two, backbone: GPFN, the graph pooling fusion network of Multimodal Graph (Mai, Xing, He, Zeng, Hu, 2020); our reading.

The steps of each modality are the nodes of a graph, whose edges come from the nodes themselves, and graph convolutions run over it:

    X ← ReLU(A X W + b),    A = softmax(Q Kᵀ/√d)  or  (I + ReLU(Q Kᵀ/√d)) with rows that sum to 1

Each graph is pooled to n nodes, P_m = softmax(X_m W_p)ᵀ X_m over the steps; the nodes of all modalities are one graph again, with a
convolution of its own, and are pooled to k nodes in the same way. Z is these side by side, followed by a two-layer head. The
unimodal representations are the means of X_m over steps.

From the abstract, neither the paper's text nor code was at hand. It says that a graph convolution runs over the time steps of each
modality, that there are several ways to make the edges, and that a graph pooling fusion network then pools nodes across modalities.
All else is assumed: both formulas for the edges, soft pooling, sizes, that each modality's graph has weights of its own, and that
no position is known to it.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mdm.backbones.base import Backbone
from mdm.backbones.layers import masked_mean, regressor
from mdm.backbones.mult import Projection
from mdm.backbones.wsabert import masked_softmax
from mdm.hints import Depth, Share, Size, require_option
from mdm.types import Batch, DataSpec, Encoded, Fusion, Sequence

Edges = Literal["softmax", "relu"]


class GPFN(Backbone):
    """GPFN.

    dim: width of all nodes
    layers: graph convolutions of each modality; the joint graph has one
    nodes, pooled: to how many each modality's graph is pooled, and the joint one
    edges: ``softmax``, attention (default), or ``relu``, in which a node is its own neighbour
    head, dropout: width of the hidden layer of the head and the dropout before it
    embedding_dim: width of the trainable word embedding, where the text is words

    Raises ValueError on options out of range or unknown.

    >>> from mdm.types import Feature
    >>> spec = DataSpec({"audio": Feature(5), "video": Feature(4)}, ("y",), (-3.0, 3.0), (0.0,), aligned=False)
    >>> GPFN(spec, dim=8, pooled=3).z_dim
    24
    """

    def __init__(
        self,
        spec: DataSpec,
        dim: Size = 32,
        layers: Depth = 2,
        nodes: Size = 8,
        pooled: Size = 2,
        edges: Edges = "softmax",
        head: Size = 64,
        dropout: Share = 0.1,
        embedding_dim: Size = 64,
    ):
        super().__init__()
        require_option("edges", edges, Edges)
        self.project = nn.ModuleDict({m: Projection(f, embedding_dim, dim, 1, 0.0) for m, f in spec.features.items()})
        self.graphs = nn.ModuleDict()
        for m in spec.modalities:
            self.graphs[m] = nn.ModuleList([Convolution(dim, edges) for _ in range(layers)])
        self.pools = nn.ModuleDict({m: Pool(dim, nodes) for m in spec.modalities})
        self.joint, self.joint_pool = Convolution(dim, edges), Pool(dim, pooled)
        self.unimodal_dims = dict.fromkeys(spec.modalities, dim)
        self.z_dim = dim * pooled
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(self.z_dim, head), nn.ReLU(), regressor(head, spec))

    def encode(self, batch: Batch) -> Encoded:
        encoded: Encoded = {}
        for m, project in self.project.items():
            steps = project(batch.sequences[m])
            for convolution in self.graphs[m].children():
                steps = Sequence(convolution(steps.values, steps.mask), steps.mask)
            there = steps.mask.any(1, keepdim=True)
            encoded[m] = {"nodes": self.pools[m](steps.values, steps.mask), "there": there, "mean": masked_mean(steps)}
        return encoded

    def fuse(self, encoded: Encoded) -> Fusion:
        nodes = [encoded[m]["nodes"] for m in self.project]
        mask = torch.cat([encoded[m]["there"].expand(-1, x.shape[1]) for m, x in zip(self.project, nodes, strict=True)], dim=1)
        z = self.joint_pool(self.joint(torch.cat(nodes, dim=1), mask), mask).flatten(1)
        return Fusion(self.head(z), z, {m: encoded[m]["mean"] for m in self.project})


class Convolution(nn.Module):
    """X → ReLU(A X W + b) on real nodes, zero elsewhere; A from X."""

    def __init__(self, dim: int, edges: Edges):
        super().__init__()
        self.edges = edges
        self.query, self.key, self.map = nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim)

    def connect(self, x: Float[Tensor, "batch nodes dim"], mask: Bool[Tensor, "batch nodes"]) -> Float[Tensor, "batch nodes nodes"]:
        """A; its rows sum to 1 over real nodes, and are 0 where there is none."""
        scores = self.query(x) @ self.key(x).transpose(1, 2) / math.sqrt(x.shape[2])
        if self.edges == "softmax":
            return masked_softmax(scores, mask.unsqueeze(1)).to(x.dtype)
        weights = (torch.eye(x.shape[1], device=x.device) + scores.relu()) * mask.unsqueeze(1)
        return weights / weights.sum(2, keepdim=True).clamp(min=1e-6)

    def forward(self, x: Float[Tensor, "batch nodes dim"], mask: Bool[Tensor, "batch nodes"]) -> Float[Tensor, "batch nodes dim"]:
        return self.map(self.connect(x, mask) @ x).relu() * mask.unsqueeze(2)


class Pool(nn.Module):
    """X → softmax(X W)ᵀ X, [batch, nodes, dim], the softmax over real nodes of X; zero where there is none."""

    def __init__(self, dim: int, nodes: int):
        super().__init__()
        self.score = nn.Linear(dim, nodes, bias=False)

    def forward(self, x: Float[Tensor, "batch time dim"], mask: Bool[Tensor, "batch time"]) -> Float[Tensor, "batch nodes dim"]:
        return masked_softmax(self.score(x).transpose(1, 2), mask.unsqueeze(1)).to(x.dtype) @ x
