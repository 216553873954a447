"""A plain table of segments with files of features; LMF's columns; segments without a label."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from mdm.data.base import UNLABELED, Segments
from mdm.formats.base import RawSegment, part_unlabelled
from mdm.formats.csd import read_csd
from mdm.formats.feature_files import parse_frames, read_frames
from mdm.formats.lmf import read_lmf
from mdm.formats.table import find_tables, read_table
from mdm.formats.table_rows import read_rows

FOLDS = ("train", "valid", "test")
HEAD = "video_id,clip_id,text,label,mode\n"
ROWS = 'a,1,"it was, so, good",2.5,train\na,2,bad,-3,train\nb,1,so so,0,dev\nc,1,good,1.5,test\n'
FRAMES = np.arange(6.0, dtype=np.float32).reshape(3, 2)


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str = HEAD + ROWS, name: str = "label.csv") -> Path:
        path = tmp_path / "set" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def write_frames(path: Path) -> Path:
    """The same three steps in a file of any kind."""
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, FRAMES)
    elif path.suffix == ".mat":
        savemat(path, {"features": FRAMES})
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["f"] = FRAMES
    else:
        path.write_text("pitch;loudness\n" + "\n".join(";".join(map(str, row)) for row in FRAMES))
    return path


# Tables ----------------------------------------------------------------------------------------------------


def test_a_table_and_files_by_id(table: Any, stored: Callable[..., Segments]) -> None:
    path = table()
    write_frames(path.parent / "audio" / "a_1.npy")
    np.save(path.parent / "audio" / "b_1.npy", FRAMES[0])
    segments = stored("table", path, label_range=[-3, 3], audio="audio/{id}.npy")
    assert segments.ids == ("a_1", "a_2", "b_1", "c_1")
    assert (segments.group.tolist(), segments.fold.tolist()) == (["a", "a", "b", "c"], ["train", "train", "valid", "test"])
    assert (segments.label.ravel().tolist(), segments.words(0)) == ([2.5, -3, 0, 1.5], "it was, so, good")
    assert segments.modalities["audio"].lengths.tolist() == [3, 0, 1, 0]  # a vector is one step
    np.testing.assert_array_equal(segments.modalities["audio"][0], FRAMES)
    assert segments.source["files_absent"] == {"audio": 2}


def test_names_of_columns_are_options(table: Any, stored: Callable[..., Segments]) -> None:
    text = "Name\tWho\tSaid\tPart\tMood\tJoy\nx\tp\thi\ttrain\tup\t1\ny\tq\tho\tval\tdown\t0\nz\tr\tha\ttest\tup\t0\n"
    columns = {"id": "name", "group": "Who", "text": "said", "fold": "part", "targets": {"mood": "Mood", "joy": "Joy"}}
    segments = stored("table", table(text, "t.tsv"), **columns, values={"up": 1, "down": -1}, label_range=[-1, 1])
    assert (segments.targets, segments.label.tolist()) == (("mood", "joy"), [[1, 1], [-1, 0], [1, 0]])
    assert segments.group.tolist() == ["p", "q", "r"]


def test_tables_of_three_folds_that_count_anew(table: Any, stored: Callable[..., Segments]) -> None:
    for name in ("train_sent_emo.csv", "dev_sent_emo.csv", "test_sent_emo.csv"):
        table("Dialogue_ID,Utterance_ID,Utterance,Sentiment\n0,0,hi,positive\n0,1,no,negative\n", name)
    segments = stored("table", table("", "notes.txt").parent, values={"positive": 1, "negative": -1}, label_range=[-1, 1])
    assert segments.ids == ("train_0_0", "train_0_1", "valid_0_0", "valid_0_1", "test_0_0", "test_0_1")
    assert segments.group.tolist() == ["train_0", "train_0", "valid_0", "valid_0", "test_0", "test_0"]
    assert "each table counts from the beginning" in segments.source["ids"]
    assert find_tables(["train.csv", "dev.csv", "val.csv", "test.csv"]) == {}  # two for one fold
    assert find_tables(["only.csv", "x.md"]) == {"": "only.csv"}


@pytest.mark.parametrize("suffix", [".npy", ".mat", ".h5", ".csv"])
def test_files_of_every_kind_hold_the_same(tmp_path: Path, suffix: str) -> None:
    path = write_frames(tmp_path / f"a{suffix}")
    with parse_frames([path]) as processes:
        np.testing.assert_array_equal(read_frames(path, "a", processes), FRAMES)


def test_files_that_are_no_features(tmp_path: Path) -> None:
    def refuse(path: Path, message: str) -> None:
        with parse_frames([path]) as processes, pytest.raises(ValueError, match=message):
            read_frames(path, "a, audio", processes)

    (tmp_path / "a.wav").write_bytes(b"RIFF")
    refuse(tmp_path / "a.wav", r"a, audio: a file of features must be one of \.npy, .*, but is a\.wav; convert it")
    cut = write_frames(tmp_path / "a.npy")
    cut.write_bytes(cut.read_bytes()[:-8])
    refuse(cut, r"a\.npy must be an array of numbers, but cannot be read")
    (tmp_path / "a.csv").write_text("x,y\n1,two\n")
    refuse(tmp_path / "a.csv", r"a\.csv must be rows of numbers, but cannot be read .*correct it")
    savemat(tmp_path / "a.mat", {"x": FRAMES, "y": FRAMES})
    refuse(tmp_path / "a.mat", r"a\.mat must hold one variable, but has x, y; leave one")
    (tmp_path / "b.mat").write_bytes(b"no")
    refuse(tmp_path / "b.mat", r"b\.mat must be a MATLAB file up to version 7, but cannot be read")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, r"label\.csv must be a table, but is empty"),
        ("id,id\n1,2\n", {}, "columns of different names and a row, but has id, id"),
        ("id,text\n", {}, "columns of different names and a row, but has id, text"),
        (HEAD + "a,1,it was, so,1,train\n", {}, "each row must have 5 columns, but row 2 has 6; quote texts with separators"),
        (HEAD + ROWS, {"fold": "part"}, r"a column for fold \(part\), but has video_id, .*; pass options\.fold=<column>"),
        (HEAD + ROWS.replace(",dev", ",maybe"), {}, "a fold must be one of train, .*, but is 'maybe'; rename it"),
        (HEAD + ROWS.replace("-3", "low"), {}, r"a label must be a number, but is 'low'; pass options\.values="),
        (HEAD + ROWS.replace("-3", "low"), {"values": {"high": 1}}, "a number or one of high, but is 'low'"),
        (HEAD + ROWS.replace("a,1", "a/../b,1"), {}, "its id must have 1 to 200 bytes without control characters and separators"),
        (HEAD + ROWS, {"audio": "audio/x.npy"}, r"a path with \{id\} in it, .* but audio is 'audio/x\.npy'"),
        (HEAD + ROWS, {"audio": "{id}/{name}.npy"}, r"a path with \{id\} in it"),
        (HEAD + ROWS, {"lable": "label{"}, "unknown options are modalities"),
        (HEAD + ROWS, {"audio": "audio/{id}.npy"}, r"audio must have a file for some segment, but none is there .*options\.audio"),
    ],
)
def test_tables_that_are_refused(table: Any, text: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_table(table(text), label_range=[-3, 3], **options)


def test_other_files_than_tables(table: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table()
    (path.parent / "more.csv").write_text(HEAD)
    with pytest.raises(ValueError, match="must hold one table, or one for each of train, valid"):
        read_table(path.parent)
    (tmp_path / "latin.csv").write_bytes(b"id,text\n1,\xe9\n")
    with pytest.raises(ValueError, match=r"latin\.csv must be a table of UTF-8"):
        read_rows(tmp_path / "latin.csv")
    (tmp_path / "t.parquet").write_bytes(b"PAR1no")
    monkeypatch.setattr("mdm.extras.find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"A table in parquet needs pyarrow, which is not installed; run `pip install 'mdm\[tables\]'`"
    ):
        read_rows(tmp_path / "t.parquet")


def test_a_table_in_parquet(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.table({"id": [1, 2], "text": ["hi", None], "label": [0.5, -1.0]}), path)
    assert read_rows(path) == [{"id": "1", "text": "hi", "label": "0.5"}, {"id": "2", "text": "", "label": "-1.0"}]
    path.write_bytes(b"PAR1" + bytes(20))
    with pytest.raises(ValueError, match="must be a table in parquet, but cannot be read"):
        read_rows(path)
    parquet.write_table(pyarrow.table({"id": pyarrow.array([], pyarrow.int64())}), path)
    with pytest.raises(ValueError, match="but has no row"):
        read_rows(path)


@pytest.mark.real_data
def test_mosi_s_table(real_data: Path) -> None:
    segments = read_table(real_data / "mosi" / "mosi_label.csv", label_range=[-3, 3])
    sizes = [int((segments.fold == fold).sum()) for fold in FOLDS]
    assert (len(segments), sum(sizes), len(set(segments.group.tolist()))) == (2195, 2195, 93)


# Segments without a label ----------------------------------------------------------------------------------


def test_segments_without_a_label(table: Any, stored: Callable[..., Segments], caplog: pytest.LogCaptureFixture) -> None:
    more = "a,3,so,,train\nd,1,bad,,unlabelled\nc,2,it,,test\n"
    segments = stored("table", table(HEAD + ROWS + more), label_range=[-3, 3])
    assert segments.fold.tolist() == ["train", "train", "valid", "test", UNLABELED, UNLABELED]
    assert np.isnan(segments.label[4:]).all()
    assert segments.source["unlabelled"] == {"train": 1, UNLABELED: 1, "test": 1}
    assert segments.source["dropped"] == ["c_2"]
    assert "1 segments of train, 1 segments of unlabeled, 1 segments of test have no label" in caplog.text


def test_a_label_of_several_targets_may_not_lack_one(tmp_path: Path) -> None:
    rows = [RawSegment("a", "train", "a", np.array([1.0, np.nan]), {})]
    assert part_unlabelled(rows, "tiny") == (rows, {}, [])  # `check` refuses it


# LMF -------------------------------------------------------------------------------------------------------


def lmf(label: Any, text: str = "glove") -> dict[str, Any]:
    glove = np.zeros((4, 5, 2), np.float32)
    glove[:, 2:] = 1.0
    return {f: {"covarep": np.ones((4, 3)), "facet": np.ones((4, 1)), text: glove, "label": np.array(label)} for f in FOLDS}


def test_lmf_s_columns(dump: Any, stored: Callable[..., Segments]) -> None:
    for text in ("glove", "text"):
        segments = stored("lmf", dump(lmf([[1.0], [2], [0.5], [-3]], text)), label_range=[-3, 3])
        assert (segments.targets, segments.aligned) == (("sentiment",), ())
        assert segments.modalities["audio"].lengths.tolist() == [1] * 12
        assert segments.text["vectors"].lengths.tolist() == [3] * 12


def test_lmf_s_emotions(dump: Any, stored: Callable[..., Segments]) -> None:
    path = dump({"happy": lmf([[1, 0], [0, 1], [0, 1], [1, 0]]), "sad": lmf([[1, 0]] * 4)}, "iemocap.pkl")
    segments = stored("lmf", path, emotion="happy", label_range=[0, 1])
    assert (segments.targets, segments.label[:4].ravel().tolist()) == (("happy",), [0, 1, 1, 0])
    with pytest.raises(ValueError, match=r"it has happy, sad, and emotion is None; pass options\.emotion=<one of happy, sad>"):
        read_lmf(path)
    with pytest.raises(ValueError, match=r"it has folds and no emotions, and emotion is happy; leave options\.emotion out"):
        read_lmf(dump(lmf([[1.0]] * 4)), emotion="happy")
    with pytest.raises(ValueError, match="labels must be numbers, but are"):
        read_lmf(dump(lmf([["a"]] * 4)))


# Lists of folds --------------------------------------------------------------------------------------------


def test_a_list_of_folds_may_name_a_few_videos_that_are_absent(csd: Any, caplog: pytest.LogCaptureFixture) -> None:
    videos = {video: ([[0.0, 1.0]], [[k - 2.0]]) for k, video in enumerate("vwxyz")}
    folder = csd("X_Opinion_Labels.csd", videos).parent
    csd("X_TimestampedWords.csd", {video: ([[0.0, 1.0]], np.array([["hi"]])) for video in videos})
    (folder / "x_folds.json").write_text('{"train": ["v", "w", "x"], "dev": ["y"], "test": ["z", "gone"]}')
    segments = read_csd(folder)
    assert len(segments) == 5
    assert segments.source["folds_without_labels"] == ["gone"]
    assert "x_folds.json names 1 videos that have no labels, and they are left: gone" in caplog.text
