"""Files that are not what a person takes them for: one message each, exit code 2, and nothing at ``out``.

Files made to do harm are in test_hostile_pickles.py and test_hostile_arrays.py; what each reader says of its own form is in the
tests of that reader.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from formats.sources import GOOD, Absent, dump, mag_item, mird_fold, mmsa_fold, read_refusal, three, write_sources

from mdm.commands.prepare import main
from mdm.data.store import open_store


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_sources()
    return tmp_path


WHERE = "source=data.pkl"
FILES: dict[str, tuple[str, Callable[[], Any], str]] = {
    # texts, ids and labels of another kind
    "raw_text None": ("mird", lambda: dump(three(mird_fold(raw_text=[None]))), "raw_text must be a text, but is None"),
    "raw_text NaN": ("mird", lambda: dump(three(mird_fold(raw_text=[float("nan")]))), "raw_text must be a text, but is nan"),
    "raw_text numbers": ("mird", lambda: dump(three(mird_fold(raw_text=np.ones(1)))), "raw_text must be a text, but is"),
    "raw_text of no UTF-8": ("mird", lambda: dump(three(mird_fold(raw_text=[b"\xff\xfe"]))), "raw_text must be a text, but is b"),
    "raw_text a list": ("mird", lambda: dump(three(mird_fold(raw_text=[["it", "was"]]))), "raw_text must be a text, but is"),
    "raw_text one text": ("mird", lambda: dump(three(mird_fold(raw_text="x"))), "'raw_text' must have one entry per segment"),
    "raw_text half a character": (
        "mird",
        lambda: dump(three(mird_fold(raw_text=["\ud800"]))),
        r"words must be of whole characters, but '.ud800' is not",
    ),
    "raw_text None in mmsa": ("mmsa", lambda: dump(three(mmsa_fold(raw_text=[None]))), "raw_text must be a text, but is None"),
    "id None": ("mmsa", lambda: dump(three(mmsa_fold(id=[None]))), "its id must be a text, but is None"),
    "id empty": ("mmsa", lambda: dump(three(mmsa_fold(id=[""]))), "its id must be a text, but is ''"),
    "id NaN": ("mmsa", lambda: dump(three(mmsa_fold(id=[float("nan")]))), "its id must be a text, but is nan"),
    "id a dictionary": ("mmsa", lambda: dump(three(mmsa_fold(id=[{}]))), "its id must be a text"),
    "id of no UTF-8": ("mmsa", lambda: dump(three(mmsa_fold(id=[b"\xff"]))), "its id must be a text"),
    "id leads out": ("mmsa", lambda: dump(three(mmsa_fold(id=["../../x_1"]))), "segment ids must have|ids must be unique"),
    "id twice": ("mmsa", lambda: dump(three(mmsa_fold(id=["x"]))), "segment ids must be unique, but 1 occur"),
    "id with a separator": (
        "mag",
        lambda: dump({f: [mag_item(f"{f}/x")] for f in ("train", "dev", "test")}),
        "segment ids must have",
    ),
    "id with a line": ("mag", lambda: dump({f: [mag_item(f"{f}\n")] for f in ("train", "dev", "test")}), "segment ids must have"),
    "id with a zero": ("mag", lambda: dump({f: [mag_item(f"{f}\0")] for f in ("train", "dev", "test")}), "segment ids must have"),
    "id two dots": ("mag", lambda: dump({f: [mag_item("..")] for f in ("train", "dev", "test")}), "ids must"),
    "id too long": ("mag", lambda: dump({f: [mag_item(f"{f}" * 99)] for f in ("train", "dev", "test")}), "1 to 200 bytes"),
    "label a text": ("mird", lambda: dump(three(mird_fold(labels=["1.5"]))), "label must be a number or one row of numbers"),
    "label an array of texts": ("mird", lambda: dump(three(mird_fold(labels=np.array(["1.5"])))), "label must be a number"),
    "label None": ("mird", lambda: dump(three(mird_fold(labels=[None]))), "label must be a number"),
    "label complex": ("mird", lambda: dump(three(mird_fold(labels=[1 + 2j]))), "label must be a number"),
    "label NaN": ("mird", lambda: dump(three(mird_fold(labels=[float("nan")]))), "at least one segment, but train has none"),
    "label infinite": ("mird", lambda: dump(three(mird_fold(labels=[float("inf")]))), "labels must be finite"),
    "label 1e300": ("mird", lambda: dump(three(mird_fold(labels=[1e300]))), "labels must be finite"),
    "label a dictionary": ("mird", lambda: dump(three(mird_fold(labels=[{}]))), "label must be a number"),
    "labels a dictionary": (
        "mird",
        lambda: dump(three(mird_fold(labels={0: 1.0}))),
        "'labels' must have one entry per segment, but has dict",
    ),
    "labels a number": ("mird", lambda: dump(three(mird_fold(labels=np.array(1.0)))), "'labels' must have one entry per segment"),
    "labels absent": ("mird", lambda: dump(three(mird_fold(labels=Absent))), "must have a column 'labels'"),
    # lengths
    "length -1": (
        "mmsa",
        lambda: dump(three(mmsa_fold(audio_lengths=[-1]))),
        r"audio_lengths must be a whole number from 0 to .*\(7\)",
    ),
    "length 8 of 7": ("mmsa", lambda: dump(three(mmsa_fold(audio_lengths=[8]))), r"audio_lengths must be .*\(7\), but is 8"),
    "length 1.5": ("mmsa", lambda: dump(three(mmsa_fold(vision_lengths=[1.5]))), "vision_lengths must be a whole number"),
    "length NaN": ("mmsa", lambda: dump(three(mmsa_fold(audio_lengths=[float("nan")]))), "audio_lengths must be a whole number"),
    "length None": ("mmsa", lambda: dump(three(mmsa_fold(audio_lengths=[None]))), "audio_lengths must be a whole number"),
    "length a text": ("mmsa", lambda: dump(three(mmsa_fold(audio_lengths=["4"]))), "audio_lengths must be a whole number"),
    "length a bool": ("mmsa", lambda: dump(three(mmsa_fold(audio_lengths=[True]))), "audio_lengths must be a whole number"),
    "length infinite": (
        "mmsa",
        lambda: dump(three(mmsa_fold(audio_lengths=[float("inf")]))),
        "audio_lengths must be a whole number",
    ),
    "length 10^30": ("mmsa", lambda: dump(three(mmsa_fold(audio_lengths=[10**30]))), "audio_lengths must be a whole number"),
    "text_bert fractions": (
        "mmsa",
        lambda: dump(three(mmsa_fold(text_bert=np.full((1, 3, 5), 0.5)))),
        "text_bert must be whole numbers from 0",
    ),
    "text_bert negative": (
        "mmsa",
        lambda: dump(three(mmsa_fold(text_bert=-np.ones((1, 3, 5))))),
        "text_bert must be whole numbers",
    ),
    "text_bert 1e30": (
        "mmsa",
        lambda: dump(three(mmsa_fold(text_bert=np.full((1, 3, 5), 1e30)))),
        "text_bert must be whole numbers",
    ),
    "text_bert NaN": ("mmsa", lambda: dump(three(mmsa_fold(text_bert=np.full((1, 3, 5), np.nan)))), "text_bert must be whole"),
    # features
    "audio of texts": ("mird", lambda: dump(three(mird_fold(audio=[[["1.5", "2"]]]))), r"audio must be numbers \[time, dim\]"),
    "audio of None": ("mird", lambda: dump(three(mird_fold(audio=[[[None, 2.0]]]))), r"audio must be numbers \[time, dim\]"),
    "audio complex": (
        "mird",
        lambda: dump(three(mird_fold(audio=np.ones((1, 3, 2)) * 1j))),
        r"audio must be numbers \[time, dim\]",
    ),
    "audio ragged": ("mird", lambda: dump(three(mird_fold(audio=[[[1.0], [1.0, 2.0]]]))), "audio must be numbers"),
    "audio all NaN": ("mird", lambda: dump(three(mird_fold(audio=np.full((1, 3, 2), np.nan)))), "must hold finite values"),
    "audio all zeros": (
        "mird",
        lambda: dump(three(mird_fold(audio=np.zeros((1, 3, 2))))),
        "audio must have a step in at least one",
    ),
    "audio a dictionary": ("mird", lambda: dump(three(mird_fold(audio={0: 1}))), "'audio' must have one entry"),
    "words numbers": (
        "mag",
        lambda: dump({f: [mag_item(f, words=[1, 2])] for f in ("train", "dev", "test")}),
        "words must be a list of words",
    ),
    # folds and the file as a whole
    "no folds": ("mird", lambda: dump({}), "exactly three folds"),
    "folds of numbers": ("mird", lambda: dump({0: 1, 1: 2, 2: 3}), "exactly three folds"),
    "a thousand folds": ("mird", lambda: dump(dict.fromkeys(range(1000))), "exactly three folds"),
    "a list": ("mird", lambda: dump([1]), "exactly three folds"),
    "a fold None": ("mird", lambda: dump(dict.fromkeys(("train", "valid", "test"))), "must be a dictionary of columns"),
    "an empty fold": ("mird", lambda: dump(three(mird_fold()) | {"test": mird_fold(labels=[], raw_text=[])}), "test"),
    "a fold of another format": ("mag", lambda: dump(three(mird_fold())), "each fold must be a list of segments"),
    "not a pickle": ("mird", lambda: Path("data.pkl").write_text("id,label\n"), "must be a complete pickle"),
    "half a pickle": (
        "mird",
        lambda: Path("data.pkl").write_bytes(Path("mird.pkl").read_bytes()[:-40]),
        "must be a complete pickle",
    ),
    "no bytes": ("mird", lambda: Path("data.pkl").write_bytes(b""), "must be a complete pickle"),
    "a pipe": ("mird", lambda: os.mkfifo("data.pkl"), "is no regular file"),
    "a broken link": ("mird", lambda: os.symlink("nowhere", "data.pkl"), "nothing is there"),
    "a link to itself": ("mird", lambda: os.symlink("data.pkl", "data.pkl"), "cannot be reached"),
    "a folder for a fold": ("mag", lambda: [os.makedirs(f"data.pkl/{f}.pkl") for f in ("train", "dev", "test")], "three folds"),
    # folders of files
    "a pipe for labels": ("h5", lambda: (os.unlink("h5/y_test.h5"), os.mkfifo("h5/y_test.h5")), "y_test.h5 is no regular file"),
    "a folder for labels": ("h5", lambda: (os.unlink("h5/y_test.h5"), os.mkdir("h5/y_test.h5")), "y_test.h5 is a folder"),
    "an empty HDF5 file": ("h5", lambda: Path("h5/y_test.h5").write_bytes(b""), r"y_test\.h5 must be an HDF5 file"),
    "half an HDF5 file": (
        "h5",
        lambda: Path("h5/y_test.h5").write_bytes(Path("h5/y_test.h5").read_bytes()[:1000]),
        r"y_test\.h5 must be an HDF5 file",
    ),
    "a pipe for words": ("csd", lambda: os.mkfifo("csd/Y_FacetX.csd"), r"Y_FacetX\.csd is no regular file"),
    "a broken link for video": ("csd", lambda: os.symlink("nowhere", "csd/Y_FacetX.csd"), r"Y_FacetX\.csd, but nothing is there"),
    "an empty .csd": ("csd", lambda: Path("csd/X_COVAREP.csd").write_bytes(b""), r"X_COVAREP\.csd must be an HDF5 file"),
    "folds no JSON": ("csd", lambda: Path("csd/folds.json").write_text("{"), r"folds\.json must be JSON"),
    "folds no UTF-8": ("csd", lambda: Path("csd/folds.json").write_bytes(b"\xff\xfe{}"), r"folds\.json must be JSON"),
    "folds too deep": ("csd", lambda: Path("csd/folds.json").write_text("[" * 10**5), r"folds\.json must be JSON"),
    "folds a list": ("csd", lambda: Path("csd/folds.json").write_text("[]"), "exactly three folds"),
    "folds of lists of numbers": (
        "csd",
        lambda: Path("csd/folds.json").write_text('{"train":[1],"dev":[2],"test":[3]}'),
        "list of video names",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_bad_files(here: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    good, write, message = FILES[case]
    write()
    changed = [WHERE] if os.path.lexists("data.pkl") else []
    told = read_refusal([*GOOD[good], *changed], capsys)
    assert pytest.raises(ValueError, match=message).matches(ValueError(told)), told


def test_a_value_that_flattens_its_column_is_named(
    here: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    audio = np.random.default_rng(0).normal(size=(1, 500, 3))
    audio[0, 7, 1] = 1e30
    audio[0, 9, 2] = -1e5  # large, and not beyond what a column may hold
    dump({fold: mird_fold(audio=audio) for fold in ("train", "valid", "test")}, "mird.pkl")
    assert main(GOOD["mird"]) == 0
    assert open_store("out/store").source["extreme"] == {"audio": {"1": 3}}
    assert "mird: audio has 3 values more than 1e+06 times the usual size of their column (columns 1)" in caplog.text
    assert "extreme" in capsys.readouterr().out
