"""Stage two, backbone: MV-LSTM, the multi-view LSTM (Rajagopalan, Morency, Baltrušaitis, Goecke, ECCV 2016).

An LSTM for each view (modality) v, whose gates read the states of all views at the step before, each through two constant diagonal
masks A and B of zeros and ones:

    i, f, o = σ(W^v x^v_t + U^vv A h^v_{t−1} + Σ_{k≠v} U^vk B h^k_{t−1}),    g the same with tanh
    c^v_t = f∘c^v_{t−1} + i∘g,    h^v_t = o∘c^v_t

A has ones for the first α of a view's units, B for a share β. Four topologies: ``view_specific`` (α, β) = (1, 0), ``coupled``
(0, 1), ``full`` (1, 1) and ``hybrid``, any other; the best that the paper prints has α = .1 and β = 1. Both as printed and in the
authors' code the masks choose which units are *read*: every cell reads them, and the kinds of cells that the paper's figure draws
do not exist.

Z = [h_T of each view], followed by a two-layer head. With β > 0 every state depends on all modalities, so the unimodal
representations are what each modality by itself puts into its cells on average, the mean over steps of W^v x_t + b in g.

Uncertain: for sentiment nothing is published. The paper pools a softmax over all steps by its maximum; a number has no such
pooling, and the last state is read instead, as later papers do. U^vk is one matrix for each target and source (code); the paper's
index names the source only. Sizes and head are not published either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdm.backbones.base import Backbone
from mdm.backbones.layers import expand_option, regressor
from mdm.backbones.views import GateInputs, join_views, require_steps_correspond, step_cells
from mdm.hints import Share, Size, require_option
from mdm.types import Batch, DataSpec, Encoded, Fusion

Topology = Literal["view_specific", "coupled", "full", "hybrid"]
Overlap = Literal["paper", "official"]
Mask = Literal["read", "write"]
SHARES = {"view_specific": (1.0, 0.0), "coupled": (0.0, 1.0), "full": (1.0, 1.0)}
"""α and β by topology."""


class MVLSTM(Backbone):
    """MV-LSTM.

    hidden: units of each view, one number for all, or modality → number
    topology: see above
    alpha, beta: of ``hybrid``; αd and βd units are rounded down, as in the authors' code. Other topologies have theirs
    overlap: which units B lets be read. ``paper``, the last ones, so that with α + β ≤ 1 none is read by both; ``official``, the
        first ones, as A's
    mask: ``read``, the masks choose units of t − 1 that all cells read (paper and code); ``write``, they choose the cells that read
        their own view, and the others, which is what the paper's figure draws
    squash: h = o∘tanh(c) in place of h = o∘c
    bias: of each view's gates (the code has it, the paper has not)
    head, dropout: width of the hidden layer of the head and the dropout behind it
    embedding_dim: width of the trainable word embedding, where the text is words

    Numbers of parameters: Σ_v 4h_v(d_v + 1) + 4D² with D = Σ h_v, masked entries counted (the authors' code keeps them, too).

    Raises ValueError on unaligned data (steps must correspond), and on an option out of range or unknown.

    >>> from mdm.types import Feature
    >>> spec = DataSpec({"audio": Feature(5), "video": Feature(4)}, ("y",), (-3.0, 3.0), (0.0,), aligned=True)
    >>> MVLSTM(spec, hidden=2, topology="view_specific").reads.tolist()[0]
    [1.0, 1.0, 0.0, 0.0]
    """

    reads: Tensor

    def __init__(
        self,
        spec: DataSpec,
        hidden: Size | Mapping[str, Size] = 32,
        topology: Topology = "hybrid",
        alpha: Share = 0.1,
        beta: Share = 1.0,
        overlap: Overlap = "paper",
        mask: Mask = "read",
        squash: bool = False,
        bias: bool = True,
        head: Size = 64,
        dropout: Share = 0.5,
        embedding_dim: Size = 300,
    ):
        super().__init__()
        for name, value, options in (("topology", topology, Topology), ("overlap", overlap, Overlap), ("mask", mask, Mask)):
            require_option(name, value, options)
        require_steps_correspond(spec, "MV-LSTM")
        units = expand_option("hidden", hidden, spec.modalities)
        total = sum(units.values())
        self.squash = squash
        self.inputs = nn.ModuleDict({m: GateInputs(f, embedding_dim, units[m], bias) for m, f in spec.features.items()})
        self.recurrent = nn.Linear(total, 4 * total, bias=False)
        alpha, beta = SHARES.get(topology, (alpha, beta))
        self.register_buffer("reads", mask_views(list(units.values()), alpha, beta, overlap, mask), persistent=False)
        self.unimodal_dims = units
        self.z_dim = total
        self.head = nn.Sequential(nn.Linear(total, head), nn.ReLU(), nn.Dropout(dropout), regressor(head, spec))

    def encode(self, batch: Batch) -> Encoded:
        return {m: inputs(batch.sequences[m]) for m, inputs in self.inputs.items()}

    def fuse(self, encoded: Encoded) -> Fusion:
        given, there, _ = join_views([encoded[m]["gates"] for m in self.inputs])
        weight = (self.recurrent.weight * self.reads.repeat(4, 1)).t()
        h = c = given.new_zeros(len(given), self.z_dim)
        for here, cells in zip(given.unbind(1), there.unbind(1), strict=True):
            h, c = step_cells(torch.addmm(here, h, weight), h, c, cells, self.squash)
        return Fusion(self.head(h), h, {m: encoded[m]["candidate"] for m in self.inputs})


def mask_views(
    widths: list[int], alpha: float, beta: float, overlap: Overlap = "paper", mask: Mask = "read"
) -> Float[Tensor, "cells cells"]:
    """Row: a cell; column: a unit of the step before; 1 where the cell reads it."""
    first = [count_share(alpha, n) for n in widths]
    cross = [count_share(beta, n) for n in widths]
    own = torch.cat([(torch.arange(n) < k).float() for n, k in zip(widths, first, strict=True)])
    place = [torch.arange(n) >= n - k if overlap == "paper" else torch.arange(n) < k for n, k in zip(widths, cross, strict=True)]
    other = torch.cat(place).float()
    within = torch.block_diag(*(torch.ones(n, n) for n in widths))
    if mask == "write":
        own, other = own.unsqueeze(1), other.unsqueeze(1)
    return within * own + (1 - within) * other


def count_share(share: float, n: int) -> int:
    """⌊share·n⌋; what is short of a whole number by rounding alone counts as one (.29 · 100 is 29)."""
    return math.floor(share * n + 1e-9)
