"""What a person may get wrong with `mdm prepare`: one message each, exit code 2, and nothing at ``out``.

Files made to do harm are in test_hostile.py; what each reader says of its own form is in the tests of that reader.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mdm.commands.prepare import main
from mdm.data.store import open_store
from mdm.data.writing import write_store

ROOT = Path(__file__).resolve().parents[2]


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


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a good source of most formats: mird.pkl, mmsa.pkl, mag.pkl, csd/, h5/."""
    monkeypatch.chdir(tmp_path)
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
    return tmp_path


GOOD = {
    "mird": ["format=mird", "source=mird.pkl", "out=out/store"],
    "mmsa": ["format=mmsa", "source=mmsa.pkl", "out=out/store"],
    "mag": ["format=mag", "source=mag.pkl", "out=out/store"],
    "csd": ["format=csd", "source=csd", "out=out/store"],
    "h5": ["format=mfn_h5", "source=h5", "out=out/store", "options.label_range=[-3,3]"],
}
WHERE = "source=data.pkl"


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


@pytest.mark.parametrize("case", GOOD)
def test_the_good_ones_are_good(here: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    assert main(GOOD[case]) == 0
    assert capsys.readouterr().err == ""
    open_store(here / "out" / "store")


ARGUMENTS: list[tuple[str, list[str], str]] = [
    # settings of the script itself
    ("mird", ["overwrite=abc"], "prepare: option overwrite must be true or false, but is 'abc'"),
    ("mird", ["overwrite=2"], "overwrite must be true or false, but is 2"),
    ("mird", ["overwrite=null"], "overwrite must be true or false, but is None"),
    ("mird", ["overwrite=[true]"], "overwrite must be true or false"),
    ("mird", ["options=abc"], "options|Arguments must be key=value"),
    ("mird", ["options=[1,2]"], "options"),
    ("mird", ["options=3"], "options"),
    ("mird", ["format=null", "source=nowhere"], "What is to be prepared is read from nowhere, but nothing is there"),
    ("mird", ["format=", "profile=nobody"], "profile: expected one of ch_sims, .*, youtube, got 'nobody'; choose one of them"),
    ("mird", ["source="], "must be given, but source is not"),
    ("mird", ["out=null"], "must be given, but out is not"),
    ("mird", ["out=~"], "must be given, but out is not"),
    ("mird", ["format=[mird]"], r"format must be one of .*but is '\[mird\]'"),
    ("mird", ["format=MIRD"], "format must be one of"),
    ("mird", ["format=base"], "format must be one of"),
    ("mird", ["format=../mird"], "format must be one of"),
    ("mird", ["source.x=0"], "Arguments must be key=value .*source has no keys of its own"),
    ("mird", ["format=" + "x" * 5000], "format must be one of"),
    ("mird", ["frmat=mird"], "Arguments must be key=value with keys of configs/prepare.yaml"),
    ("mird", ["mird"], "Arguments must be key=value"),
    ("mird", ["source"], "Each key must be given once, got source twice"),
    ("mird", ["--overwrite"], "Arguments must be key=value"),
    ("mird", ["=x"], "Arguments must be key=value"),
    ("mird", ["options.label_range=[1"], "Arguments must be key=value"),
    ("mird", ["options.label_range={a"], "Arguments must be key=value"),
    ("mird", ["options.x=@y"], "Arguments must be key=value"),
    ("mird", ["options.x=" + "[" * 5000], "Arguments must be key=value"),
    ("mird", ["name=a/b"], "its name must have 1 to 200 bytes without control characters and separators of paths, but 'a/b' came"),
    ("mird", ["name=../up"], "separators of paths"),
    ("mird", ["name=.."], r"'\.\.' came"),
    ("mird", ["name=a\\b"], "separators of paths"),
    ("mird", ["name=a\tb"], "name must be written without control characters"),
    ("mird", ["name=a\0b"], "name must be written without control characters"),
    ("mird", ["name=" + "n" * 300], "1 to 200 bytes"),
    ("mird", ["source=a\0b"], "source must be written without control characters"),
    ("mird", ["out=a\nb"], "out must be written without control characters"),
    ("mird", ["source=nowhere.pkl"], "nothing is there; correct the path"),
    ("mird", ["source=csd"], r"must be a dictionary of exactly three folds"),
    ("mird", ["source=mird.pkl/x"], "is read from mird.pkl/x, but"),
    ("mird", ["source=" + "x" * 300], "cannot be reached"),
    ("mird", ["source=/dev/null"], "is no regular file"),
    ("mird", ["source=/dev/zero"], "is no regular file"),
    ("mird", ["out=mird.pkl"], "must not replace another silently, but mird.pkl exists"),
    ("mird", ["out=mird.pkl", "overwrite=true"], "overwrite=true replaces stores only, but mird.pkl is none"),
    ("mird", ["out=csd", "overwrite=true"], "overwrite=true replaces stores only, but csd is none"),
    ("mird", ["out=mird.pkl/store"], "must lie in a folder that can be written, but .*mird.pkl is no folder"),
    ("mird", ["out=mird.pkl/a/b/store"], "is no folder"),
    ("mird", ["out=/dev/null/store"], "/dev/null is no folder"),
    ("mird", ["out=new/.."], r"out must end in the name of a folder"),
    ("mird", ["out=/"], "out must end in the name of a folder"),
    ("mird", ["out=."], "out must end in the name of a folder|exists"),
    ("mird", ["out=" + "x" * 300], "out must be the path of a folder"),
    ("mird", ["out=/proc/store"], "cannot be|can be written"),
    ("mird", ["download=cmu_mosi"], r"download fetches \.csd files, but format is mird"),
    ("csd", ["download=pom"], "download must be one of cmu_mosi, cmu_mosei, but is 'pom'"),
    ("csd", ["download=true"], "download must be one of"),
    # options that the readers have not got, or of another type
    ("mird", ["options.lable_range=[0,1]"], "has the options label_range, clip_labels, but lable_range came"),
    ("mird", ["options.name=x"], "but name came"),
    ("mird", ["options.source=x"], "but source came"),
    ("csd", ["options.name=x"], "but name came"),
    ("csd", ["options.source=x"], "but source came"),
    ("mird", ["options.label_range=3"], "label_range must be a list, each entry a number, but is 3"),
    ("mird", ["options.label_range=abc"], "label_range must be a list"),
    ("mird", ['options.label_range=""'], "label_range must be a list"),
    ("mird", ["options.label_range=null"], "label_range must be a list"),
    ("mird", ["options.label_range={a: 1}"], "label_range must be a list"),
    ("mird", ["options.label_range=[a,b]"], "label_range must be a list, each entry a number"),
    ("mird", ["options.label_range=[-3,null]"], "label_range must be a list, each entry a number"),
    ("mird", ["options.label_range=[-3,x]"], "each entry a number"),
    ("mird", ["options.label_range=[true,false]"], "each entry a number"),
    ("mird", ["options.label_range=[[0],[1]]"], "each entry a number"),
    ("mird", ["options.label_range=[]"], r"label_range must be \(low, high\)"),
    ("mird", ["options.label_range=[1]"], r"label_range must be \(low, high\)"),
    ("mird", ["options.label_range=[1,2,3]"], r"label_range must be \(low, high\)"),
    ("mird", ["options.label_range=[3,-3]"], "low < high"),
    ("mird", ["options.label_range=[2,2]"], "low < high"),
    ("mird", ["options.label_range=[-1e30,1e30]"], r"within ±1e\+06"),
    ("mird", ["options.label_range=[-3,1e30]"], r"within ±1e\+06"),
    ("mird", ["options.label_range=[-.inf,.inf]"], r"within ±1e\+06"),
    ("mird", ["options.label_range=[-3,.inf]"], r"within ±1e\+06"),
    ("mird", ["options.label_range=[.nan,3]"], "low < high"),
    ("mird", ["options.label_range=[2,3]"], r"declared range \[2, 3\], but 3 do not"),
    ("mird", ["options.label_range=[-1,1]"], r"declared range \[-1, 1\]"),
    ("mird", ["options.clip_labels=abc"], "clip_labels must be true or false, but is 'abc'"),
    ("mird", ["options.clip_labels=1"], "clip_labels must be true or false, but is 1"),
    ("mird", ["options.clip_labels=null"], "clip_labels must be true or false, but is None"),
    ("mmsa", ["options.aligned=banana"], "aligned must be true or false or null, but is 'banana'"),
    ("mmsa", ["options.aligned=1"], "aligned must be true or false or null, but is 1"),
    ("mmsa", ["options.aligned=[true]"], "aligned must be true or false or null"),
    ("mmsa", ["options.aligned=true"], "must have equally many steps"),
    ("mmsa", ["options.labels=3"], "labels must be a text, but is 3"),
    ("mmsa", ["options.labels=null"], "labels must be a text, but is None"),
    ("mmsa", ["options.labels=../x"], r"must have a column '\.\./x'"),
    ("h5", ["options.label_range=abc"], "label_range must be a list, each entry a number or null"),
    ("h5", ["options.label_range=null"], r"label_range must be \(low, high\)"),
    ("h5", ["options.aligned=true"], "has the options targets, label_range, clip_labels, but aligned came"),
    ("h5", ["source=h5/y_train.h5"], "is read from a folder, but h5/y_train.h5 is none"),
    ("h5", ["source=csd"], "needs the labels y_train.h5"),
    ("csd", ["source=csd/folds.json"], "is read from a folder, but csd/folds.json is none"),
    ("csd", ["source=h5"], "needs a file for labels"),
    ("csd", ["options.audio=../mird.pkl"], "must name a file within csd, but is '../mird.pkl'"),
    ("csd", ["options.audio=/etc/passwd"], "must name a file within csd, but is '/etc/passwd'"),
    ("csd", ["options.labels=/etc/*"], "must name a file within csd"),
    ("csd", ["options.folds=../csd/folds.json"], "must name a file within csd"),
    ("csd", ['options.audio=""'], "must name a file within csd, but is ''"),
    ("csd", ['options.audio="**x"'], r"audio must be a file name or pattern, but is '\*\*x'"),
    ("csd", ["options.audio=" + "x" * 300], "must be readable, but is not|needs a file for audio"),
    ("csd", ["options.audio=3"], "audio must be a text or a mapping or null, but is 3"),
    ("csd", ["options.audio=[a]"], "audio must be a text or a mapping or null"),
    ("csd", ["options.labels=null"], "labels must be a text or a mapping"),
    ("csd", ["options.folds=null"], "folds must be a text"),
    ("csd", ["options.align=null"], "option align: expected one of words, none, got None"),
    ("csd", ["options.align=frames"], "option align: expected one of words, none, got 'frames'"),
    ("csd", ["options.side=top"], "option side: expected one of left, right, got 'top'"),
    ("csd", ["options.keep_pauses=abc"], "keep_pauses must be true or false"),
    ("csd", ["options.unify=0"], "unify must be true or false, but is 0"),
    ("csd", ["options.max_steps=1.5"], "max_steps must be a whole number or null, but is 1.5"),
    ("csd", ["options.max_steps=true"], "max_steps must be a whole number or null, but is True"),
    ("csd", ["options.max_steps=abc"], "max_steps must be a whole number or null"),
    ("csd", ["options.max_steps=-1"], "max_steps must be a number from 1"),
    ("csd", ["options.targets=3"], "targets must be a mapping, each value a whole number or null"),
    ("csd", ["options.targets=[a]"], "targets must be a mapping"),
    ("csd", ["options.targets.joy=a"], "targets must be a mapping, each value a whole number"),
    ("csd", ["options.targets.joy=true"], "targets must be a mapping, each value a whole number"),
    ("csd", ["options.targets.joy=0.5"], "targets must be a mapping, each value a whole number"),
    ("csd", ["options.targets.joy=-1"], "from 0"),
    ("csd", ["options.targets.joy=1"], "has 1 columns of labels"),
    ("csd", ["options.pulse=3"], "option pulse must be a file name or pattern, but is 3"),
    ("csd", ["options.pulse=none.csd"], "needs a file for pulse"),
    ("csd", ["options.a/b=X_COVAREP.csd"], "further modalities must have .*separators of paths, but 'a/b' came"),
    ("csd", ["options.tokens=X_COVAREP.csd"], "no modality may be called tokens"),
    ("csd", ["options.audio=X_TimestampedWords.csd"], r"features must be numbers, but are \|S2"),
    ("csd", ["options.labels=folds.json", "options.folds=folds.json"], "must be an HDF5 file, but cannot be read"),
    ("csd", ["options.folds=X_Labels.csd"], "must be JSON, but is not"),
]


@pytest.mark.parametrize(
    ("good", "changes", "message"), ARGUMENTS, ids=[f"{good} {changes[0]:.40}" for good, changes, _ in ARGUMENTS]
)
def test_bad_arguments(here: Path, capsys: pytest.CaptureFixture[str], good: str, changes: list[str], message: str) -> None:
    before = sorted(path for path in here.rglob("*"))
    told = read_refusal([*GOOD[good], *changes], capsys)
    assert pytest.raises(ValueError, match=message).matches(ValueError(told)), told
    assert sorted(path for path in here.rglob("*")) == before


def three(fold: dict[str, Any]) -> dict[str, Any]:
    return dict.fromkeys(("train", "valid", "test"), fold)


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


# The machine ---------------------------------------------------------------------------------------------


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
