"""``table.test=wilcoxon``: signed ranks of paired runs, with the shift that they speak of (`mdm.statistics.signed_rank`)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mdm.statistics.signed_rank import Zeros
from mdm.statistics.verdicts._base import Effect, Evidence, Statistic


class Wilcoxon(Statistic):
    """Over new seeds on this very test set, exact.

    >>> from dataclasses import replace
    >>> import numpy as np
    >>> from mdm.statistics.comparison import compare
    >>> from mdm.statistics.verdicts import expect_runs
    >>> system, baseline = np.array([1.0, 1.1, 1.2, 1.3, 1.4]), np.array([1.5, 1.7, 1.6, 1.9, 1.8])
    >>> found = replace(expect_runs(5), seeds=compare(system, baseline, lower_is_better=True))
    >>> round(Wilcoxon().compute_p(found), 4)
    0.0625
    """

    name = "Wilcoxon"
    title = "exact Wilcoxon test"
    heads = ("shift", "exact interval", "rank-biserial")

    def compute_p(self, found: Evidence) -> float:
        return found.seeds.wilcoxon

    def find_smallest(self, found: Evidence) -> float:
        return found.seeds.smallest_wilcoxon

    def count_zeros(self, found: Evidence) -> int:
        return found.seeds.zeros

    def measure(self, found: Evidence, alpha: float) -> Effect:
        ranks = found.ranks
        if ranks is None:
            return Effect(str(found.seeds.n), math.nan, (math.nan, math.nan), "", math.nan)
        pairs = str(ranks.n) if ranks.n == found.seeds.n else f"{found.seeds.n}, shift of {ranks.n}"
        return Effect(pairs, ranks.shift, ranks.interval, f"{100 * ranks.level:.1f} % over seeds", ranks.rank_biserial)

    def explain(self, found: Sequence[Evidence], family: int, zeros: Zeros) -> list[str]:
        of_zeros = {"pratt": "have no sign and keep their rank (Pratt)", "split": "give half of their rank to each side"}
        return [
            "Shift: Hodges and Lehmann's, the median of all means of two differences (system − baseline), with the exact interval "
            "of shifts that the test does not reject, at the level in brackets and not corrected for k. Rank-biserial: the share "
            f"of ranks above 0 less that below. Pairs that do not differ {of_zeros[zeros]}."
        ]
