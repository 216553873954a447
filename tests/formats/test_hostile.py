"""Files made to run something, to crash, to hang, to swallow the memory or to reach out of themselves: each is one refusal.

Nothing here is read by Python's own unpickler. What a file costs is measured in the process that parses it.
"""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from mdm.formats import confined, hdf5, unpickle
from mdm.formats.mfn_h5 import read_mfn_h5
from mdm.formats.pickles import load_pickle
from mdm.formats.svhn_mnist import read_idx, read_mat

SECONDS = 10
"""No file may take longer, on a machine that does other things besides."""


@pytest.fixture(autouse=True)
def in_time(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Every file is judged in time; what hangs is given a second of computing rather than eight."""
    monkeypatch.setattr(confined, "SECONDS", (1.0, 1 / (2 << 20)))
    start = time.monotonic()
    yield
    assert time.monotonic() - start < SECONDS


# Pickles, written by hand --------------------------------------------------------------------------------


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return b"X" + struct.pack("<I", len(raw)) + raw


def octets(value: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(value)) + value


def whole(value: int) -> bytes:
    return b"J" + struct.pack("<i", value) if -(2**31) <= value < 2**31 else b"\x8a\x08" + struct.pack("<q", value)


def sequence(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + sequence(*arguments) + b"R"


MULTIARRAY, NUMERIC = "numpy.core.multiarray", "numpy.core.numeric"
TRUE, FALSE, NONE = b"\x88", b"\x89", b"N"


def dtype(code: str, order: str = "<", state: bytes | None = None) -> bytes:
    made = call(name("numpy", "dtype"), text(code), FALSE, TRUE)
    plain = sequence(whole(3), text(order), NONE, NONE, NONE, whole(-1), whole(-1), whole(0))
    return made + (plain if state is None else state) + b"b"


def unfilled() -> bytes:
    return call(name(MULTIARRAY, "_reconstruct"), name("numpy", "ndarray"), sequence(whole(0)), octets(b"b"))


def forged(kind: bytes, shape: bytes, data: bytes, fortran: bytes = FALSE) -> bytes:
    return unfilled() + sequence(whole(1), shape, kind, fortran, data) + b"b"


def nested(depth: int, opening: bytes = b"(", closing: bytes = b"l") -> bytes:
    return opening * depth + closing * depth


def doubling(times: int) -> bytes:
    """A list that holds the one before twice, and so on: of 2^times entries in a few bytes each."""
    return b"]q\x00" + b"".join(b"]q%c(h%ch%ce" % (k + 1, k, k) for k in range(times))


ROW = octets(np.arange(4.0).tobytes())
EIGHT, F8 = sequence(whole(8)), dtype("f8")
STATE = [whole(3), text("<"), NONE, NONE, NONE, whole(-1), whole(-1), whole(0)]


def state(**parts: bytes) -> bytes:
    """A dtype's state with some of its parts forged: order, subarray, names, fields, size."""
    places = {"order": 1, "subarray": 2, "names": 3, "fields": 4, "size": 5}
    return sequence(*(next((part for key, part in parts.items() if places[key] == k), old) for k, old in enumerate(STATE)))


FIELD = b"}" + text("x") + sequence(dtype("O8", "|"), whole(10**9)) + b"s"
PICKLES: dict[str, bytes] = {
    # arrays over bytes that are not theirs
    "objects over bytes": forged(dtype("O8", "|"), sequence(whole(1)), octets(b"A" * 8)),
    "objects over a string": forged(dtype("O8", "|"), sequence(whole(1)), text("A" * 8)),
    "objects by frombuffer": call(name(NUMERIC, "_frombuffer"), octets(b"A" * 8), dtype("O8", "|"), sequence(whole(1)), text("C")),
    "an object scalar": call(name(MULTIARRAY, "scalar"), dtype("O8", "|"), octets(b"A" * 8)),
    "fewer objects than the shape says": forged(dtype("O8", "|"), sequence(whole(1000)), b"]"),
    "numbers over a list": forged(F8, sequence(whole(1)), b"(K\x01l"),
    "numbers over None": forged(F8, sequence(whole(1)), NONE),
    "numbers over a dictionary": forged(F8, sequence(whole(0)), b"}"),
    "heap memory": forged(F8, sequence(whole(1 << 20)), ROW),
    "terabytes over 32 bytes": forged(F8, sequence(whole(1 << 37)), ROW),
    "a shape that wraps around": forged(F8, sequence(whole(1 << 62), whole(4)), ROW),
    "a shape that wraps to its bytes": forged(F8, sequence(whole((1 << 61) + 1), whole(8), whole(4)), ROW),
    "a negative shape": forged(F8, sequence(whole(-4)), ROW),
    "two negative sides": forged(F8, sequence(whole(-2), whole(-2)), ROW),
    "a shape of texts": forged(F8, sequence(text("4")), ROW),
    "a shape of bools": forged(dtype("f8"), sequence(TRUE, whole(4)), ROW),
    "a shape that is a number": forged(F8, whole(4), ROW),
    "a shape that is a list": forged(F8, b"(K\x04l", ROW),
    "40 axes": forged(F8, sequence(*[whole(1)] * 40), octets(b"A" * 8)),
    "empty but endless": forged(F8, sequence(whole(0), whole(1 << 39), whole(1 << 39)), octets(b"")),
    "a state of nothing": unfilled() + b")b",
    "a state that is a dictionary": unfilled() + b"}" + text("data") + ROW + b"sb",
    "a state of attributes": unfilled() + sequence(NONE, b"}" + text("shape") + whole(1 << 40) + b"s") + b"b",
    "an array never described": unfilled(),
    "an array within itself": forged(dtype("O8", "|"), sequence(whole(1)), b"(" + unfilled() + b"q\x01l"),
    "an array without a dtype": forged(text("f8"), sequence(whole(4)), ROW),
    "an array of a subclass": call(name(MULTIARRAY, "_reconstruct"), name("builtins", "list"), sequence(whole(0)), octets(b"b")),
    "strides by the constructor": call(name("numpy", "ndarray"), sequence(whole(1 << 33)), F8, ROW, whole(0), sequence(whole(0))),
    "an array by NEWOBJ": name("numpy", "ndarray") + sequence(sequence(whole(1 << 40))) + b"\x81",
    "buffer of a number": call(name(NUMERIC, "_frombuffer"), whole(1 << 40), F8, EIGHT, text("C")),
    "buffer of another order": call(name(NUMERIC, "_frombuffer"), ROW, F8, sequence(whole(4)), text("Z")),
    "buffer of axes twice": call(
        name(NUMERIC, "_frombuffer"), ROW, F8, sequence(whole(2), whole(2)), text("K"), sequence(b"K\0K\0")
    ),
    "buffer out of band": b"\x80\x05\x97",
    "a scalar without bytes": call(name(MULTIARRAY, "scalar"), F8),
    "a scalar over too few bytes": call(name(MULTIARRAY, "scalar"), F8, octets(b"A")),
    # forged dtypes
    "void": forged(dtype("V8", "|"), sequence(whole(1)), octets(b"A" * 8)),
    "a date": forged(dtype("M8"), sequence(whole(1)), octets(b"A" * 8)),
    "long double": forged(dtype("f16"), sequence(whole(1)), octets(b"A" * 16)),
    "a float of 3 bytes": forged(dtype("f3"), sequence(whole(1)), octets(b"A" * 3)),
    "an item of no bytes": forged(dtype("S0", "|"), sequence(whole(10**12)), octets(b"")),
    "an item of 10 GB": forged(dtype("U2500000000"), sequence(whole(0)), octets(b"")),
    "a dtype of a list": call(name("numpy", "dtype"), b"(" + sequence(text("x"), text("O")) + b"l"),
    "a dtype of a dictionary": call(name("numpy", "dtype"), b"}"),
    "a dtype of a comma": call(name("numpy", "dtype"), text("f8,O")),
    "a dtype of a number": call(name("numpy", "dtype"), whole(1 << 30)),
    "fields at an offset": forged(dtype("f8", state=state(names=sequence(text("x")), fields=FIELD)), sequence(whole(1)), ROW),
    "a subarray": forged(dtype("f8", state=state(subarray=sequence(dtype("f8"), sequence(whole(10**9))))), sequence(whole(4)), ROW),
    "an item larger than its name": forged(dtype("f8", state=state(size=whole(1 << 30))), sequence(whole(4)), ROW),
    "an order that is none": forged(dtype("f8", state=state(order=text("!"))), sequence(whole(4)), ROW),
    "no order for numbers": forged(dtype("f8", "|"), sequence(whole(4)), ROW),
    "a dtype's state that is short": forged(dtype("f8", state=sequence(whole(3))), sequence(whole(4)), ROW),
    "characters that are none": forged(dtype("U1", state=state(size=whole(4))), sequence(whole(1)), octets(b"\xff\xff\xff\xff")),
    # depth, size and time
    "a million lists in one another": nested(10**6),
    "a million tuples in one another": nested(10**6, closing=b"t"),
    "a million dictionaries": b"}K\0" * 10**6 + b"N" + b"s" * 10**6,
    "deeper than anything": nested(100),
    "a key of a million tuples": b"}" + nested(10**6, closing=b"t") + b"K\x01s",
    "a list in itself": b"]q\x00h\x00a",
    "a dictionary in itself": b"}q\x00K\x01h\x00s",
    "2^60 lists": doubling(60),
    "2^30 lists": doubling(30),
    "a long text meant often": b"]q\x00(" + text("a" * 10**6) + b"q\x01" + b"h\x01" * 10**5 + b"e",
    "an array meant often": b"]("
    + forged(F8, sequence(whole(10**5)), octets(bytes(8 * 10**5)))
    + b"q\x01"
    + b"h\x01" * 10**5
    + b"e",
    "bytes meant often": b"](" + octets(bytes(10**6)) + b"q\x01" + b"h\x01" * 10**5 + b"e",
    "keys that collide": b"}("
    + b"".join(b"\x8a\x09" + struct.pack("<Q", k * ((1 << 61) - 1)) + b"\0K\0" for k in range(8))
    # integers of one hash: whole multiples of 2^61 - 1
    + b"".join(b"\x8b" + struct.pack("<I", 16) + (k * ((1 << 61) - 1)).to_bytes(16, "little") + b"K\0" for k in range(8, 60_000))
    + b"u",
    "a set that collides": b"\x8f("
    + b"".join(b"\x8b" + struct.pack("<I", 16) + (k * ((1 << 61) - 1)).to_bytes(16, "little") for k in range(60_000))
    + b"\x90",
    "an integer of 10 MB": b"\x8b" + struct.pack("<I", 10**7) + b"\x7f" * 10**7,
    "an integer of negative length": b"\x8b" + struct.pack("<i", -1),
    "an integer of many digits": b"L" + b"9" * 10**6 + b"L\n",
    "a memo of four billion": b"]r\xff\xff\xff\xff",
    "bytes of 16 TB": b"\x8e" + struct.pack("<Q", 1 << 44) + b"A",
    "a bytearray of 16 TB": b"\x96" + struct.pack("<Q", 1 << 44) + b"A",
    "a text of 16 TB": b"\x8d" + struct.pack("<Q", 1 << 44) + b"A",
    "a frame of 16 TB": b"\x80\x04\x95" + struct.pack("<Q", 1 << 44) + b"N",
    "a bytearray of a number": call(name("builtins", "bytearray"), whole(10**12)),
    "bytes of a number": call(name("builtins", "bytes"), whole(10**12)),
    "bytes of a list": call(name("builtins", "bytes"), b"(K\x01l"),
    "a tuple of a text": call(name("builtins", "tuple"), text("a" * 100)),
    "a set of a text": call(name("builtins", "set"), text("abc")),
    "an integer of a text": call(name("builtins", "int"), text("9" * 4000)),
    "a text of an integer": call(name("builtins", "str"), whole(1)),
    "a complex of a text": call(name("builtins", "complex"), text("1j")),
    "a range": call(name("builtins", "range"), whole(10**12)),
    "a slice": call(name("builtins", "slice"), whole(0), whole(10**12)),
    "another encoding": call(name("_codecs", "encode"), text("a" * 100), text("zlib")),
    "an encoding of a number": call(name("_codecs", "encode"), whole(1), text("latin1")),
    "characters beyond Latin-1": call(name("_codecs", "encode"), text("电影"), text("latin1")),
    "a default made by a call": call(name("collections", "defaultdict"), name("builtins", "list"), b"]", b"]"),
    "a dictionary of a number": call(name("collections", "OrderedDict"), whole(1)),
    # what is called, and what is set
    "a state for a type": name("builtins", "list") + b"}" + text("x") + whole(1) + b"sb",
    "a state for a function": name("_codecs", "encode") + b"}" + text("__defaults__") + b")sb",
    "slots of a function": name("_codecs", "encode")
    + sequence(NONE, b"}" + text("__class__") + name("builtins", "list") + b"s")
    + b"b",
    "a state for a dictionary": b"}}" + text("x") + whole(1) + b"sb",
    "a state for a dtype": call(name("numpy", "dtype"), text("f8"), FALSE, TRUE) + b"}" + text("code") + text("V8") + b"sb",
    "a type for content": name("builtins", "list"),
    "a function for content": name("_codecs", "encode"),
    "a dtype for content": F8,
    "a call of a number": whole(1) + b")R",
    "a call of a result": call(F8),
    "os.system": call(name("os", "system"), text("touch it_ran")),
    "posix.system": call(name("posix", "system"), text("touch it_ran")),
    "eval": call(name("builtins", "eval"), text("open('it_ran','w')")),
    "eval of Python 2": call(name("__builtin__", "eval"), text("open('it_ran','w')")),
    "an instance": b"(ios\nsystem\n.",
    "an object": b"(" + name("os", "system") + text("touch it_ran") + b"o",
    "getattr": call(name("builtins", "getattr"), name("builtins", "list"), text("__class__")),
    "an import": call(name("builtins", "__import__"), text("os")),
    "a dotted name": b"\x80\x04" + text("builtins") + text("list.__class__") + b"\x93",
    "a name that is a number": b"\x80\x04" + whole(1) + whole(2) + b"\x93",
    "numpy's loader": call(name("numpy", "load"), text("x")),
    "numpy's file": call(name("numpy", "fromfile"), text("/etc/passwd")),
    "numpy's map": call(name("numpy", "memmap"), text("/etc/passwd")),
    "numpy's core by another way": call(name("numpy.core._multiarray_umath", "_reconstruct"), NONE),
    "torch's storage": call(name("torch._utils", "_rebuild_tensor_v2"), NONE),
    "pandas": call(name("pandas.core.frame", "DataFrame")),
    "our own modules": call(name("mdm.formats.unpickle", "load"), text("/etc/passwd")),
    "the child's own functions": call(name("mdm.formats.child", "confine"), whole(1), whole(1)),
    "a persistent id": b"P/etc/passwd\n",
    "a persistent id from the stack": text("/etc/passwd") + b"Q",
    "an extension": b"\x82\x01",
    "a copyreg": call(name("copyreg", "_reconstructor"), name("builtins", "list"), name("builtins", "object"), NONE),
    # damage
    "nothing": b"",
    "an unknown code": b"\xff\xfe",
    "an empty stack": b"0" * 10,
    "a protocol of tomorrow": b"\x80\x63N",
    "a mark that is lacking": b"K\x01t",
    "zeros": bytes(10**5),
    "a memo never filled": b"h\x05",
    "surrogates": b"V\\udfff\n" + b"\xff",
    "a zip": b"PK\x03\x04" + bytes(100),
}


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


def damages(sound: bytes, times: int, structure: int) -> Iterator[bytes]:
    """A file cut off, or with some bytes changed, mostly of those of its structure at the beginning."""
    draw = np.random.default_rng(0)
    for k in range(times):
        damaged = bytearray(sound[: draw.integers(0, len(sound))] if k % 4 == 0 else sound)
        for _ in range(draw.integers(1, 20) if k % 4 else 0):
            damaged[draw.integers(0, structure if draw.random() < 0.7 else len(damaged))] = draw.integers(0, 256)
        yield bytes(damaged)


def refusals(module: str, function: str, limits: confined.Limits, contents: Iterator[bytes], folder: Path) -> list[str]:
    """The kinds of refusal of files that one process reads after another, for as long as it lives."""
    kinds: list[str] = []
    files = [folder / f"{k}" for k, content in enumerate(contents) if (folder / f"{k}").write_bytes(content) >= 0]
    while files:
        with confined.Confined(module, files[:1], limits) as process:
            alive = True
            while files and alive:
                try:
                    process.ask(function, files.pop())
                except confined.Unreadable as error:
                    kinds.append(error.kind)
                    alive = error.kind not in ("Crash", "TimeoutError")
    return kinds


def test_damaged_pickles_are_read_or_refused(tmp_path: Path) -> None:
    sound = pickle.dumps({"train": [SHAPES[0], "a text", {1: (2.5, None)}]}, protocol=2)
    assert 200 < len(refusals(unpickle.__name__, "load", unpickle.LIMITS, damages(sound, 300, 200), tmp_path)) <= 300


# The process ---------------------------------------------------------------------------------------------


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


# HDF5 ----------------------------------------------------------------------------------------------------


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((2, 5, 2), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "d", (2, 5, 2))
    file.create_virtual_dataset("d", layout)


def compressed(file: h5py.File) -> None:
    dataset = file.create_dataset("d", (2, 5, 10**9), "f8", chunks=(1, 1, 10**6), compression="gzip")
    dataset[0, 0, : 10**6] = 0


def put(**options: Any) -> Callable[[h5py.File], Any]:
    return lambda file: file.create_dataset("d", **options)


def link(*links: tuple[str, Any]) -> Callable[[h5py.File], Any]:
    return lambda file: [file.__setitem__(key, target) for key, target in links]


ONES = np.ones((2, 5, 1))
HDF5: dict[str, tuple[Callable[[h5py.File], Any], str]] = {
    "an external link": (link(("d", h5py.ExternalLink("other.h5", "d"))), r"an external link \(d\)"),
    "a soft link through one": (
        link(("z", h5py.ExternalLink("other.h5", "/")), ("a", h5py.SoftLink("/z/d"))),
        r"an external link \(z\)",
    ),
    "a link in a circle": (link(("a", h5py.SoftLink("/b")), ("b", h5py.SoftLink("/a"))), "in a circle"),
    "external raw storage": (put(shape=(2, 5, 1), dtype="f8", external=[("/etc/passwd", 0, 80)]), "external raw storage"),
    "a virtual dataset": (virtual, "a virtual dataset"),
    "values never written": (put(shape=(2, 5, 10**11), dtype="f8"), "declares 8000000000000 bytes, where 0 are stored"),
    "chunks never written": (put(shape=(2, 5, 10**9), dtype="f8", chunks=(1, 1, 1000)), "declares 80000000000 bytes"),
    "a bomb": (compressed, "declares 80000000000 bytes"),
    "compounds": (put(shape=(2, 5, 1), dtype=[("a", "f8")]), "compounds, references"),
    "references": (put(shape=(2, 5, 1), dtype=h5py.ref_dtype), "compounds, references"),
    "regions": (put(shape=(2, 5, 1), dtype=h5py.regionref_dtype), "compounds, references"),
    "rows of any length": (put(shape=(2, 5, 1), dtype=h5py.vlen_dtype("f4")), "compounds, references"),
    "opaque values": (put(data=np.zeros((2, 5, 1), "V8")), "compounds, references"),
    "arrays of arrays": (put(shape=(2, 5), dtype="(1,)f8"), "compounds, references"),
    "long doubles": (put(data=ONES.astype("f16")), "dtype <f16"),
    "no shape": (put(data=h5py.Empty("f8")), "without a shape"),
    "another filter": (put(data=ONES, scaleoffset=3), "through the filter 6"),
    "a type for a dataset": (link(("d", np.dtype("f8"))), r"its first has shape \[\]"),
    "a link to nothing": (link(("d", h5py.SoftLink("/nothing"))), r"its first has shape \[\]"),
    "texts": (put(data=np.full((2, 5, 1), b"x")), "must be numbers"),
    "complex numbers": (put(data=ONES * 1j), "must be numbers"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of mfn_h5 that can be read, and another file beside them."""
    for fold in ("train", "valid", "test"):
        for file, array in (("audio", ONES), ("video", ONES), ("y", np.array([1.0, 4.5]))):
            with h5py.File(tmp_path / f"{file}_{fold}.h5", "w") as written:
                written["d"] = array
    with h5py.File(tmp_path / "other.h5", "w") as written:
        written["d"] = np.ones((2, 5, 2))
    return tmp_path


@pytest.mark.parametrize("case", HDF5)
def test_a_hostile_hdf5_file_is_one_refusal(folder: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.chdir(folder)
    write, message = HDF5[case]
    with h5py.File(folder / "audio_train.h5", "w") as file:
        write(file)
    with pytest.raises(ValueError, match=message) as refusal:
        read_mfn_h5(folder, label_range=(1.0, 5.0))
    assert "audio" in str(refusal.value)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "gzip"},
        {"compression": "lzf", "shuffle": True, "fletcher32": True},
        {"dtype": ">f8"},
        {"dtype": "f2"},
        {"dtype": "i8"},
    ],
)
def test_plain_hdf5_of_every_form_is_read(folder: Path, options: dict[str, Any]) -> None:
    with h5py.File(folder / "audio_train.h5", "w") as file:
        file.create_dataset("z", data=ONES, **options)
        file["a"] = h5py.SoftLink("/z")
    assert read_mfn_h5(folder, label_range=(1.0, 5.0)).modalities["audio"].values.tolist() == [[1.0]] * 30


def test_damaged_hdf5_is_read_or_refused(tmp_path: Path) -> None:
    """The first kilobyte is where the structure lies."""
    with h5py.File(tmp_path / "sound", "w") as file:
        file.create_dataset("d", data=np.random.default_rng(0).random((2, 5, 1)), compression="gzip", chunks=(1, 5, 1))
    contents = damages((tmp_path / "sound").read_bytes(), 300, 900)
    assert 150 < len(refusals(hdf5.__name__, "first", hdf5.LIMITS, contents, tmp_path)) < 300


# MATLAB and gzip -----------------------------------------------------------------------------------------


def matlab_bomb() -> bytes:
    """A .mat file whose X claims 3 GB of zeros, compressed."""
    sides = struct.pack("<4i", 32, 32, 3, 10**6)
    count = 32 * 32 * 3 * 10**6
    flags = struct.pack("<IIII", 6, 8, 9, 0)
    body = flags + struct.pack("<II", 5, 16) + sides + struct.pack("<HH4s", 1, 1, b"X\0\0\0") + struct.pack("<II", 2, count)
    packer = zlib.compressobj(9)
    packed = packer.compress(struct.pack("<II", 14, len(body) + count) + body) + packer.compress(bytes(10**7)) + packer.flush()
    return b"MATLAB 5.0".ljust(124) + struct.pack("<HH", 0x0100, 0x4D49) + struct.pack("<II", 15, len(packed)) + packed


def save_matlab(**content: Any) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, content, do_compression=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (matlab_bomb(), r"holds X, which declares 3072000000 bytes|cannot be read"),
        (save_matlab(X={"a": 1}, y=[1]), "holds X of the class struct"),
        (save_matlab(X=np.array([1, "a"], dtype=object), y=[1]), "holds X of the class cell"),
        (save_matlab(X="text", y=[1]), "holds X of the class char"),
        (save_matlab(X=np.ones((2, 2)) > 0, y=[1]), "must hold X, bytes|holds X of the class logical"),
        (b"MATLAB 7.3 MAT-file".ljust(124) + struct.pack("<HH", 0x0200, 0x4D49) + bytes(400), "cannot be read"),
        (save_matlab(X=np.ones((32, 32, 3, 2), np.uint8), y=[1, 2])[:-30], "cannot be read"),
        (bytes(200), "must be a MATLAB file|must hold X"),
    ],
)
def test_a_hostile_matlab_file_is_one_refusal(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "train_32x32.mat"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"train_32x32\.mat.*({message})"):
        read_mat(path)


@pytest.mark.parametrize("claimed", [60, 10**6, 2**32 - 1])
def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, claimed: int) -> None:
    """200 MB of zeros in 200 kB, whatever number of images it claims."""
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(struct.pack(">4I", 0x803, claimed, 28, 28) + bytes(200 << 20), 9))
    unpacked: list[int] = []
    read = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, size=-1: (unpacked.append(size), read(self, size))[1])
    with pytest.raises(ValueError, match=r"images\.gz must begin with 0x0803, n, 28, 28 and hold as many bytes"):
        read_idx(path, 0x803, (28, 28))
    assert all(0 <= size < 1 << 20 for size in unpacked)
