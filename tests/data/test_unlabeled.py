"""Unlabelled segments join the training batches, and move no labelled one."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from data.made import order_of, table

from mdm.data.splits import Splits
from mdm.data.store import open_store
from mdm.data.writing import write_store


@pytest.fixture(scope="module")
def segments():
    return table()


@pytest.fixture
def partly(segments):
    """The same segments, those in no fold now unlabelled, or else the last three."""
    fold = segments.fold.astype("U9")
    fold[-3:] = "unlabeled"
    label = segments.label.copy()
    label[-3:] = np.nan
    return replace(segments, fold=fold, label=label, group=np.array([*segments.group[:-3], "u0", "u1", "u2"]))


def test_unlabelled_segments_join_the_training_batches_only(partly):
    splits = Splits(partly, batch_size=5, unlabeled=2)
    own = set(partly.ids[-3:])
    assert splits.sizes["unlabeled"] == 3
    for batches in (order_of(splits.train(), 0), order_of(splits.train(), 1)):
        labelled = [i for ids in batches for i in ids if i not in own]
        assert sorted(labelled) == sorted(splits.describe("train")["id"])
        joined = [i for ids in batches for i in ids if i in own]
        assert len(joined) == 2 * len(labelled)
        for k in range(0, len(joined) - 2, 3):
            assert set(joined[k : k + 3]) == own
    for batch in splits.train():
        assert batch.labelled == len(batch) // 3
        assert torch.isfinite(batch.label[: batch.labelled]).all()
        assert torch.isnan(batch.label[batch.labelled :]).all()
        assert set(batch.ids[batch.labelled :]) <= own
    for loader in (splits.valid(), splits.in_order("train")):
        assert all(batch.labelled is None and not own & set(batch.ids) for batch in loader)


def test_unlabelled_segments_move_no_labelled_one(partly):
    """The order of the labelled rows, their scaling and known words are those of a run without."""
    a, b = Splits(partly, batch_size=5), Splits(partly, batch_size=5, unlabeled=2)
    for x, y in zip(a.train(), b.train(), strict=True):
        assert x.ids == y.ids[: y.labelled]
        assert x.labelled is None
    assert a.spec == b.spec


def test_a_division_leaves_the_unlabelled_alone(partly):
    splits = Splits(
        partly,
        batch_size=4,
        unlabeled=1,
        groups="shared",
        folds=lambda s: np.array((["train", "valid", "test"] * len(s))[: len(s)]),
    )
    assert splits.sizes["unlabeled"] == 3
    assert all(torch.isfinite(batch.label).all() for batch in splits.in_order("train"))


def test_a_division_leaves_out_the_unlabelled_of_held_out_videos(partly):
    """They would carry speakers that are tested into training."""
    group = np.array([f"v{i % 7}" for i in range(len(partly))])
    by_group = lambda s: np.array([{"v0": "test", "v1": "valid"}.get(g, "train") for g in s.group])  # noqa: E731
    n = len(partly)
    for last, kept in ((["v0", "v1", "v0"], 0), (["v0", "v3", "v4"], 2), (["v2", "v3", "new"], 3)):
        segments = replace(partly, group=np.array([*group[: n - 3], *last]))
        if not kept:
            with pytest.raises(ValueError, match="has 0 in its fold unlabeled"):
                Splits(segments, unlabeled=1, folds=by_group)
            continue
        splits = Splits(segments, batch_size=4, unlabeled=1, folds=by_group)
        assert splits.sizes["unlabeled"] == kept


def test_a_store_keeps_unlabelled_segments(partly, tmp_path):
    reopened = open_store(write_store(partly, tmp_path / "store"))
    np.testing.assert_array_equal(reopened.fold, partly.fold)
    assert Splits(reopened, unlabeled=1).sizes["unlabeled"] == 3


def test_other_segments_read_alike_have_no_order_of_these(partly):
    splits = Splits(partly, batch_size=4, unlabeled=1, by_length=True)
    other = splits.like(replace(partly, name="other", label=partly.label / 2))
    assert sum(len(batch) for batch in other.in_order("train")) == splits.sizes["train"]


def test_unlabelled_segments_that_are_not_there_are_asked_for(segments):
    with pytest.raises(ValueError, match=r"asks for 2 unlabelled segments .* has 0 in its fold unlabeled; set it to 0"):
        Splits(segments, unlabeled=2)
    with pytest.raises(ValueError, match="asks for -1"):
        Splits(segments, unlabeled=-1)


def test_labels_of_unlabelled_segments_are_refused(partly):
    with pytest.raises(ValueError, match="must have NaN for a label"):
        Splits(replace(partly, label=np.zeros_like(partly.label)))
