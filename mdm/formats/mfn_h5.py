"""Stage one, data: folders of word-aligned HDF5 files, as MFN and MFM use them (ICT-MMMO, YouTube, MOUD, POM)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from mdm.data.base import FOLDS, Segments
from mdm.formats.base import ALIASES, RawSegment, assemble, require_file, require_folder
from mdm.formats.columns import name_targets
from mdm.formats.confined import Confined
from mdm.formats.contents import Contents
from mdm.formats.sequences import ask_hdf5, hdf5_process
from mdm.formats.values import format_value, read_matrix, read_numbers, trim

FILES = {"vectors": ("text_{}_emb.h5", "text_{}.h5"), "audio": ("audio_{}.h5",), "video": ("video_{}.h5",)}
"""Feature → possible names of its file for one fold."""


def recognize_mfn_h5(contents: Contents) -> str:
    """Why this is a folder of MFN's files, "" if it is not."""
    labels = [f"y_{fold}.h5" for fold in ALIASES if f"y_{fold}.h5" in contents.files]
    return f"a folder with {', '.join(labels)}" if len(labels) == len(FOLDS) else ""


def read_mfn_h5(
    source: str | Path,
    *,
    targets: Mapping[str, int] | None = None,
    label_range: Sequence[float] | None = None,
    clip_labels: bool = False,
    name: str = "",
) -> Segments:
    """A folder of {text_X_emb or text_X, audio_X, video_X, y_X}.h5, X = train, valid (or dev), test.

    Each file's first dataset is read: [segments, words, dim], for y [segments] or [segments, columns]. Text is word vectors.
    targets: name → column of y. By default the only column is ``sentiment``; columns in which each segment has one 1 and
        otherwise 0 (YouTube's classes) are ``class_0``, ``class_1``, …, one target each

    All are aligned to words and padded with zeros on either side: a segment loses the steps in front and
    behind that are zero in all of its modalities; zeros inside stay. If a fold lacks a modality's
    file, its segments lack that modality. ``label_range`` must be given, since the files do not say it, unless labels have only two
    values. The files name no videos: segments are called ``fold_k`` and each is a group of its own.

    Raises ValueError if a fold has no labels or no modality, if a file is no HDF5 or has another shape, or
    if the modalities differ in their numbers of segments or words.
    """
    source = require_folder(Path(source), "format=mfn_h5")
    folds: dict[str, tuple[Path, dict[str, Path]]] = {}
    absent: dict[str, list[str]] = {}
    for fold in FOLDS:
        parts = [part for part, meaning in ALIASES.items() if meaning == fold]
        labels = _first(source, ["y_{}.h5"], parts)
        if labels is None:
            raise ValueError(
                f"format=mfn_h5 needs the labels y_{fold}.h5, but {source} has none; check the folder and its file names."
            )
        paths = {feature: _first(source, patterns, parts) for feature, patterns in FILES.items()}
        here = {feature: path for feature, path in paths.items() if path is not None}
        if not here:
            expected = ", ".join(patterns[0].format(fold) for patterns in FILES.values())
            raise ValueError(
                f"format=mfn_h5 needs a modality for each fold, but {fold} has none of {expected} in {source}; add one."
            )
        absent |= {feature: [*absent.get(feature, []), fold] for feature in FILES if feature not in here}
        folds[fold] = labels, here
    files = [path for labels, here in folds.values() for path in (labels, *here.values())]
    rows: list[RawSegment] = []
    with hdf5_process(files) as process:
        tables = {fold: _table(_dataset(process, labels, (1, 2))) for fold, (labels, _) in folds.items()}
        columns = name_targets(targets, tables, "mfn_h5")
        for fold, (_, here) in folds.items():
            y = tables[fold][:, list(columns.values())]
            rows += _rows(fold, y, {feature: _dataset(process, path, (3,)) for feature, path in here.items()})
    return assemble(
        rows,
        format="mfn_h5",
        source=source,
        files=files,
        options={"targets": columns},
        label_range=label_range,
        clip_labels=clip_labels,
        name=name,
        targets=tuple(columns),
        aligned=tuple(FILES),
        notes={"files_absent": absent},
    )


def _table(y: Shaped[np.ndarray, "..."]) -> Float[np.ndarray, "_ _"]:
    """Labels as numbers [segments, columns]."""
    numbers = read_numbers(y)
    if numbers is None:
        raise ValueError(f"format=mfn_h5: y must be numbers, but is {format_value(y)}; check the labels.")
    return numbers.reshape(len(numbers), -1)


def _rows(fold: str, y: Float[np.ndarray, "_ targets"], padded: dict[str, Shaped[np.ndarray, "_ _ _"]]) -> list[RawSegment]:
    shapes = {"y": y.shape[:1], **{feature: array.shape[:2] for feature, array in padded.items()}}
    if len({shape[0] for shape in shapes.values()}) > 1 or len({array.shape[1] for array in padded.values()}) > 1:
        raise ValueError(
            f"format=mfn_h5: the files of a fold must agree in numbers of segments and words, but {fold} has "
            f"{ {key: list(shape) for key, shape in shapes.items()} }; they belong to different data."
        )
    rows = []
    for k in range(len(y)):
        where = f"{fold}_{k}"
        steps = trim(*(read_matrix(array[k], f"{where}, {feature}") for feature, array in padded.items()))
        rows.append(RawSegment(where, fold, where, y[k], dict(zip(padded, steps, strict=True))))
    return rows


def _first(folder: Path, patterns: Sequence[str], parts: Sequence[str]) -> Path | None:
    """The first file that exists among the patterns filled with the names of a fold."""
    paths = [folder / pattern.format(part) for pattern in patterns for part in parts]
    found = next((path for path in paths if path.exists()), None)
    return None if found is None else require_file(found, f"format=mfn_h5: {found.name}")


def _dataset(process: Confined, path: Path, dimensions: tuple[int, ...]) -> Shaped[np.ndarray, "..."]:
    """The first dataset of a file. Raises ValueError if there is none, or if it has another number of dimensions."""
    array: Shaped[np.ndarray, "..."] | None = ask_hdf5(process, "first", path)
    if array is None or array.ndim not in dimensions:
        raise ValueError(
            f"{path.name} must hold a dataset of {' or '.join(map(str, dimensions))} dimensions, but its first has shape "
            f"{[] if array is None else list(array.shape)}; is this file of another format?"
        )
    return array
