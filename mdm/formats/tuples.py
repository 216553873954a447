"""Stage one, data: pickles that list one tuple per segment, the layout of MAG-BERT, MISA and MMIM.

A segment is ``((field, field, …), label, id)``. The three systems differ in the fields and in whether these
have one row per word; their order, visual before acoustic, is easily mistaken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mdm.data.base import Segments
from mdm.formats.base import RawSegment, assemble
from mdm.formats.contents import Contents
from mdm.formats.pickles import load_folds
from mdm.formats.values import first_label, format_value, identify, read_matrix, read_words, trim

BY_FIELDS = {3: "mag", 4: "misa", 6: "mmim"}


def recognize_tuples(contents: Contents, fields: tuple[str, ...]) -> str:
    """Why lists are of segments with so many fields, "" if they are not."""
    read = ", ".join(field for field in fields if field)
    return f"three folds of lists of segments with {len(fields)} fields ({read})" if contents.fields == len(fields) else ""


def segments_of_tuples(
    source: str | Path,
    fields: tuple[str, ...],
    *,
    format: str,
    aligned: bool,
    label_range: Sequence[float],
    clip_labels: bool,
    name: str,
) -> Segments:
    """Read lists of ``((field, …), label[, id])``.

    fields: the feature that each field holds; ``""`` for a field that is not read
    aligned: one row per word and no padding; otherwise rows of zeros in front and behind are cut

    A segment without id is called ``fold_k`` and is a group of its own. Raises ValueError if a fold is not a
    list, or an item has another form.
    """
    folds, files, left = load_folds(source, format)
    rows = []
    for fold, items in folds.items():
        if not isinstance(items, list | tuple):
            raise ValueError(
                f"format={format}: each fold must be a list of segments, but {fold} is a {type(items).__name__}; "
                "dictionaries of arrays are mmsa, mult or mird."
            )
        rows += [_row(item, fold, k, fields, format, aligned) for k, item in enumerate(items)]
    rows, numbered = number_clips(rows)
    names = tuple(field for field in fields if field)
    return assemble(
        rows,
        format=format,
        source=source,
        files=files,
        options={},
        label_range=label_range,
        clip_labels=clip_labels,
        name=name,
        aligned=names if aligned else (),
        notes=left | numbered,
    )


def number_clips(rows: Sequence[RawSegment]) -> tuple[list[RawSegment], dict[str, str]]:
    """Segments called ``vid[k]`` where the file calls all of a video's segments ``vid``, as MMIM's code does; and the note of it.

    Only where every id is a video's own name, and each stands in one fold: an id that occurs twice otherwise is a mistake.
    """
    folds: dict[str, set[str]] = {}
    for row in rows:
        folds.setdefault(row.id, set()).add(row.fold)
    if len(folds) == len(rows) or any(row.id != row.group for row in rows) or any(len(of) > 1 for of in folds.values()):
        return list(rows), {}
    seen: Counter[str] = Counter()
    numbered = []
    for row in rows:
        numbered.append(replace(row, id=f"{row.id}[{seen[row.id]}]"))
        seen[row.id] += 1
    return numbered, {"ids": "made of the video's name and the segment's number in the file, which names videos only"}


def _row(item: Any, fold: str, k: int, fields: tuple[str, ...], format: str, aligned: bool) -> RawSegment:
    where = f"format={format}: {fold} segment {k}"
    outer = len(item) if isinstance(item, list | tuple) else 0
    inner = len(item[0]) if outer and isinstance(item[0], list | tuple) else 0
    if outer not in (2, 3) or inner != len(fields):
        came = f"{inner} fields came (as in format={BY_FIELDS[inner]})" if inner in BY_FIELDS else f"{format_value(item)} came"
        order = ", ".join(field or "unread" for field in fields)
        raise ValueError(
            f"{where} must be ((fields), label[, id]) with {len(fields)} fields ({order}), but {came}; choose the format."
        )
    features: dict[str, Any] = {}
    for field, value in zip(fields, item[0], strict=True):
        if field == "words":
            features[field] = read_words(value, f"{where}, {field}")
        elif field:
            array = read_matrix(value, f"{where}, {field}")
            features[field] = array if aligned else trim(array)[0]
    own = f"{fold}_{k}"
    segment, group = identify(item[2], where) if outer == 3 else (own, own)
    return RawSegment(segment, fold, group, first_label(item[1], where), features)
