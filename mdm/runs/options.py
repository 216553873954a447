"""The group ``trainer``: what the protocol itself does, what is passed on to Lightning's Trainer, and which runs are no result."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from mdm.hints import Positive, Range, Share, Size, format_value
from mdm.owned import refuse_owned
from mdm.training.steps import Accumulation, Clipping

DEBUG = "debug"
"""The folder of all debug runs, below ``paths.outputs``."""
LIMITS = ("fast_dev_run", "overfit_batches", "limit_train_batches", "limit_val_batches")
"""Options that leave out data: a whole number of batches, or a share of them."""


@dataclass(frozen=True)
class TrainerOptions:
    """The options of a run's trainer; configs/trainer/default.yaml says what each does.

    >>> TrainerOptions(max_epochs=40, patience=8, precision="32-true", gradient_clip=None, select="mae", fast_dev_run=True).epochs
    1
    """

    max_epochs: Size
    patience: Annotated[int, Range(1, advice="patience=null never stops early")] | None
    precision: Literal["32-true", "64-true", "bf16-true", "16-mixed", "bf16-mixed"]
    gradient_clip: Positive | None
    select: str
    gradient_clip_by: Literal["norm", "value"] = "norm"
    gradient_clip_over: Literal["backbone", "all"] = "backbone"
    accumulate_grad_batches: Size = 1
    accumulate_by: Literal["mean", "sum"] = "mean"
    max_time: str | None = None
    debug: bool = False
    fast_dev_run: bool | Size = False
    overfit_batches: Size | Share | None = None
    limit_train_batches: Size | Share | None = None
    limit_val_batches: Size | Share | None = None
    profiler: Literal["simple", "advanced", "pytorch"] | None = None
    detect_anomaly: bool = False
    deterministic: bool | Literal["warn"] = False
    benchmark: bool = False

    @property
    def clipping(self) -> Clipping:
        return Clipping(self.gradient_clip, self.gradient_clip_by, self.gradient_clip_over)

    @property
    def accumulation(self) -> Accumulation:
        return Accumulation(self.accumulate_grad_batches, self.accumulate_by)

    @property
    def epochs(self) -> int:
        """Epochs that are trained at most."""
        return 1 if self.fast_dev_run else self.max_epochs

    @property
    def train_limit(self) -> int | float:
        """Batches of an epoch, or their share. `mdm.data.splits.Splits` sees to ``overfit_batches``: they are always the same."""
        return int(self.fast_dev_run) or self.limit_train_batches or 1.0

    @property
    def valid_limit(self) -> int | float:
        """The same of the validation fold."""
        return int(self.fast_dev_run) or self.overfit_batches or self.limit_val_batches or 1.0

    @property
    def seconds(self) -> float:
        """Of training, after which no other epoch begins."""
        if self.max_time is None:
            return float("inf")
        days, hours, minutes, seconds = map(int, self.max_time.split(":"))
        return ((24 * days + hours) * 60 + minutes) * 60 + seconds


def read_options(values: Mapping[str, Any]) -> TrainerOptions:
    """The options of a config that `mdm.runs.config.check` has passed."""
    return TrainerOptions(**{str(key): values[key] for key in values})


def list_debug_reasons(values: Mapping[str, Any]) -> list[str]:
    """The options that make a run one for finding mistakes, as ``trainer.fast_dev_run=True``; none where it is a result."""
    return [f"trainer.{key}={values[key]}" for key in ("debug", *LIMITS) if values.get(key)]


def check_options(values: Mapping[str, Any]) -> None:
    """Raise ValueError on an option of Lightning's that the protocol owns, on one that leaves no batch, and on no time.

    Types are checked by `mdm.runs.config.check`.
    """
    for key in values:
        refuse_owned(str(key))
    for key in LIMITS[1:]:
        if values.get(key) == 0 and values[key] is not False:
            raise ValueError(
                f"trainer.{key} is a number of batches (1, 2, …) or a share of them (0.1), but {values[key]} leaves none; use null "
                "for all."
            )
    given = values.get("max_time")
    if given is not None and (not isinstance(given, str) or not re.fullmatch(r"\d+:\d\d:\d\d:\d\d", given)):
        raise ValueError(
            f"trainer.max_time is days:hours:minutes:seconds, as '00:12:00:00', got {format_value(given)}; write it so."
        )


def check_limits(options: TrainerOptions, batches: Mapping[str, int]) -> None:
    """Raise ValueError if a share of a fold's batches is less than one; batches: option → how many there are."""
    for key, number in batches.items():
        limit = getattr(options, key)
        if isinstance(limit, float) and int(limit * number) < 1:
            raise ValueError(
                f"trainer.{key}={limit} of {number} batches is less than one; use a whole number, as trainer.{key}=1, or a larger "
                "share."
            )
