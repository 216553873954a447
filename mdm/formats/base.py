"""Stage one, data: what the readers of `mdm.formats` share, from opened files to one checked table.

A reader turns its files into `RawSegment`s, one per segment; `assemble` does what must be the same for all of
them: a feature of zeros only counts as missing, values that are not finite become 0 and are counted, values far
beyond the others of their column are named, labels are clipped only on request, and the files' hashes go into the data card.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from mdm.data.base import FOLDS, Ragged, Segments, hash_file
from mdm.data.checks import check

TEXT = ("words", "tokens", "vectors")
"""Names of features that are kinds of text; every other feature is a modality of its own."""
FAR, SAMPLE = 1e6, 1 << 16
"""How many times its usual size a value may have before it is called extreme, and in how many rows one looks for the usual."""
logger = logging.getLogger(__name__)
ALIASES = {"train": "train", "valid": "valid", "dev": "valid", "test": "test"}
"""What files call the folds → what this framework calls them."""


@dataclass(frozen=True)
class RawSegment:
    """One segment as a reader hands it over.

    label: [targets]
    features: words (list of strings), token ids [time] or vectors [time, dim]; what is absent or has no step is missing
    """

    id: str
    fold: str
    group: str
    label: Float[np.ndarray, " targets"]
    features: Mapping[str, Shaped[np.ndarray, "time *dim"] | list[str]]


def require_existing(path: Path, what: str) -> Path:
    """The path. Raises ValueError if nothing can be found there."""
    try:
        path.stat()
    except FileNotFoundError:
        raise ValueError(f"{what} is read from {path}, but nothing is there; correct the path.") from None
    except OSError as error:
        raise ValueError(f"{what} is read from {path}, but it cannot be reached ({error.strerror}); correct the path.") from None
    return path


def require_folder(path: Path, what: str) -> Path:
    """The path. Raises ValueError if no folder is there."""
    if not require_existing(path, what).is_dir():
        raise ValueError(f"{what} is read from a folder, but {path} is none; pass the folder that holds the files.")
    return path


def require_file(path: Path, what: str) -> Path:
    """The path. Raises ValueError if no regular file is there: a pipe would never end."""
    if not require_existing(path, what).is_file():
        came = "a folder" if path.is_dir() else "no regular file"
        raise ValueError(f"{what} is read from a file, but {path} is {came}; correct the path.")
    return path


def split_by_fold(content: Any, where: str) -> dict[str, Any]:
    """What a file holds for train, valid (or dev) and test.

    Raises ValueError unless it is a mapping with exactly these three folds.
    """
    keys = [str(key)[:40] for key in list(content)[:12]] if isinstance(content, Mapping) else f"a {type(content).__name__}"
    if not isinstance(content, Mapping) or sorted(ALIASES.get(str(key), "") for key in content) != sorted(FOLDS):
        raise ValueError(
            f"{where} must be a dictionary of exactly three folds, train, valid (or dev) and test, but holds {keys}; "
            "rename, add or remove folds."
        )
    return {fold: content[key] for fold in FOLDS for key in content if ALIASES[key] == fold}


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


def assemble(
    rows: Sequence[RawSegment],
    *,
    format: str,
    source: str | Path,
    files: Sequence[Path],
    options: Mapping[str, Any],
    label_range: Sequence[float] | None,
    clip_labels: bool = False,
    name: str = "",
    targets: Sequence[str] = ("sentiment",),
    aligned: Sequence[str] = (),
    cleaned: Mapping[str, int] | None = None,
    dropped: Sequence[str] = (),
    notes: Mapping[str, Any] | None = None,
) -> Segments:
    """Rows → one checked table.

    aligned: features that have one step per word each, as far as they are present
    cleaned: values that the reader itself had to set to 0, per feature
    dropped: segments that the reader left out; those without any feature are left out here
    notes: further facts for the data card

    Raises ValueError on a label range that is not (low, high), a fold without segments, a feature of
    different widths or without a finite value, and whatever `check` refuses.
    """
    low, high = label_bounds(label_range, format)
    name = name or Path(source).resolve().stem
    kept, empty = divide_rows(rows, name)
    features, counts, extreme = clean_features(kept, name, cleaned or {})
    label = np.stack([np.asarray(row.label, np.float32) for row in kept])
    outside = ((label < low) | (label > high)) & clip_labels
    together = tuple(feature for feature in features if feature in aligned)
    return check(
        Segments(
            name=name,
            ids=tuple(row.id for row in kept),
            fold=np.array([row.fold for row in kept]),
            group=np.array([row.group for row in kept]),
            label=np.clip(label, low, high) if clip_labels else label,
            targets=tuple(targets),
            label_range=(low, high),
            modalities={f: r for f, r in features.items() if f not in TEXT},
            text={f: r for f, r in features.items() if f in TEXT},
            aligned=together if len(together) > 1 else (),
            source={
                "format": format,
                "files": {path.name: hash_file(path) for path in files},
                "options": {**options, "label_range": [low, high], "clip_labels": clip_labels},
                "cleaned": counts,
                "clipped_labels": int(outside.sum()),
                "dropped": [*dropped, *empty],
                **({"extreme": extreme} if extreme else {}),
                **(notes or {}),
            },
        )
    )


def label_bounds(label_range: Any, format: str) -> tuple[float, float]:
    """The scale of the labels. Raises ValueError unless it is (low, high)."""
    if not isinstance(label_range, list | tuple) or [type(x) in (int, float) for x in label_range] != [True, True]:
        raise ValueError(
            f"{format}: label_range must be (low, high), the scale of the labels, but is {label_range}; pass "
            "options.label_range=[low,high] ([1,5] for ICT-MMMO, [-3,3] for CMU-MOSI and CMU-MOSEI)."
        )
    low, high = (float(bound) for bound in label_range)
    return low, high


def divide_rows(rows: Sequence[RawSegment], name: str) -> tuple[list[RawSegment], list[str]]:
    """Segments with a feature, and the ids of those without any. Raises ValueError if a fold has none of the first."""
    kept = [row for row in rows if any(is_present(feature) for feature in row.features.values())]
    empty = [row.id for row in rows if not any(is_present(feature) for feature in row.features.values())]
    for fold in FOLDS:
        if not any(row.fold == fold for row in kept):
            raise ValueError(
                f"{name}: each of train, valid and test needs at least one segment, but {fold} has none; check the folds."
            )
    return kept, empty


def clean_features(
    rows: Sequence[RawSegment], name: str, cleaned: Mapping[str, int]
) -> tuple[dict[str, Ragged], dict[str, int], dict[str, dict[str, int]]]:
    """Every feature of all segments, kinds of text first, with what is not finite set to 0.

    Returns the features, how many values of each were set to 0 (``cleaned``: already by the reader), and for each how many values
    of which columns are far beyond the others (`count_far_values`).

    Raises ValueError where `stack` and `refuse_nothing_finite` do.
    """
    found = list(dict.fromkeys(feature for row in rows for feature in row.features))
    ids = [row.id for row in rows]
    features: dict[str, Ragged] = {}
    counts = dict(cleaned)
    extreme: dict[str, dict[str, int]] = {}
    for feature in (*(f for f in TEXT if f in found), *(f for f in found if f not in TEXT)):
        ragged = stack(feature, [row.features.get(feature) for row in rows], ids, name)
        if not ragged.tokens:
            bad = ~np.isfinite(ragged.values)
            refuse_nothing_finite(name, feature, int(bad.sum()), bad.size)
            ragged.values[bad] = 0
            counts[feature] = counts.get(feature, 0) + int(bad.sum())
            found_far = count_far_values(ragged.values)
            if found_far:
                extreme[feature] = found_far
                logger.warning(
                    "%s: %s has %d values more than %g times the usual size of their column (columns %s); scaling by such a "
                    "column flattens all others of it. Are they damaged? They are kept, and named in the data card.",
                    *(name, feature, sum(found_far.values()), FAR, ", ".join(list(found_far)[:5])),
                )
        features[feature] = ragged
    return features, counts, extreme
