"""MISA of small widths, and batches for it."""

import torch

from mdm.backbones.misa import MISA
from mdm.types import Batch, DataSpec, Feature, Sequence

WORDS = Feature(9, tokens=True, vocabulary=tuple(f"w{i}" for i in range(9)))
FEATURES = {"language": WORDS, "audio": Feature(5), "video": Feature(4)}
VECTORS = {**FEATURES, "language": Feature(6)}
LENGTHS = {"language": [3, 1, 4, 2], "audio": [7, 2, 0, 5], "video": [2, 6, 3, 1], "m3": [1, 2, 3, 4]}
"""Unaligned, and row 2 has no audio."""
DIM = 6


def spec(features=FEATURES):
    return DataSpec(features, ("y",), (-3.0, 3.0), (0.25,), False)


def build(features=FEATURES, **options):
    torch.manual_seed(0)
    return MISA(**{"spec": spec(features), "dim": DIM, "feedforward": 9, **options}).eval()


def batch(features=FEATURES, rows=4) -> Batch:
    rng = torch.Generator().manual_seed(0)
    sequences = {}
    for m, feature in features.items():
        have = torch.tensor(LENGTHS[m])
        mask = torch.arange(int(have.max())) < have[:, None]
        if feature.tokens:
            values = torch.randint(2, feature.dim, mask.shape, generator=rng) * mask
        else:
            values = torch.randn(*mask.shape, feature.dim, generator=rng)
        sequences[m] = Sequence(values, mask)[:rows]
    return Batch(tuple("abcd"[:rows]), sequences, torch.zeros(rows, 1))
