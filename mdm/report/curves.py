"""curve.csv of every run → what each quantity did, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mdm.metrics import find_metric, format_heading
from mdm.runs import records
from mdm.tables.gather import Run
from mdm.training.curve import FOLDS, CurveColumn, describe_columns


@dataclass(frozen=True)
class Curve:
    """One run: the epoch that was chosen, and each column's values at ``epochs``; percent for accuracies and F1 as in tables."""

    seed: int
    chosen: int
    epochs: Float[np.ndarray, " n"]
    columns: Mapping[str, Float[np.ndarray, " n"]]

    def at_chosen(self, column: str) -> float:
        return float(self.columns[column][self.epochs == self.chosen][0])


def read_curve(run: Run) -> Curve:
    """A finished run's curve. Values that are not finite are NaN.

    Raises ValueError if there is none, or it lacks the chosen epoch.
    """
    path, frame = run.folder / records.CURVE, records.read_table(run.folder, records.CURVE)
    chosen = int(run.record["selected"]["epoch"])
    if chosen not in set(frame["epoch"]):
        raise ValueError(f"A curve has the chosen epoch, but {path} has no epoch {chosen}; remove the folder and run again.")
    columns, described = {}, describe_columns(frame.columns)
    for name in frame.columns.drop("epoch"):
        values = frame[name].to_numpy(dtype=np.float64)
        column = described[name]
        scale = find_metric(column.quantity).scale if column.kind == "metric" else 1.0
        columns[name] = np.where(np.isfinite(values), scale * values, np.nan)
    return Curve(run.seed, chosen, frame["epoch"].to_numpy(dtype=np.float64), columns)


def list_quantities(curves: Sequence[Curve], metrics: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The quantities that curves can show → their columns, validation before training.

    In order: the task, the first metric, the parts of the loss, the other metrics.

    metrics: those to show, of all metrics of predictions
    Whatever else a curve has is a part of the loss: terms of the model and of penalties, and what these estimate.
    """
    found = dict[str, list[CurveColumn]]()
    for column in describe_columns(dict.fromkeys(name for curve in curves for name in curve.columns)).values():
        if column.fold is not None and (column.kind != "metric" or column.quantity in metrics):
            found.setdefault(column.quantity, []).append(column)
    order = sorted(
        found, key=lambda name: (name != "task", name != metrics[0], name in metrics, "/" in name and name not in metrics)
    )
    return {name: tuple(c.name for fold in FOLDS for c in found[name] if c.fold == fold) for name in order}


def name_quantity(name: str, measured: Sequence[str]) -> str:
    """A quantity in words."""
    if name in measured:
        return f"validation {format_heading(name)}{find_metric(name).unit}"
    owner, _, part = name.partition("/")
    if name == "task":
        return "task loss on training batches"
    if not part:
        return f"{owner.replace('_', ' ')}: the model's own term"
    return f"{owner}: {'term of the loss' if part == 'term' else part.replace('_', ' ').replace('/', ' ')}"


def summarise_seeds(curves: Sequence[Curve], column: str) -> dict[str, Float[np.ndarray, " n"]]:
    """``epoch``, ``mean``, ``low`` and ``high`` of runs at the epochs that all of them reached.

    Beyond, a mean would be of the runs that did not stop early, which are not like the others. Empty if no run has the column.
    """
    those = [curve for curve in curves if column in curve.columns]
    if not those:
        return dict.fromkeys(("epoch", "mean", "low", "high"), np.empty(0))
    n = min(len(curve.epochs) for curve in those)
    values = np.stack([curve.columns[column][:n] for curve in those])
    return {"epoch": those[0].epochs[:n], "mean": values.mean(0), "low": values.min(0), "high": values.max(0)}
