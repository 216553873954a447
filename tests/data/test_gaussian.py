"""The Gaussian data set against its closed forms (the component-wise model of Colombo et al., 2021)."""

import json

import numpy as np
import pytest

from mdm.data.base import digest
from mdm.data.checks import check
from mdm.data.gaussian import gaussian, gaussian_total_correlation, total_correlation


@pytest.mark.parametrize(
    ("modalities", "rho", "nats"),
    [
        # M=2 is -10 log(1 - rho^2); M=3 at rho=.6 is -10 (2 log .4 + log 2.2); and so on.
        (2, 0.3, 0.943107),
        (2, 0.6, 4.462871),
        (2, 0.9, 16.607312),
        (3, 0.3, 2.433463),
        (3, 0.6, 10.441241),
        (3, 0.9, 35.755508),
        (3, -0.3, 3.915622),
    ],
)
def test_total_correlation_has_its_known_values(modalities, rho, nats):
    assert total_correlation(rho, 20, modalities) == pytest.approx(nats, abs=1e-6)


@pytest.mark.parametrize(("modalities", "rho"), [(2, -0.95), (2, 0.5), (3, -0.45), (3, 0.8), (5, 0.99)])
def test_component_wise_form_is_a_case_of_the_general_form(modalities, rho):
    r = (1 - rho) * np.eye(modalities) + rho
    covariance = np.kron(r, np.eye(4))  # modality by modality, 4 coordinates each
    general = gaussian_total_correlation(covariance, [4] * modalities)
    assert general == pytest.approx(total_correlation(rho, 4, modalities), rel=1e-10)


def test_general_form_is_invariant_under_invertible_maps_of_each_block_and_additive():
    rng = np.random.default_rng(0)
    root = rng.standard_normal((6, 6))
    covariance = root @ root.T
    nats = gaussian_total_correlation(covariance, [1, 2, 3])
    maps = np.zeros((6, 6))
    for a, b in ((0, 1), (1, 3), (3, 6)):
        maps[a:b, a:b] = rng.standard_normal((b - a, b - a))
    assert gaussian_total_correlation(maps @ covariance @ maps.T, [1, 2, 3]) == pytest.approx(nats, rel=1e-8)
    # Chain rule: TC(1; 2; 3) = I((1, 2); 3) + I(1; 2)
    chain = gaussian_total_correlation(covariance, [3, 3]) + gaussian_total_correlation(covariance[:3, :3], [1, 2])
    assert chain == pytest.approx(nats, rel=1e-10)


def test_independence_is_zero_without_a_sign():
    assert str(total_correlation(0.0, 20, 3)) == "0.0"
    assert gaussian_total_correlation(np.diag([1.0, 2.0, 3.0]), [1, 1, 1]) == pytest.approx(0, abs=1e-12)


def test_segments_have_the_dependence_that_they_state():
    """Plug-in estimate from the sample covariance of n rows.

    Its influence function is the log density ratio, of variance d M(M-1) rho^2 / 2; its bias is about
    (parameters outside the blocks) / 2n = (M(M-1)/2) d^2 / 2n.
    """
    d, m, rho = 3, 3, 0.5
    segments = gaussian(train=40_000, valid=1, test=1, dim=d, rho=rho, seed=1)
    x = np.concatenate([ragged.values for ragged in segments.features.values()], axis=1)
    n = len(x)
    estimate = gaussian_total_correlation(np.cov(x.T), [d] * m)
    se, bias = np.sqrt(d * m * (m - 1) * rho**2 / 2 / n), m * (m - 1) / 2 * d**2 / (2 * n)
    assert estimate == pytest.approx(segments.truth["total_correlation"], abs=4 * se + 2 * bias)
    # An entry of the sample correlation has a standard error of at most 1/sqrt(n).
    assert np.abs(np.corrcoef(x.T) - np.kron((1 - rho) * np.eye(m) + rho, np.eye(d))).max() < 5 / np.sqrt(n)


def test_label_follows_its_equation():
    rho, n = 0.5, 4002
    segments = gaussian(train=4000, valid=1, test=1, rho=rho)
    first = np.stack([ragged.values[:, 0] for ragged in segments.features.values()])
    signal = 1.6 * first.mean(0) / np.sqrt((1 + 2 * rho) / 3)
    inside = np.abs(signal) < 1.5  # five standard deviations of the noise from the clip: the error is the noise itself
    error = (segments.label[:, 0] - signal)[inside]
    assert error.std() == pytest.approx(0.3, abs=4 * 0.3 / np.sqrt(2 * inside.sum()))
    assert signal.std() == pytest.approx(1.6, abs=4 * 1.6 / np.sqrt(2 * n))


@pytest.mark.parametrize(("modalities", "names"), [(2, ["audio"]), (3, ["audio", "video"]), (5, ["audio", "video", "m3", "m4"])])
def test_shapes_names_and_contract(modalities, names):
    segments = check(gaussian(7, 3, 2, dim=4, modalities=modalities))
    assert list(segments.modalities) == names
    assert list(segments.text) == ["vectors"]
    assert segments.aligned == ("vectors", *names)
    assert [(segments.fold == fold).sum() for fold in ("train", "valid", "test")] == [7, 3, 2]
    for ragged in segments.features.values():
        assert ragged.values.shape == (12, 4)
        assert ragged.values.dtype == np.float32
        assert (ragged.lengths == 1).all()
    assert segments.truth["pairwise_mutual_information"] == pytest.approx(-2 * np.log(1 - 0.25))
    json.dumps(segments.card)


def test_one_seed_gives_the_same_bytes_and_rho_moves_only_the_others():
    def bytes_of(**arguments):
        segments = gaussian(20, 5, 5, **arguments)
        return {name: digest(r.values) for name, r in segments.features.items()} | {"label": digest(segments.label)}

    assert bytes_of(seed=3) == bytes_of(seed=3)
    assert not set(bytes_of(seed=3).values()) & set(bytes_of(seed=4).values())
    assert bytes_of(rho=0.1)["vectors"] == bytes_of(rho=0.9)["vectors"]
    assert bytes_of(rho=0.1)["audio"] != bytes_of(rho=0.9)["audio"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"modalities": 1}, "at least 2 modalities"),
        ({"dim": 0}, "at least 1 coordinate"),
        ({"rho": 1.0}, "strictly between -1/2 and 1"),
        ({"rho": -0.5}, "strictly between -1/2 and 1"),
        ({"rho": float("nan")}, "strictly between"),
        ({"rho": -1.0, "modalities": 2}, "strictly between -1/1 and 1"),
        ({"train": 0}, "at least 1 segment"),
        ({"valid": 0}, "at least 1 segment"),
        ({"test": -1}, "at least 1 segment"),
        ({"seed": -1}, "non-negative"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        gaussian(**arguments)


@pytest.mark.parametrize(
    ("covariance", "blocks", "message"),
    [
        (np.eye(3), [1, 1], "add up"),
        (np.eye(3), [3, 0], "at least 1"),
        (np.eye(3), [], "at least 1"),
        (np.eye(2), [1, 1, 1], "add up"),
        (np.ones((2, 2)), [1, 1], "positive definite"),
        (np.array([[1.0, 0.5], [0.0, 1.0]]), [1, 1], "symmetric"),
        (np.full((2, 2), np.nan), [1, 1], "symmetric"),
    ],
)
def test_what_is_no_covariance_is_refused(covariance, blocks, message):
    with pytest.raises(ValueError, match=message):
        gaussian_total_correlation(covariance, blocks)
