"""One rank of a group that trains models a few steps without dropout, for `test_devices`: what each has become goes into a file.

python tests/ranks.py RANK WORLD PORT FILE STEPS MODEL,PENALTY …
"""

import os
import sys
from datetime import timedelta
from pathlib import Path

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from hydra import compose, initialize_config_dir
from torch import nn

from mdm.runs.build import build_learner, build_splits
from mdm.runs.remarks import silence_remarks
from mdm.training.ranks import Ranks, normalize_over

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
OPTIONS = {
    "sal_cnn": ["model.backbone.noise=0"],  # which a rank draws for its own rows
    "iccn": ["model.own_penalty=null"],  # canonical correlations of 17 rows: they make 1e-3 of what rounding leaves
    "lmr_cbt_official": ["model.backbone.lstm=official"],  # words go from row to row
}
"""Case → what is set."""
RATES = {"bbfn": 0.001}
"""Model → learning rate, where plain steps of 0.01 diverge."""
SMALL = ("data.segments.train=34", "data.segments.valid=9", "data.segments.test=8", "data.batch_size=17")


def train(model: str, penalty: str, steps: int, world: int) -> dict[str, torch.Tensor]:
    """What the learner's parameters and buffers are after two epochs of half the steps, and its curve."""
    data = "synthetic_digits" if "images" in model else "synthetic"
    critic = [] if penalty == "none" else ["penalty.critic.steps=2"]
    options = OPTIONS.get(model, [])
    model = model.removesuffix("_official")
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", [f"model={model}", f"penalty={penalty}", f"data={data}", *SMALL, *critic, *options])
    # A step of Adam has the size of its rate even where the gradient is what rounding left of 0.
    cfg.model.optimizer = {"_target_": "torch.optim.SGD", "lr": RATES.get(model, 0.01)}
    if cfg.penalty.get("critic"):
        cfg.penalty.critic.optimizer = cfg.model.optimizer
    splits = build_splits(cfg)
    learner = build_learner(cfg, splits)
    for module in learner.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.LSTM | nn.MultiheadAttention):
            module.dropout = 0.0
    if world > 1:
        learner.passes.ranks = ranks = Ranks(cfg.seed)
        normalize_over(ranks, learner.backbone)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=steps // 2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(learner, splits.train(), splits.valid())
    rows = torch.tensor([[v for k, v in row.items() if k != "seconds"] for row in learner.curve], dtype=torch.float64)
    return {"curve": rows, **learner.state_dict()}


def main(rank: int, world: int, port: int, file: str, steps: int, cases: list[str]) -> None:
    silence_remarks()
    torch.set_num_threads(1)
    if world > 1:
        address = f"tcp://127.0.0.1:{port}"
        dist.init_process_group("gloo", address, timeout=timedelta(minutes=5), world_size=world, rank=rank)
    torch.save({case: train(*case.split(","), steps, world) for case in cases}, file)
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    main(*map(int, sys.argv[1:4]), sys.argv[4], int(sys.argv[5]), sys.argv[6:])
