"""Data settings that belong to a published setting: scale and cut by modality, the side of a cut, zeros as steps, fixed batches."""

from dataclasses import replace

import numpy as np
import pytest

from mdm.data.base import Ragged, Segments
from mdm.data.splits import Splits

LENGTHS = (1, 3, 5, 7, 2, 4, 6, 5, 3, 7, 4, 6)


@pytest.fixture(scope="module")
def segments():
    """Eight of training, two of validation, two of test; words, word vectors, audio and video, aligned."""
    rng = np.random.default_rng(0)
    frames = {
        name: Ragged.of([rng.normal(1, 2, (t, d)) for t in LENGTHS]) for name, d in (("vectors", 4), ("audio", 3), ("video", 2))
    }
    words = Ragged.of_words([[f"w{k}" for k in range(t)] for t in LENGTHS])
    n = len(LENGTHS)
    return Segments(
        name="tiny",
        ids=tuple(f"s{i}" for i in range(n)),
        fold=np.array(["train"] * 8 + ["valid"] * 2 + ["test"] * 2),
        group=np.array([f"v{i}" for i in range(n)]),
        label=np.linspace(-2, 2, n, dtype=np.float32)[:, None],
        targets=("sentiment",),
        label_range=(-3.0, 3.0),
        modalities={m: frames[m] for m in ("audio", "video")},
        text={"words": words, "vectors": frames["vectors"]},
        aligned=("words", "vectors", "audio", "video"),
    )


def first(splits):
    return next(iter(splits.in_order("train")))


@pytest.mark.parametrize(("keep", "kept"), [("last", slice(-4, None)), ("first", slice(None, 4))])
def test_a_cut_keeps_its_side(segments, keep, kept):
    for name, sequence in first(Splits(segments, text="vectors", scale="none", max_steps=4, keep=keep)).sequences.items():
        ragged = segments.features["vectors" if name == "language" else name]
        for i, t in enumerate(LENGTHS[:8]):
            assert sequence.mask[i].tolist() == [k < min(t, 4) for k in range(4)]
            np.testing.assert_array_equal(sequence.values[i, : min(t, 4)], ragged[i][kept])


@pytest.mark.parametrize(("keep", "kept"), [("last", slice(-4, None)), ("first", slice(None, 4))])
def test_official_padding_is_zeros_up_to_one_length_that_count_as_steps(segments, keep, kept):
    """In front where the last steps are kept, behind where the first are; zeros also after scaling."""
    splits = Splits(
        segments,
        text="vectors",
        scale={"language": "none", "audio": "none", "video": "maxabs"},
        max_steps=4,
        keep=keep,
        padding="official",
    )
    assert all(feature.zeros_read for feature in splits.spec.features.values())
    largest = np.abs(np.concatenate([segments.modalities["video"][i] for i in range(8)])).max(0)
    for name, sequence in first(splits).sequences.items():
        ragged = segments.features["vectors" if name == "language" else name]
        assert sequence.mask.all()
        assert sequence.values.shape[1] == 4
        for i in range(8):
            steps = ragged[i][kept] / (largest if name == "video" else 1)
            zeros = np.zeros((4 - len(steps), ragged.dim))
            plain = [zeros, steps] if keep == "last" else [steps, zeros]
            np.testing.assert_allclose(sequence.values[i], np.concatenate(plain), rtol=1e-6)


def test_official_padding_does_not_depend_on_the_batch_and_leaves_tokens_masked(segments):
    splits = Splits(segments, max_steps=9, padding="official")
    batch = first(splits)
    assert not splits.spec.features["language"].zeros_read
    assert batch.sequences["language"].lengths.tolist() == list(LENGTHS[:8])
    assert {sequence.values.shape[1] for name, sequence in batch.sequences.items() if name != "language"} == {9}


def test_scale_and_cut_of_each_modality(segments):
    options = {"text": "vectors", "scale": {"language": "none", "audio": "standard", "video": "maxabs"}}
    batch = first(Splits(segments, max_steps={"language": None, "audio": 2, "video": 3}, **options))
    assert [sequence.values.shape[1] for sequence in batch.sequences.values()] == [7, 2, 3]
    whole = first(Splits(segments, **options)).sequences
    np.testing.assert_array_equal(whole["language"].values[3], segments.text["vectors"][3])
    assert np.abs(whole["audio"].values[whole["audio"].mask].numpy().mean(0)).max() < 1e-6
    np.testing.assert_allclose(whole["video"].values.abs().amax((0, 1)), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"scale": {"audio": "none"}},
            r"scale must be one for all, .* language, audio, video, but .* lacks language, video; set data\.scale",
        ),
        ({"max_steps": {"audio": 1, "video": 1, "language": 1, "smell": 2}}, r"names smell; set data\.max_steps"),
        (
            {"scale": {"language": "none", "audio": "none", "video": "minmax"}},
            "scale: expected one of standard, maxabs, none, got 'minmax'",
        ),
        ({"padding": "official"}, r"max_steps=null says none; set data\.max_steps to the length of the authors' file"),
        ({"last_batch": "drop"}, "last_batch=drop leaves no batch of 32 among 8 training segments"),
    ],
)
def test_what_does_not_fit_is_named(segments, options, message):
    with pytest.raises(ValueError, match=message):
        Splits(segments, **options)


def epochs(splits, stream="order"):
    loader = splits.train(stream)
    for epoch in range(3):
        loader.batch_sampler.set_epoch(epoch)
        yield [list(rows) for rows in loader.batch_sampler]


def test_one_order_for_all_epochs_is_that_of_the_first(segments):
    """A critic's own batches are shuffled all the same."""
    once, shuffled = (list(epochs(Splits(segments, batch_size=3, order=order))) for order in ("once", "shuffled"))
    assert once == [shuffled[0]] * 3
    assert shuffled[0] != shuffled[1]
    of_critic = list(epochs(Splits(segments, batch_size=3, order="once"), "critic batches"))
    assert of_critic[0] != of_critic[1]


@pytest.mark.parametrize("by_length", [False, True])
def test_a_smaller_last_batch_may_be_dropped(segments, by_length):
    splits = Splits(segments, batch_size=3, last_batch="drop", by_length=by_length)
    for batches in epochs(splits):
        assert [len(rows) for rows in batches] == [3, 3]
        assert len(splits.train().batch_sampler) == 2
    whole = Splits(segments, batch_size=3)
    assert [len(rows) for rows in next(epochs(whole))] == [3, 5], "two rows are too few for a batch"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["w0", "w1", "w2"]),
        ({"max_steps": 2}, ["w1", "w2"]),
        ({"max_steps": 2, "keep": "first"}, ["w0", "w1"]),
        ({"max_steps": 5, "padding": "official"}, ["", "", "w0", "w1", "w2"]),
        ({"max_steps": 5, "keep": "first", "padding": "official"}, ["w0", "w1", "w2", "", ""]),
    ],
)
def test_the_word_at_each_step(segments, options, expected):
    assert Splits(segments, text="vectors", **options).place_words(["w0", "w1", "w2"]) == expected


def test_other_segments_are_read_the_same_way(segments):
    splits = Splits(segments, text="vectors", max_steps=5, padding="official")
    other = splits.like(replace(segments, label=segments.label / 2))
    assert first(other).sequences["audio"].values.shape[1] == 5
