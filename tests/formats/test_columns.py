"""MMSA, MulT and MIRD: dictionaries of padded columns, each with a padding of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mdm.data.base import Segments


def padded(front: int, rows: list[list[float]], behind: int) -> np.ndarray:
    width = len(rows[0])
    return np.concatenate([np.zeros((front, width)), rows, np.zeros((behind, width))]).astype(np.float32)


def mult_fold(video: str) -> dict[str, Any]:
    """One segment of five steps: text starts at step 2, audio at 1, vision at 3 with a hole at 4 … all end at the last."""
    return {
        "text": padded(2, [[1], [2], [3]], 0)[None],
        "audio": padded(1, [[4, 4], [5, 5], [6, 6], [7, 7]], 0)[None],
        "vision": padded(2, [[8], [0], [9]], 0)[None],
        "labels": np.array([[[1.5]]]),
        "id": np.array([[video.encode(), b"1.25", b"7.5"]]),
    }


def mult_file() -> dict[str, Any]:
    return {fold: mult_fold(f"v{k}") for k, fold in enumerate(["train", "valid", "test"])}


def test_mult_aligned_loses_only_steps_that_are_zero_everywhere(dump: Any, stored: Callable[..., Segments]) -> None:
    segments = stored("mult", dump(mult_file()))
    assert segments.ids == ("v0[1.25:7.5]", "v1[1.25:7.5]", "v2[1.25:7.5]")
    assert segments.group.tolist() == ["v0", "v1", "v2"]
    assert segments.aligned == ("vectors", "audio", "video")
    # step 0 is zero in all three; audio begins at step 1, so the others keep their zero there
    assert segments.text["vectors"][0].tolist() == [[0], [1], [2], [3]]
    assert segments.modalities["audio"][0].tolist() == [[4, 4], [5, 5], [6, 6], [7, 7]]
    assert segments.modalities["video"][0].tolist() == [[0], [8], [0], [9]]
    assert segments.source["options"]["aligned"] is True


def test_mult_unaligned_loses_each_modalitys_own_padding(dump: Any, stored: Callable[..., Segments]) -> None:
    folds = mult_file()
    for fold in folds.values():
        fold["audio"] = padded(3, [[4, 4], [0, 0], [5, -np.inf]], 0)[None]
        fold["id"] = np.array([["c5xsKMxpXnc_3"]])
    folds["valid"]["id"], folds["test"]["id"] = np.array(["other_1"]), np.array([b"third_1"])
    segments = stored("mult", dump(folds))
    assert segments.aligned == ()
    assert segments.ids == ("c5xsKMxpXnc_3", "other_1", "third_1")
    assert segments.group.tolist() == ["c5xsKMxpXnc", "other", "third"]
    assert segments.text["vectors"][0].tolist() == [[1], [2], [3]]
    assert segments.modalities["audio"][0].tolist() == [[4, 4], [0, 0], [5, 0]]
    assert segments.modalities["video"][0].tolist() == [[8], [0], [9]]
    assert segments.source["cleaned"] == {"vectors": 0, "audio": 3, "video": 0}


def test_a_modality_of_zeros_only_is_missing(dump: Any, stored: Callable[..., Segments]) -> None:
    folds = mult_file()
    folds["test"]["vision"] = np.zeros_like(folds["test"]["vision"])
    segments = stored("mult", dump(folds))
    assert segments.modalities["video"].lengths.tolist() == [4, 4, 0]
    assert segments.card["features"]["video"]["missing"] == {"train": 0, "valid": 0, "test": 1}


def test_a_segment_without_anything_is_dropped_and_named(dump: Any, stored: Callable[..., Segments]) -> None:
    folds = mult_file()
    folds["train"] = {key: np.concatenate([column, column]) for key, column in folds["train"].items()}
    folds["train"]["id"][1, 0] = b"no"
    for key in ("text", "audio", "vision"):
        folds["train"][key][1] = 0
    segments = stored("mult", dump(folds))
    assert segments.ids[0] == "v0[1.25:7.5]"
    assert len(segments) == 3
    assert segments.source["dropped"] == ["no[1.25:7.5]"]


def test_mult_refuses_alignment_of_unequal_lengths(dump: Any, stored: Callable[..., Segments]) -> None:
    folds = mult_file()
    folds["train"]["audio"] = padded(9, [[1]], 0)[None]
    with pytest.raises(ValueError, match=r"equally many steps, but have .*'audio': 10.*pass options.aligned=false"):
        stored("mult", dump(folds), aligned=True)


def test_mult_refuses_labels_of_several_rows(dump: Any, stored: Callable[..., Segments]) -> None:
    folds = mult_file()
    folds["train"]["labels"] = np.zeros((1, 3, 2))
    with pytest.raises(ValueError, match=r"v0\[1.25:7.5\]'s label must be a number or one row"):
        stored("mult", dump(folds))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"vision": None},
            r"train must have a column 'vision', but has \['audio', 'id', 'labels', 'text'\]; choose the format",
        ),
        (
            {"audio": np.ones((3, 5, 2))},
            r"train: 'audio' must have one entry per segment \(1\), but has 3; the file is damaged",
        ),
        ({"audio": 3.0}, r"'audio' must have one entry per segment \(1\), but has float"),
        ({"audio": np.ones((1, 5))}, r"segment 0, audio must have shape \[time, dim\], but has \[5\]"),
        ({"audio": np.full((1, 5, 2), np.nan)}, None),
    ],
)
def test_columns_of_another_form(dump: Any, stored: Callable[..., Segments], change: dict[str, Any], message: str | None) -> None:
    folds = mult_file()
    folds["train"] = {key: value for key, value in (folds["train"] | change).items() if value is not None}
    if message is None:  # one segment without a finite value is cleaned, a whole feature is not
        assert stored("mult", dump(folds)).source["cleaned"]["audio"] == 10
        for fold in folds.values():
            fold["audio"] = change["audio"]
        message = "audio must hold finite values, but all 30 are NaN or infinite; leave it out"
    with pytest.raises(ValueError, match=message):
        stored("mult", dump(folds))


def test_a_list_is_not_a_dictionary_of_columns(dump: Any, stored: Callable[..., Segments]) -> None:
    with pytest.raises(ValueError, match="train must be a dictionary of columns, but is a list; lists of tuples are mag"):
        stored("mult", dump({"train": [], "valid": [], "test": []}))


def mmsa_fold(video: str, aligned: bool) -> dict[str, Any]:
    """One segment of three tokens ([CLS] fine [SEP]) in five positions."""
    mask = [1, 1, 1, 0, 0]
    fold: dict[str, Any] = {
        "raw_text": np.array(["so fine"]),
        "id": [f"{video}$_$3"],
        "text_bert": np.array([[[101, 2986, 102, 0, 0], mask, [0] * 5]], np.float32),
        "text": np.arange(1, 11, dtype=np.float32).reshape(1, 5, 2),
        "audio": padded(1, [[1], [2]], 2)[None],
        "vision": padded(0, [[3], [0]], 3)[None],
        "regression_labels": np.array([0.8]),
        "classification_labels": np.array([2]),
    }
    if not aligned:
        fold |= {"audio": padded(0, [[1], [0], [2], [0]], 3)[None], "audio_lengths": [4], "vision_lengths": [1]}
    return fold


def mmsa_file(aligned: bool) -> dict[str, Any]:
    return {fold: mmsa_fold(f"v{k}", aligned) for k, fold in enumerate(["train", "valid", "test"])}


def test_mmsa_aligned_keeps_the_steps_of_the_mask(dump: Any, stored: Callable[..., Segments]) -> None:
    segments = stored("mmsa", dump(mmsa_file(aligned=True)))
    assert segments.group.tolist() == ["v0", "v1", "v2"]
    assert segments.aligned == ("tokens", "vectors", "audio", "video")
    assert segments.words(0) == "so fine"
    assert segments.text["tokens"][0].tolist() == [101, 2986, 102]
    assert segments.text["tokens"].values.dtype == np.int32
    assert segments.text["vectors"][0].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert segments.modalities["audio"][0].tolist() == [[0], [1], [2]]
    assert segments.modalities["video"][0].tolist() == [[3], [0], [0]]
    assert segments.label[:, 0].tolist() == [np.float32(0.8)] * 3
    assert segments.source["rows_beyond_mask"] == 0


def test_mmsa_counts_rows_that_the_mask_cuts(dump: Any, stored: Callable[..., Segments]) -> None:
    folds = mmsa_file(aligned=True)
    folds["test"]["audio"] = padded(1, [[1], [2], [9]], 1)[None]
    assert stored("mmsa", dump(folds)).source["rows_beyond_mask"] == 1


def test_mmsa_unaligned_uses_the_lengths_given(dump: Any, stored: Callable[..., Segments]) -> None:
    segments = stored("mmsa", dump(mmsa_file(aligned=False)))
    assert segments.aligned == ()
    assert segments.modalities["audio"][0].tolist() == [[1], [0], [2], [0]]  # four, though the fourth is zero
    assert segments.modalities["video"][0].tolist() == [[3]]
    assert segments.text["vectors"].lengths.tolist() == [3, 3, 3]


def test_mmsa_without_bert_ids_cuts_zeros_at_both_ends(dump: Any, stored: Callable[..., Segments]) -> None:
    folds = mmsa_file(aligned=True)
    for fold in folds.values():
        del fold["text_bert"]
        fold["text"][:, 3:] = 0
    segments = stored("mmsa", dump(folds))
    assert segments.aligned == ("vectors", "audio", "video")
    assert segments.modalities["audio"][0].tolist() == [[0], [1], [2]]


def test_mmsa_takes_other_labels(dump: Any, stored: Callable[..., Segments]) -> None:
    folds = mmsa_file(aligned=True)
    for fold in folds.values():
        fold["regression_labels_A"] = np.array([-1.0])
    assert stored("mmsa", dump(folds), labels="regression_labels_A", label_range=(-1.0, 1.0)).label.tolist() == [[-1.0]] * 3
    with pytest.raises(ValueError, match="must have a column 'regression_labels_X'"):
        stored("mmsa", dump(folds), labels="regression_labels_X")


def test_mmsa_refuses_bert_ids_of_another_shape(dump: Any, stored: Callable[..., Segments]) -> None:
    folds = mmsa_file(aligned=True)
    folds["train"]["text_bert"] = np.zeros((1, 2, 5))
    with pytest.raises(ValueError, match=r"train segment 0: text_bert must be \[3, positions\] .* but is \[2, 5\]"):
        stored("mmsa", dump(folds))
    folds = mmsa_file(aligned=False)
    with pytest.raises(ValueError, match=r"audio must have a row per position of text_bert \(5\), but has 7; pass options.aligned"):
        stored("mmsa", dump(folds), aligned=True)


def test_mird(dump: Any, stored: Callable[..., Segments]) -> None:
    fold = {
        "raw_text": ["it was  fine", "bad"],
        "audio": np.stack([padded(0, [[1], [0], [2]], 2), padded(2, [[3]], 2)]),
        "video": np.stack([padded(0, [[4, 4]], 3), np.zeros((4, 2))]),
        "labels": np.array([1.0, -3.0]),
    }
    segments = stored("mird", dump({"train": fold, "valid": fold, "test": fold}))
    assert segments.ids == ("train_0", "train_1", "valid_0", "valid_1", "test_0", "test_1")
    assert segments.group.tolist() == list(segments.ids)
    assert [segments.words(0), segments.words(1)] == ["it was fine", "bad"]
    assert segments.modalities["audio"][0].tolist() == [[1], [0], [2]]
    assert segments.modalities["audio"][1].tolist() == [[3]]
    assert segments.modalities["video"].lengths.tolist() == [1, 0] * 3
    assert segments.label[:, 0].tolist() == [1, -3] * 3


def test_labels_are_clipped_only_on_request_and_counted(dump: Any, stored: Callable[..., Segments]) -> None:
    fold = {"raw_text": ["a", "b"], "audio": np.ones((2, 1, 1)), "video": np.ones((2, 1, 1)), "labels": np.array([5.0, -1.0])}
    path = dump({"train": fold, "valid": fold, "test": fold})
    with pytest.raises(ValueError, match=r"declared range \[-3, 3\], but 3 do not .*clip"):
        stored("mird", path)
    segments = stored("mird", path, clip_labels=True)
    assert segments.label[:, 0].tolist() == [3.0, -1.0] * 3
    assert segments.source["clipped_labels"] == 3
    with pytest.raises(
        ValueError, match=r"label_range must be \(low, high\), .* but is \[1.0\]; pass options.label_range=\[low,high\]"
    ):
        stored("mird", path, label_range=[1.0])
    with pytest.raises(ValueError, match=r"low < high, but is \(3.0, -3.0\)"):
        stored("mird", path, label_range=(3.0, -3.0))
