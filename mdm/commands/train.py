"""Train one run, or with -m what is missing of a grid or an experiment.

    mdm train model=lmf penalty=kl seed=3
    mdm train -m experiment=mdm/table1
    mdm train -m experiment=mdm/table1 --dry-run        # its runs, what is done, and how long the rest takes; starts nothing

Hydra's command line: --help lists the choices, --config-dir DIR and hydra.searchpath=[DIR] add folders of configs.
"""

import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from mdm.boundary import exit_on_error, silence_hydra
from mdm.compose import add_judged, find_configs, take_search_path


def main(arguments: list[str]) -> None:
    take_search_path(arguments)  # of a folder that is not there Hydra only warns
    silence_hydra()
    sys.argv = [sys.argv[0], *add_judged(take_dry_run(arguments))]  # which Hydra reads
    train()


def take_dry_run(arguments: list[str]) -> list[str]:
    """A command line with the sweeper's key in the place of ``--dry-run``.

    Raises ValueError if it is no sweep.
    """
    if "--dry-run" not in arguments:
        return arguments
    if not {"-m", "--multirun"} & set(arguments):
        raise ValueError("--dry-run lists the runs of a sweep, but there is no -m; add it.")
    return [*(argument for argument in arguments if argument != "--dry-run"), "hydra.sweeper.dry_run=true"]


@hydra.main(config_path=str(find_configs()), config_name="train", version_base="1.3")
def train(cfg: DictConfig) -> float | None:
    """A run that Hydra has composed, or one of many, or the runs of a task; the validation metric that chose its checkpoint."""
    hydra_config = HydraConfig.get()
    if hydra_config.mode == RunMode.MULTIRUN:
        from mdm.sweeps import attempt

        attempt.requeue_on_termination()
        if "task" in cfg:
            attempt.run_task(cfg.task)
            return None
        return attempt.attempt(cfg, hydra_config.overrides.task)

    with exit_on_error():  # here too: what leaves this function is announced by Hydra, in a line of its own
        from mdm.sweeps.experiment import has_table  # torch and Lightning take seconds to import; --help must not wait for them

        if has_table(cfg) or "search" in cfg:
            raise ValueError(
                f"{cfg.name} is many runs: mdm train -m experiment={cfg.name}; model=, penalty=, data=, seed= choose some."
            )

        from mdm.runs.protocol import run

        return run(cfg, hydra_config.overrides.task)["valid"][cfg.trainer.select]
