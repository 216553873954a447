"""Stage one, data: the scale of the labels, declared and observed.

Metrics centre labels on the middle of their declared range, so a range that the labels do not have gives numbers without meaning:
with [-3, 3] declared for labels of 0 and 1, every label is non-negative and every predictor of positive numbers has an Acc-2 of 1.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from jaxtyping import Float

USUAL = (-3.0, 3.0)
"""The readers' default, CMU-MOSI's and CMU-MOSEI's scale."""
FEWEST = 20
"""Labels from which on two values, or a third of the range, are no chance: 20 of a scale of seven classes fall into two of them
with 21 (2 / 7)^20 = 3e-10 where all are as frequent."""
logger = logging.getLogger(__name__)


def label_bounds(declared: Any, format: str, label: Float[np.ndarray, "n targets"], name: str) -> tuple[float, float]:
    """The scale of the labels: the declared one, or, of labels with two values, these (a target of two classes).

    Raises ValueError unless it is (low, high), if labels of two values are declared to be on another scale than theirs or the
    usual, and if all labels lie within a third of it.
    """
    known = np.unique(label[np.isfinite(label)])
    enough = np.isfinite(label).sum() >= FEWEST
    if enough and len(known) == 2 and (declared is None or tuple(declared) == USUAL):
        low, high = (float(value) for value in known)
        logger.info("%s: all labels are %g or %g: a target of two classes, and these are its range.", name, low, high)
        return low, high
    if not isinstance(declared, list | tuple) or [type(x) in (int, float) for x in declared] != [True, True]:
        raise ValueError(
            f"{format}: label_range must be (low, high), the scale of the labels, but is {declared}; pass "
            "options.label_range=[low,high] ([1,5] for ICT-MMMO, [-3,3] for CMU-MOSI and CMU-MOSEI)."
        )
    low, high = (float(bound) for bound in declared)
    inside = len(known) and low <= known[0] and known[-1] <= high  # what lies outside is another message
    if enough and inside and len(known) == 2 and known.tolist() != [low, high]:
        raise ValueError(
            f"{name}: labels of two values are classes, and their range is these values, {known.tolist()}, but [{low:g}, {high:g}] "
            f"is declared; pass options.label_range=[{known[0]:g},{known[1]:g}]."
        )
    if enough and inside and known[-1] - known[0] <= (high - low) / 3:
        raise ValueError(
            f"{name}: labels must use the declared range [{low:g}, {high:g}], but all {len(label)} lie in [{known[0]:g}, "
            f"{known[-1]:g}], a third of it or less; pass the scale that they are on, such as options.label_range=[-1,1] (CH-SIMS) "
            "or [0,1]."
        )
    return low, high


def describe_scale(label: Float[np.ndarray, "n targets"]) -> dict[str, Any]:
    """For the data card: the classes, where every label is one of two values."""
    known = np.unique(label[np.isfinite(label)])
    return {"classes": known.tolist()} if len(known) == 2 else {}
