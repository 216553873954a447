"""Digits in two styles: the law that the module states, closed forms of its parts, and how hard the two styles are to read."""

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from mdm.data.base import FOLDS
from mdm.data.digits import (
    BRIGHTNESS,
    CANVAS,
    CONTRAST,
    SHARES,
    colour_pairs,
    digits,
    divide,
    load_handwritten,
    sample_images,
    stroke,
)
from mdm.data.pairing import SHAPES, STYLES
from mdm.runs.build import build_splits
from mdm.runs.members import make
from mdm.runs.protocol import run

SIZES = {"train": 60, "valid": 20, "test": 30}


@pytest.fixture(scope="module")
def whole():
    return digits()


def instances_of(segments):
    """The instance of each style and segment, from the ids."""
    names = [name.split(":")[1].split("+") for name in segments.ids]
    return {style: np.array([int(pair[k].removeprefix(f"{style}-")) for pair in names]) for k, style in enumerate(STYLES)}


# The table of segments ----------------------------------------------------------------------------------


def test_what_models_read(whole):
    assert whole.targets == tuple("0123456789")
    assert whole.label_range == (0.0, 1.0)
    assert whole.text == {}
    assert {fold: int((whole.fold == fold).sum()) for fold in FOLDS} == {"train": 2000, "valid": 400, "test": 1000}
    assert ((whole.label == 1).sum(1) == 1).all()
    assert ((whole.label == 0).sum(1) == 9).all()
    for style in STYLES:
        ragged = whole.modalities[style]
        assert ragged.values.dtype == np.float32
        assert ragged.values.shape == (3400, np.prod(SHAPES[style]))
        assert (ragged.lengths == 1).all()
        assert ragged.values.min() >= 0
        assert ragged.values.max() <= 1
        assert (ragged.values.std(1) > 0.02).all(), "an image without anything on it"


def test_no_instance_is_in_two_folds(whole):
    for pair in (("train", "valid"), ("train", "test"), ("valid", "test")):
        one, other = ({i for style in STYLES for i in instances_of(whole)[style][whole.fold == fold]} for fold in pair)
        assert not one & other
    assert not any(flags.any() for flags in whole.marks.values())
    assert whole.source["images_also_in_training"] == {style: {"valid": 0, "test": 0} for style in STYLES}


def test_pairs_that_are_divided_afterwards_share_instances():
    """Two thousand draws of about 180 instances of each digit leave exp(−2000 / 1797) = a third of them undrawn."""
    segments = digits(split="paper")
    for style, instance in instances_of(segments).items():
        trained = np.isin(instance, instance[segments.fold == "train"])
        assert (segments.marks[f"{style}_trained_on"] == (trained & (segments.fold != "train"))).all()
        tested = np.unique(instance[segments.fold == "test"])
        known = np.isin(tested, instance[segments.fold == "train"])
        assert segments.source["images_also_in_training"][style]["test"] == known.sum()
        assert known.mean() == pytest.approx(1 - np.exp(-2000 / 1797), abs=4 * np.sqrt(0.22 / len(tested)))


@pytest.mark.parametrize("split", ["disjoint", "paper"])
def test_a_pair_shows_the_instances_that_it_names_and_their_digit(split):
    """Held against every instance of the digit, upright and of middling size: the own one is among the likest (half, by chance)."""
    segments = digits(**SIZES, split=split)
    finer, labels = load_handwritten()
    digit, n = segments.label.argmax(1), len(labels)
    for style, instance in instances_of(segments).items():
        assert (load_digits().target[instance] == digit).all()
        channels, height, width = SHAPES[style]
        size = np.full((2, n), {"svhn": 32 / 25, "mnist": 32 / 20}[style])
        middle = slice(height // 4, -height // 4)
        upright = sample_images(
            finer,
            np.arange(n),
            np.arange(height),
            np.arange(width),
            (height, width),
            np.zeros(n),
            np.zeros(n),
            size,
            np.zeros((2, n)),
        )
        shown = segments.modalities[style].values.reshape(-1, channels, height, width).mean(1)
        one, other = (images[:, middle, middle].reshape(len(images), -1) for images in (shown, upright))
        one, other = (x - x.mean(1, keepdims=True) for x in (one, other))
        likeness = np.abs(one @ other.T) / np.linalg.norm(other, axis=1)
        rank = [(likeness[k, instance[k]] >= likeness[k, labels == digit[k]]).mean() for k in range(len(digit))]
        assert np.mean(rank) > {"svhn": 0.65, "mnist": 0.75}[style]
    assert segments.group.tolist() == [f"svhn-{i:04d}" for i in instances_of(segments)["svhn"]]


def test_draws_are_those_of_the_seed_and_of_one_purpose_each():
    first, again, other, paper = digits(**SIZES), digits(**SIZES), digits(**SIZES, seed=1), digits(**SIZES, split="paper")
    assert first.card_hash == again.card_hash
    assert (first.label != other.label).any()
    assert (first.label == paper.label).all()
    assert first.source["split"] == "disjoint"
    assert set(first.truth) == {"digit_entropy"}
    assert first.truth["digit_entropy"] == pytest.approx(np.log(10))


# The law ------------------------------------------------------------------------------------------------


def test_digits_are_uniform_and_instances_independent_given_the_digit(whole):
    """Chi-squared of the digits; both instances of a pair are the same one with probability 1 / (instances of the digit)."""
    digit = whole.label.argmax(1)
    assert stats.chisquare(np.bincount(digit)).pvalue > 1e-3
    labels = load_digits().target
    instance, training = instances_of(whole), whole.fold == "train"
    expected = (1 / np.rint(SHARES["train"] * np.bincount(labels)))[digit[training]].sum()
    same = (instance["svhn"] == instance["mnist"])[training].sum()
    assert abs(same - expected) < 4 * np.sqrt(expected)


def test_style_depends_neither_on_the_digit_nor_on_the_other_image(whole):
    """A picture's corners show its background; its brightness is one of style. Given the digit, the ink of one image says nothing
    of the other's background: a rank correlation of about 1/√n."""
    svhn = whole.modalities["svhn"].values.reshape(-1, *SHAPES["svhn"])
    background = np.concatenate([svhn[:, :, :2].mean((2, 3)), svhn[:, :, -2:].mean((2, 3))], axis=1) @ np.tile(BRIGHTNESS, 2) / 2
    ink = whole.modalities["mnist"].values.sum(1)
    digit = whole.label.argmax(1)
    assert stats.kruskal(*(background[digit == k] for k in range(10))).pvalue > 1e-3
    rest = ink - np.array([ink[digit == k].mean() for k in range(10)])[digit]
    assert abs(stats.spearmanr(background, rest).statistic) < 4 / np.sqrt(len(rest))


def test_a_fold_has_its_share_of_every_digits_instances():
    labels = np.repeat(np.arange(10), np.arange(20, 220, 20))
    pool = divide(labels, np.random.default_rng(0))
    for k in range(10):
        assert [(pool[labels == k] == fold).sum() for fold in FOLDS] == [12 * (k + 1), 3 * (k + 1), 5 * (k + 1)]


# Parts in closed form -----------------------------------------------------------------------------------


def test_finer_instances_are_the_same_pictures():
    """A finer grid's pixels, averaged over a pixel of the original, are about the original, and its margin is about empty."""
    finer, labels = load_handwritten()
    found = load_digits()
    assert (labels == found.target).all()
    assert finer.shape == (1797, CANVAS, CANVAS)
    coarse = finer.reshape(1797, 10, 4, 10, 4).mean((2, 4))
    assert np.corrcoef(coarse[:, 1:-1, 1:-1].ravel(), found.images.ravel())[0, 1] > 0.98
    assert np.abs(coarse[:, 0]).mean() < 0.02


def test_sampling_by_known_maps():
    """At the instance's own scale: nothing moved, moved by whole pixels, and a quarter turn clockwise."""
    n = 3
    instances = np.random.default_rng(0).random((5, CANVAS, CANVAS)).astype(np.float32)
    drawn, every, none = np.array([4, 0, 4]), np.arange(CANVAS), np.zeros(n)

    def at(turn=0.0, shift=(0, 0), size=1.0, shear=0.0, columns=every):
        moved = np.repeat(np.array(shift, float)[:, None], n, axis=1)
        shape = (CANVAS, CANVAS)
        return sample_images(instances, drawn, every, columns, shape, none + turn, none + shear, np.full((2, n), size), moved)

    own = instances[drawn]
    np.testing.assert_allclose(at(), own, atol=1e-6)
    np.testing.assert_allclose(at(columns=every[-12:]), own[:, :, -12:], atol=1e-6)
    moved = at(shift=(2, -3))
    np.testing.assert_allclose(moved[:, 2:, :-3], own[:, :-2, 3:], atol=1e-6)
    assert (moved[:, :2] == 0).all()
    turned = at(turn=np.pi / 2)[:, 1:-1, 1:-1]  # at the very edge rounding may fall outside
    np.testing.assert_allclose(turned, np.rot90(own, -1, axes=(1, 2))[:, 1:-1, 1:-1], atol=1e-5)
    # sheared by 2 columns a row from the middle: row r shows columns moved by 2 (r − 19.5), a whole number
    sheared = at(shear=2.0)
    np.testing.assert_allclose(sheared[:, 20, :-1], own[:, 20, 1:], atol=1e-5)
    np.testing.assert_allclose(at(size=2.0)[:, 15:25, 15:25].mean(), own[:, 10:30, 10:30].mean(), atol=0.05)


def test_a_stroke_is_a_ramp_about_its_threshold():
    ink = stroke(np.array([[[0.0, 0.3, 0.4, 0.5, 1.0]]] * 2), np.array([0.4, 0.5]), np.array([0.4, 0.2]))
    np.testing.assert_allclose(ink[:, 0], [[0, 0.25, 0.5, 0.75, 1], [0, 0, 0, 0.5, 1]], atol=1e-6)


def test_colours_differ_in_brightness():
    behind, digit = colour_pairs(2000, np.random.default_rng(0))
    for colour in (behind, digit):
        assert colour.min() >= 0
        assert colour.max() <= 1
    contrast = np.abs((digit - behind) @ BRIGHTNESS)
    assert contrast.min() >= CONTRAST - 1e-12
    assert abs(((digit - behind) @ BRIGHTNESS > 0).mean() - 0.5) < 4 * 0.5 / np.sqrt(2000)


# How hard it is -----------------------------------------------------------------------------------------


def slopes(images, shape):
    """Histograms of edge directions, either way, in cells of 4 × 4 pixels."""
    down, across = np.gradient(images.reshape(-1, *shape).mean(1), axis=(1, 2))
    strength = np.hypot(down, across)
    bins = np.floor(np.arctan2(down, across) % np.pi / np.pi * 8).astype(int) % 8
    cells = (len(images), shape[1] // 4, 4, shape[2] // 4, 4)
    found = np.stack([(strength * (bins == b)).reshape(cells).sum((2, 4)) for b in range(8)], axis=-1).reshape(len(images), -1)
    return np.sqrt(found / found.sum(1, keepdims=True))


def test_one_style_is_easy_and_the_other_is_not(whole):
    """Accuracies of a support vector machine on edge directions: .98 and .87 when this was written."""
    digit, training, testing = whole.label.argmax(1), whole.fold == "train", whole.fold == "test"
    accuracy = {}
    for style in STYLES:
        x = slopes(whole.modalities[style].values, SHAPES[style])
        accuracy[style] = SVC(C=5).fit(x[training], digit[training]).score(x[testing], digit[testing])
    assert accuracy["mnist"] > 0.93
    assert 0.6 < accuracy["svhn"] < 0.92
    assert accuracy["mnist"] - accuracy["svhn"] > 0.04


# In a run -----------------------------------------------------------------------------------------------


def test_a_run_reads_the_images_as_they_are(config):
    splits = build_splits(config("data=synthetic_digits"))
    assert splits.sizes == {"train": 96, "valid": 32, "test": 40}
    assert {name: feature.dim for name, feature in splits.spec.features.items()} == {"svhn": 3072, "mnist": 784}
    assert sum(splits.spec.label_mean) == pytest.approx(1)
    batch = next(iter(splits.valid()))
    segments = make(config("data=synthetic_digits").data.segments)
    valid = segments.fold == "valid"
    for style in STYLES:
        assert (batch.sequences[style].values[:, 0].numpy() == segments.modalities[style].values[valid]).all()


def test_a_checkpoint_can_be_chosen_by_accuracy(config):
    record = run(config("data=synthetic_digits", "model=lmf", "trainer.select=accuracy"))
    assert record["selected"]["by"] == "valid/accuracy"
    assert record["synthetic"]
    assert 0 <= record["test"]["accuracy"] <= 1
    assert record["test_of_train_mean"]["accuracy"] < 0.5


# Bad input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": 0}, "Each fold needs at least 1 segment"),
        ({"seed": -1}, "A seed must be a non-negative integer"),
    ],
)
def test_bad_arguments(change, message):
    with pytest.raises(ValueError, match=message):
        digits(**{**SIZES, **change})
