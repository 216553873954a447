"""Stage one, data: plain arrays of a MATLAB file up to version 7 (in the process of `mdm.formats.child`)."""

from __future__ import annotations

import os
from math import prod

import numpy as np

from mdm.formats.child import Array, Limits, Refused

LIMITS = Limits(memory=(640 << 20, 128), arrays=(64 << 20, 32))
"""Images compress by a third; more than 32 times is no image."""
CLASSES = {"double": 8, "single": 4, **{f"{sign}int{8 * size}": size for sign in ("", "u") for size in (1, 2, 4, 8)}}
"""MATLAB's classes of numbers, and the bytes of one."""


def load_all(path: str) -> dict[str, Array]:
    """Every variable of the file. Raises Refused where `load` does."""
    from scipy.io import whosmat

    return load(path, *(name for name, *_ in whosmat(path, appendmat=False)))


def load(path: str, *names: str) -> dict[str, Array]:
    """The variables of these names that the file has. Raises Refused unless they are arrays of numbers that it can hold."""
    from scipy.io import loadmat, whosmat  # a third of a second, and the other side wants the limits only

    most = LIMITS.arrays[0] + LIMITS.arrays[1] * os.stat(path).st_size
    for name, shape, kind in whosmat(path, appendmat=False):
        if name in names and kind not in CLASSES:
            raise Refused(f"{name} of the class {kind}, which is no array of numbers")
        if name in names and prod(shape) * CLASSES[kind] > most:
            raise Refused(f"{name}, which declares {prod(shape) * CLASSES[kind]} bytes, more than the file can hold")
    found = loadmat(path, variable_names=list(names), appendmat=False)
    arrays = {name: np.asfortranarray(found[name]) for name in names if name in found}
    return {
        name: Array().fill(array.dtype.str, array.shape, array.reshape(-1, order="F").view(np.uint8), "F")
        for name, array in arrays.items()
    }
