"""Between backbone and penalty: samples of the product of the marginals, by moving rows of encoded modalities.

Algorithm 1 of Colombo et al. (2021) permute each modality within the batch. A random permutation keeps one row on average, and
matched pairs cap any estimate at log m; here each modality moves by a cyclic offset of its own, so that in no
row two modalities keep their partners.

Segments also share their *length*. A pair whose lengths do not match would betray itself to the critic, and a
length that all modalities share counts as dependence (7.8 nats for three modalities and lengths uniform on 1…50).
So rows move among neighbours in length, and where steps are fused one by one, a moved sequence is
stretched to the length of the place it moves to: the measured dependence is that of the contents.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from mdm.backbones.layers import real_steps_first
from mdm.types import Batch, Encoded, Sequence

NEIGHBOURS = 8
"""Rows that exchange modalities with one another, at the most twice less one; must exceed the number of modalities."""


def batch_lengths(batch: Batch) -> Int[np.ndarray, "modalities batch"]:
    """Real steps of each modality in each row, on the CPU."""
    return np.stack([sequence.lengths.cpu().numpy() for sequence in batch.sequences.values()])


def shifts(lengths: Int[np.ndarray, "modalities batch"], rng: np.random.Generator) -> Int[np.ndarray, "modalities places"]:
    """For each modality, which row moves to each place. The first modality stays; no two present ones keep the same partner.

    Rows exchange only with rows that have the same modalities, because which of them are missing would betray a pair as its
    length would; rows of a pattern that fewer rows have than modalities are in it get no place. The others are sorted by
    length (ties at random) and cut into groups of about NEIGHBOURS, and within a group each modality moves cyclically by a
    distinct offset, drawn anew for each group.

    Raises ValueError with fewer than two modalities, or if no pattern has rows enough.
    """
    modalities, rows = lengths.shape
    if modalities < 2:
        raise ValueError(
            "Dependence between modalities needs at least two of them, but the data have one; use penalty=none, or data "
            "with more modalities."
        )
    bits = 2 ** np.arange(modalities)
    pattern = bits @ (lengths > 0)
    order = np.lexsort((rng.random(rows), lengths.max(0)))
    columns = []
    for one in np.unique(pattern):
        present, alike = np.flatnonzero(one & bits), order[pattern[order] == one]
        if not 0 < len(present) <= len(alike):
            continue
        for group in np.array_split(alike, max(1, len(alike) // max(NEIGHBOURS, modalities))):
            offsets = np.zeros(modalities, int)
            offsets[present[1:]] = 1 + rng.permutation(len(group) - 1)[: len(present) - 1]
            columns.append(group[(np.arange(len(group)) - offsets[:, None]) % len(group)])
    if not columns:
        raise ValueError(
            f"A sample of the product of {modalities} marginals needs at least {modalities} rows that have the same modalities, "
            f"but a batch of {rows} has none such; raise data.batch_size, or use more segments."
        )
    index = np.concatenate(columns, axis=1)
    return index[:, np.argsort(index[0])]


def product(encoded: Encoded, index: Int[np.ndarray, "modalities places"], lengths: Int[np.ndarray, "modalities batch"]) -> Encoded:
    """Rows of ``encoded`` re-paired by `shifts`: a sample of the product of the marginals, given length and missing modalities.

    Sequences take the length of the place they move to; one that is absent stays absent.
    """
    # The first modality stays, so its rows are the places.
    target = lengths[:, index[0]]
    moved: Encoded = {}
    for m, (name, parts) in enumerate(encoded.items()):
        moved[name] = {key: move(part, index[m], target[m]) for key, part in parts.items()}
    return moved


def move(part: Tensor | Sequence, index: Int[np.ndarray, " places"], target: Int[np.ndarray, " places"]) -> Tensor | Sequence:
    """Rows ``index`` of a part, sequences stretched to ``target`` steps."""
    if isinstance(part, Tensor):
        return part.index_select(0, torch.from_numpy(index).to(part.device))
    rows, lengths = (torch.from_numpy(numbers).to(part.mask.device) for numbers in (index, target))
    return stretch(real_steps_first(part), rows, lengths)


def stretch(sequence: Sequence, rows: Int[Tensor, " places"], lengths: Int[Tensor, " places"]) -> Sequence:
    """Rows of sequences read at ``lengths`` evenly spaced steps: step t of n comes from step ⌊t·L/n⌋ of L.

    Real steps must come first. An empty sequence stays empty; one that has the wanted length is unchanged.
    """
    have = sequence.lengths[rows]
    lengths = torch.where(have > 0, lengths, 0)
    time = torch.arange(max(int(lengths.max()), 1), device=have.device)
    mask = time < lengths[:, None]
    source = torch.where(mask, time * have[:, None] // lengths.clamp(min=1)[:, None], 0)
    # Rows and steps in one selection: the gradient of this is eight times as fast as that of indexing and gather.
    place = rows[:, None] * sequence.values.shape[1] + source
    values = sequence.values.flatten(0, 1).index_select(0, place.flatten())
    return Sequence(values.unflatten(0, place.shape), mask)


def detach_all(encoded: Encoded) -> Encoded:
    """The same values without their graph."""
    return {name: {key: part.detach() for key, part in parts.items()} for name, parts in encoded.items()}
