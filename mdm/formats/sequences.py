"""Stage one, data: one computational sequence (.csd), the file type of the CMU-MultimodalSDK, read video by video.

``/<root>/data/<entry>/features`` [rows, dim…] and ``…/intervals`` [rows, 2] in seconds. An entry is a video, or,
in files that the SDK has aligned, ``video[k]``. Only HDF5 is needed, not the SDK.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from mdm.extras import require_extra
from mdm.formats.alignment import Track
from mdm.formats.confined import Confined, Unreadable
from mdm.formats.damage import describe_damage


def hdf5_process(files: Sequence[Path]) -> Confined:
    """A process that reads HDF5 files.

    Raises ValueError if h5py is not installed.
    """
    require_extra("h5py", "A format of HDF5 files")
    from mdm.formats import hdf5  # not everybody has h5py

    return Confined(hdf5.__name__, files, hdf5.LIMITS)


def ask_hdf5(process: Confined, function: str, path: Path, *arguments: Any) -> Any:
    """What a function of `mdm.formats.hdf5` finds in a file. Raises ValueError on a damaged one, or on more than plain arrays."""
    try:
        return process.ask(function, path, *arguments)
    except Unreadable as error:
        if error.kind == "Refused":
            raise ValueError(
                f"{path.name}: an HDF5 file may hold plain arrays within itself only, but this one holds {error.text}; write it "
                "again without."
            ) from None
        what = describe_damage(path)
        what = f"is {what}" if what else f"cannot be read ({error}); download it again"
        raise ValueError(f"{path.name} must be an HDF5 file, but {what}.") from None


class ComputationalSequence:
    """A .csd file.

    process: one that reads files by `mdm.formats.hdf5`

    The first root is read, whatever it is called, and no metadata is needed: published files differ from their own
    metadata. Raises ValueError if the file is no HDF5, or has no entries.
    """

    def __init__(self, path: Path, process: Confined, text: bool = False) -> None:
        self.path, self.text, self._process = path, text, process
        entries = ask_hdf5(process, "entries", path)
        if not entries:
            raise ValueError(
                f"{path.name} must hold entries under <root>/data, but has none; it is empty or no computational sequence."
            )
        self._entries: dict[str, list[str]] = {}
        for entry in entries:
            self._entries.setdefault(entry.split("[")[0], []).append(entry)

    @property
    def videos(self) -> list[str]:
        """Videos in the file's order."""
        return list(self._entries)

    def track(self, video: str) -> Track | None:
        """The rows of a video in the file's order, None if the file lacks it.

        Raises ValueError on intervals or features of another shape or type.
        """
        entries = sorted(self._entries.get(video, []), key=lambda entry: [int(k) for k in re.findall(r"\[(\d+)\]$", entry)])
        parts = [self._rows(entry) for entry in entries]
        if not parts:
            return None
        names = tuple(entry for entry, (intervals, _) in zip(entries, parts, strict=True) for _ in intervals)
        return Track(np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts]), names)

    def _rows(self, entry: str) -> tuple[Float[np.ndarray, "rows 2"], Shaped[np.ndarray, "rows *dim"]]:
        where, found = f"{self.path.name}, {entry}", ask_hdf5(self._process, "rows", self.path, entry)
        if found is None:
            raise ValueError(f"{where} must hold 'features' and 'intervals', but does not; the file is damaged, download it again.")
        features, intervals = found
        if features.ndim == 0 or intervals.dtype.kind not in "biuf":
            raise ValueError(
                f"{where}: features and intervals must be arrays, the latter of numbers, but are {features.dtype} "
                f"{list(features.shape)} and {intervals.dtype}; the file is damaged, download it again."
            )
        if intervals.ndim != 2 or intervals.shape != (len(features), 2) or not np.isfinite(intervals).all():
            raise ValueError(
                f"{where}: intervals must be finite [rows, 2] in seconds with a row per feature ({len(features)}), but are "
                f"{list(intervals.shape)}; the file is damaged, download it again."
            )
        if features.dtype.kind not in ("SO" if self.text else "biuf"):
            raise ValueError(
                f"{where}: features must be {'words' if self.text else 'numbers'}, but are {features.dtype}; "
                "the file plays another role, check the options."
            )
        if self.text:
            words = [
                w.decode("utf-8", "replace") if isinstance(w, bytes) else str(w) for w in features.reshape(len(features), -1)[:, 0]
            ]
            return intervals.astype(np.float64), np.array(words, dtype=object)
        with np.errstate(over="ignore"):
            return intervals.astype(np.float64), features.reshape(len(features), -1).astype(np.float32)
