"""MulT of small widths, and unaligned batches for it."""

import torch

from mdm.backbones.mult import MulT
from mdm.types import Batch, DataSpec, Feature, Sequence

WORDS = Feature(9, tokens=True, vocabulary=tuple(f"w{i}" for i in range(9)))
FEATURES = {"language": WORDS, "audio": Feature(5), "video": Feature(4)}
LENGTHS = {"language": [3, 1, 4, 0], "audio": [7, 2, 0, 3], "video": [2, 6, 3, 1]}
"""Unaligned; row 2 has no audio and row 3 no words."""


def spec(**features):
    return DataSpec(features or FEATURES, ("y", "w"), (-3.0, 3.0), (0.25, -1.0), False)


def build(**options):
    torch.manual_seed(0)
    return MulT(**{"spec": spec(), "dim": 6, "embedding_dim": 7, **options}).eval()


def batch(lengths=LENGTHS, seed=0):
    rng = torch.Generator().manual_seed(seed)
    sequences = {}
    for m, feature in FEATURES.items():
        have = torch.tensor(lengths[m])
        mask = torch.arange(int(have.max())) < have[:, None]
        if feature.tokens:
            values = torch.randint(2, feature.dim, mask.shape, generator=rng) * mask
        else:
            values = torch.randn(*mask.shape, feature.dim, generator=rng)
        sequences[m] = Sequence(values, mask)
    return Batch(tuple("abcd"), sequences, torch.zeros(4, 2))


def masks(*lengths):
    time = max(lengths)
    return Sequence(torch.zeros(len(lengths), time, 1), torch.arange(time) < torch.tensor(lengths)[:, None])
