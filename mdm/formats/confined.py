"""Stage one, data: parsing files from strangers in a process of its own, so that a crash, a hang or a bomb is one refusal here.

The parsers run in `mdm.formats.child`, with bounds on memory, computing time, depth and size; what it sends is a description in
JSON and the bytes of arrays, whose sizes are checked against each other before an array is made of them. Nothing is unpickled here.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from mdm.formats.child import ALIGNMENT, DEPTH, PLAIN, TEXT, Limits, width

SECONDS = (5.0, 1 / (2 << 20))
"""Computing time: some in any case, and so much for each byte of the files."""
PATIENCE = (60.0, 1 / (1 << 20))
"""The same by the clock, for each answer, which only a file system that does not answer should need."""
ROOT = Path(__file__).resolve().parents[2]
START = "import sys; sys.path.append(sys.argv[1]); from mdm.formats.child import serve; serve(sys.argv[2], *map(int, sys.argv[3:]))"


class Unreadable(ValueError):
    """A parser refused a file, or died of it. kind: the name of the exception; text: what it said, on one line."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}" if text else kind)
        self.kind, self.text = kind, text


class Confined:
    """A process that reads some files with the functions of one module, and is gone when the ``with`` ends.

    module: its functions take a path and further arguments, and return plain content; its ``LIMITS`` say what they may take
    files: all that it will be asked to read; their size is the measure of its limits
    """

    def __init__(self, module: str, files: Sequence[Path], limits: Limits, site: bool = True) -> None:
        self.module, self.limits, self.site = module, limits, site
        self.bytes = sum(path.stat().st_size for path in files)

    def __enter__(self) -> Confined:
        memory = self.limits.memory[0] + self.limits.memory[1] * self.bytes
        self.seconds = int(SECONDS[0] + SECONDS[1] * self.bytes)
        # -P: a numpy.py beside the data, where the command may have been given, is not imported
        command = [sys.executable, "-P", "-B", *(() if self.site else ("-S",)), "-c", START]
        single = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [*command, str(ROOT), self.module, str(memory), str(self.seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **single, "HDF5_PLUGIN_PRELOAD": "::"},  # no filter is loaded from a library that a file names
            start_new_session=True,  # ctrl-c is for us, and we end it
            pipesize=1 << 20,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout.fileno()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._answers, selectors.EVENT_READ)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        self._selector.close()
        self._process.stdout.close()  # type: ignore[union-attr]
        with suppress(BrokenPipeError):
            self._requests.close()

    def ask(self, function: str, path: Path, *arguments: Any) -> Any:
        """What a function of the module returns for a file. Raises Unreadable if it refuses, dies or does not end."""
        size = path.stat().st_size
        self._deadline = time.monotonic() + PATIENCE[0] + PATIENCE[1] * self.bytes
        try:
            self._requests.write(json.dumps([function, str(path), *arguments]).encode() + b"\n")
            self._requests.flush()
        except BrokenPipeError:
            self._raise_death()
        length = int.from_bytes(self._receive(8), "big")
        if length > 64 * (TEXT[0] + TEXT[1] * size):
            raise Unreadable("Refused", "a description larger than the file can mean")
        head = json.loads(self._receive(length).tobytes())
        if "refused" in head:
            kind, text = head["refused"]
            if kind == "MemoryError":
                raise Unreadable(kind, "more memory than a file of its size can need")
            raise Unreadable(kind, one_line(text))
        sizes = head["blobs"]
        total = sum(size + -size % ALIGNMENT for size in sizes)
        if total > self.limits.arrays[0] + (self.limits.arrays[1] + 1) * size + ALIGNMENT * len(sizes):
            raise Unreadable("Refused", "arrays larger than the file can mean")
        raw = self._receive(total)
        ends = np.cumsum([size + -size % ALIGNMENT for size in sizes], dtype=np.int64)
        blobs = [raw[end - (size + -size % ALIGNMENT) :][:size] for size, end in zip(sizes, ends.tolist(), strict=True)]
        arrays = [rebuild_array(blobs[blob], *description) for *description, blob in head["arrays"]]
        try:
            return rebuild_content(head["tree"], arrays, blobs)
        except TypeError:
            raise Unreadable("TypeError", "a key that is a container") from None

    def _receive(self, count: int) -> np.ndarray:
        """The next bytes of the answer."""
        whole = np.empty(count, np.uint8)
        view, done = whole.data, 0
        while done < count:
            if not self._selector.select(max(self._deadline - time.monotonic(), 0)):
                raise Unreadable("TimeoutError", "no answer for longer than a file of its size can need")
            came = os.readv(self._answers, [view[done:]])
            if not came:
                self._raise_death()
            done += came
        return whole

    def _raise_death(self) -> None:
        code = self._process.wait()
        if code in (-signal.SIGXCPU, -signal.SIGKILL):  # the latter is also how a machine out of memory ends a process
            raise Unreadable("TimeoutError", f"more than the {self.seconds} s of computing that a file of its size can need")
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        raise Unreadable("Crash", f"the parser died of it ({how})")


def one_line(text: str) -> str:
    """The beginning of a text, printable and on one line."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))[:300]


def rebuild_array(data: np.ndarray, dtype: str, shape: list[int], order: Any, axes: list[int]) -> np.ndarray:
    """An array over its bytes; what cannot be is our own mistake, or that of a process gone wrong."""
    if not PLAIN.fullmatch(dtype) or dtype[1] == "O" or prod(shape) * width(dtype) != len(data):
        raise Unreadable("Refused", "an array that is larger or smaller than its bytes")
    array = data.view(dtype).reshape(shape, order=order)
    if dtype[1] == "U" and array.size and data.view(dtype[0] + "u4").max() > sys.maxunicode:
        raise Unreadable("Refused", "a string of characters that are none")
    return array.transpose(axes) if axes else array


def rebuild_content(tree: Any, arrays: Sequence[np.ndarray], blobs: Sequence[np.ndarray], depth: int = 0) -> Any:
    """The plain content that a tree describes. Raises TypeError for a key or an entry of a set that cannot be one."""
    if depth > DEPTH + 1:
        raise Unreadable("Refused", "containers too deep")
    if not isinstance(tree, list):
        return tree
    kind, rest = tree[0], tree[1:]
    if kind == "array":
        return arrays[rest[0]]
    if kind == "scalar":
        return arrays[rest[0]][()]
    if kind in ("bytes", "bytearray"):
        return blobs[rest[0]].tobytes() if kind == "bytes" else bytearray(blobs[rest[0]])
    if kind == "complex":
        return complex(*rest)
    if kind == "objects":
        shape, *items = rest
        flat = np.empty(len(items), dtype=object)
        for k, item in enumerate(items):
            flat[k] = rebuild_content(item, arrays, blobs, depth + 1)
        return flat.reshape(shape)
    entries = [rebuild_content(entry, arrays, blobs, depth + 1) if isinstance(entry, list) else entry for entry in rest]
    if kind == "dict":
        return dict(zip(entries[::2], entries[1::2], strict=True))
    return {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[kind](entries)
