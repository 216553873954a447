"""Stage one, data: what the readers of `mdm.formats` share, from opened files to one checked table.

A reader turns its files into `RawSegment`s, one per segment; `assemble` does what must be the same for all of
them: a feature of zeros only counts as missing, values that are not finite become 0 and are counted, values far
beyond the others of their column are named, labels are clipped only on request, and the files' hashes go into the data card.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from mdm.data.base import FOLDS, UNLABELED, Segments, hash_file
from mdm.data.checks import check
from mdm.formats.features import TEXT, clean_features, is_present
from mdm.formats.offsets import join_by_index
from mdm.formats.scale import FEWEST, describe_scale, label_bounds

logger = logging.getLogger(__name__)
ALIASES = {"train": "train", "valid": "valid", "dev": "valid", "test": "test"}
"""What files call the folds → what this framework calls them."""


@dataclass(frozen=True)
class RawSegment:
    """One segment as a reader hands it over.

    label: [targets]
    features: words (list of strings), token ids [time] or vectors [time, dim]; what is absent or has no step is missing
    unimodal: modality → [targets], a label by that modality alone
    """

    id: str
    fold: str
    group: str
    label: Float[np.ndarray, " targets"]
    features: Mapping[str, Shaped[np.ndarray, "time *dim"] | list[str]]
    unimodal: Mapping[str, Float[np.ndarray, " targets"]] = field(default_factory=dict)


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


def split_by_fold(content: Any, where: str, further: bool = False) -> dict[str, Any]:
    """What a file holds for train, valid (or dev) and test.

    further: whether the mapping may have other keys, which are left

    Raises ValueError unless it is a mapping with exactly these three folds.
    """
    if further and isinstance(content, Mapping):
        folds = {key: value for key, value in content.items() if str(key) in ALIASES}
        content = folds if folds else content
    keys = [str(key)[:40] for key in list(content)[:12]] if isinstance(content, Mapping) else f"a {type(content).__name__}"
    if not isinstance(content, Mapping) or sorted(ALIASES.get(str(key), "") for key in content) != sorted(FOLDS):
        raise ValueError(
            f"{where} must be a dictionary of exactly three folds, train, valid (or dev) and test, but holds {keys}; "
            "rename, add or remove folds."
        )
    return {fold: content[key] for fold in FOLDS for key in content if ALIASES[key] == fold}


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
    dropped: segments that the reader left out; those without any feature, and without a label to be validated or tested by, are
        left out here; those without a label in the training fold are its fold ``unlabeled``
    notes: further facts for the data card

    Raises ValueError on a label range that is not (low, high), a fold without segments, a feature of
    different widths or without a finite value, and whatever `check` refuses.
    """
    name = name or Path(source).resolve().stem
    rows, unlabelled, unscored = part_unlabelled(rows, name)
    kept, empty = divide_rows(rows, name)
    label = np.stack([np.asarray(row.label, np.float32) for row in kept])
    low, high = label_bounds(label_range, format, label, name)
    features, counts, absurd = clean_features([row.id for row in kept], [row.features for row in kept], name, cleaned or {})
    unimodal = {m: y for m, y in stack_unimodal(kept, len(targets)).items() if m == "language" or m in features}
    fold = np.array([row.fold for row in kept])
    group, unknown = find_groups([row.group for row in kept], name)
    facts = dict(notes or {})
    facts["joins"] = facts.get("joins", {}) | join_by_index(features, fold, name)
    left = list_unread(Path(source), files)
    outside = ((label < low) | (label > high)) & clip_labels
    together = tuple(feature for feature in features if feature in aligned)
    return check(
        Segments(
            name=name,
            ids=tuple(row.id for row in kept),
            fold=fold,
            group=group,
            label=np.clip(label, low, high) if clip_labels else label,
            unimodal={m: np.clip(y, low, high) if clip_labels else y for m, y in unimodal.items()},
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
                "dropped": [*dropped, *empty, *unscored],
                **({"unlabelled": unlabelled} if unlabelled else {}),
                **absurd,
                **describe_scale(label),
                **({"groups": unknown} if unknown else {}),
                **({"files_left": left} if left else {}),
                **facts,
            },
        )
    )


def stack_unimodal(rows: Sequence[RawSegment], targets: int) -> dict[str, Float[np.ndarray, "n targets"]]:
    """The labels of each modality alone; NaN where a segment has none, or is of the fold ``unlabeled``."""
    stacked = {}
    for modality in dict.fromkeys(modality for row in rows for modality in row.unimodal):
        nothing = np.full(targets, np.nan)
        given = [row.unimodal.get(modality, nothing) if row.fold != UNLABELED else nothing for row in rows]
        stacked[modality] = np.stack(given).astype(np.float32)
    return stacked


def find_groups(groups: Sequence[str], name: str) -> tuple[Shaped[np.ndarray, " n"], str]:
    """The video of each segment, and what is to be said where the files do not tell it.

    Where each segment would be a group of its own, and the groups are videos with a number behind (``vid_3``, as the public pickle
    of MulT names CMU-MOSI's segments), the groups are what stands before the number.
    """
    if len(set(groups)) < len(groups):
        return np.array(groups), ""
    videos = [re.sub(r"(\[\d+\]|\$_\$\d+|_\d+)$", "", group) for group in groups]
    if set(videos) & set(FOLDS) or len(set(videos)) > len(groups) / 2:
        said = "each segment is a group of its own; if videos have several, the ids do not tell, and new folds may mix them"
        if len(groups) >= FEWEST:
            logger.warning("%s: %s.", name, said)
        return np.array(groups), said
    return np.array(videos), "the ids without the number behind them, for every id is another"


def list_unread(source: Path, files: Sequence[Path]) -> list[str]:
    """Names of the files of a folder that were not read; the first hundred."""
    if not source.is_dir():
        return []
    left = sorted(path.name for path in source.iterdir() if path.name not in {file.name for file in files})
    if left:
        logger.info("%s: %d files play no role and were left: %s.", source, len(left), ", ".join(left[:10]))
    return left[:100]


def part_unlabelled(rows: Sequence[RawSegment], name: str) -> tuple[list[RawSegment], dict[str, int], list[str]]:
    """Segments, those without any label (NaN throughout) that would train in the fold ``unlabeled``; how many these are, and how
    many are left out of each other fold; and which are left out. All is warned of."""
    empty = [bool(np.isnan(np.asarray(row.label, np.float64)).all()) for row in rows]
    if not any(empty):
        return list(rows), {}, []
    counts = Counter(row.fold or "no fold" for row, lacks in zip(rows, empty, strict=True) if lacks)
    logger.warning(
        "%s: %s have no label; those of train are its fold unlabeled, and the others are left out, for they cannot be scored.",
        *(name, ", ".join(f"{n} segments of {fold}" for fold, n in counts.items())),
    )
    unscored = [row.id for row, lacks in zip(rows, empty, strict=True) if lacks and row.fold not in ("train", UNLABELED)]
    moved = [
        replace(row, fold=UNLABELED) if lacks else row
        for row, lacks in zip(rows, empty, strict=True)
        if not lacks or row.fold in ("train", UNLABELED)
    ]
    return moved, dict(counts), unscored


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
