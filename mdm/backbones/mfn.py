"""Stage two, backbone: the Memory Fusion Network (MFN).

An LSTM for each modality; at every step an attention over the cells of this step and the one before (the delta-memory
attention network) picks what changed across modalities, and a gated memory u keeps it:

    ĉ_t = softmax(N_a([C_{t−1}; C_t])) ∘ [C_{t−1}; C_t],    C_t = [c_t^m for each modality m], C_0 = 0
    u_t = σ(N_1([ĉ_t; u_{t−1}])) ∘ u_{t−1} + σ(N_2([ĉ_t; u_{t−1}])) ∘ tanh(N_u(ĉ_t)),    u_0 = 0

with N_* two-layer networks and the softmax over coordinates, not over time.

Z = [h_T of each modality; u_T], followed by a two-layer head; the unimodal representations are the h_T.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mdm.backbones.base import Backbone, require_equal_padding
from mdm.backbones.ef_lstm import concatenate_steps
from mdm.backbones.layers import Steps, at_last_step, expand_option, real_steps_first, regressor
from mdm.backbones.packing import Packed, pack, run_cell
from mdm.hints import Share, Size
from mdm.types import Batch, DataSpec, Encoded, Feature, Fusion, Sequence


class MFN(Backbone):
    """MFN.

    hidden: units of the LSTMs, one number for all, or modality → number
    memory: width of u
    attention, proposal, retain, update, head: width of the hidden layer of N_a, N_u, N_1, N_2 and of the head, each with
        a dropout after its ReLU (official code's NN1, NN2, gamma1, gamma2 and out)
    embedding_dim: width of the trainable word embedding, where the text is words

    For samples of the product, h_T moves whole and the cells of all steps move as a sequence, which is stretched to the length
    of its new place: h_T read from a stretched sequence would often not be a last state, so that a critic could tell the
    product from the joint by one modality alone.

    Raises ValueError on unaligned data (steps must correspond), a width below 1, or widths for other modalities.

    >>> from mdm.data.splits import Splits
    >>> from mdm.data.synthetic import synthetic
    >>> splits = Splits(synthetic(train=16, valid=4, test=4), batch_size=8)
    >>> batch = next(iter(splits.valid()))
    >>> MFN(splits.spec)(batch).prediction.shape
    torch.Size([4, 1])
    """

    def __init__(
        self,
        spec: DataSpec,
        hidden: Size | Mapping[str, Size] = 64,
        memory: Size = 64,
        attention: Size = 32,
        attention_dropout: Share = 0.2,
        proposal: Size = 32,
        proposal_dropout: Share = 0.2,
        retain: Size = 32,
        retain_dropout: Share = 0.2,
        update: Size = 32,
        update_dropout: Share = 0.2,
        head: Size = 64,
        head_dropout: Share = 0.5,
        embedding_dim: Size = 300,
    ):
        super().__init__()
        if not spec.aligned:
            raise ValueError(
                "MFN compares the modalities step by step, so it needs word-aligned data, but these are unaligned; use aligned "
                "data, or a model that pools each modality (lmf, tfn)."
            )
        require_equal_padding(spec, "MFN")
        units = expand_option("hidden", hidden, spec.modalities)
        widths = {"memory": memory, "attention": attention, "proposal": proposal, "retain": retain, "update": update, "head": head}
        small = {name: n for name, n in (widths | {f"hidden.{m}": n for m, n in units.items()}).items() if n < 1}
        if small:
            raise ValueError(f"Every width of MFN must be at least 1, but {small} came; set model.backbone.*.")
        self.unimodal_dims = units
        total = sum(units.values())
        self.z_dim = total + memory
        self.lstms = nn.ModuleDict({m: CellStates(f, embedding_dim, units[m]) for m, f in spec.features.items()})
        self.memory = DeltaMemory(
            total,
            memory,
            attention=(attention, attention_dropout),
            proposal=(proposal, proposal_dropout),
            retain=(retain, retain_dropout),
            update=(update, update_dropout),
        )
        self.head = nn.Sequential(nn.Linear(self.z_dim, head), nn.ReLU(), nn.Dropout(head_dropout), regressor(head, spec))

    def encode(self, batch: Batch) -> Encoded:
        encoded: Encoded = {}
        for m, lstm in self.lstms.items():
            states, cells = lstm(batch.sequences[m])
            encoded[m] = {"state": at_last_step(states), "cells": cells}
        return encoded

    def fuse(self, encoded: Encoded) -> Fusion:
        unimodal = {m: encoded[m]["state"] for m in self.lstms}
        memory = self.memory(concatenate_steps([encoded[m]["cells"] for m in self.lstms]))
        z = torch.cat([*unimodal.values(), memory], dim=1)
        return Fusion(self.head(z), z, unimodal)


class CellStates(nn.Module):
    """An LSTM that gives h_t and c_t of every step; ``nn.LSTM`` gives only the last c. Real steps come out first."""

    def __init__(self, feature: Feature, embedding_dim: int, hidden: int):
        super().__init__()
        self.steps = Steps(feature, embedding_dim)
        self.cell = nn.LSTMCell(self.steps.dim, hidden)

    def forward(self, sequence: Sequence) -> tuple[Sequence, Sequence]:
        sequence = real_steps_first(self.steps(sequence))
        cell, packed = self.cell, pack(sequence)
        states = run_cell(packed, cell.weight_ih, cell.weight_hh, cell.bias_ih + cell.bias_hh)
        h, c = (packed.unpack(each, sequence.mask) for each in states)
        return h, c


class DeltaMemory(nn.Module):
    """Delta-memory attention and the multi-view gated memory: cells [batch, time, width] → u_T [batch, memory].

    Each network is given as (width of its hidden layer, its dropout). ĉ and the proposals tanh(N_u(ĉ)) do not read the memory,
    so they are made for all steps at once, as is what ĉ adds to the first layer of the two gates.
    """

    def __init__(
        self,
        width: int,
        memory: int,
        attention: tuple[int, float],
        proposal: tuple[int, float],
        retain: tuple[int, float],
        update: tuple[int, float],
    ):
        super().__init__()

        def network(out: int, hidden: int, dropout: float) -> nn.Sequential:
            return nn.Sequential(nn.Linear(2 * width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, out))

        self.attention = network(2 * width, *attention)
        self.proposal = network(memory, *proposal)
        # The first layers of both gates, one above the other; their columns are those for ĉ, then those for u.
        self.first = nn.Linear(2 * width + memory, retain[0] + update[0])
        self.retain, self.update = (
            nn.Sequential(nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, memory), nn.Sigmoid())
            for hidden, dropout in (retain, update)
        )
        self.memory, self.widths = memory, [retain[0], update[0]]

    def forward(self, cells: Sequence) -> Float[Tensor, "batch memory"]:
        """Real steps must come first; the memory is read after the last of them."""
        packed = pack(cells)
        attended = self.attend(packed)
        proposals = self.proposal(attended).tanh()
        from_cells, from_memory = self.first.weight.split([attended.shape[1], self.memory], dim=1)
        given = F.linear(attended, from_cells, self.first.bias)
        u = attended.new_zeros(len(cells.values), self.memory)
        memories = [u[:0]]
        # Splitting once and not slicing at each step, whose gradient would be filled for all steps each time.
        for here, proposal in zip(given.split(packed.sizes), proposals.split(packed.sizes), strict=True):
            u = u[: len(here)]
            to_retain, to_update = torch.addmm(here, u, from_memory.t()).split(self.widths, dim=1)
            u = self.retain(to_retain) * u + self.update(to_update) * proposal
            memories.append(u)
        return packed.holds(torch.cat(memories)).at_last_step()

    def attend(self, cells: Packed) -> Float[Tensor, "total two_widths"]:
        """ĉ of every step: [C_{t−1}; C_t] weighted by a softmax over its own coordinates."""
        window = torch.cat([cells.before(cells.values), cells.values], dim=1)
        return self.attention(window).softmax(dim=1) * window
