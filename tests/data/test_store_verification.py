"""A store is verified once after each change, and notes it."""

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from data.stored import FILES, edit

import mdm.data.store as store_module
from mdm.data.store import VERIFIED, open_store, read_manifest, verify_store
from mdm.data.synthetic import synthetic
from mdm.data.writing import write_store


@pytest.fixture(scope="module")
def segments():
    """Words with a vocabulary, given vectors, two modalities, marks, truth, and segments that lack video or language."""
    return synthetic(train=30, valid=10, test=12, vectors=True, missing={"video": 0.3, "language": 0.1}, seed=3)


@pytest.fixture
def store(segments, tmp_path):
    return write_store(segments, tmp_path / "store")


def change_manifest(change):
    def edited(store):
        manifest = json.loads((store / "manifest.json").read_text())
        change(manifest)
        (store / "manifest.json").write_text(json.dumps(manifest))

    return edited


def reverse(file):
    return lambda store: np.save(store / file, np.load(store / file)[::-1])


CHANGED = {
    "video reversed": (reverse("video.values.npy"), r"video\.values\.npy"),
    "one bit of a frame": (lambda store: flip(store / "video.values.npy", -1), r"video\.values\.npy"),
    "one word": (lambda store: flip(store / "words.values.npy", -4), r"words\.values\.npy"),
    "a boundary": (lambda store: flip(store / "audio.offsets.npy", -16), r"audio\.offsets\.npy"),
    "labels reversed": (lambda store: edit(store / "segments.npz", label=lambda x: x[::-1]), r"segments\.npz has changed"),
    "a fold": (lambda store: edit(store / "segments.npz", fold=lambda x: x[::-1]), r"segments\.npz has changed"),
    "an id": (lambda store: edit(store / "segments.npz", ids=lambda x: np.array(["new", *x[1:]])), r"segments\.npz has changed"),
    "groups": (lambda store: edit(store / "segments.npz", group=lambda x: x[::-1]), r"segments\.npz has changed"),
    "a mark": (lambda store: edit(store / "segments.npz", **{"mark.contradictory": np.logical_not}), r"segments\.npz has changed"),
    "a word's spelling": (
        change_manifest(lambda m: m["vocabulary"]["words"].__setitem__(5, "other")),
        r"manifest\.json \(vocabulary\) has changed",
    ),
    "the range": (change_manifest(lambda m: m["card"].__setitem__("label_range", [-4.0, 4.0])), r"manifest\.json \(card_hash\)"),
    "the source": (change_manifest(lambda m: m["card"]["source"].__setitem__("x", 1)), r"manifest\.json \(card_hash\)"),
    "a count": (change_manifest(lambda m: m["card"]["folds"].__setitem__("train", 1)), r"manifest\.json \(card\)"),
    "a digest": (change_manifest(lambda m: m["card"]["digests"].__setitem__("audio", "0")), r"audio\.values\.npy"),
    "the hash": (change_manifest(lambda m: m.__setitem__("card_hash", "0")), r"manifest\.json \(card_hash\)"),
}


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("opened_before", [False, True])
@pytest.mark.parametrize("what", CHANGED)
def test_what_was_changed_is_named(store, what, opened_before):
    if opened_before:
        open_store(store)
    change, message = CHANGED[what]
    change(store)
    for reading in (open_store, open_store, verify_store):
        with pytest.raises(ValueError, match=rf"must hold what was written into it, but .*{message}.*prepare it again"):
            reading(store)


def test_values_are_read_once_after_each_change(store, monkeypatch):
    read = []
    monkeypatch.setattr("mdm.data.store.check_digests", lambda path, manifest, segments: read.append(path))
    for _ in range(3):
        open_store(store)
    assert len(read) == 1
    os.utime(store / "audio.values.npy")
    for _ in range(2):
        open_store(store)
    assert len(read) == 2
    verify_store(store)
    verify_store(store)
    assert len(read) == 4
    assert {path.name for path in store.iterdir()} == FILES | {VERIFIED}


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 10**5, b"null", b"\xff", b'{"manifest.json": [1, 2, 3, 4]}'])
def test_a_damaged_note_is_no_note(store, monkeypatch, content):
    (store / VERIFIED).write_bytes(content)
    np.save(store / "video.values.npy", np.load(store / "video.values.npy")[::-1])
    with pytest.raises(ValueError, match="has changed since"):
        open_store(store)


def test_a_forged_note_deceives_opening_and_not_verifying(store):
    """The note is kept against accidents; a person who can write it can write the manifest, too."""
    open_store(store)
    np.save(store / "video.values.npy", np.load(store / "video.values.npy")[::-1])
    _, found = read_manifest(store)
    (store / VERIFIED).write_text(json.dumps(found))
    open_store(store)
    with pytest.raises(ValueError, match=r"video\.values\.npy or video\.offsets\.npy has changed since"):
        verify_store(store)


@pytest.mark.parametrize("function", ["write_text", "replace"])
def test_a_store_that_cannot_be_written_is_verified_each_time(store, monkeypatch, function):
    def refuse(*arguments, **others):
        raise OSError(errno.EROFS, "Read-only file system")

    read = []
    check = store_module.check_digests
    monkeypatch.setattr(store_module, "check_digests", lambda *arguments: (read.append(1), check(*arguments)))
    monkeypatch.setattr(Path, function, refuse)
    for _ in range(2):
        open_store(store)
    assert len(read) == 2
    assert {path.name for path in store.iterdir()} == FILES


def test_many_openings_at_once(store):
    """Sixteen at a time, of a store that nobody has verified: all succeed, and one note is left."""
    with ThreadPoolExecutor(16) as pool:
        hashes = {segments.card_hash for segments in pool.map(open_store, [store] * 32)}
    assert len(hashes) == 1
    assert {path.name for path in store.iterdir()} == FILES | {VERIFIED}
    json.loads((store / VERIFIED).read_text())


def test_a_change_while_it_is_verified_is_not_noted(store, monkeypatch):
    check = store_module.check_digests

    def meanwhile(path, manifest, segments):
        check(path, manifest, segments)
        np.save(path / "video.values.npy", np.load(path / "video.values.npy")[::-1])

    monkeypatch.setattr(store_module, "check_digests", meanwhile)
    open_store(store)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="has changed since"):
        open_store(store)
