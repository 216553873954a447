"""What each test segment cost a run, from its predictions: so that a difference can be held against another draw of segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from mdm import records
from mdm.tables.gather import Run
from mdm.tables.wording import base


@dataclass(frozen=True)
class Losses:
    """Of a row's runs on one data set: a loss per seed and segment, whose means are the metric (mae) or 1 − it (accuracies)."""

    values: Float[np.ndarray, "seeds segments"]
    ids: tuple[str, ...]
    groups: tuple[str, ...]

    def __post_init__(self) -> None:
        assert self.values.shape[1] == len(self.ids) == len(self.groups)


def has_losses(metric: str) -> bool:
    """Whether a metric is a mean over segments; correlations and F1 are not."""
    return base(metric) == "mae" or base(metric).startswith("acc")


def losses_of(runs: Sequence[Run], metric: str) -> Losses | None:
    """The losses of finished runs in a metric, or None if it is no mean over segments.

    Raises ValueError if the runs were tested on different segments, or predictions do not give what the record says.
    """
    if not has_losses(metric):
        return None
    found = [read_losses(run, metric) for run in runs]
    if any(one is None for one in found):
        return None
    whole = [one for one in found if one is not None]
    for run, one in zip(runs, whole, strict=True):
        same_segments(whole[0], one, f"{runs[0].folder} and {run.folder}")
    return Losses(np.concatenate([one.values for one in whole]), whole[0].ids, whole[0].groups)


def same_segments(one: Losses, other: Losses, whose: str) -> None:
    """Raise ValueError unless both are of the same segments in one order."""
    if one.ids != other.ids or one.groups != other.groups:
        raise ValueError(
            f"Rows are compared on the same test segments, but the ids in {records.PREDICTIONS} of {whose} differ; run both again "
            "on the same data."
        )


def read_losses(run: Run, metric: str) -> Losses | None:
    """A run's losses, [1, segments]; None for the mean over several targets of a metric that leaves out segments, other ones for
    each."""
    frame = records.read_table(run.folder, records.PREDICTIONS, dtype={"id": str, "group": str}, keep_default_na=False)
    target, _, name = metric.rpartition("/")
    suffixes = [column.removeprefix("label") for column in frame.columns if column == "label" or column.startswith("label_")]
    if target:
        suffixes = [f"_{target}"]
    if name == "accuracy":  # of one class among several: a segment has one loss, not one for each target
        p, y = (frame[[f"{part}{suffix}" for suffix in suffixes]].to_numpy(np.float64) for part in ("prediction", "label"))
        losses = [(p.argmax(1) != y.argmax(1)).astype(np.float64)]
    else:
        middle = 0.0 if name == "mae" else sum(run.record["label_range"]) / 2
        losses = []
        for suffix in suffixes:
            p, y = (frame[f"{part}{suffix}"].to_numpy(np.float64) - middle for part in ("prediction", "label"))
            losses.append(np.abs(p - y) if name == "mae" else wrong(name, p, y).astype(np.float64))
    kept = np.ones(len(frame), dtype=bool)
    if name.endswith("_pos"):
        if len(suffixes) > 1:
            return None
        kept = frame[f"label{suffixes[0]}"].to_numpy(np.float64) != middle
    values = np.mean(losses, axis=0)[kept]
    recorded = run.record["test"][metric]
    if recorded is None:
        return None
    mean = values.mean() if name == "mae" else 1 - values.mean()
    if abs(mean - recorded) > 1e-6:
        raise ValueError(
            f"Predictions and metrics are of one run, but {run.folder} records {metric} {recorded} and its {records.PREDICTIONS} "
            f"gives {mean:g}; remove the folder and run again."
        )
    chosen = frame[kept]
    groups = chosen["group"] if "group" in chosen else chosen["id"]
    return Losses(values[None], tuple(chosen["id"]), tuple(groups))


def wrong(name: str, p: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Where an accuracy of `mdm.metrics` counts an error; p and y are centred."""
    if name == "acc2_nonneg":
        return (p >= 0) != (y >= 0)
    if name == "acc2_pos":
        return (p > 0) != (y > 0)
    classes, _, how = name.removeprefix("acc").partition("_")
    edge = np.inf if how == "unclipped" else (int(classes) - 1) / 2
    return np.rint(np.clip(p, -edge, edge)) != np.rint(np.clip(y, -edge, edge))
