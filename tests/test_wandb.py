"""Weights & Biases shows what records hold: read back from the files that an offline run leaves, without its own reader."""

import csv
import inspect
import json
import math
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from mdm.runs import records
from mdm.runs.loggers import Wandb, flatten
from mdm.runs.naming import record_folder
from mdm.runs.protocol import run

ROOT = Path(__file__).resolve().parents[1]


def of_wandb(folder):
    """Every run below a record's folder, in the order of their start: what its .wandb file says.

    wandb's own process writes the file, and a run's `finish` does not wait until it has; its last message is the exit.
    """
    deadline = time.monotonic() + 60
    while any(told["exit"] is None for told in written_so_far(folder)):
        assert time.monotonic() < deadline, "wandb did not write the end of a run"
        time.sleep(0.05)
    return written_so_far(folder)


def written_so_far(folder):
    """The same, of what is on the disk.

    The file is a log of blocks of 32 KiB (after seven bytes of header) that hold chunks: checksum, length, type (1 whole, 2 first,
    3 middle, 4 last), data. Joined, they are protobuf messages.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    found = []
    for path in sorted(folder.glob("wandb/*run-*/*.wandb")):
        data, at, message = path.read_bytes(), 7, b""
        told = {"path": path, "rows": [], "summary": {}, "config": {}, "artifacts": [], "exit": None}
        while at + 7 <= len(data):
            if 32768 - at % 32768 < 7:
                at += 32768 - at % 32768
                continue
            _, size, kind = struct.unpack("<IHB", data[at : at + 7])
            message += data[at + 7 : at + 7 + size]
            at += 7 + size
            if kind in (1, 4):
                record, message = Record.FromString(message), b""
                take(record, told)
        found.append(told)
    return found


def take(record, told):
    def values(items):
        return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}

    kind = record.WhichOneof("record_type")
    if kind == "run":
        told |= {"id": record.run.run_id, "group": record.run.run_group, "name": record.run.display_name}
        told |= {"tags": list(record.run.tags), "project": record.run.project}
        told["config"] |= values(record.run.config.update)
    elif kind == "config":
        told["config"] |= values(record.config.update)
    elif kind == "history":
        told["rows"].append(values(record.history.item))
    elif kind == "summary":
        told["summary"] |= values(record.summary.update)
    elif kind == "artifact":
        told["artifacts"].append(record.artifact)
    elif kind == "exit":
        told["exit"] = record.exit.exit_code


def of_curve(folder, without=()):
    """curve.csv as numbers; what a row lacks is left out."""
    with open(folder / "curve.csv", newline="") as file:
        return [{k: float(v) for k, v in row.items() if v != "" and k not in without} for row in csv.DictReader(file)]


def told_rows(rows, without=()):
    """Rows of the curve as wandb has them, without what it adds; the one that shows the predictions is none."""
    told = [row for row in rows if "predictions/path" not in row]
    return [{k: float(v) for k, v in row.items() if not k.startswith("_") and k not in without} for row in told]


def nan_alike(rows):
    """NaN equals itself, and -0.0 is 0.0, as wandb writes it."""
    return [{k: repr(v + 0.0) for k, v in sorted(row.items())} for row in rows]


@pytest.fixture
def no_connection(monkeypatch):
    """Fail on any connection of this process that leaves the machine."""
    original = socket.socket.connect

    def connect(self, address):
        assert self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1"), address
        return original(self, address)

    def look_up(host, *rest, **more):
        raise AssertionError(f"looked up {host}")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)


def test_wandb_has_what_the_record_has(config, tmp_path, monkeypatch, no_connection):
    """A model with terms of its own and a penalty, then a baseline and a run that fails, in one process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_ERROR_REPORTING", raising=False)
    cfg = config("model=mfm", "penalty=kl", "logger=wandb", "seed=3", "name=a/b", "penalty.critic.steps=2")
    record = run(cfg, ["model=mfm", "seed=3", "penalty.critic.steps=2"])
    folder = record_folder(cfg, ["penalty.critic.steps=2"])
    (told,) = of_wandb(folder)

    assert (told["project"], told["group"], told["exit"]) == ("mdm", "a/b", 0)
    assert told["name"] == "synthetic/mfm/kl/penalty.critic.steps=2/seed=3"
    assert told["tags"] == ["mfm", "kl", "synthetic", "seed=3"]
    stored = yaml.safe_load((folder / records.CONFIG).read_text())
    assert {k: v for k, v in told["config"].items() if k != "_wandb"} == stored

    curve = of_curve(folder)
    assert {"train/task", "train/kl/term", "train/kl/estimate", "valid/kl/estimate", "valid/mae"} <= set(curve[0])
    assert "train/reconstruction_audio" in curve[0], "a term of the model's own"
    assert nan_alike(told_rows(told["rows"])) == nan_alike(curve)
    assert [row["_step"] for row in told["rows"]] == [0, 1, 2], "two epochs, then the predictions"

    summary, best = told["summary"], curve[record["selected"]["epoch"]]
    assert {f"test/{name}": summary[f"test/{name}"] for name in record["test"]} == flatten({"test": record["test"]})
    del best["seconds"]  # the record's come after it
    # A summary of wandb has no NaN.
    assert {key: summary.get(key) for key in best} == {k: None if math.isnan(v) else v for k, v in best.items()}
    assert summary["commit"] == record["commit"]

    with open(folder / records.PREDICTIONS, newline="") as file:
        predictions = list(csv.DictReader(file))
    table = json.loads((told["path"].parent / "files" / summary["predictions/path"]).read_text())
    assert table["columns"] == list(predictions[0])
    assert [[str(v) for v in line] for line in table["data"]] == [list(p.values()) for p in predictions]
    (artifact,) = told["artifacts"]
    assert artifact.type == "run_table"
    (content,) = artifact.manifest.contents
    assert Path(content.local_path).is_relative_to(folder)
    assert json.loads(Path(content.local_path).read_text())["data"] == table["data"]
    assert [p.name for p in tmp_path.iterdir()] == ["outputs"], "everything lies below the run's folder"

    # Which dashboard was on is no part of a record, and changes none.
    assert (
        run(config("model=mfm", "penalty=kl", "seed=3", "name=a/b", "penalty.critic.steps=2"), ["penalty.critic.steps=2"]) == record
    )
    plain = config("model=mfm", "penalty=kl", "seed=3", "name=c", "penalty.critic.steps=2")
    run(plain)
    alone = of_curve(record_folder(plain, []), without=["seconds"])
    assert nan_alike(alone) == nan_alike(of_curve(folder, without=["seconds"]))

    floor = config("model=baseline", "logger=wandb")
    record = run(floor)
    (of_floor,) = of_wandb(record_folder(floor, []))
    assert nan_alike(told_rows(of_floor["rows"])) == nan_alike(of_curve(record_folder(floor, [])))
    assert of_floor["summary"]["test/mae"] == record["test"]["mae"]
    assert record["selected"]["epoch"] < record["selected"]["epochs"] - 1
    assert of_floor["summary"]["valid/mae"] == record["valid"]["mae"], "of the chosen setting, not of the last"

    diverging = config("model=lmf", "logger=wandb", "model.optimizer.lr=1e30", "trainer.max_epochs=5")
    with pytest.raises(ValueError, match="must be finite"):
        run(diverging)
    (failed,) = of_wandb(record_folder(diverging, []))
    assert failed["exit"] == 1
    assert len({told["id"], of_floor["id"], failed["id"]}) == 3


@pytest.mark.slow
def test_a_killed_run_goes_on_as_the_same_run_and_calls_nobody(config, tmp_path):
    """kill -9 while it trains; whatever the first process or its helper sends over HTTP would arrive at our door."""
    options = ["model=lmf", "logger=wandb", "trainer.max_epochs=10", "trainer.patience=null", "model.backbone.z_dim=8"]
    cfg = config(*options)
    # As `config` composes it, so that both find one folder.
    small = [f"data.segments.{fold}={cfg.data.segments[fold]}" for fold in ("train", "valid", "test")]
    overrides = [f"paths.outputs={cfg.paths.outputs}", *small, *options]
    folder = record_folder(cfg, overrides)
    door = socket.create_server(("127.0.0.1", 0))
    here = f"http://127.0.0.1:{door.getsockname()[1]}"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_") and k.lower() != "no_proxy"}
    environment |= {"WANDB_BASE_URL": here, "WANDB_API_KEY": "0" * 40, "HTTP_PROXY": here, "HTTPS_PROXY": here}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *overrides], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    curve, deadline = folder / "curve.csv", time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline and not (curve.exists() and len(of_curve(folder)) >= 3):
        time.sleep(0.005)
    assert process.poll() is None, process.stderr.read().decode()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (folder / records.METRICS).exists()
    (broken,) = (path.name for path in folder.glob("wandb/offline-run-*"))
    door.setblocking(False)
    with pytest.raises(BlockingIOError):
        door.accept()
    door.close()

    record = run(cfg, overrides)
    (told,) = of_wandb(folder)
    assert told["path"].parent.name != broken, "it has all rows, and takes the place of the broken one"
    assert told["id"] == broken.rpartition("-")[2]
    assert [row["_step"] for row in told["rows"]] == list(range(11)), "each epoch once, then the predictions"
    rows = told_rows(told["rows"], without=["seconds"])
    assert nan_alike(rows) == nan_alike(of_curve(folder, without=["seconds"]))
    assert told["summary"]["test/mae"] == record["test"]["mae"]
    assert told["exit"] == 0


def test_online_or_offline(tmp_path):
    with pytest.raises(ValueError, match="mode: expected one of offline, online, got 'dryrun'"):
        inspect.unwrap(Wandb.__init__)(object.__new__(Wandb), str(tmp_path), mode="dryrun")
