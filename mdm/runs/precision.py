"""Precisions of training: what a device lacks, and the plugins for weights that are not of single precision.

Whatever a run is trained in, what is read of it afterwards (`mdm.runs.checkpoints.restore`) is in single precision.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from pytorch_lightning.plugins.precision import DoublePrecision, HalfPrecision, Precision
from torch import nn

DTYPES = {"64-true": torch.float64, "bf16-true": torch.bfloat16}
"""Of the weights, where it is another than single precision."""


class HalfWeights(HalfPrecision):
    """Lightning's, for the backbone alone: critics compute in single precision whatever Z comes in, as estimates exponentiate them.

    Batches are converted by the learner, since Lightning cannot convert frozen dataclasses.
    """

    def convert_module(self, module: nn.Module) -> nn.Module:
        convert_backbone(module, torch.bfloat16)
        return module

    def convert_input(self, data: Any) -> Any:
        return data


class DoubleWeights(DoublePrecision):
    """Lightning's, as `HalfWeights`."""

    def convert_module(self, module: nn.Module) -> nn.Module:
        convert_backbone(module, torch.float64)
        return module

    def convert_input(self, data: Any) -> Any:
        return data


def convert_backbone(learner: nn.Module, dtype: torch.dtype) -> None:
    """Give the weights of a learner's backbone another type."""
    learner.get_submodule("backbone").to(dtype)


def build_precision(precision: str) -> dict[str, Any]:
    """Arguments of Lightning's Trainer: ``precision``, or the plugin that does the same."""
    plugins: dict[str, Precision] = {}
    if precision == "bf16-true":
        plugins[precision] = HalfWeights("bf16-true")
    if precision == "64-true":
        plugins[precision] = DoubleWeights()
    return {"plugins": list(plugins.values()), "precision": None if plugins else precision}


def check_device(accelerator: str, precision: str) -> None:
    """Raise ValueError if a reserved GPU would stand idle, and if this processor or device lacks a precision."""
    reserved = [name for name in ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "SLURM_GPUS_ON_NODE") if os.environ.get(name)]
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    if reserved and accelerator != "mps" and not on_gpu:
        raise ValueError(
            f"A GPU that is reserved ({reserved[0]}={os.environ[reserved[0]]}) must be used, but machine.accelerator={accelerator} "
            f"and torch sees {torch.cuda.device_count()} GPUs; use machine=auto, or hydra.launcher.gpus_per_node=null."
        )
    # oneDNN would say so in the middle of the first batch of an LSTM.
    if precision in ("bf16-mixed", "bf16-true") and accelerator in ("auto", "cpu") and not on_gpu and not has_bf16_on_cpu():
        raise ValueError(
            f"trainer.precision={precision} needs a GPU or a processor with AVX-512, but here is neither; use 32-true."
        )
    on_mps = accelerator == "mps" or (accelerator in ("auto", "gpu") and not on_gpu and torch.backends.mps.is_available())
    if precision == "16-mixed" and not on_gpu and not on_mps:
        # Lightning would warn and train in bf16-mixed, and the record would name what was asked for.
        raise ValueError("trainer.precision=16-mixed needs a GPU, but here is none; use bf16-mixed or 32-true.")
    if precision == "64-true" and on_mps:
        raise ValueError("trainer.precision=64-true needs a processor or a CUDA GPU, but MPS has no doubles; use machine=cpu.")


def has_bf16_on_cpu() -> bool:
    """Whether this processor computes every layer in bfloat16."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
