"""A small MFM, untrained, as if it were a finished run."""

from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

from mdm.runs.build import build_learner, build_splits
from mdm.runs.trained import Trained

ROOT = Path(__file__).resolve().parents[1]
SMALL = ["data.segments.train=64", "data.segments.valid=16", "data.segments.test=40", "trainer.max_epochs=1", "seed=0"]
WIDTHS = ["model.backbone.f_y=4", "model.backbone.f_m=3", "model.backbone.hidden=8", "model.backbone.z_m=5"]


def build_untrained(folder):
    """An untrained MFM as if it were a finished run."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("train", ["model=mfm", *SMALL, *WIDTHS])
    splits = build_splits(cfg)
    torch.manual_seed(0)
    learner = build_learner(cfg, splits).eval()
    return Trained(folder, cfg, {"seed": 0}, splits, learner)
