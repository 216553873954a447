"""Stage one, data: pickles that hold a dictionary of columns per fold, the layout of MMSA, MulT and MIRD."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from mdm.formats.values import read_matrix, trim


class Columns:
    """The columns of one fold, each with one entry per segment.

    Raises ValueError if the fold is not a dictionary, if it lacks the column ``count`` that numbers the
    segments, or a required column, or if a column has another number of entries.
    """

    def __init__(self, content: Any, count: str, where: str) -> None:
        if not isinstance(content, Mapping):
            raise ValueError(
                f"{where} must be a dictionary of columns, but is a {type(content).__name__}; "
                "lists of tuples are mag, misa or mmim."
            )
        self.content, self.where, self.n = content, where, 0
        self.n = len(self[count])

    def __contains__(self, key: str) -> bool:
        return key in self.content

    def __getitem__(self, key: str) -> Sequence[Any] | ndarray:
        if key not in self.content:
            raise ValueError(
                f"{self.where} must have a column '{key}', but has {sorted(map(str, self.content))}; choose the format."
            )
        column: Sequence[Any] | ndarray = self.content[key]
        listed = isinstance(column, list | tuple) or (isinstance(column, ndarray) and column.ndim > 0)
        if not listed or (self.n and len(column) != self.n):
            came = len(column) if listed else type(column).__name__
            needed = f" ({self.n})" if self.n else ""
            raise ValueError(f"{self.where}: '{key}' must have one entry per segment{needed}, but has {came}; the file is damaged.")
        return column

    def steps(self, keys: Iterable[str]) -> set[int]:
        """The different numbers of steps, padding included, that columns have; none if the fold is empty."""
        return {len(read_matrix(self[key][0], f"{self.where} segment 0, {key}")) for key in keys if self.n}

    def vectors(self, k: int, keys: Mapping[str, str], aligned: bool) -> dict[str, Float[ndarray, "_ _"]]:
        """Segment k's padded vectors without their padding.

        keys: feature → column
        aligned: columns share their steps, so a step goes only where all of them are zero

        Raises ValueError if aligned columns differ in their number of steps.
        """
        arrays = {feature: read_matrix(self[key][k], f"{self.where} segment {k}, {key}") for feature, key in keys.items()}
        if not aligned:
            return {feature: trim(array)[0] for feature, array in arrays.items()}
        steps = {keys[feature]: len(array) for feature, array in arrays.items()}
        if len(set(steps.values())) > 1:
            raise ValueError(
                f"{self.where} segment {k}: aligned columns must have equally many steps, but have {steps}; "
                "pass options.aligned=false."
            )
        return dict(zip(arrays, trim(*arrays.values()), strict=True))


def name_targets(targets: Mapping[str, int] | None, tables: Mapping[str, Float[ndarray, "_ _"]], format: str) -> dict[str, int]:
    """Target → column of the labels.

    Raises ValueError if folds differ in their columns, if there are several and nobody says which, or if one is not there.
    """
    widths = {fold: y.shape[1] for fold, y in tables.items()}
    width = min(widths.values())
    if targets is None and width == 1 == max(widths.values()):
        return {"sentiment": 0}
    labels = np.concatenate([y for y in tables.values() if y.shape[1] == width])
    one_of_all = bool(np.isin(labels, (0, 1)).all() and (labels.sum(1) == 1).all())
    if targets is None and one_of_all and width == max(widths.values()):
        return {f"class_{column}": column for column in range(width)}
    wanted = dict(targets or {})
    if not wanted or not all(0 <= column < width for column in wanted.values()):
        raise ValueError(
            f"format={format}: y must have the columns that targets names, but has {widths} columns and targets is "
            f"{wanted or None}; pass options.targets.<name>=<column>, counted from 0."
        )
    return wanted
