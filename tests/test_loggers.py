"""Loggers: TensorBoard has the curve, and every logger is finished whatever happens."""

import sys
from pathlib import Path

import pytest

from mdm.runs.loggers import Logger, TensorBoard, flatten, start_loggers
from mdm.runs.naming import record_folder
from mdm.runs.protocol import run


def test_tensorboard_says_what_to_install(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    cfg = config("logger=tensorboard")
    with pytest.raises(ValueError, match=r"not installed; run `pip install tensorboard`, or use logger=csv"):
        run(cfg)
    assert not Path(cfg.paths.outputs).exists(), "said before anything is written"


def test_tensorboard_has_the_curve(config, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    cfg = config("model=lmf", "penalty=kl", "logger=tensorboard")
    record = run(cfg)
    folder = record_folder(cfg, [])
    resumed = TensorBoard(str(folder))  # what it tells again replaces what was there
    with start_loggers([resumed], "name", "group", [], {"a": 1}, [{"epoch": 0.0, "train/task": 7.0}]):
        pass
    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    assert [(e.step, e.value) for e in found.Scalars("train/task")] == [(0, 7.0)]
    assert [e.value for e in found.Scalars("test/mae")] == []
    assert record["test"]["mae"]


class Told(Logger):
    """Remembers its calls."""

    def __init__(self):
        self.calls = []

    def start(self, name, group, tags, config):
        self.calls.append(("start", name, group, list(tags), dict(config)))

    def epoch(self, row):
        self.calls.append(("epoch", row["epoch"]))

    def conclude(self, row, record, predictions):
        self.calls.append(("conclude", row["epoch"]))

    def finish(self, failed):
        self.calls.append(("finish", failed))


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt, SystemExit])
def test_every_logger_is_finished_whatever_happens(error):
    loggers = [Told(), Told()]

    def body():
        with start_loggers(loggers, "name", "group", ["tag"], {"a": 1}, [{"epoch": 0.0}, {"epoch": 1.0}]):
            if error is not None:
                raise error

    if error is None:
        body()
    else:
        with pytest.raises(error):
            body()
    begun = [("start", "name", "group", ["tag"], {"a": 1}), ("epoch", 0.0), ("epoch", 1.0)]
    for logger in loggers:
        assert logger.calls == [*begun, ("finish", error is not None)]


def test_a_logger_that_cannot_start_leaves_none_open():
    first, second = Told(), Told()
    second.start = lambda *_: 1 / 0
    with pytest.raises(ZeroDivisionError), start_loggers([first, second], "name", "group", [], {}, []):
        pass
    assert first.calls[-1] == ("finish", True)
    assert second.calls == []


def test_nested_keys_are_joined():
    assert flatten({"a": {"b": {"c": 1}, "d": None}, "e": [1, 2]}) == {"a/b/c": 1, "a/d": None, "e": [1, 2]}
