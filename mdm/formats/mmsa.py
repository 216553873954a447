"""Stage one, data: ``aligned_50.pkl`` and ``unaligned_50.pkl`` of MMSA and Self-MM (Yu et al., AAAI 2021), and of WSA-BERT."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from mdm.data.base import Segments
from mdm.formats.base import RawSegment, assemble
from mdm.formats.columns import Columns
from mdm.formats.contents import Contents
from mdm.formats.pickles import load_folds
from mdm.formats.values import decode_text, first_label, identify, read_matrix, read_steps, split_words

KEYS = {"vectors": "text", "audio": "audio", "video": "vision"}
LENGTHS = {"audio": "audio_lengths", "video": "vision_lengths"}
UNIMODAL = {"language": "regression_labels_T", "audio": "regression_labels_A", "video": "regression_labels_V"}
READ = ("raw_text", "id", "text_bert", *KEYS.values(), *LENGTHS.values())


def recognize_mmsa(contents: Contents) -> str:
    """Why these are MMSA's columns, "" if they are not."""
    labels = sorted(key for key in contents.columns if key.startswith("regression_labels"))
    if {"raw_text", "id"} <= contents.columns and labels and contents.columns & set(KEYS.values()):
        return f"three folds of the columns raw_text, id and {labels[0]}"
    return ""


def read_mmsa(
    source: str | Path,
    *,
    aligned: bool | None = None,
    labels: str = "regression_labels",
    label_range: Sequence[float] = (-3.0, 3.0),
    clip_labels: bool = False,
    name: str = "",
) -> Segments:
    """One pickle {train, valid, test} → raw_text, id, audio, vision, regression_labels, with or without text_bert, text.

    Columns: raw_text [n], id [n] (``vid$_$clip``), ``labels`` [n], audio [n, time, dim] and vision [n, time, dim], of which one may
    lack, and perhaps
    text_bert [n, 3, 50] (token ids, mask, segment), text [n, 50, 768], audio_lengths [n], vision_lengths [n], and of CH-SIMS
    regression_labels_T, _A and _V [n], which become the unimodal labels of language, audio and video where every fold has them.
    ``raw_text`` split at white space (Chinese and Japanese into characters) becomes ``words``, the masked ids ``tokens``, and
    ``text`` ``vectors``.

    ``aligned``: whether audio and vision share the steps of text. By default they do where the training fold has
    no lengths and equally many steps. Then the steps are the tokens that text_bert's mask keeps, [CLS]
    and [SEP] included; without text_bert, steps that are zero everywhere are cut at both ends. The
    words are not aligned to them, and the authors do not say whether a row stands for a word or a token: rows beyond the
    mask that are not zero are cut, and counted as ``rows_beyond_mask`` in the data card. A column that is padded in front, where
    text_bert is padded behind (`find_padded_in_front`), gives its last rows, as many as the mask keeps, and is named in the card as
    ``padded_in_front``. Otherwise
    the given lengths count from the front; without lengths each modality's own zeros are cut.

    Raises ValueError if the file is missing, is no plain pickle, or has another form.
    """
    folds, files, left = load_folds(source, "mmsa")
    tables = {fold: Columns(content, labels, f"format=mmsa: {fold}") for fold, content in folds.items()}
    if aligned is None:
        aligned = _same_steps(tables["train"])
    unimodal = {m: key for m, key in UNIMODAL.items() if all(key in table for table in tables.values())}
    columns_left = sorted({str(key) for table in tables.values() for key in table.content} - {labels, *READ, *unimodal.values()})
    absent = {key: [fold for fold, table in tables.items() if key not in table] for key in KEYS.values()}
    partly = {key: lacking for key, lacking in absent.items() if 0 < len(lacking) < len(tables)}
    if partly or all(absent.values()):
        raise ValueError(
            f"format=mmsa: every fold must have the same of the columns {', '.join(KEYS.values())}, and one at least, but "
            f"{partly or absent} lack theirs; choose the format."
        )
    in_front = find_padded_in_front(tables.values()) if aligned else []
    rows, beyond = [], 0
    for fold, columns in tables.items():
        for k in range(columns.n):
            segment, group = identify(columns["id"][k], f"{columns.where} segment {k}")
            features, cut = _features(columns, k, aligned, in_front)
            beyond += cut
            label, *alone = (first_label(columns[key][k], f"format=mmsa: {segment}") for key in (labels, *unimodal.values()))
            rows.append(RawSegment(segment, fold, group, label, features, dict(zip(unimodal, alone, strict=True))))
    return assemble(
        rows,
        format="mmsa",
        source=source,
        files=files,
        options={"aligned": aligned, "labels": labels},
        label_range=label_range,
        clip_labels=clip_labels,
        name=name,
        aligned=("tokens", *KEYS) if aligned else (),
        notes={
            "rows_beyond_mask": beyond,
            "columns_left": columns_left,
            **({"padded_in_front": in_front} if in_front else {}),
            **left,
        },
    )


def find_padded_in_front(tables: Iterable[Columns]) -> list[str]:
    """Columns of an aligned file whose rows stand at the end of the positions, while text_bert's mask keeps the first ones.

    A column is one if no segment has a row that is not zero outside of the last n positions, n of which the mask keeps, and some
    have one beyond the mask.
    """
    outside = {key: np.zeros(2, int) for key in KEYS.values()}  # of the mask, of the last positions
    for columns in tables:
        for k in range(columns.n if "text_bert" in columns else 0):
            mask = _tokens(columns, k)[1]
            for key in [key for key in outside if key in columns]:
                filled = (read_matrix(columns[key][k], f"{columns.where} segment {k}, {key}") != 0).any(1)
                if len(filled) == len(mask):  # else `_features` refuses it
                    outside[key] += [(filled & ~mask).sum(), filled[: len(mask) - mask.sum()].sum()]
    return [key for key, (beyond_mask, before_last) in outside.items() if beyond_mask and not before_last]


def _features(columns: Columns, k: int, aligned: bool, in_front: Collection[str]) -> tuple[dict[str, Any], int]:
    """Segment k's features, and how many of its audio and vision rows lie beyond the mask without being zero."""
    where = f"{columns.where} segment {k}"
    features: dict[str, Any] = {"words": split_words(decode_text(columns["raw_text"][k], f"{where}, raw_text"))}
    keys = {feature: key for feature, key in KEYS.items() if key in columns}
    beyond = 0
    if "text_bert" in columns:
        features["tokens"], mask = _tokens(columns, k)
        for feature in [feature for feature in keys if aligned or feature == "vectors"]:
            key = keys.pop(feature)
            array = read_matrix(columns[key][k], f"{where}, {key}")
            if len(array) != len(mask):
                raise ValueError(
                    f"{where}: {key} must have a row per position of text_bert ({len(mask)}), but has {len(array)}; "
                    "pass options.aligned=false if it runs at a rate of its own."
                )
            kept = mask[::-1] if key in in_front else mask
            features[feature] = array[kept]
            beyond += int(array[~kept].any(1).sum()) if feature != "vectors" else 0
    for feature, lengths in LENGTHS.items():
        if not aligned and lengths in columns and feature in keys:
            key = keys.pop(feature)
            array = read_matrix(columns[key][k], f"{where}, {key}")
            features[feature] = array[: read_steps(columns[lengths][k], len(array), f"{where}, {lengths}")]
    return features | (columns.vectors(k, keys, aligned) if keys else {}), beyond


def _same_steps(columns: Columns) -> bool:
    """Whether a fold looks aligned: no lengths, and equally many steps in audio, vision and text."""
    steps = columns.steps(key for key in KEYS.values() if key in columns)
    if "text_bert" in columns:
        steps.add(len(_tokens(columns, 0)[1]))
    return len(steps) == 1 and not any(key in columns for key in LENGTHS.values())


def _tokens(columns: Columns, k: int) -> tuple[Int[np.ndarray, " tokens"], Bool[np.ndarray, " positions"]]:
    """Segment k's token ids where the mask keeps them, and the mask."""
    where = f"{columns.where} segment {k}"
    bert = read_matrix(columns["text_bert"][k], f"{where}, text_bert")
    if len(bert) != 3:
        raise ValueError(
            f"{where}: text_bert must be [3, positions] (ids, mask, segment), but is {list(bert.shape)}; the file is damaged."
        )
    if not (np.isfinite(bert).all() and (bert == bert.round()).all() and (bert >= 0).all() and (bert < 1 << 24).all()):
        raise ValueError(f"{where}: text_bert must be whole numbers from 0, but is not; the file is damaged.")
    mask = bert[1] > 0
    return bert[0][mask].astype(np.int32), mask
