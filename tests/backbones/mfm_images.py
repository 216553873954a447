"""MFM for two small images, and batches of pairs."""

import torch

from mdm.backbones.mfm_images import MFMImages
from mdm.types import Batch, DataSpec, Feature, Sequence

IMAGES = {"svhn": [3, 9, 8], "mnist": [1, 12, 12]}
SMALL = {"images": IMAGES, "channels": [4, 6], "hidden": 7, "z_y": 5, "f_y": 4, "z_m": 3, "f_m": 6}
TARGETS = ("0", "1", "2")


def spec(**features):
    features = {m: Feature(n) for m, n in (features or {"svhn": 216, "mnist": 144}).items()}
    return DataSpec(features, TARGETS, (0.0, 1.0), (0.2, 0.3, 0.5), False)


def build(data=None, **options):
    torch.manual_seed(0)
    return MFMImages(data or spec(), **{**SMALL, **options}).eval()


def batch(rows=5, seed=0):
    rng = torch.Generator().manual_seed(seed)
    mask = torch.ones(rows, 1, dtype=torch.bool)
    sequences = {m: Sequence(torch.rand(rows, 1, n, generator=rng), mask) for m, n in (("svhn", 216), ("mnist", 144))}
    return Batch(tuple(map(str, range(rows))), sequences, torch.eye(3)[torch.arange(rows) % 3])


def terms_of(backbone, b):
    encoded = backbone.encode(b)
    return backbone.own_terms(b, encoded, backbone.fuse(encoded))
