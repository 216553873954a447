"""Stage one, data: plain arrays of an HDF5 file (in the process of `mdm.formats.child`), and nothing that lies outside it.

An HDF5 file can point at other files in four ways (external links, soft links through these, external raw storage, virtual
datasets) and declare more than it holds. Links are followed here one name at a time, and a dataset is looked at before it is read.
"""

from __future__ import annotations

import os
from functools import lru_cache
from math import prod
from typing import Any

import h5py
import numpy as np

from mdm.formats.child import Array, Limits, Refused

LIMITS = Limits(memory=(256 << 20, 160), arrays=(64 << 20, 64))
"""Features of zeros compress well, but not all of a data set by more than this."""
FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_LZF}
EXPANSION = 1032
"""Bytes that one byte can become by gzip, at most; lzf makes fewer."""


def entries(path: str) -> list[str]:
    """The names of the entries under <root>/data of a .csd, in the file's order; none where there is no such place."""
    data = _data(path)
    return [] if data is None else list(data)


def rows(path: str, entry: str) -> list[Array] | None:
    """The features and the intervals of an entry; None if it lacks one of them."""
    data = _data(path)
    group = None if data is None else child(data, entry)
    if not isinstance(group, h5py.Group):
        return None
    parts = [child(group, name) for name in ("features", "intervals")]
    return [values(part, path) for part in parts] if all(isinstance(part, h5py.Dataset) for part in parts) else None


def first(path: str) -> Array | None:
    """The first dataset of a file, None if there is none."""
    file = _open(path)
    for name in file:
        item = child(file, name)
        if isinstance(item, h5py.Dataset):
            return values(item, path)
    return None


@lru_cache(maxsize=64)
def _open(path: str) -> h5py.File:
    return h5py.File(path, "r")


@lru_cache(maxsize=64)
def _data(path: str) -> h5py.Group | None:
    """<root>/data, whatever the first root is called."""
    file = _open(path)
    name = next(iter(file), None)
    root = None if name is None else child(file, name)
    data = child(root, "data") if isinstance(root, h5py.Group) else None
    return data if isinstance(data, h5py.Group) else None


def child(group: h5py.Group, name: str, hops: int = 0) -> Any:
    """What lies under a name within the same file, None if nothing does. Raises Refused on a link that leads out of it."""
    key = name.encode("utf-8", "surrogateescape")
    if not group.id.links.exists(key):
        return None
    kind = group.id.links.get_info(key).type
    if kind == h5py.h5l.TYPE_HARD:
        return group[name]
    if kind != h5py.h5l.TYPE_SOFT:
        raise Refused(f"an external link ({name}), which leads to another file")
    if hops > 8:
        raise Refused(f"a link ({name}) that leads in a circle")
    target = group.id.links.get_val(key).decode("utf-8", "surrogateescape")
    place: Any = group.file if target.startswith("/") else group
    for part in target.split("/"):
        if part not in ("", "."):
            place = child(place, part, hops + 1) if isinstance(place, h5py.Group) else None
    return place


def values(dataset: h5py.Dataset, path: str) -> Array:
    """All of a dataset. Raises Refused unless its values are plain, lie in this file and are as many as it can hold."""
    plist, size = dataset.id.get_create_plist(), os.stat(path).st_size
    layout = plist.get_layout()
    if plist.get_external_count():
        raise Refused(f"external raw storage ({dataset.name}), which is another file's bytes")
    if layout not in (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED):
        raise Refused(f"a virtual dataset ({dataset.name}), whose values are another file's")
    strange = {plist.get_filter(k)[0] for k in range(plist.get_nfilters())} - FILTERS
    if strange:
        raise Refused(f"a dataset ({dataset.name}) through the filter {min(strange)}; gzip, lzf, shuffle and fletcher32 are known")
    dtype, item = dataset.dtype, dataset.id.get_type().get_size()
    words = h5py.check_string_dtype(dtype) is not None and dtype.kind == "O"
    if dtype.kind not in "biufcS" and not words:
        raise Refused(f"a dataset ({dataset.name}) of compounds, references or other things that are neither numbers nor words")
    if dataset.shape is None:
        raise Refused(f"a dataset ({dataset.name}) without a shape")
    stored, declared = dataset.id.get_storage_size(), prod(dataset.shape) * item
    chunk = prod(dataset.chunks) * item if dataset.chunks else 0
    able = stored * (EXPANSION if layout == h5py.h5d.CHUNKED else 1)
    if stored > size or declared > able or max(declared, chunk) > LIMITS.arrays[0] + LIMITS.arrays[1] * size:
        raise Refused(f"a dataset ({dataset.name}) that declares {declared} bytes, where {min(stored, size)} are stored")
    array = np.asarray(dataset[()])
    if words:
        texts = [w.decode("utf-8", "replace") if isinstance(w, bytes) else str(w) for w in array.reshape(-1).tolist()]
        return Array().fill("|O8", array.shape, texts)
    return Array().fill(array.dtype.str, array.shape, np.ascontiguousarray(array).reshape(-1).view(np.uint8))
