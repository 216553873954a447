"""The folder that a config names: another for every value, and never outside."""

import re
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from mdm.runs.config import check
from mdm.runs.naming import record_folder, spell_value

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


@cache
def compose_run(*overrides):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", list(overrides))


@pytest.mark.parametrize("key", ["name", "data.name", "model.name", "penalty.name"])
@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "/tmp/x", "a\0b", "a\nb", "x" * 101, "é" * 60, "end.", " a", "a ", ".a", "~a", "a\\b", "a:b"]
)
def test_a_name_stays_in_its_folder(key, name):
    cfg = compose_run("penalty=kl").copy()
    OmegaConf.update(cfg, key, name)
    with pytest.raises(ValueError, match=f"{key} names a folder of the record") as raised:
        record_folder(cfg, ())
    assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match=key):
        check(cfg)


def test_a_seed_is_a_number_before_it_is_a_folder():
    cfg = compose_run().copy()
    cfg.seed = "../../x"
    with pytest.raises(ValueError, match=r"seed must be a whole number of at least 0, but is '\.\./\.\./x'"):
        record_folder(cfg, ())


def test_an_override_stays_in_its_folder(tmp_path):
    cfg = compose_run().copy()
    cfg.paths.outputs = str(tmp_path)
    for value in ("../../../../x", "/etc", "..", "a/../../b", "\0", "x" * 5000, "é" * 500):
        folder = record_folder(cfg, [f"tuned={value}", "trainer.patience=3"])
        assert folder.relative_to(tmp_path).parts[:4] == ("single", "synthetic", "eflstm", "none")
        assert len(folder.relative_to(tmp_path).parts) == 6
        assert ".." not in folder.parts
        assert all(len(part.encode()) < 255 for part in folder.parts)
        folder.mkdir(parents=True, exist_ok=True)  # every system call takes it


VALUES = [
    *(1234567, 1234568, 0.1, 0.10000001, 0.1 + 1e-16, 1e-5, 1.00001e-5, 1e22, 10**22 + 1, -1, 0, 2**60, 2**60 + 1),
    *(float("inf"), float("nan"), True, False, None, "True", "False", "None", "", "true", "null"),
    *("1", "1.0", "1e-05", "nan", "inf", "-1", "0.1", "a,b", "a b", "a/b", "a_b", "a--b", "a-b", "a-/b", "a/-b", "a//b", "a/b/"),
    *("-a", "a-", "a%2Fb", "a=b", "a:b", "[a]", "{a:b}", "'a'", "ä", "a\u0308", "…", "ab…cd", "x\ny", "a\\b", "$x", "*", "A", "a"),
    *(["a", "b"], ["a,b"], [["a"], "b"], [], [1], ["1"], [None]),
    *({}, {"a": 1}, {"a": "1"}, {"a:1": 1}, {"a": {"b": 1}}, {"a.b": 1}),
]


def test_a_folder_tells_every_value_apart():
    found = {}
    for value in VALUES:
        name = spell_value(value)
        assert name not in found, f"{value!r} and {found.get(name)!r} are both {name}"
        assert re.fullmatch(r"[\w.+@%'\[\]{},:~-]*", name, re.ASCII), name
        found[name] = value


def test_usual_values_are_as_they_are_written():
    cfg = compose_run("model.optimizer.lr=0.001", "trainer.patience=null")
    overrides = ["model.optimizer.lr=1e-3", "trainer.patience=null", "tuned=mmsa/mosi/mfn", "+trainer.precision=32-true", "seed=3"]
    assert record_folder(cfg, overrides).parts[-2] == (
        "model.optimizer.lr=0.001,trainer.patience=None,trainer.precision=32-true,tuned=mmsa--mosi--mfn"
    )
    assert [spell_value(v) for v in (1, 1.0, 5e-5, 0.5, True, "gradient_penalty", "bf16-mixed", ["audio", "video"])] == [
        *("1", "1", "5e-05", "0.5", "True", "gradient_penalty", "bf16-mixed", "[audio,video]")
    ]


def test_long_names_are_apart_too():
    """Cut and hashed: what they end in still counts."""
    cfg = compose_run()
    names = {record_folder(cfg, [f"tuned={'x' * 300}{end}"]).parts[-2] for end in ("", "a", "b")}
    assert len(names) == 3
    assert max(len(name.encode()) for name in names) < 255
