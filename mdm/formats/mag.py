"""Stage one, data: ``mosi.pkl`` and ``mosei.pkl`` of MAG-BERT and MAG-XLNet (Rahman et al., ACL 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mdm.data.base import Segments
from mdm.formats.contents import Contents
from mdm.formats.tuples import recognize_tuples, segments_of_tuples

FIELDS = ("words", "video", "audio")
"""Visual comes before acoustic in the file."""


def recognize_mag(contents: Contents) -> str:
    """Why these are lists of MAG's tuples, "" if they are not."""
    return recognize_tuples(contents, FIELDS)


def read_mag(
    source: str | Path, *, label_range: Sequence[float] = (-3.0, 3.0), clip_labels: bool = False, name: str = ""
) -> Segments:
    """One pickle {train, dev, test} → list of ((words, visual, acoustic), label, id).

    Visual [words, dim] and acoustic [words, dim] have one row per word, without padding, so words, video and
    audio are aligned. The words are taken as they stand, pauses (``sp``) included: what to do with those is a
    model's matter.

    Raises ValueError if the file is missing, is no plain pickle, or has another form; if rows and words differ in number.
    """
    return segments_of_tuples(
        source, FIELDS, format="mag", aligned=True, label_range=label_range, clip_labels=clip_labels, name=name
    )
