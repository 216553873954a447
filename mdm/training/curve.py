"""Stage four, curve: what its columns are. A curve has one row per finished epoch, and what it is a curve of stands in its columns.

    epoch, seconds                     counts from 0; of training and validation together
    valid/<metric>                     of predictions for the validation fold; of several targets also valid/<target>/<metric>
    train/task, train/<name>           mean over the epoch's batches of the task loss, and of a term of the model's own paper
    train/<penalty>/<part>             the same of what a penalty adds to the loss
    <fold>/<penalty>/<part>            on both folds: what a penalty's critic estimates, on rows that it was not and was fitted on

Everything that writes or reads a column goes through this module. A baseline's curve has also the settings of its rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Fold = Literal["valid", "train"]
FOLDS: tuple[Fold, ...] = ("valid", "train")
TASK = "train/task"
Kind = Literal["metric", "task", "own term", "penalty term", "estimate", "setting"]


@dataclass(frozen=True)
class CurveColumn:
    """A column of a curve, taken apart.

    fold: whose rows it is of; None for the epoch, its seconds and a baseline's settings, whose kind is ``setting``
    quantity: its name without the fold, which an estimate's two columns share
    """

    name: str
    kind: Kind
    fold: Fold | None
    quantity: str

    @property
    def penalty(self) -> str:
        """Whose term or estimate it is; nothing for other kinds."""
        return self.quantity.partition("/")[0] if self.kind in ("penalty term", "estimate") else ""


def name_metric(metric: str) -> str:
    """The column of a metric.

    >>> name_metric("mae")
    'valid/mae'
    """
    return f"valid/{metric}"


def name_term(term: str) -> str:
    """The column of a term of the loss, ``task``, the model's own or ``<penalty>/<part>``."""
    return f"train/{term}"


def name_estimate(fold: Fold, penalty: str, part: str) -> str:
    """The column of what a penalty's critic estimates on a fold."""
    return f"{fold}/{penalty}/{part}"


def describe_columns(names: Iterable[str]) -> dict[str, CurveColumn]:
    """The columns of a curve by name, in their order.

    What both folds have is an estimate, since metrics are of validation alone and terms of training alone.

    >>> {name: column.kind for name, column in describe_columns(["train/kl/estimate", "valid/kl/estimate", "valid/a/mae"]).items()}
    {'train/kl/estimate': 'estimate', 'valid/kl/estimate': 'estimate', 'valid/a/mae': 'metric'}
    """
    known = list(names)
    return {name: describe_column(name, known) for name in known}


def describe_column(name: str, known: Iterable[str]) -> CurveColumn:
    """One column among all those of its curve."""
    fold, _, quantity = name.partition("/")
    if fold == "valid":
        return CurveColumn(name, "estimate" if f"train/{quantity}" in known else "metric", "valid", quantity)
    if fold == "train":
        kind: Kind = "own term"
        if name == TASK:
            kind = "task"
        elif f"valid/{quantity}" in known:
            kind = "estimate"
        elif "/" in quantity:
            kind = "penalty term"
        return CurveColumn(name, kind, "train", quantity)
    return CurveColumn(name, "setting", None, name)
