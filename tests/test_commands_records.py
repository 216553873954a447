"""Whatever a command finds on disk, it names in one message, and it leaves nothing half written."""

import errno
import json
import os
import shutil
import subprocess
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from made_commands import COMMANDS, ROOT, SCRIPTS, read_refusal, script

from mdm.boundary import exit_on_error
from mdm.runs import records
from mdm.runs.protocol import run

SMALL = ("data.segments.train=40", "data.segments.valid=20", "data.segments.test=24", "trainer.max_epochs=1")
CHOSEN = ("experiment=mdm/table1", "data=synthetic", "seed=0,1", "penalty=none,kl", *SMALL)


@pytest.fixture(scope="session")
def scripts():
    return {name: script(name) for name in SCRIPTS} | {name: import_module(f"mdm.commands.{name}") for name in COMMANDS}


@pytest.fixture
def refused(scripts, capsys):
    """(name, arguments) → the one message of a command that is refused."""
    return partial(read_refusal, scripts, capsys)


# ---- what lies there


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Four runs of mdm/table1, two of each of two rows."""
    outputs = tmp_path_factory.mktemp("commands") / "outputs"
    rows = ["model=eflstm", "model.backbone.variant=separate", "model.backbone.head=linear"]
    for seed in (0, 1):
        for penalty in ("none", "kl"):
            overrides = ["experiment=mdm/table1", "data=synthetic", *rows, f"penalty={penalty}", *SMALL, f"paths.outputs={outputs}"]
            with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
                cfg = compose("train", [*overrides, f"seed={seed}"])
            run(cfg, [*overrides, f"seed={seed}"])
    return outputs


@pytest.fixture
def outputs(trained, tmp_path):
    return Path(shutil.copytree(trained, tmp_path / "outputs"))


def of_seed(outputs, seed=0):
    """The folders of both rows."""
    return sorted(path.parent for path in outputs.rglob(f"seed={seed}/config.yaml"))


def edit(name, content):
    return lambda folder: (folder / name).write_bytes(content)


DAMAGES = {
    "empty metrics": edit(records.METRICS, b""),
    "truncated metrics": lambda folder: (folder / records.METRICS).write_bytes((folder / records.METRICS).read_bytes()[:99]),
    "a list of metrics": edit(records.METRICS, b"[]"),
    "binary metrics": edit(records.METRICS, b"\xff\x00\x81"),
    "nested metrics": edit(records.METRICS, b"[" * 100_000),
    "edited metrics": lambda folder: (folder / records.METRICS).write_text(
        (folder / records.METRICS).read_text().replace('"seed": ', '"seed": 1')
    ),
    "another version": edit(records.METRICS, b'{"stored": {"version": 9}}'),
    "empty config": edit(records.CONFIG, b""),
    "binary config": edit(records.CONFIG, b"\xff\x00"),
    "edited config": lambda folder: (folder / records.CONFIG).write_text((folder / records.CONFIG).read_text() + "a: 1\n"),
    "lost config": lambda folder: (folder / records.CONFIG).unlink(),
}


@pytest.mark.parametrize(
    ("name", "kind"), [*(("table", kind) for kind in DAMAGES), ("traces", "nested metrics"), ("traces", "lost config")]
)
def test_every_damaged_record_is_named(refused, outputs, name, kind):
    for folder in of_seed(outputs):
        DAMAGES[kind](folder)
    before = sorted(outputs.rglob("*"))
    said = refused(name, *CHOSEN, f"paths.outputs={outputs}")
    assert all(str(folder) in said for folder in [*outputs.rglob("seed=0")])
    assert sorted(outputs.rglob("*")) == before


@pytest.mark.parametrize("content", [None, b"", b"epoch\n", b"a,b\n1,2\n", b"\xff"])
def test_a_damaged_curve(refused, outputs, content):
    folder = of_seed(outputs)[0]
    (folder / records.CURVE).unlink() if content is None else (folder / records.CURVE).write_bytes(content)
    assert f"{folder}" in refused("traces", f"folder={folder}")


@pytest.mark.parametrize("name", [records.BEST, records.PREDICTIONS, records.CURVE])
def test_a_script_that_loads_models_names_every_damaged_file(refused, outputs, name):
    for folder in of_seed(outputs):
        (folder / name).write_bytes(b"garbage")
    said = refused("study", "study=explanation", *CHOSEN, f"paths.outputs={outputs}")
    assert all(str(folder / name) in said for folder in of_seed(outputs))


def test_an_error_that_is_no_text_does_not_hide_a_table(scripts, outputs, capsys):
    folder = of_seed(outputs)[0]
    (folder / records.METRICS).unlink()
    (folder / records.ERROR).write_bytes(b"Traceback\nValueError: \xff\xfe")
    with exit_on_error():
        scripts["table"].main([*CHOSEN, f"paths.outputs={outputs}"])
    assert "# Colombo et al., EMNLP 2021, Table 1" in capsys.readouterr().out


@pytest.mark.parametrize("make", ["a folder", "a loop"])
def test_what_is_no_record_counts_as_not_finished(scripts, outputs, capsys, make):
    path = of_seed(outputs)[0] / records.METRICS
    path.unlink()
    path.mkdir() if make == "a folder" else path.symlink_to(path)
    with exit_on_error():
        scripts["table"].main([*CHOSEN, f"paths.outputs={outputs}"])
    assert "# Colombo et al., EMNLP 2021, Table 1" in capsys.readouterr().out


# ---- the system

REFUSALS = {
    errno.ENOSPC: "needs space on its disk, but none is left; free some",
    errno.EBADF: "the system says",
}


@pytest.mark.parametrize(
    ("name", "number"),
    [("table", errno.ENOSPC), ("table", errno.EBADF), *((n, errno.ENOSPC) for n in ("grid", "traces", "report"))],
)
def test_a_disk_that_refuses(refused, outputs, monkeypatch, name, number):
    """What is said goes by the number (all of them: test_boundary.py), and what is left behind by the command."""

    def fail(source, target):
        raise OSError(number, os.strerror(number))  # without a name, as of a full disk

    monkeypatch.setattr(os, "replace", fail)
    said = refused(name, *CHOSEN, f"paths.outputs={outputs}")
    assert REFUSALS[number] in said
    assert any(str(outputs) in line.split(" ")[0] for line in said.splitlines())  # a study's bar of progress is above
    assert not list(outputs.rglob(".*"))


@pytest.mark.parametrize("name", ["table", "grid", pytest.param("traces", marks=pytest.mark.slow), "report"])
def test_a_file_for_a_folder(refused, outputs, name):
    shutil.rmtree(outputs.parent / "elsewhere", ignore_errors=True)
    folder = outputs / "mdm" / "table1"
    kept = outputs / "kept"
    folder.rename(kept)
    folder.write_text("")
    said = refused(name, *CHOSEN, f"paths.outputs={outputs}")
    assert str(folder) in said or "has none" in said


TRIED = """
import contextlib, io, json, runpy, sys

for arguments in json.loads(sys.argv[1]):
    sys.argv = ["train.py", *arguments]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            runpy.run_path("train.py", run_name="__main__")
            status = 0
        except SystemExit as ended:
            status = ended.code
    print(json.dumps([status, out.getvalue(), err.getvalue()]), flush=True)
"""


def test_train_refuses_in_one_message(tmp_path):
    """Hydra's own, ours, and the system's, through the real command; one process for all, for torch takes seconds to import."""
    (tmp_path / "file").touch()
    outputs = f"paths.outputs={tmp_path}/outputs"
    cases = {
        "Key 'epochs' is not in struct": ["trainer.epochs=3", outputs],
        "must lie in a folder, but there is a file in its place": [f"paths.outputs={tmp_path}/file/x", *SMALL],
        "One experiment is run at a time": ["-m", "experiment=mdm/table1,mdm/table2", outputs],
        "Seeds are whole numbers, got seed=a,b; use seed='range(10)', say.": ["-m", "seed=a,b", outputs],
        "table.test: expected one of crossed, mann_whitney": ["-m", "experiment=mdm/table1", "table.test=welch", outputs],
        "mdm/table1 is many runs: mdm train -m experiment=mdm/table1": ["experiment=mdm/table1", outputs],
    }
    command = [sys.executable, "-c", TRIED, json.dumps(list(cases.values()))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    tried = [json.loads(line) for line in done.stdout.splitlines()]
    for message, (status, out, err) in zip(cases, tried, strict=True):
        assert (status, out) == (2, ""), err
        assert message in err
        assert err.endswith("(HYDRA_FULL_ERROR=1 shows where.)\n")
        assert len(err.splitlines()) == 2
    assert not (tmp_path / "outputs").exists()
