"""From the command line to a store: names of formats and options, exit codes, and nothing half written."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from mdm.data.store import open_store
from mdm.formats.prepare import card_view, formats, help_text, prepare

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def mird(tmp_path: Path) -> Path:
    def fold(text: str) -> dict[str, Any]:
        return columns | {"raw_text": [text]}

    columns = {
        "audio": np.full((1, 3, 2), [1.0, np.nan]),
        "video": np.ones((1, 4, 1)),
        "labels": np.array([1.5]),
    }
    path = tmp_path / "mosi.pkl"
    path.write_bytes(pickle.dumps({name: fold(f"it was {name}") for name in ("train", "valid", "test")}))
    return path


def script(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "prepare.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_formats_are_found_by_walking_the_package() -> None:
    found = formats()
    assert {"csd", "lmf", "mag", "mfn_h5", "mird", "misa", "mmim", "mmsa", "mult", "svhn_mnist", "table", "ur_funny"} == set(found)
    for name, reader in found.items():
        assert reader.__module__ == f"mdm.formats.{name}"
        assert f"\n  {name}\n" in "\n" + help_text()


def test_names_that_are_unknown(mird: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"format must be one of csd, lmf, mag, .*, ur_funny, but is 'npz'"):
        prepare("npz", mird, tmp_path / "store")
    with pytest.raises(ValueError, match="format=mird has the options label_range, clip_labels, but lable_range came; correct"):
        prepare("mird", mird, tmp_path / "store", options={"lable_range": [0, 1]})
    assert not (tmp_path / "store").exists()


def test_a_store_is_not_replaced_silently(mird: Path, tmp_path: Path) -> None:
    assert prepare("mird", mird, tmp_path / "store").name == "mosi"
    with pytest.raises(ValueError, match=r"must not replace another silently, but .*store exists; .*overwrite=true"):
        prepare("mird", mird, tmp_path / "store")
    assert prepare("mird", mird, tmp_path / "store", overwrite=True, name="again").name == "again"
    assert open_store(tmp_path / "store").name == "again"


@pytest.mark.parametrize("stop", ["read", "words", "audio", "segments", "manifest"])
@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_nothing_half_written(mird: Path, tmp_path: Path, stop: str, kind: type[BaseException]) -> None:
    def progress(step: str) -> None:
        if step == stop:
            raise kind

    out = tmp_path / "stores" / "mosi"
    with pytest.raises(kind):
        prepare("mird", mird, out, progress=progress)
    assert not out.exists()
    assert not out.parent.exists() or not list(out.parent.iterdir())


def test_the_card_shows_what_a_reader_must_know(mird: Path, tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=120)
    console.print(card_view(prepare("mird", mird, tmp_path / "store").card))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "3 (train 1, valid 1, test 1, in no fold 0)" in shown
    assert "sentiment; declared [-3.0, 3.0], observed [1.5, 1.5]" in shown
    row = next(line for line in shown.splitlines() if "audio" in line and "vectors" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["audio", "vectors", "2", "3", "0, 0, 0", "3, 3, 3", "9"]
    assert "mosi.pkl" in shown
    assert "sha256" in shown


def test_script(mird: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    store = tmp_path / "store"
    done = script("format=mird", f"source={mird}", f"out={store}", "name=tiny", "options.label_range=[-2,2]", cwd=here)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Data card: tiny" in done.stdout
    assert open_store(store).label_range == (-2.0, 2.0)
    assert list(here.iterdir()) == []  # no folder of its own, wherever it is called


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["format=npz", "source=a", "out=b"], "format must be one of csd, lmf, mag"),
        (["format=mag", "source=nowhere.pkl", "out=b"], "nothing is there"),
        (["format=mag"], "format, source and out must be given, but source, out is not; see --help."),
        (["formt=mag"], "Arguments must be key=value with keys of configs/prepare.yaml (format, profile, source, out, name"),
        (["options.label_range=[1"], "Arguments must be key=value"),
        (
            ["format=mird", "source=mosi.pkl", "out=b", "options.label_range=3"],
            "label_range must be a list, each entry a number, but is 3",
        ),
        (["format=csd", "source=.", "out=b", "options.labels=null"], "option labels must be a text or a mapping, but is None"),
    ],
)
def test_script_tells_mistakes_in_a_line(mird: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    done = script(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "b").exists()


def test_help_is_quick_and_lists_formats(tmp_path: Path) -> None:
    script("--help", cwd=tmp_path)  # compiles
    start = time.perf_counter()
    done = script("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert time.perf_counter() - start < 3  # below a second on an idle machine
    for name in formats():
        assert f"\n  {name}\n" in done.stdout
