"""The restricted unpickler: data of any age comes through, code does not."""

from __future__ import annotations

import collections
import functools
import operator
import os
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mdm.formats.pickles import load_folds, load_pickle

PLAIN = {
    "numbers": [1, 2.5, True, None, 10**20, 1j],
    "strings": ("a", b"b", bytearray(b"c")),
    "sets": {1, 2},
    "float32": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "objects": np.array([np.zeros((1, 2)), "word", None], dtype=object),
    "names": np.array(["vid_1", "vid_2"]),
    "bytes": np.array([b"vid_1"]),
    "scalar": np.float32(1.5),
    "ordered": collections.OrderedDict(a=1),
    "default": collections.defaultdict(list, a=[1]),
}


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_plain_content_comes_back(dump: Any, protocol: int) -> None:
    content = load_pickle(dump(PLAIN, protocol=protocol))
    assert content.keys() == PLAIN.keys()
    for key, expected in PLAIN.items():
        came = content[key]
        assert type(came) is (dict if isinstance(expected, dict) else type(expected))  # a default would be made of nothing
        if isinstance(expected, np.ndarray) and expected.dtype != object:
            assert came.dtype == expected.dtype
            np.testing.assert_array_equal(came, expected)
        elif not isinstance(expected, np.ndarray):
            assert came == expected
    assert content["objects"][1:].tolist() == ["word", None]
    np.testing.assert_array_equal(content["objects"][0], np.zeros((1, 2)))


def test_arrays_of_either_numpy_package_name(dump: Any) -> None:
    path = dump([np.arange(3.0), np.float32(2)], protocol=2)
    new = path.read_bytes().replace(b"numpy.core.", b"numpy._core.")
    for content in (new, new.replace(b"numpy._core.", b"numpy.core.")):
        path.write_bytes(content)
        array, scalar = load_pickle(path)
        assert array.tolist() == [0, 1, 2]
        assert scalar == 2


def test_python_2_pickle(tmp_path: Path) -> None:
    # what Python 2's cPickle writes for {'word': 'caf\xe9', 'array': numpy.array([1.5, -2], 'float32')} in protocol 2
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02\x85cnumpy\ndtype\n"
        b"U\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08"
        + struct.pack("<2f", 1.5, -2)
        + b"tb"
    )
    path = tmp_path / "python2.pkl"
    path.write_bytes(b"\x80\x02}(U\x04wordU\x04caf\xe9U\x05array" + array + b"u.")
    content = load_pickle(path)
    assert content["word"] == "café"
    assert content["array"].tolist() == [1.5, -2.0]


def test_a_malicious_pickle_is_refused_and_does_not_run(dump: Any, tmp_path: Path) -> None:
    trace = tmp_path / "it_ran"
    path = dump({"train": [], "test": Call(os.system, f"touch {trace}")})
    with pytest.raises(
        ValueError, match=rf"containers, numbers, strings and numpy.*names {os.system.__module__}\.system; nothing was run"
    ):
        load_pickle(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    "function",
    [eval, exec, getattr, __import__, open, os.popen, subprocess.run, np.load, operator.attrgetter, functools.partial],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_other_functions_are_refused_by_name(dump: Any, function: Any, protocol: int) -> None:
    with pytest.raises(ValueError, match=rf"names \S+\.{function.__name__};"):
        load_pickle(dump(Call(function, "x"), protocol=protocol))


def test_no_way_round_by_dotted_names_or_objects_of_classes(tmp_path: Path) -> None:
    path = tmp_path / "dotted.pkl"
    path.write_bytes(b"\x80\x04\x8c\x08builtins\x8c\x0astr.format\x93.")
    with pytest.raises(ValueError, match=r"names builtins\.str\.format"):
        load_pickle(path)
    path.write_bytes(b"(i__main__\nWhatever\n.")
    with pytest.raises(ValueError, match=r"names __main__\.Whatever"):
        load_pickle(path)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "half an array"])
def test_what_is_no_complete_pickle(dump: Any, damage: str) -> None:
    path = dump({"train": np.arange(1000.0)})
    whole = path.read_bytes()
    path.write_bytes(
        {"truncated": whole[:-1], "empty": b"", "text": b"id,text,label\n1,a,2\n", "half an array": whole[:500]}[damage]
    )
    told = {"text": r"cannot be read .*half downloaded", "empty": "is empty; download it again"}
    told = told.get(damage, r"is cut off: a pickle ends in a full stop, and its [\d,]+ bytes do not; download it again")
    with pytest.raises(ValueError, match=rf"data\.pkl must be a complete pickle, but {told}"):
        load_pickle(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"format=mag is read from .*nowhere\.pkl, but nothing is there; correct the path"):
        load_folds(tmp_path / "nowhere.pkl", "mag")
    with pytest.raises(ValueError, match=r"A pickle is read from .* but nothing is there"):
        load_pickle(tmp_path / "nowhere.pkl")


def test_folds_of_a_file_and_of_a_folder(dump: Any, tmp_path: Path) -> None:
    path = dump({"test": [3], "dev": [2], "train": [1]})
    assert load_folds(path, "mag") == ({"train": [1], "valid": [2], "test": [3]}, [path], {})
    more = dump({"train": [], "dev": [], "test": [], "trial": [1]})
    assert load_folds(more, "mag")[2] == {"keys_left": ["trial"]}
    files = [dump([k], f"folder/{name}.pkl") for k, name in enumerate(["train", "dev", "test"])]
    assert load_folds(tmp_path / "folder", "misa") == ({"train": [0], "valid": [1], "test": [2]}, files, {})


@pytest.mark.parametrize(
    ("content", "came"),
    [
        ({"train": [], "test": []}, r"\['train', 'test'\]"),
        ({"train": [], "dev": [], "valid": [], "test": []}, r"'dev', 'valid'"),
        ([1, 2], "a list"),
    ],
)
def test_folds_that_are_not_three(dump: Any, content: Any, came: str) -> None:
    with pytest.raises(
        ValueError, match=rf"data\.pkl must be a dictionary of exactly three folds, .*{came}.*; rename, add or remove"
    ):
        load_folds(dump(content), "mag")


def test_a_folder_without_a_fold(dump: Any, tmp_path: Path) -> None:
    dump([], "folder/train.pkl")
    with pytest.raises(ValueError, match=r"\(the names of its \.pkl files\) must be .* three folds.*\['train'\]"):
        load_folds(tmp_path / "folder", "misa")
