"""The data card tells what there is, and its hash changes with every part of the data."""

import numpy as np
import pytest
from data.tables import LENGTHS, altered, frames, label, table, with_audio

from mdm.data.base import Ragged, digest


def test_card_tells_what_there_is():
    """Counted by hand from `table`: 6 words and two reserved ids; the median of 3 1 3 1 2 is 2, with another 1 it is 1.5 → 1."""
    segments = table()
    card = segments.card
    assert (card["segments"], card["folds"]) == (6, {"train": 3, "valid": 1, "test": 1})
    assert card["label_observed"] == [-3.0, 3.0]
    assert card["label_mean_train"] == [-0.5]
    assert card["features"]["words"] == {
        "kind": "tokens",
        "dim": 8,
        "segments": 6,
        "missing": {"train": 0, "valid": 0, "test": 0},
        "length_min_median_max": [1, 1, 3],
    }
    assert card["features"]["video"]["segments"] == 5
    assert card["features"]["video"]["length_min_median_max"] == [1, 2, 3]
    assert (card["features"]["video"]["kind"], card["features"]["video"]["dim"]) == ("vectors", 3)
    assert card["marks"] == {"odd": 2}
    assert card["source"] == {"file": "tiny.csd", "cleaned": 2}
    assert set(card["digests"]) == {"words", "audio", "video"}


def test_card_counts_what_each_fold_lacks():
    lacking = frames(3, [0, 1, 3, 0, 2, 0], 1)
    segments = table(modalities={"audio": frames(2, LENGTHS, 0), "video": lacking})
    assert segments.card["features"]["video"]["missing"] == {"train": 1, "valid": 1, "test": 0}


def test_card_without_a_training_fold_has_no_training_mean():
    assert table(fold=np.array(["test"] * 6)).card["label_mean_train"] is None


def nudged(segments, feature):
    """One number of one feature moved by one bit (words: one id)."""
    ragged = segments.features[feature]
    values = ragged.values.copy()
    if ragged.tokens:
        values[0] += 1
    else:
        values[0, 0] = np.nextafter(values[0, 0], np.float32(np.inf))
    return Ragged(values, ragged.offsets, ragged.vocabulary)


CHANGES = {
    "value": lambda s: altered(s, modalities={**s.modalities, "video": nudged(s, "video")}),
    "word": lambda s: altered(s, text={"words": nudged(s, "words")}),
    "boundary": lambda s: with_audio(s, Ragged(s.modalities["audio"].values, np.array([0, 2, 4, 7, 8, 10, 11]))),
    "label": lambda s: altered(s, label=label(1, 0.2)),
    "labels exchanged": lambda s: altered(s, label=s.label[[1, 0, 2, 3, 4, 5]]),
    "fold": lambda s: altered(s, fold=np.array(["train", "train", "train", "valid", "test", "test"])),
    "folds exchanged": lambda s: altered(s, fold=s.fold[[0, 1, 2, 4, 3, 5]]),
    "id": lambda s: altered(s, ids=("a", "b", "c", "d", "e", "g")),
    "ids exchanged": lambda s: altered(s, ids=("b", "a", "c", "d", "e", "f")),
    "target": lambda s: altered(s, targets=("happiness",)),
    "range": lambda s: altered(s, label_range=(-4.0, 3.0)),
    "modality's name": lambda s: altered(s, modalities={"acoustic": s.modalities["audio"], "video": s.modalities["video"]}),
    "source": lambda s: altered(s, source={"file": "tiny.csd", "cleaned": 3}),
    "truth": lambda s: altered(s, truth={"total_correlation": 2.0}),
}


@pytest.mark.parametrize("what", CHANGES)
def test_hash_changes_with_every_part(what):
    assert CHANGES[what](table()).card_hash != table().card_hash


SAME = {
    "built again": lambda s: table(),
    "other layout in memory": lambda s: with_audio(
        s, Ragged(np.asfortranarray(s.modalities["audio"].values), s.modalities["audio"].offsets)
    ),
    "wider strings": lambda s: altered(s, fold=s.fold.astype("U9")),
    "order of the source's keys": lambda s: altered(s, source=dict(reversed(s.source.items()))),
    "digests given": lambda s: altered(s, digests=dict(s.card["digests"])),
}


@pytest.mark.parametrize("what", SAME)
def test_hash_stays_where_the_data_are_the_same(what):
    assert SAME[what](table()).card_hash == table().card_hash


def test_digest_tells_values_types_and_shapes_apart():
    x = np.arange(6, dtype=np.float32)
    other = x.copy()
    other[5] = np.nextafter(other[5], np.float32(9))
    arrays = [
        x,
        other,
        x.astype(np.float64),
        x.reshape(2, 3),
        x.reshape(3, 2),
        x[::-1],
        np.array(list("abc")),
        np.array(list("acb")),
    ]
    assert len({digest(a) for a in arrays}) == len(arrays)
    assert digest(x, other) != digest(other, x)
    assert digest(x) == digest(x.copy())
    assert digest(x.reshape(2, 3)) == digest(np.asfortranarray(x.reshape(2, 3)))
    assert digest(x[::2]) == digest(x[::2].copy())
