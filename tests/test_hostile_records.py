"""Records that a stranger made: loading one runs nothing, writes nothing outside, and ends in one message, quickly."""

import io
import json
import os
import pickle
import shutil
import sys
import threading
import time
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir

import mdm
from mdm.runs import records
from mdm.runs.naming import record_folder
from mdm.runs.protocol import run
from mdm.runs.records import BEST
from mdm.runs.untrusted import replace_references

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A finished record, which loads."""
    root = tmp_path_factory.mktemp("good")
    overrides = ["data.segments.train=48", "data.segments.valid=16", "data.segments.test=16", "data.batch_size=16"]
    overrides += [
        f"paths.outputs={root}",
        "trainer.max_epochs=1",
        "model=lmf",
        "penalty=kl",
        "penalty.critic.steps=1",
        "logger=wandb",
    ]
    overrides += ["~logger.loggers.wandb", "+model.groups.encoders={lr: ${model.optimizer.lr}}"]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("train", overrides)
    run(cfg)
    return record_folder(cfg, ())


@pytest.fixture
def record(good, tmp_path, monkeypatch):
    """A copy of it, in an otherwise empty folder that is the current one."""
    folder = tmp_path / "record"
    shutil.copytree(good, folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET", "s3cret")
    return folder


def tree(root):
    return {str(path.relative_to(root)): path.lstat().st_size for path in sorted(root.rglob("*"))}


EVENTS = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "socket.connect", "shutil.rmtree", "os.remove")
"""What Python reports before it happens (PEP 578)."""
SEEN: list = []
WATCHING = threading.Event()


def audit(event, arguments):
    if not WATCHING.is_set():
        return
    written = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if event in EVENTS or written or (event == "import" and arguments[0] == "trap"):
        SEEN.append((event, str(arguments[0])[:80]))


@pytest.fixture(scope="module", autouse=True)
def _hook():
    sys.addaudithook(audit)  # cannot be taken away again, so it sleeps


def read_refusal(record, seconds=20.0):
    """The message with which a record is refused, and that nothing else happened."""
    root = record.parent
    (root / "trap.py").write_text("raise SystemExit('it ran')\n")
    before = tree(root)
    SEEN.clear()
    WATCHING.set()
    began = time.monotonic()
    try:
        with pytest.raises(ValueError, match=r".") as raised:
            mdm.load(record)
    finally:
        WATCHING.clear()
    assert time.monotonic() - began < seconds
    assert SEEN == []
    assert tree(root) == before
    message = str(raised.value)
    assert "\n" not in message
    assert "s3cret" not in message
    return message


def edit_record(record, change):
    path = record / records.CONFIG
    config = yaml.safe_load(path.read_text())
    change(config)
    path.write_text(yaml.safe_dump(config))


def test_the_good_one_loads_and_does_nothing_else(record):
    before = tree(record.parent)
    SEEN.clear()
    WATCHING.set()
    try:
        trained = mdm.load(record)
    finally:
        WATCHING.clear()
    assert trained.cfg.model.groups.encoders.lr == trained.cfg.model.optimizer.lr == 0.001
    assert trained.cfg.trainer.select == "mae"
    assert SEEN == []
    assert tree(record.parent) == before


# ---- members: slot → what stands in its place

PLANTED = {
    "os.system": {"command": "touch trap"},
    "subprocess.run": {"args": ["touch", "trap"]},
    "builtins.exec": {"source": "open('trap', 'w')"},
    "builtins.eval": {"_args_": ["open('trap', 'w')"]},
    "joblib.load": {"filename": "bad.pkl"},
    "torch.load": {"f": "bad.pkl", "weights_only": False},
    "numpy.load": {"file": "bad.pkl", "allow_pickle": True},
    "pandas.read_pickle": {"filepath_or_buffer": "bad.pkl"},
    "pickle.loads": {"_args_": ["cos\nsystem\n"]},
    "pytest.main": {"args": ["."]},
    "runpy.run_path": {"path_name": "trap.py"},
    "importlib.import_module": {"name": "trap"},
    "trap.Trap": {},
    "shutil.rmtree": {"path": "."},
    "pathlib.Path.unlink": {"self": "trap"},
    "hydra.utils.instantiate": {"config": {"_target_": "os.getcwd"}},
    "hydra.utils.get_method": {"path": "os.system"},
    "functools.partial": {"_args_": ["os.system"]},
    "torch.hub.load": {"repo_or_dir": ".", "model": "trap", "source": "local"},
    "torch.utils.model_zoo.load_url": {"url": "http://127.0.0.1:9/x"},
    "torch.nn.Module": {},
    "torch.nn.Linear": {"in_features": 3, "out_features": 1},
    "torch.optim.lr_scheduler.LambdaLR": {"optimizer": None, "lr_lambda": None},
    "torch.optim.optimizer.os.system": {"command": "touch trap"},
    "torch.nn.functional.l1_loss": {},
    "mdm.load": {"folder": "."},
    "mdm.runs.protocol.os.system": {"command": "touch trap"},
    "mdm.runs.protocol.subprocess.run": {"args": ["touch", "trap"]},
    "mdm.runs.protocol.run": {"cfg": {}},
    "mdm.backbones.encoders.importlib.import_module": {"name": "trap"},
    "mdm.backbones.text.TextEncoder": {"feature": 1},
    "mdm.backbones.base.Backbone": {},
    "mdm.runs.trained.load": {"folder": "."},
    "mdm.data.writing.write_store": {"segments": None, "out": "trap"},
    "mdm.data.store.read_store": {"path": ".", "manifest": {}},
    "mdm.data.store.shutil.rmtree": {"path": "."},
    "mdm.data.base.json.loads": {"s": "1"},
    "mdm.formats.download.download": {"name": "cmu_mosi", "folder": "."},
    "mdm.formats.prepare.prepare": {"format": "csd", "source": ".", "out": "trap"},
    "mdm.runs.loggers.Wandb": {"save_dir": ".", "mode": "online"},
    "mdm.__init__.load": {"folder": "."},
    "mdm.data.synthetic.__builtins__.exec": {"_args_": ["1"]},
}
SLOTS = (
    "data.segments",
    "model.backbone",
    "model.loss",
    "model.optimizer",
    "penalty.objective",
    "logger.loggers.x",
    "callbacks.callbacks.x",
)


@pytest.mark.parametrize("target", PLANTED)
def test_only_members_are_built(record, target):
    """In every place of the config; one message that names the key and the target."""
    with open(record.parent / "bad.pkl", "wb") as file:
        pickle.dump(Runs(), file)
    whole = (record / records.CONFIG).read_text()
    for slot in SLOTS:
        if target == "mdm.runs.loggers.Wandb" and slot == "logger.loggers.x":
            continue  # below

        def plant(config, slot=slot):
            *parents, last = slot.split(".")
            node = config
            for parent in parents:
                node = node[parent]
            node[last] = {"_target_": target, **PLANTED[target]}
            config["model"]["groups"] = {}  # they refer to the optimiser

        edit_record(record, plant)
        message = read_refusal(record)
        assert slot in message
        assert target in message
        (record / records.CONFIG).write_text(whole)


class Runs:
    def __reduce__(self):
        return os.system, ("touch trap",)


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


# ---- checkpoints


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


LINKS = {
    "a link out": lambda path, elsewhere: path.symlink_to(elsewhere),
    "a link to nothing": lambda path, elsewhere: path.symlink_to("nowhere"),
    "a device": lambda path, elsewhere: path.symlink_to("/dev/zero"),
    "a pipe": lambda path, elsewhere: os.mkfifo(path),
    "a folder": lambda path, elsewhere: path.mkdir(),
    "nothing": lambda path, elsewhere: None,
}


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("file", [records.CONFIG, BEST])
def test_files_are_files(record, good, file, name):
    (record / file).unlink()
    LINKS[name](record / file, good / file)
    assert file in read_refusal(record)


# ---- references


@pytest.mark.parametrize(
    "value",
    [
        *(
            "${oc.env:HOME}",
            "${oc.env:HOME,x}",
            "${oc.decode:'[1]'}",
            "${hydra:runtime.cwd}",
            "${now:%Y}",
            "${oc.select:${oc.env:HOME}}",
        ),
        *(
            "${oc.create:{a: 1}}",
            "${oc.dict.keys:data}",
            "${${name}}",
            "${oc.${name}:x}",
            "${.name}",
            "${a",
            "\\${name}",
            "${name}${name}",
        ),
        *("${data}", "${nowhere}", "${me}", "???", "${name,x}", "${oc.select:name,${oc.env:HOME}}"),
    ],
)
def test_a_record_looks_nothing_up_but_its_own_values(value):
    config = {"name": "x", "data": {"a": 1}, "me": value}
    with pytest.raises(ValueError, match=r"me (may refer to one other key|must refer to a plain value)") as raised:
        replace_references(config, config, "", 0)
    assert "\n" not in str(raised.value)


def test_what_a_record_may_refer_to():
    config = {
        "paths": {"data": "d"},
        "a": "${paths.data}/mosi",
        "b": "${oc.select:no.thing,mae}",
        "c": "${a}",
        "lr": 0.1,
        "e": ["${lr}"],
    }
    assert replace_references(config, config, "", 0) == {**config, "a": "d/mosi", "b": "mae", "c": "d/mosi", "e": [0.1]}
