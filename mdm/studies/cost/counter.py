"""What a model costs in parameters and multiply–accumulates, without data or weights.

Counted by torch's own counter, with the fused kernels that it does not see switched off: LSTMs of MKL-DNN, the fast path of
transformer layers and fused attention would all count as nothing, silently.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mdm.backbones.base import Backbone
from mdm.runs.build import build_penalty
from mdm.runs.members import make
from mdm.types import Batch, DataSpec, Feature, Sequence


@dataclass(frozen=True)
class OperationCount:
    """parameters: of the backbone and of its own critic; macs: of a prediction for one segment; macs_training: with the
    forward pass of the model's own terms."""

    parameters: int
    critic: int
    macs: int
    macs_training: int


def count_cost(model: DictConfig, spec: DataSpec, batch: Batch) -> OperationCount:
    """The cost of a model's config on one segment.

    Embedding look-ups, activations and element-wise products count as nothing, as in every such table.
    """
    torch.manual_seed(0)
    backbone: Backbone = make(model.backbone, spec=spec)
    backbone.eval()
    critic = 0
    if model.own_penalty is not None:
        critic = sum(p.numel() for p in build_penalty(model.own_penalty, backbone).parameters())
    with torch.no_grad(), count_operations() as counter:
        encoded = backbone.encode(batch)
        fusion = backbone.fuse(encoded)
        predicted = counter.get_total_flops()
        backbone.own_terms(batch, encoded, fusion)
        trained = counter.get_total_flops()
    return OperationCount(sum(p.numel() for p in backbone.parameters()), critic, predicted // 2, trained // 2)


@contextmanager
def count_operations() -> Iterator[FlopCounterMode]:
    """Count every multiply–add inside, as two operations each."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            # The first of these flags sets another, which this machine may not have.
            warnings.filterwarnings("ignore", "TF32 acceleration")
            with (
                torch.backends.mkldnn.flags(enabled=False),
                sdpa_kernel(SDPBackend.MATH),
                FlopCounterMode(display=False) as counter,
            ):
                yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def draw_segment(shapes: Mapping[str, Mapping[str, Any]]) -> tuple[DataSpec, Batch]:
    """modality → {dim, steps, tokens}: data of these shapes, aligned if all have equally many steps, with one random segment."""
    rng = torch.Generator().manual_seed(0)
    features, sequences = {}, {}
    for m, shape in shapes.items():
        tokens = bool(shape.get("tokens", False))
        features[m] = Feature(shape["dim"], tokens)
        if tokens:
            values = torch.randint(2, shape["dim"], (1, shape["steps"]), generator=rng)
        else:
            values = torch.randn(1, shape["steps"], shape["dim"], generator=rng)
        sequences[m] = Sequence(values, torch.ones(1, shape["steps"], dtype=torch.bool))
    aligned = len({shape["steps"] for shape in shapes.values()}) == 1
    spec = DataSpec(features, ("sentiment",), (-3.0, 3.0), (0.0,), aligned, train_ids=("0",))
    return spec, Batch(("0",), sequences, torch.zeros(1, 1))
