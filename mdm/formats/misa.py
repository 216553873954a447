"""Stage one, data: the caches that MISA writes (Hazarika et al., ACM MM 2020): train.pkl, dev.pkl, test.pkl."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mdm.data.base import Segments
from mdm.formats.contents import Contents
from mdm.formats.tuples import recognize_tuples, segments_of_tuples

FIELDS = ("", "video", "audio", "words")
"""Visual comes before acoustic; the first field, ids into a word list of another file, says no more than the words."""


def recognize_misa(contents: Contents) -> str:
    """Why these are lists of MISA's tuples, "" if they are not."""
    return recognize_tuples(contents, FIELDS)


def read_misa(
    source: str | Path, *, label_range: Sequence[float] = (-3.0, 3.0), clip_labels: bool = False, name: str = ""
) -> Segments:
    """A folder of one pickle per fold: list of ((word ids, visual, acoustic, words), label[, id]).

    Visual [words, dim] and acoustic [words, dim] have one row per word, without padding, so words, video and
    audio are aligned. MISA has already removed pauses and standardised each feature over each utterance, so
    absolute levels are gone. UR-FUNNY's segments have no id.

    Raises ValueError if a file is missing, is no plain pickle, or has another form; if rows and words differ in number.
    """
    return segments_of_tuples(
        source, FIELDS, format="misa", aligned=True, label_range=label_range, clip_labels=clip_labels, name=name
    )
