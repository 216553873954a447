"""Canonical correlations, estimator and penalty: Gaussians of known correlations, linear maps, the bias of small samples."""

import pytest
import torch

from mdm.estimators import canonical_correlation
from mdm.penalties.base import View
from mdm.penalties.cca import Cca
from mdm.types import Fusion


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def correlated(n, rho, seed=0):
    """Rows whose canonical correlations are these, mixed by invertible maps."""
    x, noise = normal(2, n, len(rho), seed=seed)
    y = x * rho + noise * (1 - rho**2).sqrt()
    return x @ normal(len(rho), len(rho), seed=1), y @ normal(len(rho), len(rho), seed=2)


def test_gaussians_have_the_correlations_that_they_were_made_with():
    """.9 + .5 + .1 + 0 = 1.5; each within a few 1/√n, and the small ones not negative in a sample."""
    rho = torch.tensor([0.9, 0.5, 0.1, 0.0], dtype=torch.float64)
    value = canonical_correlation(*correlated(200_000, rho), ridge=0.0)
    assert float(value) == pytest.approx(1.5, abs=4 * 3 / 200_000**0.5)


def test_invertible_maps_change_nothing_and_a_representation_is_its_own():
    x, y = normal(2, 40, 3)
    value = canonical_correlation(x, y, ridge=0.0)
    mapped = canonical_correlation(x @ normal(3, 3, seed=5) + 7, y @ normal(3, 3, seed=6), ridge=0.0)
    torch.testing.assert_close(value, mapped)
    torch.testing.assert_close(canonical_correlation(x, x @ normal(3, 3, seed=7), ridge=0.0), torch.tensor(3.0).double())
    assert canonical_correlation(x, y, ridge=0.5) < value


def test_one_column_each_is_the_correlation():
    x, y = normal(2, 30, 1)
    want = torch.corrcoef(torch.cat([x, y], 1).T)[0, 1].abs()
    torch.testing.assert_close(canonical_correlation(x, y, ridge=0.0), want)


@pytest.mark.parametrize(("rows", "bias"), [(16, 7.5), (32, 4.9), (64, 3.4), (512, 1.2)])
def test_small_samples_are_biased_upwards_as_documented(rows, bias):
    """Ten correlations of independent rows; the mean of 60 samples, each of which varies by about .3."""
    values = [canonical_correlation(*normal(2, rows, 10, seed=s), ridge=0.0) for s in range(60)]
    assert float(torch.stack(values).mean()) == pytest.approx(bias, abs=0.25)


def test_the_gradient_is_that_of_finite_differences():
    x, y = (z.requires_grad_() for z in normal(2, 8, 3))
    assert torch.autograd.gradcheck(canonical_correlation, (x, y))


def test_what_has_no_value_is_refused():
    with pytest.raises(ValueError, match="CCA is of the same n >= 2 rows"):
        canonical_correlation(normal(1, 2), normal(1, 2))
    with pytest.raises(ValueError, match="ridge >= 0"):
        canonical_correlation(normal(4, 2), normal(4, 2), ridge=-1.0)


def test_the_penalty_is_minus_the_weighted_sum_of_its_pairs():
    """Standardised columns and its ridge, by the estimator itself; three pairs of modalities, or those that are named."""
    dims = {"language": 3, "audio": 2, "video": 4}
    values = {m: normal(30, d, seed=i).float() for i, (m, d) in enumerate(dims.items())}
    view = View(Fusion(torch.zeros(30, 1), normal(30, 5, seed=9).float(), values), None, torch.zeros(30, 1))
    named = {**values, "z": view.joint.z}

    def value(a, b):
        columns = [(v - v.mean(0)) / v.std(0, correction=0) for v in (named[a], named[b])]
        return canonical_correlation(*columns, ridge=0.01)

    penalty = Cca(5, 0.5, dims, ridge=0.01)
    assert list(penalty.estimate(view)) == ["language_audio", "language_video", "audio_video"]
    want = -0.5 * (value("language", "audio") + value("language", "video") + value("audio", "video"))
    torch.testing.assert_close(penalty(view)["term"], want)
    only = Cca(5, 1.0, dims, pairs=[["z", "audio"]], ridge=0.01)
    torch.testing.assert_close(only(view)["term"], -value("z", "audio"))
