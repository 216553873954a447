"""Pickles written by hand, op by op, and what files made to do harm may cost."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from mdm.formats import confined

SECONDS = 10
"""No file may take longer, on a machine that does other things besides."""


@contextmanager
def limit_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every file is judged in time; what hangs is given a second of computing rather than eight."""
    monkeypatch.setattr(confined, "SECONDS", (1.0, 1 / (2 << 20)))
    start = time.monotonic()
    yield
    assert time.monotonic() - start < SECONDS


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
