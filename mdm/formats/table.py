"""Stage one, data: a plain table of segments (csv, tsv or parquet), and files of features named by the segments."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import Formatter
from typing import Any

import numpy as np
from jaxtyping import Float

from mdm.data.base import FOLDS, UNLABELED, Segments
from mdm.data.checks import check_names
from mdm.formats.base import RawSegment, assemble, require_existing
from mdm.formats.contents import TABLES, Contents
from mdm.formats.feature_files import parse_frames, read_frames
from mdm.formats.table_rows import read_rows
from mdm.formats.values import split_words

ID, GROUP = ("id", "segment", "segment_id"), ("group", "video", "video_id", "speaker")
PAIRS = (("video_id", "clip_id"), ("dialogue_id", "utterance_id"))
"""Columns that name a segment together."""
TEXT, FOLD = ("text", "sentence", "transcript", "utterance"), ("fold", "split", "mode")
TEXT_KINDS = ("words", "tokens")
LABEL = ("label", "sentiment", "score")
UNIMODAL = {"language": "label_T", "audio": "label_A", "video": "label_V"}
"""Labels by one modality alone, as CH-SIMS' label.csv has them."""
NAMES = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev", "development"), "valid"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
    **dict.fromkeys((UNLABELED, "unlabelled", "unsup"), UNLABELED),
}
"""What tables call the folds → what this framework calls them."""


@dataclass(frozen=True)
class Line:
    """A row of a table. own, own_group: its names in the table, by which files are called; words: None where it has no sentence.

    alone: modality → label by it alone
    """

    own: str
    segment: str
    fold: str
    own_group: str
    group: str
    words: list[str] | None
    label: Float[np.ndarray, " targets"]
    alone: dict[str, Float[np.ndarray, "1"]]


def recognize_table(contents: Contents) -> str:
    """Why this is a table of segments, "" if it is not."""
    header = [column.lower() for column in contents.header]
    named = set(ID) & set(header) or any(set(pair) <= set(header) for pair in PAIRS)
    alone = all(
        (contents.path / file).is_dir() or Path(file).suffix in (*TABLES, ".parquet", ".md", ".txt") for file in contents.files
    )
    if named and set(LABEL) & set(header) and (contents.kind == "table" or (alone and find_tables(contents.files))):
        return f"{'a table' if contents.kind == 'table' else 'tables'} with the columns {', '.join(contents.header[:8])}"
    return ""


def read_table(
    source: str | Path,
    *,
    id: str | Sequence[str] | None = None,
    group: str | None = None,
    text: str | None = None,
    fold: str | None = None,
    targets: Mapping[str, str] | None = None,
    values: Mapping[str, float] | None = None,
    unimodal: Mapping[str, str] | None = None,
    aligned: bool = False,
    label_range: Sequence[float] | None = None,
    clip_labels: bool = False,
    name: str = "",
    **features: str,
) -> Segments:
    """A table of the segments, or a folder of one, or of one for each fold (named train, dev or valid, test); files by id.

    id: the column that names a segment, or several that do together; by default id, or video_id and clip_id
    group: the column of its video or speaker; by default group, video or video_id, else what the id says before its number
    text: the column of the sentence; by default text, sentence, transcript or utterance; without one there are no words
    fold: the column of the folds; by default fold, split or mode; of a folder, the file says it
    targets: name → column; by default ``sentiment`` is label, sentiment or score
    values: what words among the labels mean (``{negative: -1, neutral: 0, positive: 1}``); an empty label is none
    unimodal: modality → the column of the label by it alone; by default language, audio and video are label_T, label_A and label_V,
        where there is one target and a feature. A modality without sentence or files has none
    aligned: whether words and all features have equally many steps, one for one
    features: modality → the path of a segment's file from the table's folder, {id} for its name, {group} for its video's:
        ``options.audio=audio/{id}.npy``. Read are .npy, .mat (the only variable), .h5 (the first dataset), .csv (numbers, with or
        without a header, such as an extractor's frames of a wav file): [time, dim], or a vector, which is one step

    Names of columns count without regard to case. A segment without a file lacks that modality; the card says how many.

    Raises ValueError if a table or a column is missing, a fold or a word of a label is unknown, an id would lead out of the folder,
    or a modality has no file.
    """
    source = require_existing(Path(source), "format=table")
    check_patterns(features)
    folder = source if source.is_dir() else source.parent
    tables = find_tables([path.name for path in folder.iterdir()]) if source.is_dir() else {"": source.name}
    if not tables:
        raise ValueError(
            f"format=table: {source} must hold one table, or one for each of train, valid (or dev) and test, but does not; pass "
            "the table itself."
        )
    lines: list[Line] = []
    columns: dict[str, Any] = {}
    for part, file in tables.items():
        rows = read_rows(folder / file)
        columns = find_columns(list(rows[0]), id, group, text, fold, targets, file, part)
        columns["unimodal"] = find_unimodal(
            list(rows[0]), unimodal, [*(["language"] if columns["text"] else []), *features], columns, file
        )
        lines += [read_line(row, columns, values or {}, part, file) for row in rows]
    lines, notes = separate_folds(lines) if len(tables) > 1 else (lines, {})
    found = {modality: find_files(folder, modality, pattern, lines) for modality, pattern in features.items()}
    segments = []
    with parse_frames([path for paths in found.values() for path in paths.values()]) as processes:
        for k, line in enumerate(lines):
            frames = {
                modality: read_frames(paths[k], f"format=table: {line.segment}, {modality}", processes)
                for modality, paths in found.items()
                if k in paths
            }
            words = {} if line.words is None else {"words": line.words}
            segments.append(RawSegment(line.segment, line.fold, line.group, line.label, {**words, **frames}, line.alone))
    return assemble(
        segments,
        format="table",
        source=source,
        files=[folder / file for file in tables.values()],
        options={"columns": columns, "values": dict(values or {}), "features": features, "aligned": aligned},
        label_range=label_range,
        clip_labels=clip_labels,
        name=name,
        targets=tuple(columns["targets"]),
        aligned=("words", *features) if aligned else (),
        notes={**notes, "files_absent": {modality: n for modality, paths in found.items() if (n := len(lines) - len(paths))}},
    )


def check_patterns(features: Mapping[str, str]) -> None:
    """Raises ValueError unless each modality has a proper name and a pattern with {id}, or {id} and {group}."""
    check_names("format=table", "modalities", features)
    for modality, pattern in features.items():
        try:
            parts = {part for _, part, _, _ in Formatter().parse(pattern) if part is not None}
        except ValueError:
            parts = set()
        if modality in TEXT_KINDS or not parts <= {"id", "group"} or "id" not in parts:
            raise ValueError(
                f"format=table: a modality other than words and tokens is a path with {{id}} in it, and perhaps {{group}}, but "
                f"{modality} is {pattern!r:.80}; correct it, or the option's name: unknown options are modalities."
            )


def read_line(row: Mapping[str, str], columns: Mapping[str, Any], values: Mapping[str, float], part: str, file: str) -> Line:
    """One row. Raises ValueError on an id or a group that could not name a file, an unknown fold, or a label that is no number."""
    segment = "_".join(row[column] for column in columns["id"])
    group = row[columns["group"]] if columns["group"] else re.sub(r"(\[\d+\]|\$_\$\d+|_\d+)$", "", segment)
    where = f"{file}: segment {segment!r:.60}"
    check_names(where, "its id", [segment])
    check_names(where, "its group", [group])
    label = [read_label(row[column], values, where) for column in columns["targets"].values()]
    alone = {m: np.array([read_label(row[column], values, where)], np.float32) for m, column in columns["unimodal"].items()}
    words = split_words(row[columns["text"]]) if columns["text"] else None
    fold = part or read_fold(row[columns["fold"]], where)
    return Line(segment, segment, fold, group, group, words, np.array(label, np.float32), alone)


def separate_folds(lines: Sequence[Line]) -> tuple[list[Line], dict[str, str]]:
    """Segments and groups with the fold in front, where tables of different folds count from the beginning (as MELD's do)."""
    folds: dict[str, set[str]] = {}
    for line in lines:
        folds.setdefault(line.segment, set()).add(line.fold)
    if all(len(those) == 1 for those in folds.values()):
        return list(lines), {}
    apart = [replace(line, segment=f"{line.fold}_{line.segment}", group=f"{line.fold}_{line.group}") for line in lines]
    return apart, {"ids": "with the fold in front, for each table counts from the beginning"}


def find_files(folder: Path, modality: str, pattern: str, lines: Sequence[Line]) -> dict[int, Path]:
    """Number of a line → its file of a modality, where there is one. Raises ValueError if there is none for any."""
    paths = {k: folder / pattern.format(id=line.own, group=line.own_group) for k, line in enumerate(lines)}
    found = {k: path for k, path in paths.items() if path.exists()}
    if not found:
        raise ValueError(
            f"format=table: {modality} must have a file for some segment, but none is there (first: {paths[0]}); correct "
            f"options.{modality}."
        )
    return found


def find_tables(files: Sequence[str]) -> dict[str, str]:
    """Fold → the one table of a folder whose name says it, or "" → its only table; empty where there is neither."""
    found: dict[str, list[str]] = {}
    tables = [file for file in sorted(files) if Path(file).suffix.lower() in (*TABLES, ".parquet")]
    for file in tables:
        for fold in {NAMES[word] for word in re.findall(r"[a-z]+", Path(file).stem.lower()) if word in NAMES}:
            found.setdefault(fold, []).append(file)
    if set(FOLDS) <= set(found) and all(len(each) == 1 for each in found.values()):
        return {fold: found[fold][0] for fold in (*FOLDS, UNLABELED) if fold in found}
    return {"": tables[0]} if len(tables) == 1 else {}


def find_columns(
    header: Sequence[str],
    id: str | Sequence[str] | None,
    group: str | None,
    text: str | None,
    fold: str | None,
    targets: Mapping[str, str] | None,
    where: str,
    part: str,
) -> dict[str, Any]:
    """Which columns are read. Raises ValueError, naming those there are, if one that is needed is missing.

    part: the fold that the file stands for, "" where a column tells
    """
    lower = {column.lower(): column for column in header}

    def find(role: str, given: str | None, usual: Sequence[str], needed: bool) -> str:
        names = [given] if given else usual
        column = next((lower[name.lower()] for name in names if name.lower() in lower), "")
        if not column and (needed or given):
            raise ValueError(
                f"{where}: a table must have a column for {role} ({' or '.join(names)}), but has {', '.join(header)}; pass "
                f"options.{role}=<column>."
            )
        return column

    pair = next((pair for pair in PAIRS if set(pair) <= set(lower) and not set(ID) & set(lower)), ())
    several = id if isinstance(id, list | tuple) else [id] if isinstance(id, str) else pair
    ids = [find("id", each, ID, True) for each in several] or [find("id", None, ID, True)]
    usual = GROUP if id or not pair else (*GROUP, pair[0])
    return {
        "id": ids,
        "group": find("group", group, usual, False),
        "text": find("text", text, TEXT, False),
        "fold": "" if part else find("fold", fold, FOLD, True),
        "targets": {
            target: find(f"targets.{target}", column, LABEL, True) for target, column in (targets or {"sentiment": ""}).items()
        },
    }


def find_unimodal(
    header: Sequence[str], given: Mapping[str, str] | None, known: Sequence[str], columns: Mapping[str, Any], where: str
) -> dict[str, str]:
    """Modality → the column of the label by it alone.

    known: the modalities that the table has

    Raises ValueError on a modality or a column that is not there, and where there are several targets.
    """
    lower = {column.lower(): column for column in header}
    absent = [m for m, column in (given or {}).items() if m not in known or column.lower() not in lower]
    if absent or (given and len(columns["targets"]) > 1):
        raise ValueError(
            f"{where}: options.unimodal names, for one target, columns of {', '.join(header)} by modality ({', '.join(known)}), "
            f"but is {dict(given or {})} for {', '.join(columns['targets'])}; correct it."
        )
    wanted = UNIMODAL if given is None and len(columns["targets"]) == 1 else (given or {})
    return {m: lower[column.lower()] for m, column in wanted.items() if m in known and column.lower() in lower}


def read_fold(value: str, where: str) -> str:
    """Raises ValueError if the value is no name of a fold; an empty one means none."""
    if value and value.lower() not in NAMES:
        raise ValueError(f"{where}: a fold must be one of {', '.join(NAMES)}, but is {value!r:.40}; rename it.")
    return NAMES[value.lower()] if value else ""


def read_label(value: str, values: Mapping[str, float], where: str) -> float:
    """A number, or what a word means; NaN where nothing stands. Raises ValueError on another word."""
    if value in values:
        return float(values[value])
    try:
        return float(value) if value else np.nan
    except ValueError:
        raise ValueError(
            f"{where}: a label must be a number{' or one of ' + ', '.join(values) if values else ''}, but is {value!r:.40}; pass "
            "options.values={<word>: <number>, …}."
        ) from None
