"""Metrics against scikit-learn and SciPy, and against a case worked by hand."""

import inspect
import math
from importlib.metadata import EntryPoint

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, mean_squared_error, root_mean_squared_error

import mdm.metrics as metrics_module
from mdm.metrics import METRICS, Metric, evaluate, evaluate_target, find_metric
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


# Several targets ----------------------------------------------------------------------------------------


def test_several_targets_each_and_their_mean():
    pairs = [draw(seed, 80) for seed in range(3)]
    prediction, label = (np.stack(side, axis=1) for side in zip(*pairs, strict=True))
    names = ("happy", "sad", "angry")
    metrics = evaluate(prediction, label, SEVEN, names)
    each = {name: evaluate_target(p, y, SEVEN) for name, (p, y) in zip(names, pairs, strict=True)}
    keys = list(each["happy"])
    assert set(metrics) == {*keys, "accuracy", *(f"{name}/{key}" for name in names for key in keys)}
    for key in keys:
        assert metrics[key] == pytest.approx(sum(each[name][key] for name in names) / 3)
        for name in names:
            assert metrics[f"{name}/{key}"] == each[name][key]


def test_a_mean_over_what_is_not_defined_is_not_defined():
    prediction, label = np.array([[1.0, 2.0], [2.0, 2.0], [-1.0, 2.0]]), np.array([[1.0, 2.0], [2.0, 1.0], [-1.0, -1.0]])
    metrics = evaluate(prediction, label, SEVEN, ("a", "b"))
    assert metrics["a/corr"] == pytest.approx(1)
    assert math.isnan(metrics["b/corr"])
    assert math.isnan(metrics["corr"])


def test_accuracy_of_one_class_among_several():
    """By hand: the largest prediction is right in rows 0, 2 and 3 (of equal ones the first), wrong in row 1; and scikit-learn's."""
    label = np.eye(3)[[0, 1, 2, 0]]
    prediction = np.array([[0.5, 0.4, 0.1], [0.5, 0.4, 0.1], [-9, -8, -7], [0.3, 0.3, 0.2]])
    names = ("a", "b", "c")
    assert evaluate(prediction, label, (0.0, 1.0), names)["accuracy"] == 3 / 4
    assert evaluate(6 * prediction - 3, 6 * label - 3, SEVEN, names)["accuracy"] == 3 / 4  # one-hot in another range
    rng = np.random.default_rng(0)
    classes, guess = rng.integers(0, 10, 500), rng.random((500, 10))
    guess[np.arange(500), classes] += 0.5
    metrics = evaluate(guess, np.eye(10)[classes], (0.0, 1.0), tuple("0123456789"))
    assert metrics["accuracy"] == pytest.approx(accuracy_score(classes, guess.argmax(1)), abs=1e-12)
    assert 0.3 < metrics["accuracy"] < 0.95
    assert "3/accuracy" not in metrics


@pytest.mark.parametrize(
    "label", [[[1, 0, 0], [1, 1, 0]], [[1, 0, 0], [0, 0, 0]], [[1, 0, 0], [0.5, 0, 0]], [[1, 0, 0], [1, 0.5, 0]]]
)
def test_accuracy_is_of_one_hot_labels_alone(label):
    """Two emotions in a segment, none, or a strength between: the key is there, as in every fold, and its value is not defined."""
    label = np.array(label, dtype=np.float64)
    metrics = evaluate(label, label, (0.0, 1.0), ("happy", "sad", "angry"))
    assert math.isnan(metrics["accuracy"])
    assert metrics["acc2_nonneg"] == 1
    assert evaluate(label[:1], label[:1], (0.0, 1.0), ("happy", "sad", "angry"))["accuracy"] == 1


def test_one_target_has_no_accuracy_of_classes():
    assert "accuracy" not in evaluate(np.eye(2)[:, :1], np.eye(2)[:, :1], (0.0, 1.0), ("humour",))


def test_numbers_are_plain_floats():
    """They go into JSON."""
    p, y = (a.astype(np.float32) for a in draw(4))
    several = np.stack([p, y], axis=1)
    for metrics in (evaluate(p[:, None], y[:, None], SEVEN, ("a",)), evaluate(several, several, SEVEN, ("a", "b"))):
        assert {type(value) for value in metrics.values()} == {float}


# Direction ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METRICS)
def test_predictions_with_less_noise_are_better_in_the_declared_direction(name):
    """By the mean of 20 draws each, which no metric orders by chance: noise of a tenth against noise of four times the labels'."""
    rng, metric, means = np.random.default_rng(0), METRICS[name], []
    for noise in (0.1, 4.0):
        values = []
        for _ in range(20):
            y = np.eye(4)[rng.integers(0, 4, 200)] if metric.joint else draw(int(rng.integers(1000)), 200)[1]
            values.append(metric.value(y + noise * rng.normal(size=y.shape), y))
        means.append(np.mean(values))
    assert (means[0] < means[1]) == (metric.better == "lower")
    assert means[0] != means[1]


def test_a_metric_without_a_direction_cannot_be():
    with pytest.raises(TypeError, match="better"):
        Metric(heading="M", convention="c", each=lambda p, y: p)
    with pytest.raises(TypeError, match="needs each or whole, but M has neither"):
        Metric(heading="M", convention="c", better="lower")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("mae", "mdm.metrics.base:Metric", r"is a Metric with a name of its own, but mae = mdm\.metrics\.base:Metric is not"),
        ("worst", "json:loads", r"but worst = json:loads is not"),
        ("worst", "nobody_has_this:x", r"worst is an entry point of mdm\.metrics, but nobody_has_this:x cannot be imported"),
        ("worst", "json:nothing", r"but json:nothing cannot be imported"),
    ],
)
def test_a_declared_metric_that_is_none(monkeypatch, name, value, message):
    monkeypatch.setattr(metrics_module, "entry_points", lambda group: [EntryPoint(name, value, group)])
    with pytest.raises(ValueError, match=message):
        metrics_module.find_declared_metrics.__wrapped__()


@pytest.mark.parametrize("name", ["loss", "valid/loss", "f1", "acc2", ""])
def test_an_unknown_metric_is_named(name):
    with pytest.raises(ValueError, match=rf"A metric is one of mae, corr, .*, got {name}; correct its name"):
        find_metric(name)


# Errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prediction", "label", "message"),
    [
        ((5, 1), (4, 1), r"\[5, 1\] and \[4, 1\]"),
        ((5, 2), (5, 1), r"\[5, 2\] and \[5, 1\]"),
        ((5, 2), (5, 2), r"\[5, 2\] and \[5, 2\]"),
        ((5,), (5,), r"\[5\] and \[5\]"),
    ],
)
def test_shapes_that_differ(prediction, label, message):
    """Unwrapped, as in production, where the annotated shapes are not checked."""
    with pytest.raises(ValueError, match=r"one shape \[segments, 1 targets\], got " + message):
        inspect.unwrap(evaluate)(np.zeros(prediction), np.zeros(label), SEVEN, ("sentiment",))


def test_no_segments():
    with pytest.raises(ValueError, match="at least one segment, got none"):
        evaluate(np.zeros((0, 1)), np.zeros((0, 1)), SEVEN, ("sentiment",))


def test_values_that_are_not_finite():
    prediction, label = np.zeros((4, 1)), np.zeros((4, 1))
    prediction[1], label[2:] = np.nan, np.inf
    with pytest.raises(ValueError, match="finite values, but 1 predictions and 2 labels are not"):
        evaluate(prediction, label, SEVEN, ("sentiment",))
    with pytest.raises(ValueError, match="finite values, but 1 predictions and 0 labels are not"):
        evaluate(prediction, np.zeros((4, 1)), SEVEN, ("sentiment",))
