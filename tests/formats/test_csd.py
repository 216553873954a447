"""Computational sequences: which frames a word gets, which words a segment gets; means are derived here by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mdm.data.base import Segments
from mdm.formats.alignment import EPSILON, Track
from mdm.formats.csd import read_csd

# Video v. Seconds:  0    0.5   1    1.5   2    2.5   3    3.5   4
# words              [  hello  ][ sp ][   world  ]    [  again  ]
# frames (value)     [ 1  ][ 2 ][ 3  ][ 4 ][ 5  ]
# segments           [         v[0]       ][        v[1]        ]      v[2] = [9, 10] has nothing
WORDS = ([[0, 1], [1, 1.5], [1.5, 2.5], [3, 4]], [["hello"], ["sp"], ["world"], ["again"]])
FRAMES = ([[k / 2, (k + 1) / 2] for k in range(5)], [[k + 1, -k - 1] for k in range(5)])
LABELS = ([[0, 2], [2, 4], [9, 10]], [[1.0, 0.5], [-2.0, 0.25], [3.0, 0.75]])
SMALL = ([[0, 1]], [["fine"]]), ([[0, 1]], [[7.0, 8.0]]), ([[0, 1]], [[0.0, 0.0]])


@pytest.fixture
def folder(csd: Callable[..., Path]) -> Path:
    """Video v trains; w and x have one segment of one word."""
    csd("CMU_X_TimestampedWords.csd", {"v": WORDS, "w": SMALL[0], "x": SMALL[0]})
    csd("CMU_X_COVAREP.csd", {"v": FRAMES, "w": SMALL[1], "x": SMALL[1]}, root="other root")
    path = csd("CMU_X_Labels.csd", {"v": LABELS, "w": SMALL[2], "x": SMALL[2]})
    folds(path.parent, train=["v"], dev=["w"], test=["x"])
    return path.parent


def folds(folder: Path, **members: Any) -> None:
    (folder / "x_folds.json").write_text(json.dumps(members))


def words(segments: Segments) -> list[str]:
    return [segments.words(i) for i in range(len(segments))]


def test_frames_are_averaged_over_words_and_words_cut_to_segments(folder: Path, stored: Callable[..., Segments]) -> None:
    segments = stored("csd", folder)
    # v[2] has neither words nor frames
    assert segments.ids == ("v[0]", "v[1]", "w[0]", "x[0]")
    assert segments.fold.tolist() == ["train", "train", "valid", "test"]
    assert segments.group.tolist() == ["v", "v", "w", "x"]
    assert segments.label[:, 0].tolist() == [1.0, -2.0, 0.0, 0.0]
    assert segments.aligned == ("words", "audio")
    # "world" lies in both segments, as it overlaps both
    assert words(segments) == ["hello world", "world again", "fine", "fine"]
    # hello: frames 1 and 2; world: 4 and 5, all of its frames in either segment; again: none, so zeros
    assert segments.modalities["audio"][0].tolist() == [[1.5, -1.5], [4.5, -4.5]]
    assert segments.modalities["audio"][1].tolist() == [[4.5, -4.5], [0.0, 0.0]]
    assert segments.source["dropped"] == ["v[2]"]
    assert segments.source["options"]["roles"]["audio"] == "CMU_X_COVAREP.csd"


def test_pauses_are_kept_on_request(folder: Path, stored: Callable[..., Segments]) -> None:
    segments = stored("csd", folder, keep_pauses=True)
    assert words(segments)[0] == "hello sp world"
    assert segments.modalities["audio"][0].tolist() == [[1.5, -1.5], [3, -3], [4.5, -4.5]]


def test_unaligned_segments_keep_their_true_frames(folder: Path, stored: Callable[..., Segments]) -> None:
    segments = stored("csd", folder, align="none")
    assert segments.aligned == ()
    assert words(segments)[:2] == ["hello world", "world again"]
    assert segments.modalities["audio"][0][:, 0].tolist() == [1, 2, 3, 4]
    assert segments.modalities["audio"][1][:, 0].tolist() == [5]


def test_unify_drops_what_a_sequence_does_not_reach(
    folder: Path, csd: Callable[..., Path], stored: Callable[..., Segments]
) -> None:
    labels = ([[0, 1], [3, 4]], [[1.0], [2.0]])
    csd("CMU_X_Labels.csd", {"v": labels, "w": SMALL[2], "x": SMALL[2]})
    segments = stored("csd", folder)
    assert segments.ids == ("v[0]", "w[0]", "x[0]")
    assert segments.source["dropped"] == ["v[1]"]
    segments = stored("csd", folder, unify=False)
    assert segments.ids == ("v[0]", "v[1]", "w[0]", "x[0]")
    assert words(segments)[1] == "again"
    assert segments.modalities["audio"].lengths.tolist() == [1, 0, 1, 1]


@pytest.mark.parametrize("align", ["words", "none"])
def test_a_video_that_a_sequence_has_not_got(
    folder: Path, csd: Callable[..., Path], stored: Callable[..., Segments], align: str
) -> None:
    csd("CMU_X_Facet.csd", {"v": FRAMES, "x": SMALL[1], "unlabelled": FRAMES})
    with pytest.raises(ValueError, match="needs at least one segment, but valid has none"):
        stored("csd", folder, align=align)
    segments = stored("csd", folder, align=align, unify=False)
    assert segments.card["features"]["video"]["missing"] == {"train": 0, "valid": 1, "test": 0}
    assert "video" not in stored("csd", folder, align=align, video=None).modalities


def test_at_most_so_many_steps(folder: Path, stored: Callable[..., Segments]) -> None:
    last = stored("csd", folder, max_steps=1)
    first = stored("csd", folder, max_steps=1, side="right")
    assert words(first) == ["hello", "world", "fine", "fine"]
    assert first.modalities["audio"][0].tolist() == [[1.5, -1.5]]
    # cut to "again", v[1] has no frames left
    assert words(last) == ["world", "fine", "fine"]
    assert last.modalities["audio"][0].tolist() == [[4.5, -4.5]]
    assert last.source["dropped"] == ["v[1]", "v[2]"]


def test_overlap_needs_more_than_a_hundredth_of_a_millisecond() -> None:
    track = Track(np.array([[0.0, 1.0], [1.0, 2.0]]), np.zeros((2, 1), np.float32), ("v", "v"))
    assert track.overlapping(0.5, 1 + EPSILON / 2).tolist() == [0]
    assert track.overlapping(0.5, 1 + EPSILON * 2).tolist() == [0, 1]
    assert track.overlapping(1 - EPSILON / 2, 3.0).tolist() == [1]
    assert track.overlapping(0.5, 0.5).tolist() == []
    assert track.overlapping(5.0, 6.0).tolist() == []


def test_overlap_agrees_with_its_definition_on_random_intervals() -> None:
    draw = np.random.default_rng(0)
    start = draw.uniform(0, 10, 300).round(1)
    intervals = np.stack([start, start + draw.choice([0, 0.1, 0.5, 6.0], 300)], 1)  # nested, touching, empty
    track = Track(intervals, np.zeros((300, 1), np.float32), ("v",) * 300).by_time()
    for a, b in np.sort(draw.uniform(-1, 11, (200, 2)).round(1)):
        shared = np.minimum(track.intervals[:, 1], b) - np.maximum(track.intervals[:, 0], a)
        assert track.overlapping(a, b).tolist() == np.flatnonzero(shared > EPSILON).tolist()


def test_rows_are_put_in_order_of_time_and_segments_left_in_the_files(
    folder: Path, csd: Callable[..., Path], stored: Callable[..., Segments]
) -> None:
    turned = [1, 3, 0, 2]
    csd(
        "CMU_X_TimestampedWords.csd",
        {"v": ([WORDS[0][k] for k in turned], [WORDS[1][k] for k in turned]), "w": SMALL[0], "x": SMALL[0]},
    )
    csd("CMU_X_Labels.csd", {"v": ([[2, 4], [0, 2]], [[-2.0], [1.0]]), "w": SMALL[2], "x": SMALL[2]})
    segments = stored("csd", folder)
    assert segments.ids[:2] == ("v[0]", "v[1]")
    assert words(segments)[:2] == ["world again", "hello world"]
    assert segments.label[:2].tolist() == [[-2.0], [1.0]]


def test_files_that_the_sdk_has_aligned_keep_their_segments_names(
    folder: Path, csd: Callable[..., Path], stored: Callable[..., Segments]
) -> None:
    frames = {f"v[{k}]": ([FRAMES[0][k]], [FRAMES[1][k]]) for k in range(5)}
    csd("CMU_X_COVAREP.csd", {**frames, "w[0]": SMALL[1], "x[0]": SMALL[1]})
    csd("CMU_X_Labels.csd", {"v[10]": ([[2, 4]], [[-2.0]]), "v[9]": ([[0, 2]], [[1.0]]), "w[0]": SMALL[2], "x[0]": SMALL[2]})
    segments = stored("csd", folder)
    assert segments.ids == ("v[9]", "v[10]", "w[0]", "x[0]")
    assert segments.group.tolist() == ["v", "v", "w", "x"]
    assert segments.modalities["audio"][0].tolist() == [[1.5, -1.5], [4.5, -4.5]]


def test_frames_that_are_not_finite_count_as_zeros(folder: Path, csd: Callable[..., Path], stored: Callable[..., Segments]) -> None:
    frames = ([[0, 0.5], [0.5, 1], [1.5, 2]], [[np.inf, 2.0], [3.0, np.nan], [-np.inf, 1.0]])
    csd("CMU_X_COVAREP.csd", {"v": frames, "w": SMALL[1], "x": SMALL[1]})
    segments = stored("csd", folder)
    assert segments.modalities["audio"][0].tolist() == [[1.5, 1.0], [0.0, 1.0]]
    assert segments.source["cleaned"] == {"audio": 3}


def test_word_vectors_may_be_the_steps(folder: Path, csd: Callable[..., Path], stored: Callable[..., Segments]) -> None:
    vectors = (WORDS[0], [[1.0], [2.0], [3.0], [4.0]])
    small = ([[0, 1]], [[5.0]])
    csd("CMU_X_TimestampedWordVectors.csd", {"v": vectors, "w": small, "x": small})
    both = stored("csd", folder)
    assert both.aligned == ("words", "vectors", "audio")
    assert both.text["vectors"][0].tolist() == [[1.0], [3.0]]
    alone = stored("csd", folder, words=None)
    assert alone.text["vectors"][0].tolist() == [[1.0], [2.0], [3.0]]
    assert alone.modalities["audio"][0][:, 0].tolist() == [1.5, 3.0, 4.5]


def test_any_other_option_is_a_modality(folder: Path, csd: Callable[..., Path], stored: Callable[..., Segments]) -> None:
    csd("pulse.csd", {"v": FRAMES, "w": SMALL[1], "x": SMALL[1]})
    segments = stored("csd", folder, pulse="pulse.csd")
    assert list(segments.modalities) == ["audio", "pulse"]
    np.testing.assert_array_equal(segments.modalities["audio"].values, segments.modalities["pulse"].values)


def test_targets_are_columns_of_the_labels(folder: Path, stored: Callable[..., Segments]) -> None:
    segments = stored("csd", folder, targets={"happiness": 1, "sentiment": 0})
    assert segments.targets == ("happiness", "sentiment")
    assert segments.label[:2].tolist() == [[0.5, 1.0], [0.25, -2.0]]


def test_a_video_in_no_fold_stays_outside(folder: Path, csd: Callable[..., Path], stored: Callable[..., Segments]) -> None:
    csd("CMU_X_TimestampedWords.csd", {"v": WORDS, "w": SMALL[0], "x": SMALL[0], "y": SMALL[0]})
    csd("CMU_X_COVAREP.csd", {"v": FRAMES, "w": SMALL[1], "x": SMALL[1], "y": SMALL[1]})
    csd("CMU_X_Labels.csd", {"v": LABELS, "w": SMALL[2], "x": SMALL[2], "y": SMALL[2]})
    assert stored("csd", folder).fold.tolist() == ["train", "train", "valid", "test", ""]


def test_words_and_labels_suffice(folder: Path, stored: Callable[..., Segments]) -> None:
    segments = stored("csd", folder, audio=None)
    assert list(segments.features) == ["words"]
    assert segments.aligned == ()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"train": ["v"], "test": ["x"]}, r"x_folds\.json must be a dictionary of exactly three folds, .*\['train', 'test'\]"),
        (
            {"train": ["v"], "dev": ["w"], "test": ["x", "who", "where"]},
            r"name videos that have labels, but 2 of 3 in test have none \(where, who\); pass options\.folds",
        ),
        (
            {"train": ["v", "w"], "dev": ["w"], "test": ["x"]},
            r"no video may be in two folds, but w \(of 1\) is in valid and train",
        ),
        ({"train": ["v"], "dev": "w", "test": ["x"]}, "valid must be a list of video names, but is 'w'"),
        ({"train": ["v"], "dev": [], "test": ["x"]}, "at least one segment, but valid has none; check the folds"),
    ],
)
def test_folds_that_are_refused(folder: Path, members: Any, message: str) -> None:
    folds(folder, **members)
    with pytest.raises(ValueError, match=message):
        read_csd(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"labels": "none.csd"},
            r"needs a file for labels, but nothing in .* matches 'none\.csd'; pass options\.labels=<file>",
        ),
        ({"audio": "none.csd"}, "needs a file for audio"),
        ({"lables": "CMU_X_Labels.cds"}, "needs a file for lables.*correct the option's name: unknown options are modalities"),
        ({"lable_range": [0.0, 1.0]}, r"option lable_range must be a file name or pattern, but is \[0\.0, 1\.0\]"),
        ({"labels": "*.csd"}, "one file must play the role of labels, but CMU_X_COVAREP.csd, .* match; pass options.labels="),
        ({"words": "CMU_X_COVAREP.csd"}, "features must be words, but are float32; the file plays another role"),
        ({"audio": "CMU_X_TimestampedWords.csd"}, r"features must be numbers, but are \|S12"),
        ({"labels": "x_folds.json"}, r"x_folds\.json must be an HDF5 file, but cannot be read"),
        ({"folds": "missing*.json"}, "needs a file for folds"),
        ({"words": None}, "align=words needs words or vectors, but neither came"),
        ({"max_steps": 0}, "max_steps must be a number from 1, or null, but is 0"),
        ({"targets": {"happiness": 2}}, r"CMU_X_Labels\.csd has 2 columns of labels, but targets asks for \{'happiness': 2\}"),
        ({"targets": {"happiness": -1}}, r"targets must map names to columns of the labels, from 0, but is"),
        ({"tokens": "CMU_X_COVAREP.csd"}, "no modality may be called tokens"),
        ({"label_range": (-1.0, 1.0)}, r"declared range \[-1, 1\], but 1 do not \(first: v\[1\] = \[-2\.0\]\)"),
    ],
)
def test_options_that_are_refused(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_csd(folder, **options)


def test_files_that_are_refused(folder: Path, csd: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=r"format=csd is read from .*nowhere, but nothing is there"):
        read_csd(folder / "nowhere")
    (folder / "x_folds.json").write_text("{")
    with pytest.raises(ValueError, match=r"x_folds\.json must be JSON, but is not"):
        read_csd(folder)
    folds(folder, train=["v"], dev=["w"], test=["x"])
    csd("CMU_X_COVAREP.csd", {"v": (FRAMES[0][:3], FRAMES[1])})
    with pytest.raises(
        ValueError, match=r"COVAREP\.csd, v: intervals must be finite \[rows, 2\].*\(5\), but are \[3, 2\]; the file is"
    ):
        read_csd(folder)
    csd("CMU_X_COVAREP.csd", {"v": ([[0, np.nan]], [[1.0]])})
    with pytest.raises(ValueError, match="intervals must be finite"):
        read_csd(folder)
    csd("CMU_X_COVAREP.csd", {"v": ([[0, 1]], [[np.nan]]), "w": ([[0, 1]], [[np.inf]])})
    with pytest.raises(ValueError, match="audio must hold finite values, but all 2 are NaN or infinite; leave it out"):
        read_csd(folder)
    with h5py.File(folder / "CMU_X_COVAREP.csd", "w") as file:
        file["root/data/v/features"] = np.zeros((1, 1))
    with pytest.raises(ValueError, match=r"COVAREP\.csd, v must hold 'features' and 'intervals', but does not"):
        read_csd(folder)
    csd("CMU_X_Labels.csd", {})
    with pytest.raises(ValueError, match=r"Labels\.csd must hold entries under <root>/data, but has none"):
        read_csd(folder)


@pytest.mark.real_data
def test_real_cmu_mosi(real_data: Path) -> None:
    segments = read_csd(real_data / "mosi", words={"row_offset": 1})
    # 2199 labelled segments; one, in train, is labelled over an interval of no length and gets no words
    assert segments.source["dropped"] == ["2WGyTLYerpo[43]"]
    assert segments.card["folds"] == {"train": 1284 - 1, "valid": 229, "test": 686}
    assert len(np.unique(segments.group)) == 93
    assert list(segments.features) == ["words"]
    assert "sp" not in segments.text["words"].vocabulary
    assert segments.card["label_observed"] == [-3.0, 3.0]
    # facts of the standard folds: zeros, negatives and positives of the test labels
    test = segments.label[segments.fold == "test", 0]
    assert [int((test == 0).sum()), int((test < 0).sum()), int((test > 0).sum())] == [30, 379, 277]
