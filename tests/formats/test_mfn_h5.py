"""Folders of word-aligned HDF5 files: zeros on either side, and a fold that may lack a modality."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mdm.data.base import Segments
from mdm.formats.mfn_h5 import read_mfn_h5

RANGE = (1.0, 5.0)
# five words, the first and last empty in every modality; audio begins a word later, video has a hole
TEXT = np.array([[0, 0], [1, 2], [3, 4], [5, 6], [0, 0]], float)
AUDIO = np.array([[0], [0], [7], [8], [0]], float)
VIDEO = np.array([[0], [9], [0], [0], [0]], float)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two segments a fold; train lacks the text file, and the second segment of test lacks video (zeros)."""
    path = tmp_path / "ict"
    path.mkdir()
    for fold, text in [("train", None), ("valid", "text_valid.h5"), ("test", "text_test_emb.h5")]:
        second = VIDEO * (fold != "test")
        write(path / f"audio_{fold}.h5", np.stack([AUDIO, AUDIO]))
        write(path / f"video_{fold}.h5", np.stack([VIDEO, second]))
        write(path / f"y_{fold}.h5", np.array([1.0, 4.5]), key="data")
        if text:
            write(path / text, np.stack([TEXT, TEXT]))
    return path


def write(path: Path, array: Any, key: str = "d1") -> None:
    with h5py.File(path, "w") as file:
        file[key] = array


def test_steps_that_are_zero_in_all_modalities_are_cut_at_the_ends(folder: Path, stored: Callable[..., Segments]) -> None:
    segments = stored("mfn_h5", folder, label_range=RANGE)
    assert segments.ids == ("train_0", "train_1", "valid_0", "valid_1", "test_0", "test_1")
    assert segments.group.tolist() == list(segments.ids)
    assert segments.fold.tolist() == ["train"] * 2 + ["valid"] * 2 + ["test"] * 2
    assert segments.label[:, 0].tolist() == [1.0, 4.5] * 3
    assert segments.aligned == ("vectors", "audio", "video")
    for k in (0, 2, 4):
        assert segments.modalities["audio"][k].tolist() == [[0], [7], [8]]
        assert segments.modalities["video"][k].tolist() == [[9], [0], [0]]
    assert segments.text["vectors"][2].tolist() == [[1, 2], [3, 4], [5, 6]]


def test_an_absent_file_is_a_missing_modality(folder: Path, stored: Callable[..., Segments]) -> None:
    segments = stored("mfn_h5", folder, label_range=RANGE)
    assert segments.text["vectors"].lengths.tolist() == [0, 0, 3, 3, 3, 3]
    assert segments.source["files_absent"] == {"vectors": ["train"]}
    assert segments.card["features"]["vectors"]["missing"] == {"train": 2, "valid": 0, "test": 0}
    assert segments.card["features"]["video"]["missing"] == {"train": 0, "valid": 0, "test": 1}
    assert set(segments.source["files"]) == {path.name for path in folder.iterdir()}


def test_without_text_a_segment_begins_where_another_modality_does(folder: Path, stored: Callable[..., Segments]) -> None:
    (folder / "video_train.h5").unlink()
    segments = stored("mfn_h5", folder, label_range=RANGE)
    assert segments.modalities["audio"][0].tolist() == [[7], [8]]


def test_the_label_range_must_be_given(folder: Path) -> None:
    with pytest.raises(
        ValueError, match=r"label_range must be \(low, high\).*but is None; pass options.label_range=.*\[1,5\] for ICT"
    ):
        read_mfn_h5(folder)


def test_y_may_be_a_column_and_dev_another_name(folder: Path, stored: Callable[..., Segments]) -> None:
    for path in folder.glob("*_valid.h5"):
        path.rename(folder / path.name.replace("valid", "dev"))
    write(folder / "y_dev.h5", np.array([[2.0], [3.0]]))
    assert stored("mfn_h5", folder, label_range=RANGE).label[2:4].tolist() == [[2.0], [3.0]]


def break_file(name: str, array: Any) -> Callable[[Path], None]:
    return lambda folder: write(folder / name, array)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "y_test.h5").unlink(), r"needs the labels y_test\.h5, but .* has none; check the folder"),
        (
            lambda folder: [(folder / f"{m}_train.h5").unlink() for m in ("audio", "video")],
            r"needs a modality for each fold, but train has none of text_train_emb\.h5, audio_train\.h5, video_train\.h5",
        ),
        (
            lambda folder: (folder / "y_test.h5").write_text("no"),
            r"y_test\.h5 must be an HDF5 file, but cannot be read .*download",
        ),
        (break_file("audio_test.h5", np.ones((2, 5))), r"audio_test\.h5 must hold a dataset of 3 dimensions.*\[2, 5\]"),
        (break_file("y_test.h5", np.ones((2, 3))), "y must have the columns that targets names, .*'test': 3"),
        (break_file("y_test.h5", np.ones((2, 3, 1))), r"y_test\.h5 must hold a dataset of 1 or 2 dimensions"),
        (break_file("y_test.h5", np.ones(3)), r"must agree in numbers of segments and words, but test has .*'y': \[3\]"),
        (break_file("audio_test.h5", np.ones((2, 4, 1))), r"must agree .* 'audio': \[2, 4\].*they belong to different data"),
        (break_file("audio_test.h5", np.ones((2, 5, 2))), r"audio must have one width in all segments"),
        (break_file("y_test.h5", np.array([0.0, 1.0])), r"declared range \[1, 5\], but 1 do not \(first: test_0"),
    ],
)
def test_damaged_folders(folder: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(folder)
    with pytest.raises(ValueError, match=message):
        read_mfn_h5(folder, label_range=RANGE)


def test_a_file_without_datasets(folder: Path) -> None:
    with h5py.File(folder / "audio_test.h5", "w") as file:
        file.create_group("d1")
    with pytest.raises(ValueError, match=r"audio_test\.h5 must hold a dataset of 3 dimensions, but its first has shape \[\]"):
        read_mfn_h5(folder, label_range=RANGE)
    with pytest.raises(ValueError, match=r"format=mfn_h5 is read from .*nowhere, but nothing is there"):
        read_mfn_h5(folder / "nowhere", label_range=RANGE)


@pytest.mark.real_data
def test_real_ict_mmmo(real_data: Path) -> None:
    segments = read_mfn_h5(real_data / "ict_mmmo", label_range=RANGE)
    card = segments.card
    assert card["folds"] == {"train": 220, "valid": 40, "test": 80}
    assert {name: entry["dim"] for name, entry in card["features"].items()} == {"vectors": 300, "audio": 74, "video": 36}
    assert card["features"]["vectors"]["missing"] == {"train": 220, "valid": 0, "test": 0}
    assert card["features"]["audio"]["missing"] == card["features"]["video"]["missing"] == dict.fromkeys(card["folds"], 0)
    assert card["label_observed"] == [1.0, 5.0]
    # no step at either end is zero throughout
    ends = [[r[i][[0, -1]].any(1) for r in segments.features.values() if len(r[i])] for i in range(len(segments))]
    assert all(np.any(end, axis=0).all() for end in ends)
