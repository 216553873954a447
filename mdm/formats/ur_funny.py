"""Stage one, data: UR-FUNNY as its authors give it (Hasan et al., EMNLP 2019): six pickles, joined by the segments' numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mdm.data.base import FOLDS, Segments
from mdm.formats.base import ALIASES, RawSegment, assemble, require_file, require_folder, split_by_fold
from mdm.formats.contents import Contents
from mdm.formats.pickles import load_pickle
from mdm.formats.values import decode_text, first_label, read_matrix, read_steps

FILES = {
    "folds": "data_folds.pkl",
    "labels": "humor_label_sdk.pkl",
    "language": "language_sdk.pkl",
    "embeddings": "word_embedding_list.pkl",
    "audio": "covarep_features_sdk.pkl",
    "video": "openface_features_sdk.pkl",
}
OPTIONAL = ("embeddings", "audio", "video")


def recognize_ur_funny(contents: Contents) -> str:
    """Why this is the authors' folder, "" if it is not."""
    needed = {name for role, name in FILES.items() if role not in OPTIONAL}
    return f"a folder with {', '.join(sorted(needed))}" if needed <= set(contents.files) else ""


def read_ur_funny(source: str | Path, *, context: bool = False, name: str = "") -> Segments:
    """A folder of data_folds, humor_label_sdk, language_sdk, any of word_embedding_list, covarep_, openface_features_sdk .pkl.

    Each but the folds is {number of a segment: content}; word_embedding_list is a list of vectors, into which language_sdk points.
    The vectors, audio and video of the punchline have a row for each word, so they are aligned, and so are the words, where every
    sentence split at blanks has as many (else the card names some that have not, as ``words_unlike_rows``).
    context: the sentences before the punchline stand in front of it. The target is ``humour``, 0 or 1.

    The files name no videos: each segment is a group of its own. Segments that the folds do not name are left, and
    counted in the card; so are those that lack an entry in one of the files (that modality is missing).

    Raises ValueError if a file is missing or no plain pickle, if a fold names a segment without words or label, or if the rows of
    a segment differ in number.
    """
    source = require_folder(Path(source), "format=ur_funny")
    paths = {role: source / file for role, file in FILES.items() if role not in OPTIONAL or (source / file).exists()}
    content = {role: load_pickle(require_file(path, f"format=ur_funny: {role}")) for role, path in paths.items()}
    folds = split_by_fold(content["folds"], FILES["folds"], further=True)
    if not all(isinstance(content[role], Mapping) for role in content if role not in ("folds", "embeddings")):
        raise ValueError(
            "format=ur_funny: each file but the embeddings must map a segment's number to its content, but one does not; choose "
            "the format."
        )
    embeddings = read_matrix(content["embeddings"], FILES["embeddings"]) if "embeddings" in content else None
    rows, absent = [], dict.fromkeys(("audio", "video"), 0)
    for fold in FOLDS:
        for number in folds[fold]:
            own = str(number)
            lacking = [FILES[role] for role in ("labels", "language") if number not in content[role]]
            if lacking:
                raise ValueError(
                    f"format=ur_funny: {fold} names segment {own}, but {', '.join(lacking)} has none of that number; "
                    "these are files of different releases."
                )
            features = read_words(content["language"][number], embeddings, context, f"format=ur_funny: segment {own}")
            for modality in absent:
                if modality in content and number in content[modality]:
                    features[modality] = read_frames(content[modality][number], context, f"format=ur_funny: {own}, {modality}")
                elif modality in content:
                    absent[modality] += 1
            label = first_label(content["labels"][number], f"format=ur_funny: {own}")
            rows.append(RawSegment(own, fold, own, label, features))
    frames = ("vectors", "audio", "video")
    unlike = [row.id for row in rows if {len(row.features["words"])} != {len(row.features[f]) for f in frames if f in row.features}]
    aligned = frames if unlike and len(paths) > len(FILES) - len(OPTIONAL) else ("words", *frames)
    named = {number for numbers in folds.values() for number in numbers}
    return assemble(
        rows,
        format="ur_funny",
        source=source,
        files=list(paths.values()),
        options={"context": context},
        label_range=(0.0, 1.0),
        name=name,
        targets=("humour",),
        aligned=aligned,
        notes={
            "entries_absent": {modality: n for modality, n in absent.items() if n},
            **({"words_unlike_rows": unlike[:100]} if "words" not in aligned else {}),
            "in_no_fold": len(set(content["language"]) - named),
            "keys_left": [str(key)[:40] for key in content["folds"] if str(key) not in ALIASES],
        },
    )


def read_words(entry: Any, embeddings: np.ndarray | None, context: bool, where: str) -> dict[str, Any]:
    """The words and, if there are embeddings, the vectors of a punchline, behind those of its context if that is wanted."""
    sentences = [decode_text(get(entry, "punchline_sentence", where), where)]
    points = [get(entry, "punchline_embedding_indexes", where)]
    if context:
        sentences = [*(decode_text(text, where) for text in get(entry, "context_sentences", where)), *sentences]
        points = [*get(entry, "context_embedding_indexes", where), *points]
    features: dict[str, Any] = {"words": [word for text in sentences for word in text.split()]}
    if embeddings is not None:
        last = len(embeddings) - 1
        index = [read_steps(k, last, f"{where}, its index of a vector") for sentence in points for k in sentence]
        features["vectors"] = embeddings[index]
    return features


def read_frames(entry: Any, context: bool, where: str) -> Float[np.ndarray, "words dim"]:
    """The rows of a punchline, one a word, behind those of its context if that is wanted."""
    parts = [*(get(entry, "context_features", where) if context else ()), get(entry, "punchline_features", where)]
    read = [read_matrix(part, where) for part in parts]
    filled = [array for array in read if array.size]
    return np.concatenate(filled) if filled else np.zeros((0, 0), np.float32)


def get(entry: Any, key: str, where: str) -> Any:
    """Raises ValueError, naming what is there, if an entry has no such key."""
    if not isinstance(entry, Mapping) or key not in entry:
        came = ", ".join(map(str, entry)) if isinstance(entry, Mapping) else f"a {type(entry).__name__}"
        raise ValueError(f"{where} must have {key}, but has {came:.120}; choose the format.")
    return entry[key]
