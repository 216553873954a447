"""Before a run: what a config may build, by what it is, and how it is built.

A config names what it wants built by ``_target_``, and may be a stranger's: `mdm.load` builds what a record says. So each place in
a config admits one kind of member and nothing else: classes and functions of this package, torch's optimisers and losses, and what
an installed package declares, in its pyproject.toml, as

    [project.entry-points."mdm.members"]
    magpie = "magpie.backbone:Magpie"          # _target_: magpie.backbone.Magpie

No other module is imported. Arguments are plain values that keep the annotations of the constructor, with ranges where these have
them (`mdm.hints`); whatever a constructor makes of values that it cannot build from becomes one ValueError with the key.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mdm.hints import format_value, require, require_known
from mdm.runs.kinds import KINDS, MAPPINGS, Kind, list_arguments

GROUP = "mdm.members"

Check = Callable[[str, Any, Any], None]
"""(key, value, annotation) → ValueError, naming the key, unless the value keeps it."""


def make(node: DictConfig, **arguments: Any) -> Any:
    """Build the member that a config node names by its ``_target_``, of its keys and these arguments.

    Raises ValueError, naming the key, where `check_member` does, and where the member cannot be built of these values.
    """
    return build(node, require, **arguments)


def build(node: DictConfig, check: Check, /, **arguments: Any) -> Any:
    """`make`, where each value keeps its annotation as ``check(key, value, annotation)`` has it."""
    key = node._get_full_key(None)
    target, values = check_member(key, node, check)
    try:
        return target(**values, **arguments)
    except Exception as error:  # of a constructor that does not refuse values itself: an assertion, torch's RuntimeError, …
        said = " ".join(str(error).split())[:600]
        if isinstance(error, ValueError):
            raise ValueError(said if key in said else f"{key}: {said}") from error
        raise ValueError(
            f"{key} must have values of which {node._target_} can be built, but has {format_value(values)} "
            f"({type(error).__name__}: {said}); correct them."
        ) from error


def check_member(key: str, node: Any, check: Check = require) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The member that a config node names, and its arguments as plain values; nothing is built.

    Raises ValueError, naming the key, unless the node is a mapping with a ``_target_`` that the kind of this key admits, whose
    other keys are arguments of it, with plain values that keep their annotations, and all that it needs.
    """
    kind = find_kind(key)
    try:
        whole: Any = OmegaConf.to_container(node, resolve=True, throw_on_missing=True) if OmegaConf.is_config(node) else node
    except OmegaConfBaseException as error:
        raise ValueError(f"{key} must have values, but {str(error).partition(chr(10))[0]}; correct it.") from None
    if not isinstance(whole, dict) or "_target_" not in whole:
        raise ValueError(f"{key} must be {kind.what}, by its _target_, but is {format_value(whole)}; set {key}._target_.")
    target = whole["_target_"]
    values = {name: value for name, value in whole.items() if name != "_target_"}
    member = resolve(target, key)
    known = list_arguments(member)
    require_known(f"{key}.", values, [name for name in known if name not in kind.given], f"{target}, as {key} is built,")
    for name, value in values.items():
        check(f"{key}.{name}", value, known[name].hint)
    lacking = [name for name, each in known.items() if each.required and name not in values and name not in kind.given]
    if lacking:
        raise ValueError(f"{key} must have all that {target} needs, but lacks {', '.join(lacking)}; add {key}.{lacking[0]}.")
    return member, values


def find_kind(key: str) -> Kind:
    """The kind of member that belongs to a key.

    Raises ValueError for a key where nothing is built.
    """
    *_, parent, last = ("", *key.split("."))
    kind = KINDS.get(parent if parent in MAPPINGS else last if last not in MAPPINGS else "")
    if kind is None:
        raise ValueError(f"A config builds {', '.join(KINDS)}, but {key} is none of these; remove its _target_.")
    return kind


def resolve(target: Any, key: str) -> Callable[..., Any]:
    """The class or function that a dotted name means, if a key admits it.

    Raises ValueError, naming both, for everything else; what does not live where members do is not imported.
    """
    kind = find_kind(key)
    found = None
    if isinstance(target, str) and all(part.isidentifier() for part in target.split(".")):
        module, _, name = target.rpartition(".")
        if target in find_declared():
            found = load_entry(find_declared()[target], key)
        elif not name.startswith("_") and any(lives_in(module, home) for home in kind.homes):
            found = find_defined(module, name)
    if found is None or not kind.admits(found):
        raise ValueError(
            f"{key} must be {kind.what} (or one that an installed package declares as an entry point of {GROUP}), but its _target_ "
            f"is {format_value(target)}; only these are built."
        )
    return found


def lives_in(module: str, home: str) -> bool:
    """Whether a module is a home of members or, of this package, inside one."""
    return module == home or (home.startswith("mdm.") and module.startswith(f"{home}."))


def find_defined(module: str, name: str) -> Any:
    """What a module of this package or of torch defines under a name, not what it imports; None if there is no such thing."""
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError:
        return None
    home = getattr(found, "__module__", "") or ""
    return (
        found if home == module or (module.startswith(("torch.", "pytorch_lightning.")) and home.startswith(f"{module}.")) else None
    )


@cache
def find_declared() -> dict[str, EntryPoint]:
    """Members of installed packages by their dotted names."""
    return {entry.value.replace(" ", "").replace(":", "."): entry for entry in entry_points(group=GROUP)}


def load_entry(entry: EntryPoint, key: str) -> Any:
    """What an entry point means.

    Raises ValueError if its package is broken.
    """
    try:
        return entry.load()
    except Exception as error:  # whatever another package does when it is imported
        raise ValueError(
            f"{key} is the entry point {entry.name} of {GROUP}, but {entry.value} cannot be imported ({type(error).__name__}: "
            f"{error}); mend or remove its package."
        ) from error
