"""``table.test=sign_flip``: the mean of paired differences, had their signs fallen otherwise (`mdm.statistics.permutation`)."""

from __future__ import annotations

from mdm.statistics.families import smallest_p
from mdm.statistics.verdicts._base import Evidence, Statistic


class SignFlip(Statistic):
    """Over new seeds on this very test set, exact up to 40 pairs."""

    name = "sign-flip"
    title = "exact sign-flip test"

    def compute_p(self, found: Evidence) -> float:
        return found.seeds.sign_flip

    def find_smallest(self, found: Evidence) -> float:
        return smallest_p("sign_flip", found.seeds.n, found.seeds.zeros)

    def count_zeros(self, found: Evidence) -> int:
        return found.seeds.zeros
