"""Metrics against scikit-learn and SciPy, against a case worked by hand, and where they are not defined."""

import math

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, mean_squared_error, root_mean_squared_error

from mdm.metrics import evaluate, evaluate_target
from mdm.metrics.functions import pearson, weighted_f1

SEVEN = (-3.0, 3.0)


def column(*values):
    return np.array(values, dtype=np.float64)


def draw(seed, n=500):
    """Labels in steps of 0.2 with zeros, and predictions that reach beyond the range, hit zero and lie halfway."""
    rng = np.random.default_rng(seed)
    label = np.rint(5 * np.clip(1.6 * rng.standard_normal(n), -3, 3)) / 5
    prediction = label + 1.3 * rng.standard_normal(n)
    prediction[::7] = np.rint(prediction[::7])
    prediction[1::7] = np.rint(prediction[1::7]) + 0.5
    return prediction, label


# References ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_against_scikit_learn_and_scipy(seed):
    p, y = draw(seed)
    assert (np.abs(p) > 3.5).any()
    assert (y == 0).any()
    assert (p == 0).any()
    signed = y != 0
    expected = {
        "mae": mean_absolute_error(y, p),
        "corr": pearsonr(p, y).statistic,
        "acc7": accuracy_score(np.round(np.clip(y, -3, 3)), np.round(np.clip(p, -3, 3))),
        "acc5": accuracy_score(np.round(np.clip(y, -2, 2)), np.round(np.clip(p, -2, 2))),
        "acc3": accuracy_score(np.round(np.clip(y, -1, 1)), np.round(np.clip(p, -1, 1))),
        "f1_3": f1_score(np.round(np.clip(y, -1, 1)), np.round(np.clip(p, -1, 1)), average="weighted"),
        "acc7_unclipped": accuracy_score(np.round(y), np.round(p)),
        "acc2_nonneg": accuracy_score(y >= 0, p >= 0),
        "f1_nonneg": f1_score(y >= 0, p >= 0, average="weighted"),
        "acc2_pos": accuracy_score(y[signed] > 0, p[signed] > 0),
        "f1_pos": f1_score(y[signed] > 0, p[signed] > 0, average="weighted"),
        "mse": mean_squared_error(y, p),
        "rmse": root_mean_squared_error(y, p),
    }
    assert evaluate_target(p, y, SEVEN) == pytest.approx(expected, abs=1e-12)
    assert evaluate(p[:, None], y[:, None], SEVEN, ("sentiment",)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shares", [(0.0, 0.5), (1.0, 0.5), (0.5, 0.0), (0.5, 1.0), (0.1, 0.9), (0.0, 1.0), (1.0, 1.0)])
def test_weighted_f1_where_a_class_is_rare_or_absent(shares):
    rng = np.random.default_rng(0)
    predicted, actual = (rng.random(50) < share for share in shares)
    assert weighted_f1(predicted, actual) == pytest.approx(f1_score(actual, predicted, average="weighted", zero_division=0))


def test_weights_are_those_of_the_labels():
    """One positive of four, all predicted positive: (1/4) · 2·1/(4+1); with the arguments exchanged, 2·1/(4+1)."""
    predicted, actual = np.array([True] * 4), np.array([True, False, False, False])
    assert weighted_f1(predicted, actual) == pytest.approx(0.1)
    assert weighted_f1(actual, predicted) == pytest.approx(0.4)


def test_single_precision_changes_nothing_but_the_last_digits():
    p, y = (a.astype(np.float32) for a in draw(1))
    assert evaluate_target(p, y, SEVEN) == evaluate_target(p.astype(np.float64), y.astype(np.float64), SEVEN)


# By hand ------------------------------------------------------------------------------------------------


def test_a_case_worked_by_hand():
    """Ten segments.

    p            .5   1.5  2.5  -.5   3.6  -4   0    -.2   1    2
    y            0    2    2    0     3    -3   0    .2    3    3
    |p − y|      .5   .5   .5   .5    .6   1    0    .4    2    1     sum 7; of squares 7.52
    rint p       0    2    2    -0    4    -4   0    -0    1    2     half to even
    clipped ±3   =    =    =    =     =    =    =    =     ≠    ≠     8 of 10 (unclipped: 4 ≠ 3, -4 ≠ -3, so 6)
    clipped ±2   =    =    =    =     =    =    =    =     ≠    =     9 of 10
    clipped ±1   =    =    =    =     =    =    =    =     =    =     10 of 10
    p ≥ 0        +    +    +    -     +    -    +    -     +    +
    y ≥ 0        +    +    +    +     +    -    +    +     +    +     8 of 10
    F1 of ≥ 0: positive 2·7/(7 + 9), negative 2·1/(3 + 1), weights .9 and .1
    y ≠ 0        .    +/+  +/+  .     +/+  -/-  .    -/+   +/+  +/+   6 of 7
    F1 of > 0: positive 2·5/(5 + 6), negative 2·1/(2 + 1), weights 6/7 and 1/7
    """
    p = column(0.5, 1.5, 2.5, -0.5, 3.6, -4, 0, -0.2, 1, 2)
    y = column(0, 2, 2, 0, 3, -3, 0, 0.2, 3, 3)
    metrics = evaluate_target(p, y, SEVEN)
    assert metrics.pop("corr") == pytest.approx(pearsonr(p, y).statistic)
    assert metrics == pytest.approx(
        {
            "mae": 0.7,
            "acc7": 0.8,
            "acc5": 0.9,
            "acc3": 1.0,
            "f1_3": 1.0,
            "acc7_unclipped": 0.6,
            "acc2_nonneg": 0.8,
            "f1_nonneg": 0.9 * 14 / 16 + 0.1 * 2 / 4,
            "acc2_pos": 6 / 7,
            "f1_pos": 6 / 7 * 10 / 11 + 1 / 7 * 2 / 3,
            "mse": 0.752,
            "rmse": math.sqrt(0.752),
        }
    )


@pytest.mark.parametrize(
    ("value", "rounded"), [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (-2.5, -2), (0.51, 1), (3.6, 3), (-9, -3)]
)
def test_rounding_is_half_to_even_and_clipped(value, rounded):
    """Both sides are rounded: a label halfway goes where a prediction halfway goes."""
    for k in range(-3, 4):
        hit = float(k == rounded)
        assert evaluate_target(column(value), column(k), SEVEN)["acc7"] == hit
        if abs(value) <= 3:
            assert evaluate_target(column(k), column(value), SEVEN)["acc7"] == hit
            assert evaluate_target(column(value), column(k), SEVEN)["acc7_unclipped"] == hit


def test_beyond_the_range_only_the_unclipped_accuracy_misses():
    p, y = column(3.6, -3.6, 7), column(3, -3, 3)
    metrics = evaluate_target(p, y, SEVEN)
    assert (metrics["acc7"], metrics["acc5"], metrics["acc7_unclipped"]) == (1.0, 1.0, 0.0)


def test_a_prediction_of_zero_is_nonnegative_and_not_positive():
    metrics = evaluate_target(column(0, 0, 0, 0), column(1, -1, 0, 0), SEVEN)
    assert metrics["acc2_nonneg"] == 3 / 4
    assert metrics["acc2_pos"] == 1 / 2


def test_a_range_of_one_to_five():
    """Middle 3, half 2: five classes but not seven; centred p = .5, 1.5, −2, −.1, 3, y = 0, 2, −2, 0, 2.

    rint and clip ±2: 0, 2, −2, −0, 2, all right. p ≥ 0: + + − − +; y ≥ 0: + + − + +, 4 of 5; y ≠ 0: + − +, all right.
    """
    p, y = column(3.5, 4.5, 1, 2.9, 6), column(3, 5, 1, 3, 5)
    metrics = evaluate_target(p, y, (1.0, 5.0))
    assert set(metrics) == {"mae", "corr", "acc5", "acc3", "f1_3", "acc2_nonneg", "f1_nonneg", "acc2_pos", "f1_pos", "mse", "rmse"}
    assert metrics["mae"] == pytest.approx((0.5 + 0.5 + 0 + 0.1 + 1) / 5)
    assert (metrics["acc5"], metrics["acc2_nonneg"], metrics["acc2_pos"], metrics["f1_pos"]) == (1.0, 0.8, 1.0, 1.0)


def test_numbers_depend_on_the_distance_from_the_middle_alone():
    p, y = (np.rint(8 * a) / 8 for a in draw(2))  # eighths: adding 5 rounds nothing
    assert evaluate_target(p + 5, y + 5, (2.0, 8.0)) == pytest.approx(evaluate_target(p, y, SEVEN), abs=1e-12)


@pytest.mark.parametrize(
    ("half", "classes"),
    [
        (0.5, set()),
        (1.0, {"acc3", "f1_3"}),
        (2.0, {"acc3", "f1_3", "acc5"}),
        (2.5, {"acc3", "f1_3", "acc5"}),
        (3.0, {"acc3", "f1_3", "acc5", "acc7", "acc7_unclipped"}),
    ],
)
def test_classes_are_reported_where_the_range_reaches_them(half, classes):
    metrics = evaluate_target(column(0, 0.5, -0.5), column(0.5, 0.5, -0.5), (-half, half))
    assert {name for name in metrics if name.startswith(("acc3", "acc5", "acc7", "f1_3"))} == classes


def test_three_classes_by_hand():
    """YouTube's labels; rounding is half to even, and 7 is clipped to 1.

    p       −1.4  −.5   .2   .6   7   −.6   .5   0
    class    −1    0    0    1    1   −1    0    0
    y        −1   −1    0    1    1    0    0    1      5 of 8
    F1 of −1: 2·1/(2 + 2), of 0: 2·2/(4 + 3), of 1: 2·2/(2 + 3); weights 2/8, 3/8, 3/8
    """
    p, y = column(-1.4, -0.5, 0.2, 0.6, 7, -0.6, 0.5, 0), column(-1, -1, 0, 1, 1, 0, 0, 1)
    metrics = evaluate_target(p, y, (-1.0, 1.0))
    assert metrics["acc3"] == 5 / 8
    assert metrics["f1_3"] == pytest.approx(2 / 8 * 1 / 2 + 3 / 8 * 4 / 7 + 3 / 8 * 4 / 5)
    assert "acc5" not in metrics


def test_labels_of_zero_and_one():
    """Centred on one half: .5 and .7 are 1, .49 is 0, and no label is neutral, so both conventions count all four."""
    metrics = evaluate_target(column(0.7, 0.49, 0.5, -3), column(1, 0, 0, 0), (0.0, 1.0))
    assert metrics["acc2_nonneg"] == 3 / 4
    assert metrics["acc2_pos"] == 1.0  # of a prediction of exactly one half, which only > tells from 1
    assert set(metrics) == {"mae", "corr", "acc2_nonneg", "f1_nonneg", "acc2_pos", "f1_pos", "mse", "rmse"}


# What is not defined ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 7, 100, 686])
@pytest.mark.parametrize("constant", [0.0, 1 / 3, -2.7])
def test_a_constant_has_no_correlation(n, constant):
    """The mean of n copies of 1/3 may differ from 1/3 in the last bit; that is no variance."""
    y = np.random.default_rng(n).standard_normal(n)
    assert math.isnan(pearson(np.full(n, constant), y))
    assert math.isnan(pearson(y, np.full(n, constant)))
    metrics = evaluate_target(np.full(n, constant), y, SEVEN)
    assert [name for name, value in metrics.items() if math.isnan(value)] == ["corr"]


def test_correlation_ignores_position_and_scale():
    p, y = draw(3)
    assert pearson(2 * p + 1, y) == pytest.approx(pearson(p, y), abs=1e-12)
    assert pearson(-p, y) == pytest.approx(-pearson(p, y), abs=1e-12)
    assert pearson(1e-3 * p + 1, 1e-3 * y) == pytest.approx(pearson(p, y), abs=1e-9)
    assert pearson(p, p) == pytest.approx(1)


def test_labels_of_zero_alone_have_no_sign():
    metrics = evaluate_target(column(0.1, -0.2, 0), np.zeros(3), SEVEN)
    assert {name for name, value in metrics.items() if math.isnan(value)} == {"corr", "acc2_pos", "f1_pos"}
    assert metrics["acc2_nonneg"] == pytest.approx(2 / 3)
    assert metrics["acc7"] == 1
