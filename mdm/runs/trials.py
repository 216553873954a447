"""Before a run: optimisers and losses on a few numbers, because what torch admits stands in its code and not in its annotations.

A learning rate below 0, an optimiser for sparse gradients, a loss of three tensors: each shows in a step of a microsecond.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from mdm.hints import format_value, require, require_known
from mdm.runs.kinds import Argument
from mdm.runs.members import check_member
from mdm.training.groups import Decay


def check_group_options(prefix: str, options: Mapping[str, Any], known: Mapping[str, Argument]) -> None:
    """Raise ValueError unless the options of a parameter group are arguments of the optimiser, or say what decay acts on."""
    require_known(prefix, options, [*(name for name in known if name != "params"), "decay"], "The optimiser's group")
    for name, option in options.items():
        require(f"{prefix}{name}", option, Decay if name == "decay" else known[name].hint)


def try_step(key: str, values: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Raise ValueError, naming the key, unless an optimiser takes a step on a matrix and a vector."""
    optimizer, arguments = check_member("optimizer", dict(values))
    parameters = [nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    its = {**arguments, **{name: value for name, value in options.items() if name != "decay"}}
    try_work(key, {**values, **options}, lambda: optimizer(**its, params=parameters).step())


def try_loss(key: str, values: Mapping[str, Any]) -> None:
    """Raise ValueError, naming the key, unless a loss makes one finite number of predictions and labels in [0, 1]."""
    loss, arguments = check_member("loss", dict(values))
    prediction, label = torch.tensor([[0.25], [0.5]]), torch.tensor([[0.0], [1.0]])

    def measured() -> None:
        found = loss(**arguments)(prediction, label)
        if found.shape != () or not bool(found.isfinite()):
            raise ValueError(f"it gives {format_value(found.tolist())} for a batch and no finite number")

    try_work(key, values, measured)


def try_work(key: str, values: Mapping[str, Any], work: Callable[[], Any]) -> None:
    """Do a piece of work; whatever torch raises becomes one ValueError with the key."""
    try:
        work()
    except Exception as error:  # torch says no in many ways: ValueError, RuntimeError, AssertionError, TypeError
        said = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{key} must be what {values['_target_']} can work with, got {format_value(dict(values))} "
            f"({type(error).__name__}: {said}); correct {key}."
        ) from error
