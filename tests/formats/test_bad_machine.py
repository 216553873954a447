"""What a machine may do to `mdm prepare`: a disk that is full or fails, too little memory, an interruption."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from formats.sources import GOOD, dump, mird_fold, read_refusal, three, write_sources

from mdm.commands.prepare import main
from mdm.data.store import open_store
from mdm.data.writing import write_store


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_sources()
    return tmp_path


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("function", ["numpy.save", "numpy.savez", "os.mkdir", "os.rename", "pathlib.Path.write_text"])
def test_a_disk_that_fails(
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    function: str,
) -> None:
    def fail(*arguments: Any, **others: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(function, fail)
    told = read_refusal(GOOD["mird"], capsys)
    assert f"out/store: the store must be written there, but cannot be ({os.strerror(number)}), and nothing was left" in told
    assert not Path("out").exists() or not list(Path("out").iterdir())


def test_a_disk_that_is_really_full(here: Path) -> None:
    """No file may grow beyond 4 kB: what is written is cut off in the middle, as on a full disk."""
    code = (
        "import resource, signal, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); signal.signal(signal.SIGXFSZ, "
        "signal.SIG_IGN); from mdm.commands.prepare import main; sys.exit(main(sys.argv[1:]))"
    )
    dump(three(mird_fold(audio=np.ones((1, 4000, 2)))), "mird.pkl")  # one segment in three folds, which is warned of
    command = [sys.executable, "-c", code, *GOOD["mird"]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 2), done.stderr
    assert "out/store: the store must be written there, but cannot be" in done.stderr
    assert not (here / "out").exists()


def test_a_source_that_may_not_be_read(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, *arguments: Any, **others: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "open", fail)
    told = read_refusal(GOOD["mird"], capsys)
    assert "format=mird: mird.pkl must be readable, but is not (Permission denied); look at its permissions" in told


def test_too_little_memory(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **others: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("mdm.formats.mird.first_label", fail)
    assert "must fit into memory, but do not" in read_refusal(GOOD["mird"], capsys)


def test_ctrl_c_leaves_nothing(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: Any, **others: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupt)
    assert main(GOOD["mird"]) == 130
    assert capsys.readouterr().err == "Interrupted; nothing was written.\n"
    assert not Path("out").exists()


def test_an_interruption_between_the_two_renames_leaves_the_old_store(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mdm.formats.mird import read_mird

    store = write_store(read_mird("mird.pkl"), "out/store")
    before = open_store(store).card_hash
    rename = Path.rename

    def interrupt(self: Path, target: Path) -> Path:
        if self.name == "partial":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_store(read_mird("mird.pkl", name="other"), store, overwrite=True)
    assert open_store(store).card_hash == before
    assert [path.name for path in Path("out").iterdir()] == ["store"]
