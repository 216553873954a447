"""Metrics of several targets, the direction that each declares, and what is refused."""

import inspect
import math
from importlib.metadata import EntryPoint

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

import mdm.metrics as metrics_module
from mdm.metrics import METRICS, Metric, evaluate, evaluate_target, find_metric

SEVEN = (-3.0, 3.0)


def draw(seed, n=500):
    """Labels in steps of 0.2 with zeros, and predictions that reach beyond the range, hit zero and lie halfway."""
    rng = np.random.default_rng(seed)
    label = np.rint(5 * np.clip(1.6 * rng.standard_normal(n), -3, 3)) / 5
    prediction = label + 1.3 * rng.standard_normal(n)
    prediction[::7] = np.rint(prediction[::7])
    prediction[1::7] = np.rint(prediction[1::7]) + 0.5
    return prediction, label


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
