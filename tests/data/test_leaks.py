"""What of one fold is in another: groups are refused, copies warned of; in memory, in stores, in files and under k-fold."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from mdm.data.base import Segments
from mdm.data.folds import KFold
from mdm.data.gaussian import gaussian
from mdm.data.leaks import check_groups, describe_leaks, find_equal_rows
from mdm.data.splits import Splits
from mdm.data.store import open_store
from mdm.data.synthetic import synthetic
from mdm.data.writing import write_store
from mdm.formats import prepare as preparing
from mdm.formats.prepare import prepare
from mdm.runs.build import build_splits
from mdm.runs.protocol import run

SIZES = {"train": 40, "valid": 12, "test": 16}
SPANNING = r"a group \(a video, a speaker\) must be in one fold, .* in several \(clip in test and train\); .*groups=shared"


@pytest.fixture
def apart():
    return synthetic(**SIZES)


@pytest.fixture
def shared(apart):
    """The same, but for a video in training and test."""
    group = apart.group.astype("U12")
    group[[0, 1, -1]] = "clip"
    return replace(apart, group=group)


@pytest.fixture
def copied(apart):
    """The first two test segments train, too, under new ids, in a video of their own and with another label."""
    test = np.flatnonzero(apart.fold == "test")[:2]
    both = apart.rows(np.array([*range(len(apart)), *test]))
    fold, group, label = both.fold.copy(), both.group.astype("U12"), both.label.copy()
    fold[-2:], group[-2:] = "train", "elsewhere"
    label[-2:] = 1.0
    return replace(both, ids=(*apart.ids, "copy0", "copy1"), fold=fold, group=group, label=label)


@pytest.fixture
def as_format(monkeypatch):
    """segments → a format that reads them."""

    def install(segments):
        def read_magpie(source: str, *, name: str = "") -> Segments:
            return replace(segments, source={"format": "magpie", "files": {}, "options": {}, "cleaned": {}})

        monkeypatch.setattr(preparing, "formats", lambda: {"magpie": read_magpie})

    return install


def test_groups_that_are_apart_are_let_through(apart):
    assert check_groups(apart, apart.fold, "apart") == 0
    assert Splits(apart).shared_groups == 0
    assert describe_leaks(apart, "apart") == {}


@pytest.mark.parametrize("from_store", [False, True])
def test_a_group_in_two_folds_is_refused_when_data_are_read(shared, tmp_path, from_store):
    data = open_store(write_store(shared, tmp_path / "store")) if from_store else shared
    with pytest.raises(ValueError, match=SPANNING):
        Splits(data)
    assert Splits(data, groups="shared").shared_groups == 1


def test_a_group_in_two_folds_is_refused_when_files_are_prepared(shared, as_format, tmp_path):
    as_format(shared)
    with pytest.raises(ValueError, match=SPANNING):
        prepare("magpie", tmp_path, tmp_path / "store")
    assert not (tmp_path / "store").exists()
    store = prepare("magpie", tmp_path, tmp_path / "store", groups="shared")
    assert store.card["source"]["groups_in_several_folds"] == 1


def test_segments_in_no_fold_or_without_a_group_share_nothing(shared, apart):
    fold = shared.fold.copy()
    fold[-1] = ""
    assert check_groups(shared, fold, "apart") == 0
    assert check_groups(replace(apart, group=np.full(len(apart), "")), apart.fold, "apart") == 0


def test_unlabelled_segments_train(apart):
    """So they may be of a training video, and not of one that is tested."""
    fold = apart.fold.astype("U9")
    fold[3] = "unlabeled"
    assert check_groups(apart, fold, "apart") == 0
    fold[-2] = "unlabeled"
    with pytest.raises(ValueError, match=r"are in several \(\w+ in test and train\)"):
        check_groups(apart, fold, "apart")


def test_a_division_is_what_counts(shared):
    """k-fold keeps groups whole, whatever the data's own folds are; a division that does not is refused."""
    assert Splits(shared, folds=KFold(k=3)).shared_groups == 0
    with pytest.raises(ValueError, match=r"in several \(clip in train and valid; video000 in test and train and valid"):
        Splits(shared, folds=lambda segments: np.resize(["train", "valid", "test"], len(segments)))


def test_a_run_says_that_groups_are_shared(config, monkeypatch):
    """``split=paper`` pairs images first and divides afterwards: the option is data.groups, its count is in the record."""
    options = ("data=synthetic_digits", "data.segments.split=paper", "model=eflstm", "trainer.max_epochs=1")
    with pytest.raises(ValueError, match=r"synthetic_digits: a group .* must be in one fold"):
        build_splits(config(*options))
    record = run(config(*options, "data.groups=shared"))
    assert record["shared_groups"] == build_splits(config(*options, "data.groups=shared")).shared_groups > 0
    assert "shared_groups" not in run(config("trainer.max_epochs=1"))


def test_equal_rows_are_those_of_equal_features(copied):
    test = np.flatnonzero(copied.fold == "test")[:2].tolist()
    n = len(copied)
    assert find_equal_rows(copied) == [[test[0], n - 2], [test[1], n - 1]]
    assert find_equal_rows(gaussian(train=20, valid=5, test=5)) == []


def test_segments_that_lack_every_feature_are_no_copies(apart):
    lacking = synthetic(**SIZES, missing={"language": 0.9, "audio": 0.9, "video": 0.9})
    assert sum(all(r.lengths[i] == 0 for r in lacking.features.values()) for i in range(len(lacking))) > 5
    assert find_equal_rows(lacking) == []


COPIES = "2 sets of segments have the same features in several folds, so what is tested was trained on or chosen by: {}. Are they"


def test_copies_of_test_segments_under_new_ids_are_warned_of(copied, caplog):
    first, second = np.array(copied.ids)[copied.fold == "test"][:2]
    with caplog.at_level(logging.WARNING):
        Splits(copied)
    assert COPIES.format(f"{first} (test), copy0 (train); {second} (test), copy1 (train)") in caplog.text


def test_copies_are_warned_of_and_counted_when_prepared_and_warned_of_when_read(copied, as_format, tmp_path, caplog):
    as_format(copied)
    with caplog.at_level(logging.WARNING):
        store = prepare("magpie", tmp_path, tmp_path / "store")
    assert "2 sets of segments have the same features in several folds" in caplog.text
    found = store.card["source"]["equal_rows"]
    assert (found["sets"], found["across_folds"]) == (2, 2)
    assert [ids[1] for ids in found["ids"]] == ["copy0", "copy1"]
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        Splits(open_store(tmp_path / "store"))
    assert "2 sets of segments have the same features in several folds" in caplog.text


def test_nothing_is_said_where_nothing_is_equal(apart, caplog):
    with caplog.at_level(logging.WARNING):
        Splits(apart)
    assert caplog.text == ""
