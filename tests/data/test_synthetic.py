"""The synthetic data set against the model that its module states."""

import itertools

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, RidgeCV

from mdm.data.gaussian import gaussian_total_correlation
from mdm.data.sentiment import MODALITIES
from mdm.data.synthetic import PERSISTENCE, latents, mixing, synthetic, true_total_correlation


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
    columns |= {f"tone {m}": z.tone[:, [i]] for i, m in enumerate(MODALITIES)}
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
    assert 1.4 < y.std() < 1.7
    assert np.abs(y * 5 - np.rint(y * 5)).max() < 1e-5
    train, test = segments.fold == "train", segments.fold == "test"
    t = z.tone.T
    told = np.concatenate([z.valence, z.tone, np.stack([t[1] * t[2], t[0] * t[1], t.prod(axis=0)], axis=1)], axis=1)
    line = LinearRegression().fit(told[train], y[train])
    assert line.coef_[0] > 1.5 * line.coef_[1:3].max()  # .4 to .2, each with standard error .02: language's is the strongest
    assert np.abs(y[test] - y[train].mean()).mean() > 1.2
    # Noise of sd .4 alone has mean absolute value .4 sqrt(2/pi) = .32; clipping bends the line.
    assert np.abs(y[test] - line.predict(told[test])).mean() < 0.45


def test_shared_latents_do_not_tell_the_label(segments, z):
    shared = np.concatenate(list(z.shared), axis=1)
    r = [np.corrcoef(column, segments.label[:, 0])[0, 1] for column in shared.T]
    assert np.abs(r).max() < 4 / np.sqrt(len(segments))
