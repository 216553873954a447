"""A fold that is held in memory gives the batches of one that is read a batch at a time, to the bit."""

import itertools

import pytest
import torch

from mdm.data import views
from mdm.data.rows import Held
from mdm.data.splits import Splits
from mdm.data.store import open_store
from mdm.data.synthetic import synthetic
from mdm.data.writing import write_store

OPTIONS = [
    {},
    {"scale": "maxabs", "max_steps": 4},
    {"scale": "none", "max_steps": 4, "keep": "first"},
    {"max_steps": 9, "padding": "official"},
    {"max_steps": 9, "padding": "official", "keep": "first"},
]


@pytest.fixture(scope="module")
def segments():
    return synthetic(train=23, valid=9, test=5)


@pytest.fixture(scope="module", params=["memory", "store"])
def source(request, segments, tmp_path_factory):
    if request.param == "memory":
        return lambda: segments
    write_store(segments, folder := tmp_path_factory.mktemp("held") / "store")
    return lambda: open_store(folder)


def read_batches(source, most, monkeypatch, **options):
    monkeypatch.setattr(views, "HELD_AT_MOST", most)
    splits = Splits(source, batch_size=5, **options)
    held = {isinstance(view.rows, Held) for view in splits.train().dataset.views.values()}
    assert held == {most > 0}
    return list(itertools.chain(splits.train(), splits.train("critic batches"), splits.valid()))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_held_batches_are_those_that_are_read(source, options, monkeypatch):
    held, read = (read_batches(source, most, monkeypatch, **options) for most in (2**30, 0))
    assert len(held) == len(read)
    for a, b in zip(held, read, strict=True):
        assert a.ids == b.ids
        for name, sequence in a.sequences.items():
            assert sequence.values.dtype == b.sequences[name].values.dtype
            assert torch.equal(sequence.values, b.sequences[name].values)
            assert torch.equal(sequence.mask, b.sequences[name].mask)


def test_a_batch_is_nobody_elses(source, monkeypatch):
    """What a model does to its batch stays out of the next epoch."""
    splits = Splits(source, batch_size=5)
    before = [batch.sequences["audio"].values.clone() for batch in splits.train()]
    for batch in splits.train():
        batch.sequences["audio"].values.zero_()
    assert all(torch.equal(a, batch.sequences["audio"].values) for a, batch in zip(before, splits.train(), strict=True))
