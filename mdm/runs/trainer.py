"""Config → Lightning's Trainer, on a device that can do what is asked."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback, RichProgressBar
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.profilers import AdvancedProfiler, Profiler, PyTorchProfiler, SimpleProfiler

from mdm.ownership import Owner
from mdm.runs.build import build_callbacks
from mdm.runs.checkpoints import AtomicCheckpointIO, Checkpoints
from mdm.runs.devices import pick_device
from mdm.runs.loggers import Logger
from mdm.runs.options import TrainerOptions, read_options
from mdm.runs.precision import build_precision, check_device
from mdm.runs.progress import Progress
from mdm.runs.selection import check_select, has_ended
from mdm.training.learner import Learner
from mdm.types import DataSpec


def build_trainer(cfg: DictConfig, owner: Owner, spec: DataSpec, loggers: Sequence[Logger] = ()) -> pl.Trainer:
    """Lightning's Trainer: it stops and keeps checkpoints by validation, and writes into the run's folder.

    Raises ValueError where `check_select` and `check_device` do, and on what Lightning refuses.
    """
    options, bar = read_options(cfg.trainer), sys.stderr.isatty() and cfg.machine.progress
    check_select(options.select, spec)
    check_device(cfg.machine.accelerator, options.precision)
    chosen = build_callbacks(cfg)
    callbacks: list[Callback] = [*chosen, Progress(owner.folder, options, loggers), Termination(), Checkpoints(owner, options)]
    if bar:
        callbacks.append(RichProgressBar(leave=False))
    return make_trainer(
        cfg,
        callbacks=callbacks,
        profiler=build_profiler(options.profiler, owner.folder),
        # Rows of the curve go to our loggers: Lightning's would get them as 32-bit floats. Callbacks have a file of theirs.
        logger=CSVLogger(owner.folder, name="callbacks") if chosen else False,
        default_root_dir=owner.folder,
        enable_progress_bar=bar,
    )


def build_follower(cfg: DictConfig, folder: Path, rank: int) -> pl.Trainer:
    """The Trainer of another rank of a run, which keeps and shows nothing."""
    return make_trainer(
        cfg,
        rank,
        callbacks=[Ending(read_options(cfg.trainer))],
        logger=False,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_checkpointing=False,
    )


def make_trainer(cfg: DictConfig, rank: int = 0, **others: Any) -> pl.Trainer:
    """Lightning's Trainer with what is the same on every rank of a run."""
    machine, options = cfg.machine, read_options(cfg.trainer)
    if machine.threads:
        torch.set_num_threads(machine.threads)
    precision = build_precision(options.precision)
    try:
        return pl.Trainer(
            accelerator=machine.accelerator,
            devices=pick_device(machine, rank),
            strategy=machine.strategy,
            precision=precision["precision"],
            max_epochs=options.epochs,
            limit_train_batches=options.train_limit,
            limit_val_batches=options.valid_limit,
            detect_anomaly=options.detect_anomaly,
            deterministic=options.deterministic,
            benchmark=options.benchmark,
            # One process, whatever variables of a scheduler are set: a run never spans tasks, and is requeued by mdm.sweeps.sweep.
            # Where it has several devices, each has a Trainer of its own (mdm.runs.devices).
            plugins=[AtomicCheckpointIO(), LightningEnvironment(), *precision["plugins"]],
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            log_every_n_steps=1,
            **others,
        )
    except Exception as error:  # Lightning's own, which name none of our keys: no such device, no such strategy, …
        said = " ".join(str(error).split())[:400]
        raise ValueError(
            f"machine.*, trainer.* and callbacks must suit this machine, but Lightning says of {machine.accelerator}, "
            f"{machine.devices}, {machine.strategy} and {options.precision}: {said}; choose others."
        ) from error


def build_profiler(name: str | None, folder: Path) -> Profiler | None:
    """Lightning's profiler of a name, whose report goes into the run's folder."""
    kinds: dict[str, type[Profiler]] = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}
    return None if name is None else kinds[name](dirpath=folder / "profile", filename=name)


class Ending(Callback):
    """Stop where rank 0 does, which has the same curve."""

    def __init__(self, options: TrainerOptions):
        self.options = options

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        trainer.should_stop = has_ended(pl_module.curve, self.options)


class Termination(Callback):
    """Keep the answer to SIGTERM that was there before Lightning's, which ends training as if it were done."""

    def __init__(self) -> None:
        self.before = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.before)
