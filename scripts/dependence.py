"""Does a dependency penalty raise the dependence of Z on rows that were never trained on? Paired over seeds.

    python scripts/dependence.py [model=lmf] [penalty=kl] [seeds=5] [any override of train.py …]

Trains ``penalty=none`` and the penalty with the same seeds on ``data=synthetic`` at its defaults (finished runs are reused), then
probes each chosen checkpoint on new segments of the same population: 16,000 to fit a critic, 3,000 to stop it, 6,000 to measure.
Writes ``outputs/dependence/…/dependence.csv`` and prints the paired differences with 95 % t intervals.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from scipy import stats

from mdm import probe, records
from mdm import run as runs

SIZES = {"train": 16000, "valid": 3000, "test": 6000}


def measure(overrides: list[str]) -> dict[str, float]:
    """Train (or find) one run and probe it."""
    with initialize_config_dir(str(Path(__file__).resolve().parents[1] / "configs"), version_base="1.3"):
        cfg = compose("train", overrides)
    record = runs.run(cfg, overrides)
    splits = runs.build_splits(cfg)
    backbone = runs.build_learner(cfg, splits).backbone
    folder = runs.record_folder(cfg, overrides)
    state = torch.load(folder / runs.BEST, weights_only=True)["state_dict"]
    backbone.load_state_dict({k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")})
    OmegaConf.set_struct(cfg, False)
    cfg.data.segments.update({**SIZES, "seed": 10_000 + cfg.data.segments.seed})
    new = splits.like(runs.make(cfg.data.segments))
    fit, stop, held_out = (probe.representations(backbone, new.in_order(fold), cfg.seed) for fold in SIZES)
    dependence = probe.held_out_dependence(fit, stop, held_out)
    return {"seed": cfg.seed, "dependence": dependence, "test_mae": record["test"]["mae"], "epoch": record["selected"]["epoch"]}


def main(arguments: list[str]) -> None:
    seeds = next((int(a.split("=")[1]) for a in arguments if a.startswith("seeds=")), 5)
    penalty = next((a.split("=")[1] for a in arguments if a.startswith("penalty=")), "kl")
    rest = [a for a in arguments if not a.startswith(("seeds=", "penalty="))]
    if not any(a.startswith("model=") for a in rest):
        rest.append("model=lmf")
    rows = []
    for seed in range(seeds):
        for name in ("none", penalty):
            mine = [a for a in rest if name != "none" or not a.startswith("penalty.")]
            row = {"penalty": name, **measure(["name=dependence", f"penalty={name}", f"seed={seed}", *mine])}
            rows.append(row)
            print(row, flush=True)
    folder = Path("outputs/dependence")
    folder.mkdir(parents=True, exist_ok=True)
    records.write_table(folder / f"{'_'.join(rest).replace('/', '.')}_{penalty}.csv", rows)
    for metric in ("dependence", "test_mae"):
        none, other = (np.array([r[metric] for r in rows if r["penalty"] == p]) for p in ("none", penalty))
        difference = other - none
        interval = stats.t.interval(0.95, seeds - 1, difference.mean(), stats.sem(difference))
        print(
            f"{metric}: none {none.mean():.4f}, {penalty} {other.mean():.4f}, difference {difference.mean():+.4f} "
            f"[{interval[0]:+.4f}, {interval[1]:+.4f}] (95 % t, {seeds} pairs)"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
