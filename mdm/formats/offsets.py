"""Stage one, data: how well two columns belong together as they are joined, and at the offsets beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from mdm.data.base import FOLDS, Ragged

ROWS = range(-3, 4)
MARGIN, ERRORS = 0.1, 5.0
"""By how much a correlation or a share must be higher to be clearly so, and by how many standard errors."""


def correlate(a: Shaped[np.ndarray, " n"], b: Shaped[np.ndarray, " n"]) -> float:
    """Spearman's rank correlation, 0 where either is constant."""
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    from scipy.stats import rankdata  # not what `--help` should wait for

    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def summarise(scores: Mapping[Any, float], n: int, used: Any, option: str) -> dict[str, Any]:
    """Correlation at the offset used and at the best, and whether that is clearly better; n: pairs behind each."""
    best = max(scores, key=lambda offset: (scores[offset], offset == used))
    return {
        "correlation": round(scores[used], 3),
        f"best_{option}": best,
        "best_correlation": round(scores[best], 3),
        "clearly_better": best != used and clearly_better(scores[best], scores[used], n),
    }


def clearly_better(best: float, used: float, n: int) -> bool:
    """Whether a correlation of n pairs is the higher one by `MARGIN`, and by `ERRORS` standard errors of Fisher's z.

    z = artanh r has the variance 1 / (n - 3), and the difference of two at most twice that (they are positively correlated).
    """
    apart = np.arctanh(min(best, 0.999)) - np.arctanh(min(used, 0.999))
    return bool(n > 3 and best - used > MARGIN and apart > ERRORS * np.sqrt(2 / (n - 3)))


def displaced(n: int, rows: int) -> tuple[slice, slice]:
    """(values, places) of n rows: which values lie on which places once values come from ``rows`` rows later."""
    kept = max(0, n - abs(rows))
    values, places = max(0, rows), max(0, -rows)
    return slice(values, values + kept), slice(places, places + kept)


def filled_steps(ragged: Ragged) -> Int[np.ndarray, " n"]:
    """How many steps of each sequence are not zero throughout; of words, all."""
    if ragged.tokens:
        return ragged.lengths
    filled = np.zeros(len(ragged.values) + 1, np.int64)
    for start in range(0, len(ragged.values), 1 << 16):
        chunk = ragged.values[start : start + (1 << 16)]
        filled[start + 1 : start + 1 + len(chunk)] = (chunk != 0).any(1)
    total = np.cumsum(filled)
    return total[ragged.offsets[1:]] - total[ragged.offsets[:-1]]


def join_by_index(features: Mapping[str, Ragged], fold: Shaped[np.ndarray, " n"], name: str) -> dict[str, dict[str, Any]]:
    """For each pair of features, how their numbers of filled steps correlate: in each segment, and between segments k rows apart.

    Long sentences take many frames. Files whose columns are in different orders lose that; where one lies rows beside the other,
    it comes back at that offset. Segments that lack either feature do not count, and no row passes from one fold to another.

    Raises ValueError if other rows fit clearly better.
    """
    steps = {feature: filled_steps(ragged) for feature, ragged in features.items()}
    found: dict[str, dict[str, Any]] = {}
    names = list(steps)
    for k, one in enumerate(names):
        for other in names[k + 1 :]:
            pairs: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {offset: [] for offset in ROWS}
            for here in [np.flatnonzero(fold == part) for part in FOLDS]:
                for offset in ROWS:
                    later, place = displaced(len(here), offset)
                    a, b = steps[one][here[place]], steps[other][here[later]]
                    pairs[offset].append((a[(a > 0) & (b > 0)], b[(a > 0) & (b > 0)]))
            joined = {o: tuple(np.concatenate(column) for column in zip(*parts, strict=True)) for o, parts in pairs.items()}
            scores = {offset: correlate(*columns) for offset, columns in joined.items()}
            facts = summarise(scores, len(joined[0][0]), 0, "row_offset")
            if facts["clearly_better"]:
                raise ValueError(
                    f"{name}: {one} and {other} must be of the same segments row by row, but their lengths agree better with "
                    f"{other} taken {facts['best_row_offset']} rows later (correlation {facts['best_correlation']} against "
                    f"{facts['correlation']}); one of them is displaced in the files, write these again or leave it out."
                )
            found[f"{one} and {other}"] = {"lengths_by_rows": facts}
    return found
