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
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, get_args, get_type_hints

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning.loggers import Logger as LightningLogger
from torch import nn
from torch.nn.modules.loss import _Loss

from mdm.backbones.base import Backbone
from mdm.data.base import Segments
from mdm.hints import is_plain, require, require_known, shown
from mdm.penalties.base import Penalty
from mdm.runs.loggers import Lightning, Logger
from mdm.runs.watchers import is_watcher
from mdm.training.baselines import Baseline

GROUP = "mdm.members"

Check = Callable[[str, Any, Any], None]
"""(key, value, annotation) → ValueError, naming the key, unless the value keeps it."""


@dataclass(frozen=True)
class Kind:
    """A kind of member.

    what: in words; homes: modules, or packages, of which it may be; admits: whether something that is found there is of the kind
    given: arguments that the run gives, and a config must not
    """

    what: str
    homes: tuple[str, ...]
    admits: Callable[[Any], bool]
    given: tuple[str, ...] = ()


def subclass_of(base: type) -> Callable[[Any], bool]:
    """Concrete subclasses."""
    return lambda found: inspect.isclass(found) and issubclass(found, base) and found is not base and not inspect.isabstract(found)


def is_source(found: Any) -> bool:
    """A function that returns segments, all of whose arguments may stand in a config."""
    if not inspect.isroutine(found) or returned(found) is not Segments:
        return False
    return all(is_plain(argument.hint) for argument in arguments_of(found).values())


def is_division(found: Any) -> bool:
    """A class of functions of segments."""
    return inspect.isclass(found) and "__call__" in vars(found) and Segments in hints_of(found.__call__).values()


def is_schedule(found: Any) -> bool:
    """A class of functions from the share of training done to a factor."""
    return inspect.isclass(found) and "__call__" in vars(found) and hints_of(found.__call__) == {"progress": float, "return": float}


def is_baseline(found: Any) -> bool:
    return found is Baseline


def is_loss(found: Any) -> bool:
    """A loss of torch's, or a module whose forward pass takes a prediction and a label."""
    if not inspect.isclass(found) or not issubclass(found, nn.Module):
        return False
    return issubclass(found, _Loss) or list(inspect.signature(found.forward).parameters)[1:] == ["prediction", "label"]


def is_optimizer(found: Any) -> bool:
    """An optimiser whose step needs no closure, for the learner gives none."""
    if not subclass_of(torch.optim.Optimizer)(found):
        return False
    return inspect.signature(found.step).parameters["closure"].default is None


def is_study(found: Any) -> bool:
    """A class that can do all that `mdm.studies.Study` asks for, which comes after this on the data's path."""
    asked = ("plan", "measure", "derive", "summary", "figure")
    return inspect.isclass(found) and not inspect.isabstract(found) and all(callable(getattr(found, name, None)) for name in asked)


def is_logger(found: Any) -> bool:
    """One of ours that needs no other, or one of Lightning's."""
    return found is not Lightning and (subclass_of(Logger)(found) or subclass_of(LightningLogger)(found))


KINDS = {
    "segments": Kind("a data source, a function that returns Segments", ("mdm.data",), is_source),
    "folds": Kind("a division of segments, such as mdm.data.folds.KFold", ("mdm.data",), is_division),
    "backbone": Kind("a subclass of mdm.backbones.base.Backbone", ("mdm.backbones",), subclass_of(Backbone), ("spec",)),
    "objective": Kind(
        "a subclass of mdm.penalties.base.Penalty",
        ("mdm.penalties",),
        subclass_of(Penalty),
        ("weight", "z_dim", "unimodal_dims", "part_dims"),
    ),
    "loss": Kind("a loss, such as torch.nn.L1Loss", ("torch.nn", "mdm.backbones"), is_loss),
    "optimizer": Kind("an optimiser of torch.optim whose step needs no closure", ("torch.optim",), is_optimizer, ("params",)),
    "schedule": Kind("a schedule, such as mdm.training.schedules.Linear", ("mdm.training.schedules",), is_schedule),
    "baseline": Kind("mdm.training.baselines.Baseline", ("mdm.training.baselines",), is_baseline, ("spec", "seed")),
    "study": Kind("a subclass of mdm.studies.Study", ("mdm.studies",), is_study),
    "loggers": Kind(
        "a subclass of mdm.runs.loggers.Logger, or a logger of pytorch_lightning.loggers",
        ("mdm.runs.loggers", "pytorch_lightning.loggers"),
        is_logger,
        ("save_dir",),
    ),
    "callbacks": Kind(
        "a callback of pytorch_lightning.callbacks that watches training and does not change it",
        ("pytorch_lightning.callbacks",),
        is_watcher,
    ),
}
"""By where they stand in a config: the last name of the key, or that of a mapping (`MAPPINGS`) for each entry of it."""
MAPPINGS = ("loggers", "callbacks")


@dataclass(frozen=True)
class Argument:
    """An argument of a member: its annotation, and whether it must be given."""

    hint: Any
    required: bool


def make(node: DictConfig, **arguments: Any) -> Any:
    """Build the member that a config node names by its ``_target_``, of its keys and these arguments.

    Raises ValueError, naming the key, where `checked_member` does, and where the member cannot be built of these values.
    """
    return build(node, require, **arguments)


def build(node: DictConfig, check: Check, /, **arguments: Any) -> Any:
    """`make`, where each value keeps its annotation as ``check(key, value, annotation)`` has it."""
    key = node._get_full_key(None)
    target, values = checked_member(key, node, check)
    try:
        return target(**values, **arguments)
    except Exception as error:  # of a constructor that does not refuse values itself: an assertion, torch's RuntimeError, …
        said = " ".join(str(error).split())[:600]
        if isinstance(error, ValueError):
            raise ValueError(said if key in said else f"{key}: {said}") from error
        raise ValueError(
            f"{key} must have values of which {node._target_} can be built, but has {shown(values)} "
            f"({type(error).__name__}: {said}); correct them."
        ) from error


def checked_member(key: str, node: Any, check: Check = require) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The member that a config node names, and its arguments as plain values; nothing is built.

    Raises ValueError, naming the key, unless the node is a mapping with a ``_target_`` that the kind of this key admits, whose
    other keys are arguments of it, with plain values that keep their annotations, and all that it needs.
    """
    kind = kind_of(key)
    try:
        whole: Any = OmegaConf.to_container(node, resolve=True, throw_on_missing=True) if OmegaConf.is_config(node) else node
    except OmegaConfBaseException as error:
        raise ValueError(f"{key} must have values, but {str(error).partition(chr(10))[0]}; correct it.") from None
    if not isinstance(whole, dict) or "_target_" not in whole:
        raise ValueError(f"{key} must be {kind.what}, by its _target_, but is {shown(whole)}; set {key}._target_.")
    target = whole["_target_"]
    values = {name: value for name, value in whole.items() if name != "_target_"}
    member = resolve(target, key)
    known = arguments_of(member)
    require_known(f"{key}.", values, [name for name in known if name not in kind.given], f"{target}, as {key} is built,")
    for name, value in values.items():
        check(f"{key}.{name}", value, known[name].hint)
    lacking = [name for name, each in known.items() if each.required and name not in values and name not in kind.given]
    if lacking:
        raise ValueError(f"{key} must have all that {target} needs, but lacks {', '.join(lacking)}; add {key}.{lacking[0]}.")
    return member, values


def kind_of(key: str) -> Kind:
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
    kind = kind_of(key)
    found = None
    if isinstance(target, str) and all(part.isidentifier() for part in target.split(".")):
        module, _, name = target.rpartition(".")
        if target in declared():
            found = loaded(declared()[target], key)
        elif not name.startswith("_") and any(lives_in(module, home) for home in kind.homes):
            found = named(module, name)
    if found is None or not kind.admits(found):
        raise ValueError(
            f"{key} must be {kind.what} (or one that an installed package declares as an entry point of {GROUP}), but its _target_ "
            f"is {shown(target)}; only these are built."
        )
    return found


def lives_in(module: str, home: str) -> bool:
    """Whether a module is a home of members or, of this package, inside one."""
    return module == home or (home.startswith("mdm.") and module.startswith(f"{home}."))


def named(module: str, name: str) -> Any:
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
def declared() -> dict[str, EntryPoint]:
    """Members of installed packages by their dotted names."""
    return {entry.value.replace(" ", "").replace(":", "."): entry for entry in entry_points(group=GROUP)}


def loaded(entry: EntryPoint, key: str) -> Any:
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


@cache
def arguments_of(member: Callable[..., Any]) -> Mapping[str, Argument]:
    """The arguments of a class or function by name.

    ``**more: Annotated[Any, function]`` stands for all those of that function that are not named themselves.
    """
    called = member.__init__ if inspect.isclass(member) else member
    hints = hints_of(called)
    found: dict[str, Argument] = {}
    more: dict[str, Argument] = {}
    for name, parameter in inspect.signature(called).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            for passed_on in get_args(hints.get(name, Any))[1:]:
                more |= arguments_of(passed_on)
        elif parameter.kind is not parameter.VAR_POSITIONAL and name != "self":
            found[name] = Argument(hints.get(name, Any), parameter.default is parameter.empty)
    return more | found


def returned(function: Callable[..., Any]) -> Any:
    """The annotation of what a function returns."""
    return hints_of(function).get("return")


def hints_of(called: Callable[..., Any]) -> dict[str, Any]:
    """Annotations by name.

    Raises ValueError if one names what its module has not, as under ``TYPE_CHECKING``.
    """
    try:
        return get_type_hints(called, include_extras=True)
    except (NameError, TypeError, AttributeError) as error:
        raise ValueError(
            f"Arguments of a member are checked by their annotations, but those of {called.__module__}.{called.__qualname__} "
            f"cannot be read ({error}); import what they name."
        ) from None
