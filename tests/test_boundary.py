"""Every kind of error is one message and a status; those of our own are said to be ours."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from omegaconf import OmegaConf
from yaml import safe_load

from mdm import boundary
from mdm.boundary import describe_error, exit_on_error, explain_error, join_errors
from mdm.runs.records import read_record, write_atomically

ROOT = Path(__file__).resolve().parents[1]


def run_and_read(work, capsys):
    """Status and stderr."""
    with pytest.raises(SystemExit) as raised, exit_on_error():
        work()
    return raised.value.code, capsys.readouterr().err


def test_a_refusal_is_said_as_it_is(tmp_path, capsys):
    status, err = run_and_read(lambda: read_record(tmp_path), capsys)
    assert (status, err.splitlines()[1:]) == (2, ["(HYDRA_FULL_ERROR=1 shows where.)"])
    assert err.startswith("A finished run has a metrics.json, but")


def test_a_refusal_in_a_worker(tmp_path, capsys):
    work = joblib.Parallel(n_jobs=2)
    status, err = run_and_read(lambda: work([joblib.delayed(read_record)(tmp_path)] * 2), capsys)
    assert status == 2
    assert err.startswith("A finished run has a metrics.json, but")


def test_what_nobody_foresaw_is_our_mistake(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "replace", lambda source, target: {}["missing"])
    status, err = run_and_read(lambda: write_atomically(tmp_path / "a", "text"), capsys)
    assert status == 70
    assert err.startswith("This is a mistake in mdm, not yours: KeyError: 'missing' (mdm/runs/records.py:")
    assert err.splitlines()[1:] == ["(HYDRA_FULL_ERROR=1 shows all of it.)"]


@pytest.mark.parametrize("error", [KeyError("a"), AssertionError(), TypeError("b"), RecursionError(), NotImplementedError()])
def test_mistakes_are_not_hidden(error):
    text, status = describe_error(error)
    assert status == 70
    assert type(error).__name__ in text


def test_an_error_of_a_library_is_no_message_of_ours(capsys):
    """NumPy's words on shapes tell nobody which key to set."""
    status, err = run_and_read(lambda: np.zeros(2) + np.zeros(3), capsys)
    assert status == 70
    assert "ValueError: operands could not be broadcast" in err


def test_all_is_shown_if_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(boundary, "FULL", True)
    with pytest.raises(KeyError), exit_on_error():
        raise KeyError("a")


def test_an_interruption(capsys):
    def work():
        raise KeyboardInterrupt

    assert run_and_read(work, capsys) == (130, "Interrupted. What was finished is kept; the same command goes on from there.\n")


def test_a_status_passes():
    with pytest.raises(SystemExit) as raised, exit_on_error():
        sys.exit(3)
    assert raised.value.code == 3


@pytest.mark.parametrize("number", sorted(boundary.SYSTEM))
def test_errors_of_the_system_name_the_path_and_what_to_do(number):
    said = explain_error(OSError(number, os.strerror(number), "/some/file"))
    assert said.startswith("/some/file ")
    assert said.endswith(", and give the command again.")


def test_a_full_disk_is_named_by_what_was_written(tmp_path, monkeypatch, capsys):
    """The system does not say which file a write was for."""

    def full(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    status, err = run_and_read(lambda: write_atomically(tmp_path / "table.md", "text"), capsys)
    assert status == 2
    assert err.startswith(f"{tmp_path}/table.md needs space on its disk, but none is left; free some")


def test_a_checkpoint_on_a_full_disk():
    """torch.save says where it is in the archive, not that the disk is full."""
    said = explain_error(RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 16704 vs 16592"))
    assert said.startswith("A checkpoint needs space on its disk, but none is left")


def test_memory_and_yaml(capsys):
    assert "needs more memory than there is; use smaller batches" in explain_error(MemoryError())
    status, err = run_and_read(lambda: safe_load("a: [1"), capsys)
    assert status == 2
    assert err.startswith("A YAML file must be well formed")
    assert "Key 'b' is not in struct" in run_and_read(lambda: OmegaConf.update(struct(), "b", 1), capsys)[1]


def struct():
    config = OmegaConf.create({"a": 1})
    OmegaConf.set_struct(config, True)
    return config


def raise_from_ours(text):
    read_record(f"/nothing{text}")


def test_control_characters_are_spelled_out(capsys):
    _, err = run_and_read(lambda: raise_from_ours("\x1b[2J"), capsys)
    assert "\x1b" not in err
    assert "\\x1b[2J" in err


def test_several_are_counted_after_a_few():
    assert join_errors(["a", "b"]) == "a\nb"
    assert join_errors(list("abcdefg")).splitlines()[-1] == "… and 2 more like these; `mdm verify` lists them."


@pytest.mark.parametrize(
    ("shell", "status", "said"),
    [("| head -c 1", 141, ""), ("> /dev/full", 2, "A file needs space on its disk, but none is left")],
)
def test_a_reader_that_goes_and_a_full_target(shell, status, said):
    code = "from mdm.boundary import exit_on_error\nwith exit_on_error():\n    print('x' * 10**6)"
    command = f'set -o pipefail; "{sys.executable}" -c "{code}" {shell}'
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert done.stderr.startswith(said)
    assert len(done.stderr.splitlines()) == (2 if said else 0)


def test_of_the_plugins_of_hydra_only_ours_are_ours():
    """Installed, this package lies beside all others."""
    for name, ours in (
        ("mdm/run.py", True),
        ("hydra_plugins/mdm_sweeper.py", True),
        ("hydra_plugins/hydra_joblib_launcher/joblib_launcher.py", False),
        ("torch/nn.py", False),
    ):
        assert boundary.is_ours(str(boundary.ROOT / name)) is ours
    assert not boundary.is_ours("/mdm/run.py")
