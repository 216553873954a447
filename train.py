"""One run, or with -m many: ``python train.py model=lmf penalty=kl seed=3``; ``--help`` lists the choices."""

import os
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig


@hydra.main(config_path="configs", config_name="train", version_base="1.3")
def main(cfg: DictConfig) -> float | None:
    hydra_config = HydraConfig.get()
    if hydra_config.mode == RunMode.MULTIRUN:
        from mdm import attempt

        attempt.requeue_on_termination()
        if "task" in cfg:
            attempt.work(cfg.task)
            return None
        return attempt.attempt(cfg, hydra_config.overrides.task)

    if "table" in cfg or "search" in cfg:
        print(
            f"{cfg.name} is many runs: python train.py -m experiment={cfg.name}; model=, penalty=, data=, seed= choose some.",
            file=sys.stderr,
        )
        sys.exit(2)

    from mdm.run import run  # torch and Lightning take seconds to import; --help must not wait for them

    try:
        return run(cfg, hydra_config.overrides.task)["valid"]["mae"]
    except ValueError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print(f"{error}\n(HYDRA_FULL_ERROR=1 shows where.)", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
