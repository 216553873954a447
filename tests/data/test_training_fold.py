"""Scales and vocabulary come from the training fold alone: what stands in other folds changes nothing in training."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from data.made import VOCABULARY, equal, rows_of, table, training_frames

from mdm.data.base import PADDING, UNKNOWN, Ragged
from mdm.data.splits import Splits


@pytest.fixture(scope="module")
def segments():
    return table()


# Scaling ------------------------------------------------------------------------------------------------


def test_standard_scale_is_that_of_the_training_frames(segments):
    """Over all training frames end to end, in double precision, divided by n."""
    splits = Splits(segments, text="vectors")
    for name, feature in (("language", "vectors"), ("audio", "audio"), ("video", "video")):
        frames = training_frames(segments, feature)
        np.testing.assert_allclose(splits._views[name].shift, frames.mean(0), rtol=1e-6)
        np.testing.assert_allclose(splits._views[name].factor, 1 / frames.std(0), rtol=1e-6)
        scaled = torch.cat([s.values[s.mask] for s in (b.sequences[name] for b in splits.in_order("train"))]).double()
        torch.testing.assert_close(scaled.mean(0), torch.zeros(frames.shape[1]).double(), atol=1e-5, rtol=0)
        torch.testing.assert_close(scaled.std(0, correction=0), torch.ones(frames.shape[1]).double(), atol=1e-5, rtol=0)


def test_standard_scale_of_a_feature_far_from_zero(segments):
    """Frames 1e4 ± 1: the mean of squares less the square of the mean would lose 8 digits."""
    rng = np.random.default_rng(1)
    audio = [
        (1e4 + rng.standard_normal((len(segments.modalities["audio"][i]), 1))).astype(np.float32) for i in range(len(segments))
    ]
    far = replace(segments, modalities={"audio": Ragged.of(audio)})
    frames = training_frames(far, "audio")
    view = Splits(far)._views["audio"]
    np.testing.assert_allclose(view.shift, frames.mean(0), rtol=1e-7)
    np.testing.assert_allclose(view.factor, 1 / frames.std(0), rtol=1e-6)


def test_maxabs_scale_is_the_largest_training_frame(segments):
    splits = Splits(segments, scale="maxabs")
    for name in ("audio", "video"):
        largest = np.abs(training_frames(segments, name)).max(0)
        np.testing.assert_array_equal(splits._views[name].factor, (1 / largest).astype(np.float32))
        assert max(s.values.abs().max() for s in (b.sequences[name] for b in splits.train())) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("scale", ["standard", "maxabs", "none"])
@pytest.mark.parametrize("constant", [0.0, 5.0])
def test_a_feature_that_never_changes_stays_finite(segments, scale, constant):
    audio = Ragged.of([np.full((1, 1), constant, dtype=np.float32)] * len(segments))
    splits = Splits(replace(segments, modalities={"audio": audio}), scale=scale)
    expected = {"standard": 0.0, "maxabs": float(constant > 0), "none": constant}[scale]
    assert all((b.sequences["audio"].values == expected).all() for b in splits.train())


def test_word_ids_are_not_scaled(segments):
    a, b = (next(iter(Splits(segments, scale=scale).valid())).sequences["language"] for scale in ("standard", "none"))
    assert torch.equal(a.values, b.values)


# Nothing leaks out of the other folds -------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"text": "vectors"}, {"scale": "maxabs"}, {"max_steps": 3}])
def test_other_folds_change_nothing_in_training(segments, options):
    """Every frame, word, length and label of validation and test is exchanged for another, and far larger ones."""
    rng = np.random.default_rng(9)
    outside = segments.fold != "train"

    def exchanged(ragged):
        rows = []
        for i in range(len(ragged)):
            t = int(rng.integers(1, 30))
            new = rng.integers(2, len(VOCABULARY), t) if ragged.tokens else 1e6 * rng.standard_normal((t, ragged.dim))
            rows.append(new if outside[i] else ragged[i])
        return Ragged.of(rows, ragged.vocabulary)

    other = replace(
        segments,
        modalities={m: exchanged(r) for m, r in segments.modalities.items()},
        text={kind: exchanged(r) for kind, r in segments.text.items()},
        aligned=(),
        label=np.where(outside[:, None], -segments.label / 2, segments.label),
    )
    a, b = Splits(segments, batch_size=5, **options), Splits(other, batch_size=5, **options)
    for epoch in range(2):
        for loader in (one := a.train(), two := b.train()):
            loader.batch_sampler.set_epoch(epoch)
        assert all(equal(x, y) for x, y in zip(one, two, strict=True))
    assert a.spec.label_mean == b.spec.label_mean
    for name in a.spec.modalities:
        assert a._views[name].feature == b._views[name].feature
        for part in ("shift", "factor"):
            np.testing.assert_array_equal(getattr(a._views[name], part), getattr(b._views[name], part))


def test_words_that_training_has_not_come_behind_those_it_has(segments):
    """Words 12 to 19 are in the vocabulary but in no training segment: their ids lie beyond dim, and the words can be read."""
    splits = Splits(segments)
    language = next(iter(splits.valid())).sequences["language"]
    plain = np.concatenate([segments.text["words"][i] for i in rows_of(segments, "valid")])
    assert (plain >= 12).any()
    feature, vocabulary = splits.spec.features["language"], segments.text["words"].vocabulary
    read = language.values[language.mask].tolist()
    assert [feature.vocabulary[k] for k in read] == [vocabulary[k] for k in plain]
    assert (language.values[~language.mask] == PADDING).all()
    training = {vocabulary[w] for i in rows_of(segments, "train") for w in segments.text["words"][i]}
    assert feature.vocabulary[: UNKNOWN + 1] == ("<pad>", "<unk>")
    assert list(feature.vocabulary[UNKNOWN + 1 : feature.dim]) == sorted(training)
    assert list(feature.vocabulary[feature.dim :]) == sorted(set(vocabulary[2:]) - training)
    assert feature.dim + feature.others == len(vocabulary)
    assert {k >= feature.dim for k in read} == {True, False}


def test_ids_of_a_tokenizer_stay_as_they_are(segments):
    """A pretrained model knows them all: there is no vocabulary of the data's own."""
    tokens = Ragged(segments.text["words"].values, segments.text["words"].offsets)
    splits = Splits(replace(segments, text={"tokens": tokens}, aligned=()), text="tokens")
    language = next(iter(splits.valid())).sequences["language"]
    plain = np.concatenate([tokens[i] for i in rows_of(segments, "valid")])
    np.testing.assert_array_equal(language.values[language.mask].numpy(), plain)
