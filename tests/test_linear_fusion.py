"""Closed forms of a linear fusion of Gaussian modalities, where they are known."""

import math

import numpy as np
import pytest
from linear_fusion import RHO, D, K, Linear, M


def test_closed_forms_of_maps_that_are_known():
    """A that reads the sum and a difference of two modalities' first coordinate; B_m that read the same or different ones."""
    a = np.zeros((2, M * D))
    a[0, [0, D]] = 1.0
    a[1, [0, D]] = 1.0, -1.0
    b = {"language": np.eye(2, D), "audio": np.eye(2, D), "video": np.eye(D)[1:3]}
    linear = Linear(np.concatenate([a, np.eye(M * D)[1:5]]), b)
    # Variances 2(1 ± ρ) against 2 each: the information of a bivariate Gaussian. The other rows are of one modality.
    one = -0.5 * math.log(1 - RHO**2)
    assert linear.kl == pytest.approx(one)
    assert linear.information == pytest.approx({"language_audio": 2 * one, "language_video": one, "audio_video": one})
    assert linear.by_dimension == pytest.approx({"language_audio": 2 * one, "language_video": one})
    copied = Linear(linear.a, {**b, "audio": np.array([[1.0, 0, 0, 0, 0], [1, 0, 0, 0, 0.01]])})
    assert copied.by_dimension["language_audio"] == pytest.approx(2 * one, rel=1e-3)
    assert copied.information["language_audio"] == pytest.approx(one, rel=1e-3)
    assert linear.bures == pytest.approx(Linear(7 * linear.a + 3, b).bures)
    assert Linear(np.eye(K, M * D), b).kl == pytest.approx(Linear(np.eye(K, M * D), b).kl)
