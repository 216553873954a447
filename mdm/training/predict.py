"""A backbone's predictions for batches."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mdm.backbones.base import Backbone
from mdm.types import Batch


@torch.no_grad()
def predict(backbone: Backbone, batches: Iterable[Batch]) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and labels of all batches, [n, targets] each; the backbone in evaluation mode, on its own device."""
    device = next(backbone.parameters()).device
    backbone.eval()
    pairs = [(backbone(batch.to(device)).prediction, batch.label) for batch in batches]
    return to_numpy(torch.cat([p for p, _ in pairs])), to_numpy(torch.cat([y for _, y in pairs]))


def to_numpy(tensor: Tensor) -> Float[np.ndarray, "*shape"]:
    return tensor.detach().float().cpu().numpy()
