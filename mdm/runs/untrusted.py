"""Before records: files of a record, which may be a stranger's, read as data within bounds. Nothing in them runs.

A file that breaks a bound or its format is one ValueError, whatever the library that reads it would have made of it.
"""

from __future__ import annotations

import re
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mdm.hints import format_value

if TYPE_CHECKING:
    import torch
    from torch import nn

MOST_BYTES, MOST_EVENTS, MOST_DEPTH, MOST_SCALAR = 1_000_000, 50_000, 50, 20_000
"""Of a YAML file: bytes, values and brackets, brackets within brackets, characters of one value. A run's config has 8 kB."""


def read_yaml(path: Path) -> dict[str, Any]:
    """A mapping of plain values (null, booleans, numbers, texts, lists, mappings) from a YAML file.

    References (``&a``, ``*a``) are refused: nine lines of them are a billion values.

    Raises ValueError, naming the file, on anything else.
    """
    return parse_yaml(require_regular(path).read_bytes(), path)


def parse_yaml(text: bytes, path: Path) -> dict[str, Any]:
    """What `read_yaml` reads, from the bytes of the file at ``path``."""
    try:
        if len(text) > MOST_BYTES:
            raise ValueError(f"has {len(text)} bytes, more than {MOST_BYTES}")
        check_events(text)
        values = yaml.load(text, Loader=LOADER)
        if not isinstance(values, dict):
            raise ValueError(f"holds no mapping but {type(values).__name__}")
        check_plain(values)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, AttributeError, LookupError) as error:
        cause = " ".join(str(error).split())[:300]
        raise ValueError(f"{path} must be a YAML mapping of plain values, but {cause}; restore the file, or train again.") from None
    return values


LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Safe either way; libyaml's is ten times faster."""


def check_events(text: bytes) -> None:
    """Raise ValueError on YAML that is too long, too deep or refers to itself, before anything is made of it."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=LOADER)):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise ValueError("has a reference (& or *)")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        # Short, because YAML's numbers in base 60 take time that grows with the square of their length.
        longest = len(event.value) if isinstance(event, yaml.ScalarEvent) else 0
        if count > MOST_EVENTS or depth > MOST_DEPTH or longest > MOST_SCALAR:
            raise ValueError(
                f"is longer or deeper than {MOST_EVENTS} values, {MOST_DEPTH} levels or {MOST_SCALAR} characters a value"
            )


def check_plain(value: Any) -> None:
    """Raise ValueError on values that JSON cannot hold, such as YAML's dates and sets."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str | int):
                raise ValueError(f"has {key!r} for a key")
            check_plain(inner)
    elif isinstance(value, list):
        for inner in value:
            check_plain(inner)
    elif not (value is None or isinstance(value, bool | int | float | str)):
        raise ValueError(f"has a value of type {type(value).__name__}")


# ---- references within a record


INTERPOLATION = re.compile(r"(?<!\\)\$\{(oc\.select:)?(\w+(?:\.\w+)*)(?:,([^${},]*))?\}")


NOTHING = object()


def read_config(path: Path) -> dict[str, Any]:
    """A record's config with every reference to another key replaced by its value.

    A record says all that it needs. Of what OmegaConf could look up, only other keys of it are: no environment, no resolver but
    ``oc.select``.

    Raises ValueError, naming file or key, where `read_yaml` does, and on another reference.
    """
    config = read_yaml(path)
    return {key: replace_references(value, config, str(key), 0) for key, value in config.items()}


def replace_references(value: Any, config: Mapping[str, Any], key: str, depth: int) -> Any:
    """A part of a record's config with its interpolations replaced.

    Raises ValueError, naming the key, on one that is no reference to a plain value, or leads through more than eight others.
    """
    if isinstance(value, dict):
        return {k: replace_references(v, config, f"{key}.{k}" if key else str(k), depth) for k, v in value.items()}
    if isinstance(value, list):
        return [replace_references(v, config, f"{key}[{i}]", depth) for i, v in enumerate(value)]
    if not isinstance(value, str) or ("${" not in value and value != "???"):
        return value
    match = INTERPOLATION.search(value)
    rest = "" if match is None else value[: match.start()] + value[match.end() :]
    if match is None or "${" in rest or depth > 8 or (match[3] is not None and match[1] is None):
        raise ValueError(
            f"{key} may refer to one other key of the record, as ${{paths.data}} or ${{oc.select:model.select,mae}}, but is "
            f"{format_value(value)}; a record does not look up anything else."
        )
    found = look_up(config, match[2])
    if match[1] and (found is NOTHING or found is None):
        found = match[3]
    if found is NOTHING or isinstance(found, dict | list) or (found is None and rest):
        raise ValueError(
            f"{key} must refer to a plain value, but {format_value(value)} does not; restore the file, or train again."
        )
    found = replace_references(found, config, key, depth + 1)
    return found if not rest else f"{value[: match.start()]}{found}{value[match.end() :]}"


def look_up(config: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key, or NOTHING."""
    found: Any = config
    for name in key.split("."):
        if not isinstance(found, dict) or name not in found:
            return NOTHING
        found = found[name]
    return found


# ---- checkpoints


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What torch saved in a file: tensors on the CPU and plain values; no other object, and no more bytes than the file has.

    Raises ValueError, naming the file, on anything else.
    """
    import torch  # takes a second, and what reads records alone needs none of it

    require_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
        # torch.save packs nothing: packed or overlapping entries are a few bytes that unfold into gigabytes.
        if any(e.compress_type != zipfile.ZIP_STORED for e in entries) or sum(e.file_size for e in entries) > path.stat().st_size:
            raise ValueError("its entries are larger than the file")
        found = torch.load(path, weights_only=True, map_location="cpu")
        if not isinstance(found, dict):
            raise ValueError(f"it holds no mapping but {type(found).__name__}")
    except Exception as error:  # damaged archives and pickles end in whatever zipfile, pickle and torch make of them
        cause = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path} must be a checkpoint of tensors as torch.save writes it, but reading it failed "
            f"({type(error).__name__}: {cause}); restore the file, or train again."
        ) from None
    return found


def load_weights(module: nn.Module, path: Path) -> dict[str, Any]:
    """Give a module the weights of a checkpoint's ``state_dict``: the same names, shapes and types, no more and no fewer.

    Returns the whole checkpoint.

    Raises ValueError, naming the file and a weight, where they differ; then the module is as it was.
    """
    import torch

    wanted: Mapping[str, torch.Tensor] = {k: v for k, v in module.state_dict().items() if isinstance(v, torch.Tensor)}
    extra = module.state_dict().keys() - wanted.keys()
    checkpoint = read_checkpoint(path)
    given = checkpoint.get("state_dict")
    names = {str(key) for key in given} - extra if isinstance(given, dict) else set()
    wrong = sorted(names ^ set(wanted))
    if not wrong:
        wrong = [name for name, tensor in wanted.items() if not is_alike(given[name], tensor)]  # type: ignore[index]
    if wrong:
        some = ", ".join(repr(name[:80]) for name in wrong[:3])
        raise ValueError(
            f"{path} must hold the weights of the model that the config describes, but {len(wrong)} of {len(wanted)} are "
            f"missing, of another model or shape ({some}); restore the file, or train again."
        )
    module.load_state_dict(given)  # type: ignore[arg-type]
    return checkpoint


def is_alike(given: Any, wanted: torch.Tensor) -> bool:
    """Whether a value is a plain tensor of this shape and type, its numbers in memory."""
    import torch

    return (
        isinstance(given, torch.Tensor)
        and given.layout == torch.strided
        and not given.is_meta
        and given.shape == wanted.shape
        and given.dtype == wanted.dtype
    )


def require_regular(path: Path) -> Path:
    """The path, if a file of a record is there itself and not a link to another, a pipe or a device.

    Raises ValueError otherwise.
    """
    try:
        mode = path.lstat().st_mode
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is part of a record, but cannot be read ({error}); restore the file, or train again.") from None
    if not stat.S_ISREG(mode):
        raise ValueError(
            f"{path} is part of a record, so it must be a file itself, but is a link, a folder or a device; copy it there."
        )
    return path
