"""Pickles made to run something, to crash, to hang, or to swallow the memory, and parsers that they took over: each is one refusal.

Nothing here is read by Python's own unpickler. What a file costs is measured in the process that parses it.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from formats.forged import (
    NUMERIC,
    PICKLES,
    ROW,
    TRUE,
    call,
    damages,
    dtype,
    forged,
    limit_time,
    name,
    refusals,
    sequence,
    text,
    whole,
)

from mdm.formats import confined, unpickle
from mdm.formats.pickles import load_pickle


@pytest.fixture(autouse=True)
def in_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with limit_time(monkeypatch):
        yield


@pytest.mark.parametrize("case", PICKLES)
def test_a_hostile_pickle_is_one_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "data.pkl"
    path.write_bytes(PICKLES[case] + b".")
    with pytest.raises(ValueError, match=r"^data\.pkl(: a pickle may hold| must be a complete pickle)") as refusal:
        load_pickle(path)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 700
    assert [entry.name for entry in tmp_path.iterdir()] == ["data.pkl"]


def test_a_pickle_by_these_means_is_read(tmp_path: Path) -> None:
    """The hand-written parts above are what numpy writes: put together rightly, they are an array."""
    path = tmp_path / "data.pkl"
    path.write_bytes(forged(dtype("f8"), sequence(whole(2), whole(2)), ROW, TRUE) + b".")
    np.testing.assert_array_equal(load_pickle(path), [[0, 2], [1, 3]])
    path.write_bytes(call(name(NUMERIC, "_frombuffer"), ROW, dtype("f8", ">"), sequence(whole(4)), text("C")) + b".")
    assert load_pickle(path).dtype == np.dtype(">f8")


SHAPES: list[Any] = [
    np.arange(24).reshape(2, 3, 4).transpose(1, 2, 0),
    np.asfortranarray(np.arange(24, dtype=">f8").reshape(4, 6)),
    np.arange(24)[::2],
    np.array(1.5),
    np.zeros((0, 768), np.float32),
    np.zeros((3, 0)),
    np.array(["é", "电影", ""], dtype=">U3"),
    np.array([b"a", b""]),
    np.array([True, False]),
    np.arange(3, dtype="c16"),
    np.asfortranarray(np.array([[1, "a"], [None, np.zeros(2)]], dtype=object)),
    *(np.float16(3), np.str_("abc"), np.bytes_(b"x"), np.bool_(True), np.int8(-1)),
]


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_every_form_come_back(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "data.pkl"
    path.write_bytes(pickle.dumps(SHAPES, protocol=protocol))
    for came, given in zip(load_pickle(path), SHAPES, strict=True):
        assert type(came) is type(given)
        assert (came.dtype, came.shape) == (given.dtype, given.shape)
        for a, b in zip(came.reshape(-1).tolist(), given.reshape(-1).tolist(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_damaged_pickles_are_read_or_refused(tmp_path: Path) -> None:
    sound = pickle.dumps({"train": [SHAPES[0], "a text", {1: (2.5, None)}]}, protocol=2)
    assert 200 < len(refusals(unpickle.__name__, "load", unpickle.LIMITS, damages(sound, 300, 200), tmp_path)) <= 300


@pytest.fixture
def parser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Ask a process for what a function does whose body is given, as a parser that a file has taken over might do."""

    def ask(body: str) -> Any:
        (tmp_path / "taken_over.py").write_text(
            "import os, signal, sys, time\nfrom mdm.formats.child import Array, Limits\n"
            "LIMITS = Limits((100 << 20, 0), (1 << 20, 0))\ndef load(path):\n    " + body + "\n"
        )
        monkeypatch.setattr(confined, "START", f"import sys; sys.path.append({str(tmp_path)!r}); " + confined.START)
        file = tmp_path / "file"
        file.write_bytes(b"")
        with confined.Confined("taken_over", [file], confined.Limits((100 << 20, 0), (1 << 20, 0))) as process:
            return process.ask("load", file)

    return ask


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", r"Crash: the parser died of it \(SIGSEGV\)"),
        ("os.abort()", r"Crash: the parser died of it \(SIGABRT\)"),
        ("os._exit(3)", r"Crash: the parser died of it \(exit code 3\)"),
        ("sys.exit()", r"Crash: the parser died of it"),
        ("exec('while True: pass')", r"TimeoutError: more than the 1 s of computing"),
        ("return bytearray(1 << 30)", "MemoryError: more memory than a file of its size can need"),
        ("return bytes(2 << 20)", "Refused: far larger arrays than a file of its size can mean"),
        ("return 'a' * (2 << 20)", "Refused: far more entries than a file of its size can mean"),
        ("return 1 << 5000", "Refused: an integer of 5001 bits"),
        ("return {Array(): 1}", "Refused: an array that is named and not described"),
        ("return {Array().fill('|S1', (1,), b'a'): 1}", "TypeError: a key that is a container"),
        ("exec('with open(path + str(1), chr(119)) as f: f.write(chr(119))')", "OSError: .*File too large"),
        ("raise ValueError('two' + chr(10) + 'lines' + chr(27) + 'x' * 5000)", r"ValueError: two lines x{290}$"),
        ("raise RecursionError", "RecursionError"),
        ("print('noise'); sys.stderr.write('noise'); os.write(1, b'noise'); raise KeyError(1)", "KeyError: 1"),
    ],
)
def test_a_parser_that_was_taken_over(parser: Callable[[str], Any], tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(confined.Unreadable, match=message):
        parser(body)
    assert not [path for path in tmp_path.glob("file?*") if path.stat().st_size]


def test_a_parser_that_waits_for_ever(parser: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confined, "PATIENCE", (0.5, 0.0))
    with pytest.raises(confined.Unreadable, match="TimeoutError: no answer for longer"):
        parser("time.sleep(60)")


def frame(head: bytes, raw: bytes = b"") -> str:
    """A body that sends this for an answer."""
    sent = len(head).to_bytes(8, "big") + head + raw
    return (
        f"import gc; w = [o for o in gc.get_objects() if type(o).__name__ == 'BufferedWriter']; os.write(4, {sent!r}); os._exit(0)"
    )


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b'{"tree":["array",0],"arrays":[["<f8",[1000],"C",[],0]],"blobs":[8]}', "larger or smaller than its bytes"),
        (b'{"tree":["array",0],"arrays":[["|O8",[1],"C",[],0]],"blobs":[8]}', "larger or smaller than its bytes"),
        (b'{"tree":["array",0],"arrays":[["<f8",[1],"C",[],0]],"blobs":[1000000000000]}', "arrays larger than the file can mean"),
    ],
)
def test_an_answer_that_lies(parser: Callable[[str], Any], head: bytes, message: str) -> None:
    with pytest.raises(confined.Unreadable, match=message):
        parser(frame(head, bytes(16)))


def test_nothing_beside_the_data_is_imported(tmp_path: Path) -> None:
    """A numpy.py or pickle.py in the folder where the command is given must not run."""
    for module in ("numpy", "pickle", "json", "h5py"):
        (tmp_path / f"{module}.py").write_text("open('it_ran', 'w')")
    (tmp_path / "data.pkl").write_bytes(pickle.dumps([1]))
    (tmp_path / "y.h5").write_bytes(b"no")
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]; import os; from pathlib import Path; import numpy\n"
        "from mdm.formats.pickles import load_pickle; from mdm.formats import hdf5; from mdm.formats.confined import Confined\n"
        "os.chdir(os.environ['HERE']); print(load_pickle(Path('data.pkl')))\n"
        "with Confined(hdf5.__name__, [Path('y.h5')], hdf5.LIMITS) as p:\n    p.ask('first', Path('y.h5'))\n"
    )
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code, root], env={**os.environ, "HERE": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert "[1]" in done.stdout
    assert "Unreadable: OSError" in done.stderr
    assert not (tmp_path / "it_ran").exists()
