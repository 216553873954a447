"""The test fold cannot be reached while anything is being chosen (design rule 10): attacks.

Planted in the test fold are a label, frames and names that occur nowhere else; whoever is handed anything during training walks
all of it, by attributes, containers, closures and bases, and must find none of them.
"""

import pickle
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from planted import FRAME, LABEL, NAME, SIZES, Walk, plant

from mdm.data import views
from mdm.data.base import Segments
from mdm.data.splits import Splits
from mdm.data.store import open_store
from mdm.data.synthetic import synthetic
from mdm.data.writing import write_store
from mdm.runs import build, protocol
from mdm.runs.loggers import Logger
from mdm.runs.protocol import run


@pytest.fixture
def source(tmp_path):
    """kind → what a config's data become: made anew on each call."""

    def make(kind):
        if kind == "synthetic":
            return lambda: plant(synthetic(**SIZES))
        path = write_store(plant(synthetic(**SIZES)), tmp_path / "store")
        return lambda: open_store(path)

    return make


@pytest.mark.parametrize("kind", ["synthetic", "store"])
def test_a_walk_finds_what_is_there(source, kind):
    """Else the tests below could not fail: the whole data set has all that was planted, and so does an opened fold."""
    found = Walk()(source(kind)())
    assert {LABEL, FRAME} <= {value for value in found if not isinstance(value, str)}
    assert any(isinstance(value, str) for value in found)


@pytest.mark.parametrize("kind", ["synthetic", "store"])
@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_of_training_leads_to_the_test_fold(source, kind, workers):
    """Loaders, their data sets, samplers, iterators and batches; nor do the `Splits` themselves before the fold is opened."""
    splits = Splits(source(kind), batch_size=16, workers=workers, by_length=True)
    loaders = [splits.train(), splits.train("critic batches"), splits.valid(), splits.in_order("train")]
    begun = [] if workers else [iter(loader) for loader in loaders]
    batches = [next(each) for each in begun]
    assert Walk()(loaders, begun, batches, splits.spec, splits.describe("train"), splits.describe("valid")) == []
    assert len(splits.train().dataset.label) == SIZES["train"]
    assert len(splits.valid().dataset.label) == SIZES["valid"]
    assert [len(splits.valid().dataset.unimodal["audio"]), *splits.spec.unimodal] == [SIZES["valid"], "audio"]


@pytest.mark.parametrize("most", [0, 2**30])
def test_a_store_is_read_by_rows_and_not_mapped(source, most, monkeypatch):
    """A slice of a mapped array would lead to the whole file by its ``.base``; a fold in memory is a copy of its rows."""
    monkeypatch.setattr(views, "HELD_AT_MOST", most)
    splits = Splits(source("store"))
    for name, view in splits.train().dataset.views.items():
        assert not any(isinstance(value, np.memmap) for value in vars(view.rows).values()), name
        assert len(view.rows) == SIZES["train"]
    copied = pickle.loads(pickle.dumps(splits.valid().dataset))
    a, b = (fold.__getitems__([0, 5]) for fold in (copied, splits.valid().dataset))
    assert all(torch.equal(a.sequences[m].values, b.sequences[m].values) for m in a.sequences)


class Spy:
    """Walks what it is handed."""

    walked: set = set()  # noqa: RUF012
    found: list = []  # noqa: RUF012

    @classmethod
    def walk(cls, who, *values):
        cls.walked.add(who)
        cls.found += Walk()(*values)


class CallbackSpy(pl.Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        loaders = [trainer.train_dataloader, trainer.val_dataloaders]
        Spy.walk("callback", trainer, pl_module, getattr(trainer, "datamodule", None), loaders, vars(trainer.fit_loop))


class LoggerSpy(Logger):
    def start(self, name, group, tags, config):
        Spy.walk("logger", self, name, group, tags, config)

    def epoch(self, row):
        Spy.walk("logger", self, row)

    def conclude(self, row, record, predictions):
        """By now the fold is open, and the run has chosen."""

    def finish(self, failed):
        pass


@pytest.fixture
def attacked(config, monkeypatch):
    """overrides → a run of segments with a planted test fold, whose backbone, penalty, callback and logger walk all they get."""
    monkeypatch.setattr(Spy, "walked", set())
    monkeypatch.setattr(Spy, "found", [])

    def go(*overrides):
        cfg = config("model=lmf", "penalty=kl", "trainer.max_epochs=1", "penalty.critic.steps=1", *overrides)
        whole = build.make

        def planted(node, **given):
            made = whole(node, **given)
            if isinstance(made, Segments):
                return plant(made)
            if isinstance(made, torch.nn.Module) and hasattr(made, "encode"):
                encode = made.encode
                made.encode = lambda batch: (Spy.walk("backbone", batch, made) if made.training else None, encode(batch))[1]
            if isinstance(made, torch.nn.Module) and hasattr(made, "critic_loss"):
                loss = made.critic_loss
                made.critic_loss = lambda view: (Spy.walk("penalty", view, made), loss(view))[1]
            return made

        monkeypatch.setattr(build, "make", planted)
        monkeypatch.setattr("mdm.runs.trainer.build_callbacks", lambda cfg: [CallbackSpy()])
        monkeypatch.setattr(protocol, "build_loggers", lambda cfg, folder: [LoggerSpy()])
        return cfg, run(cfg)

    return go


def test_spies_in_a_run_find_no_test_segment(attacked):
    """A callback, a backbone, a penalty and a logger walk whatever they are handed, through a whole run."""
    cfg, record = attacked()
    assert Spy.walked == {"callback", "logger", "backbone", "penalty"}
    assert Spy.found == []
    (predictions,) = Path(cfg.paths.outputs).rglob("predictions.csv")
    assert NAME in predictions.read_text()  # it was opened, afterwards
    assert record["folds"]["test"] == 40
