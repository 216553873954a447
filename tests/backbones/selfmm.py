"""Self-MM of small widths, and batches for it."""

import torch

from mdm.backbones.selfmm import SelfMM
from mdm.types import DataSpec, Feature


def spec(features, ids, targets=("y",), label_range=(-3.0, 3.0)):
    return DataSpec(features, targets, label_range, (0.0,) * len(targets), True, tuple(ids))


def build(features, ids, targets=("y",), label_range=(-3.0, 3.0), **options):
    torch.manual_seed(0)
    return SelfMM(spec(features, ids, targets, label_range), **options)


FEATURES = {"language": Feature(4), "audio": Feature(3), "video": Feature(2)}
IDS = [f"s{i}" for i in range(12)]
