"""Stage one, data: segments that are there twice, told by a hash of their features."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from jaxtyping import Int

from mdm.data.base import Segments

ALIKE = "equal_rows"
"""Where a data card has what `describe_copies` says."""


def hash_rows(segments: Segments, rows: Int[np.ndarray, " k"], features: Iterable[str]) -> dict[int, bytes]:
    """Row → one hash of its features, words as what they are; rows without a step in any of them are left out."""
    found = {}
    ragged = {name: segments.features[name] for name in features}
    for i in rows.tolist():
        if not any(r.offsets[i + 1] > r.offsets[i] for r in ragged.values()):
            continue
        total = hashlib.blake2b(digest_size=16)
        for name, r in ragged.items():
            total.update(f"{name}{r[i].shape}".encode())
            content = "\n".join(r.vocabulary[k] for k in r[i]).encode() if r.vocabulary else np.ascontiguousarray(r[i]).data
            total.update(content)
        found[i] = total.digest()
    return found


def hash_labelled(segments: Segments, rows: Int[np.ndarray, " k"], features: Iterable[str]) -> dict[int, bytes]:
    """The same of features and label; rows without a label are left out."""
    labelled = rows[np.isfinite(segments.label[rows]).all(1)]
    return {i: key + segments.label[i].astype(np.float32).tobytes() for i, key in hash_rows(segments, labelled, features).items()}
