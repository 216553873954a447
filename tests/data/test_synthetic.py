"""The synthetic data set against the model that its module states, and against the contract of segments."""

import itertools
import json

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, RidgeCV

from mdm.data import lexicon
from mdm.data.base import FOLDS, digest
from mdm.data.checks import check
from mdm.data.gaussian import gaussian_total_correlation
from mdm.data.synthetic import MODALITIES, PERSISTENCE, latents, mixing, sentiment, synthetic, true_total_correlation


@pytest.fixture(scope="module")
def segments():
    return synthetic()


@pytest.fixture(scope="module")
def z(segments):
    return latents(len(segments))


# The truth ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("q", [0.0, 0.15, 0.5, 0.8, 1.0])
def test_polarity_dependence_by_enumeration(q):
    """TC = sum p log(p / product of marginals), over the eight sign patterns; every marginal is 1/2."""
    nats = 0.0
    for b_l, b_a, b_v in itertools.product((-1, 1), repeat=3):
        p = 0.5 * (b_a == b_v) * (1 - q if b_a == b_l else q)
        nats += p * np.log(p / 0.5**3) if p > 0 else 0.0
    assert true_total_correlation(3, 0.8, q)["total_correlation_polarity"] == pytest.approx(nats, abs=1e-12)


def test_truth_at_the_defaults(segments):
    """Shared: -1.5 (2 log .2 + log 2.6) = 3.395047; polarity: 2 log 2 - h(.15) = 1.386294 - .422709."""
    assert segments.truth["total_correlation_shared"] == pytest.approx(3.395047, abs=1e-6)
    assert segments.truth["total_correlation_polarity"] == pytest.approx(0.963585, abs=1e-6)
    assert segments.truth["total_correlation"] == pytest.approx(4.358632, abs=1e-6)


def test_latents_have_the_dependence_that_is_stated():
    """Plug-in estimates; the standard error of each is that of the mean log density ratio.

    Shared: sqrt(k M(M-1) rho^2 / 2 / n), as in the Gaussian test. Signs: the ratio is 4(1-q) or 4q, so
    the variance is q(1-q) log^2((1-q)/q).
    """
    n, k, rho, q = 40_000, 3, 0.8, 0.15
    z = latents(n, shared_dim=k, rho=rho, contradiction=q, seed=1)
    truth = true_total_correlation(k, rho, q)
    shared = gaussian_total_correlation(np.cov(np.concatenate(list(z.shared), axis=1).T), [k] * 3)
    assert shared == pytest.approx(truth["total_correlation_shared"], abs=4 * np.sqrt(k * 3 * rho**2 / n))

    pattern = (z.valence > 0) @ np.array([4, 2, 1])
    joint = np.bincount(pattern, minlength=8).reshape(2, 2, 2) / n
    marginals = [joint.sum(axis=tuple({0, 1, 2} - {m})) for m in range(3)]
    product = np.einsum("i,j,k->ijk", *marginals)
    seen = joint > 0
    polarity = (joint[seen] * np.log(joint[seen] / product[seen])).sum()
    se = np.sqrt(q * (1 - q) / n) * np.log((1 - q) / q)
    assert polarity == pytest.approx(truth["total_correlation_polarity"], abs=4 * se)


def test_what_is_said_to_be_independent_is_uncorrelated():
    """A correlation of two independent columns has standard error 1/sqrt(n); about 2000 are looked at."""
    n = 40_000
    z = latents(n, video_dim=6, seed=2)
    columns = {"valence": z.valence, "magnitude": np.abs(z.valence), "shared": np.concatenate(list(z.shared), axis=1)}
    columns |= {f"private {m}": p for m, p in z.private.items()}
    matrix = np.corrcoef(np.concatenate(list(columns.values()), axis=1).T)
    block = np.repeat(np.arange(len(columns)), [c.shape[1] for c in columns.values()])
    allowed = block[:, None] == block  # valences, and views of one shared latent, do depend on one another
    magnitudes = block == 1
    allowed &= ~magnitudes[:, None] | ~magnitudes | np.eye(len(block), dtype=bool)
    assert np.abs(matrix[~allowed]).max() < 5 / np.sqrt(n)


def test_contradictory_segments_are_those_whose_signs_differ(segments, z):
    signs = np.sign(z.valence)
    assert (signs[:, 1] == signs[:, 2]).all()
    assert (segments.marks["contradictory"] == (signs[:, 0] != signs[:, 1])).all()
    n, q = len(segments), 0.15
    assert segments.marks["contradictory"].mean() == pytest.approx(q, abs=4 * np.sqrt(q * (1 - q) / n))
    assert not synthetic(50, 5, 5, contradiction=0.0).marks["contradictory"].any()
    assert synthetic(50, 5, 5, contradiction=1.0).marks["contradictory"].all()


def test_sentiment_follows_its_equation(z):
    """clip(1.1 v_l + 0.45 v_a + 0.35 v_v + 0.5 ε, −3, 3) in steps of 0.2, with the same ε."""
    noise = np.random.default_rng(5).standard_normal(len(z.valence))
    signal = 1.1 * z.valence[:, 0] + 0.45 * z.valence[:, 1] + 0.35 * z.valence[:, 2] + 0.5 * noise
    expected = 0.2 * np.rint(np.clip(signal, -3, 3) / 0.2)
    assert (np.abs(signal) > 3).any()
    assert np.abs(sentiment(z, np.random.default_rng(5)) - expected).max() < 1e-9


# The observations ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("modality", "aligned"), [("audio", True), ("video", True), ("audio", False)])
def test_frames_follow_their_equation(modality, aligned):
    """Undo the mixing: what remains is AR(1) noise of unit variance, which starts anew in each segment."""
    segments = synthetic(400, 1, 1, aligned=aligned)
    ragged = segments.modalities[modality]
    orthogonal, scale = mixing(modality, ragged.dim)
    h = latents(402).of(modality)
    noise = ragged.values / scale @ orthogonal - np.repeat(h, ragged.lengths, axis=0)
    count = noise.size
    # Var of the sample variance of an AR(1): 2 (1 + phi^2)/(1 - phi^2) / count; of the lag-1 correlation: (1 - phi^2)/count.
    phi = PERSISTENCE
    assert noise.var() == pytest.approx(1, abs=4 * np.sqrt(2 * (1 + phi**2) / (1 - phi**2) / count))
    starts = ragged.offsets[1:-1]
    later = np.setdiff1d(np.arange(1, len(noise)), starts)
    lag = (noise[later] * noise[later - 1]).sum() / (noise[later] ** 2).sum()
    assert lag == pytest.approx(phi, abs=5 * np.sqrt((1 - phi**2) / count))
    first = noise[ragged.offsets[:-1]]
    assert first.var() == pytest.approx(1, abs=4 * np.sqrt(2 / first.size))
    assert abs((noise[starts] * noise[starts - 1]).mean()) < 4 / np.sqrt(noise[starts].size)


def test_audio_features_differ_in_scale_by_a_thousand():
    sd = synthetic(200, 5, 5).modalities["audio"].values.std(0)
    assert 500 < sd[-1] / sd[0] < 2000


def test_words_tell_the_language_latents(segments, z):
    """Ridge on word counts; r is about .6, and on 686 test rows its standard error (1 - r^2)/sqrt(n) is .025."""
    words = segments.text["words"]
    counts = np.stack([np.bincount(words[i], minlength=words.dim) for i in range(len(words))])
    train, test = segments.fold == "train", segments.fold == "test"
    language = z.of("language")
    for column, least in zip(language.T, (0.6, 0.5, 0.5, 0.5, 0.5), strict=True):
        ridge = RidgeCV(np.logspace(-1, 4, 11)).fit(counts[train], column[train])
        assert np.corrcoef(ridge.predict(counts[test]), column[test])[0, 1] > least


def test_labels_are_like_mosi_s_and_can_be_learnt(segments, z):
    y = segments.label[:, 0].astype(float)
    assert abs(y.mean()) < 0.15
    assert 1.5 < y.std() < 1.7
    assert np.abs(y * 5 - np.rint(y * 5)).max() < 1e-5
    train, test = segments.fold == "train", segments.fold == "test"
    line = LinearRegression().fit(z.valence[train], y[train])
    assert line.coef_[0] > 2 * line.coef_[1:].max()  # language is the strongest
    assert np.abs(y[test] - y[train].mean()).mean() > 1.2
    # Noise of sd .5 alone has mean absolute value .5 sqrt(2/pi) = .40.
    assert np.abs(y[test] - line.predict(z.valence[test])).mean() < 0.5


def test_shared_latents_do_not_tell_the_label(segments, z):
    shared = np.concatenate(list(z.shared), axis=1)
    r = [np.corrcoef(column, segments.label[:, 0])[0, 1] for column in shared.T]
    assert np.abs(r).max() < 4 / np.sqrt(len(segments))


# The contract -------------------------------------------------------------------------------------------


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
        ({"audio_dim": 3}, "audio_dim must be at least 4"),
        ({"video_dim": 0}, "video_dim must be at least 4"),
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
    smallest = synthetic(1, 1, 1, audio_dim=2, video_dim=2, shared_dim=1)
    assert len(smallest) == 3
    assert latents(3, audio_dim=2, video_dim=2, shared_dim=1).private["audio"].shape == (3, 0)
    assert set(latents(3).private) == set(MODALITIES)
