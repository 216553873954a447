"""Before a run: what a config names: its penalties, and the folder of its record.

Runs whose settings differ have folders that differ, and no name leads out of the folder of all records.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mdm.hints import Count, format_value, require
from mdm.runs import claims
from mdm.runs.options import DEBUG, list_debug_reasons


def list_penalties(cfg: DictConfig) -> dict[str, DictConfig]:
    """The penalties that were chosen, by name: none, one, or those of ``penalty=sum``, in the order of their names.

    Raises ValueError if a sum has no members, one that is called ``own``, as the model's is, or one that is no penalty, and if
    members were added to what is no sum.
    """
    if "sum" not in cfg.penalty:
        return {} if cfg.penalty.get("objective") is None else {cfg.penalty.name: cfg.penalty}
    members = {str(name): cfg.penalty.sum[name] for name in sorted(cfg.penalty.sum or {})}
    if cfg.penalty.get("name") != "sum":
        raise ValueError(
            f"Only penalty=sum has members, got penalty={cfg.penalty.get('name')} with {', '.join(members)}; use penalty=sum "
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


def name_penalty(cfg: DictConfig | Mapping[str, Any]) -> str:
    """What a record is filed under: the penalty's name, or kl+club for a sum, or a=kl+b=kl where members have other names."""
    penalty = cfg["penalty"]
    if "sum" not in penalty:
        return str(penalty["name"])
    members = [(name, penalty["sum"][name]["name"]) for name in sorted(penalty["sum"])]
    return "+".join(name if name == of else f"{name}={of}" for name, of in members)


# ---- the folder of a run


def record_folder(cfg: DictConfig, overrides: Sequence[str]) -> Path:
    """outputs/[debug/]<name>/<data>/<model>/<penalty>/[<other overrides>/]seed=<n>.

    Values that differ give folders that differ, whatever their spelling: 1 and 1.0 are one value, true and 'true' are two.

    Raises ValueError on a name that cannot name a folder or leads elsewhere, and on a seed that is not a whole number.
    """
    require("seed", cfg.seed, Count)
    names = {"name": cfg.name, "data.name": cfg.data.name, "model.name": cfg.model.name, "penalty.name": name_penalty(cfg)}
    parts = [DEBUG] if list_debug_reasons(cfg.trainer) else []
    for key, name in names.items():
        for part in str(name).split("/") if key == "name" else [name]:
            check_name(key, part)
            parts.append(part)
    if str(cfg.name).split("/")[0] == DEBUG:
        raise ValueError(f"name={cfg.name} would be filed among debug runs, which are no results; choose another name.")
    variant = ",".join(f"{spell_value(key)}={value}" for key, value in sorted(list_other_overrides(cfg, overrides).items()))
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
            f"or blank at its ends, got {format_value(part)}; choose another."
        )


def list_other_overrides(cfg: DictConfig, overrides: Sequence[str]) -> dict[str, str]:
    """Overrides that a folder is not named after already: key → value, as its name has it."""
    found = {}
    for override in overrides:
        key = override.lstrip("+~").split("=")[0]
        named = key in ("data", "model", "penalty", "seed", "experiment", "name") or key.startswith("penalty@")
        if not named and key.split(".")[0] not in claims.NOT_COMPARED:
            # The value, not its spelling: a grid writes True where a person writes true. A group such as tuned has no value.
            try:
                found[key] = spell_value(OmegaConf.select(cfg, key) if key in cfg or "." in key else override.partition("=")[2])
            except OmegaConfBaseException as error:
                raise ValueError(
                    f"An override sets a key to a value, got {format_value(override)} ({error}); correct it."
                ) from None
    return found


def spell_value(value: Any) -> str:
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
        return "{" + ",".join(f"{spell_value(key)}:{spell_value(inner)}" for key, inner in value.items()) + "}"
    if not isinstance(value, str):
        return "[" + ",".join(map(spell_value, value)) + "]"
    # A hyphen beside another, or beside a slash, would read as a slash.
    text = "--".join(re.sub("-(?=-)|(?<=-)-|^-|-$", "%2D", quote(part, safe="+@")) for part in value.split("/"))
    return f"'{text}'" if re.fullmatch(r"-?\d+(\.\d+)?(e[-+]?\d+)?|-?inf|nan|True|False|None|", text) else text
