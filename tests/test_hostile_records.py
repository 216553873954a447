"""Records that a stranger made: loading one runs nothing, writes nothing outside, and ends in one message, quickly."""

import os
import pickle
import sys
from pathlib import Path

import pytest
from hostile import SEEN, WATCHING, Runs, audit, copy_record, edit_record, read_refusal, train_record, tree

import mdm
from mdm.runs import records
from mdm.runs.records import BEST
from mdm.runs.untrusted import replace_references

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
