"""Before a run: the schema of its config, checked once.

`check` holds a composed config to the dataclasses of `mdm.runs.schema`, which are all that a run reads: an unknown key is refused,
not trained with. No data are built, so a sweep checks every run before it starts one.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mdm.hints import format_value, is_plain, require, require_known
from mdm.runs import claims
from mdm.runs.kinds import list_arguments
from mdm.runs.members import check_member
from mdm.runs.naming import list_penalties, name_penalty, record_folder
from mdm.runs.options import check_options
from mdm.runs.schema import BaselineGroup, Config, Member, NoPenaltyGroup, SumGroup
from mdm.runs.trials import check_group_options, try_loss, try_step


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
    several = devices if isinstance(devices, int) else len(set(devices))
    if several < 1 or (not isinstance(devices, int) and several != len(devices)):
        raise ValueError(f"machine.devices must be how many, or which ones, each once, but is {devices}; set machine.devices.")
    if several > 1 and "baseline" in values["model"]:
        raise ValueError(f"A baseline is fitted by one process, got machine.devices={devices}; set machine.devices=1.")
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
