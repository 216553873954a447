"""What the tests of all formats share: writing tiny files, and the way through a store and back."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mdm.data.base import Segments
from mdm.data.leaks import describe_leaks
from mdm.formats.prepare import formats, prepare


def same(a: Segments, b: Segments) -> None:
    """Both tables hold the same segments, bit for bit."""
    assert (a.name, a.ids, a.targets, a.label_range, a.aligned) == (b.name, b.ids, b.targets, b.label_range, b.aligned)
    assert a.fold.tolist() == b.fold.tolist()
    assert a.group.tolist() == b.group.tolist()
    np.testing.assert_array_equal(a.label, b.label)
    assert list(a.text) == list(b.text)
    assert list(a.modalities) == list(b.modalities)
    for feature, ragged in a.features.items():
        np.testing.assert_array_equal(ragged.values, b.features[feature].values)
        np.testing.assert_array_equal(ragged.offsets, b.features[feature].offsets)
        assert ragged.vocabulary == b.features[feature].vocabulary
    assert a.source == b.source


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., Segments]:
    """Read files by the reader and by way of a store, hold that the two agree, and return the segments."""

    def through(format: str, source: Path, **options: Any) -> Segments:
        read = formats()[format](source, name="tiny", **options)
        groups = "shared" if options.get("split") == "paper" else "apart"
        store = prepare(format, source, tmp_path / "out" / "store", name="tiny", overwrite=True, groups=groups, options=options)
        same(replace(read, source={**read.source, **describe_leaks(read, groups)}), store)
        return read

    return through


@pytest.fixture
def dump(tmp_path: Path) -> Callable[..., Path]:
    """Write a pickle."""

    def write(content: Any, name: str = "data.pkl", protocol: int = 4) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(content, protocol=protocol))
        return path

    return write


@pytest.fixture
def csd(tmp_path: Path) -> Callable[..., Path]:
    """Write a computational sequence: entry → (intervals, features)."""

    def write(name: str, entries: dict[str, tuple[Any, Any]], root: str = "some root") -> Path:
        path = tmp_path / "csd" / name
        path.parent.mkdir(exist_ok=True)
        with h5py.File(path, "w") as file:
            file.create_group(f"{root}/data")
            for entry, (intervals, features) in entries.items():
                array = np.asarray(features)
                array = array.astype("S12") if array.dtype.kind == "U" else array.astype(np.float32)
                file[f"{root}/data/{entry}/intervals"] = np.asarray(intervals, np.float64)
                file[f"{root}/data/{entry}/features"] = array
            file[f"{root}/metadata/alignment compatible"] = np.array([b"not JSON {"])
        return path

    return write


@pytest.fixture(scope="session")
def cases(real_data: Path) -> Path:
    """The folder of small files in layouts that people have, beside the real ones; skips where it is absent."""
    folder = real_data.parent / "cases"
    if not folder.is_dir():
        pytest.skip(f"no cases at {folder}")
    return folder
