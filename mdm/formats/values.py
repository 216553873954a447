"""Stage one, data: one segment's entries, as files of all ages write them, in one form each: numbers, labels, words, ids."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped


def read_numbers(value: Any) -> Shaped[np.ndarray, "..."] | None:
    """An array of real numbers as float32; None where any of it is something else: a text that spells one, None, a complex one."""
    try:
        array = np.asarray(value)
        if array.dtype.kind == "O":  # an array of objects may hold numbers all the same
            array = np.asarray(array.tolist())
    except (TypeError, ValueError, OverflowError):
        return None
    if array.size and array.dtype.kind not in "biuf":
        return None
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which `assemble` counts
        return np.zeros(array.shape, np.float32) if array.size == 0 else array.astype(np.float32)


def read_matrix(value: Any, where: str) -> Float[np.ndarray, "time dim"]:
    """Numbers of one segment as float32 [time, dim]; no steps at all is allowed.

    Raises ValueError if they are not numbers or have another shape.
    """
    array = read_numbers(value)
    if array is None:
        raise ValueError(f"{where} must be numbers [time, dim], but holds something else; is the order of fields right?")
    if array.size == 0:
        return np.zeros((0, 0), np.float32)
    if array.ndim != 2:
        raise ValueError(f"{where} must have shape [time, dim], but has {list(array.shape)}; is this file of another format?")
    return array


def format_value(value: Any) -> str:
    """The beginning of a value, on one line, for a message."""
    text = f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) and value.size > 8 else repr(value)
    return " ".join(text.split())[:60]


def first_label(value: Any, where: str) -> Float[np.ndarray, "1"]:
    """The sentiment of one segment: a number, or the first column of a single row (emotions may follow it)."""
    label = read_numbers(value)
    if label is None or label.size == 0 or label.ndim > 2 or (label.ndim == 2 and len(label) != 1):
        raise ValueError(f"{where}'s label must be a number or one row of numbers, but is {format_value(value)}; check the labels.")
    return label.reshape(-1)[:1]


def decode_text(value: Any, where: str) -> str:
    """A text as files of all ages write one. Raises ValueError unless it is a string, or bytes of UTF-8."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    try:
        text = value.decode("utf-8") if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        text = None
    if not isinstance(text, str):
        raise ValueError(f"{where} must be a text, but is {format_value(value)}; is this file of another format?")
    return str(text)


def read_words(value: Any, where: str) -> list[str]:
    """The words of one segment; bytes are decoded. Raises ValueError if it is not a sequence of words (NaN and None are none)."""
    words = value.reshape(-1).tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(words, list | tuple) or not all(isinstance(word, str | bytes) for word in words):
        raise ValueError(f"{where} must be a list of words, but is {format_value(value)}; is the order of fields right?")
    return [word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word) for word in words]


MISSING = ("nan", "NaN", "None", "<NA>")
"""What pandas and numpy make of a text that is not there, once they write it as one."""
UNSPACED = "\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003134f"
"""Characters of scripts without blanks, Chinese and Japanese, and their punctuation."""


def split_words(text: str) -> list[str]:
    """The words of a sentence: what stands between blanks, and each character of a script that has none; none in a missing text."""
    if text.strip() in MISSING:
        return []
    return re.findall(rf"[{UNSPACED}]|[^\s{UNSPACED}]+", text.replace("\u3000", " "))


def read_steps(value: Any, steps: int, where: str) -> int:
    """How many of a segment's steps are real, as the file says. Raises ValueError unless it is a whole number of 0 to ``steps``."""
    array = np.asarray(value)
    given = array.reshape(-1)[0] if array.size == 1 and array.dtype.kind in "iuf" else np.nan
    if not (0 <= given <= steps and given == int(given)):
        raise ValueError(
            f"{where} must be a whole number from 0 to the number of steps ({steps}), but is {format_value(value)}; "
            "the file is damaged."
        )
    return int(given)


def trim(*arrays: Float[np.ndarray, "time _"]) -> tuple[Float[np.ndarray, "steps _"], ...]:
    """Cut the steps in front and behind at which every array is zero, from all of them alike.

    Steps between are kept: a face lost for a moment leaves zeros there, too.
    """
    filled = np.flatnonzero(np.any([(array != 0).any(1) for array in arrays], axis=0))
    real = slice(filled[0], filled[-1] + 1) if len(filled) else slice(0)
    return tuple(array[real] for array in arrays)


def identify(value: Any, where: str) -> tuple[str, str]:
    """(segment id, video) from what files call a segment.

    ``vid[k]``, ``vid$_$k``, ``vid_k`` (any of them alone or first in an array), a whole number, or an array (vid, start, end).
    Raises ValueError if it is called nothing, or by something else.
    """
    listed = value.reshape(-1).tolist() if isinstance(value, np.ndarray) else value
    given = list(listed) if isinstance(listed, list | tuple) else [listed]
    times = given[1:] if len(given) == 3 else []
    first = given[0] if given else None
    first = str(first) if type(first) is int or isinstance(first, np.integer) else first
    name = decode_text(first, f"{where}: its id")
    if not name:
        raise ValueError(f"{where}: its id must be a text, but is {format_value(value)}; give each segment one.")
    spans = [str(time, "latin1") if isinstance(time, bytes) else str(time) for time in times]
    if spans and all(re.fullmatch(r"\d+(\.\d*)?", span) for span in spans):
        return f"{name}[{spans[0]}:{spans[1]}]", name
    return name, re.sub(r"(\[\d+\]|\$_\$\d+|_\d+)$", "", name)
