"""What opens the test fold: a selection that agrees with the curve and the checkpoint on disk, once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planted import LABEL, SIZES, Walk, plant

from mdm.data import views
from mdm.data.folds import KFold
from mdm.data.seal import Selection, select
from mdm.data.splits import Splits
from mdm.data.store import open_store
from mdm.data.synthetic import synthetic
from mdm.data.writing import write_store


@pytest.fixture
def chosen(tmp_path):
    """A selection as a run makes it: the best of three epochs."""
    (tmp_path / "best.ckpt").write_bytes(b"weights")
    (tmp_path / "curve.csv").write_text("epoch,valid/mae,valid/corr\n0.0,1.5,0.1\n1.0,1.25,0.3\n2.0,1.75,nan\n")
    return select(tmp_path / "best.ckpt", tmp_path / "curve.csv", 1, "valid/mae", 1.25)


@pytest.fixture
def splits():
    return Splits(lambda: plant(synthetic(**SIZES)))


SHUT = "test fold opens only after a checkpoint was chosen on validation"


def test_it_opens_once(splits, chosen):
    before = splits.opened
    (batch,) = splits.open_test(chosen)
    assert (before, splits.opened) == (False, True)
    assert (batch.label == LABEL).all()
    assert next(iter(splits.in_order("test"))).ids == batch.ids == tuple(splits.describe("test")["id"])
    with pytest.raises(ValueError, match=r"opens once, and was opened already; .*predictions\.csv"):
        splits.open_test(chosen)


def test_before_that_nothing_reads_it(splits):
    for read in (splits.in_order, splits.describe):
        with pytest.raises(ValueError, match=SHUT):
            read("test")


class Forged(Selection):
    """Of the right shape."""


@pytest.mark.parametrize("key", [None, True, "best.ckpt", Path(__file__), Forged(Path(__file__), Path(__file__), 0, "", 0.0, "")])
def test_what_is_no_selection_opens_nothing(splits, key):
    with pytest.raises(ValueError, match=rf"{SHUT}, for a Selection, but {type(key).__name__} came"):
        splits.open_test(key)
    assert not splits.opened


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": 0}, r"epoch 0 has valid/mae 1\.5 in .*curve\.csv, not the selection's 1\.25; choose again"),
        ({"epoch": 7}, r"epoch 7 has valid/mae None"),
        ({"value": 1.2500001}, r"epoch 1 has valid/mae 1\.25 in .*, not the selection's 1\.2500001"),
        ({"epoch": 0, "value": 1.5}, r"epoch 0 came and valid/mae is best in epoch 1 of"),
        ({"metric": "valid/corr", "epoch": 0, "value": 0.1}, r"epoch 0 came and valid/corr is best in epoch 1"),
        ({"metric": "valid/acc7"}, r"curve\.csv does not tell valid/acc7 of every epoch"),
        ({"metric": "epoch", "value": 1.0}, r"does not tell epoch of every epoch \(no column of validation\)"),
        ({"sha256": "0" * 64}, r"best\.ckpt has changed since it was chosen"),
        ({"checkpoint": Path("none.ckpt")}, r"none\.ckpt does not exist; train first"),
        ({"curve": Path("none.csv")}, r"none\.csv does not exist; train first"),
    ],
)
def test_a_selection_that_does_not_fit_opens_nothing(splits, chosen, change, message):
    with pytest.raises(ValueError, match=rf"{SHUT}, but .*{message}"):
        splits.open_test(replace(chosen, **change))
    assert not splits.opened


def test_a_changed_curve_or_checkpoint_opens_nothing(splits, chosen):
    before = chosen.curve.read_text()
    for text, message in (
        (before.replace("1.25", "1.3"), "not the selection's 1.25"),
        (before + "3.0,1.0,0.5\n", "is best in epoch 3"),
        ("", "no epoch"),
        ("epoch\n0\n", "does not tell valid/mae"),
    ):
        chosen.curve.write_text(text)
        with pytest.raises(ValueError, match=message):
            splits.open_test(chosen)
    chosen.curve.write_text(before)
    chosen.checkpoint.write_bytes(b"other weights")
    with pytest.raises(ValueError, match=r"best\.ckpt has changed since it was chosen"):
        splits.open_test(chosen)
    assert not splits.opened


def test_data_that_changed_meanwhile_open_nothing(chosen):
    drawn = iter([synthetic(**SIZES), synthetic(**SIZES, seed=1)])
    splits = Splits(lambda: next(drawn))
    with pytest.raises(ValueError, match=r"tested on the data that it was trained on, whose card is \w{12}, but synthetic is now"):
        splits.open_test(chosen)


def test_a_checkpoint_that_is_not_there_is_no_choice(tmp_path):
    with pytest.raises(ValueError, match=rf"{SHUT}, but .*best\.ckpt does not exist; train first"):
        select(tmp_path / "best.ckpt", tmp_path / "curve.csv", 0, "valid/mae", 1.0)


def rename(segments):
    return replace(segments, name="other", ids=tuple(f"new{i}" for i in range(len(segments))))


@pytest.mark.parametrize(
    "disguise",
    [
        lambda s: s,
        rename,
        lambda s: rename(s.rows(np.flatnonzero(s.fold == "test"))),
        lambda s: s.rows(np.flatnonzero(s.fold == "test")[3:4]),
        lambda s: replace(rename(s.rows(np.flatnonzero(s.fold != "train"))), fold=np.full(SIZES["valid"] + SIZES["test"], "valid")),
        lambda s: replace(s, marks={}, truth={}, source={}),
    ],
)
def test_the_test_fold_under_another_name_is_refused(splits, disguise):
    with pytest.raises(ValueError, match=rf"{SHUT}, but \d+ of \w+'s segments are of it .*, whatever they are called"):
        splits.like(disguise(plant(synthetic(**SIZES))))


def test_other_segments_and_those_of_other_folds_are_read(splits):
    other = splits.like(synthetic(**SIZES, seed=5))
    assert [len(batch) for batch in other.in_order("test")] == [40]
    own = plant(synthetic(**SIZES))
    assert sum(map(len, splits.like(own.rows(np.flatnonzero(own.fold == "valid"))).every())) == 32


def test_k_fold_data_are_sealed_too(chosen):
    """The part that is tested is another than the data's own test fold; whose labels train there."""
    segments = synthetic(**SIZES)
    kfold = KFold(k=3, fold=1)
    test = kfold(segments) == "test"
    marked = replace(segments, label=np.where(test[:, None], np.float32(LABEL), segments.label))
    splits = Splits(lambda: marked, folds=kfold)
    assert Walk()(splits.train(), splits.valid()) == []
    assert [batch.label.unique().tolist() for batch in splits.open_test(chosen)] == [[LABEL]]


def test_folds_of_a_large_store_hold_few_bytes(tmp_path, monkeypatch):
    """Not the frames: what is handed on grows with the number of rows alone."""
    monkeypatch.setattr(views, "HELD_AT_MOST", 1000)
    write_store(synthetic(**SIZES), tmp_path / "store")
    splits = Splits(lambda: open_store(tmp_path / "store"))
    rows = splits.train().dataset.views["audio"].rows
    assert sum(value.nbytes for value in vars(rows).values() if isinstance(value, np.ndarray)) == 2 * 8 * SIZES["train"]
