"""One run, or with -m many: ``python train.py model=lmf penalty=kl seed=3``; ``--help`` lists the choices."""

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from mdm.boundary import ended, hydra_silenced


@hydra.main(config_path="configs", config_name="train", version_base="1.3")
def main(cfg: DictConfig) -> float | None:
    hydra_config = HydraConfig.get()
    if hydra_config.mode == RunMode.MULTIRUN:
        from mdm.sweeps import attempt

        attempt.requeue_on_termination()
        if "task" in cfg:
            attempt.work(cfg.task)
            return None
        return attempt.attempt(cfg, hydra_config.overrides.task)

    with ended():  # here too: what leaves this function is announced by Hydra, in a line of its own
        if "table" in cfg or "search" in cfg:
            raise ValueError(
                f"{cfg.name} is many runs: python train.py -m experiment={cfg.name}; model=, penalty=, data=, seed= choose some."
            )

        from mdm.runs.protocol import run  # torch and Lightning take seconds to import; --help must not wait for them

        return run(cfg, hydra_config.overrides.task)["valid"][cfg.trainer.select]


if __name__ == "__main__":
    hydra_silenced()
    with ended():
        main()
