"""``table.test=mann_whitney``: ranks of runs that are no pairs, as Colombo et al. test them (`mdm.statistics.permutation`)."""

from __future__ import annotations

from mdm.statistics.families import smallest_p
from mdm.statistics.verdicts._base import Evidence, Statistic


class MannWhitney(Statistic):
    """Over new seeds on this very test set, exact."""

    name = "Mann–Whitney"
    title = "exact Mann–Whitney test"

    def compute_p(self, found: Evidence) -> float:
        return found.seeds.mann_whitney

    def find_smallest(self, found: Evidence) -> float:
        return smallest_p("mann_whitney", found.seeds.n)
