"""Good sources of most formats, and the message with which `mdm prepare` refuses others."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mdm.commands.prepare import main


def mird_fold(**changes: Any) -> dict[str, Any]:
    fold = {"raw_text": ["it was"], "audio": np.ones((1, 3, 2)), "video": np.ones((1, 4, 1)), "labels": np.array([1.5])}
    return {key: value for key, value in (fold | changes).items() if value is not Absent}


class Absent:
    """Stands for a column that is left out."""


def mmsa_fold(video: str = "v", **changes: Any) -> dict[str, Any]:
    fold = {
        "raw_text": ["so fine"],
        "id": [f"{video}$_$3"],
        "audio": np.ones((1, 7, 1)),
        "vision": np.ones((1, 5, 1)),
        "audio_lengths": [4],
        "vision_lengths": [1],
        "regression_labels": np.array([0.5]),
    }
    return {key: value for key, value in (fold | changes).items() if value is not Absent}


def mag_item(segment: Any, label: Any = 1.0, words: Any = ("a", "b")) -> Any:
    return ((list(words), np.ones((2, 2)), np.ones((2, 1))), label, segment)


def dump(content: Any, file: str = "data.pkl") -> Path:
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return path


def write_sources() -> None:
    """A good source of most formats in this folder: mird.pkl, mmsa.pkl, mag.pkl, csd/, h5/."""
    dump({fold: mird_fold() for fold in ("train", "valid", "test")}, "mird.pkl")
    dump({fold: mmsa_fold(fold) for fold in ("train", "valid", "test")}, "mmsa.pkl")
    dump({fold: [mag_item(f"{fold}[0]")] for fold in ("train", "dev", "test")}, "mag.pkl")
    os.mkdir("csd")
    for file, rows in (("X_Labels", [[1.0]]), ("X_COVAREP", [[2.0, 3.0]]), ("X_TimestampedWords", [[b"hi"]])):
        with h5py.File(f"csd/{file}.csd", "w") as written:
            for video in "vwx":
                written[f"root/data/{video}/features"] = np.array(rows)
                written[f"root/data/{video}/intervals"] = np.array([[0.0, 1.0]])
    Path("csd/folds.json").write_text(json.dumps({"train": ["v"], "dev": ["w"], "test": ["x"]}))
    os.mkdir("h5")
    for fold in ("train", "valid", "test"):
        for file, array in (("audio", np.ones((2, 5, 1))), ("video", np.ones((2, 5, 1))), ("y", np.array([1.0, 2.5]))):
            with h5py.File(f"h5/{file}_{fold}.h5", "w") as written:
                written["d"] = array


GOOD = {
    "mird": ["format=mird", "source=mird.pkl", "out=out/store"],
    "mmsa": ["format=mmsa", "source=mmsa.pkl", "out=out/store"],
    "mag": ["format=mag", "source=mag.pkl", "out=out/store"],
    "csd": ["format=csd", "source=csd", "out=out/store"],
    "h5": ["format=mfn_h5", "source=h5", "out=out/store", "options.label_range=[-3,3]"],
}


def read_refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The message of a refusal; one argument replaces another of its key."""
    merged = {argument.partition("=")[0]: argument for argument in arguments if "=" in argument}
    code = main([*merged.values(), *(argument for argument in arguments if "=" not in argument)])
    written = capsys.readouterr()
    assert (code, written.out) == (2, "")
    assert "Traceback" not in written.err
    assert written.err.count("\n") == 1, written.err
    assert len(written.err) < 1200
    assert not os.path.lexists("out/store")
    assert not list(Path(".").glob("**/*.writing"))
    return written.err


def three(fold: dict[str, Any]) -> dict[str, Any]:
    return dict.fromkeys(("train", "valid", "test"), fold)
