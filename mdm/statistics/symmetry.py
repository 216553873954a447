"""Do the differences of paired runs lie symmetrically? A t test of their mean, the sign flip and Wilcoxon's shift all lean on it.

The triples of Randles, Fligner, Policello and Wolfe (1980): of any three differences, is the middle one nearer to the lower or to
the upper one? Unlike the third moment this hangs on no single run, so heavy tails that are symmetric set it off in .10 of ten runs
and not in .22 (Student's t of 3 degrees of freedom).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from jaxtyping import Float

from mdm.statistics.permutation import bound_rounding, check_values, subtract_pairs

DRAWS = 9_999
MOST_TRIPLES = 12_000_000
"""In all draws: under a second. Up to 20 runs there are 9,999 draws, 350 of 60 runs."""
CHUNK = 2_000_000


@dataclass(frozen=True)
class Symmetry:
    """How the differences of n paired runs lean.

    lean: (triples with a longer side above − below)/triples, from −1 to 1; about 0 for differences that lie symmetrically
    p: two-sided, of as large a lean among normal differences

    >>> Symmetry(10, 0.52, 0.012).warning
    'the differences of the 10 runs are skewed upwards (lean +.52, p = .012): a few runs decide their mean'
    """

    n: int
    lean: float
    p: float

    @property
    def warning(self) -> str:
        """A clause for a note; empty unless p < .05. Five runs hardly ever show what ten would."""
        if self.p >= 0.05:
            return ""
        lean, p = (f"{value:.{digits}f}".replace("0.", ".", 1) for value, digits in ((abs(self.lean), 2), (self.p, 3)))
        side, sign = ("upwards", "+") if self.lean > 0 else ("downwards", "−")
        return f"the differences of the {self.n} runs are skewed {side} (lean {sign}{lean}, p = {p}): a few runs decide their mean"


def check_symmetry(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> Symmetry:
    """The triples test of x − y, its law drawn among normal differences. A lean of 0 and p = 1 for fewer than three.

    Raises ValueError on arrays that are no pairs, and on values that are not finite.
    """
    check_values("check_symmetry", x, y, paired=True)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError(
            "Expected finite values to tell symmetry of, got infinite ones; give the pairs without a run that diverged."
        )
    n = len(x)
    if n < 3:
        return Symmetry(n, 0.0, 1.0)
    lean = float(measure_lean(subtract_pairs(x, y)[None], 4 * bound_rounding(x, y))[0])
    law = draw_leans(n)
    return Symmetry(n, lean, float((1 + (law >= abs(lean) - 1e-12).sum()) / (1 + len(law))))


def measure_lean(d: Float[np.ndarray, "draws n"], tolerance: float = 0.0) -> Float[np.ndarray, " draws"]:
    """Mean of sign(d₍ᵢ₎ + d₍ₖ₎ − 2 d₍ⱼ₎) over i < j < k of each sorted row; sums up to the tolerance have none."""
    low, middle, high = np.array(list(combinations(range(d.shape[1]), 3))).T
    d = np.sort(d, axis=1)
    lean = d[:, low] + d[:, high] - 2 * d[:, middle]
    return (np.sign(lean) * (np.abs(lean) > tolerance)).mean(1)


@lru_cache(maxsize=32)
def draw_leans(n: int) -> Float[np.ndarray, " draws"]:
    """|lean| of n normal values, many times. It has a generator of its own, so the draws are always the same."""
    triples, generator = math.comb(n, 3), np.random.default_rng(n)
    draws, rows = min(DRAWS, MOST_TRIPLES // triples), max(1, CHUNK // triples)
    values = generator.normal(size=(draws, n))
    return np.abs(np.concatenate([measure_lean(values[start : start + rows]) for start in range(0, draws, rows)]))
