"""Before a run: the schema of its config, checked once.

`check` holds a composed config to the dataclasses below, which are all that a run reads: an unknown key is refused, not trained
with. What a member (``_target_``) takes is said by its constructor alone (`mdm.runs.members`). No data are built, so a sweep checks
every run before it starts one.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mdm.data.batches import LastBatch, Order
from mdm.data.leaks import Groups
from mdm.data.views import Keep, Padding, Scale
from mdm.hints import Count, Positive, Range, Share, Size, format_value, is_plain, require, require_known
from mdm.penalties.base import CriticBatches, Interleave
from mdm.runs import claims
from mdm.runs.kinds import list_arguments
from mdm.runs.members import check_member
from mdm.runs.naming import list_penalties, name_penalty, record_folder
from mdm.runs.options import TrainerOptions, check_options
from mdm.runs.trials import check_group_options, try_loss, try_step
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


# ---- check


def check(cfg: DictConfig) -> None:
    """Hold a composed config to the schema; nothing is read, built of data or written.

    Raises ValueError, one line that names the key, what was expected, what came and what to do, on an unknown or missing key, a
    value of another type or out of range, a member of another kind or with arguments that it does not take, and a name that would
    lead out of its folder.
    """
    keys = [str(key) for key in cfg if key not in claims.DECLARED]
    try:
        values: dict[str, Any] = {key: resolve_node(cfg[key]) for key in keys}
    except (OmegaConfBaseException, RecursionError) as error:
        raise ValueError(f"Every value of a config must be known, but {' '.join(str(error).split())}; correct it.") from None
    if "sum" in cfg.get("penalty", {}):
        list_penalties(cfg)
    if isinstance(values.get("trainer"), Mapping):
        check_options(values["trainer"])
    check_group("", values, Config)
    check_parts(values)
    check_penalty(cfg)
    check_steps("model.", values["model"])
    check_steps("penalty.", values["penalty"])
    record_folder(cfg, ())


def to_plain(node: DictConfig, resolve: bool = True) -> dict[str, Any]:
    """A config node as plain dictionaries and lists."""
    container = OmegaConf.to_container(node, resolve=resolve)
    return {str(key): value for key, value in container.items()}  # type: ignore[union-attr]


def resolve_node(node: Any) -> Any:
    """A node as plain values.

    Raises OmegaConf's errors where a value is missing or refers to nothing.
    """
    return OmegaConf.to_container(node, resolve=True, throw_on_missing=True) if OmegaConf.is_config(node) else node


@cache
def read_hints(group: type) -> dict[str, Any]:
    """The annotations of a group."""
    return get_type_hints(group, include_extras=True)


def check_group(prefix: str, values: Mapping[str, Any], group: type) -> None:
    """The part of `check` that concerns one group and those in it; ``prefix``: its key and a dot."""
    known = read_hints(group)
    require_known(prefix, values, known, prefix.rstrip(".") or "A config")
    for field in fields(group):
        if field.name in values:
            check_value(f"{prefix}{field.name}", values[field.name], known[field.name])
        elif field.default is MISSING:
            raise ValueError(f"{prefix}{field.name} must be set, but is not there; add it, or choose its group anew.")


def check_value(key: str, value: Any, hint: Any) -> None:
    """The part of `check` that concerns one key."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    groups = [each for each in options if hasattr(each, "__dataclass_fields__")]
    mappings = [each for each in options if get_origin(each) is Mapping and not is_plain(each)]
    if value is None and type(None) in options:
        return
    if Member in options:
        check_member(key, value)
    elif groups:
        require(key, value, Mapping)
        check_group(f"{key}.", value, choose_group(value, groups))
    elif mappings:
        require(key, value, Mapping)
        for name, inner in value.items():
            check_value(f"{key}.{name}", inner, get_args(mappings[0])[1])
    else:
        require(key, value, hint)


def choose_group(values: Mapping[str, Any], groups: Sequence[type]) -> type:
    """Which of several groups a mapping is meant to be: the first one with a key that only it has, and a value there."""
    apart = {SumGroup: "sum", BaselineGroup: "baseline", NoPenaltyGroup: "objective"}
    for group in groups:
        if group in apart and apart[group] in values and (values[apart[group]] is None) == (group is NoPenaltyGroup):
            return group
    return groups[0]


def check_parts(values: Mapping[str, Any]) -> None:
    """The part of `check` that concerns keys which only fit together."""
    devices = values["machine"]["devices"]
    if devices != 1 and not (isinstance(devices, list) and len(devices) == 1):
        raise ValueError(
            f"A run trains on one device, got machine.devices={devices}: several would each see the same batches. Use "
            "machine.devices=1 and give each device runs of its own."
        )
    for key in ("outputs", "data"):
        if not values["paths"][key] or "\0" in values["paths"][key]:
            raise ValueError(f"paths.{key} must be a folder, but is {format_value(values['paths'][key])}; set paths.{key}.")


def check_penalty(cfg: DictConfig) -> None:
    """The part of `check` that concerns what penalties there are, and how their critics train."""
    chosen = list_penalties(cfg)
    if "baseline" in cfg.model and chosen:
        raise ValueError(
            f"A penalty acts on a fused representation, which model={cfg.model.name} lacks, got penalty={name_penalty(cfg)}; "
            "use penalty=none, or another model."
        )
    if cfg.trainer.get("gradient_clip_over") == "all" and cfg.trainer.precision == "16-mixed":
        raise ValueError(
            "Half precision scales the backbone's gradients and not its critics', so trainer.gradient_clip_over=all has no norm of "
            "both with trainer.precision=16-mixed; use bf16-mixed or 32-true."
        )
    for name, node in chosen.items():
        if node.critic is not None and node.critic.interleave == "epoch" and node.critic.batches != "fresh":
            raise ValueError(
                "A critic that trains before the backbone's epoch has no batch to share, so penalty.critic.interleave=epoch needs "
                f"penalty.critic.batches=fresh, but {name} has {node.critic.batches}; set it."
            )


def check_steps(prefix: str, values: Mapping[str, Any]) -> None:
    """The part of `check` that tries optimisers and losses on a few numbers: they are small, and say little of what they take."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        if not isinstance(value, Mapping):
            continue
        if name == "optimizer":
            try_step(key, value, {})
        elif name == "loss":
            try_loss(key, value)
        elif key == "model.groups":
            known = list_arguments(check_member("model.optimizer", dict(values["optimizer"]))[0])
            for module, options in value.items():
                check_group_options(f"{key}.{module}.", options, known)
                try_step(f"{key}.{module}", values["optimizer"], options)
        elif name in ("own_penalty", "sum", "critic") or prefix == "penalty.sum.":
            check_steps(f"{key}.", value)
