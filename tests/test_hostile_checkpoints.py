"""Checkpoints and configs that a stranger made: tensors and plain values within bounds, or one message."""

import io
import json
import pickle
import sys
import threading
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hostile import Runs, audit, copy_record, edit_record, read_refusal, train_record

from mdm.runs import records
from mdm.runs.records import BEST

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return train_record(tmp_path_factory.mktemp("good"))


@pytest.fixture
def record(good, tmp_path, monkeypatch):
    return copy_record(good, tmp_path, monkeypatch)


@pytest.fixture(scope="module", autouse=True)
def _hook():
    sys.addaudithook(audit)  # cannot be taken away again, so it sleeps


def put(key, value):
    def change(config):
        *parents, last = key.split(".")
        node = config
        for parent in parents:
            node = node[parent]
        node[last] = value

    return change


CONFIGS = {
    "nested": put("model.backbone.hidden", {"_target_": "os.system", "command": "touch trap"}),
    "nested in a list": put("model.backbone.hidden", [{"_target_": "os.system", "command": "touch trap"}]),
    "arguments": put("model.backbone._args_", ["touch trap"]),
    "partial": put("model.loss._partial_", True),
    "recursive": put("model.loss._recursive_", False),
    "convert": put("model.loss._convert_", "object"),
    "a target that is a list": put("model.loss._target_", ["os.system"]),
    "environment": put("data.name", "${oc.env:SECRET}"),
    "environment in a path": put("data.segments.train", "${oc.decode:${oc.env:SECRET}}"),
    "a resolver of Hydra's": put("name", "${hydra:runtime.cwd}"),
    "select of environment": put("name", "${oc.select:nothing,${oc.env:SECRET}}"),
    "a mapping doubled and doubled": lambda config: config.update({f"x{i}": f"${{x{i + 1}}}${{x{i + 1}}}" for i in range(60)}),
    "a circle": put("model.optimizer.lr", "${model.optimizer.lr}"),
    "a logger elsewhere": put("logger.loggers.x", {"_target_": "mdm.runs.loggers.TensorBoard", "save_dir": "/tmp/elsewhere"}),
    "a name above": put("name", "../../x"),
    "a name of root's": put("data.name", "/etc/cron.d/x"),
    "a name with an end": put("model.name", "a\0b"),
    "another penalty's name": put("penalty.name", ".."),
    "a key for nothing": put("callbacks", {"_target_": "os.system"}),
    "more memory than there is": put("model.backbone.z_dim", 10**12),
    "more segments than there are": put("data.segments.train", 10**12),
    "more layers than there are": put("model.backbone", {"_target_": "mdm.backbones.ef_lstm.EFLSTM", "num_layers": 10**9}),
    "more modalities than there are": put("data.segments", {"_target_": "mdm.data.gaussian.gaussian", "modalities": 10**9}),
    "a store that is a device": put("data.segments", {"_target_": "mdm.data.store.open_store", "path": "/dev/zero"}),
    "a store that is not there": put("data.segments", {"_target_": "mdm.data.store.open_store", "path": "/proc/self/mem\0"}),
    "an encoder with code of its own": put("model.backbone", {"_target_": "mdm.backbones.mag.MAG", "text_encoder": "./encoder"}),
    "no card": lambda config: config.pop("data_card"),
    "no data": lambda config: config.pop("data"),
    "a list for a model": put("model", [1]),
    "a text for a penalty": put("penalty", "kl"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_is_plain(record, name):
    encoder = record.parent / "encoder"
    encoder.mkdir()
    auto = {"AutoConfig": "trap.Trap", "AutoModel": "trap.Trap", "AutoTokenizer": ["trap.Trap", None]}
    (encoder / "config.json").write_text(json.dumps({"model_type": "trap", "auto_map": auto, "architectures": ["Trap"]}))
    (encoder / "trap.py").write_text("open('trap', 'w')\n")
    with open(encoder / "pytorch_model.bin", "wb") as file:
        pickle.dump(Runs(), file)
    edit_record(record, CONFIGS[name])
    read_refusal(record)


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)
TEXTS = {
    "a billion laughs": LAUGHS,
    "a tag that calls": "x: !!python/object/apply:os.system ['touch trap']\n",
    "a tag that imports": "x: !!python/name:trap.Trap\n",
    "deep": "x: " + "[" * 100_000,
    "deep mappings": "".join(f"{' ' * i}a:\n" for i in range(2000)),
    "a number in base 60": "x: " + ":".join(["1"] * 400_000),
    "a long number": "x: " + "9" * 900_000,
    "long": "x: '" + "a" * 20_000_000 + "'",
    "many": "\n".join(f"a{i}: 1" for i in range(80_000)),
    "a date": "name: 2020-01-01\n",
    "a set": "name: !!set {a, b}\n",
    "bytes": "name: !!binary aGVsbG8=\n",
    "a merge": "<<: {name: x}\n<<: [1]\n",
    "a key that is a list": "? [a, b]\n: 1\n",
    "two documents": "a: 1\n---\nb: 2\n",
    "a list": "- 1\n",
    "nothing": "",
    "no text": b"\xff\xfe\x00\x01" * 10,
    "control characters": "x: \x00\x01",
}


@pytest.mark.parametrize("name", TEXTS)
def test_yaml_within_bounds(record, name):
    text = TEXTS[name]
    (record / records.CONFIG).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert "config.yaml" in read_refusal(record)


def save_value(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def pack_zip(content, name, data, compress=zipfile.ZIP_STORED):
    """A checkpoint with one of its entries replaced."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", compress) as new:
        for entry in old.namelist():
            new.writestr(entry, data if entry.endswith(name) else old.read(entry))
    return buffer.getvalue()


def state(record):
    return torch.load(record / BEST, weights_only=True)["state_dict"]


def weight(record):
    return next(name for name, tensor in state(record).items() if isinstance(tensor, torch.Tensor) and tensor.ndim == 2)


def with_weight(make):
    def content(record):
        found = state(record)
        name = weight(record)
        return save_value({"state_dict": {**found, name: make(found[name])}})

    return content


CHECKPOINTS = {
    "a pickle that runs": lambda record: pickle.dumps(Runs()),
    "a torch pickle that runs": lambda record: pack_zip((record / BEST).read_bytes(), "data.pkl", pickle.dumps(Runs(), 2)),
    "torch's old format": lambda record: old_format({"state_dict": Runs()}),
    "no archive": lambda record: b"PK\x03\x04" + b"x" * 1000,
    "empty": lambda record: b"",
    "half": lambda record: (record / BEST).read_bytes()[:5000],
    "a zip bomb": lambda record: pack_zip((record / BEST).read_bytes(), "data/0", b"\0" * 50_000_000, zipfile.ZIP_DEFLATED),
    "a storage of another size": lambda record: pack_zip((record / BEST).read_bytes(), "data/0", b"\0" * 3),
    "a list": lambda record: save_value([1]),
    "no weights": lambda record: save_value({"epoch": 1}),
    "weights that are a number": lambda record: save_value({"state_dict": 3}),
    "weights of another model": lambda record: save_value({"state_dict": {"w": torch.zeros(3)}}),
    "one weight less": lambda record: save_value({"state_dict": dict(list(state(record).items())[1:])}),
    "one weight more": lambda record: save_value({"state_dict": {**state(record), "w": torch.zeros(3)}}),
    "names that are no texts": lambda record: save_value({"state_dict": {1: torch.zeros(3)}}),
    "another shape": with_weight(lambda w: torch.zeros(w.shape[1] + 1, w.shape[0])),
    "another type": with_weight(lambda w: w.double()),
    "a number for a weight": with_weight(lambda w: 3.0),
    "sparse": with_weight(lambda w: torch.zeros(w.shape).to_sparse()),
    "sparse and huge": with_weight(
        lambda w: torch.sparse_coo_tensor(torch.tensor([[0], [0]]), torch.ones(1), (10**9, 10**9), check_invariants=True)
    ),
    "one number, repeated": with_weight(lambda w: torch.zeros(1).expand(10**12)),
    "no storage": with_weight(lambda w: torch.empty(w.shape, device="meta")),
    "deep": lambda record: pack_zip((record / BEST).read_bytes(), "data.pkl", b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b"."),
    "an object": lambda record: save_value({"state_dict": OrderedDict(a=threading.local)}),
}


def old_format(value):
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_is_tensors(record, name):
    (record / BEST).write_bytes(CHECKPOINTS[name](record))
    assert "best.ckpt" in read_refusal(record)
