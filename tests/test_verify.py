"""A tree is verified whole: each kind of damage is named, and nothing hides another."""

import json
import os

import numpy as np
import pytest

from mdm.commands.verify import main
from mdm.data.synthetic import synthetic
from mdm.data.writing import write_store
from mdm.runs import claims, records


def record(folder):
    """A finished run's files."""
    folder.mkdir(parents=True)
    claims.claim(folder, {"name": "a", "seed": 0})
    records.write_table(folder / records.CURVE, [{"epoch": 0, "valid/mae": 1.0}])
    (folder / records.BEST).write_bytes(b"weights")
    records.finish(folder, {"seed": 0, "test": {"mae": 1.0}}, [{"id": "v0", "label": 0.0}])
    return folder


@pytest.fixture
def tree(tmp_path):
    for name in "abc":
        record(tmp_path / "outputs" / name)
    write_store(synthetic(train=8, valid=4, test=4), tmp_path / "outputs" / "store")
    return tmp_path / "outputs"


def verified(tree, capsys):
    """Status and lines."""
    status = 0
    try:
        main([str(tree)])
    except SystemExit as end:
        status = end.code
    return status, capsys.readouterr().out.splitlines()


def test_a_whole_tree(tree, capsys):
    (tree / "a" / ".lock").touch()  # an owner that is no more
    (tree / ".tasks").mkdir()
    (tree / ".tasks" / "1-0.json").touch()
    assert verified(tree, capsys) == (
        0,
        ["3 records and 1 stores read whole; 0 runs without a record, 0 files left half written; 0 problems."],
    )


def damage_metrics(tree):
    path = tree / "a" / records.METRICS
    path.write_text(path.read_text().replace("1.0", "0.5"))


def damage_store(tree):
    path = next((tree / "store").glob("*.values.npy"))
    np.save(path, np.zeros_like(np.load(path)))


def lose_manifest(tree):
    (tree / "store" / "manifest.json").write_text("{")


def make_folder_of_metrics(tree):
    (tree / "a" / records.METRICS).unlink()
    (tree / "a" / records.METRICS).mkdir()


DAMAGES = {
    "edited metrics": (damage_metrics, "a/metrics.json must be as the run wrote it"),
    "empty metrics": (lambda tree: (tree / "a" / records.METRICS).write_text(""), "a/metrics.json must be a whole record"),
    "a list": (lambda tree: (tree / "a" / records.METRICS).write_text("[]"), "a/metrics.json must be a whole record"),
    "a folder": (make_folder_of_metrics, "A finished run has a metrics.json"),
    "edited curve": (lambda tree: (tree / "a" / records.CURVE).write_text("epoch\n"), "a/curve.csv must be as the run wrote it"),
    "lost checkpoint": (lambda tree: (tree / "a" / records.BEST).unlink(), "a/best.ckpt is in the record, but is not there"),
    "zeros": (damage_store, "a store must hold what was written into it"),
    "half a manifest": (lose_manifest, "manifest.json"),
    "last": (lambda tree: (tree / "a" / records.LAST).touch(), "a/last.ckpt was left half written"),
    "temporary": (lambda tree: (tree / "a" / ".metrics.json.12").touch(), "a/.metrics.json.12 was left half written"),
    "table": (lambda tree: (tree / ".table.md.4194999").touch(), ".table.md.4194999 was left half written"),
    "begun": (lambda tree: (tree / "a" / records.METRICS).unlink(), "a began and did not finish"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_named(tree, capsys, kind):
    damage, said = DAMAGES[kind]
    damage(tree)
    status, lines = verified(tree, capsys)
    assert status == 1
    assert len(lines) == 2
    assert said in lines[0]
    assert lines[1].endswith("1 problems.")


def test_nothing_hides_another(tree, capsys):
    for name in "abc":
        (tree / name / records.METRICS).write_text("{")
    damage_store(tree)
    (tree / "d").mkdir()
    (tree / "d" / records.ERROR).write_bytes(b"Traceback\nValueError: \xff\xfe")
    status, lines = verified(tree, capsys)
    assert status == 1
    assert [name for name in "abc" if f"{tree}/{name}/metrics.json" in "\n".join(lines)] == ["a", "b", "c"]
    assert any("d began and failed: ValueError" in line for line in lines)
    assert lines[-1].endswith("5 problems.")


def test_a_writer_that_lives_left_nothing(tree, capsys):
    (tree / f".table.md.{os.getpid()}").touch()
    assert verified(tree, capsys)[0] == 0


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(ValueError, match=r"mdm verify reads folders, but .*nothing is not one; name folders"):
        main([str(tmp_path / "nothing")])


def test_an_altered_hash_of_a_file_is_an_altered_record(tree, capsys):
    path = tree / "a" / records.METRICS
    content = json.loads(path.read_text())
    content["stored"]["files"][records.CURVE] = "0" * 64
    path.write_text(json.dumps(content))
    assert verified(tree, capsys)[0] == 1
