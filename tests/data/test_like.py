"""Other segments are read as a training fold says; a store is mapped, and its pages are given back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from data.made import SIZES, VOCABULARY, choose_epoch, equal, rows_of, table

from mdm.data import views as views_module
from mdm.data.base import UNKNOWN, Ragged
from mdm.data.splits import Splits
from mdm.data.store import open_store
from mdm.data.views import release
from mdm.data.writing import write_store


@pytest.fixture(scope="module")
def segments():
    return table()


@pytest.fixture
def selection(tmp_path):
    return choose_epoch(tmp_path)


# Other segments, read in the same way -------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"scale": "maxabs", "max_steps": 3}, {"text": "vectors", "modalities": ["language", "video"]}]
)
def test_like_reads_other_segments_by_this_training_fold(segments, selection, options):
    """The same frames under other ids and in other folds come out the same, whatever is in the other training fold."""
    splits = Splits(segments, batch_size=5, **options)
    fold = np.full(len(segments), "test", dtype="U5")
    fold[rows_of(segments, "valid")[:2]] = "train"
    other = replace(segments, ids=tuple(f"new {i}" for i in segments.ids), fold=fold, label=segments.label / 2)
    read = splits.like(other)
    assert read.spec == splits.spec
    assert read.sizes == {"train": 2, "valid": 0, "test": len(segments) - 2}
    here = {i: (b, k) for b in [*splits.in_order("train"), *splits.open_test(selection)] for k, i in enumerate(b.ids)}
    compared = 0
    for batch in read.in_order("test"):
        for k, name in enumerate(batch.ids):
            if (i := name.removeprefix("new ")) not in here:
                continue
            before, j = here[i]
            compared += 1
            assert torch.equal(batch.label[k], before.label[j] / 2)
            for m, sequence in batch.sequences.items():
                assert torch.equal(sequence.values[k][sequence.mask[k]], before.sequences[m].values[j][before.sequences[m].mask[j]])
    assert compared == SIZES["train"] + SIZES["test"]


def test_like_leaves_the_first_as_it_was(segments):
    """The test fold of the others may be read in order, that of the first stays shut."""
    splits = Splits(segments, batch_size=5)
    before = list(splits.train()), dict(splits.sizes)
    other = splits.like(table(seed=5))
    assert [i for b in other.in_order("test") for i in b.ids] == other.describe("test")["id"]
    with pytest.raises(ValueError, match="opens only after a checkpoint"):
        splits.in_order("test")
    assert splits.sizes == before[1]
    assert all(equal(a, b) for a, b in zip(splits.train(), before[0], strict=True))


def wider(segments):
    audio = segments.modalities["audio"]
    return Ragged(np.repeat(audio.values, 2, axis=1), audio.offsets)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: replace(s, modalities={"audio": s.modalities["audio"]}), "tiny's video is missing"),
        (lambda s: replace(s, text={}, aligned=()), "tiny's words is missing"),
        (lambda s: replace(s, modalities={**s.modalities, "audio": wider(s)}), "tiny's audio is of another kind or width"),
        (
            lambda s: replace(s, text={"words": Ragged(s.text["words"].values, s.text["words"].offsets)}, aligned=()),
            "tiny's words is of another kind or width",
        ),
        (lambda s: replace(s, label_range=(0.0, 3.0)), "labels must lie in the declared range"),
    ],
)
def test_like_refuses_other_features(segments, change, message):
    with pytest.raises(ValueError, match=message):
        Splits(segments).like(change(segments))


def test_like_reads_words_by_what_they_are(segments):
    """Another store has another vocabulary: the same words have the same ids here, and a word that the data have not is unknown."""
    known = segments.rows(np.flatnonzero(segments.fold != "test"))
    words = known.text["words"]
    turned = np.array([0, 1, *range(len(VOCABULARY), 1, -1)], dtype=np.int32)  # w02 is 20, …, w19 is 3; 2 is a new word
    vocabulary = ("<pad>", "<unk>", "new", *reversed(VOCABULARY[2:]))
    splits = Splits(segments)
    same = splits.like(replace(known, text={"words": Ragged(turned[words.values], words.offsets, vocabulary)}, aligned=()))
    assert all(equal(a, b) for a, b in zip(splits.valid(), same.in_order("valid"), strict=True))
    new = np.full_like(words.values, 2)
    strange = splits.like(replace(known, text={"words": Ragged(new, words.offsets, vocabulary)}, aligned=()))
    language = next(iter(strange.in_order("valid"))).sequences["language"]
    assert set(language.values[language.mask].tolist()) == {UNKNOWN}


def test_like_takes_ids_of_a_tokenizer_that_reach_no_further(segments):
    tokens = Ragged(segments.text["words"].values, segments.text["words"].offsets)
    splits = Splits(replace(segments, text={"tokens": tokens}, aligned=()), text="tokens")
    feature = splits.spec.features["language"]
    assert (feature.dim, feature.others) == (12, 8)  # training has the words up to 11, the others up to 19
    splits.like(replace(segments, text={"tokens": Ragged(tokens.values // 2, tokens.offsets)}, aligned=()))
    with pytest.raises(ValueError, match="tiny's tokens is of another kind or width"):
        splits.like(replace(segments, text={"tokens": Ragged(tokens.values + 1, tokens.offsets)}, aligned=()))


# Mapped files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_most", [1, views_module.MAPPED_AT_MOST])
@pytest.mark.parametrize("scale", ["standard", "maxabs", "none"])
def test_a_store_reads_as_its_segments(segments, tmp_path, monkeypatch, at_most, scale):
    """Also where pages are given back after every read."""
    monkeypatch.setattr(views_module, "MAPPED_AT_MOST", at_most)
    stored = open_store(write_store(segments, tmp_path / "store"))
    a, b = (Splits(s, batch_size=5, scale=scale, text="vectors") for s in (segments, stored))
    for _ in range(2):
        assert all(equal(x, y) for x, y in zip(a.train(), b.train(), strict=True))
        assert all(equal(x, y) for x, y in zip(a.valid(), b.valid(), strict=True))


def test_release_keeps_values_readable(segments, tmp_path, monkeypatch):
    monkeypatch.setattr(views_module, "MAPPED_AT_MOST", 1)
    stored = open_store(write_store(segments, tmp_path / "store")).modalities["audio"]
    for array in (stored.values, stored.values[3:], stored[2], np.asarray(stored.values), stored.values.copy()):
        before = np.array(array)
        release(array)
        np.testing.assert_array_equal(array, before)


def resident(path):
    """Kilobytes of a mapped file that count towards this process."""
    sizes, inside = [], False
    with open("/proc/self/smaps") as file:
        for line in file:
            if "-" in line.split()[0]:
                inside = line.rstrip().endswith(str(path))
            elif inside and line.startswith("Rss:"):
                sizes.append(int(line.split()[1]))
    return sum(sizes)


@pytest.mark.skipif(not Path("/proc/self/smaps").is_file(), reason="reads Linux's map of memory")
def test_release_gives_pages_back(tmp_path, monkeypatch):
    monkeypatch.setattr(views_module, "MAPPED_AT_MOST", 1)
    path = tmp_path / "large.npy"
    np.save(path, np.ones((1024, 1024), dtype=np.float32))
    values = np.load(path, mmap_mode="r")
    assert float(values[:].sum()) == 2**20
    assert resident(path) >= 4096
    release(values[5:])
    assert resident(path) == 0
