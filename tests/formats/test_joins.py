"""Joins by time: files whose true offset is known are built, displaced, and must be found out; small ones are let through."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from mdm.data.base import Ragged
from mdm.formats.alignment import Track
from mdm.formats.csd import read_csd
from mdm.formats.joins import read_transcripts, split_sentence, strongest, summarise_boundaries
from mdm.formats.offsets import clearly_better, correlate, displaced, filled_steps, join_by_index
from mdm.formats.prepare import card_view

WORDS = 240
"""Of each video, a fifth of them pauses; a segment is ten rows."""


def video(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Words without gaps, whose durations grow with their letters, and their intervals."""
    draw = np.random.default_rng(seed)
    letters = draw.integers(1, 11, WORDS)
    words = np.array(["sp" if k % 5 == 2 else "abcdefghijk"[: letters[k]] + str(k % 10) for k in range(WORDS)])
    ends = np.cumsum(0.05 * letters + draw.uniform(0.05, 0.2, WORDS))
    return words, np.stack([np.concatenate([[0], ends[:-1]]), ends], 1)


def voice(words: np.ndarray, intervals: np.ndarray, late: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Frames of 50 ms: noise, and a loudness that is low in pauses."""
    times = np.arange(0, intervals[-1, 1], 0.05)
    row = np.searchsorted(intervals[:, 1], times + 0.025).clip(max=WORDS - 1)
    draw = np.random.default_rng(1)
    loud = np.where(words[row] == "sp", 0.0, 1.0) + draw.normal(0, 0.3, len(times))
    return np.stack([times, times + 0.05], 1) + late, np.stack([draw.normal(size=len(times)), loud], 1)


@pytest.fixture
def build(csd: Callable[..., Path]) -> Callable[..., Path]:
    """A data set of three videos with displaced words, labels, and frames."""

    def write(rows: int = 0, labels_late: float = 0.0, voice_late: float = 0.0, voice_rows: int | None = None) -> Path:
        tables: dict[str, dict[str, Any]] = {"words": {}, "labels": {}, "audio": {}}
        sentences = ["id,text,label,mode"]
        for seed, name in enumerate("vwx"):
            words, intervals = video(seed)
            tables["words"][name] = intervals, np.roll(words, rows)[:, None]
            begins, ends = intervals[::10, 0], intervals[9::10, 1]
            tables["labels"][name] = np.stack([begins, ends], 1) + labels_late, np.linspace(-2, 2, len(begins))[:, None]
            if voice_rows is None:
                tables["audio"][name] = voice(words, intervals, voice_late)
            else:
                loud = np.where(words == "sp", 0.0, 1.0) + np.random.default_rng(seed).normal(0, 0.3, WORDS)
                tables["audio"][name] = intervals, np.roll(loud, voice_rows)[:, None]
            sentences += [
                f'{name}_{k + 1},"{" ".join(w.title() for w in words[10 * k : 10 * k + 10] if w != "sp")}.",0,train'
                for k in range(len(begins))
            ]
        path = csd("CMU_X_TimestampedWords.csd", tables["words"])
        csd("CMU_X_Labels.csd", tables["labels"])
        csd("CMU_X_COVAREP.csd", tables["audio"])
        (path.parent / "folds.json").write_text(json.dumps({"train": ["v"], "dev": ["w"], "test": ["x"]}))
        (path.parent / "sentences.csv").write_text("\n".join(sentences))
        return path.parent

    return write


def joins(folder: Path, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = read_csd(folder, **options).source["joins"]
    return found


def test_what_belongs_together_is_measured_and_taken(build: Callable[..., Path]) -> None:
    segments = read_csd(build(), transcripts="sentences.csv")
    found = segments.source["joins"]
    assert found["words"]["words"] == 3 * WORDS * 4 // 5
    assert found["words"]["words_cut_by_boundaries"] == found["words"]["words_shared_by_segments"] == 0
    assert found["words"]["boundaries"]["share_on_words"] == 1
    assert found["words"]["sentences"] == {
        "transcripts": 72,
        "agree": 72,
        "best_row_offset": 0,
        "best_agree": 72,
        "clearly_better": False,
    }
    assert found["words"]["durations_by_rows"]["best_row_offset"] == 0
    assert found["audio"]["pauses_by_seconds"]["best_seconds_offset"] == pytest.approx(0, abs=0.05)
    rows = card_view(segments.card).renderables[0]
    assert any("72" in str(cell) for column in rows.columns for cell in column.cells)  # type: ignore[union-attr]


@pytest.mark.parametrize("rows", [1, -2])
def test_words_some_rows_away_are_refused_with_the_remedy(build: Callable[..., Path], rows: int) -> None:
    folder = build(rows)
    for transcripts in (None, "sentences.csv"):
        with pytest.raises(ValueError, match=rf"words must lie on the intervals.*durations by rows.*words\.row_offset={rows}, or"):
            read_csd(folder, transcripts=transcripts)
    found = joins(folder, transcripts="sentences.csv", words={"row_offset": rows})
    assert found["words"]["sentences"]["agree"] == 69  # of each video the rows that went round at its end are lost
    as_they_are = read_csd(folder, words={"row_offset": 0}, transcripts="sentences.csv", audio={"row_offset": 0})
    assert as_they_are.source["joins"]["words"]["sentences"]["agree"] == 0
    assert as_they_are.source["joins"]["words"]["sentences"]["best_row_offset"] == rows


def test_words_without_letters_that_tell_are_judged_by_the_transcripts(
    build: Callable[..., Path], csd: Callable[..., Path]
) -> None:
    folder = build(1)
    seconds = np.stack([np.arange(WORDS), np.arange(WORDS) + 1.0], 1)
    alike = {name: (seconds, np.roll(video(seed)[0], 1)[:, None]) for seed, name in enumerate("vwx")}
    csd("CMU_X_TimestampedWords.csd", alike)
    labels = np.stack([np.arange(0, WORDS, 10), np.arange(10, WORDS + 1, 10)], 1)
    csd("CMU_X_Labels.csd", {name: (labels, np.linspace(-2, 2, len(labels))[:, None]) for name in "vwx"})
    with pytest.raises(ValueError, match=r"but sentences fit clearly better elsewhere .*; pass options.words.row_offset=1, or"):
        read_csd(folder, transcripts="sentences.csv", audio=None)
    assert joins(folder, transcripts=None, audio=None)["words"]["durations_by_rows"]["correlation"] == 0


def test_labels_some_seconds_late_are_refused_with_the_remedy(build: Callable[..., Path]) -> None:
    folder = build(labels_late=0.33)
    with pytest.raises(ValueError, match=r"boundaries fit clearly better .*pass options\.words\.seconds_offset=0\.33, or"):
        read_csd(folder)
    found = joins(folder, labels={"seconds_offset": -0.33})
    assert found["words"]["boundaries"]["share_on_words"] == 1
    assert found["words"]["words_cut_by_boundaries"] == 0
    assert joins(folder, words={"seconds_offset": 0}, audio=None)["words"]["words_cut_by_boundaries"] > 50


def test_frames_some_seconds_late_are_refused_with_the_remedy(build: Callable[..., Path]) -> None:
    folder = build(voice_late=0.5)
    with pytest.raises(ValueError, match=r"pauses by seconds.*pass options\.audio\.seconds_offset=-0\.(45|5|55), or"):
        read_csd(folder)
    assert joins(folder, audio={"seconds_offset": -0.5})["audio"]["pauses_by_seconds"]["clearly_better"] is False
    assert joins(folder, audio={"seconds_offset": 0})["audio"]["pauses_by_seconds"]["clearly_better"] is True


def test_frames_of_the_words_intervals_some_rows_away_are_refused_with_the_remedy(build: Callable[..., Path]) -> None:
    folder = build(voice_rows=-1)
    stated = {"seconds_offset": 0}
    with pytest.raises(ValueError, match=r"audio must lie on .*pauses by rows.*pass options\.audio\.row_offset=-1, or"):
        read_csd(folder, audio=stated)
    assert joins(folder, audio={"row_offset": -1})["audio"]["pauses_by_rows"]["best_row_offset"] == 0


def test_rows_are_displaced_within_what_there_is() -> None:
    track = Track(np.array([[0, 1], [1, 2], [2, 3.0]]), np.array(["a", "b", "c"], dtype=object), ("v", "v", "w"))
    later = track.displace(1, 0.5)
    assert (later.features.tolist(), later.intervals.tolist(), later.entries) == (["b", "c"], [[0.5, 1.5], [1.5, 2.5]], ("v", "v"))
    earlier = track.displace(-1, 0)
    assert (earlier.features.tolist(), earlier.intervals.tolist()) == (["a", "b"], [[1, 2], [2, 3]])
    assert len(track.displace(5, 0).features) == len(track.displace(-5, 0).features) == 0
    assert [displaced(2, -3), displaced(0, 1)] == [(slice(0, 0), slice(3, 3)), (slice(1, 1), slice(0, 0))]


def test_correlations_are_spearman_s() -> None:
    draw = np.random.default_rng(0)
    a, b = draw.integers(0, 5, 200), draw.normal(size=200)
    assert correlate(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert correlate(np.ones(200), b) == correlate(a[:2], b[:2]) == 0
    spoken = np.stack([a > 2, np.ones(200, bool)], 1)
    values = np.stack([b, -b + 3 * (a > 2)], 1)
    expected = max(abs(spearmanr(values[:, k], a > 2).statistic) for k in (0, 1))
    assert strongest(values, spoken) == pytest.approx([expected, 0])


def test_clearly_better_takes_a_margin_and_enough_pairs() -> None:
    """Fisher: artanh .5 − artanh 0 = .549 is 5 √(2 / (n − 3)) at n = 3 + 50 / .549² = 168.7."""
    assert not clearly_better(0.5, 0.0, 168)
    assert clearly_better(0.5, 0.0, 169)
    assert not clearly_better(0.09, 0.0, 10**6)
    assert not clearly_better(0.9, 0.0, 3)


def test_boundaries_that_fall_anywhere_have_no_better_shift() -> None:
    """3,000 word boundaries and 1,000 labels' at random: of 2 ms windows the fullest holds a hundredth of the labels' at most."""
    for seed in range(20):
        draw = np.random.default_rng(seed)
        edges, labels = draw.uniform(0, 1000, 3000), draw.uniform(0, 1000, 1000)
        apart = (edges - labels[:, None]).ravel()
        assert not summarise_boundaries(apart[np.abs(apart) < 2], 1000)["clearly_better"]
    assert summarise_boundaries(np.zeros(0), 4)["share_on_words"] == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [("It's the film's end, I KNOW.", ["its", "the", "films", "end", "i", "know"]), ("", []), ("très bon", ["très", "bon"])],
)
def test_sentences_are_compared_without_case_and_punctuation(text: str, words: list[str]) -> None:
    assert split_sentence(text) == words


def test_transcripts_count_clips_from_0_or_1_and_name_them_in_two_ways(tmp_path: Path) -> None:
    known = ["v_a[0]", "v_a[1]"]
    for content in (
        "id,text\nv_a_1,one\nv_a_2,two\n",
        "id,text\nv_a_0,one\nv_a_1,two\n",
        "video_id,clip_id,text\nv_a,1,one\nv_a,2,two\nother,1,x\n",
    ):
        (tmp_path / "t.csv").write_text(content)
        assert read_transcripts(tmp_path / "t.csv", known) == {"v_a[0]": "one", "v_a[1]": "two"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2\n", r"transcripts have the columns id .* but it has \['a', 'b'\]; rename them"),
        (b"", r"but it has \[\]"),
        (b"id,text\nw_1,x\n", "must name the labelled segments, but none of its 1 rows does; pass options.transcripts="),
        (b"id,text\n\xff\xfe,x\n", "must be a table of transcripts .csv., but cannot be read"),
    ],
)
def test_transcripts_that_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_transcripts(tmp_path / "t.csv", ["v[0]"])


@pytest.mark.parametrize(
    "option", [{"row_offset": 0.5}, {"rows": 1}, {"seconds_offset": "a"}, {"row_offset": True}, {"seconds_offset": float("nan")}]
)
def test_offsets_that_are_refused(build: Callable[..., Path], option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"option words must be a file name, or have the keys file, row_offset .*; write options"):
        read_csd(build(), words=option)


@pytest.mark.real_data
def test_the_words_of_cmu_mosi_are_its_sentences_one_row_later(real_data: Path) -> None:
    with pytest.raises(ValueError, match=r"words must lie on the intervals .*pass options\.words\.row_offset=1, or"):
        read_csd(real_data / "mosi")
    found = joins(real_data / "mosi", words={"row_offset": 1})["words"]
    assert found["sentences"]["transcripts"] == 2195
    assert found["sentences"]["agree"] >= 1900
    assert found["boundaries"]["share_on_words"] > 0.9
    assert not any(found[what]["clearly_better"] for what in ("sentences", "boundaries", "durations_by_rows"))


# Joins by index -------------------------------------------------------------------------------------------


def lengths_of(steps: np.ndarray) -> Ragged:
    return Ragged.of([np.ones((n, 1), np.float32) for n in steps])


@pytest.mark.parametrize("rows", [0, 1, -3])
def test_columns_some_rows_away_are_refused(rows: int) -> None:
    steps = np.random.default_rng(0).integers(1, 40, 300)
    features = {"vectors": lengths_of(steps), "audio": lengths_of(np.roll(5 * steps, rows))}
    fold = np.array(["train"] * 200 + ["valid"] * 50 + ["test"] * 50)
    if rows:
        with pytest.raises(ValueError, match=rf"tiny: vectors and audio must .* audio taken {rows} rows later .*displaced"):
            join_by_index(features, fold, "tiny")
    else:
        found = join_by_index(features, fold, "tiny")["vectors and audio"]["lengths_by_rows"]
        assert found == {"correlation": 1, "best_row_offset": 0, "best_correlation": 1, "clearly_better": False}


def test_no_row_passes_from_one_fold_to_another_and_missing_ones_do_not_count() -> None:
    """Folds of one segment have no neighbours; of the others the second lacks audio."""
    features = {"vectors": lengths_of(np.arange(1, 8)), "audio": lengths_of(np.array([1, 0, 3, 4, 5, 6, 7]))}
    fold = np.array(["train"] * 5 + ["valid", "test"])
    found = join_by_index(features, fold, "tiny")["vectors and audio"]["lengths_by_rows"]
    assert (found["correlation"], found["best_row_offset"]) == (1, 0)


def test_steps_of_zeros_are_not_filled() -> None:
    ragged = Ragged.of([np.array([[0, 0], [1, 0]]), np.zeros((0, 2)), np.zeros((3, 2)), np.array([[0, 2.0]])])
    assert filled_steps(ragged).tolist() == [1, 0, 0, 1]
    assert filled_steps(Ragged.of_words([["a", "b"], [], ["c"]])).tolist() == [2, 0, 1]
