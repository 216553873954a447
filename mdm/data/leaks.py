"""Stage one, data: what of one fold is in another, groups that span folds and segments that are there twice."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from jaxtyping import Int, Shaped

from mdm.data.base import UNLABELED, Segments

Groups = Literal["apart", "shared"]
"""Whether a group may be in several folds."""
EQUAL, SPANNING = "equal_rows", "groups_in_several_folds"
"""Where a data card has what `describe_leaks` says."""
logger = logging.getLogger(__name__)


def check_groups(segments: Segments, fold: Shaped[np.ndarray, " n"], groups: Groups) -> int:
    """How many groups are in several folds; unlabelled segments train, and one without a name is no group.

    Raises ValueError if there is one and they have to be apart.
    """
    where: dict[str, set[str]] = {}
    for group, name in zip(segments.group.tolist(), fold.tolist(), strict=True):
        if name and group != "":
            where.setdefault(str(group), set()).add("train" if name == UNLABELED else name)
    spanning = {group: sorted(folds) for group, folds in where.items() if len(folds) > 1}
    if spanning and groups == "apart":
        some = "; ".join(f"{group} in {' and '.join(folds)}" for group, folds in list(spanning.items())[:3])
        raise ValueError(
            f"{segments.name}: a group (a video, a speaker) must be in one fold, or what is tested was trained on, but "
            f"{len(spanning)} of {len(where)} are in several ({some}); divide by groups, or say that it is meant by "
            "data.groups=shared (of mdm prepare: groups=shared), and tables will say so."
        )
    return len(spanning)


def find_equal_rows(segments: Segments) -> list[list[int]]:
    """Sets of rows that are the same in every feature, words included; their labels may differ."""
    sets: dict[bytes, list[int]] = {}
    for i, key in hash_rows(segments, np.arange(len(segments)), segments.features).items():
        sets.setdefault(key, []).append(i)
    return [rows for rows in sets.values() if len(rows) > 1]


def warn_of_copies(segments: Segments, fold: Shaped[np.ndarray, " n"]) -> int:
    """Warn of segments that are the same in two folds, and return how many sets of them there are.

    Of a store what its card says is believed, since looking would read all of it.
    """
    if EQUAL in segments.source:
        place = {name: i for i, name in enumerate(segments.ids)}
        sets = [[place[name] for name in names] for names in segments.source[EQUAL]["ids"]]
    else:
        sets = [] if segments.digests else find_equal_rows(segments)
    across = [rows for rows in sets if len({str(fold[i]) for i in rows} - {""}) > 1]
    if across:
        some = "; ".join(", ".join(f"{segments.ids[i]} ({fold[i] or 'no fold'})" for i in rows[:4]) for rows in across[:3])
        logger.warning(
            "%s: %d sets of segments have the same features in several folds, so what is tested was trained on or chosen by: %s. "
            "Are they copies? They are kept.",
            *(segments.name, len(across), some),
        )
    return len(across)


def describe_leaks(segments: Segments, groups: Groups) -> Mapping[str, Any]:
    """What a data card says of groups that span the data's own folds, and of equal rows; empty if there are neither.

    Raises ValueError where `check_groups` does.
    """
    spanning, equal = check_groups(segments, segments.fold, groups), find_equal_rows(segments)
    across = sum(len({str(segments.fold[i]) for i in rows} - {""}) > 1 for rows in equal)
    ids = [[segments.ids[i] for i in rows] for rows in equal]
    return {
        **({SPANNING: spanning} if spanning else {}),
        **({EQUAL: {"sets": len(equal), "across_folds": across, "ids": ids}} if equal else {}),
    }


def hash_rows(segments: Segments, rows: Int[np.ndarray, " k"], features: Iterable[str]) -> dict[int, bytes]:
    """Row → one hash of its features, words as what they are; rows without a step in any of them are left out."""
    found = {}
    ragged = {name: segments.features[name] for name in features}
    for i in rows.tolist():
        if not any(r.offsets[i + 1] > r.offsets[i] for r in ragged.values()):
            continue
        total = hashlib.blake2b(digest_size=16)
        for name, r in ragged.items():
            total.update(f"{name}{r[i].shape}".encode())
            content = "\n".join(r.vocabulary[k] for k in r[i]).encode() if r.vocabulary else np.ascontiguousarray(r[i]).data
            total.update(content)
        found[i] = total.digest()
    return found


def hash_labelled(segments: Segments, rows: Int[np.ndarray, " k"], features: Iterable[str]) -> dict[int, bytes]:
    """The same of features and label; rows without a label are left out."""
    labelled = rows[np.isfinite(segments.label[rows]).all(1)]
    return {i: key + segments.label[i].astype(np.float32).tobytes() for i, key in hash_rows(segments, labelled, features).items()}
