"""Stand-ins: the inputs are those of the synthetic data set, the labels follow the law that the module states."""

import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from mdm.data.base import UNLABELED
from mdm.data.checks import check
from mdm.data.sentiment import LAW
from mdm.data.standin import law_of, signal, standin
from mdm.data.synthetic import latents, synthetic
from mdm.runs.build import build_splits
from mdm.runs.members import make

SIZES = {"train": 60, "valid": 20, "test": 20}
TRAITS = {"name": "pom", "targets": ["vivid", "relaxed"], "label_range": [1, 7], "step": 0.5}
EMOTIONS = {"name": "iemocap", "targets": ["happy", "sad", "angry"], "label_range": [0, 1], "step": 1}
THREE = {"name": "youtube", "targets": ["sentiment"], "label_range": [-1, 1], "step": 1, "reach": 0.86}
CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "data"
STANDINS = sorted({path.stem for path in CONFIGS.glob("synthetic_*.yaml")} - {"synthetic_digits"})
"""Those of this kind; pictures of digits have their own tests."""


# The law ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("q", [0.0, 0.15, 0.5, 1.0])
def test_covariance_of_the_valences(q):
    """A mean of n products of standard normals with |correlation| below 1 has a standard error of at most sqrt(2/n)."""
    n = 40_000
    v = latents(n, contradiction=q, seed=3).valence
    assert np.abs(v.T @ v / n - replace(LAW, contradiction=q).covariance).max() < 4 * np.sqrt(2 / n)


@pytest.mark.parametrize("target", ["vivid", "relaxed", "sentiment"])
def test_a_signal_has_mean_zero_and_variance_one_and_is_symmetric(target):
    """Standard errors: 1/sqrt(n) of the mean; of the variance, whose fourth moment is at most Gaussian's, sqrt(2/n); of a share,
    1/(2 sqrt(n))."""
    n = 40_000
    s = signal(law_of(target, LAW), target, latents(n, seed=4), seed=4)
    assert abs(s.mean()) < 4 / np.sqrt(n)
    assert abs(s.var() - 1) < 4 * np.sqrt(2 / n)
    assert abs((s > 0).mean() - 0.5) < 4 / (2 * np.sqrt(n))


@pytest.mark.parametrize("target", ["vivid", "relaxed", "happy"])
def test_each_target_has_the_shares_of_the_synthetic_sentiment(target):
    whole = replace(LAW, contradiction=0.4, turn=0.7)
    law = law_of(target, whole)
    assert law.parts == pytest.approx(whole.parts)
    assert law.covariance == pytest.approx(whole.covariance)
    assert (abs(law.accord), abs(law.turn), abs(law.irony)) == (whole.accord, whole.turn, whole.irony)
    assert law.weights != pytest.approx(law_of("another", whole).weights)


def test_labels_are_the_stated_function_of_the_latents():
    """Noise taken away by subtraction: what is left of s is linear in valences and products of tones."""
    z, law = latents(100), law_of("vivid", LAW)
    nothing = replace(z, valence=np.zeros_like(z.valence), tone=np.zeros_like(z.tone))
    left = signal(law, "vivid", z, 0) - signal(law, "vivid", nothing, 0)
    t_l, t_a, t_v = z.tone.T
    products = law.accord * t_a * t_v + law.turn * t_l * t_a + law.irony * t_l * t_a * t_v
    assert left == pytest.approx((z.valence @ np.array(law.weights) + products) / np.sqrt(law.variance))

    segments = standin(**TRAITS, **SIZES)
    s = np.stack([signal(law_of(t, LAW), t, z, 0) for t in TRAITS["targets"]], axis=1)
    assert segments.label == pytest.approx(np.clip(np.rint(2 * (4 + 1.5 * s)) / 2, 1, 7))
    assert (standin(**EMOTIONS, **SIZES).label[:, 0] == (signal(law_of("happy", LAW), "happy", z, 0) > 0)).all()
    s = signal(law_of("sentiment", LAW), "sentiment", z, 0)
    assert standin(**THREE, **SIZES).label[:, 0] == pytest.approx((s > 0.43).astype(int) - (s < -0.43))


def test_other_data_settings_reach_the_valences():
    """Contradiction and widths change the latents that are drawn, accord the law; labels follow them."""
    options = {"contradiction": 0.9, "accord": 0.3, "audio_dim": 7, "video_dim": 9, "shared_dim": 2, "rho": 0.3, "seed": 5}
    z = latents(100, audio_dim=7, video_dim=9, shared_dim=2, rho=0.3, contradiction=0.9, seed=5)
    segments = standin(**EMOTIONS, **SIZES, **options)
    law = law_of("sad", replace(LAW, contradiction=0.9, accord=0.3))
    assert (segments.label[:, 1] == (signal(law, "sad", z, 5) > 0)).all()
    assert segments.source["contradiction"] == 0.9


def test_the_population_does_not_move_with_the_seed():
    """On another seed's segments the same regression finds the same coefficients; those of another target are others."""
    n = 20_000
    fits = []
    for seed, target in ((0, "vivid"), (1, "vivid"), (0, "relaxed")):
        z = latents(n, seed=seed)
        fits.append(np.linalg.lstsq(z.valence, signal(law_of(target, LAW), target, z, seed), rcond=None)[0])
    # A standard error is at most 1 / sqrt(n (1 - .64²)) = .0092, of a difference .013.
    assert np.abs(fits[0] - fits[1]).max() < 0.06
    assert np.abs(fits[0] - fits[2]).max() > 0.1


def test_a_target_does_not_depend_on_those_beside_it():
    alone = standin(**{**TRAITS, "targets": ["relaxed"]}, **SIZES)
    assert (alone.label[:, 0] == standin(**TRAITS, **SIZES).label[:, 1]).all()
    assert (alone.label != standin(**{**TRAITS, "targets": ["relaxed"]}, **SIZES, seed=1).label).any()


# The table of segments ----------------------------------------------------------------------------------


def test_inputs_are_those_of_the_synthetic_data():
    here, there = standin(**TRAITS, **SIZES, audio_dim=7, seed=3), synthetic(**SIZES, audio_dim=7, seed=3)
    for name, ragged in there.features.items():
        assert (here.features[name].values == ragged.values).all()
    assert here.truth == there.truth
    assert (here.ids, here.aligned) == (there.ids, there.aligned)
    assert (here.fold == there.fold).all()
    check(here)


def test_the_card_says_what_it_is():
    segments = standin(**EMOTIONS, **SIZES, seed=7)
    assert (segments.name, segments.targets, segments.label_range) == ("iemocap", ("happy", "sad", "angry"), (0.0, 1.0))
    assert segments.truth, "so that a record says that the data are synthetic"
    told = {"synthetic": True, "stands_in_for": "iemocap", "step": 1, "seed": 7, "train": 60, "reach": 2.0}
    assert told.items() <= segments.source.items()
    assert segments.card_hash != standin(**{**EMOTIONS, "reach": 1.0}, **SIZES, seed=7).card_hash


def test_unlabelled_segments_have_no_label():
    segments = standin(**TRAITS, **SIZES, unlabeled=30)
    free = segments.fold == UNLABELED
    assert free.sum() == 30
    assert np.isnan(segments.label[free]).all()
    assert np.isfinite(segments.label[~free]).all()


@pytest.mark.parametrize("name", STANDINS)
def test_each_stand_in_is_what_its_file_says(config, name):
    """A real data set of that name, or the base of its name, has a file too; what a stand-in predicts can be learnt."""
    cfg = config(f"data={name}", small=False)
    splits = build_splits(cfg)
    node = cfg.data.segments
    assert splits.sizes == {fold: node[fold] for fold in ("train", "valid", "test")}
    segments = make(node)
    low, high = segments.label_range
    label = segments.label[segments.fold != UNLABELED].astype(float)
    assert label.min() == low
    assert label.max() == high
    step = node.get("step", 0.2)
    assert (label - low) / step == pytest.approx(np.rint((label - low) / step), abs=1e-5)
    assert set(node) <= {*inspect.signature(standin).parameters, *inspect.signature(synthetic).parameters, "_target_"}
    z = latents(len(segments), node.audio_dim, node.video_dim, node.get("shared_dim", 3), 0.8, node.contradiction, node.seed)
    t = z.tone.T
    told = np.concatenate([z.valence, z.tone, np.stack([t[1] * t[2], t[0] * t[1], t.prod(axis=0)], axis=1)], axis=1)
    told = told[segments.fold != UNLABELED]
    for column in label.T:
        r = np.corrcoef(told @ np.linalg.lstsq(told, column - column.mean(), rcond=None)[0], column)[0, 1]
        assert r > 0.7
    real = name.removeprefix("synthetic_").removesuffix("_unlabeled").removesuffix("unlabeled") or "mosi"
    assert OmegaConf.load(CONFIGS / f"{real}.yaml").segments["_target_"] == "mdm.data.store.open_store"


# Bad input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_range": [1]}, r"pom: labels run from low to high in whole steps, but label_range=\[1\] and step=0.5 came; set"),
        ({"label_range": [7, 1]}, r"label_range=\[7, 1\]"),
        ({"step": 0}, "step=0 came; set data.segments.label_range and data.segments.step"),
        ({"step": 0.7}, "whole steps"),
        ({"step": 12}, "whole steps"),
        ({"targets": []}, r"targets, each once, and reach > 0, but targets=\[\]"),
        ({"targets": ["vivid", "vivid"]}, r"targets=\['vivid', 'vivid'\]"),
        ({"reach": 0.0}, "reach=0.0 came; set data.segments.targets and data.segments.reach"),
        ({"contradiction": 1.5}, "contradiction must be a probability"),
        ({"train": 0}, "Each fold needs at least 1 segment"),
    ],
)
def test_bad_arguments(change, message):
    with pytest.raises(ValueError, match=message):
        standin(**{**TRAITS, **SIZES, **change})
