"""What a run of MFM makes of a fold: its factors, and the segments that it generates of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mdm.backbones.layers import masked_mean, replace_unknown
from mdm.backbones.mfm import MFM
from mdm.data import lexicon
from mdm.runs.trained import Trained
from mdm.types import Sequence

Row = dict[str, str | float]
NUMBERS = 2**20
"""That a block of generated steps and its derivatives may have."""


@dataclass(frozen=True)
class Inferred:
    """What a run makes of the n segments of a fold.

    label: the first target; lengths: modality → real steps, 0 where a segment lacks it
    parts: f_y, f_<modality>, … as `MFM.decode` reads them
    means: modality → mean of its real steps, of words the share of each
    words: ids of language in `mdm.data.lexicon`, nothing where its words are others
    """

    ids: tuple[str, ...]
    label: Float[np.ndarray, " n"]
    lengths: dict[str, Int[Tensor, " n"]]
    parts: dict[str, Float[Tensor, "n _"]]
    means: dict[str, Float[Tensor, "n _"]]
    words: tuple[tuple[int, ...], ...]


def require_mfm(trained: Trained) -> MFM:
    """The backbone, which has what is asked for.

    Raises ValueError if it is no MFM, or one of its ablations.
    """
    backbone = trained.backbone
    if not isinstance(backbone, MFM) or any(names != ("y", m) for m, names in backbone.reads.items()) or not backbone.reads:
        raise ValueError(
            f"F_y and a factor of each modality are what MFM decodes from, but {trained.folder} is a run of "
            f"{type(backbone).__name__} with {', '.join(backbone.part_dims) or 'no factors'}; use model=mfm with variant=mfm."
        )
    return backbone


@torch.no_grad()
def infer(trained: Trained, fold: str) -> Inferred:
    """Factors, lengths and real means of a fold, in evaluation mode."""
    backbone, features = require_mfm(trained), trained.splits.spec.features
    vocabulary = features["language"].vocabulary if "language" in features else ()
    ids, label, words = list[str](), list[Tensor](), list[tuple[int, ...]]()
    parts, lengths, means = (dict[str, list[Tensor]]() for _ in range(3))
    for batch in trained.batches(fold):
        ids += batch.ids
        label.append(batch.label[:, 0])
        for name, part in backbone(batch).parts.items():
            parts.setdefault(name, []).append(part)
        for m, sequence in batch.sequences.items():
            lengths.setdefault(m, []).append(sequence.lengths)
            means.setdefault(m, []).append(average_real(sequence, features[m].dim))
        language = batch.sequences.get("language")
        if language is not None and set(vocabulary) == set(lexicon.VOCABULARY):
            for row, real in zip(language.values, language.mask, strict=True):
                words.append(tuple(lexicon.ID[vocabulary[k]] for k in row[real]))
    each = [{name: torch.cat(tensors) for name, tensors in of.items()} for of in (lengths, parts, means)]
    return Inferred(tuple(ids), torch.cat(label).numpy().astype(np.float64), each[0], each[1], each[2], tuple(words))


def average_real(sequence: Sequence, dim: int) -> Float[Tensor, "batch dim"]:
    """Mean over real steps of frames, or share of each word."""
    if sequence.values.ndim == 3:
        return masked_mean(sequence)
    counts = torch.zeros(len(sequence.values), dim)
    counts.scatter_add_(1, replace_unknown(sequence.values, dim), sequence.mask.float())
    return counts / sequence.lengths.clamp(min=1)[:, None]


def generate(
    trained: Trained, modality: str, parts: Mapping[str, Float[Tensor, "n _"]], lengths: Int[Tensor, " n"]
) -> Float[Tensor, "n time dim"]:
    """x̂: frames, or the probability of every word."""
    steps = require_mfm(trained).decode(modality, parts, lengths)
    return steps.softmax(2) if trained.splits.spec.features[modality].tokens else steps


@torch.no_grad()
def average_generated(
    trained: Trained, modality: str, parts: Mapping[str, Float[Tensor, "n _"]], lengths: Int[Tensor, " n"]
) -> Float[Tensor, "n dim"]:
    """X̂: the mean over each row's own steps, of which there must be one at least."""
    found = []
    size = max(1, NUMBERS // (int(lengths.max()) * trained.splits.spec.features[modality].dim))
    for rows in torch.arange(len(lengths)).split(size):
        steps = generate(trained, modality, {name: part[rows] for name, part in parts.items()}, lengths[rows])
        real = torch.arange(steps.shape[1]) < lengths[rows, None]
        found.append(masked_mean(Sequence(steps, real)))
    return torch.cat(found)
