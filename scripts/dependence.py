"""Does a dependency penalty raise the dependence of Z on rows that were never trained on? Paired over seeds.

    python scripts/dependence.py [model=lmf] [data=synthetic] [penalty=kl] [critic_batches=fresh,shared,replay] [seeds=5] [jobs=1]
                                 [any override of train.py …]

Trains ``penalty=none`` and each penalty (several by commas) with each source of critic batches (default: that of its config) on
the same seeds; finished runs are reused. Then probes each chosen checkpoint on new segments of the same population: 16,000 to
fit a critic, 3,000 to stop it, 6,000 to measure. ``data`` must be synthetic or gaussian, whose populations can be drawn from again.
Writes ``outputs/dependence/….csv`` and prints the paired differences to ``none`` with 95 % t intervals.
"""

import sys
from pathlib import Path

import joblib
import pandas as pd
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from mdm import probe
from mdm.boundary import ended
from mdm.runs import records
from mdm.runs.build import build_learner, build_splits
from mdm.runs.config import check
from mdm.runs.members import make
from mdm.runs.naming import record_folder
from mdm.runs.progress import quiet
from mdm.runs.protocol import run
from mdm.runs.records import BEST
from mdm.statistics import mean_interval
from mdm.study import MOST_JOBS
from mdm.workers import pool

SIZES = {"train": 16000, "valid": 3000, "test": 6000}
DEFAULTS = {"model": "lmf", "data": "synthetic", "penalty": "kl", "critic_batches": "", "seeds": "5", "jobs": "1"}


def measure(arm: str, overrides: list[str]) -> dict[str, object]:
    """Train (or find) one run and probe it."""
    torch.set_num_threads(1)
    with initialize_config_dir(str(Path(__file__).resolve().parents[1] / "configs"), version_base="1.3"):
        cfg = compose("train", overrides)
    record = run(cfg, overrides)
    splits = build_splits(cfg)
    backbone = build_learner(cfg, splits).backbone
    folder = record_folder(cfg, overrides)
    state = torch.load(folder / BEST, weights_only=True)["state_dict"]
    backbone.load_state_dict({k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")})
    OmegaConf.set_struct(cfg, False)
    cfg.data.segments.update({**SIZES, "seed": 10_000 + cfg.data.segments.seed})
    new = splits.like(make(cfg.data.segments))
    fit, stop, held_out = (probe.representations(backbone, new.in_order(fold), cfg.seed) for fold in SIZES)
    row = {
        "arm": arm,
        "seed": cfg.seed,
        "dependence": probe.held_out_dependence(fit, stop, held_out),
        "valid_mae": record["valid"]["mae"],
        "test_mae": record["test"]["mae"],
        "epoch": record["selected"]["epoch"],
        "seconds": record["seconds"],
    }
    print(row, flush=True)
    return row


def check_arm(overrides: list[str]) -> Path:
    """Hold the runs of an arm to what they must be, before any starts; where outputs go.

    Raises ValueError where `mdm.runs.config.check` does, on a seed, on an experiment, and on data that cannot be drawn anew.
    """
    if any(override.split("=", 1)[0] in ("seed", "experiment", "name") for override in overrides[1:]):
        raise ValueError(f"Runs are named here and have seeds 0, 1, …, but {' '.join(overrides[1:])} came; use seeds=5, say.")
    with initialize_config_dir(str(Path(__file__).resolve().parents[1] / "configs"), version_base="1.3"):
        cfg = compose("train", overrides)
    check(cfg)
    if "baseline" in cfg.model or not {"train", "valid", "test", "seed"} <= set(cfg.data.segments):
        raise ValueError(
            f"A critic is trained on the Z of new segments, but model={cfg.model.name} has none or data={cfg.data.name} cannot be "
            "drawn anew; choose another model, and data=synthetic or gaussian."
        )
    return Path(cfg.paths.outputs)


def main(arguments: list[str]) -> None:
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return
    quiet()
    given = dict(a.split("=", 1) for a in arguments if a.split("=", 1)[0] in DEFAULTS)
    chosen = {**DEFAULTS, **given}
    rest = [a for a in arguments if a.split("=", 1)[0] not in DEFAULTS]
    of_penalties = [a for a in rest if a.startswith("penalty.")]
    common = ["name=dependence", f"model={chosen['model']}", f"data={chosen['data']}", *(a for a in rest if a not in of_penalties)]
    arms = {"none": [*common, "penalty=none"]}
    for penalty in chosen["penalty"].split(","):
        for source in chosen["critic_batches"].split(","):
            batches = [f"penalty.critic_batches={source}"] if source else []
            arms[f"{penalty} {source}".strip()] = [*common, f"penalty={penalty}", *batches, *of_penalties]
    numbers = {key: chosen[key] for key in ("seeds", "jobs")}
    if not all(n.isascii() and n.isdecimal() and 1 <= int(n[:6]) <= MOST_JOBS for n in numbers.values()):
        raise ValueError(f"seeds and jobs are whole numbers, 1 to {MOST_JOBS}, but {numbers} came; correct them.")
    if "none" in chosen["penalty"].split(","):
        raise ValueError("Penalties are compared with none, but penalty=none came among them; name others.")
    outputs = {check_arm(overrides) for overrides in arms.values()}.pop()
    seeds = range(int(chosen["seeds"]))
    jobs = [joblib.delayed(measure)(arm, [*overrides, f"seed={s}"]) for s in seeds for arm, overrides in arms.items()]
    rows = pool(int(chosen["jobs"]))(jobs)
    folder = outputs / "dependence"
    folder.mkdir(parents=True, exist_ok=True)
    name = "_".join([chosen["model"], chosen["data"], chosen["penalty"], *rest]).replace("/", ".")
    records.write_table(folder / f"{name}.csv", rows)
    frame = pd.DataFrame(rows)
    for metric in ("dependence", "valid_mae", "test_mae"):
        wide = frame.pivot(index="seed", columns="arm", values=metric)
        print(f"\n{metric}: none {wide['none'].mean():.4f}; paired differences to it, 95 % t interval, {len(wide)} seeds")
        for arm in list(arms)[1:]:
            difference = wide[arm] - wide["none"]
            low, high = mean_interval(difference.to_numpy())
            print(f"  {arm:20} {wide[arm].mean():.4f}  {difference.mean():+.4f} [{low:+.4f}, {high:+.4f}]")


if __name__ == "__main__":
    with ended():
        main(sys.argv[1:])
