"""Arguments that a person may get wrong with `mdm prepare`: one message each, exit code 2, and nothing at ``out``."""

from __future__ import annotations

from pathlib import Path

import pytest
from formats.sources import GOOD, read_refusal, write_sources

from mdm.commands.prepare import main
from mdm.data.store import open_store


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_sources()
    return tmp_path


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
