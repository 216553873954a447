"""Config → Lightning's Trainer, on a device that can do what is asked."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback, RichProgressBar
from pytorch_lightning.plugins.environments import LightningEnvironment

from mdm.ownership import Owner
from mdm.runs.checkpoints import AtomicCheckpointIO, Checkpoints
from mdm.runs.loggers import Logger
from mdm.runs.progress import Progress
from mdm.runs.selection import check_select
from mdm.types import DataSpec


def build_trainer(cfg: DictConfig, owner: Owner, spec: DataSpec, loggers: Sequence[Logger] = ()) -> pl.Trainer:
    """Lightning's Trainer: it stops and keeps checkpoints by validation, and writes into the run's folder."""
    machine, options = cfg.machine, cfg.trainer
    check_select(options.select, spec)
    check_device(machine.accelerator, options.precision)
    if machine.threads:
        torch.set_num_threads(machine.threads)
    callbacks: list[Callback] = [Progress(owner.folder, options, loggers), Termination(), Checkpoints(owner, options)]
    if sys.stderr.isatty() and machine.progress:
        callbacks.append(RichProgressBar(leave=False))
    try:
        return pl.Trainer(
            accelerator=machine.accelerator,
            devices=machine.devices if isinstance(machine.devices, int) else list(machine.devices),
            strategy=machine.strategy,
            precision=options.precision,
            max_epochs=options.max_epochs,
            callbacks=callbacks,
            logger=False,  # rows of the curve go to ours, whole; Lightning's would get them as 32-bit floats
            # One process, whatever variables of a scheduler are set: a run never spans tasks, and is requeued by mdm.sweeps.sweep.
            plugins=[AtomicCheckpointIO(), LightningEnvironment()],
            default_root_dir=owner.folder,
            enable_model_summary=False,
            enable_progress_bar=sys.stderr.isatty() and machine.progress,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            log_every_n_steps=1,
        )
    except Exception as error:  # Lightning's own, which name none of our keys: no such device, no such strategy, …
        said = " ".join(str(error).split())[:400]
        raise ValueError(
            f"machine.* and trainer.precision must suit this machine, but Lightning says of {machine.accelerator}, "
            f"{machine.devices}, {machine.strategy} and {options.precision}: {said}; choose others."
        ) from error


class Termination(Callback):
    """Keep the answer to SIGTERM that was there before Lightning's, which ends training as if it were done."""

    def __init__(self) -> None:
        self.before = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.before)


def check_device(accelerator: str, precision: str) -> None:
    """Raise ValueError if a reserved GPU would stand idle, and if this processor lacks a precision."""
    reserved = [name for name in ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "SLURM_GPUS_ON_NODE") if os.environ.get(name)]
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    if reserved and accelerator != "mps" and not on_gpu:
        raise ValueError(
            f"A GPU that is reserved ({reserved[0]}={os.environ[reserved[0]]}) must be used, but machine.accelerator={accelerator} "
            f"and torch sees {torch.cuda.device_count()} GPUs; use machine=auto, or hydra.launcher.gpus_per_node=null."
        )
    # oneDNN would say so in the middle of the first batch of an LSTM.
    if precision == "bf16-mixed" and accelerator in ("auto", "cpu") and not on_gpu and not bf16_on_cpu():
        raise ValueError("trainer.precision=bf16-mixed needs a GPU or a processor with AVX-512, but here is neither; use 32-true.")


def bf16_on_cpu() -> bool:
    """Whether this processor computes every layer in bfloat16."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
