"""Stage one, data: the process in which files from strangers are parsed, and how it hands over what it found.

A parser that crashes, hangs or swallows the memory takes this process with it and nothing else: see `mdm.formats.confined` for
the other side. Only the standard library is imported here, so that the process starts within hundredths of a second.

Each request is a line of JSON, ``[function, path, argument…]``. Each answer is eight bytes (the length of what follows), JSON,
and the bytes of its arrays one after the other, each at a multiple of `ALIGNMENT`. The JSON is ``{"refused": [kind, text]}`` or
``{"tree": …, "arrays": [[dtype, shape, order, axes, blob], …], "blobs": [bytes, …]}``. In a tree, a list's first entry says what
it stands for.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from importlib import import_module
from math import prod
from typing import Any, BinaryIO, NamedTuple

ALIGNMENT = 16
"""Bytes; the largest item of a number is as large."""
DEPTH = 64
"""Containers in one another; published files have six."""
INTEGER = 1024
"""Bits of an integer."""
TEXT = (1 << 20, 64)
"""Entries and characters of an answer, at most: some, and so many for each byte of the file. A name that is written once may be
meant in many places."""
PLAIN = re.compile(r"[<>|](?:b1|[iu][1248]|f[248]|c8|c16|[SU][1-9]\d{0,5}|O8)")
"""The dtypes that may pass: numbers, strings and bytes of less than a million characters, objects."""


class Limits(NamedTuple):
    """What a parser may take. Each is (bytes in any case, bytes for each byte of the files).

    memory: of the process, beyond what it has when it begins
    arrays: of all arrays of the answers for one file, counted wherever they occur
    """

    memory: tuple[int, int]
    arrays: tuple[int, int]


class Refused(ValueError):
    """What came is not admitted."""


def width(dtype: str) -> int:
    """Bytes of an item of a dtype that is `PLAIN`."""
    return int(dtype[2:]) * (4 if dtype[1] == "U" else 1)


class Array:
    """An array as this process knows one: a dtype, a shape, and bytes (a list, where items are objects) as many as these say.

    order: C or F; axes: how the axes are put afterwards, () if they stay
    scalar: whether it is one of numpy's scalars rather than an array

    It is filled once it is known, for a pickle names an array before it describes it.
    """

    __slots__ = ("axes", "data", "dtype", "order", "scalar", "shape")

    def __init__(self) -> None:
        self.data: Any = None

    def fill(self, dtype: str, shape: Any, data: Any, order: str = "C", axes: tuple[int, ...] = (), scalar: bool = False) -> Array:
        """The array itself. Raises Refused on a dtype that is not `PLAIN`, and where shape and bytes disagree."""
        if not PLAIN.fullmatch(dtype):
            raise Refused(f"an array of dtype {dtype[:20]}, which is neither numbers nor strings")
        if not isinstance(shape, tuple) or len(shape) > 32 or not all(type(side) is int and 0 <= side < 1 << 40 for side in shape):
            raise Refused("an array whose shape is none")
        if prod(max(side, 1) for side in shape) >= 1 << 40:
            raise Refused(f"an array of shape {list(shape)}")
        if order not in ("C", "F") or (axes and (set(map(type, axes)) != {int} or sorted(axes) != list(range(len(shape))))):
            raise Refused("an array whose axes are in no order")
        objects = dtype[1] == "O"
        if isinstance(data, list) != objects:
            raise Refused(f"an array {dtype} over a {type(data).__name__}")
        held, needed = (len(data), prod(shape)) if objects else (memoryview(data).nbytes, prod(shape) * width(dtype))
        if held != needed:
            raise Refused(f"an array {dtype} {list(shape)}, which takes {needed}, over {held} bytes or objects")
        self.dtype, self.shape, self.data, self.order, self.axes, self.scalar = dtype, shape, data, order, axes, scalar
        return self

    def __setstate__(self, state: Any) -> None:
        """Fill it with what numpy writes: version, shape, dtype, whether the order is Fortran's, bytes (Python 2's in Latin-1)."""
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(code := getattr(state[2], "code", None), str):
            raise Refused("an array whose state is none of numpy's")
        _, shape, _, fortran, data = state
        if not isinstance(data, str | bytes | bytearray | list):
            raise Refused(f"an array over a {type(data).__name__}")
        self.fill(code, shape, data.encode("latin1") if isinstance(data, str) else data, "F" if fortran else "C")


class Answer:
    """A tree of plain content, taken apart into what JSON can say and the bytes of its arrays."""

    def __init__(self, size: int, limits: Limits, array_bytes: int = 0) -> None:
        self.text_left = TEXT[0] + TEXT[1] * size
        self.bytes_left = limits.arrays[0] + limits.arrays[1] * size - array_bytes
        self.arrays: list[list[Any]] = []
        self.blobs: list[memoryview] = []
        self._blob_of: dict[int, int] = {}

    def flatten(self, value: Any, depth: int = 0) -> Any:
        """Raises Refused on content that is not plain, too deep, or larger than the file can mean."""
        kind = type(value)
        self.text_left -= 1 + (len(value) if kind is str else 0)
        if depth > DEPTH:
            raise Refused(f"containers more than {DEPTH} deep, or one within itself")
        if self.text_left < 0:
            raise Refused("far more entries than a file of its size can mean")
        if kind is int and value.bit_length() > INTEGER:
            raise Refused(f"an integer of {value.bit_length()} bits")
        if value is None or kind in (bool, int, float, str):
            return value
        if kind in (list, tuple, set, frozenset):
            return [kind.__name__, *(self.flatten(entry, depth + 1) for entry in value)]
        if kind is dict:
            return ["dict", *(self.flatten(part, depth + 1) for item in value.items() for part in item)]
        if kind is complex:
            return ["complex", value.real, value.imag]
        if kind in (bytes, bytearray):
            return [kind.__name__, self._blob(value)]
        if kind is Array and value.data is None:
            raise Refused("an array that is named and not described")
        if kind is Array and isinstance(value.data, list):
            entries = (self.flatten(entry, depth + 1) for entry in value.data)
            return ["objects", list(value.shape), *entries]  # numpy lists objects in C's order, whatever the array's
        if kind is Array:
            self.arrays.append([value.dtype, list(value.shape), value.order, list(value.axes), self._blob(value.data)])
            return ["scalar" if value.scalar else "array", len(self.arrays) - 1]
        raise Refused(f"a bare {kind.__name__}, which is no value")

    def _blob(self, data: Any) -> int:
        """The number of these bytes; the same bytes are sent once."""
        view = memoryview(data).cast("B") if memoryview(data).nbytes else memoryview(b"")
        self.bytes_left -= view.nbytes
        if self.bytes_left < 0:
            raise Refused("far larger arrays than a file of its size can mean")
        if id(data) not in self._blob_of:
            self._blob_of[id(data)] = len(self.blobs)
            self.blobs.append(view)
        return self._blob_of[id(data)]

    def send(self, tree: Any, out: BinaryIO) -> None:
        """Write the whole answer."""
        head = {"tree": tree, "arrays": self.arrays, "blobs": [blob.nbytes for blob in self.blobs]}
        write_head(head, out)
        for blob in self.blobs:
            out.write(blob)
            out.write(bytes(-blob.nbytes % ALIGNMENT))
        out.flush()


def write_head(head: dict[str, Any], out: BinaryIO) -> None:
    """The beginning of an answer, or all of a refusal."""
    text = json.dumps(head, separators=(",", ":")).encode()
    out.write(len(text).to_bytes(8, "big"))
    out.write(text)
    out.flush()


def confine(memory: int, seconds: int) -> None:
    """From here on: no file is written, no core is dumped, and memory and computing time are bounded, where the system can."""
    try:
        import resource
    except ImportError:  # not a POSIX system: the other side's clock is the only limit
        return
    bounds = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CPU: seconds}
    if os.path.exists("/proc/self/statm"):
        with open("/proc/self/statm") as file:
            bounds[resource.RLIMIT_AS] = int(file.read().split()[0]) * resource.getpagesize() + memory
    for which, bound in bounds.items():
        hard = resource.getrlimit(which)[1]
        bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(which, (bound, bound))


def serve(module: str, memory: int, seconds: int) -> None:
    """Answer requests with the functions of a module until there are no more."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb", buffering=1 << 20)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # what a library prints must not stand among the answers
        os.dup2(nowhere, stream)
    parser = import_module(module)
    confine(memory, seconds)
    sent: dict[str, int] = {}
    for line in requests:
        function, path, *arguments = json.loads(line)
        parse: Callable[..., Any] = getattr(parser, function)
        try:
            size = os.stat(path).st_size
            answer = Answer(size, parser.LIMITS, sent.get(path, 0))
            before = answer.bytes_left
            tree = answer.flatten(parse(path, *arguments))
            sent[path] = sent.get(path, 0) + before - answer.bytes_left
            answer.send(tree, answers)
        except BrokenPipeError:
            return
        except Exception as error:  # whatever a parser makes of a damaged file, the other side hears of it
            write_head({"refused": [type(error).__name__, str(error)[:1000]]}, answers)
