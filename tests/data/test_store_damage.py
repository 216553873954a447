"""A damaged store: each damage is one message that names the file."""

import json
import os

import numpy as np
import pytest
from data.stored import FILES, edit

from mdm.data.store import VERSION, open_store, verify_store
from mdm.data.synthetic import synthetic
from mdm.data.writing import write_store


@pytest.fixture(scope="module")
def segments():
    """Words with a vocabulary, given vectors, two modalities, marks, truth, and segments that lack video or language."""
    return synthetic(train=30, valid=10, test=12, vectors=True, missing={"video": 0.3, "language": 0.1}, seed=3)


@pytest.fixture
def store(segments, tmp_path):
    return write_store(segments, tmp_path / "store")


def test_no_store(tmp_path):
    with pytest.raises(ValueError, match=r"folder with a manifest\.json, but .*nothing has none.*mdm prepare"):
        open_store(tmp_path / "nothing")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="has none"):
        open_store(tmp_path / "file")


@pytest.mark.parametrize("file", sorted(FILES))
def test_a_missing_file_is_named(store, file):
    (store / file).unlink()
    with pytest.raises(ValueError, match=file.replace(".", r"\.")):
        open_store(store)


@pytest.mark.parametrize("version", [None, 0, 1, VERSION + 1, "1"])
def test_another_version(store, version):
    manifest = json.loads((store / "manifest.json").read_text())
    (store / "manifest.json").write_text(json.dumps(manifest | {"version": version}))
    with pytest.raises(ValueError, match=rf"stores of version {VERSION}, but this one says {version}"):
        open_store(store)


@pytest.mark.parametrize("text", ["", "{", "no json at all"])
def test_a_damaged_manifest(store, text):
    (store / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=r"reading them failed"):
        open_store(store)


def test_a_cut_off_array(store):
    content = (store / "video.values.npy").read_bytes()
    (store / "video.values.npy").write_bytes(content[:-8])
    with pytest.raises(ValueError, match=r"reading them failed"):
        open_store(store)


@pytest.mark.parametrize("file", ["video.values.npy", "video.offsets.npy", "segments.npz"])
def test_a_file_of_something_else(store, file):
    (store / file).write_bytes(b"something else altogether")
    with pytest.raises(ValueError, match="reading them failed"):
        open_store(store)


def test_an_array_of_objects_is_not_opened(store):
    """Loading it would run what it says."""
    np.save(store / "audio.values.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"reading them failed"):
        open_store(store)


@pytest.mark.parametrize("part", ["values", "offsets"])
def test_files_that_disagree(store, part):
    path = store / f"audio.{part}.npy"
    np.save(path, np.load(path)[:-1])
    with pytest.raises(ValueError, match="every file must hold 52 segments, but audio does not"):
        open_store(store)


def npy(array, **options):
    return lambda path: np.save(path, array, **options)


HEADER = b"\x93NUMPY\x01\x00\x76\x00" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d, 2), }"
DAMAGE = {
    "audio.values.npy": {
        "empty": lambda p: p.write_bytes(b""),
        "truncated header": lambda p: p.write_bytes(p.read_bytes()[:20]),
        "truncated": lambda p: p.write_bytes(p.read_bytes()[:-1]),
        "another dtype": lambda p: np.save(p, np.load(p).astype(np.float64)),
        "another byte order": lambda p: np.save(p, np.load(p).astype(">f4")),
        "another shape": lambda p: np.save(p, np.load(p)[:, None]),
        "flat": lambda p: np.save(p, np.load(p).reshape(-1)),
        "objects": npy(np.array([{"a": 1}], dtype=object), allow_pickle=True),
        "structured": npy(np.zeros(3, [("x", "f4"), ("y", "f4")])),
        "a scalar": npy(np.float32(1)),
        "petabytes": lambda p: p.write_bytes((HEADER % 10**14).ljust(127) + b"\n" + bytes(64)),
        "a negative shape": lambda p: p.write_bytes((HEADER % -5).ljust(127) + b"\n" + bytes(64)),
        "a header of code": lambda p: p.write_bytes((HEADER % 5).replace(b"(5, 2)", b"[1]*9**9").ljust(127) + b"\n" + bytes(64)),
        "an archive": lambda p: p.write_bytes((p.parent / "segments.npz").read_bytes()),
        "a folder": lambda p: (p.unlink(), p.mkdir()),
        "a pipe": lambda p: (p.unlink(), os.mkfifo(p)),
        "a broken link": lambda p: (p.unlink(), p.symlink_to("nowhere")),
    },
    "audio.offsets.npy": {
        "empty": lambda p: p.write_bytes(b""),
        "of nothing": npy(np.zeros(0, np.int64)),
        "another dtype": lambda p: np.save(p, np.load(p).astype(np.int32)),
        "two axes": lambda p: np.save(p, np.load(p)[None]),
        "a scalar": npy(np.int64(1)),
        "objects": npy(np.array([None], dtype=object), allow_pickle=True),
        "truncated": lambda p: p.write_bytes(p.read_bytes()[:-8]),
    },
    "segments.npz": {
        "empty": lambda p: p.write_bytes(b""),
        "truncated": lambda p: p.write_bytes(p.read_bytes()[:-30]),
        "a plain array": lambda p: p.write_bytes((p.parent / "audio.values.npy").read_bytes()),
        "objects": lambda p: edit(p, ids=lambda ids: ids.astype(object)),
        "compressed": lambda p: np.savez_compressed(p, **dict(np.load(p))),
        "labels of another type": lambda p: edit(p, label=lambda label: label.astype(np.float64)),
        "labels of one axis": lambda p: edit(p, label=lambda label: label[:, 0]),
        "marks of numbers": lambda p: edit(p, **{"mark.contradictory": lambda flags: flags.astype(int)}),
        "folds of bytes": lambda p: edit(p, fold=lambda fold: fold.astype("S")),
        "a column lacking": lambda p: np.savez(p, **{k: v for k, v in dict(np.load(p)).items() if k != "group"}),
        "a column too many": lambda p: np.savez(p, **dict(np.load(p)), more=np.zeros(52)),
    },
    "manifest.json": {
        "empty": lambda p: p.write_bytes(b""),
        "no UTF-8": lambda p: p.write_bytes(b"\xff\xfe" + p.read_bytes()),
        "truncated": lambda p: p.write_bytes(p.read_bytes()[:-20]),
        "deep": lambda p: p.write_text("[" * 10**5),
        "a list": lambda p: p.write_text("[]"),
        "null": lambda p: p.write_text("null"),
        "a pipe": lambda p: (p.unlink(), os.mkfifo(p)),
    },
}


@pytest.mark.parametrize(("file", "damage"), [(file, damage) for file, damages in DAMAGE.items() for damage in damages])
def test_a_damaged_file_is_one_message_that_names_it(store, file, damage):
    DAMAGE[file][damage](store / file)
    for reading in (open_store, verify_store):
        with pytest.raises(ValueError, match=r"store: a store's files must be whole.*|A store is a folder") as caught:
            reading(store)
        assert file in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("card", None),
        ("card", {}),
        ("card", {"digests": {}}),
        ("digests", None),
        ("digests", []),
        ("vocabulary", None),
        ("vocabulary", {"words": 3}),
        ("vocabulary", {"words": [1, 2]}),
        ("text", None),
        ("text", 3),
        ("text", ["../outside"]),
        ("modalities", ["/etc/passwd"]),
        ("modalities", ["audio"]),
        ("modalities", [1]),
        ("card_hash", 5),
    ],
)
def test_a_manifest_of_another_form_is_one_message(store, key, value):
    manifest = json.loads((store / "manifest.json").read_text())
    (store / "manifest.json").write_text(json.dumps(manifest | {key: value}))
    with pytest.raises(ValueError, match=r"manifest\.json"):
        open_store(store)


@pytest.mark.parametrize("key", ["version", "card", "digests", "card_hash", "vocabulary", "text", "modalities"])
def test_a_manifest_that_lacks_a_key(store, key):
    manifest = json.loads((store / "manifest.json").read_text())
    (store / "manifest.json").write_text(json.dumps({k: v for k, v in manifest.items() if k != key}))
    with pytest.raises(ValueError, match=r"manifest\.json|version 3, but this one says None"):
        open_store(store)
