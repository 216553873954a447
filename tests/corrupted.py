"""A small batch whose modalities are corrupted, and the config of a run of a second."""

from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

from mdm.types import Batch
from mdm.types import Sequence as Steps

ROOT = Path(__file__).resolve().parents[1]
SMALL = ["data.segments.train=48", "data.segments.valid=16", "data.segments.test=40", "trainer.max_epochs=1", "data.max_steps=6"]
KEPT_VIDEO = ("video",)


def compose_run(*overrides):
    """The composed config of a run of a second."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("train", [*SMALL, *overrides])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch_of(rows=5, time=4):
    """Words, frames and frames; row 1 has no audio, and the lengths differ."""
    rng = generator()
    lengths = {m: torch.arange(rows) % time + 1 for m in ("language", "audio", "video")}
    lengths["audio"] = lengths["audio"].clone()
    lengths["audio"][1] = 0
    sequences = {}
    for m, n in lengths.items():
        mask = torch.arange(time) < n[:, None]
        values = torch.randint(2, 30, (rows, time), generator=rng) if m == "language" else torch.randn(rows, time, 3, generator=rng)
        sequences[m] = Steps(values * mask if m == "language" else values * mask.unsqueeze(-1), mask)
    return Batch(tuple(f"s{i}" for i in range(rows)), sequences, torch.randn(rows, 1, generator=rng))
