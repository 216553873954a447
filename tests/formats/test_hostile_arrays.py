"""HDF5, MATLAB and gzip files made to reach out of themselves, to crash, or to swallow the memory: each is one refusal."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from formats.forged import damages, limit_time, refusals
from scipy.io import savemat

from mdm.formats import hdf5
from mdm.formats.mfn_h5 import read_mfn_h5
from mdm.formats.svhn_mnist import read_idx, read_mat


@pytest.fixture(autouse=True)
def in_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with limit_time(monkeypatch):
        yield


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
