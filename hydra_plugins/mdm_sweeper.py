"""Hydra's end of `mdm.sweeps.sweep`: Hydra takes sweepers only from modules of this name."""

from __future__ import annotations

from typing import Any

from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict


class Missing(Sweeper):
    """Launches the runs of an experiment or a grid that have no record yet."""

    def __init__(self, runs_per_task: int, at_once: int, dry_run: bool):
        self.runs_per_task, self.at_once, self.dry_run = runs_per_task, at_once, dry_run

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from hydra.core.plugins import Plugins

        self.composed_once, self.context = config, hydra_context
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        # What the joblib launcher passes on to joblib, whose schema has no place for this. Known by its attribute: Hydra loads the
        # modules of plugins anew, so the class that it uses need not be the one that can be imported.
        self.parallel = 1
        if hasattr(self.launcher, "joblib"):
            from mdm.workers import count_workers, die_with_parent

            # -1, its default, is one for each core, on a GPU as well.
            if self.launcher.joblib["n_jobs"] == -1:
                self.launcher.joblib["n_jobs"] = count_workers(config.machine.accelerator)
            self.launcher.joblib["initializer"] = die_with_parent
            self.parallel = self.launcher.joblib["n_jobs"]
        elif "array_parallelism" in config.hydra.launcher:
            self.parallel = config.hydra.launcher.array_parallelism
            from mdm.sweeps.queue import has_accounting, watch_queue

            if not has_accounting():
                watch_queue()

    def sweep(self, arguments: list[str]) -> Any:
        from mdm.compose import read_search_path
        from mdm.sweeps.sweep import sweep

        def compose(overrides: list[str]) -> DictConfig:
            cfg = self.context.config_loader.load_sweep_config(self.composed_once, overrides)
            with open_dict(cfg):
                del cfg["hydra"]
            return cfg

        def launch(jobs: list[list[str]]) -> Any:
            return self.launcher.launch(jobs, initial_job_idx=0)

        path = read_search_path(self.composed_once)
        return sweep(
            self.composed_once,
            arguments,
            compose,
            launch,
            self.runs_per_task,
            self.at_once,
            path,
            self.dry_run,
            self.parallel,
        )
