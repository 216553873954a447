"""What a run leaves on disk: whole or not at all, reused only by its own run, read back without losing a bit."""

import csv
import json
import math
import os

import numpy as np
import pytest
import yaml

from mdm.runs.claims import NOT_COMPARED, claim, examine, list_differences
from mdm.runs.records import CONFIG, METRICS, PREDICTIONS, finish, read_record, read_records, write_atomically, write_table

CONFIG_OF_A_RUN = {
    "name": "first",
    "seed": 3,
    "data": {"name": "synthetic", "segments": {"missing": None, "rho": 0.8}, "modalities": ["language", "audio"]},
    "model": {"name": "eflstm", "groups": {}, "optimizer": {"lr": 1e-05, "betas": [0.9, 0.999], "fused": False}},
    "machine": {"accelerator": "cpu", "workers": 0},
    "logger": {"loggers": {}},
    "paths": {"outputs": "outputs", "data": None},
}


def changed(path, value):
    """The config with one key, given by dots, set to another value."""
    config = json.loads(json.dumps(CONFIG_OF_A_RUN))
    *outer, last = path.split(".")
    node = config
    for key in outer:
        node = node[key]
    node[last] = value
    return config


def fail(*_):
    raise OSError("disk full")


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# Writing ------------------------------------------------------------------------------------------------


def test_text_is_written_and_replaced(tmp_path):
    path = tmp_path / "a.txt"
    for text in ("first, longer\n", "naïve 电影\n", ""):
        write_atomically(path, text)
        assert path.read_bytes() == text.encode()
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("function", ["replace", "fsync"])
def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch, function):
    old, new = tmp_path / "old.txt", tmp_path / "new.txt"
    write_atomically(old, "old")
    monkeypatch.setattr(os, function, fail)
    for path in (old, new):
        with pytest.raises(OSError, match="disk full"):
            write_atomically(path, "half")
    assert old.read_text() == "old"
    assert not new.exists()


def test_text_is_on_disk_before_it_is_renamed(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    write_atomically(tmp_path / "a.txt", "text")
    assert calls == ["fsync", "replace"]


# Claiming a folder --------------------------------------------------------------------------------------


def test_a_folder_is_new_then_broken_then_finished(tmp_path):
    folder = tmp_path / "experiment" / "seed=3"
    assert examine(folder, CONFIG_OF_A_RUN) == "new"
    claim(folder, CONFIG_OF_A_RUN)
    assert yaml.safe_load((folder / CONFIG).read_text()) == CONFIG_OF_A_RUN
    assert examine(folder, CONFIG_OF_A_RUN) == "broken"
    write_table(folder / PREDICTIONS, [{"id": "a"}])
    assert examine(folder, CONFIG_OF_A_RUN) == "broken"
    finish(folder, {"test": {"mae": 1.0}}, [{"id": "a"}])
    assert examine(folder, CONFIG_OF_A_RUN) == "finished"


def test_a_folder_with_something_else_in_it_is_new(tmp_path):
    (tmp_path / "train.log").write_text("an earlier attempt that did not come to its config")
    assert examine(tmp_path, CONFIG_OF_A_RUN) == "new"
    claim(tmp_path, CONFIG_OF_A_RUN)


def test_a_config_survives_its_file(tmp_path):
    """YAML reads 1e-5, no, null and 07 in ways of its own; what was written must equal itself."""
    config = {
        "a": 1e-05,
        "b": 1e20,
        "c": "no",
        "d": "1e-5",
        "e": None,
        "f": "null",
        "g": "07",
        "h": "",
        "i": "ü: #",
        "j": [[], {}],
        "k": True,
    }
    assert examine(tmp_path, config) == "new"
    claim(tmp_path, config)
    assert examine(tmp_path, config) == "broken"


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("seed", 4, "seed: 3 → 4"),
        ("model.optimizer.lr", 0.001, "model.optimizer.lr: 1e-05 → 0.001"),
        ("data.segments.rho", None, "data.segments.rho: 0.8 → None"),
        ("data.modalities", ["language"], "data.modalities: ['language', 'audio'] → ['language']"),
        ("model.dropout", 0.1, "model.dropout: (absent) → 0.1"),
        ("data.segments.missing", {"audio": 0.5}, "data.segments.missing: None → {'audio': 0.5}"),
    ],
)
@pytest.mark.parametrize("finished", [False, True])
def test_another_run_s_folder_is_refused_naming_the_key(tmp_path, path, value, line, finished):
    folder = tmp_path / "seed=3"
    claim(folder, CONFIG_OF_A_RUN)
    if finished:
        finish(folder, {}, [{"id": "a"}])
    before = (folder / CONFIG).read_bytes()
    with pytest.raises(ValueError, match="reused only by the run that it belongs to") as caught:
        claim(folder, changed(path, value))
    assert str(caught.value).splitlines()[1:-1] == [f"  {line}"]
    assert str(folder) in str(caught.value)
    assert (folder / CONFIG).read_bytes() == before


def test_every_differing_key_is_named(tmp_path):
    claim(tmp_path, CONFIG_OF_A_RUN)
    other = {k: v for k, v in changed("model.name", "lmf").items() if k != "name"}
    with pytest.raises(ValueError, match="differs from this run in") as caught:
        claim(tmp_path, other)
    assert str(caught.value).splitlines()[1:-1] == ["  name: first → (absent)", "  model.name: eflstm → lmf"]


@pytest.mark.parametrize("group", NOT_COMPARED)
def test_where_and_how_a_run_happens_does_not_count(tmp_path, group):
    claim(tmp_path, CONFIG_OF_A_RUN)
    for config in ({**CONFIG_OF_A_RUN, group: {"entirely": "other"}}, {k: v for k, v in CONFIG_OF_A_RUN.items() if k != group}):
        assert examine(tmp_path, config) == "broken"


def test_only_the_groups_themselves_do_not_count(tmp_path):
    """A key of the same name further in does."""
    claim(tmp_path, CONFIG_OF_A_RUN)
    with pytest.raises(ValueError, match=r"model\.machine: \(absent\) → gpu"):
        claim(tmp_path, changed("model.machine", "gpu"))


def test_metrics_without_a_config_are_nobody_s(tmp_path):
    (tmp_path / METRICS).write_text("{}")
    with pytest.raises(ValueError, match=r"holds a metrics\.json but no config\.yaml"):
        claim(tmp_path, CONFIG_OF_A_RUN)


def test_a_claim_that_fails_leaves_the_folder_to_be_claimed(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            claim(tmp_path, CONFIG_OF_A_RUN)
    assert examine(tmp_path, CONFIG_OF_A_RUN) == "new"
    claim(tmp_path, CONFIG_OF_A_RUN)


def test_differences_of_equal_configs():
    assert list_differences(CONFIG_OF_A_RUN, json.loads(json.dumps(CONFIG_OF_A_RUN))) == []
    assert list_differences({"a": {"b": 1}}, {"a": 1}) == ["a: {'b': 1} → 1"]


# Finishing ----------------------------------------------------------------------------------------------

FLOATS = [0.1 + 0.2, 1 / 3, -0.0, 5e-324, 1.7976931348623157e308, 1e22, 123456789.12345678, float(np.float32(0.1)), 2.0]


def test_floats_keep_every_bit(tmp_path):
    write_table(tmp_path / "t.csv", [{"i": i, "x": x} for i, x in enumerate(FLOATS)])
    back = [float(row["x"]) for row in rows_of(tmp_path / "t.csv")]
    assert [x.hex() for x in back] == [x.hex() for x in FLOATS]


def test_random_predictions_keep_every_bit(tmp_path):
    values = np.random.default_rng(0).standard_normal((2, 500))
    finish(tmp_path, {}, [{"id": f"s{i}", "label": float(y), "prediction": float(p)} for i, (y, p) in enumerate(values.T)])
    rows = rows_of(tmp_path / PREDICTIONS)
    assert [row["id"] for row in rows] == [f"s{i}" for i in range(500)]
    np.testing.assert_array_equal([[float(row[k]) for row in rows] for k in ("label", "prediction")], values)


def test_text_survives_commas_quotes_and_line_breaks(tmp_path):
    ids = ["a,b", 'say "no"', "two\nlines", "naïve 电影", " spaced ", ""]
    write_table(tmp_path / "t.csv", [{"id": i, "odd": True, "n": 3} for i in ids])
    rows = rows_of(tmp_path / "t.csv")
    assert [row["id"] for row in rows] == ids
    assert {(row["odd"], row["n"]) for row in rows} == {("True", "3")}


def test_columns_come_in_the_order_in_which_they_first_occur(tmp_path):
    write_table(tmp_path / "t.csv", [{"b": 1, "a": 2.5}, {"a": 3.0, "c": float("nan")}])
    assert (tmp_path / "t.csv").read_text() == "b,a,c\n1,2.5,\n,3.0,nan\n"


def test_a_metric_that_is_not_defined_is_null(tmp_path):
    metrics = {"test": {"corr": float("nan"), "mae": 1.5, "n": 3}, "list": [1.0, float("nan")], "top": float("nan"), "none": None}
    finish(tmp_path, metrics, [{"id": "a"}])
    text = (tmp_path / METRICS).read_text()
    assert "NaN" not in text
    assert read_record(tmp_path) == {"test": {"corr": None, "mae": 1.5, "n": 3}, "list": [1.0, None], "top": None, "none": None}
    assert math.isnan(metrics["test"]["corr"])  # the caller's own stay


def test_metrics_keep_every_bit(tmp_path):
    finish(tmp_path, {"x": FLOATS}, [{"id": "a"}])
    assert [x.hex() for x in read_record(tmp_path)["x"]] == [x.hex() for x in FLOATS]


@pytest.mark.parametrize("killed_at", [1, 2])
def test_a_run_killed_while_it_finishes_is_not_finished(tmp_path, monkeypatch, killed_at):
    """First the predictions are renamed, then the metrics; without the second rename the run is broken, and goes on."""
    claim(tmp_path, CONFIG_OF_A_RUN)
    replace, calls = os.replace, []

    def stop(source, target):
        calls.append(target)
        if len(calls) == killed_at:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            finish(tmp_path, {"mae": 1.0}, [{"id": "a"}])
    assert (tmp_path / PREDICTIONS).is_file() == (killed_at == 2)
    assert examine(tmp_path, CONFIG_OF_A_RUN) == "broken"
    with pytest.raises(ValueError, match=r"holds no finished run"):
        read_records(tmp_path)
    finish(tmp_path, {"mae": 1.0}, [{"id": "a"}])
    assert examine(tmp_path, CONFIG_OF_A_RUN) == "finished"


# Reading ------------------------------------------------------------------------------------------------


def test_records_become_one_frame(tmp_path):
    """Sorted by folder; nested keys by dots; an unfinished run is not among them."""
    for seed, mae in ((1, 0.9), (0, 1.1)):
        folder = tmp_path / "lmf" / f"seed={seed}"
        claim(folder, changed("seed", seed))
        finish(folder, {"seed": seed, "test": {"mae": mae, "corr": float("nan"), "happy/mae": 0.5}}, [{"id": "a"}])
    finish_later = tmp_path / "lmf" / "seed=2"
    claim(finish_later, changed("seed", 2))
    deep = tmp_path / "eflstm" / "kl" / "seed=0"
    claim(deep, CONFIG_OF_A_RUN)
    finish(deep, {"seed": 0, "penalty": "kl", "test": {"mae": 1 / 3}}, [{"id": "a"}])

    frame = read_records(tmp_path)
    assert frame["folder"].tolist() == ["eflstm/kl/seed=0", "lmf/seed=0", "lmf/seed=1"]
    assert frame["seed"].tolist() == [0, 0, 1]
    assert frame["test.mae"].tolist() == [1 / 3, 1.1, 0.9]
    assert frame["test.corr"].isna().all()
    assert frame["test.happy/mae"].tolist()[1:] == [0.5, 0.5]
    assert frame["penalty"].tolist()[0] == "kl"
    assert frame["penalty"].isna().tolist() == [False, True, True]
    assert read_records(str(tmp_path / "lmf"))["folder"].tolist() == ["seed=0", "seed=1"]


def test_a_folder_without_a_record(tmp_path):
    with pytest.raises(ValueError, match=r"finished run has a metrics\.json, but .* has none"):
        read_record(tmp_path)
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match="holds no finished run; train first"):
            read_records(root)
