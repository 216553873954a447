"""Stage one, data: what opens the test fold.

While a run trains, the rows of its test fold are nowhere in what it is handed. Where the data are those of a config, they are not
even in memory: the data set is made, or its store opened, again when the fold is opened. That is done once, for a `Selection`:
which checkpoint was chosen, by which value of the curve. All of this is checked against the files on disk.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from mdm.data.base import Segments, hash_file
from mdm.metrics import pick_best


@dataclass(frozen=True)
class Selection:
    """The outcome of choosing on validation: the key to the test fold.

        selection = select(folder / "best.ckpt", folder / "curve.csv", epoch=3, metric="valid/mae", value=0.91)

    metric: the column of the curve by which the epoch was chosen; value: what it has there
    sha256: of the checkpoint when it was chosen
    """

    checkpoint: Path
    curve: Path
    epoch: int
    metric: str
    value: float
    sha256: str


def select(checkpoint: Path, curve: Path, epoch: int, metric: str, value: float) -> Selection:
    """A selection of the checkpoint as it lies there now.

    Raises ValueError if there is none.
    """
    if not checkpoint.is_file():
        raise ValueError(f"{SHUT}, but {checkpoint} does not exist; train first.")
    return Selection(checkpoint, curve, epoch, metric, value, hash_file(checkpoint))


SHUT = "The test fold opens only after a checkpoint was chosen on validation"


def check_selection(selection: object) -> None:
    """Raise ValueError unless this is a selection, of the best epoch of the curve on disk and of the checkpoint on disk."""
    if type(selection) is not Selection:
        raise ValueError(f"{SHUT}, for a Selection, but {type(selection).__name__} came; use mdm.data.seal.select.")
    for path in (selection.checkpoint, selection.curve):
        if not Path(path).is_file():
            raise ValueError(f"{SHUT}, but {path} does not exist; train first.")
    values = read_column(selection.curve, selection.metric)
    found = values.get(selection.epoch)
    if found is None or not np.array_equal(found, selection.value, equal_nan=True):
        raise ValueError(
            f"{SHUT}, but epoch {selection.epoch} has {selection.metric} {found} in {selection.curve}, not the selection's "
            f"{selection.value}; choose again, or remove the folder and run again."
        )
    best = list(values)[pick_best(list(values.values()), selection.metric.removeprefix("valid/"))]
    if best != selection.epoch:
        raise ValueError(
            f"{SHUT}, but epoch {selection.epoch} came and {selection.metric} is best in epoch {best} of {selection.curve}; choose "
            "again, or remove the folder and run again."
        )
    if hash_file(selection.checkpoint) != selection.sha256:
        raise ValueError(
            f"{SHUT}, but {selection.checkpoint} has changed since it was chosen; choose again, or remove the folder and run again."
        )


def read_column(curve: Path, metric: str) -> dict[int, float]:
    """Epoch → what a curve on disk has in a column of validation.

    Raises ValueError, naming the file, if it has no such column, or the column holds something that is no number.
    """
    try:
        with curve.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        if not rows or not metric.startswith("valid/"):
            raise ValueError("no epoch" if not rows else "no column of validation")
        return {int(float(row["epoch"])): float(row[metric]) for row in rows}
    except (OSError, LookupError, TypeError, ValueError, OverflowError, csv.Error) as error:
        raise ValueError(
            f"{SHUT}, but {curve} does not tell {metric} of every epoch ({error}); choose by a column of it, or restore it."
        ) from None


class Sealed:
    """A test fold that was not opened yet: where its rows are, and how the data are had again.

    again: the data set, made or opened anew; card_hash: what it must be
    """

    def __init__(self, again: Callable[[], Segments], card_hash: str, rows: Int[np.ndarray, " rows"]):
        self.again, self.card_hash, self.rows = again, card_hash, rows
        self.opened = False

    def open(self, selection: object) -> Segments:
        """The whole data set, whose rows ``rows`` are the fold. Raises ValueError the second time, and where it does not fit."""
        if self.opened:
            raise ValueError(
                "The test fold opens once, and was opened already; what was read of it is in the record (predictions.csv), and "
                "mdm.load reads the fold of a finished run."
            )
        check_selection(selection)
        segments = self.read()
        self.opened = True
        return segments

    def read(self) -> Segments:
        """The data set. Raises ValueError if it is not the one that was divided."""
        segments = self.again()
        if segments.card_hash != self.card_hash:
            raise ValueError(
                f"A run is tested on the data that it was trained on, whose card is {self.card_hash[:12]}, but {segments.name} is "
                f"now {segments.card_hash[:12]}; restore that store and give the same command again, or train again."
            )
        return segments
