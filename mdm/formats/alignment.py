"""Stage one, data: rows of intervals in one video, and the SDK's rules for cutting and averaging them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from mdm.formats.offsets import displaced

Side = Literal["left", "right"]
EPSILON = 1e-5
"""Seconds by which two intervals must overlap, the SDK's figure."""


@dataclass(frozen=True)
class Track:
    """The rows of one sequence in one video.

    intervals: [rows, 2], seconds; features: [rows, dim] float32, or [rows] strings
    entries: [rows], the entry that each row comes from
    """

    intervals: Float[np.ndarray, "rows 2"]
    features: Shaped[np.ndarray, "rows *dim"]
    entries: tuple[str, ...]

    def by_time(self) -> Track:
        """The rows in order of their beginnings, as `overlapping` needs them."""
        order = np.argsort(self.intervals[:, 0], kind="stable")
        return Track(self.intervals[order], self.features[order], tuple(self.entries[k] for k in order))

    def displace(self, rows: int, seconds: float) -> Track:
        """The values of row k + rows on the interval of row k, that interval later by some seconds."""
        values, times = displaced(len(self.features), rows)
        return Track(self.intervals[times] + seconds, self.features[values], self.entries[times])

    def only(self, rows: Shaped[np.ndarray, " rows"]) -> Track:
        """Some of the rows, by a mask."""
        kept = tuple(entry for entry, keep in zip(self.entries, rows, strict=True) if keep)
        return Track(self.intervals[rows], self.features[rows], kept)

    @cached_property
    def _latest_end(self) -> Float[np.ndarray, " rows"]:
        return np.maximum.accumulate(self.intervals[:, 1])

    def overlapping(self, start: float, end: float) -> Int[np.ndarray, " k"]:
        """Indices of the rows that overlap [start, end] by more than `EPSILON`, in order of time."""
        # Beginnings rise, and so do the latest ends so far: two searches leave few rows to compare exactly.
        low = np.searchsorted(self._latest_end, start, side="right")
        high = np.searchsorted(self.intervals[:, 0], end, side="left")
        near = self.intervals[low:high]
        return low + np.flatnonzero(np.minimum(near[:, 1], end) - np.maximum(near[:, 0], start) > EPSILON)


class Cut:
    """Cuts the tracks of one video into segments.

    Where aligned, every other feature is first averaged over each word (over each vector, where there are no words).
    """

    def __init__(self, tracks: Mapping[str, Track], aligned: bool, max_steps: int | None, side: Side) -> None:
        self.tracks, self.max_steps, self.side = tracks, max_steps, side
        self.reference = next((tracks[role] for role in ("words", "vectors") if role in tracks), None) if aligned else None
        self.aligned = aligned
        self.means: dict[str, tuple[Float[np.ndarray, "words dim"], Bool[np.ndarray, " words"]]] = {}
        if self.reference is not None:
            others = {role: track for role, track in tracks.items() if track is not self.reference}
            self.means = {role: word_means(track, self.reference.intervals) for role, track in others.items()}

    def segment(self, start: float, end: float) -> dict[str, Any]:
        """The features of the interval [start, end]; those without a row in it are left out."""
        if not self.aligned:
            cut = {role: self._limit(track.overlapping(start, end)) for role, track in self.tracks.items()}
            return {role: plain(self.tracks[role].features[rows]) for role, rows in cut.items() if len(rows)}
        if self.reference is None:
            return {}
        rows = self._limit(self.reference.overlapping(start, end))
        reached = {role: means[rows] for role, (means, covered) in self.means.items() if covered[rows].any()}
        own = {role: track.features[rows] for role, track in self.tracks.items() if track is self.reference and len(rows)}
        return {role: plain(array) for role, array in {**own, **reached}.items()}

    def _limit(self, rows: np.ndarray) -> np.ndarray:
        if self.max_steps is None:
            return rows
        return rows[-self.max_steps :] if self.side == "left" else rows[: self.max_steps]


def word_means(
    track: Track, words: Float[np.ndarray, "words 2"]
) -> tuple[Float[np.ndarray, "words dim"], Bool[np.ndarray, " words"]]:
    """Mean of the rows that overlap each word, zeros where none does, and whether any does."""
    means = np.zeros((len(words), track.features.shape[1]), np.float32)
    covered = np.zeros(len(words), bool)
    for k, (start, end) in enumerate(words):
        rows = track.overlapping(start, end)
        if len(rows):
            means[k] = track.features[rows].mean(0, dtype=np.float64)
            covered[k] = True
    return means, covered


def plain(features: np.ndarray) -> np.ndarray | list[str]:
    """Words as a list of strings, vectors as they are."""
    return features.tolist() if features.dtype == object else features
