"""The store: what is written comes back bit for bit, damage is named, and a killed writer leaves nothing."""

import errno
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mdm.data.store as store_module
from mdm.data.base import Ragged, Segments, digest
from mdm.data.store import VERIFIED, VERSION, open_store, read_manifest, verify_store
from mdm.data.synthetic import synthetic
from mdm.data.writing import write_store
from mdm.ownership import InUse, own

FILES = {
    "manifest.json",
    "segments.npz",
    *(f"{feature}.{part}.npy" for feature in ("words", "vectors", "audio", "video") for part in ("values", "offsets")),
}


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


# Damage -------------------------------------------------------------------------------------------------


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


def edit(path, **changes):
    """Some of the arrays of an .npz file changed, the others left."""
    with np.load(path) as archive:
        arrays = {key: archive[key] for key in archive.files}
    np.savez(path, **(arrays | {key: change(arrays[key]) for key, change in changes.items()}))


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


# Verification -------------------------------------------------------------------------------------------


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
