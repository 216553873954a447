"""Stage one, data: the content of a pickle, read without running anything that it says (in the process of `mdm.formats.child`).

A pickle may name any function of any module and have it called. Here a name stands for a function of this module or for nothing:
none of numpy's own constructors, and none of Python's, can be reached, so a forged state meets our checks and not their memory.
"""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable
from typing import Any

from mdm.formats.child import Array, Limits, Refused

LIMITS = Limits(memory=(256 << 20, 32), arrays=(16 << 20, 8))
"""Python's objects take up to some twenty times their bytes in a pickle; arrays as many, and one may be meant several times."""


class RefusedName(ValueError):
    """A pickle names something that is not on the list."""


class Global:
    """What a name stands for: it can be called, and nothing else can be done with it."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise Refused("a state for a function")


class DType:
    """A dtype as numpy writes one: its code, and a state that brings the byte order and must bring no more."""

    __slots__ = ("code",)

    def __init__(self, code: Any, *flags: Any) -> None:
        text = code.decode("latin1") if isinstance(code, bytes) else code
        match = re.fullmatch(r"([<>|]?)([a-zA-Z])(\d*)", text) if isinstance(text, str) else None
        if match is None:
            raise Refused(f"a dtype called {text!r:.30}")
        order, kind, size = match.groups()
        size = "8" if kind == "O" else size
        self.code = (order or ("|" if size == "1" or kind in "SOb" else "<")) + kind + size

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 7 or state[1] not in ("<", ">", "|", b"<", b">", b"|"):
            raise Refused("a dtype whose state is none of numpy's")
        if any(part is not None for part in state[2:5]):
            raise Refused("a dtype of fields or subarrays")
        order, kind, size = (state[1] if isinstance(state[1], str) else state[1].decode()), self.code[1], self.code[2:]
        item = int(size or 0) * (4 if kind == "U" else 1)
        if state[5] not in (-1, item) or (order == "|" and kind in "iufcU" and size != "1"):
            raise Refused("a dtype whose state contradicts its name")
        self.code = order + kind + size


def from_buffer(data: Any, dtype: Any, shape: Any, order: Any = "C", axes: Any = None) -> Array:
    """An array as protocol 5 describes it; in the order K, its axes are put right afterwards."""
    if not isinstance(dtype, DType) or not isinstance(data, bytes | bytearray) or order not in ("C", "F", "K"):
        raise Refused("an array whose description is none of numpy's")
    if order == "K" and isinstance(axes, tuple):
        return Array().fill(dtype.code, shape, data, axes=axes)
    return Array().fill(dtype.code, shape, data, order)


def scalar(dtype: Any, data: Any = None) -> Array:
    """One of numpy's scalars."""
    if not isinstance(dtype, DType) or not isinstance(data, bytes | str):
        raise Refused("a number whose description is none of numpy's")
    return Array().fill(dtype.code, (), data.encode("latin1") if isinstance(data, str) else data, scalar=True)


def reconstruct(kind: Any, shape: Any = (), code: Any = b"b") -> Array:
    """What an array is before its state comes. Only plain arrays are admitted."""
    if kind is not NDARRAY:
        raise Refused("an array of another class")
    return Array()


def mapping(*arguments: Any) -> dict[Any, Any]:
    """An ordered or default dictionary, as a plain one; the factory of a default is dropped."""
    content = [argument for argument in arguments if argument is not None and not isinstance(argument, Global)]
    if len(content) > 1 or not all(isinstance(entries, list | tuple | dict) for entries in content):
        raise Refused("a dictionary of something else than its entries")
    return dict(*content)


def octets(kind: type[bytes] | type[bytearray]) -> Callable[..., Any]:
    """bytes or bytearray of what pickles give them: nothing, bytes, or a string of Latin-1; never a number of bytes."""

    def make(text: Any = b"", encoding: Any = "latin1") -> bytes | bytearray:
        return kind(encode(text, encoding) if isinstance(text, str) else bytes_only(text))

    return make


def bytes_only(value: Any) -> bytes | bytearray:
    if not isinstance(value, bytes | bytearray):
        raise Refused(f"bytes made of a {type(value).__name__}")
    return value


def encode(text: Any, encoding: Any = "latin1") -> bytes:
    """How Python 3 writes bytes in protocols 0 to 2."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise Refused("bytes in an encoding other than Latin-1")
    return text.encode("latin1")


def collection(kind: type[set] | type[frozenset]) -> Callable[..., Any]:
    def make(entries: Any = ()) -> Any:
        if not isinstance(entries, list | tuple | set | frozenset):
            raise Refused(f"a set of a {type(entries).__name__}")
        return kind(entries)

    return make


def number(real: Any = 0.0, imaginary: Any = 0.0) -> complex:
    if not all(type(part) in (int, float) for part in (real, imaginary)):
        raise Refused("a complex number of something else than two numbers")
    return complex(real, imaginary)


def never(*arguments: Any) -> Any:
    """A type that pickles mention (as what a default dictionary makes) and have no need to call."""
    raise Refused("a call of a type")


NDARRAY = Global(never)
_MADE = {
    "bytes": octets(bytes),
    "bytearray": octets(bytearray),
    "complex": number,
    "set": collection(set),
    "frozenset": collection(frozenset),
    **dict.fromkeys(("bool", "dict", "float", "int", "list", "long", "str", "tuple", "unicode"), never),
}
ALLOWED: dict[tuple[str, str], Global] = {
    # __builtin__ is Python 2's, and what Python 3 writes in protocols 0 to 2
    **{(module, name): Global(make) for name, make in _MADE.items() for module in ("builtins", "__builtin__")},
    ("collections", "OrderedDict"): Global(mapping),
    ("collections", "defaultdict"): Global(mapping),
    ("_codecs", "encode"): Global(encode),
    ("numpy", "ndarray"): NDARRAY,
    ("numpy", "dtype"): Global(DType),
    # numpy's own package was renamed in numpy 2
    **{(f"numpy.{core}.multiarray", "_reconstruct"): Global(reconstruct) for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): Global(scalar) for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): Global(from_buffer) for core in ("core", "_core")},
}
"""(module, name) in a pickle → what it stands for."""


class _Unpickler(pickle.Unpickler):
    """`pickle.Unpickler` that resolves allowed names only."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise RefusedName(f"{module}.{name}")
        return ALLOWED[module, name]


def load(path: str) -> Any:
    """The content of a pickle of Python 2 or 3. Raises whatever a damaged one makes of it."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        # latin1 is the one encoding in which Python 2's strings, and its arrays in them, survive
        return _Unpickler(file, encoding="latin1").load()
