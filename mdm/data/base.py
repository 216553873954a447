"""Stage one, data: the one table of segments that every data set and every file format becomes.

A data set is a function or class that returns `Segments`; what differs between data sets ends here.
Arrays may be in memory or memory-mapped, and are ragged: true lengths, no padding.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

FOLDS = ("train", "valid", "test")
UNLABELED = "unlabeled"
"""The fold of segments that only train what needs no label (Qian et al., 2024, section 3.4); their labels are NaN."""
WIDEST = 1e6
"""No scale of labels reaches further. One that does says nothing, and every measure relative to it is 0."""
SURROGATE = re.compile(r"[\ud800-\udfff]")
FORBIDDEN_IN_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
FORBIDDEN = re.compile(rf"[/\\]|^\.{{1,2}}$|{FORBIDDEN_IN_TEXT.pattern}")
"""What no name may have: control characters and halves of characters; what names files, separators of paths besides."""
PADDING, UNKNOWN = 0, 1
"""Token ids with a meaning of their own; the words of a vocabulary start at 2."""


@dataclass(frozen=True)
class Ragged:
    """n sequences of different lengths, end to end.

    values: [steps, dim] float32, or [steps] int32 token ids
    offsets: [n + 1] int64; sequence i is ``values[offsets[i]:offsets[i + 1]]``; an empty one means that
        the segment lacks this modality
    vocabulary: the word behind each id, () for vectors and for ids of a tokenizer

    >>> frames = Ragged.of([np.zeros((3, 5)), np.zeros((0, 5)), np.zeros((2, 5))])
    >>> len(frames), frames.lengths, frames.dim
    (3, array([3, 0, 2]), 5)
    >>> Ragged.of_words([["good", "film"], ["bad"]]).vocabulary
    ('<pad>', '<unk>', 'bad', 'film', 'good')
    """

    values: Shaped[np.ndarray, "steps *dim"]
    offsets: Int[np.ndarray, " n_plus_1"]
    vocabulary: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int | np.integer) -> Shaped[np.ndarray, "time *dim"]:
        return self.values[self.offsets[i] : self.offsets[i + 1]]

    @property
    def lengths(self) -> Int[np.ndarray, " n"]:
        return np.diff(self.offsets)

    def lengths_of(self, rows: Int[np.ndarray, " k"]) -> Int[np.ndarray, " k"]:
        """Numbers of steps of some sequences."""
        return self.offsets[rows + 1] - self.offsets[rows]

    @property
    def nbytes(self) -> int:
        return int(self.values.nbytes)

    def read_all(self) -> Shaped[np.ndarray, "steps *dim"]:
        """Every step, end to end."""
        return self.values

    def read_part(
        self, rows: Int[np.ndarray, " k"], lengths: Int[np.ndarray, " k"], time: int, last: bool
    ) -> Shaped[np.ndarray, "k time *dim"]:
        """The last, or the first, so many steps of some sequences; what stands behind them is no value."""
        if len(self.values) == 0:
            return np.zeros((len(rows), time, *self.values.shape[1:]), self.values.dtype)
        steps = np.arange(time)
        first = self.offsets[rows + 1] - lengths if last else self.offsets[rows]
        return self.values[np.where(steps < lengths[:, None], first[:, None] + steps, 0)]

    @property
    def tokens(self) -> bool:
        """Whether the steps are token ids."""
        return self.values.ndim == 1

    @property
    def dim(self) -> int:
        """Width of a step, or how many token ids there are."""
        if not self.tokens:
            return int(self.values.shape[1])
        return len(self.vocabulary) or int(self.values.max(initial=UNKNOWN)) + 1

    @staticmethod
    def of(sequences: list[np.ndarray], vocabulary: tuple[str, ...] = (), dim: int = 0) -> Ragged:
        """Put sequences end to end; ``dim`` is needed only where all are empty."""
        offsets = np.concatenate([[0], np.cumsum([len(s) for s in sequences])]).astype(np.int64)
        filled = [s for s in sequences if len(s)]
        values = np.concatenate(filled) if filled else np.zeros((0, dim) if dim else (0,))
        return Ragged(values.astype(np.float32 if values.ndim == 2 else np.int32), offsets, vocabulary)

    @staticmethod
    def of_words(sentences: list[list[str]]) -> Ragged:
        """Words as ids into the sorted vocabulary of all sentences (ids 0 and 1 are reserved)."""
        vocabulary = ("<pad>", "<unk>", *sorted({word for words in sentences for word in words}))
        index = {word: i for i, word in enumerate(vocabulary)}
        ids = [np.array([index[word] for word in words], dtype=np.int32) for words in sentences]
        return Ragged.of(ids, vocabulary)


@dataclass(frozen=True)
class Segments:
    """The table of segments: one row per utterance, one `Ragged` per kind of feature.

    text: what is known of the words; keys among ``words`` (surface forms as ids), ``tokens`` (ids of a
        tokenizer) and ``vectors`` (given embeddings). A run chooses one as its language modality.
    modalities: the others, usually ``audio`` and ``video``
    aligned: names, of ``text`` and ``modalities``, whose steps correspond one to one
    fold: ``train``, ``valid``, ``test``, ``unlabeled`` or ``""`` (in no fold) for each segment
    group: the video, or speaker, that a segment is cut from
    unimodal: modality → [n, targets], labels by people who saw or heard that modality alone (CH-SIMS); NaN where none is given
    marks: named flags per segment (such as ``contradictory``), carried into the predictions
    truth: what is known in closed form of how the data came about; empty for real data
    source: where it came from and what was cleaned, for the data card

    >>> words = Ragged.of_words([["good"], ["a", "bad", "film"]])
    >>> segments = Segments(
    ...     name="two",
    ...     ids=("a[0]", "b[0]"),
    ...     fold=np.array(["train", "test"]),
    ...     group=np.array(["a", "b"]),
    ...     label=np.array([[2.0], [-1.0]], dtype=np.float32),
    ...     targets=("sentiment",),
    ...     label_range=(-3.0, 3.0),
    ...     modalities={},
    ...     text={"words": words},
    ... )
    >>> len(segments), segments.words(1)
    (2, 'a bad film')
    """

    name: str
    ids: tuple[str, ...]
    fold: Shaped[np.ndarray, " n"]
    group: Shaped[np.ndarray, " n"]
    label: Float[np.ndarray, "n targets"]
    targets: tuple[str, ...]
    label_range: tuple[float, float]
    modalities: dict[str, Ragged]
    text: dict[str, Ragged] = field(default_factory=dict)
    aligned: tuple[str, ...] = ()
    marks: dict[str, np.ndarray] = field(default_factory=dict)
    truth: dict[str, float] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    unimodal: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def features(self) -> dict[str, Ragged]:
        """All ragged arrays by name: text kinds first, then the other modalities."""
        return {**self.text, **self.modalities}

    def rows(self, keep: Int[np.ndarray, " k"]) -> Segments:
        """Some of the segments, in this order."""

        def of(ragged: Ragged) -> Ragged:
            return Ragged.of([ragged[i] for i in keep], ragged.vocabulary, 0 if ragged.tokens else ragged.dim)

        return replace(
            self,
            ids=tuple(self.ids[i] for i in keep),
            fold=self.fold[keep],
            group=self.group[keep],
            label=self.label[keep],
            modalities={name: of(ragged) for name, ragged in self.modalities.items()},
            text={name: of(ragged) for name, ragged in self.text.items()},
            marks={name: flags[keep] for name, flags in self.marks.items()},
            unimodal={name: label[keep] for name, label in self.unimodal.items()},
            digests={},
        )

    def words(self, i: int) -> str:
        """The words of segment i, for people to read; empty where the data hold none."""
        if "words" not in self.text:
            return ""
        ragged = self.text["words"]
        return " ".join(ragged.vocabulary[k] for k in ragged[i])

    @cached_property
    def card(self) -> dict[str, Any]:
        """The data card: what a reader must know before believing a number computed on these data."""
        folds = {fold: int((self.fold == fold).sum()) for fold in FOLDS}
        if (self.fold == UNLABELED).any():
            folds[UNLABELED] = int((self.fold == UNLABELED).sum())
        features = {}
        for name, ragged in self.features.items():
            lengths = ragged.lengths
            present = lengths[lengths > 0]
            features[name] = {
                "kind": "tokens" if ragged.tokens else "vectors",
                "dim": ragged.dim,
                "segments": len(present),
                "missing": {fold: int((lengths[self.fold == fold] == 0).sum()) for fold in FOLDS},
                "length_min_median_max": [int(x) for x in (present.min(), np.median(present), present.max())]
                if len(present)
                else None,
            }
        known = self.label[np.isfinite(self.label)]
        return {
            "name": self.name,
            "segments": len(self),
            "folds": folds,
            "targets": list(self.targets),
            "label_range": list(self.label_range),
            "label_observed": [float(known.min()), float(known.max())] if len(known) else None,
            "label_mean_train": [float(x) for x in self.label[self.fold == "train"].mean(0)] if folds["train"] else None,
            **({"unimodal_labels": list(self.unimodal)} if self.unimodal else {}),
            "aligned": list(self.aligned),
            "features": features,
            "marks": {mark: int(flags.sum()) for mark, flags in self.marks.items()},
            "truth": self.truth,
            "source": self.source,
            "digests": self.digests or {name: digest(r.values, r.offsets) for name, r in self.features.items()},
        }

    @cached_property
    def card_hash(self) -> str:
        """One hash for the whole: arrays, vocabularies, labels, folds, groups, marks and where they came from."""
        rest = digest(
            self.label.astype(np.float32),
            *(np.array(column, dtype=str) for column in (self.ids, self.fold, self.group)),
            *(np.array(r.vocabulary, dtype=str) for r in self.features.values()),
            *(flags.astype(bool) for _, flags in sorted(self.marks.items())),
            *(label.astype(np.float32) for label in self.unimodal.values()),
        )
        return hashlib.sha256((json.dumps(self.card, sort_keys=True) + rest).encode()).hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(*arrays: np.ndarray) -> str:
    """SHA-256 of arrays: their dtypes, shapes and bytes."""
    total = hashlib.sha256()
    for array in arrays:
        text = array.dtype.kind == "U"  # its item size is the longest word's, so hash the words
        total.update(f"{'U' if text else array.dtype.str}{array.shape}".encode())
        total.update(json.dumps(array.tolist()).encode() if text else np.ascontiguousarray(array).data)
    return total.hexdigest()
