"""What a file or folder is, told by its content: formats, data sets, pointers, web pages, halves of files; and the command line."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mdm.commands.prepare import main
from mdm.data.base import Ragged, Segments
from mdm.data.store import open_store
from mdm.formats.contents import Contents, describe, examine
from mdm.formats.damage import describe_damage
from mdm.formats.hdf5 import first
from mdm.formats.pickles import load_pickle
from mdm.formats.profiles import Profile, apply_profile, choose_profile, fill_options, load_profiles, read_profile
from mdm.formats.recognize import find_words, format_recognized, recognize, recognize_contents
from mdm.formats.sequences import ask_hdf5, hdf5_process
from mdm.formats.template import render_template

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 377193000\n"
PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in\n - Drive</title></head><body></body></html>"


def mird(n: int = 3) -> dict[str, Any]:
    def fold(k: int) -> dict[str, Any]:
        draw = np.random.default_rng(k)
        audio, video = (draw.normal(size=(n, 4, 2)).astype(np.float32) for _ in range(2))
        return {"raw_text": ["it was good"] * n, "audio": audio, "video": video, "labels": np.linspace(-2, 2, n)}

    return {name: fold(k) for k, name in enumerate(("train", "valid", "test"))}


# Files that are no data -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (LFS, "a Git-LFS pointer to 377,193,000 bytes; fetch the file itself (git lfs pull)"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git-LFS pointer; fetch the file itself (git lfs pull)"),
        (b"/annex/objects/MD5E-s3--900150983cd24fb0.pkl\n", "a git-annex pointer; fetch the file itself (git annex get)"),
        (PAGE, "a web page (Sign in - Drive), as a login or a download's notice leaves one; download the file itself"),
        (b"\xef\xbb\xbf<html>", "a web page, as a login or a download's notice leaves one; download the file itself"),
        (b"", "empty; download it again"),
        (b"\x80\x04\x95ab", "cut off: a pickle ends in a full stop, and its 5 bytes do not; download it again"),
    ],
)
def test_files_that_stand_for_others(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "mosi.pkl"
    path.write_bytes(content)
    assert describe_damage(path) == told
    for read in (recognize, load_pickle):
        with pytest.raises(ValueError, match=r"but (it )?is ") as refusal:
            read(path)
        assert told in str(refusal.value)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_half_an_hdf5_file(tmp_path: Path, libver: str) -> None:
    path = tmp_path / "y.h5"
    with h5py.File(path, "w", libver=libver) as file:
        file["d"] = np.arange(5000.0)
    assert not describe_damage(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    told = f"cut off: {len(whole) // 2:,} bytes of {len(whole):,}; download it again"
    assert describe_damage(path) == told
    with hdf5_process([path]) as process, pytest.raises(ValueError, match=rf"y\.h5 must be an HDF5 file, but is {told}"):
        ask_hdf5(process, first.__name__, path)


def test_whole_files_are_not_called_damaged(tmp_path: Path, dump: Any) -> None:
    assert not describe_damage(dump(mird(), protocol=2))
    (tmp_path / "sentences.csv").write_text("id,text\n1,the <html> tag is bold\n")
    assert not describe_damage(tmp_path / "sentences.csv")


# Formats and data sets -------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_cases_are_recognised(cases: Path, real_data: Path) -> None:
    expected = {
        "fet_feature.pkl": ("mmsa", None),
        "fet_novision.pkl": ("mmsa", None),
        "sims_unaligned_39.pkl": ("mmsa", "ch_sims"),
        "mmsa_leftpad.pkl": ("mmsa", None),
        "misa_urfunny": ("misa", "ur_funny"),
        "mmim_mosei": ("mmim", "mosei"),
        "mult_iemocap_data.pkl": ("mult", "iemocap"),
        "h5_onehot": ("mfn_h5", None),
        "urfunny_sdk": ("ur_funny", "ur_funny"),
    }
    found = {name: recognize(cases / name) for name in expected}
    assert {name: (each.format, each.profile) for name, each in found.items()} == expected
    for name, profile, format in (
        ("mosi", "mosi", "csd"),
        ("ict_mmmo", "ict_mmmo", "mfn_h5"),
        ("mosi/mosi_label.csv", "mosi", "table"),
    ):
        each = recognize(real_data / name)
        assert (each.format, each.profile) == (format, profile)


def test_sizes_of_folds_tell_the_data_set_whatever_the_file_is_called(tmp_path: Path) -> None:
    def of(*sizes: int) -> Contents:
        lists = {fold: [((0, 0, 0), 1.0, "a")] * size for fold, size in zip(("train", "dev", "test"), sizes, strict=True)}
        return Contents(tmp_path / "data.pkl", "pickle", pickled=lists)

    found = recognize_contents(of(1284, 229, 686))
    assert (found.format, found.profiles) == ("mag", {"mosi": "its folds have the sizes 1284, 229, 686 of CMU-MOSI"})
    assert recognize_contents(of(1, 2, 3)).profiles == {}
    two = recognize_contents(replace(of(1284, 229, 686), path=tmp_path / "mosei.pkl"))
    assert (set(two.profiles), two.profile) == ({"mosi", "mosei"}, None)
    assert "Several data sets fit; pass profile=<one of mosei, mosi>; without one, pass format too." in format_recognized(two)


def test_words_of_names(tmp_path: Path) -> None:
    words = find_words(Contents(tmp_path / "CMU_MOSI" / "ch-simsv2_UR-FUNNY.pkl", "pickle"))
    assert {"mosi", "cmumosi", "simsv2", "chsimsv2", "urfunny"} <= words
    assert "sims" not in words


def test_several_formats_are_named(dump: Any) -> None:
    content = mird()
    for columns in content.values():
        columns |= {"id": ["a_1", "a_2", "a_3"], "regression_labels": columns["labels"], "vision": columns["video"]}
    told = format_recognized(recognize(dump(content)))
    assert "Several formats fit; pass format=<one of mird, mmsa>." in told
    assert "mdm prepare" not in told


def test_a_folder_of_files_names_those_that_can_be_read(dump: Any, tmp_path: Path) -> None:
    dump(mird(), "all/aligned.pkl")
    dump([1, 2], "all/other.pkl")
    (tmp_path / "all" / "mosi.pkl").write_bytes(LFS)
    told = format_recognized(recognize(tmp_path / "all"))
    assert "aligned.pkl: format=mird (three folds" in told
    assert "mosi.pkl is a Git-LFS pointer to 377,193,000 bytes" in told
    assert "No format reads the folder as a whole; pass one of these files." in told
    assert "other.pkl" not in told


def test_what_no_format_reads_is_described(dump: Any, tmp_path: Path) -> None:
    assert "a list of 2\n  first: a dictionary of 1 (audio)" in describe(examine(dump([{"audio": np.zeros((3, 2))}] * 2)))
    np.save(tmp_path / "a.npy", np.zeros(3))
    assert describe(examine(tmp_path / "a.npy")) == "an array of numpy's"
    with gzip.open(tmp_path / "a.gz", "wb") as file:
        file.write(b"x")
    assert describe(examine(tmp_path / "a.gz")).startswith("a gzip archive; unpack it first")
    (tmp_path / "a.csv").write_text("who,what\n1,2\n")
    assert describe(examine(tmp_path / "a.csv")) == "a table with the columns who, what"
    assert describe(Contents(tmp_path, "folder", ("x.bin",))) == "a folder of x.bin"
    with pytest.raises(ValueError, match=r"What is to be prepared is read from .*nowhere, but nothing is there"):
        recognize(tmp_path / "nowhere")


def test_the_lines_that_would_read_it_make_a_store(dump: Any, tmp_path: Path) -> None:
    row = {"id": "a", "video": "v", "label": 1.5, "text": "it was", "audio": [[1.0], [2.0]]}
    rows = [row | {"id": fold, "video": fold, "fold": fold} for fold in ("train", "valid", "test")]
    lines = render_template(examine(dump(rows)), str(tmp_path / "store"))
    assert len([line for line in lines.splitlines() if "import" not in line]) <= 10
    exec(compile(lines, "lines", "exec"), {})
    store = open_store(tmp_path / "store")
    assert (store.ids, store.words(0), store.modalities["audio"].dim) == (("train", "valid", "test"), "it was", 1)


# Profiles --------------------------------------------------------------------------------------------------


def test_the_profiles() -> None:
    expected = {"mosi", "mosei", "ch_sims", "ch_simsv2", "ur_funny", "pom", "iemocap", "youtube", "ict_mmmo", "meld"}
    profiles = load_profiles()
    assert set(profiles) == expected
    names = [name for profile in profiles.values() for name in profile.names]
    assert len(set(names)) == len(names), "a word that stands for two data sets tells neither"
    counts = [tuple(each) for profile in profiles.values() for each in profile.counts]
    assert len(set(counts)) == len(counts)
    with pytest.raises(ValueError, match=r"profile: expected one of ch_sims, .*, got 'mossi'; choose one of them"):
        choose_profile("mossi")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1", "a profile must be YAML, but cannot be read"),
        ("[1]", r"must have title, names and label_range, but is \[1\]; correct it"),
        ("{title: x, names: [x]}", "must have title, names and label_range, but is"),
        ("{title: x, names: [x], label_range: [0, 1], count: 3}", "has no key count, got count"),
        ("{title: x, names: [x], label_range: [0, 1], unit: film}", "option unit: expected one of video, clip, got 'film'"),
        ("{title: x, names: [x], label_range: [a, 1]}", "option label_range must be a list, each entry a number"),
    ],
)
def test_files_that_are_no_profile(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_profile(tmp_path / "x.yaml")


def test_a_profile_fills_in_what_was_not_given() -> None:
    profile = Profile("X", ["x"], [-1, 1], options={"csd": {"words": {"row_offset": 1}, "targets": {"a": 0}}})
    assert fill_options(profile, "mag", ["label_range"], {}) == {"label_range": [-1, 1]}
    assert fill_options(profile, "ur_funny", ["context"], {}) == {}
    given = fill_options(profile, "csd", ["label_range"], {"label_range": [0, 1], "words": {"file": "w.csd"}, "targets": {"b": 1}})
    assert given == {"label_range": [0, 1], "words": {"row_offset": 1, "file": "w.csd"}, "targets": {"b": 1}}


def test_a_profile_names_targets_and_says_what_lacks(caplog: pytest.LogCaptureFixture) -> None:
    n = 40
    segments = Segments(
        name="tiny",
        ids=tuple(f"s{i}" for i in range(n)),
        fold=np.array(["train"] * 20 + ["valid"] * 10 + ["test"] * 10),
        group=np.array([f"s{i}" for i in range(n)]),
        label=np.zeros((n, 1), np.float32),
        targets=("sentiment",),
        label_range=(0.0, 1.0),
        modalities={},
        text={"tokens": Ragged.of([np.array([3])] * n)},
        source={"groups": "each segment is a group of its own"},
    )
    profile = Profile("X", ["x"], [0, 1], targets=["humour"], unit="video", tokenizer="bert", counts=[[20, 10, 11], [22, 10, 10]])
    caplog.clear()
    told = apply_profile("x", profile, segments)
    assert told.targets == ("humour",)
    assert told.source == {"profile": "x", "tokenizer": "bert", "folds_published": ["20, 10, 11", "22, 10, 10"]}
    assert "tiny: the folds have 20, 10, 10 segments, and those of X in circulation 20, 10, 11 or 22, 10, 10" in caplog.text
    several = replace(profile, targets=["a", "b"], unit="clip", tokenizer="", counts=[[20, 10, 10]])
    assert apply_profile("x", several, segments).source == {**segments.source, "profile": "x"}
    assert apply_profile("x", several, segments).targets == ("sentiment",)


# The command line ------------------------------------------------------------------------------------------


def test_a_path_alone_is_told_of(dump: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = dump(mird(), "it=was mosi.pkl")
    assert main([str(path)]) == 0
    said = capsys.readouterr().out
    assert f"{path}: format=mird (three folds of the columns audio, labels, raw_text, video)." in said
    assert f"mdm prepare format=mird profile=mosi source='{path}' out=data/mosi" in said
    assert not (tmp_path / "data").exists()


def test_a_path_and_out_make_a_store(dump: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "store"
    assert main([str(dump(mird(20), "sims.pkl")), f"out={out}", "options.label_range=[-3,3]"]) == 0
    store = open_store(out)
    assert (store.source["profile"], store.label_range) == ("ch_sims", (-3.0, 3.0))  # what is given stands over the profile
    assert "Data card" in capsys.readouterr().out


@pytest.mark.parametrize("content", [mird() | {"id": 1}, [1, 2]])
def test_nothing_is_written_where_the_format_is_not_clear(
    dump: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: Any
) -> None:
    if isinstance(content, dict):
        for columns in (content["train"], content["valid"], content["test"]):
            columns |= {"id": ["a_1", "a_2", "a_3"], "regression_labels": columns["labels"], "vision": columns["video"]}
    assert main([str(dump(content)), f"out={tmp_path / 'store'}"]) == 2
    said = capsys.readouterr().out
    assert ("Several formats fit" in said) == isinstance(content, dict)
    assert ("Ten lines of Python would; put the names of its parts into them" in said) == isinstance(content, list)
    assert not (tmp_path / "store").exists()
