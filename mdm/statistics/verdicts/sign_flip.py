"""``table.test=sign_flip``: the mean of paired differences, had their signs fallen otherwise (`mdm.statistics.permutation`)."""

from __future__ import annotations

from mdm.statistics.families import smallest_p
from mdm.statistics.verdicts._base import Evidence, Statistic


class SignFlip(Statistic):
    """Over new seeds on this very test set, exact up to 40 pairs.

    >>> from dataclasses import replace
    >>> import numpy as np
    >>> from mdm.statistics.comparison import compare
    >>> from mdm.statistics.verdicts import expect_runs
    >>> system, baseline = np.array([1.0, 1.1, 1.2, 1.3, 1.4]), np.array([1.5, 1.7, 1.6, 1.9, 1.8])
    >>> found = replace(expect_runs(5), seeds=compare(system, baseline, lower_is_better=True))
    >>> round(SignFlip().compute_p(found), 4)
    0.0625
    """

    name = "sign-flip"
    title = "exact sign-flip test"

    def compute_p(self, found: Evidence) -> float:
        return found.seeds.sign_flip

    def find_smallest(self, found: Evidence) -> float:
        return smallest_p("sign_flip", found.seeds.n, found.seeds.zeros)

    def count_zeros(self, found: Evidence) -> int:
        return found.seeds.zeros
