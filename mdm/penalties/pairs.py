"""Stage three, penalty: pairs of representations, for the objectives that are about the dependence of two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mdm.types import Fusion

Direction = Literal["paper", "official"]


def name_parts(fusion: Fusion) -> dict[str, Float[Tensor, "batch d"]]:
    """Z as ``z``, unimodal representations and parts by name."""
    return {"z": fusion.z, **fusion.parts, **fusion.unimodal}


def pairs_of(
    unimodal: Mapping[str, int],
    parts: Mapping[str, int],
    pairs: Sequence[Sequence[str]] | None,
    shared: str | None = None,
    direction: Direction = "paper",
) -> list[tuple[str, str]]:
    """The pairs (x, y) whose dependence counts, by name; by default each unordered pair once (Qian et al., 2024).

    pairs: given, they are these; ``z`` names Z
    shared: the name of the part that the modalities share. Without it the pairs are every two modalities, the later given the
        earlier; with it also each modality with that part, and every other part (MIRD's ``raw_terms``), which predicts it
    direction: of the pairs with the shared part. ``paper``, q(z_S|z_m); ``official``, q(z_m|z_S). With true conditionals both
        bounds are one number; fitted ones differ by how well q fits

    Raises ValueError on a name that is not there, what is no pair, or if no pair is left.
    """
    there = ["z", *parts, *unimodal]
    result: list[tuple[str, str]]
    if pairs is not None:
        if any(len(pair) != 2 for pair in pairs):
            raise ValueError(f"A pair is [x, y], but the objective's pairs are {[list(pair) for pair in pairs]}; name two in each.")
        result = [(x, y) for x, y in pairs]
        if not result or len({frozenset(pair) for pair in result}) < len(result) or any(x == y for x, y in result):
            raise ValueError(
                "The objective's pairs are of two different representations, each pair once, at least one pair, got "
                f"{[list(pair) for pair in pairs]}; correct pairs, or leave it null for all of them."
            )
    else:
        result = list(combinations(unimodal, 2))
        if shared is not None:
            result += [(m, shared) if direction == "paper" else (shared, m) for m in unimodal]
            result += [(p, shared) for p in parts if p != shared]
    absent = sorted({name for pair in result for name in pair} - set(there))
    if absent:
        raise ValueError(
            f"A pair is of representations that the model has ({', '.join(there)}), but {', '.join(absent)} is not among "
            "them; set the objective's pairs and shared."
        )
    if not result:
        raise ValueError(
            "Dependence between representations needs at least two of them, but the model offers "
            f"{', '.join([*parts, *unimodal]) or 'none beside Z'}; choose a model with unimodal representations, or more "
            "modalities."
        )
    return result


def standardize_columns(value: Float[Tensor, "batch d"]) -> Float[Tensor, "batch d"]:
    """Each column with mean 0 and variance 1; one that is constant becomes 0."""
    centred = value - value.mean(0)
    variance = centred.square().mean(0)
    # What rounding leaves of a constant column grows with the constant.
    varies = variance > 1e-12 + 1e-10 * value.square().mean(0)
    return torch.where(varies, centred * torch.where(varies, variance, 1.0).rsqrt(), 0.0)


def prepare_columns(value: Float[Tensor, "batch d"], standardize: bool) -> Float[Tensor, "batch d"]:
    """In single precision, `standardize_columns` if so asked."""
    value = value.float()
    return standardize_columns(value) if standardize else value


def pad_columns(values: Sequence[Float[Tensor, "n _"]], p: int) -> Float[Tensor, "v n p"]:
    """Values of unequal widths one over the other, filled up to p columns with zeros."""
    return torch.stack([F.pad(value, (0, p - value.shape[1])) for value in values])
