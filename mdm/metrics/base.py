"""What a metric is, and all that anything knows of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mdm.metrics.sums import Sums, mean_of

Each = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Predictions and labels → a number for each segment."""
Whole = Callable[[np.ndarray, np.ndarray], float]
"""Predictions and labels → one number."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number that says how good predictions are.

    heading: as tables print it
    convention: what exactly is counted, in a line; 0 is the middle of the labels' range
    better: which way
    each: what a segment contributes, the metric being the mean; None if it is no mean
    whole: the metric of all segments at once, where ``each`` does not give it
    sums: the metric from sums over segments, which tells quickly what it is without a video (`mdm.statistics`); the mean of
        ``each`` if that is there. Of a metric without them a table computes ``whole`` anew without every video of every run
    keeps: which labels count; None: all
    percent: shown in percent, as the papers print accuracies and F1
    reach: measured where the labels' range reaches so far on both sides of its middle
    joint: of all targets together, as an accuracy of classes is; its functions take [segments, targets], with labels of 0 to 1
    signed: zeros count among the positive, or are left out; papers often do not say which

    >>> import numpy as np
    >>> from mdm.metrics import find_metric, format_heading
    >>> find_metric("happy/acc2_pos").value(np.array([0.2, -1.0, 3.0]), np.array([1.0, 0.0, -2.0]))
    0.5
    >>> find_metric("acc2_pos").better, format_heading("happy/acc2_pos")
    ('higher', 'happy Acc-2 (pos)')
    """

    heading: str
    convention: str
    better: Literal["lower", "higher"]
    each: Each | None = None
    whole: Whole | None = None
    sums: Sums | None = None
    keeps: Callable[[np.ndarray], np.ndarray] | None = None
    percent: bool = False
    reach: float = 0.0
    joint: bool = False
    signed: bool = False

    def __post_init__(self) -> None:
        if self.each is None and self.whole is None:
            raise TypeError(f"A metric needs each or whole, but {self.heading} has neither; give it one of them.")
        if self.sums is None and self.each is not None:
            object.__setattr__(self, "sums", mean_of(self.each))  # the one way into a frozen dataclass

    @property
    def lower_is_better(self) -> bool:
        return self.better == "lower"

    @property
    def scale(self) -> float:
        """What a value is multiplied with to be shown."""
        return 100.0 if self.percent else 1.0

    @property
    def unit(self) -> str:
        """Behind the heading: ", %" or nothing."""
        return ", %" if self.percent else ""

    def value(self, p: np.ndarray, y: np.ndarray) -> float:
        """The metric; NaN where it is not defined, as on no segments."""
        if self.keeps is not None:
            kept = self.keeps(y)
            p, y = p[kept], y[kept]
        if not len(y):
            return float("nan")
        if self.whole is not None:
            return float(self.whole(p, y))
        assert self.each is not None
        return float(self.each(p, y).mean())
