"""The store: what is written comes back bit for bit, and a killed writer leaves nothing."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from data.stored import FILES

from mdm.data.base import Ragged, Segments, digest
from mdm.data.store import VERIFIED, open_store
from mdm.data.synthetic import synthetic
from mdm.data.writing import write_store
from mdm.ownership import InUse, own


@pytest.fixture(scope="module")
def segments():
    """Words with a vocabulary, given vectors, two modalities, marks, truth, and segments that lack video or language."""
    return synthetic(train=30, valid=10, test=12, vectors=True, missing={"video": 0.3, "language": 0.1}, seed=3)


@pytest.fixture
def store(segments, tmp_path):
    return write_store(segments, tmp_path / "store")


def stop(*_, **__):
    raise KeyboardInterrupt


# Round trip ---------------------------------------------------------------------------------------------


def test_everything_comes_back_bit_for_bit(segments, store):
    back = open_store(store)
    for field in ("name", "ids", "targets", "label_range", "aligned", "truth", "source"):
        assert getattr(back, field) == getattr(segments, field), field
    for field in ("fold", "group", "label"):
        np.testing.assert_array_equal(getattr(back, field), getattr(segments, field), strict=field == "label")
    assert list(back.features) == list(segments.features)
    assert list(back.text) == list(segments.text)
    for name, ragged in segments.features.items():
        assert back.features[name].vocabulary == ragged.vocabulary
        assert digest(back.features[name].values) == digest(ragged.values)
        assert digest(back.features[name].offsets) == digest(ragged.offsets)
    assert list(back.marks) == list(segments.marks)
    for mark, flags in segments.marks.items():
        np.testing.assert_array_equal(back.marks[mark], flags, strict=True)


def test_card_and_hash_survive(segments, store):
    back = open_store(store)
    assert back.card == segments.card
    assert back.card_hash == segments.card_hash


def test_a_lacking_modality_stays_lacking(segments, store):
    lengths = open_store(store).modalities["video"].lengths
    assert (lengths == 0).any()
    np.testing.assert_array_equal(lengths, segments.modalities["video"].lengths)


def test_a_store_of_a_store_is_the_same(store, tmp_path):
    again = write_store(open_store(store), tmp_path / "again")
    assert {p.name for p in again.iterdir()} == FILES
    for name in FILES - {"segments.npz"}:
        assert (again / name).read_bytes() == (store / name).read_bytes(), name


def test_words_beyond_ascii_several_targets_and_no_text(tmp_path):
    words = Ragged.of_words([["naïve", "电影"], ["—"], ["it's"], ["'"]])
    audio = Ragged.of([np.full((2, 3), float(i), dtype=np.float32) for i in range(4)])
    table = Segments(
        name="ümläut",
        ids=("ä[0]", "b,1", 'c"2', "d 3"),
        fold=np.array(["train", "valid", "test", ""]),
        group=np.array(["ä", "b", "c", "d"]),
        label=np.array([[0.1, 1], [2, 0], [0, 3], [1, 1]], dtype=np.float32),
        targets=("happy", "sad"),
        label_range=(0.0, 3.0),
        modalities={"audio": audio},
        text={"words": words},
    )
    back = open_store(write_store(table, tmp_path / "deep" / "store"))
    assert (back.ids, back.name, back.targets) == (table.ids, table.name, table.targets)
    assert back.words(0) == "naïve 电影"
    assert back.card_hash == table.card_hash

    assert open_store(write_store(replace(table, text={}), tmp_path / "silent")).text == {}


def test_values_are_mapped_and_cannot_be_changed(store):
    for name, ragged in open_store(store).features.items():
        assert isinstance(ragged.values, np.memmap), name
        with pytest.raises(ValueError, match="read-only"):
            ragged.values[0] = 0


def test_no_file_holds_a_pickle(store):
    """Reading with pickles forbidden, each array by itself."""
    for path in store.glob("*.npy"):
        np.load(path, allow_pickle=False)
    with np.load(store / "segments.npz", allow_pickle=False) as archive:
        for key in archive.files:
            assert archive[key].dtype != object


def test_progress_hears_of_each_file(segments, tmp_path):
    heard = []
    write_store(segments, tmp_path / "store", progress=heard.append)
    assert heard == [*segments.features, "segments", "manifest"]


# Writing ------------------------------------------------------------------------------------------------


def test_another_store_is_not_replaced_silently(segments, store):
    before = {p.name: p.read_bytes() for p in store.iterdir()}
    with pytest.raises(ValueError, match=r"must not replace anything silently, but .*store exists"):
        write_store(segments, store)
    assert {p.name: p.read_bytes() for p in store.iterdir()} == before


def test_overwrite_replaces(store, tmp_path):
    other = synthetic(train=5, valid=2, test=3, seed=4)
    (store / "left.over").write_text("of the first store")
    write_store(other, store, overwrite=True)
    assert open_store(store).card_hash == other.card_hash
    assert {p.name for p in store.iterdir()} - {VERIFIED} == {f for f in FILES if not f.startswith("vectors")}
    assert [p.name for p in tmp_path.iterdir()] == ["store"]


def test_broken_segments_are_not_written(segments, tmp_path):
    with pytest.raises(ValueError, match="labels must lie"):
        write_store(replace(segments, label=segments.label + 9), tmp_path / "store")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("function", ["save", "savez"])
def test_a_writer_that_fails_leaves_nothing(segments, tmp_path, monkeypatch, function):
    monkeypatch.setattr(np, function, stop)
    with pytest.raises(KeyboardInterrupt):
        write_store(segments, tmp_path / "store")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("last", ["words", "video", "segments", "manifest"])
def test_a_writer_that_fails_at_any_file_leaves_the_old_store(store, tmp_path, last):
    old = {p.name: p.read_bytes() for p in store.iterdir()}

    def progress(feature):
        assert not (tmp_path / "new").exists()
        if feature == last:
            raise OSError("disk full")

    other = synthetic(train=5, valid=2, test=3, seed=4)
    for out in (store, tmp_path / "new"):
        with pytest.raises(OSError, match="disk full"):
            write_store(other, out, overwrite=True, progress=progress)
    assert {p.name: p.read_bytes() for p in store.iterdir()} == old
    assert [p.name for p in tmp_path.iterdir()] == ["store"]


def test_what_a_killed_writer_left_is_removed(segments, tmp_path):
    left = tmp_path / ".store.writing" / "partial"
    left.mkdir(parents=True)
    (left / "audio.values.npy").write_bytes(b"half")
    other = tmp_path / ".neighbour.writing"
    other.mkdir()
    write_store(segments, tmp_path / "store")
    assert {p.name for p in tmp_path.iterdir()} == {"store", other.name}


def test_what_a_killed_writer_was_replacing_is_put_back(segments, store, tmp_path):
    (tmp_path / ".store.writing").mkdir()
    store.rename(tmp_path / ".store.writing" / "replaced")
    with pytest.raises(ValueError, match=r"must not replace anything silently, but .*store exists"):
        write_store(segments, store)
    assert open_store(store).card_hash == segments.card_hash
    assert [p.name for p in tmp_path.iterdir()] == ["store"]


def test_a_store_has_one_writer_at_a_time(segments, tmp_path):
    with own(tmp_path / ".store.writing"):
        pid = os.fork()
        if pid == 0:
            with pytest.raises(InUse, match=r"\.store\.writing is in use by process"):
                write_store(segments, tmp_path / "store")
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    write_store(segments, tmp_path / "store")


def test_a_store_can_be_moved(segments, store, tmp_path):
    shutil.move(store, tmp_path / "elsewhere")
    assert open_store(tmp_path / "elsewhere").card_hash == segments.card_hash
