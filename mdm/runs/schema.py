"""The schema of a run's config: every key that a run reads, with its type and range.

What a member (``_target_``) takes is said by its constructor alone (`mdm.runs.members`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from mdm.data.batches import LastBatch, Order
from mdm.data.leaks import Groups
from mdm.data.views import Keep, Padding, Scale
from mdm.hints import Count, Positive, Range, Share, Size
from mdm.penalties.base import CriticBatches, Interleave
from mdm.runs.options import TrainerOptions
from mdm.training.groups import Decay
from mdm.training.schedules import Plateau


class Member:
    """Annotation of a key that names what is built: a mapping with a ``_target_``."""


@dataclass(frozen=True)
class DataGroup:
    name: str
    segments: Member
    text: str | None
    modalities: Sequence[str] | None
    folds: Member | None
    groups: Groups
    scale: Scale | Mapping[str, Scale]
    unlabeled: Count
    max_steps: Size | Mapping[str, Size | None] | None
    keep: Keep
    padding: Padding
    order: Order
    last_batch: LastBatch
    batch_size: Annotated[int, Range(2, advice="a batch of one has no statistics")]


Weight = Annotated[
    float,
    Range(
        0,
        strict=True,
        advice="use penalty=none for no penalty, or measure_only=true to report its estimate without adding it to the loss",
    ),
]


@dataclass(frozen=True)
class CriticGroup:
    """How a penalty's critic is trained."""

    steps: Size
    batches: CriticBatches
    interleave: Interleave
    gradient_clip: Positive | None
    optimizer: Member
    share: Share = 1.0


@dataclass(frozen=True)
class PenaltyGroup:
    name: str
    weight: Weight
    measure_only: bool
    objective: Member
    critic: CriticGroup | None


@dataclass(frozen=True)
class NoPenaltyGroup:
    """``penalty=none``; its weight is read by nobody, and there so that a grid may vary it."""

    name: str
    weight: float
    measure_only: bool
    objective: None


@dataclass(frozen=True)
class SumGroup:
    name: str
    sum: Mapping[str, PenaltyGroup | NoPenaltyGroup]


@dataclass(frozen=True)
class ModelGroup:
    name: str
    backbone: Member
    own_penalty: PenaltyGroup | None
    loss: Member
    optimizer: Member
    groups: Mapping[str, Mapping[str, Any]]
    decay: Decay
    schedule: Member | None
    by_length: bool
    context: bool = False
    plateau: Plateau | None = None
    select: str | None = None
    freeze: Sequence[str] = ()
    head_start: Literal["label_mean", "random"] = "label_mean"


@dataclass(frozen=True)
class BaselineGroup:
    """``model=baseline``."""

    name: str
    baseline: Member
    by_length: bool
    select: str | None = None


@dataclass(frozen=True)
class MachineGroup:
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"]
    devices: int | Sequence[Count]
    strategy: str
    threads: Size | None
    workers: Count
    progress: bool


@dataclass(frozen=True)
class LoggersGroup:
    loggers: Mapping[str, Member]


@dataclass(frozen=True)
class CallbacksGroup:
    callbacks: Mapping[str, Member]


@dataclass(frozen=True)
class PathsGroup:
    outputs: str
    data: str


@dataclass(frozen=True)
class Config:
    name: str
    seed: Count
    departs: Mapping[str, str]
    data: DataGroup
    model: ModelGroup | BaselineGroup
    penalty: PenaltyGroup | NoPenaltyGroup | SumGroup
    trainer: TrainerOptions
    machine: MachineGroup
    logger: LoggersGroup
    paths: PathsGroup
    callbacks: CallbacksGroup | None = None
