"""What each test segment cost a run, from its predictions: so that a difference can be held against another draw of segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mdm.metrics import metric_of
from mdm.runs import records
from mdm.tables.gather import Run


@dataclass(frozen=True)
class Losses:
    """Of a row's runs on one data set: a loss per seed and segment; their means are the metric, or 1 − it if higher is better."""

    values: Float[np.ndarray, "seeds segments"]
    ids: tuple[str, ...]
    groups: tuple[str, ...]

    def __post_init__(self) -> None:
        assert self.values.shape[1] == len(self.ids) == len(self.groups)


def has_losses(metric: str) -> bool:
    """Whether a metric is a mean over segments; correlations and F1 are not."""
    return metric_of(metric).each is not None


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
    target, what = metric.rpartition("/")[0], metric_of(metric)
    suffixes = [column.removeprefix("label") for column in frame.columns if column == "label" or column.startswith("label_")]
    if target:
        suffixes = [f"_{target}"]
    if what.keeps is not None and len(suffixes) > 1:
        return None
    recorded = run.record["test"][metric]
    if recorded is None:
        return None
    low, high = run.record["label_range"]
    prediction, label = (frame[[f"{side}{s}" for s in suffixes]].to_numpy(np.float64) for side in ("prediction", "label"))
    p, y = prediction - (low + high) / 2, label - (low + high) / 2
    if what.joint:  # a segment has one loss, not one for each target
        losses = what.loss(prediction, (label - low) / (high - low))
    else:
        losses = np.mean([what.loss(p[:, i], y[:, i]) for i in range(len(suffixes))], axis=0)
    kept = np.ones(len(frame), dtype=bool) if what.keeps is None else what.keeps(y[:, 0])
    values, chosen = losses[kept], frame[kept]
    mean = values.mean() if what.lower_is_better else 1 - values.mean()
    if abs(mean - recorded) > 1e-6 * max(1.0, abs(recorded)):
        raise ValueError(
            f"Predictions and metrics are of one run, but {run.folder} records {metric} {recorded} and its {records.PREDICTIONS} "
            f"gives {mean:g}; remove the folder and run again."
        )
    groups = chosen["group"] if "group" in chosen else chosen["id"]
    return Losses(values[None], tuple(chosen["id"]), tuple(groups))
