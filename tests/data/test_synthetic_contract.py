"""The synthetic data set against the contract of segments: folds, words, lengths, seeds and refusals."""

import json

import numpy as np
import pytest

from mdm.data import lexicon
from mdm.data.base import FOLDS, digest
from mdm.data.checks import check
from mdm.data.sentiment import MODALITIES
from mdm.data.synthetic import latents, synthetic


@pytest.fixture(scope="module")
def segments():
    return synthetic()


@pytest.mark.parametrize("aligned", [True, False])
def test_contract_and_lengths(aligned):
    segments = check(synthetic(aligned=aligned, vectors=True))
    words, vectors = segments.text["words"], segments.text["vectors"]
    audio, video = segments.modalities["audio"], segments.modalities["video"]
    assert words.lengths.min() >= 2
    assert words.lengths.max() <= 50
    assert np.median(words.lengths) == pytest.approx(11, abs=1)
    assert (vectors.lengths == words.lengths).all()
    assert (vectors.dim, audio.dim, video.dim) == (300, 5, 20)
    assert {vectors.values.dtype, audio.values.dtype, video.values.dtype} == {np.dtype(np.float32)}
    if aligned:
        assert segments.aligned == ("words", "vectors", "audio", "video")
        assert (audio.lengths == words.lengths).all()
        assert (video.lengths == words.lengths).all()
    else:
        assert segments.aligned == ()
        assert (audio.lengths / words.lengths).mean() == pytest.approx(5, abs=0.1)
        assert (video.lengths / words.lengths).mean() == pytest.approx(3, abs=0.1)
        assert len(set(audio.lengths[words.lengths == 11])) > 5


def test_folds_share_no_video_and_have_their_sizes(segments):
    assert [(segments.fold == fold).sum() for fold in FOLDS] == [1284, 229, 686]
    videos = [set(segments.group[segments.fold == fold]) for fold in FOLDS]
    assert sum(map(len, videos)) == len(set.union(*videos))
    sizes = np.unique(segments.group, return_counts=True)[1]
    assert sizes.max() <= 24
    assert np.median(sizes) >= 14
    assert all(i.startswith(f"{video}[") for i, video in zip(segments.ids, segments.group, strict=True))
    assert segments.ids[:2] == ("video000[0]", "video000[1]")


def test_vocabulary_is_the_whole_lexicon_and_each_word_of_one_kind():
    words = [word for kind in lexicon.KINDS for word in kind]
    assert len(words) == len(set(words))
    small, large = synthetic(2, 1, 1, seed=1), synthetic(20, 2, 2, seed=2, shared_dim=1)
    assert small.text["words"].vocabulary == large.text["words"].vocabulary == ("<pad>", "<unk>", *sorted(words))
    assert set(small.words(0).split()) <= set(words)


@pytest.mark.parametrize(("valence", "topic"), [(0.3, 0.1), (-0.5, -0.2), (1.5, 0.0)])
def test_words_have_the_stated_frequencies(valence, topic):
    """Each frequency is binomial: standard error sqrt(p (1 - p) / n)."""
    n = 40_000
    rows = np.array([valence]), np.array([[topic, -topic]]), np.array([n])
    ids = lexicon.sentences(*rows, np.random.default_rng(0))
    kind_of = {word: k for k, words in enumerate(lexicon.KINDS) for word in words}
    frequency = np.bincount([kind_of[lexicon.VOCABULARY[i]] for i in ids], minlength=len(lexicon.KINDS)) / n

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    positive, strong, pole = sigmoid(4 * valence), sigmoid(3 * (abs(valence) - 1)), sigmoid(6 * topic)
    kinds = {"the": 0.15, "boring": 0.25 * (1 - positive) * (1 - strong), "awful": 0.25 * (1 - positive) * strong}
    kinds |= {"nice": 0.25 * positive * (1 - strong), "superb": 0.25 * positive * strong}
    kinds |= {"street": 0.3 * (1 - pole), "farm": 0.3 * pole, "ocean": 0.3 * pole, "summit": 0.3 * (1 - pole)}
    for word, p in kinds.items():
        assert frequency[kind_of[word]] == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / n))
    assert frequency[[kind_of[word] for word in kinds]].sum() == pytest.approx(1)


def test_vectors_are_one_for_each_word():
    segments = synthetic(100, 5, 5, vectors=True)
    ids, values = segments.text["words"].values, segments.text["vectors"].values
    for word in np.unique(ids)[:20]:
        assert (values[ids == word] == values[ids == word][0]).all()


def test_missing_modalities_are_missing_and_disturb_nothing_else():
    n, rate = 1000, {"language": 0.3, "audio": 0.2}
    whole = synthetic(n - 2, 1, 1, vectors=True)
    holed = synthetic(n - 2, 1, 1, vectors=True, missing=rate)
    assert (holed.label == whole.label).all()
    for name, ragged in holed.features.items():
        p = rate.get({"words": "language", "vectors": "language"}.get(name, name), 0.0)
        absent = ragged.lengths == 0
        assert absent.mean() == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / n))
        for i in np.flatnonzero(~absent)[:50].tolist():
            assert (ragged[i] == whole.features[name][i]).all()
    assert (holed.text["words"].lengths == holed.text["vectors"].lengths).all()
    assert holed.words(int(np.flatnonzero(holed.text["words"].lengths == 0)[0])) == ""


def bytes_of(**arguments):
    segments = synthetic(30, 5, 5, **arguments)
    features = {name: digest(r.values, r.offsets) for name, r in segments.features.items()}
    return features | {
        "label": digest(segments.label),
        "marks": digest(*segments.marks.values()),
        "group": digest(segments.group),
    }


def test_one_seed_gives_the_same_bytes_and_another_gives_others():
    assert bytes_of(seed=3, aligned=False) == bytes_of(seed=3, aligned=False)
    assert synthetic(30, 5, 5, seed=3).card_hash == synthetic(30, 5, 5, seed=3).card_hash
    assert not set(bytes_of(seed=3).values()) & set(bytes_of(seed=4).values())


@pytest.mark.parametrize(
    ("changed", "moves"),
    [
        ({"audio_dim": 9}, {"audio"}),
        ({"video_dim": 9}, {"video"}),
        ({"rho": 0.1}, {"audio", "video"}),
        ({"aligned": False}, {"audio", "video"}),
        ({"contradiction": 0.9}, {"audio", "video", "label", "marks"}),
        ({"accord": 0.5}, {"label"}),
        ({"turn": 0.0}, {"label"}),
        ({"irony": -1.0}, {"label"}),
        ({"shared_dim": 2}, {"words", "audio", "video"}),
        ({"missing": {"audio": 0.5}}, {"audio"}),
        ({"vectors": True}, {"vectors"}),
    ],
)
def test_an_argument_moves_only_what_it_must(changed, moves):
    before, after = bytes_of(), bytes_of(**changed)
    assert {name for name in after if before.get(name) != after[name]} == moves


def test_the_record_says_that_it_is_synthetic(segments):
    assert segments.source["synthetic"] is True
    assert {"train", "rho", "contradiction", "missing", "seed"} <= set(segments.source)
    json.dumps(segments.card)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": 0}, "at least 1 segment"),
        ({"valid": 0}, "at least 1 segment"),
        ({"test": 0}, "at least 1 segment"),
        ({"rho": 1.0}, "strictly between -1/2 and 1"),
        ({"rho": -0.5}, "strictly between -1/2 and 1"),
        ({"contradiction": -0.1}, "probability"),
        ({"contradiction": 1.1}, "probability"),
        ({"contradiction": float("nan")}, "probability"),
        ({"shared_dim": 0}, "at least 1"),
        ({"shared_dim": 8, "audio_dim": 20}, "at most 7"),
        ({"audio_dim": 4}, "audio_dim must be at least 5"),
        ({"video_dim": 0}, "video_dim must be at least 5"),
        ({"missing": {"acoustic": 0.1}}, "language, audio, video"),
        ({"missing": {"audio": 1.0}}, r"\[0, 1\)"),
        ({"missing": {"audio": -0.1}}, r"\[0, 1\)"),
        ({"seed": -1}, "non-negative"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        synthetic(**arguments)


def test_smallest_sizes():
    smallest = synthetic(1, 1, 1, audio_dim=3, video_dim=3, shared_dim=1)
    assert len(smallest) == 3
    assert latents(3, audio_dim=3, video_dim=3, shared_dim=1).private["audio"].shape == (3, 0)
    assert set(latents(3).private) == set(MODALITIES)
