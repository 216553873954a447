"""Stage one, data: one segment's features from a file of its own."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mdm.formats import matlab
from mdm.formats.base import require_file
from mdm.formats.confined import Confined, Unreadable
from mdm.formats.sequences import ask_hdf5, hdf5_process
from mdm.formats.values import read_matrix, read_numbers

KINDS = (".npy", ".mat", ".h5", ".hdf5", ".csv")


@contextmanager
def parse_frames(files: Sequence[Path]) -> Iterator[dict[str, Confined]]:
    """For `read_frames`: the processes in which some of these files are parsed, one for all of a kind."""
    with ExitStack() as stack:
        processes: dict[str, Confined] = {}
        for kinds in ((".mat",), (".h5", ".hdf5")):
            those = [file for file in files if file.suffix.lower() in kinds]
            if those:
                process = Confined(matlab.__name__, those, matlab.LIMITS) if kinds == (".mat",) else hdf5_process(those)
                processes |= dict.fromkeys(kinds, stack.enter_context(process))
        yield processes


def read_frames(path: Path, where: str, processes: Mapping[str, Confined]) -> Float[np.ndarray, "time dim"]:
    """[time, dim]; a vector is one step.

    processes: of `parse_frames`

    Raises ValueError if the file is of another kind than `KINDS`, damaged, or holds something else.
    """
    require_file(path, where)
    suffix = path.suffix.lower()
    if suffix not in KINDS:
        raise ValueError(f"{where}: a file of features must be one of {', '.join(KINDS)}, but is {path.name}; convert it.")
    if suffix == ".npy":
        array = read_npy(path, where)
    elif suffix == ".csv":
        array = read_numbers_of_csv(path, where)
    elif suffix == ".mat":
        array = read_matlab(path, where, processes[suffix])
    else:
        array = ask_hdf5(processes[suffix], "first", path)
    numbers = read_numbers(array)
    return read_matrix(array if numbers is None or numbers.ndim != 1 else numbers[None], where)


def read_npy(path: Path, where: str) -> np.ndarray:
    """Raises ValueError on a file that is cut off, or needs pickle."""
    try:
        mapped: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)  # what the header promises is held against the file
        return np.array(mapped)
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(
            f"{where}: {path.name} must be an array of numbers, but cannot be read ({error}); save it again."
        ) from None


def read_matlab(path: Path, where: str, process: Confined) -> np.ndarray:
    """Raises ValueError unless the file has one variable, of numbers."""
    try:
        arrays = process.ask("load_all", path)
    except Unreadable as error:
        raise ValueError(f"{where}: {path.name} must be a MATLAB file up to version 7, but cannot be read ({error}).") from None
    if len(arrays) != 1:
        raise ValueError(f"{where}: {path.name} must hold one variable, but has {', '.join(arrays) or 'none'}; leave one.")
    only: np.ndarray = next(iter(arrays.values()))
    return only


def read_numbers_of_csv(path: Path, where: str) -> Float[np.ndarray, "time dim"]:
    """A row for each step, separated by , or ;, a header or none. Raises ValueError on anything but numbers."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        lines = [line for line in csv.reader(text.splitlines(), delimiter=";" if ";" in text[:4096] else ",") if line]
        return np.array([[float(cell) for cell in line] for line in lines[has_header(lines) :]], np.float32)
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"{where}: {path.name} must be rows of numbers, but cannot be read ({error!s:.80}); correct it.") from None


def has_header(lines: list[list[str]]) -> bool:
    """Whether the first row has no number."""
    try:
        [float(cell) for cell in (lines[0] if lines else [])]
    except ValueError:
        return True
    return False
