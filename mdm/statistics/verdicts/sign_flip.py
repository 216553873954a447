"""``table.test=sign_flip``: the mean of paired differences, had their signs fallen otherwise (`mdm.statistics.permutation`)."""

from __future__ import annotations

from mdm.statistics.families import smallest_p
from mdm.statistics.verdicts._base import Found, Statistic


class SignFlip(Statistic):
    """Over new seeds on this very test set, exact up to 40 pairs."""

    name = "sign-flip"
    title = "exact sign-flip test"

    def compute_p(self, found: Found) -> float:
        return found.seeds.sign_flip

    def find_smallest(self, found: Found) -> float:
        return smallest_p("sign_flip", found.seeds.n, found.seeds.zeros)

    def count_zeros(self, found: Found) -> int:
        return found.seeds.zeros
