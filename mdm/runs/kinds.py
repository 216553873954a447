"""The kinds of member: what stands in which place of a config, where it may be from, and what it must be."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

import torch
from torch import nn
from torch.nn.modules.loss import _Loss

from mdm.backbones.base import Backbone
from mdm.data.base import Segments
from mdm.hints import is_plain
from mdm.penalties.base import Penalty
from mdm.runs.loggers import Lightning, Logger
from mdm.runs.watchers import is_watcher
from mdm.training.baselines import Baseline
from mdm.training.schedules import Progress


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
    if not inspect.isroutine(found) or read_return_hint(found) is not Segments:
        return False
    return all(is_plain(argument.hint) for argument in list_arguments(found).values())


def is_division(found: Any) -> bool:
    """A class of functions of segments."""
    return inspect.isclass(found) and "__call__" in vars(found) and Segments in read_hints(found.__call__).values()


def is_schedule(found: Any) -> bool:
    """A class of functions from how far training has come to a factor."""
    return (
        inspect.isclass(found)
        and "__call__" in vars(found)
        and read_hints(found.__call__) == {"progress": Progress, "return": float}
    )


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
    if subclass_of(Logger)(found):
        return found is not Lightning
    from pytorch_lightning.loggers import Logger as LightningLogger  # takes seconds, and ours need none of it

    return subclass_of(LightningLogger)(found)


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
    "optimizer": Kind(
        "an optimiser of torch.optim whose step needs no closure",
        ("torch.optim", "mdm.training.optimizers"),
        is_optimizer,
        ("params",),
    ),
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


def read_hints(called: Callable[..., Any]) -> dict[str, Any]:
    """Annotations by name.

    Raises ValueError if one names something that its module lacks, as under ``TYPE_CHECKING``.
    """
    try:
        return get_type_hints(called, include_extras=True)
    except (NameError, TypeError, AttributeError) as error:
        raise ValueError(
            f"Arguments of a member are checked by their annotations, but those of {called.__module__}.{called.__qualname__} "
            f"cannot be read ({error}); import what they name."
        ) from None


def read_return_hint(function: Callable[..., Any]) -> Any:
    """The annotation of what a function returns."""
    return read_hints(function).get("return")


@dataclass(frozen=True)
class Argument:
    """An argument of a member: its annotation, and whether it must be given."""

    hint: Any
    required: bool


@cache
def list_arguments(member: Callable[..., Any]) -> Mapping[str, Argument]:
    """The arguments of a class or function by name.

    ``**more: Annotated[Any, function]`` stands for all those of that function that are not named themselves.
    """
    called = member.__init__ if inspect.isclass(member) else member
    hints = read_hints(called)
    found: dict[str, Argument] = {}
    more: dict[str, Argument] = {}
    for name, parameter in inspect.signature(called).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            for passed_on in get_args(hints.get(name, Any))[1:]:
                more |= list_arguments(passed_on)
        elif parameter.kind is not parameter.VAR_POSITIONAL and name != "self":
            found[name] = Argument(hints.get(name, Any), parameter.default is parameter.empty)
    return more | found
