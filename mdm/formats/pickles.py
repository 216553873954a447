"""Stage one, data: opening pickles without running what is in them.

A pickle may name any function of any module and have it called. Here a short list of names is allowed,
containers, scalars and numpy arrays, which is all that published data sets need; anything else is refused
by name, before it is looked up.
"""

from __future__ import annotations

import codecs
import collections
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from mdm.formats.base import ALIASES, by_fold, existing

# numpy's own three constructors, taken from where it uses them: they are private, and their package was renamed in numpy 2
_RECONSTRUCT: Any = np.zeros(0).__reduce__()[0]
_SCALAR: Any = np.float64(0).__reduce__()[0]
_FROMBUFFER: Any = np.zeros(1).__reduce_ex__(5)[0]
_PLAIN = (bool, bytearray, bytes, complex, dict, float, frozenset, int, list, set, slice, str, tuple)
ALLOWED: dict[tuple[str, str], Any] = {
    **{(module, kind.__name__): kind for kind in _PLAIN for module in ("builtins", "__builtin__")},
    ("__builtin__", "unicode"): str,  # __builtin__ is Python 2's, and what Python 3 writes in protocols 0 to 2
    ("__builtin__", "long"): int,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): collections.defaultdict,
    ("_codecs", "encode"): codecs.encode,  # how Python 3 writes bytes in protocols 0 to 2
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _RECONSTRUCT for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _SCALAR for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _FROMBUFFER for core in ("core", "_core")},
}
"""(module, name) in a pickle → what it stands for."""


class RefusedName(ValueError):
    """A pickle names something that is not on the list."""


class _Unpickler(pickle.Unpickler):
    """`pickle.Unpickler` that resolves allowed names only."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise RefusedName(f"{module}.{name}")
        return ALLOWED[module, name]


def load_pickle(path: Path) -> Any:
    """The content of a pickle of Python 2 or 3; nothing in it is executed.

    Raises ValueError if the file is missing, is no complete pickle, or names anything but plain containers,
    scalars and numpy arrays.
    """
    existing(path, "A pickle")
    try:
        with path.open("rb") as file:
            # latin1 is the one encoding in which Python 2's strings, and its arrays in them, survive
            return _Unpickler(file, encoding="latin1").load()
    except RefusedName as error:
        raise ValueError(
            f"{path.name}: a pickle may hold containers, numbers, strings and numpy arrays only, because others run code when "
            f"opened, but this one names {error}; nothing was run. Convert it where you trust it."
        ) from None
    except (
        pickle.UnpicklingError,
        ArithmeticError,
        AttributeError,
        EOFError,
        ImportError,
        LookupError,
        MemoryError,
        OSError,
        TypeError,
        ValueError,
    ) as error:
        raise ValueError(
            f"{path.name} must be a complete pickle, but cannot be read ({type(error).__name__}: {error}); "
            "it is damaged, half downloaded, or of another format."
        ) from None


def load_folds(source: str | Path, format: str) -> tuple[dict[str, Any], list[Path]]:
    """What a pickle of all folds, or a folder of train.pkl, valid.pkl (or dev.pkl) and test.pkl, holds per fold.

    Returns the folds, and the files that they were read from. Raises ValueError if a file or a fold is
    missing, or if `load_pickle` refuses one.
    """
    source = existing(Path(source), f"format={format}")
    if not source.is_dir():
        return by_fold(load_pickle(source), source.name), [source]
    files = [source / f"{name}.pkl" for name in ALIASES if (source / f"{name}.pkl").is_file()]
    by_fold({file.stem: None for file in files}, f"{source} (the names of its .pkl files)")  # before opening any
    return by_fold({file.stem: load_pickle(file) for file in files}, source.name), files
