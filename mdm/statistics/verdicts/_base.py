"""What a table's statistic is, and what it may read."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from mdm.statistics.comparison import Comparison, Verdict, judge_family
from mdm.statistics.crossed import Crossed, cannot_tell
from mdm.statistics.signed_rank import SignedRank, Zeros


@dataclass(frozen=True)
class Evidence:
    """What all tests say of a row against its baseline, in the table's units.

    crossed: for new seeds and new videos
    seeds: for new seeds on this very test set; a run without a metric is the worst of all
    ranks: signed ranks of the pairs that count in ``crossed``; None if there are none
    skew: a warning where the differences of these pairs are skewed
    values: the metric of the row's runs and of its baseline's, paired by seed; NaN where a run has none; None where no run is there

    >>> expect_runs(10).crossed.reason
    'cannot be told: its runs are not there'
    """

    crossed: Crossed
    seeds: Comparison
    ranks: SignedRank | None
    skew: str
    values: tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]] | None = None


def expect_runs(seeds: int) -> Evidence:
    """A comparison whose runs are not there: it counts in its family with p = 1, and with the smallest p of so many seeds."""
    nothing = Comparison(seeds, 0, math.nan, (math.nan, math.nan), 1.0, 1.0, 1.0, 1.0, 2 / 2**seeds, 0.5, 0.0)
    return Evidence(cannot_tell("its runs are not there"), nothing, None, "")


@dataclass(frozen=True)
class Effect:
    """How large a difference is and how sure that is, as a statistic has it.

    pairs: how many count, in words; interval: its ends, and in ``level`` at which level
    more: beside them, under the last of the statistic's heads: a number of two decimals, or shares in percent
    reason: why it cannot be told, and p is none; note: what a reader should know all the same

    >>> Effect("10", -0.12, (-0.2, -0.04)).level
    '95 % over seeds'
    """

    pairs: str
    size: float
    interval: tuple[float, float]
    level: str = "95 % over seeds"
    more: float | tuple[float, float, float] | None = None
    reason: str = ""
    note: str = ""


class Statistic(ABC):
    """What stars the rows of a table: a p of each row against its baseline. PICK ONE by ``table.test``.

    name: over its column of p; star: its sign; heads: of its columns of sizes and intervals
    reach: of what it speaks; rule: when it stars, before Holm's correction
    leaves_out: whether it has a rule that leaves out runs which stopped without a record; to others they are missing

    >>> from scipy.stats import ttest_ind
    >>> class Welch(Statistic):
    ...     name = "Welch"
    ...     def compute_p(self, found):
    ...         return float(ttest_ind(*found.values, equal_var=False, nan_policy="omit").pvalue)
    >>> Welch().reach
    'on this very test set (Welch)'
    """

    name: ClassVar[str]
    star: ClassVar[str] = "☆"
    heads: ClassVar[tuple[str, ...]] = ("difference", "95 % over seeds")
    rule: ClassVar[str] = "p < .05"
    leaves_out: ClassVar[bool] = False

    @abstractmethod
    def compute_p(self, found: Evidence) -> float:
        """The two-sided p of a comparison whose runs are there."""

    def find_smallest(self, found: Evidence) -> float:
        """The smallest p that so many pairs could have had; 0 where no limit is known."""
        return 0.0

    def judge(self, family: Sequence[Evidence]) -> list[Verdict]:
        """A verdict for each comparison that a table declares, those among them whose runs are not there.

        Raises ValueError on a p outside [0, 1].
        """
        p = np.array([1.0 if found.values is None else self.compute_p(found) for found in family], dtype=np.float64)
        least = np.array([self.find_smallest(found) for found in family], dtype=np.float64)
        return judge_family(p, least, [(found.seeds.n, self.count_zeros(found)) for found in family])

    def count_zeros(self, found: Evidence) -> int:
        """Pairs that do not differ, where this makes the smallest p larger."""
        return 0

    def measure(self, found: Evidence, alpha: float) -> Effect:
        """How large the difference is. alpha: of a simultaneous interval."""
        return Effect(str(found.seeds.n), found.seeds.difference, found.seeds.interval)

    @property
    def reach(self) -> str:
        return f"on this very test set ({self.name})"

    @property
    def meaning(self) -> str:
        """A star in plain words."""
        return (
            f"the runs differ from the row's baseline on this very test set, by the {self.title} over seeds; another test set may "
            "not show it"
        )

    @property
    def title(self) -> str:
        return f"{self.name} test"

    def explain(self, found: Sequence[Evidence], family: int, zeros: Zeros) -> list[str]:
        """What a reader must know of its columns, a sentence or a few each. family: comparisons that the table declares."""
        return ["Differences are system − baseline, with the 95 % t interval over paired seeds, not corrected for k."]
