"""Stage two, backbone: the Multimodal Factorization Model of Tsai et al. (2019) (MFM) and its ablations M_A … M_E.

An autoencoder whose code falls into a discriminative part, seen by all modalities, and a generative part for each:

    Z_y = linear(MFN without its head),  Z_m = linear(h_T of an LSTM)        deterministic encoders (Eq. 3)
    F_y = G_y(Z_y),  F_m = G_m(Z_m)                                          two layers, each with a ReLU
    Ŷ = D(F_y),  X̂_m = an LSTM decoder of [F_y; F_m]                         (Eq. 1)
    loss = c(Y, Ŷ) + Σ_m λ_m c(X_m, X̂_m) + λ·MMD²(Z, N(0, I))                (Eq. 4, a Wasserstein autoencoder)

Z of `Fusion` is F_y, which the head reads. The unimodal representations are what F_y is fused from, the last states of MFN's
LSTMs, and not F_m, of which F_y should know nothing. Codes and factors are in ``parts``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mdm.backbones.base import Backbone, require_equal_padding
from mdm.backbones.decoders import Decoder, DecoderForm
from mdm.backbones.ef_lstm import concatenate_steps
from mdm.backbones.layers import Steps, at_last_step, expand_option, last_state, real_steps_first, regressor
from mdm.backbones.mfn import CellStates, DeltaMemory
from mdm.estimators import mmd2, mmd2_to_standard_normal
from mdm.hints import Share, Size, require_option
from mdm.types import Batch, DataSpec, Encoded, Feature, Fusion, Sequence

KernelScale = Literal["official", "corrected", "multi"]
Mmd = Literal["joint", "per_factor"]
Prior = Literal["closed", "sampled"]

Variant = Literal["mfm", "M_A", "M_B", "M_C", "M_D", "M_E"]
SPREAD = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Scales of ``kernel_scale=multi``, in units of 2d."""


class MFM(Backbone):
    """MFM.

    variant (Table 2): ``mfm``; ``M_A``, one generative factor F_all of all modalities, from an LSTM over their concatenation;
        ``M_B``, no F_y: each F_m decodes its modality, and together they are Z; ``M_C``, F_y alone decodes everything;
        ``M_D`` is M_B, and ``M_E`` is M_C, without decoders and prior. M_D's head is linear, as in the official code; that of M_B
        has f_y units between, as has that of the others.
    z_y, f_y: widths of the multimodal code and factor
    z_m, f_m: widths of the generative ones, a number for all, or modality → number (M_A's are those of the first modality)
    y_dropout, m_dropout, head_dropout: after the first layer of G_y, of G_m (a number, or modality → number) and of the head
    hidden … update_dropout: of MFN, see there
    reconstruction_weight: λ_m, a number for all, or modality → number
    prior_weight: λ
    kernel_scale: s in exp(−‖a − b‖²/s), for codes of width d. ``official``, d²: so wide for d ≥ 32 that a code collapsed to a point
        scores better than samples of the prior; ``corrected`` (default), 2d, the mean squared distance of two samples of
        the prior; ``multi``, the mean over seven scales from 0.2d to 20d
    mmd: ``joint`` (default), of all codes side by side, as Eq. 4 says and as their independence of one another asks for;
        ``per_factor``, a term for each code, as in the official code: two equal codes cost nothing
    prior: ``closed`` (default), the expectation over the prior; ``sampled``, as many samples of it as there are rows, drawn anew at
        each step, as in the official code: the same in the mean but for a constant, with noise
    decoder: ``merged`` (default) or ``two_matrices``, as in the official code, see `mdm.backbones.decoders.Decoder`
    embedding_dim: width of the trainable word embedding, where the text is words; encoders share it

    The cost of a reconstruction is a mean over real steps and their coordinates; a sum as in the paper is another λ_m. The
    official code counts padding as well, which here has no fixed length. The paper's words are fixed vectors. Here they are ids
    with an embedding that is learned, and a squared distance to that would be least where all words are the same; so they
    cost their negative log likelihood, in units of log(number of ids): 1 for a uniform guess, as the mean costs 1 where
    frames are standardised.

    Raises ValueError on unaligned data where steps must correspond (all but M_B and M_D), an unknown choice, a width below 1, a
    negative weight, or numbers for other modalities.

    >>> from mdm.data.splits import Splits
    >>> from mdm.data.synthetic import synthetic
    >>> splits = Splits(synthetic(train=16, valid=4, test=4), batch_size=8)
    >>> batch = next(iter(splits.valid()))
    >>> model = MFM(splits.spec)
    >>> encoded = model.encode(batch)
    >>> sorted(model.own_terms(batch, encoded, model.fuse(encoded)))
    ['prior', 'reconstruction_audio', 'reconstruction_language', 'reconstruction_video']
    """

    def __init__(
        self,
        spec: DataSpec,
        variant: Variant = "mfm",
        z_y: Size = 32,
        f_y: Size = 32,
        z_m: Size | Mapping[str, Size] = 32,
        f_m: Size | Mapping[str, Size] = 16,
        y_dropout: Share = 0.2,
        m_dropout: Share | Mapping[str, Share] = 0.2,
        head_dropout: Share = 0.2,
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
        reconstruction_weight: float | Mapping[str, float] = 1.0,
        prior_weight: float = 1.0,
        kernel_scale: KernelScale = "corrected",
        mmd: Mmd = "joint",
        prior: Prior = "closed",
        decoder: DecoderForm = "merged",
        embedding_dim: Size = 300,
    ):
        super().__init__()
        require_option("variant", variant, Variant)
        require_option("kernel_scale", kernel_scale, KernelScale)
        require_option("mmd", mmd, Mmd)
        require_option("prior", prior, Prior)
        require_option("decoder", decoder, DecoderForm)
        fuses, decodes = variant not in ("M_B", "M_D"), variant not in ("M_D", "M_E")
        if fuses and not spec.aligned:
            raise ValueError(
                f"MFM with variant={variant} compares the modalities step by step, so it needs word-aligned data, but these are "
                "unaligned; use aligned data, or model.backbone.variant=M_B or M_D."
            )
        if fuses:
            require_equal_padding(spec, "MFM")
        units = expand_option("hidden", hidden, spec.modalities)
        z_widths, f_widths = expand_option("z_m", z_m, spec.modalities), expand_option("f_m", f_m, spec.modalities)
        dropouts = expand_option("m_dropout", m_dropout, spec.modalities)
        self.weights = expand_option("reconstruction_weight", reconstruction_weight, spec.modalities)
        widths = {"z_y": z_y, "f_y": f_y, "memory": memory, "attention": attention, "proposal": proposal}
        widths |= {"retain": retain, "update": update}
        for option, numbers in (("hidden", units), ("z_m", z_widths), ("f_m", f_widths)):
            widths |= {f"{option}.{name}": n for name, n in numbers.items()}
        weights = {"prior_weight": prior_weight} | {f"reconstruction_weight.{m}": w for m, w in self.weights.items()}
        wrong = {name: n for name, n in widths.items() if n < 1} | {name: w for name, w in weights.items() if w < 0}
        if wrong:
            raise ValueError(f"MFM's widths must be at least 1 and its weights at least 0, but {wrong} came; set model.backbone.*.")
        self.prior_weight, self.kernel_scale, self.mmd, self.prior = prior_weight, kernel_scale, mmd, prior

        self.steps = nn.ModuleDict({m: Steps(feature, embedding_dim) for m, feature in spec.features.items()})
        dims = {m: embedding_dim if feature.tokens else feature.dim for m, feature in spec.features.items()}
        dims["all"] = sum(dims.values())
        # Name of each generative code → the modality whose widths it has.
        first, none = {"all": spec.modalities[0]}, dict[str, str]()
        own = {"M_A": first, "M_C": none, "M_E": none}.get(variant, {m: m for m in spec.modalities})
        self.encoders = nn.ModuleDict({name: CodeEncoder(dims[name], z_widths[m]) for name, m in own.items()})
        self.factors = nn.ModuleDict({name: factor(z_widths[m], f_widths[m], dropouts[m]) for name, m in own.items()})
        codes = {name: (z_widths[m], f_widths[m]) for name, m in own.items()}
        if fuses:
            total = sum(units.values())
            self.lstms = nn.ModuleDict({m: CellStates(Feature(dims[m]), dims[m], n) for m, n in units.items()})
            self.memory = DeltaMemory(
                total,
                memory,
                attention=(attention, attention_dropout),
                proposal=(proposal, proposal_dropout),
                retain=(retain, retain_dropout),
                update=(update, update_dropout),
            )
            self.code = nn.Linear(total + memory, z_y)
            self.factors["y"] = factor(z_y, f_y, y_dropout)
            codes["y"] = (z_y, f_y)
        self.fuses = fuses
        self.reads = {m: tuple(name for name in ("y", m, "all") if name in codes) for m in spec.modalities if decodes}
        self.decoders = nn.ModuleDict(
            {m: Decoder(sum(codes[name][1] for name in names), spec.features[m], decoder) for m, names in self.reads.items()}
        )
        self.z_dim = f_y if fuses else sum(f_widths.values())
        self.unimodal_dims = units if fuses else f_widths
        self.part_dims = {f"z_{name}": z for name, (z, _) in codes.items()} | {f"f_{name}": f for name, (_, f) in codes.items()}
        if variant == "M_D":
            self.head: nn.Module = regressor(self.z_dim, spec)
        else:
            before = (nn.Linear(self.z_dim, f_y), nn.ReLU(), nn.Dropout(head_dropout))
            self.head = nn.Sequential(*before, regressor(f_y, spec))

    def encode(self, batch: Batch) -> Encoded:
        encoded: Encoded = {}
        for m, embed in self.steps.items():
            steps = real_steps_first(embed(batch.sequences[m]))
            encoded[m] = {}
            if self.fuses:
                states, cells = self.lstms[m](steps)
                encoded[m] |= {"state": at_last_step(states), "cells": cells}
            if m in self.encoders:
                encoded[m]["z"] = self.encoders[m](steps)
            if "all" in self.encoders:
                encoded[m]["steps"] = steps
        return encoded

    def fuse(self, encoded: Encoded) -> Fusion:
        codes: dict[str, Tensor] = {}
        if self.fuses:
            unimodal = {m: encoded[m]["state"] for m in self.steps}
            memory = self.memory(concatenate_steps([encoded[m]["cells"] for m in self.steps]))
            codes["y"] = self.code(torch.cat([*unimodal.values(), memory], dim=1))
        if "all" in self.encoders:
            codes["all"] = self.encoders["all"](concatenate_steps([encoded[m]["steps"] for m in self.steps]))
        codes |= {m: encoded[m]["z"] for m in self.steps if m in self.encoders}
        factors = {name: self.factors[name](code) for name, code in codes.items()}
        parts = {f"z_{name}": code for name, code in codes.items()} | {f"f_{name}": f for name, f in factors.items()}
        if self.fuses:
            return Fusion(self.head(factors["y"]), factors["y"], unimodal, parts)
        z = torch.cat(list(factors.values()), dim=1)
        return Fusion(self.head(z), z, factors, parts)

    def decode(
        self, modality: str, parts: Mapping[str, Float[Tensor, "batch _"]], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch time dim"]:
        """F_m: factors → the steps of one modality, frames or vectors in their units, words as unnormalised log probabilities.

        A function of those parts of a `Fusion` that this decoder reads (``f_y`` and ``f_<modality>``; for M_A ``f_all``), so that
        factors can be exchanged for those of other segments, and differentiated (Eq. 7). Steps behind a row's length mean nothing.
        Forward-mode derivatives need ``torch.backends.mkldnn.flags(enabled=False)``, as the fused LSTM has none.
        """
        return self.decoders[modality](self._read(modality, parts), max(int(lengths.max()), 1))

    def own_terms(self, batch: Batch, encoded: Encoded, fusion: Fusion) -> dict[str, Float[Tensor, ""]]:
        """λ_m c(X_m, X̂_m) for each modality and λ·MMD²; none without decoders."""
        if not self.decoders:
            return {}
        terms: dict[str, Tensor] = {}
        present = {m: batch.sequences[m].mask.any(1) for m in self.steps}
        for m, made in self.decoders.items():
            assert isinstance(made, Decoder)
            cost = made.cost(self._read(m, fusion.parts), real_steps_first(batch.sequences[m]))
            terms[f"reconstruction_{m}"] = self.weights[m] * cost
        codes = {name.removeprefix("z_"): z for name, z in fusion.parts.items() if name.startswith("z_")}
        distance = codes_to_prior(codes, present, self.mmd, self.kernel_scale, self.prior)
        return terms if distance is None else terms | {"prior": self.prior_weight * distance}

    def _read(self, modality: str, parts: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([parts[f"f_{name}"] for name in self.reads[modality]], dim=1)


class CodeEncoder(nn.Module):
    """LSTM → linear, as wide as the code: [batch, time, d] → [batch, code]."""

    def __init__(self, dim: int, code: int):
        super().__init__()
        self.lstm = nn.LSTM(dim, code, batch_first=True)
        self.project = nn.Linear(code, code)

    def forward(self, sequence: Sequence) -> Float[Tensor, "batch code"]:
        return self.project(last_state(self.lstm, sequence))


def factor(code: int, width: int, dropout: float) -> nn.Sequential:
    """G: code → factor, which is not negative."""
    return nn.Sequential(nn.Linear(code, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width), nn.ReLU())


def codes_to_prior(
    codes: Mapping[str, Float[Tensor, "batch _"]],
    present: Mapping[str, Bool[Tensor, " batch"]],
    mmd: Mmd,
    kernel_scale: KernelScale,
    prior: Prior,
) -> Float[Tensor, ""] | None:
    """MMD² of all codes side by side (``joint``), or its sum over codes (``per_factor``); None if no row has what it takes.

    codes: modality, or a name for several (``y``, ``all``) → its code; present: modality → the rows that have it. A modality that a
        segment lacks has no code: its encoder gives the same for every such segment. That of several is there if one of them is
    """
    some = torch.stack(list(present.values())).any(0)
    if mmd == "joint":
        rows = torch.stack([present.get(name, some) for name in codes]).all(0)
        groups = [torch.cat(list(codes.values()), dim=1)[rows]]
    else:
        groups = [z[present.get(name, some)] for name, z in codes.items()]
    distances = [prior_distance(z, kernel_scale, prior) for z in groups if len(z)]
    return torch.stack(distances).sum() if distances else None


def prior_distance(z: Float[Tensor, "n d"], kernel_scale: KernelScale, prior: Prior) -> Float[Tensor, ""]:
    """MMD² between the rows of z and N(0, I), a V-statistic: with n samples of the prior itself it is about 1/n, not 0."""
    d = z.shape[1]
    scales = [float(d * d)] if kernel_scale == "official" else [2 * d * s for s in (SPREAD if kernel_scale == "multi" else (1.0,))]
    z = z.float()
    if prior == "sampled":
        return mmd2(z, torch.randn_like(z), scales, unbiased=False)
    return torch.stack([mmd2_to_standard_normal(z, scale) for scale in scales]).mean()
