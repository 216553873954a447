"""A table of six segments, and copies of it with one change."""

import dataclasses

import numpy as np

from mdm.data.base import Ragged, Segments

SENTENCES = [["a", "good", "film"], ["bad"], ["a", "bad", "plot"], ["good"], ["plot", "twist"], ["a"]]
LENGTHS = [3, 1, 3, 1, 2, 1]


def frames(dim, lengths, seed):
    rng = np.random.default_rng(seed)
    return Ragged.of([rng.standard_normal((t, dim)).astype(np.float32) for t in lengths], dim=dim)


def table(**fields):
    """Six segments of four videos; the last one lacks video."""
    default = {
        "name": "tiny",
        "ids": tuple("abcdef"),
        "fold": np.array(["train", "train", "train", "valid", "test", ""]),
        "group": np.array(["v0", "v0", "v1", "v2", "v3", "v3"]),
        "label": np.array([[-3.0], [0.0], [1.5], [2.0], [3.0], [-1.0]], dtype=np.float32),
        "targets": ("sentiment",),
        "label_range": (-3.0, 3.0),
        "modalities": {"audio": frames(2, LENGTHS, 0), "video": frames(3, [*LENGTHS[:-1], 0], 1)},
        "text": {"words": Ragged.of_words(SENTENCES)},
        "aligned": ("words", "audio"),
        "marks": {"odd": np.array([True, False, True, False, False, False])},
        "truth": {"total_correlation": 1.0},
        "source": {"file": "tiny.csd", "cleaned": 2},
    }
    return Segments(**default | fields)


def altered(segments, **fields):
    """The same table with other fields, past the shape check that the constructor has in tests."""
    other = object.__new__(Segments)
    other.__dict__.update({f.name: getattr(segments, f.name) for f in dataclasses.fields(segments)} | fields)
    return other


def with_audio(segments, ragged):
    return altered(segments, modalities={**segments.modalities, "audio": ragged})


def label(i, value):
    values = table().label.copy()
    values[i] = value
    return values
