"""Batches against a plain padding loop, and the order in which rows and batches come."""

import itertools

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from data.made import SIZES, choose_epoch, equal, order_of, rows_of, table, training_frames

from mdm.data.base import FOLDS, PADDING
from mdm.data.gaussian import gaussian
from mdm.data.splits import Splits


@pytest.fixture(scope="module")
def segments():
    return table()


@pytest.fixture
def selection(tmp_path):
    return choose_epoch(tmp_path)


def padded(sequences):
    """The plain loop: zeros behind, to the longest (at least one step)."""
    longest = max(1, *(len(s) for s in sequences))
    values = np.zeros((len(sequences), longest, *sequences[0].shape[1:]), dtype=np.result_type(*sequences))
    mask = np.zeros((len(sequences), longest), dtype=bool)
    for i, s in enumerate(sequences):
        for t, step in enumerate(s):
            values[i, t] = step
            mask[i, t] = True
    return values, mask


# Batches ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_steps", [None, 1, 4, 100])
@pytest.mark.parametrize("fold", FOLDS)
def test_batches_equal_a_plain_padding_loop(segments, selection, fold, max_steps):
    """``max_steps`` keeps the last steps: s[-max_steps:]."""
    splits = Splits(segments, batch_size=5, scale="none", max_steps=max_steps)
    loader = {"train": splits.train, "valid": splits.valid, "test": lambda: splits.open_test(selection)}[fold]()
    seen = []
    for batch in loader:
        rows = [segments.ids.index(i) for i in batch.ids]
        seen += rows
        np.testing.assert_array_equal(batch.label.numpy(), segments.label[rows], strict=True)
        assert list(batch.sequences) == ["language", "audio", "video"]
        for name, sequence in batch.sequences.items():
            ragged = segments.features["words" if name == "language" else name]
            plain = [ragged[i] if max_steps is None else ragged[i][-max_steps:] for i in rows]
            if name == "language":
                plain = [words.astype(np.int64) for words in plain]
            values, mask = padded(plain)
            np.testing.assert_array_equal(sequence.values.numpy(), values, strict=True)
            np.testing.assert_array_equal(sequence.mask.numpy(), mask, strict=True)
            assert sequence.lengths.tolist() == [len(s) for s in plain]
    assert sorted(seen) == rows_of(segments, fold)


@pytest.mark.parametrize("scale", ["standard", "maxabs"])
def test_scaled_batches_are_scaled_frames_padded_with_zeros(segments, scale):
    """x → (x − shift) · factor, and padding stays 0, which is not the scaled 0."""
    splits = Splits(segments, batch_size=5, scale=scale, text="vectors")
    for batch in [*splits.train(), *splits.valid()]:
        rows = [segments.ids.index(i) for i in batch.ids]
        for name, sequence in batch.sequences.items():
            feature = "vectors" if name == "language" else name
            frames = training_frames(segments, feature)
            shift, width = (frames.mean(0), frames.std(0)) if scale == "standard" else (0, np.abs(frames).max(0))
            values, mask = padded([(segments.features[feature][i] - shift) / width for i in rows])
            np.testing.assert_allclose(sequence.values.numpy(), values, rtol=1e-5, atol=1e-5)
            np.testing.assert_array_equal(sequence.mask.numpy(), mask)
            assert (sequence.values[~sequence.mask] == PADDING).all()
            assert sequence.values.dtype == torch.float32


def test_validation_and_test_come_in_order(segments, selection):
    splits = Splits(segments, batch_size=5)
    splits.open_test(selection)
    for fold in FOLDS:
        loader = splits.in_order(fold)
        ids = [i for batch in loader for i in batch.ids]
        assert ids == [segments.ids[i] for i in rows_of(segments, fold)]
        assert ids == splits.describe(fold)["id"]


def test_description_is_of_the_same_rows(segments, selection):
    rows = rows_of(segments, "test")
    splits = Splits(segments)
    splits.open_test(selection)
    assert splits.describe("test") == {
        "id": [segments.ids[i] for i in rows],
        "group": segments.group[rows].tolist(),
        "odd": segments.marks["odd"][rows].tolist(),
    }


def test_segments_in_no_fold_are_never_seen(segments, selection):
    splits = Splits(segments, batch_size=5)
    loaders = (splits.train(), splits.valid(), splits.open_test(selection))
    seen = {i for loader in loaders for batch in loader for i in batch.ids}
    assert seen == {segments.ids[i] for i in range(len(segments)) if segments.fold[i]}
    assert splits.sizes == SIZES


def test_batches_by_length(segments):
    """Every row once an epoch; a function of (seed, epoch); and within a run of batches no batch overlaps another in length."""
    splits = Splits(segments, batch_size=4, by_length=True, seed=3)
    loader = splits.train()
    lengths = dict(
        zip(segments.ids, np.max([r.lengths for r in (segments.text["words"], *segments.modalities.values())], axis=0), strict=True)
    )
    for epoch in range(3):
        batches = order_of(loader, epoch)
        assert batches == order_of(Splits(segments, batch_size=4, by_length=True, seed=3).train(), epoch)
        assert sorted(i for ids in batches for i in ids) == sorted(splits.describe("train")["id"])
        spans = sorted((min(lengths[i] for i in ids), max(lengths[i] for i in ids)) for ids in batches)
        assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))
    assert order_of(loader, 0) != order_of(loader, 1)


# Order --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [2, 3, 4, 5, 7, 10, 11, 22, 23, 100])
def test_every_training_row_once_an_epoch(segments, batch_size):
    splits = Splits(segments, batch_size=batch_size)
    loader = splits.train()
    for epoch in range(3):
        batches = order_of(loader, epoch)
        assert len(batches) == len(loader)
        assert sorted(i for ids in batches for i in ids) == sorted(splits.describe("train")["id"])
        assert min(map(len, batches)) >= min(batch_size, 4)


@pytest.mark.parametrize(
    ("batch_size", "sizes"),
    [
        (10, [10, 13]),  # a tail of 3 joins
        (19, [19, 4]),  # a tail of 4 stays
        (22, [23]),  # a tail of 1 joins
        (23, [23]),
        (100, [23]),
        (2, [2] * 10 + [3]),  # below four, batches as small as asked for stay, and smaller ones join
        (3, [3] * 6 + [5]),
    ],
)
def test_a_short_tail_joins_the_batch_before(segments, batch_size, sizes):
    splits = Splits(segments, batch_size=batch_size)
    assert [len(b) for b in splits.train()] == sizes


def test_a_fold_smaller_than_four_is_one_batch():
    small = gaussian(train=3, valid=2, test=1)
    assert [len(b) for b in Splits(small, batch_size=8, text="vectors").train()] == [3]
    assert [len(b) for b in Splits(small, batch_size=2, text="vectors").train()] == [3]


def test_order_is_a_function_of_seed_and_epoch(segments):
    loader = Splits(segments, batch_size=5, seed=1).train()
    in_turn = [order_of(loader, epoch) for epoch in range(4)]
    again = Splits(segments, batch_size=5, seed=1)
    assert order_of(again.train(), 3) == in_turn[3]  # as a resumed run asks
    assert [batch.ids for batch in again.train(epoch=3)] == in_turn[3]
    assert order_of(again.train(), 0) == in_turn[0]
    assert len({str(order) for order in in_turn}) == 4
    assert order_of(Splits(segments, batch_size=5, seed=2).train()) != in_turn[0]


def test_another_stream_has_an_order_of_its_own_and_moves_no_other(segments):
    plain = order_of(Splits(segments, batch_size=5).train())
    splits = Splits(segments, batch_size=5)
    critic, task = splits.train("critic batches"), splits.train()
    other = order_of(critic)
    assert order_of(task) == plain
    assert order_of(critic) == other != plain


def test_order_does_not_depend_on_what_is_read(segments):
    """Penalties, models and scales compare on the same batches."""
    options = ({}, {"text": None}, {"modalities": ["audio"]}, {"scale": "none"}, {"max_steps": 1})
    orders = [order_of(Splits(segments, batch_size=5, **o).train()) for o in options]
    assert orders.count(orders[0]) == len(orders)


def test_lightning_gives_each_epoch_its_order(segments):
    class Reader(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.seen = {}

        def training_step(self, batch, index):
            self.seen.setdefault(self.current_epoch, []).append(batch.ids)

        def configure_optimizers(self):
            return torch.optim.SGD([self.weight])

    splits, reader = Splits(segments, batch_size=5), Reader()
    pl.Trainer(max_epochs=3, barebones=True, accelerator="cpu").fit(reader, splits.train())
    assert reader.seen == {epoch: order_of(splits.train(), epoch) for epoch in range(3)}


def test_reading_draws_from_no_global_generator(segments, selection):
    splits = Splits(segments, batch_size=5)
    before = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    for loader in (splits.train(), splits.train("other"), splits.in_order("train"), splits.valid(), splits.open_test(selection)):
        for _ in range(2):
            list(loader)
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_equal(np.random.get_state(), before[1])  # noqa: NPY002


def test_a_worker_reads_the_same(segments):
    here, there = Splits(segments, batch_size=5).train(), Splits(segments, batch_size=5, workers=1).train()
    for epoch in (0, 2):
        for loader in (here, there):
            loader.batch_sampler.set_epoch(epoch)
        assert all(equal(a, b) for a, b in zip(here, there, strict=True))
