"""Fetching through the SDK, which is played here by a module that writes the files it is asked for."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from mdm.formats.download import download
from mdm.formats.prepare import prepare

URL = "http://server/CMU-MOSI/"


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Installs the stand-in; returns the list of links that it fetched."""
    fetched: list[str] = []

    def mmdataset(recipe: dict[str, str], destination: str) -> None:
        for link in recipe.values():
            (Path(destination) / link.rsplit("/", 1)[-1]).write_text("half")
            if "broken" in link:
                raise RuntimeError("no answer")
            fetched.append(link)

    folds = SimpleNamespace(standard_train_fold=["a"], standard_valid_fold=["b"], standard_test_fold=["c"])
    module: Any = ModuleType("mmsdk.mmdatasdk")
    module.mmdataset = mmdataset
    module.cmu_mosi = SimpleNamespace(
        labels={"Opinion Segment Labels": URL + "Labels.csd"},
        raw={"words": URL + "Words.csd", "phonemes": URL + "Phones.csd"},
        highlevel={"COVAREP": URL + "COVAREP.csd", "FACET_4.1": URL + "Facet_41.csd", "OpenFace_1": URL + "OpenFace_1.csd"},
        standard_folds=folds,
    )
    monkeypatch.setitem(sys.modules, "mmsdk", ModuleType("mmsdk"))
    monkeypatch.setitem(sys.modules, "mmsdk.mmdatasdk", module)
    return fetched


def test_the_usual_sequences_and_folds_are_fetched_once(sdk: list[str], tmp_path: Path) -> None:
    files = download("cmu_mosi", tmp_path / "new")
    assert [path.name for path in files] == [
        "COVAREP.csd",
        "Facet_41.csd",
        "Labels.csd",
        "Words.csd",
        "cmu_mosi_standard_folds.json",
    ]
    assert json.loads(files[-1].read_text()) == {"train": ["a"], "valid": ["b"], "test": ["c"]}
    assert len(sdk) == 4
    download("cmu_mosi", tmp_path / "new")
    assert len(sdk) == 4


def test_a_broken_transfer_leaves_no_half_file(sdk: list[str], tmp_path: Path) -> None:
    sys.modules["mmsdk.mmdatasdk"].cmu_mosi.raw["words"] = URL + "broken.csd"
    with pytest.raises(
        ValueError, match=r"download of cmu_mosi into .* must reach the SDK's server, but failed \(no answer\); try again"
    ):
        download("cmu_mosi", tmp_path)
    assert not (tmp_path / "broken.csd").exists()


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (SystemExit(1), "1"),
        (KeyError("words"), "words"),
        (AttributeError("no such attribute"), "no such attribute"),
        (ConnectionError(), "ConnectionError"),
    ],
)
def test_whatever_the_sdk_raises_is_one_message(
    sdk: list[str], tmp_path: Path, failure: BaseException, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(recipe: dict[str, str], destination: str) -> None:
        raise failure

    monkeypatch.setattr(sys.modules["mmsdk.mmdatasdk"], "mmdataset", fail)
    with pytest.raises(ValueError, match=rf"download of cmu_mosi into .*new must reach .*failed \(.*{told}.*\); try again"):
        download("cmu_mosi", tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_recipe_of_another_release_and_a_folder_that_is_a_file(sdk: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"download of cmu_mosi into .*file must reach .*File exists"):
        download("cmu_mosi", tmp_path / "file")
    del sys.modules["mmsdk.mmdatasdk"].cmu_mosi
    with pytest.raises(ValueError, match=r"download of cmu_mosi .*failed \(.*cmu_mosi.*\)"):
        download("cmu_mosi", tmp_path / "new")


def test_without_the_sdk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "mmsdk", None)
    with pytest.raises(ValueError, match=r"needs the CMU-MultimodalSDK \(mmsdk\), but it is not installed; install it from"):
        prepare("csd", tmp_path / "new", tmp_path / "store", download="cmu_mosi")
    with pytest.raises(ValueError, match="download must be one of cmu_mosi, cmu_mosei, but is 'pom'"):
        download("pom", tmp_path)
    with pytest.raises(ValueError, match=r"download fetches \.csd files, but format is mag; pass format=csd"):
        prepare("mag", tmp_path, tmp_path / "store", download="cmu_mosi")
