"""One run, or with -m a grid: ``python train.py model=lmf penalty=kl seed=3``; ``--help`` lists the choices."""

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig


@hydra.main(config_path="configs", config_name="train", version_base="1.3")
def main(cfg: DictConfig) -> float:
    from mdm.run import run  # torch and Lightning take seconds to import; --help must not wait for them

    return run(cfg, HydraConfig.get().overrides.task)["valid"]["mae"]


if __name__ == "__main__":
    main()
