"""MAG-BERT, MISA and MMIM: lists of tuples, visual before acoustic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mdm.data.base import Segments

VISUAL = np.array([[1, 2], [0, 0], [3, 4]], np.float32)
ACOUSTIC = np.array([[5.0], [6.0], [7.0]])
WORDS = ["so", "very", "good"]


def mag_item(segment: Any = "vid[0]", label: Any = 1.0) -> Any:
    return ((WORDS, VISUAL, ACOUSTIC), label, segment)


def mag_folds(**changes: Any) -> dict[str, Any]:
    return {
        "train": [mag_item("a[0]"), mag_item("a[1]", np.array([[-2.5]]))],
        "dev": [mag_item("b[0]", np.float32(0))],
        "test": [mag_item("c_x[3]", np.array(3))],
    } | changes


def test_mag(dump: Any, stored: Callable[..., Segments]) -> None:
    segments = stored("mag", dump(mag_folds()))
    assert segments.ids == ("a[0]", "a[1]", "b[0]", "c_x[3]")
    assert segments.fold.tolist() == ["train", "train", "valid", "test"]
    assert segments.group.tolist() == ["a", "a", "b", "c_x"]
    assert segments.label.tolist() == [[1.0], [-2.5], [0.0], [3.0]]
    assert segments.aligned == ("words", "video", "audio")
    assert segments.words(0) == "so very good"
    # visual is the first of the two; rows of zeros inside stay, as each row belongs to a word
    np.testing.assert_array_equal(segments.modalities["video"][1], VISUAL)
    np.testing.assert_array_equal(segments.modalities["audio"][1], ACOUSTIC)


def test_mag_counts_what_it_cleans(dump: Any, stored: Callable[..., Segments]) -> None:
    audio = np.array([[np.nan], [-np.inf], [1e300]])  # the last is infinite in float32
    folds = mag_folds(train=[((WORDS, VISUAL, audio), 1.0, "a[0]")])
    segments = stored("mag", dump(folds))
    assert segments.source["cleaned"] == {"video": 0, "audio": 3}
    assert segments.modalities["audio"][0].tolist() == [[0.0], [0.0], [0.0]]


def test_mag_needs_a_row_per_word(dump: Any, stored: Callable[..., Segments]) -> None:
    folds = mag_folds(train=[((WORDS[:2], VISUAL, ACOUSTIC), 1.0, "a[0]")])
    with pytest.raises(ValueError, match=r"declared aligned.*a\[0\] has \[2, 3, 3\]"):
        stored("mag", dump(folds))


def test_misa(dump: Any, tmp_path: Path, stored: Callable[..., Segments]) -> None:
    item = ((np.array([4, 5, 6]), VISUAL, ACOUSTIC, WORDS), np.array([[1.5]]), "vid[7]")
    for k, fold in enumerate(["train", "dev", "test"]):
        # UR-FUNNY's segments come without a name
        dump([(item[0], item[1], f"v{k}[7]"), item[:2]], f"misa/{fold}.pkl")
    segments = stored("misa", tmp_path / "misa")
    assert segments.ids == ("v0[7]", "train_1", "v1[7]", "valid_1", "v2[7]", "test_1")
    assert segments.group.tolist() == ["v0", "train_1", "v1", "valid_1", "v2", "test_1"]
    assert segments.aligned == ("words", "video", "audio")
    assert list(segments.text) == ["words"]
    np.testing.assert_array_equal(segments.modalities["video"][5], VISUAL)
    assert list(segments.source["files"]) == ["train.pkl", "dev.pkl", "test.pkl"]


def test_mmim(dump: Any, tmp_path: Path, stored: Callable[..., Segments]) -> None:
    visual = np.concatenate([np.zeros((2, 2)), VISUAL, np.zeros((1, 2))])  # padded at both ends, a hole inside
    label = np.array([[-1.0, 0, 0, 0, 0, 0, 2]])  # sentiment, then six emotions
    for k, fold in enumerate(["train", "dev", "test"]):
        dump([(([], visual, ACOUSTIC[:2], WORDS, 2, 2), label, f"vid{k}_12")], f"mmim/{fold}.pkl")
    segments = stored("mmim", tmp_path / "mmim")
    assert segments.label.tolist() == [[-1.0]] * 3
    assert segments.aligned == ()
    assert segments.group.tolist() == ["vid0", "vid1", "vid2"]
    np.testing.assert_array_equal(segments.modalities["video"][0], VISUAL)
    np.testing.assert_array_equal(segments.modalities["audio"][0], ACOUSTIC[:2])
    assert segments.words(2) == "so very good"


@pytest.mark.parametrize("fold", ["train", "dev", "test"])
def test_an_empty_fold(dump: Any, stored: Callable[..., Segments], fold: str) -> None:
    called = {"dev": "valid"}.get(fold, fold)
    with pytest.raises(ValueError, match=f"needs at least one segment, but {called} has none; check the folds"):
        stored("mag", dump(mag_folds(**{fold: []})))


def test_duplicated_ids(dump: Any, stored: Callable[..., Segments]) -> None:
    with pytest.raises(ValueError, match=r"ids must be unique, but 1 occur twice \(a\[0\]\)"):
        stored("mag", dump(mag_folds(test=[mag_item("a[0]")])))


def test_the_number_of_fields_tells_the_formats_apart(dump: Any, stored: Callable[..., Segments]) -> None:
    misa = mag_folds(train=[(([1], VISUAL, ACOUSTIC, WORDS), 1.0, "a[0]")])
    message = r"mag: train segment 0 must be .* with 3 fields \(words, video, audio\), but 4 fields came \(as in format=misa\)"
    with pytest.raises(ValueError, match=message):
        stored("mag", dump(misa))


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"raw_text": []}, "each fold must be a list of segments, but train is a dict; dictionaries of arrays are mmsa"),
        ([1.0], r"train segment 0 must be \(\(fields\), label\[, id\]\).* but 1.0 came; choose the format"),
        ([((VISUAL, WORDS, ACOUSTIC), 1.0, "a")], "words must be a list of words, but is .*order of fields right"),
        ([((WORDS, WORDS, ACOUSTIC), 1.0, "a")], r"video must be numbers \[time, dim\], but holds something else"),
        ([((WORDS, np.zeros(3) + 1, ACOUSTIC), 1.0, "a")], r"video must have shape \[time, dim\], but has \[3\]"),
        ([mag_item(label="good")], "label must be a number or one row of numbers, but is 'good'"),
        ([mag_item(label=np.zeros((2, 1)))], "label must be a number or one row of numbers"),
        (
            [mag_item("a"), ((WORDS, VISUAL[:, :1], ACOUSTIC), 1.0, "b")],
            r"video must have one width .* \[2\] \(\w+\S*\), \[1\] \(b\)",
        ),
        (
            [mag_item(label=4.5)],
            r"labels must lie in the declared range \[-3, 3\].*vid\[0\] = \[4.5\].*clip the labels knowingly",
        ),
        ([mag_item(label=float("nan"))], "at least one segment, but train has none"),
        ([mag_item("a"), mag_item("b", label=float("inf"))], "labels must be finite, but 1 are not"),
    ],
)
def test_items_of_another_form(dump: Any, stored: Callable[..., Segments], train: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stored("mag", dump(mag_folds(train=train)))
