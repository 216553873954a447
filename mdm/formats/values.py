"""Stage one, data: one segment's entries, as files of all ages write them, in one form each: numbers, labels, words, ids."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from jaxtyping import Float


def matrix(value: Any, where: str) -> Float[np.ndarray, "time dim"]:
    """Numbers of one segment as float32 [time, dim]; no steps at all is allowed.

    Raises ValueError if they are not numbers or have another shape.
    """
    try:
        with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which `assemble` counts
            array = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError):
        raise ValueError(f"{where} must be numbers [time, dim], but holds something else; is the order of fields right?") from None
    if array.size == 0:
        return np.zeros((0, 0), np.float32)
    if array.ndim != 2:
        raise ValueError(f"{where} must have shape [time, dim], but has {list(array.shape)}; is this file of another format?")
    return array


def shown(value: Any) -> str:
    """The beginning of a value, on one line, for a message."""
    return " ".join(repr(value).split())[:60]


def first_label(value: Any, where: str) -> Float[np.ndarray, "1"]:
    """The sentiment of one segment: a number, or the first column of a single row (emotions may follow it)."""
    try:
        label = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError):
        label = np.zeros(0, np.float32)
    if label.size == 0 or label.ndim > 2 or (label.ndim == 2 and len(label) != 1):
        raise ValueError(f"{where}'s label must be a number or one row of numbers, but is {shown(value)}; check the labels.")
    return label.reshape(-1)[:1]


def strings(value: Any, where: str) -> list[str]:
    """The words of one segment; bytes are decoded. Raises ValueError if it is not a sequence of words."""
    words = np.asarray(value).reshape(-1).tolist() if isinstance(value, list | tuple | np.ndarray) else [None]
    if not all(isinstance(word, str | bytes) for word in words):
        raise ValueError(f"{where} must be a list of words, but is {shown(value)}; is the order of fields right?")
    return [word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word) for word in words]


def trim(*arrays: Float[np.ndarray, "time _"]) -> tuple[Float[np.ndarray, "steps _"], ...]:
    """Cut the steps in front and behind at which every array is zero, from all of them alike.

    Steps between are kept: a face lost for a moment leaves zeros there, too.
    """
    filled = np.flatnonzero(np.any([(array != 0).any(1) for array in arrays], axis=0))
    real = slice(filled[0], filled[-1] + 1) if len(filled) else slice(0)
    return tuple(array[real] for array in arrays)


def identify(value: Any) -> tuple[str, str]:
    """(segment id, video) from what files call a segment.

    ``vid[k]``, ``vid$_$k``, ``vid_k`` (any of them alone or first in an array), or an array (vid, start, end).
    """
    parts = [str(p, "utf-8") if isinstance(p, bytes) else str(p) for p in np.asarray(value).reshape(-1).tolist()] or [""]
    if len(parts) == 3 and all(re.fullmatch(r"\d+(\.\d*)?", part) for part in parts[1:]):
        return f"{parts[0]}[{parts[1]}:{parts[2]}]", parts[0]
    return parts[0], re.sub(r"(\[\d+\]|\$_\$\d+|_\d+)$", "", parts[0])
