"""K-fold: parts of whole groups, every complete segment tested once, incomplete ones never."""

from dataclasses import replace

import numpy as np
import pytest

from mdm.data.base import FOLDS, Ragged
from mdm.data.folds import KFold
from mdm.data.synthetic import synthetic


@pytest.fixture(scope="module")
def segments():
    """About 25 videos; a fifth of the segments lack video, some language, and two videos lack video throughout."""
    data = synthetic(train=300, valid=60, test=100, missing={"video": 0.2, "language": 0.05})
    lacking = np.isin(data.group, np.unique(data.group)[[3, 8]])
    video = data.modalities["video"]
    sequences = [video[i][: 0 if lacking[i] else None] for i in range(len(data))]
    return replace(data, modalities={**data.modalities, "video": Ragged.of(sequences)})


@pytest.fixture(scope="module")
def complete(segments):
    return np.array([all(len(r[i]) for r in segments.features.values()) for i in range(len(segments))])


DIVISIONS = [(k, incomplete, seed) for k in (3, 5, 10) for incomplete in ("train", "drop") for seed in (0, 1)]


@pytest.mark.parametrize(("k", "incomplete", "seed"), DIVISIONS)
def test_groups_never_straddle(segments, complete, k, incomplete, seed):
    """A group's complete segments lie in one fold; nothing of a group that is held out trains."""
    for part in range(k):
        fold = KFold(k, part, seed, incomplete)(segments)
        assert fold.shape == (len(segments),)
        assert set(fold) <= {*FOLDS, ""}
        assert {*FOLDS} <= set(fold)
        for group in np.unique(segments.group):
            here = segments.group == group
            assert len(set(fold[here & complete])) <= 1
            assert len(set(fold[here]) - {""}) <= 1


@pytest.mark.parametrize(("k", "incomplete", "seed"), DIVISIONS)
def test_every_complete_segment_is_tested_once_and_validated_once(segments, complete, k, incomplete, seed):
    folds = np.stack([KFold(k, part, seed, incomplete)(segments) for part in range(k)])
    for name, times in (("test", 1), ("valid", 1), ("train", k - 2)):
        np.testing.assert_array_equal((folds == name).sum(0)[complete], times)
    assert not np.isin(folds[:, ~complete], ["test", "valid"]).any()


@pytest.mark.parametrize("seed", [0, 1])
def test_the_part_tested_next_is_validated_now(segments, complete, seed):
    folds = [KFold(5, part, seed)(segments) for part in range(5)]
    for now, after in zip(folds, [*folds[1:], folds[0]], strict=True):
        np.testing.assert_array_equal(now == "valid", after == "test")


def test_parts_hold_equally_many_groups(segments, complete):
    groups = len(set(segments.group[complete]))
    for k in (3, 4, 7):
        sizes = [len(set(segments.group[KFold(k, part)(segments) == "test"])) for part in range(k)]
        assert sum(sizes) == groups
        assert max(sizes) - min(sizes) <= 1


def test_incomplete_segments_train_unless_their_group_is_held_out(segments, complete):
    """A group without a complete segment is in no part, so it always trains."""
    for part in range(5):
        fold = KFold(5, part, incomplete="train")(segments)
        held = np.isin(segments.group, segments.group[np.isin(fold, ["valid", "test"])])
        np.testing.assert_array_equal(fold[~complete & held], "")
        np.testing.assert_array_equal(fold[~complete & ~held], "train")
        assert (~complete & held).any()
        assert (~complete & ~held).any()


def test_incomplete_segments_stay_out_where_dropped(segments, complete):
    for part in range(5):
        train, drop = (KFold(5, part, incomplete=what)(segments) for what in ("train", "drop"))
        np.testing.assert_array_equal(drop[~complete], "")
        np.testing.assert_array_equal(drop[complete], train[complete])


def test_the_division_is_a_function_of_its_seed(segments):
    np.testing.assert_array_equal(KFold(5, 2, seed=3)(segments), KFold(5, 2, seed=3)(segments))
    assert (KFold(5, 2, seed=3)(segments) != KFold(5, 2, seed=4)(segments)).any()


def test_the_division_does_not_depend_on_the_order_of_segments(segments):
    order = np.random.default_rng(0).permutation(len(segments))
    shuffled = replace(
        segments,
        ids=tuple(segments.ids[i] for i in order),
        fold=segments.fold[order],
        group=segments.group[order],
        label=segments.label[order],
        text={k: Ragged.of([r[i] for i in order], r.vocabulary) for k, r in segments.text.items()},
        modalities={k: Ragged.of([r[i] for i in order]) for k, r in segments.modalities.items()},
        marks={},
    )
    np.testing.assert_array_equal(KFold(5, 1)(shuffled), KFold(5, 1)(segments)[order])


def test_the_data_s_own_folds_and_labels_play_no_part(segments):
    other = replace(segments, fold=segments.fold[::-1], label=-segments.label)
    np.testing.assert_array_equal(KFold(5, 1)(other), KFold(5, 1)(segments))


@pytest.mark.parametrize(("k", "fold"), [(2, 0), (1, 0), (0, 0), (-5, 0), (5, 5), (5, -1)])
def test_parts_that_do_not_exist(k, fold):
    with pytest.raises(ValueError, match=rf"k >= 3 parts .* 0 <= fold < k, but k={k}, fold={fold} came"):
        KFold(k, fold)


def test_too_few_groups(segments, complete):
    groups = len(set(segments.group[complete]))
    assert (KFold(groups)(segments) == "test").any()
    with pytest.raises(
        ValueError, match=f"{groups + 1}-fold needs at least {groups + 1} groups of complete segments, but there are {groups}"
    ):
        KFold(groups + 1)(segments)
