"""What every estimator asks of its arguments."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def raise_precision(*tensors: Tensor) -> list[Tensor]:
    """In single precision, or in double where they are."""
    return [t.to(torch.promote_types(t.dtype, torch.float32)) for t in tensors]


def check_scales(scales: Sequence[float]) -> None:
    if not len(scales) or not all(s > 0 for s in scales):
        raise ValueError(f"A kernel's scales are positive numbers, at least one, got {list(scales)}; set the kernel's scale.")


def require_matrices(**named: Tensor) -> list[Tensor]:
    for name, value in named.items():
        if value.ndim != 2 or not value.numel():
            raise ValueError(
                f"An estimator takes rows of numbers, [n, d] with n and d at least 1, but {name} has shape {list(value.shape)}; "
                "give one row for each sample."
            )
    return raise_precision(*named.values())


def require_alike(**named: Tensor) -> list[Tensor]:
    tensors = require_matrices(**named)
    if len({t.shape for t in tensors}) > 1:
        raise ValueError(
            "A conditional density needs a mean and a variance for every number of y, but the shapes are "
            f"{', '.join(f'{name} {list(t.shape)}' for name, t in named.items())}; predict one of each for every column of y."
        )
    return tensors


def require_critic_values(joint: Tensor, product: Tensor) -> list[Tensor]:
    for name, values in (("joint", joint), ("product", product)):
        if values.ndim != 1 or len(values) == 0:
            raise ValueError(
                f"An estimator takes one critic value per sample, a non-empty vector, but {name} has shape {list(values.shape)}; "
                "squeeze the critic's last axis."
            )
    return raise_precision(joint, product)
