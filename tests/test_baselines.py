"""The floor: what the labels alone, and pooled features alone, give."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mdm.runs.protocol import run
from mdm.training.baselines import GRIDS, Baseline
from mdm.types import Batch, DataSpec, Feature, Sequence

LABELS = np.array([[-1.0], [-1.2], [-0.8], [2.0], [3.0], [2.9], [1.0]], dtype=np.float32)


def spec_of(*features: tuple[str, Feature]) -> DataSpec:
    return DataSpec(dict(features), ("sentiment",), (-3.0, 3.0), (0.0,), True)


AUDIO = spec_of(("audio", Feature(2)))


def batch_of(label, values, mask=None) -> Batch:
    values = torch.as_tensor(values)
    mask = torch.ones(values.shape[:2], dtype=torch.bool) if mask is None else torch.as_tensor(mask)
    name = "language" if values.ndim == 2 else "audio"
    return Batch(tuple(str(i) for i in range(len(label))), {name: Sequence(values, mask)}, torch.as_tensor(label))


def frames(n, seed=0):
    return torch.randn(n, 3, 2, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("kind", "value"), [("mean", 5.9 / 7), ("median", 1.0), ("majority", -1.0)])
def test_constants_by_hand(kind, value):
    """-1, -1.2 and -0.8 round to -1; 3 and 2.9 to 3."""
    baseline = Baseline(AUDIO, kind)
    batch = batch_of(LABELS, frames(7))
    baseline.fit([batch], [batch])
    prediction, label = baseline.predict(0, [batch])
    np.testing.assert_allclose(prediction, np.full((7, 1), value), rtol=1e-6)
    np.testing.assert_array_equal(label, LABELS)


def test_stratified_draws_training_labels_in_their_proportions():
    baseline = Baseline(AUDIO, "stratified", seed=3)
    batch = batch_of(LABELS, frames(7))
    many = batch_of(np.zeros((7000, 1), np.float32), torch.zeros(7000, 1, 2))
    baseline.fit([batch], [batch])
    prediction, _ = baseline.predict(0, [many])
    values, counts = np.unique(prediction, return_counts=True)
    np.testing.assert_array_equal(values, np.unique(LABELS))
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(7000 / 7 * 6 / 7)
    again, _ = baseline.predict(0, [many])
    np.testing.assert_array_equal(prediction, again)
    other = Baseline(AUDIO, "stratified", seed=4)
    other.fit([batch], [batch])
    assert (other.predict(0, [many])[0] != prediction).any()


def test_ridge_is_ridge_on_standardised_means():
    """Against the normal equations; the third frame of row 0 is padding."""
    values, label = frames(40), torch.randn(40, 1, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(40, 3, dtype=torch.bool)
    mask[0, 2] = False
    values[0, 2] = 1e3
    batch = batch_of(label.numpy(), values, mask)
    baseline = Baseline(AUDIO, "ridge")
    curve = baseline.fit([batch], [batch])
    means = np.stack([v[m].mean(0).numpy() for v, m in zip(values, mask, strict=True)])
    x = (means - means.mean(0)) / means.std(0)
    y = label.numpy().ravel()
    assert [row["alpha"] for row in curve] == [setting["alpha"] for setting in GRIDS["ridge"]]
    for k, row in enumerate(curve):
        w = np.linalg.solve(x.T @ x + row["alpha"] * np.eye(2), x.T @ (y - y.mean()))
        prediction, _ = baseline.predict(k, [batch])
        np.testing.assert_allclose(prediction.ravel(), x @ w + y.mean(), atol=1e-4)
        assert row["valid/mae"] == pytest.approx(np.abs(prediction.ravel() - y).mean(), rel=1e-5)


@pytest.mark.parametrize("kind", ["ridge", "svr", "forest"])
def test_words_are_counted_where_they_are_real(kind):
    """The label is decided by word 2 or 3; id 3 also stands in the padding of the others."""
    words = spec_of(("language", Feature(5, tokens=True)))
    rng = np.random.default_rng(0)
    which = rng.integers(2, 4, 60)
    values = np.stack([which, np.full(60, 4), 5 - which], axis=1)
    mask = np.tile([True, True, False], (60, 1))
    batch = batch_of(np.where(which == 2, -2.0, 2.0)[:, None].astype(np.float32), values, mask)
    baseline = Baseline(words, kind)
    curve = baseline.fit([batch], [batch])
    best = int(np.argmin([row["valid/mae"] for row in curve]))
    prediction, label = baseline.predict(best, [batch])
    assert np.abs(prediction - label).max() < 0.5


def test_words_that_training_has_not_do_not_count():
    """The prediction for words that the training fold has is the same with unseen ones beside them."""
    words = spec_of(("language", Feature(7, tokens=True, vocabulary=tuple("abcdefghi"), others=2)))
    rng = np.random.default_rng(0)
    values = rng.integers(2, 7, (40, 4))
    label = (values == 2).sum(1, keepdims=True).astype(np.float32)
    train = batch_of(label, values)
    strange = batch_of(label, np.concatenate([values, np.full((40, 2), 7), np.full((40, 1), 8)], axis=1))
    for kind in ("ridge", "svr", "forest"):
        baseline = Baseline(words, kind)
        baseline.fit([train], [train])
        np.testing.assert_allclose(baseline.predict(0, [strange])[0], baseline.predict(0, [train])[0])


def test_words_are_weighted_by_how_rare_they_are():
    """TF-IDF by hand: (1 + ln tf)·(1 + ln((1 + n)/(1 + df))), rows of length one; then ridge by the normal equations."""
    words = spec_of(("language", Feature(5, tokens=True)))
    values = np.array([[2, 2, 3], [2, 4, 4], [2, 3, 4], [2, 2, 2]])
    y = np.array([1.0, -1.0, 0.5, 2.0])
    counts = np.stack([(values == k).sum(1) for k in range(5)], axis=1).astype(float)
    tf = np.where(counts > 0, 1 + np.log(np.maximum(counts, 1)), 0)
    x = tf * (1 + np.log(5 / (1 + (counts > 0).sum(0))))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    baseline = Baseline(words, "ridge")
    batch = batch_of(y[:, None].astype(np.float32), values)
    curve = baseline.fit([batch], [batch])
    centred = x - x.mean(0)
    for k, row in enumerate(curve):
        w = np.linalg.solve(centred.T @ centred + row["alpha"] * np.eye(5), centred.T @ (y - y.mean()))
        np.testing.assert_allclose(baseline.predict(k, [batch])[0].ravel(), centred @ w + y.mean(), atol=1e-5)


def test_the_chosen_setting_is_the_one_that_is_tested(config):
    from mdm.data.seal import select
    from mdm.runs.build import build_splits

    cfg = config("model=baseline")
    record = run(cfg)
    splits = build_splits(cfg)
    baseline = Baseline(splits.spec, "ridge", cfg.seed)
    baseline.fit(splits.in_order("train"), splits.valid())
    (checkpoint,) = Path(cfg.paths.outputs).rglob("best.ckpt")
    chosen = record["selected"]
    splits.open_test(select(checkpoint, checkpoint.parent / "curve.csv", chosen["epoch"], chosen["by"], record["valid"]["mae"]))
    test = splits.in_order("test")
    maes = [np.abs(np.subtract(*baseline.predict(k, test))).mean() for k in range(len(GRIDS["ridge"]))]
    assert len(set(maes)) == len(maes)
    assert record["test"]["mae"] == pytest.approx(maes[record["selected"]["epoch"]], rel=1e-5)


def test_a_run_of_the_floor_keeps_the_protocol(config, tmp_path):
    record = run(config("model=baseline"))
    assert record["selected"]["by"] == "valid/mae"
    assert record["test"]["mae"] < record["test_of_train_mean"]["mae"]
    assert run(config("model=baseline")) == record
    (checkpoint,) = (tmp_path / "outputs").rglob("best.ckpt")
    k = record["selected"]["epoch"]
    assert json.loads(checkpoint.read_text()) == {"kind": "ridge", "seed": 0, "epoch": k, "setting": GRIDS["ridge"][k]}, "no code"
    mean = run(config("model=baseline", "model.baseline.kind=mean", "name=other"))
    assert mean["test"]["mae"] == pytest.approx(mean["test_of_train_mean"]["mae"], rel=1e-6)


def test_validation_chooses_the_setting(config):
    record = run(config("model=baseline", "model.baseline.kind=ridge"))
    maes = [row["mae"] for row in candidates(config)]
    assert record["selected"]["epoch"] == int(np.argmin(maes))
    assert record["valid"]["mae"] == pytest.approx(min(maes))


def candidates(config):
    from mdm.runs.build import build_splits

    splits = build_splits(config("model=baseline"))
    baseline = Baseline(splits.spec, "ridge")
    curve = baseline.fit(splits.in_order("train"), splits.valid())
    return [{"mae": row["valid/mae"]} for row in curve]


def test_bad_input_is_refused(config, tmp_path):
    with pytest.raises(ValueError, match="penalty=kl; use penalty=none"):
        run(config("model=baseline", "penalty=kl"))
    with pytest.raises(ValueError, match=r"A checkpoint is chosen by one of mae, .*, got minimum; set trainer\.select"):
        run(config("model=baseline", "trainer.select=minimum"))
    assert not (tmp_path / "outputs").exists()
