"""Labels, groups, words and values as files that people have hold them: told from one another, or refused with what to do."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mdm.data.base import Segments
from mdm.formats.base import find_groups, list_unread
from mdm.formats.columns import name_targets
from mdm.formats.features import clean_features, find_sentinels
from mdm.formats.mfn_h5 import read_mfn_h5
from mdm.formats.misa import read_misa
from mdm.formats.mmim import read_mmim
from mdm.formats.mmsa import read_mmsa
from mdm.formats.mult import read_emotions, read_mult
from mdm.formats.scale import FEWEST, label_bounds
from mdm.formats.values import read_words, split_words
from mdm.metrics import evaluate

FOLDS = ("train", "valid", "test")


def mird_file(labels: Any, n: int = 10, **further: Any) -> dict[str, Any]:
    draw = np.random.default_rng(0)

    def fold() -> dict[str, Any]:
        audio, video = (draw.normal(size=(n, steps, 2)).astype(np.float32) for steps in (4, 3))
        return {"raw_text": ["it was good"] * n, "audio": audio, "video": video, "labels": np.resize(labels, n), **further}

    return {name: fold() for name in FOLDS}


# The scale of labels --------------------------------------------------------------------------------------


def column(*values: float) -> np.ndarray:
    return np.resize(np.array(values, np.float32), (FEWEST, 1))


def test_two_values_are_two_classes(dump: Any, stored: Callable[..., Segments], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    segments = stored("mird", dump(mird_file([0, 1, 1])))
    assert segments.label_range == (0, 1)
    assert segments.source["classes"] == [0, 1]
    assert "all labels are 0 or 1: a target of two classes" in caplog.text
    # a predictor that knows the share of ones only is as good as the larger class, and no better
    constant = evaluate(np.full_like(segments.label, 0.9), segments.label, segments.label_range, segments.targets)
    assert constant["acc2_nonneg"] == pytest.approx(segments.label.mean())
    assert constant["acc2_nonneg"] < 1


def test_two_values_on_their_own_scale_or_another() -> None:
    assert label_bounds([0, 1], "f", column(0, 1), "tiny") == (0, 1)
    assert label_bounds(None, "f", column(-1, 1), "tiny") == (-1, 1)
    assert label_bounds([-3, 3], "f", column(0, 1), "tiny") == (0, 1)
    with pytest.raises(ValueError, match=r"two values are classes.*\[0\.0, 1\.0\], but \[0, 5\] is declared"):
        label_bounds([0, 5], "f", column(0, 1), "tiny")
    with pytest.raises(ValueError, match=r"but \[-1, 1\] is declared; pass options\.label_range=\[0,1\]"):
        label_bounds([-1, 1], "f", column(0, 1), "tiny")


def test_labels_within_a_third_of_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[-3, 3\], but all 20 lie in \[-1, 1\], a third.*label_range=\[-1,1\]"):
        label_bounds((-3.0, 3.0), "f", column(-1, -0.4, 0, 0.2, 1), "tiny")
    assert label_bounds((-3.0, 3.0), "f", column(-1, 0, 1.2), "tiny") == (-3, 3)
    assert label_bounds((-1.0, 1.0), "f", column(-1, 0, 0.5), "tiny") == (-1, 1)
    assert label_bounds((-3.0, 3.0), "f", column(-1, 0, 0.5)[: FEWEST - 1], "tiny") == (-3, 3)  # too few to tell
    assert label_bounds((-1.0, 1.0), "f", column(-9, 0, 9), "tiny") == (-1, 1)  # refused as labels outside


@pytest.mark.real_data
def test_cases_of_scales(cases: Path) -> None:
    humour = read_misa(cases / "misa_urfunny")
    assert (humour.label_range, humour.source["classes"]) == ((0, 1), [0, 1])
    with pytest.raises(ValueError, match=r"pass the scale that they are on, such as options\.label_range=\[-1,1\]"):
        read_mmsa(cases / "sims_unaligned_39.pkl")
    assert read_mmsa(cases / "sims_unaligned_39.pkl", label_range=[-1, 1]).label_range == (-1, 1)


# Groups ---------------------------------------------------------------------------------------------------


def test_a_number_behind_every_group_is_the_segment_s() -> None:
    groups, said = find_groups(["a_b_1", "a_b_2", "c[0]", "c[1]", "d$_$7", "d$_$8"], "tiny")
    assert groups.tolist() == ["a_b", "a_b", "c", "c", "d", "d"]
    assert "without the number" in said
    kept, said = find_groups(["a_1", "a_1", "b_2"], "tiny")  # videos whose names end so
    assert (kept.tolist(), said) == (["a_1", "a_1", "b_2"], "")


@pytest.mark.parametrize("names", [("train_{}", "valid_{}"), ("a{}", "b{}_1")])
def test_segments_of_unknown_videos_are_said_to_be(names: tuple[str, str], caplog: pytest.LogCaptureFixture) -> None:
    groups = [name.format(k) for name in names for k in range(10)]
    kept, said = find_groups(groups, "tiny")
    assert kept.tolist() == groups
    assert said.startswith("each segment is a group of its own; if videos have several, the ids do not tell")
    assert f"tiny: {said}" in caplog.text
    caplog.clear()
    assert find_groups(groups[:5], "tiny")[1] == said  # in the card; too few for a warning
    assert not caplog.text


def test_mult_s_ids_of_clips_with_times_are_grouped_by_video(dump: Any, stored: Callable[..., Segments]) -> None:
    draw = np.random.default_rng(0)

    def fold(video: str) -> dict[str, Any]:
        arrays = {key: draw.normal(size=(3, 4, 2)).astype(np.float32) for key in ("text", "audio", "vision")}
        ids = np.array([[f"{video}_{k}".encode(), str(k).encode(), str(k + 1).encode()] for k in range(3)])
        return {**arrays, "labels": np.array([[[-2.0]], [[0.5]], [[2.0]]]), "id": ids}

    segments = stored("mult", dump({name: fold(f"v_{name}") for name in FOLDS}))
    assert sorted(set(segments.group.tolist())) == ["v_test", "v_train", "v_valid"]


@pytest.mark.real_data
def test_mmim_s_segments_are_numbered_within_their_videos(cases: Path) -> None:
    segments = read_mmim(cases / "mmim_mosei")
    assert len(segments) == 40
    assert {i.rsplit("[", 1)[0] for i in segments.ids} == set(segments.group.tolist())
    assert "names videos only" in segments.source["ids"]


# Words ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("it was good", ["it", "was", "good"]),
        ("今天很好", ["今", "天", "很", "好"]),
        ("我喜欢 iPhone 15，很好", ["我", "喜", "欢", "iPhone", "15", "，", "很", "好"]),
        ("映画\u3000だ", ["映", "画", "だ"]),
        ("정말 좋아요", ["정말", "좋아요"]),
        ("nan", []),
        ("None", []),
        ("nan is a bread", ["nan", "is", "a", "bread"]),
        ("", []),
    ],
)
def test_sentences_are_split_by_their_script(text: str, words: list[str]) -> None:
    assert split_words(text) == words


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_what_is_missing_is_no_word(missing: Any) -> None:
    for value in (["good", missing], ("good", missing), np.array(["good", missing], dtype=object)):
        with pytest.raises(ValueError, match="must be a list of words, but is"):
            read_words(value, "here")
    assert read_words(np.array([b"good", b"day"]), "here") == ["good", "day"]


@pytest.mark.real_data
def test_chinese_sentences_are_read_by_character(cases: Path) -> None:
    segments = read_mmsa(cases / "sims_unaligned_39.pkl", label_range=[-1, 1])
    assert segments.words(0) == " ".join("今天的电影真的很好")
    assert segments.text["words"].lengths.mean() > 3


# Values, files and keys -----------------------------------------------------------------------------------


def test_values_that_stand_for_none_are_set_to_0_or_named(caplog: pytest.LogCaptureFixture) -> None:
    audio = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    audio[3, 0], audio[5, 0], audio[::100, 2] = np.finfo(np.float32).min, np.nan, -999
    features, counts, absurd = clean_features(["v"], [{"audio": audio}], "tiny", {})
    assert counts == {"audio": 2}
    assert features["audio"].values[[3, 5], 0].tolist() == [0, 0]
    assert absurd == {"sentinels": {"audio": {"2": -999.0}}}
    assert "tiny: audio repeats one value far outside of its column's range (-999 in column 2)" in caplog.text


def test_columns_without_sentinels() -> None:
    draw = np.random.default_rng(0)
    values = np.stack([draw.normal(size=900), draw.standard_cauchy(900), np.resize([0, 0, 1], 900), np.zeros(900)], 1)
    assert find_sentinels(values.astype(np.float32)) == {}
    assert find_sentinels(np.zeros((0, 2), np.float32)) == {}


def test_files_and_keys_that_nothing_reads_are_listed(dump: Any, tmp_path: Path, stored: Callable[..., Segments]) -> None:
    content = mird_file([-2, 1, 2])
    segments = stored("mird", dump({**content, "config": {"fps": 25}, "all": content["train"]}))
    assert segments.source["keys_left"] == ["config", "all"]
    for name in FOLDS:
        dump(content[name], f"folder/{name}.pkl")
    (tmp_path / "folder" / "notes.txt").write_text("x")
    assert stored("mird", tmp_path / "folder").source["files_left"] == ["notes.txt"]
    assert list_unread(tmp_path / "data.pkl", []) == []


@pytest.mark.parametrize("lacking", ["audio", "vision"])
def test_mmsa_may_lack_a_modality_but_not_in_one_fold(dump: Any, stored: Callable[..., Segments], lacking: str) -> None:
    content = mird_file([-2, 1, 2])
    for k, columns in enumerate(content.values()):
        columns |= {"vision": columns.pop("video"), "regression_labels": columns.pop("labels"), "mean_pitch": np.zeros(10)}
        columns["id"] = [f"v{k}$_${i}" for i in range(10)]
    whole = content["train"].pop(lacking)
    with pytest.raises(ValueError, match=rf"every fold must have the same of the columns .*'{lacking}': \['train'\]"):
        read_mmsa(dump(content))
    del content["valid"][lacking], content["test"][lacking]
    segments = stored("mmsa", dump(content))
    assert set(segments.modalities) == {"audio", "video"} - {"video" if lacking == "vision" else lacking}
    assert segments.source["columns_left"] == ["mean_pitch"]
    assert whole.shape == (10, 4 if lacking == "audio" else 3, 2)


@pytest.mark.real_data
def test_cases_with_more_or_less_than_usual(cases: Path) -> None:
    more = read_mmsa(cases / "fet_feature.pkl")
    assert more.source["keys_left"] == ["config"]
    assert "annotations" in more.source["columns_left"]
    assert list(read_mmsa(cases / "fet_novision.pkl").modalities) == ["audio"]


@pytest.mark.real_data
def test_the_files_of_ict_mmmo_are_joined_row_by_row(real_data: Path) -> None:
    joins = read_mfn_h5(real_data / "ict_mmmo", label_range=[1, 5]).source["joins"]
    assert set(joins) == {"vectors and audio", "vectors and video", "audio and video"}
    assert all(found["lengths_by_rows"]["best_row_offset"] == 0 for found in joins.values())
    assert joins["audio and video"]["lengths_by_rows"]["correlation"] > 0.5


# Several targets ------------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_cases_of_several_targets(cases: Path) -> None:
    emotions = read_mult(cases / "mult_iemocap_data.pkl")
    assert emotions.targets == ("neutral", "happy", "sad", "angry")
    assert emotions.label_range == (0, 1)
    assert emotions.label[:3].tolist() == [[0, 0, 0, 1], [0, 0, 0, 0], [1, 0, 1, 0]]
    classes = read_mfn_h5(cases / "h5_onehot")
    assert classes.targets == ("class_0", "class_1", "class_2")
    assert classes.label[:3].tolist() == [[0, 1, 0], [0, 1, 0], [1, 0, 0]]
    metrics = evaluate(classes.label, classes.label, classes.label_range, classes.targets)
    assert metrics["accuracy"] == 1


def test_emotions_are_marked_once_each() -> None:
    assert read_emotions([[1, 0], [0, 1], [1, 0], [0, 1]], "x").tolist() == [0, 1, 0, 1]
    for value in ([[1, 1], [0, 1], [1, 0], [0, 1]], [[0.5, 0.5]] * 4, [[1, 0]] * 3, "x"):
        with pytest.raises(ValueError, match="x's label must mark no or yes for each of neutral, happy, sad, angry, but is"):
            read_emotions(value, "x")


def test_columns_of_labels_in_hdf5() -> None:
    y = {fold: np.array([[1, 7.0], [2, 3]]) for fold in FOLDS}
    assert name_targets({"joy": 1}, y, "mfn_h5") == {"joy": 1}
    assert name_targets(None, {fold: labels[:, :1] for fold, labels in y.items()}, "lmf") == {"sentiment": 0}
    for targets, tables in ((None, y), ({"joy": 2}, y), (None, {**y, "test": y["test"][:, :1]})):
        with pytest.raises(ValueError, match=r"y must have the columns that targets names, .*pass options\.targets\."):
            name_targets(targets, tables, "mfn_h5")
