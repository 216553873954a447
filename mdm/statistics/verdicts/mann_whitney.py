"""``table.test=mann_whitney``: ranks of runs that are no pairs, as Colombo et al. test them (`mdm.statistics.permutation`)."""

from __future__ import annotations

from mdm.statistics.families import smallest_p
from mdm.statistics.verdicts._base import Evidence, Statistic


class MannWhitney(Statistic):
    """Over new seeds on this very test set, exact.

    >>> from dataclasses import replace
    >>> import numpy as np
    >>> from mdm.statistics.comparison import compare
    >>> from mdm.statistics.verdicts import expect_runs
    >>> system, baseline = np.array([1.0, 1.1, 1.2, 1.3, 1.4]), np.array([1.5, 1.7, 1.6, 1.9, 1.8])
    >>> found = replace(expect_runs(5), seeds=compare(system, baseline, lower_is_better=True))
    >>> round(MannWhitney().compute_p(found), 4)
    0.0079
    """

    name = "Mann–Whitney"
    title = "exact Mann–Whitney test"

    def compute_p(self, found: Evidence) -> float:
        return found.seeds.mann_whitney

    def find_smallest(self, found: Evidence) -> float:
        return smallest_p("mann_whitney", found.seeds.n)
