"""MIRD of small widths, and batches for it."""

import torch

from mdm.backbones.mird import MIRD
from mdm.types import Batch, DataSpec, Feature, Sequence

WORDS = Feature(9, tokens=True, vocabulary=tuple(f"w{i}" for i in range(9)))
FEATURES = {"language": WORDS, "audio": Feature(5), "video": Feature(4)}
LENGTHS = {"language": [3, 1, 4], "audio": [7, 2, 0], "video": [2, 6, 3]}
"""Unaligned, and the last row has no audio."""
DIM = 6


def spec(**features):
    return DataSpec(features or FEATURES, ("y",), (-3.0, 3.0), (0.25,), False)


def build(**options):
    torch.manual_seed(0)
    return MIRD(**{"spec": spec(), "dim": DIM, "embedding_dim": 7, **options}).eval()


def batch(label=0.0):
    rng = torch.Generator().manual_seed(0)
    sequences = {}
    for m, feature in FEATURES.items():
        have = torch.tensor(LENGTHS[m])
        mask = torch.arange(int(have.max())) < have[:, None]
        size = (len(have), int(have.max()))
        if feature.tokens:
            values = torch.randint(2, feature.dim, size, generator=rng) * mask
        else:
            values = torch.randn(*size, feature.dim, generator=rng)
        sequences[m] = Sequence(values, mask)
    return Batch(("a", "b", "c"), sequences, torch.full((3, 1), label))


def losses(backbone, b):
    encoded = backbone.encode(b)
    return backbone.own_terms(b, encoded, backbone.fuse(encoded))
