"""One run, or with -m a grid: ``python train.py model=lmf penalty=kl seed=3``; ``--help`` lists the choices."""

import os
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig


@hydra.main(config_path="configs", config_name="train", version_base="1.3")
def main(cfg: DictConfig) -> float:
    from mdm.run import run  # torch and Lightning take seconds to import; --help must not wait for them

    hydra_config = HydraConfig.get()
    try:
        return run(cfg, hydra_config.overrides.task)["valid"]["mae"]
    except ValueError as error:
        # Wrong input is told in a sentence; in a grid, Hydra reports it and goes on.
        if hydra_config.mode == RunMode.MULTIRUN or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print(f"{error}\n(HYDRA_FULL_ERROR=1 shows where.)", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
