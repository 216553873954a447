"""Before a run: the schema of its config, checked once, and the folder that it names.

`check` holds a composed config to the dataclasses below, which are all that a run reads: an unknown key is refused, not trained
with. What a member (``_target_``) takes is said by its constructor alone (`mdm.members`). No data are built, so a sweep checks
every run before it starts one.
"""

from __future__ import annotations

import hashlib
import math
import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints
from urllib.parse import quote

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from mdm import records
from mdm.hints import Count, Positive, Range, Size, is_plain, require, require_known, shown
from mdm.members import Argument, arguments_of, checked_member
from mdm.untrusted import read_yaml

BESIDE = (*records.DECLARED, "cost", "estimate")
"""Sections that an experiment may have beside its runs' own keys."""


class Member:
    """Annotation of a key that names what is built: a mapping with a ``_target_``."""


@dataclass(frozen=True)
class Data:
    name: str
    segments: Member
    text: str | None
    modalities: Sequence[str] | None
    folds: Member | None
    scale: Literal["standard", "maxabs", "none"]
    unlabeled: Count
    max_steps: Size | None
    batch_size: Annotated[int, Range(2, advice="a batch of one has no statistics")]


@dataclass(frozen=True)
class Choice:
    """What a model says of how its checkpoint is chosen; `Select` reads it."""

    metric: str = "mae"
    mode: Literal["min", "max"] = "min"


Weight = Annotated[
    float,
    Range(
        0,
        strict=True,
        advice="use penalty=none for no penalty, or measure_only=true to report its estimate without adding it to the loss",
    ),
]


@dataclass(frozen=True)
class Objective:
    name: str
    weight: Weight
    measure_only: bool
    critic_steps: Size
    critic_batches: Literal["fresh", "shared", "replay"]
    interleave: Literal["batch", "epoch"]
    objective: Member
    optimizer: Member | None


@dataclass(frozen=True)
class NoObjective:
    """``penalty=none``; its weight is read by nobody, and there so that a grid may vary it."""

    name: str
    weight: float
    measure_only: bool
    objective: None


@dataclass(frozen=True)
class Sum:
    name: str
    sum: Mapping[str, Objective | NoObjective]


@dataclass(frozen=True)
class Model:
    name: str
    backbone: Member
    own_penalty: Objective | None
    loss: Member
    optimizer: Member
    groups: Mapping[str, Mapping[str, Any]]
    decay: Literal["all", "matrices"]
    schedule: Member | None
    by_length: bool
    select: Choice = Choice()


@dataclass(frozen=True)
class Floor:
    """``model=baseline``."""

    name: str
    baseline: Member
    by_length: bool
    select: Choice = Choice()


@dataclass(frozen=True)
class Select:
    metric: str
    mode: Literal["min", "max"]


@dataclass(frozen=True)
class Trainer:
    max_epochs: Size
    patience: Annotated[int, Range(1, advice="patience=null never stops early")] | None
    precision: Literal["32-true", "16-mixed", "bf16-mixed"]
    gradient_clip: Positive | None
    select: Select


@dataclass(frozen=True)
class Machine:
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"]
    devices: int | Sequence[Count]
    strategy: str
    threads: Size | None
    workers: Count
    progress: bool


@dataclass(frozen=True)
class Loggers:
    loggers: Mapping[str, Member]


@dataclass(frozen=True)
class Paths:
    outputs: str
    data: str


@dataclass(frozen=True)
class Config:
    name: str
    seed: Count
    data: Data
    model: Model | Floor
    penalty: Objective | NoObjective | Sum
    trainer: Trainer
    machine: Machine
    logger: Loggers
    paths: Paths


# ---- check


def check(cfg: DictConfig) -> None:
    """Hold a composed config to the schema; nothing is read, built of data or written.

    Raises ValueError, one line that names the key, what was expected, what came and what to do, on an unknown or missing key, a
    value of another type or out of range, a member of another kind or with arguments that it does not take, and a name that would
    lead out of its folder.
    """
    keys = [str(key) for key in cfg if key not in BESIDE]
    try:
        values: dict[str, Any] = {key: resolved(cfg[key]) for key in keys}
    except (OmegaConfBaseException, RecursionError) as error:
        raise ValueError(f"Every value of a config must be known, but {' '.join(str(error).split())}; correct it.") from None
    if "sum" in cfg.get("penalty", {}):
        penalties(cfg)
    check_group("", values, Config)
    check_parts(values)
    check_penalty(cfg)
    check_steps("model.", values["model"])
    check_steps("penalty.", values["penalty"])
    folder_of(cfg, ())


def plain(node: DictConfig, resolve: bool = True) -> dict[str, Any]:
    """A config node as plain dictionaries and lists."""
    container = OmegaConf.to_container(node, resolve=resolve)
    return {str(key): value for key, value in container.items()}  # type: ignore[union-attr]


def resolved(node: Any) -> Any:
    """A node as plain values.

    Raises OmegaConf's errors where a value is missing or refers to nothing.
    """
    return OmegaConf.to_container(node, resolve=True, throw_on_missing=True) if OmegaConf.is_config(node) else node


@cache
def hints(group: type) -> dict[str, Any]:
    """The annotations of a group."""
    return get_type_hints(group, include_extras=True)


def check_group(prefix: str, values: Mapping[str, Any], group: type) -> None:
    """The part of `check` that concerns one group and those in it; ``prefix``: its key and a dot."""
    known = hints(group)
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
    if value is None and type(None) in options:
        return
    if Member in options:
        checked_member(key, value)
    elif groups:
        require(key, value, Mapping)
        check_group(f"{key}.", value, chosen_group(value, groups))
    elif get_origin(hint) is Mapping and not is_plain(hint):
        require(key, value, Mapping)
        for name, inner in value.items():
            check_value(f"{key}.{name}", inner, get_args(hint)[1])
    else:
        require(key, value, hint)


def chosen_group(values: Mapping[str, Any], groups: Sequence[type]) -> type:
    """Which of several groups a mapping is meant to be: the first one with a key that only it has, and a value there."""
    apart = {Sum: "sum", Floor: "baseline", NoObjective: "objective"}
    for group in groups:
        if group in apart and apart[group] in values and (values[apart[group]] is None) == (group is NoObjective):
            return group
    return groups[0]


def check_parts(values: Mapping[str, Any]) -> None:
    """The part of `check` that concerns keys which only fit together."""
    devices = values["machine"]["devices"]
    if devices != 1 and not (isinstance(devices, list) and len(devices) == 1):
        raise ValueError(
            f"A run trains on one device, but machine.devices={devices} came: several would each see the same batches. Use "
            "machine.devices=1 and give each device runs of its own."
        )
    for key in ("outputs", "data"):
        if not values["paths"][key] or "\0" in values["paths"][key]:
            raise ValueError(f"paths.{key} must be a folder, but is {shown(values['paths'][key])}; set paths.{key}.")


def check_penalty(cfg: DictConfig) -> None:
    """The part of `check` that concerns what penalties there are, and how their critics train."""
    chosen = penalties(cfg)
    if "baseline" in cfg.model and chosen:
        raise ValueError(
            f"A penalty acts on a fused representation, and model={cfg.model.name} has none, but penalty={penalty_name(cfg)} came; "
            "use penalty=none, or another model."
        )
    for name, node in chosen.items():
        if node.interleave == "epoch" and node.critic_batches != "fresh":
            raise ValueError(
                "A critic that trains before the backbone's epoch has no batch to share, so interleave=epoch needs "
                f"critic_batches=fresh, but {name} has {node.critic_batches}; set penalty.critic_batches=fresh."
            )


def check_steps(prefix: str, values: Mapping[str, Any]) -> None:
    """The part of `check` that tries optimisers and losses on a few numbers: they are small, and say little of what they take."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        if not isinstance(value, Mapping):
            continue
        if name == "optimizer":
            attempt_step(key, value, {})
        elif name == "loss":
            attempt_loss(key, value)
        elif key == "model.groups":
            known = arguments_of(checked_member("model.optimizer", dict(values["optimizer"]))[0])
            for module, options in value.items():
                check_options(f"{key}.{module}.", options, known)
                attempt_step(f"{key}.{module}", values["optimizer"], options)
        elif name in ("own_penalty", "sum") or prefix == "penalty.sum.":
            check_steps(f"{key}.", value)


def check_options(prefix: str, options: Mapping[str, Any], known: Mapping[str, Argument]) -> None:
    """Raise ValueError unless the options of a parameter group are arguments of the optimiser."""
    require_known(prefix, options, [name for name in known if name != "params"], "The optimiser's group")
    for name, option in options.items():
        require(f"{prefix}{name}", option, known[name].hint)


def attempt_step(key: str, values: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Raise ValueError, naming the key, unless an optimiser takes a step on a matrix and a vector."""
    optimizer, arguments = checked_member("optimizer", dict(values))
    parameters = [nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    attempt(key, {**values, **options}, lambda: optimizer(**{**arguments, **options}, params=parameters).step())


def attempt_loss(key: str, values: Mapping[str, Any]) -> None:
    """Raise ValueError, naming the key, unless a loss makes one finite number of predictions and labels in [0, 1]."""
    loss, arguments = checked_member("loss", dict(values))
    prediction, label = torch.tensor([[0.25], [0.5]]), torch.tensor([[0.0], [1.0]])

    def measured() -> None:
        found = loss(**arguments)(prediction, label)
        if found.shape != () or not bool(found.isfinite()):
            raise ValueError(f"it gives {shown(found.tolist())} for a batch and no finite number")

    attempt(key, values, measured)


def attempt(key: str, values: Mapping[str, Any], work: Any) -> None:
    """Do a piece of work; whatever torch raises becomes one ValueError with the key."""
    try:
        work()
    except Exception as error:  # torch says no in many ways: ValueError, RuntimeError, AssertionError, TypeError
        said = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{key} must be what {values['_target_']} can work with, but {shown(dict(values))} came "
            f"({type(error).__name__}: {said}); correct {key}."
        ) from error


# ---- penalties


def penalties(cfg: DictConfig) -> dict[str, DictConfig]:
    """The penalties that were chosen, by name: none, one, or those of ``penalty=sum``, in the order of their names.

    Raises ValueError if a sum has no members, one that is called ``own``, as the model's is, or one that is no penalty, and if
    members were added to what is no sum.
    """
    if "sum" not in cfg.penalty:
        return {} if cfg.penalty.get("objective") is None else {cfg.penalty.name: cfg.penalty}
    members = {str(name): cfg.penalty.sum[name] for name in sorted(cfg.penalty.sum or {})}
    if cfg.penalty.get("name") != "sum":
        raise ValueError(
            f"Only penalty=sum has members, but penalty={cfg.penalty.get('name')} came with {', '.join(members)}; use penalty=sum "
            f"and add +penalty@penalty.sum.{cfg.penalty.name}={cfg.penalty.name} to them."
        )
    whole = all(isinstance(node, DictConfig) and "objective" in node for node in members.values())
    chosen = {name: node for name, node in members.items() if not whole or node.objective is not None}
    if not whole or not chosen or "own" in chosen:
        raise ValueError(
            "penalty=sum adds up penalties under names of their own, none of them own, which is the model's, but has "
            f"{', '.join(chosen) or 'none'}; add each whole, as +penalty@penalty.sum.kl=kl, or use penalty=none."
        )
    return chosen


def penalty_name(cfg: DictConfig) -> str:
    """What a record is filed under: the penalty's name, or kl+club for a sum, or a=kl+b=kl where members have other names."""
    if "sum" not in cfg.penalty:
        return str(cfg.penalty.name)
    members = [(name, cfg.penalty.sum[name].name) for name in sorted(cfg.penalty.sum)]
    return "+".join(name if name == of else f"{name}={of}" for name, of in members)


# ---- the folder of a run


def folder_of(cfg: DictConfig, overrides: Sequence[str]) -> Path:
    """outputs/<name>/<data>/<model>/<penalty>/[<other overrides>/]seed=<n>.

    Values that differ give folders that differ, whatever their spelling: 1 and 1.0 are one value, true and 'true' are two.

    Raises ValueError on a name that is no folder's or leads elsewhere, and a seed that is no whole number.
    """
    require("seed", cfg.seed, Count)
    names = {"name": cfg.name, "data.name": cfg.data.name, "model.name": cfg.model.name, "penalty.name": penalty_name(cfg)}
    parts = []
    for key, name in names.items():
        for part in str(name).split("/") if key == "name" else [name]:
            check_name(key, part)
            parts.append(part)
    variant = ",".join(f"{spelled(key)}={value}" for key, value in sorted(other_overrides(cfg, overrides).items()))
    if len(variant) > 150:
        variant = f"{variant[:130]}…{hashlib.sha256(variant.encode()).hexdigest()[:12]}"
    return Path(cfg.paths.outputs).joinpath(*parts, *([variant] if variant else []), f"seed={cfg.seed}")


FORBIDDEN = '/ \\ : * ? " < > |'.replace(" ", "")


def check_name(key: str, part: Any) -> None:
    """Raise ValueError unless a text can name one folder, here and on any system."""
    usual = (
        isinstance(part, str) and part == part.strip() and part.isprintable() and part[:1] not in ("", ".", "~") and part[-1] != "."
    )
    if not usual or set(part) & set(FORBIDDEN) or len(part.encode()) > 100:
        raise ValueError(
            f"{key} names a folder of the record, so it must have 1 to 100 characters, none of them one of {FORBIDDEN}, and no dot "
            f"or blank at its ends, but {shown(part)} came; choose another."
        )


def other_overrides(cfg: DictConfig, overrides: Sequence[str]) -> dict[str, str]:
    """Overrides that a folder is not named after already: key → value, as its name has it."""
    found = {}
    for override in overrides:
        key = override.lstrip("+~").split("=")[0]
        named = key in ("data", "model", "penalty", "seed", "experiment", "name") or key.startswith("penalty@")
        if not named and key.split(".")[0] not in records.NOT_COMPARED:
            # The value, not its spelling: a grid writes True where a person writes true. A group such as tuned has no value.
            try:
                found[key] = spelled(OmegaConf.select(cfg, key) if key in cfg or "." in key else override.partition("=")[2])
            except OmegaConfBaseException as error:
                raise ValueError(f"An override sets a key to a value, but {shown(override)} came ({error}); correct it.") from None
    return found


def spelled(value: Any) -> str:
    """A value as part of a folder's name; another value has another.

    Words as they are, but with ``--`` for a slash and percent signs for what a name cannot hold; in quotes where they look like
    a number, a truth value or nothing. Numbers with every digit.
    """
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int | float):
        whole = isinstance(value, int) or (math.isfinite(value) and value == int(value) and abs(value) < 1e15)
        return str(int(value)) if whole else repr(value)
    if isinstance(value, Mapping | DictConfig):
        return "{" + ",".join(f"{spelled(key)}:{spelled(inner)}" for key, inner in value.items()) + "}"
    if not isinstance(value, str):
        return "[" + ",".join(map(spelled, value)) + "]"
    # A hyphen beside another, or beside a slash, would read as a slash.
    text = "--".join(re.sub("-(?=-)|(?<=-)-|^-|-$", "%2D", quote(part, safe="+@")) for part in value.split("/"))
    return f"'{text}'" if re.fullmatch(r"-?\d+(\.\d+)?(e[-+]?\d+)?|-?inf|nan|True|False|None|", text) else text


# ---- a record's config


INTERPOLATION = re.compile(r"(?<!\\)\$\{(oc\.select:)?(\w+(?:\.\w+)*)(?:,([^${},]*))?\}")


NOTHING = object()


def read_record_config(folder: Path) -> tuple[DictConfig, str]:
    """The config of a record and the hash of its data's card; every interpolation replaced by its value.

    A record says all that it needs. Of what OmegaConf could look up, only other keys of it are: no environment, no resolver but
    ``oc.select``.

    Raises ValueError, naming file or key, where `read_yaml` and `check` do, and on another interpolation.
    """
    path = folder / records.CONFIG
    config = read_yaml(path)
    card = config.pop("data_card", None)
    if not isinstance(card, str):
        raise ValueError(f"{path} must have data_card, the hash of its data's card, but has {shown(card)}; train again.")
    cfg = OmegaConf.create(replaced(config, config, "", 0))
    assert isinstance(cfg, DictConfig)
    check(cfg)
    return cfg, card


def replaced(value: Any, config: Mapping[str, Any], key: str, depth: int) -> Any:
    """A part of a record's config with its interpolations replaced.

    Raises ValueError, naming the key, on one that is no reference to a plain value, or leads through more than eight others.
    """
    if isinstance(value, dict):
        return {k: replaced(v, config, f"{key}.{k}" if key else str(k), depth) for k, v in value.items()}
    if isinstance(value, list):
        return [replaced(v, config, f"{key}[{i}]", depth) for i, v in enumerate(value)]
    if not isinstance(value, str) or ("${" not in value and value != "???"):
        return value
    match = INTERPOLATION.search(value)
    rest = "" if match is None else value[: match.start()] + value[match.end() :]
    if match is None or "${" in rest or depth > 8 or (match[3] is not None and match[1] is None):
        raise ValueError(
            f"{key} may refer to one other key of the record, as ${{paths.data}} or ${{oc.select:model.select.metric,mae}}, but is "
            f"{shown(value)}; a record does not look up anything else."
        )
    found = looked_up(config, match[2])
    if match[1] and (found is NOTHING or found is None):
        found = match[3]
    if found is NOTHING or isinstance(found, dict | list) or (found is None and rest):
        raise ValueError(f"{key} must refer to a plain value, but {shown(value)} does not; restore the file, or train again.")
    found = replaced(found, config, key, depth + 1)
    return found if not rest else f"{value[: match.start()]}{found}{value[match.end() :]}"


def looked_up(config: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key, or NOTHING."""
    found: Any = config
    for name in key.split("."):
        if not isinstance(found, dict) or name not in found:
            return NOTHING
        found = found[name]
    return found
