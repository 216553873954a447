"""Stage one, data: the caches that MMIM writes (Han et al., EMNLP 2021): train.pkl, dev.pkl, test.pkl."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mdm.data.base import Segments
from mdm.formats.contents import Contents
from mdm.formats.tuples import recognize_tuples, segments_of_tuples

FIELDS = ("", "video", "audio", "words", "", "")
"""Visual comes before acoustic. The first field is an empty list. The last two, lengths, count the rows that
do not sum to zero, so they fall short where a face was lost inside; runs of zeros at the ends are cut instead."""


def recognize_mmim(contents: Contents) -> str:
    """Why these are lists of MMIM's tuples, "" if they are not."""
    return recognize_tuples(contents, FIELDS)


def read_mmim(
    source: str | Path, *, label_range: Sequence[float] = (-3.0, 3.0), clip_labels: bool = False, name: str = ""
) -> Segments:
    """A folder of one pickle per fold: list of (([], visual, acoustic, words, lengths…), label, id).

    Visual [time, dim] and acoustic [time, dim] run at their own rates: nothing is aligned. Of a label (1, 7)
    the first column is the sentiment.

    Raises ValueError if a file is missing, is no plain pickle, or has another form.
    """
    return segments_of_tuples(
        source, FIELDS, format="mmim", aligned=False, label_range=label_range, clip_labels=clip_labels, name=name
    )
