"""Stage one, data: one feature of all segments, put end to end and cleaned; values that cannot be meant are found and named."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from mdm.data.base import Ragged

TEXT = ("words", "tokens", "vectors")
"""Names of features that are kinds of text; every other feature is a modality of its own."""
FAR, SAMPLE = 1e6, 1 << 16
"""How many times its usual size a value may have before it is called extreme, and in how many rows one looks for the usual."""
ABSURD = 1e37
"""Values from this size on count as not finite: programs write -3.4e38, float32's lowest, for "no value"."""
OUTSIDE, REPEATED = 30, 3
"""A sentinel lies so many interquartile ranges from its column's median, and stands there so often at least."""
logger = logging.getLogger(__name__)


def is_present(feature: Shaped[np.ndarray, "time *dim"] | list[str] | None) -> bool:
    """Whether a segment has a feature: at least one step, and vectors that are not zero throughout.

    Files without a way to say "missing" write zeros; `Segments` has one, an empty sequence.
    """
    if feature is None or len(feature) == 0:
        return False
    return isinstance(feature, list) or feature.ndim == 1 or bool(feature.any())


def stack(feature: str, sequences: Sequence[Any], ids: Sequence[str], where: str) -> Ragged:
    """One feature of all segments end to end. Raises ValueError if its width differs between segments."""
    filled = {k: sequence for k, sequence in enumerate(sequences) if is_present(sequence)}
    if any(isinstance(sequence, list) for sequence in filled.values()):
        return Ragged.of_words([filled.get(k, []) for k in range(len(ids))])
    widths = {sequence.shape[1:]: ids[k] for k, sequence in filled.items()}
    if len(widths) > 1:
        examples = ", ".join(f"{list(width)} ({segment})" for width, segment in widths.items())
        raise ValueError(
            f"{where}: {feature} must have one width in all segments, but has {examples}; these are different features."
        )
    empty = np.zeros((0, *next(iter(widths), ())), np.float32)
    return Ragged.of([filled.get(k, empty) for k in range(len(ids))])


def refuse_nothing_finite(where: str, feature: str, bad: int, seen: int) -> None:
    """Raises ValueError for a feature in which no value is finite: cleaning would invent it."""
    if bad and bad == seen:
        raise ValueError(
            f"{where}: {feature} must hold finite values, but all {seen} are NaN or infinite; leave it out or extract it again."
        )


def count_far_values(values: Float[np.ndarray, "steps dim"]) -> dict[str, int]:
    """Column → how many of its values are more than `FAR` times as large as its non-zero values usually are; none left out.

    What is usual is the median of the absolute values, which a few damaged ones do not move, of at most `SAMPLE` rows evenly apart.
    Of a normal column no value is as far; of a Cauchy's one in 1.6 million (2 / (pi FAR)), for a tail is as heavy as that seldom.
    """
    found = {}
    largest = np.maximum(values.max(0, initial=0), -values.min(0, initial=0))
    sample = np.abs(values[:: max(1, len(values) // SAMPLE)])
    for column in np.flatnonzero(largest > 0):
        usual = sample[:, column][sample[:, column] > 0]
        bound = FAR * float(np.median(usual)) if len(usual) else np.inf
        if largest[column] > bound:
            found[str(column)] = int((np.abs(values[:, column]) > bound).sum())
    return found


def find_sentinels(values: Float[np.ndarray, "steps dim"]) -> dict[str, float]:
    """Column → its lowest or highest value, where that is repeated exactly and far outside of the robust range of the others.

    The range is `OUTSIDE` interquartile ranges around the median of the non-zero values, of at most `SAMPLE` rows evenly apart. A
    column of a few values only (interquartile range 0) has no range. A measured value seldom comes `REPEATED` times to the bit.
    """
    found: dict[str, float] = {}
    sample = values[:: max(1, len(values) // SAMPLE)]
    ends = {0: values.min(0, initial=0), 1: values.max(0, initial=0)}
    for column in range(values.shape[1]):
        usual = sample[:, column][sample[:, column] != 0]
        if len(usual) < 4:
            continue
        low, middle, high = (float(q) for q in np.quantile(usual, [0.25, 0.5, 0.75]))
        for end in (float(ends[0][column]), float(ends[1][column])):
            if high > low and abs(end - middle) > OUTSIDE * (high - low) and (values[:, column] == end).sum() >= REPEATED:
                found[str(column)] = end
    return found


def clean_features(
    ids: Sequence[str], rows: Sequence[Mapping[str, Any]], name: str, cleaned: Mapping[str, int]
) -> tuple[dict[str, Ragged], dict[str, int], dict[str, dict[str, dict[str, Any]]]]:
    """Every feature of all segments, kinds of text first, with what is not finite, or as good as that (`ABSURD`), set to 0.

    Returns the features, how many values of each were set to 0 (``cleaned``: already by the reader), and what of their values is
    to be told: ``extreme``, how many values of which columns are far beyond the others (`count_far_values`), and ``sentinels``,
    the value that stands in a column for none (`find_sentinels`).

    Raises ValueError where `stack` and `refuse_nothing_finite` do.
    """
    found = list(dict.fromkeys(feature for row in rows for feature in row))
    features: dict[str, Ragged] = {}
    counts = dict(cleaned)
    absurd: dict[str, dict[str, dict[str, Any]]] = {"extreme": {}, "sentinels": {}}
    for feature in (*(f for f in TEXT if f in found), *(f for f in found if f not in TEXT)):
        ragged = stack(feature, [row.get(feature) for row in rows], ids, name)
        if not ragged.tokens:
            bad = ~(np.abs(ragged.values) < ABSURD)
            refuse_nothing_finite(name, feature, int(bad.sum()), bad.size)
            ragged.values[bad] = 0
            counts[feature] = counts.get(feature, 0) + int(bad.sum())
            far, sentinels = count_far_values(ragged.values), find_sentinels(ragged.values)
            if far:
                absurd["extreme"][feature] = far
                logger.warning(
                    "%s: %s has %d values more than %g times the usual size of their column (columns %s); scaling by such a "
                    "column flattens all others of it. Are they damaged? They are kept, and named in the data card.",
                    *(name, feature, sum(far.values()), FAR, ", ".join(list(far)[:5])),
                )
            if sentinels:
                absurd["sentinels"][feature] = sentinels
                told = ", ".join(f"{value:g} in column {column}" for column, value in list(sentinels.items())[:5])
                logger.warning(
                    "%s: %s repeats one value far outside of its column's range (%s); does it stand for a missing one? "
                    "It is kept, and named in the data card.",
                    *(name, feature, told),
                )
        features[feature] = ragged
    return features, counts, {what: of for what, of in absurd.items() if of}
