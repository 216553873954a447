"""Splits: lacking modalities, what a backbone is told, how data are divided, and the seal of the test fold."""

from dataclasses import replace

import numpy as np
import pytest
from data.made import VOCABULARY, choose_epoch, table, training_frames

from mdm.data.base import FOLDS, Ragged
from mdm.data.folds import KFold
from mdm.data.splits import Splits
from mdm.data.synthetic import synthetic


@pytest.fixture(scope="module")
def segments():
    return table()


@pytest.fixture
def selection(tmp_path):
    return choose_epoch(tmp_path)


# Lacking modalities -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["standard", "maxabs", "none"])
def test_a_lacking_modality_has_no_real_step(segments, scale):
    lacking = {segments.ids[i] for i in range(len(segments)) if segments.modalities["video"].lengths[i] == 0}
    seen = set()
    for batch in Splits(segments, batch_size=5, scale=scale).train():
        video = batch.sequences["video"]
        for i, mask, values in zip(batch.ids, video.mask, video.values, strict=True):
            assert mask.any() == (i not in lacking)
            if i in lacking:
                assert (values == 0).all()
                seen.add(i)
    assert seen


def test_a_batch_that_lacks_a_modality_altogether_has_one_step_of_padding(segments):
    has = segments.fold != "valid"
    audio = Ragged.of([np.ones((int(has[i]), 2), dtype=np.float32) for i in range(len(segments))])
    splits = Splits(replace(segments, modalities={"audio": audio}))
    for batch in splits.valid():
        sequence = batch.sequences["audio"]
        assert sequence.values.shape == (len(batch), 1, 2)
        assert not sequence.mask.any()
        assert (sequence.values == 0).all()


def test_a_modality_that_the_training_fold_lacks_is_refused(segments):
    audio = Ragged.of([np.ones((int(segments.fold[i] == "test"), 2), dtype=np.float32) for i in range(len(segments))])
    with pytest.raises(ValueError, match="must occur in the training fold to be learned, but audio does not"):
        Splits(replace(segments, modalities={"audio": audio}))


# What a backbone is told --------------------------------------------------------------------------------


def test_spec_tells_dimensions_words_and_the_training_mean(segments):
    spec = Splits(segments).spec
    assert spec.modalities == ("language", "audio", "video")
    assert {m: (f.dim, f.tokens) for m, f in spec.features.items()} == {
        "language": (12, True),  # padding, the unknown word and the ten words of training
        "audio": (3, False),
        "video": (2, False),
    }
    assert spec.features["language"].vocabulary == VOCABULARY
    assert (spec.targets, spec.label_range) == (("sentiment",), (-3.0, 3.0))
    assert spec.label_mean == pytest.approx(tuple(segments.label[segments.fold == "train"].astype(float).mean(0)), abs=1e-6)
    vectors = Splits(segments, text="vectors").spec.features["language"]
    assert (vectors.dim, vectors.tokens, vectors.vocabulary) == (4, False, ())


@pytest.mark.parametrize(
    ("options", "aligned", "expected"),
    [
        ({}, ("words", "audio", "video"), True),
        ({}, ("words", "audio"), False),
        ({"modalities": ["language", "audio"]}, ("words", "audio"), True),
        ({"text": "vectors"}, ("words", "audio", "video"), False),
        ({"text": "vectors"}, ("words", "vectors", "audio", "video"), True),
        ({"text": None}, ("audio", "video"), True),
        ({"modalities": ["video"]}, (), True),
        ({}, (), False),
    ],
)
def test_aligned_only_if_everything_chosen_is(options, aligned, expected):
    data = synthetic(train=12, valid=5, test=5, vectors=True)
    assert Splits(replace(data, aligned=aligned), **options).spec.aligned is expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"text": None}, ("audio", "video")),
        ({"modalities": ["video", "language"]}, ("language", "video")),
        ({"modalities": ["audio"]}, ("audio",)),
    ],
)
def test_modalities_are_chosen_in_the_order_of_the_data(segments, options, expected):
    splits = Splits(segments, **options)
    assert splits.spec.modalities == expected
    assert tuple(next(iter(splits.train())).sequences) == expected


def test_data_without_text_have_no_language(segments):
    assert Splits(replace(segments, text={}, aligned=())).spec.modalities == ("audio", "video")


def test_another_division(segments, selection):
    """A declared division replaces the data's own, in batches, scale and description alike."""
    kfold = KFold(k=3, fold=1, seed=5)
    splits, fold = Splits(segments, folds=kfold), kfold(segments)
    assert splits.sizes == {name: int((fold == name).sum()) for name in FOLDS}
    tested = [i for batch in splits.open_test(selection) for i in batch.ids]
    assert tested == splits.describe("test")["id"] == [segments.ids[i] for i in np.flatnonzero(fold == "test")]
    frames = training_frames(replace(segments, fold=fold), "audio")
    np.testing.assert_allclose(splits._views["audio"].shift, frames.mean(0), rtol=1e-6)


# The seal, and errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 1}, "batch_size must be at least 2 .*but is 1"),
        ({"batch_size": 0}, "batch_size must be at least 2 .*but is 0"),
        ({"max_steps": 0}, "max_steps must be at least 1, but is 0"),
        ({"text": "tokens"}, r"carries text as words, vectors, but data\.text=tokens was asked for"),
        ({"modalities": ["audio", "smell"]}, "has the modalities language, audio, video, but smell was asked for"),
        ({"modalities": []}, "but none was asked for; set data.modalities to a non-empty choice"),
        ({"text": None, "modalities": ["language"]}, "has the modalities audio, video, but language was asked for"),
        ({"folds": lambda s: np.where(s.fold == "train", "train", "test")}, "must hold a segment, but valid hold none"),
        ({"folds": lambda s: np.full(len(s), "")}, "but train, valid, test hold none"),
    ],
)
def test_an_argument_out_of_range_is_named(segments, options, message):
    with pytest.raises(ValueError, match=message):
        Splits(segments, **options)


@pytest.mark.parametrize("empty", FOLDS)
def test_an_empty_fold_is_named(segments, empty):
    with pytest.raises(ValueError, match=f"each of train, valid and test must hold a segment, but {empty} hold none"):
        Splits(replace(segments, fold=np.where(segments.fold == empty, "", segments.fold)))


def test_nothing_to_read(segments):
    with pytest.raises(ValueError, match=r"at least one modality, but data\.text=null leaves none"):
        Splits(replace(segments, modalities={}), text=None)


def test_broken_segments_are_refused(segments):
    with pytest.raises(ValueError, match="labels must lie in the declared range"):
        Splits(replace(segments, label_range=(0.0, 3.0)))


def test_folds_in_order_but_the_test_fold(segments):
    splits = Splits(segments)
    for fold in ("train", "valid"):
        assert [i for b in splits.in_order(fold) for i in b.ids] == splits.describe(fold)["id"]
    with pytest.raises(ValueError, match="test fold opens only after a checkpoint was chosen on validation"):
        splits.in_order("test")
