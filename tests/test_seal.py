"""The test fold cannot be reached while anything is being chosen (design rule 10): attacks, and what opens it.

Planted in the test fold are a label, frames and names that occur nowhere else; whoever is handed anything during training walks
all of it, by attributes, containers, closures and bases, and must not meet one of them.
"""

import pickle
import types
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from mdm.data.base import Ragged, Segments
from mdm.data.folds import KFold
from mdm.data.seal import Selection, select
from mdm.data.splits import Splits
from mdm.data.store import open_store
from mdm.data.synthetic import synthetic
from mdm.data.writing import write_store
from mdm.runs import build, protocol
from mdm.runs.loggers import Logger
from mdm.runs.protocol import run

LABEL, FRAME, NAME = float(np.float32(-2.876543)), 54321.0, "zqxtest"
"""A label, a frame and a part of names, of the test fold alone."""
SIZES = {"train": 96, "valid": 32, "test": 40}


def plant(segments: Segments) -> Segments:
    """The same segments; labels, audio and names of the test fold are told from all others."""
    test = segments.fold == "test"
    audio = segments.modalities["audio"]
    values = np.where(np.repeat(test, audio.lengths)[:, None], np.float32(FRAME), audio.values)
    label = np.where(test[:, None], np.float32(LABEL), segments.label)
    return replace(
        segments,
        label=label,
        unimodal={"audio": label},
        ids=tuple(f"{NAME}{i}" if here else name for i, (here, name) in enumerate(zip(test, segments.ids, strict=True))),
        group=np.where(test, f"{NAME}group", segments.group),
        modalities={**segments.modalities, "audio": Ragged(values, audio.offsets)},
    )


class Walk:
    """Everything that a value leads to: attributes, slots, properties of arrays, containers, closures, bound objects, frames."""

    def __init__(self):
        self.seen, self.kept, self.found = set(), [], []

    def __call__(self, *values):
        waiting = list(values)
        while waiting:
            value = waiting.pop()
            if id(value) in self.seen or isinstance(value, types.ModuleType):
                continue
            self.seen.add(id(value))
            self.kept.append(value)  # or another object may get its id
            self.look(value)
            waiting += self.steps(value)
        return self.found

    def look(self, value):
        if isinstance(value, torch.Tensor):
            value = value.detach().numpy() if value.device.type == "cpu" and value.layout == torch.strided else np.zeros(0)
        if isinstance(value, str) and NAME in value:
            self.found.append(value[:80])
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            self.found += [wanted for wanted in (LABEL, FRAME) if (value == wanted).any()]
        if isinstance(value, np.ndarray) and value.dtype.kind == "U" and any(NAME in text for text in value.ravel()):
            self.found.append("names")
        if isinstance(value, float) and value in (LABEL, FRAME):
            self.found.append(value)

    def steps(self, value):
        if isinstance(value, str | bytes | int | float | bool | None | type):
            return []
        found = [getattr(value, "__dict__", None), getattr(value, "base", None), getattr(value, "__self__", None)]
        found += [getattr(value, name, None) for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
        found += [cell.cell_contents for cell in getattr(value, "__closure__", None) or () if holds(cell)]
        found += [
            getattr(value, name, None) for name in ("__wrapped__", "__defaults__", "__kwdefaults__", "func", "args", "keywords")
        ]
        if isinstance(value, types.GeneratorType) and value.gi_frame is not None:
            found.append(dict(value.gi_frame.f_locals))
        if isinstance(value, memoryview) and value.obj is not None:
            found.append(np.asarray(value.obj))
        if isinstance(value, Mapping):
            found += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set | frozenset):
            found += value
        elif isinstance(value, torch.Tensor):
            found += [value.grad_fn] if value.grad_fn is not None else []
        return [step for step in found if step is not None]


def holds(cell):
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


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


def test_a_store_is_read_by_rows_and_not_mapped(source):
    """A slice of a mapped array would lead to the whole file by its ``.base``."""
    splits = Splits(source("store"))
    for name, view in splits.train().dataset.views.items():
        assert not any(isinstance(value, np.memmap) for value in vars(view.rows).values()), name
        assert len(view.rows) == SIZES["train"]
    copied = pickle.loads(pickle.dumps(splits.valid().dataset))
    a, b = (fold.__getitems__([0, 5]) for fold in (copied, splits.valid().dataset))
    assert all(torch.equal(a.sequences[m].values, b.sequences[m].values) for m in a.sequences)


# ---- attacks while a run trains


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


# ---- what opens the fold


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


def test_folds_of_a_store_hold_few_bytes(tmp_path):
    """Not the frames: what is handed on grows with the number of rows alone."""
    write_store(synthetic(**SIZES), tmp_path / "store")
    splits = Splits(lambda: open_store(tmp_path / "store"))
    rows = splits.train().dataset.views["audio"].rows
    assert sum(value.nbytes for value in vars(rows).values() if isinstance(value, np.ndarray)) == 2 * 8 * SIZES["train"]
