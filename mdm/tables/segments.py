"""A row's predictions → its metric on the whole test set and without each video: so that a difference can be held against another
draw of videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mdm.metrics import Metric, find_metric
from mdm.runs import records
from mdm.statistics import LeaveOneOut, average, leave_out_slowly, leave_out_videos
from mdm.tables.gather import Run


@dataclass(frozen=True)
class Predictions:
    """Of one or several runs on one test set.

    values: [seeds, segments, targets]; labels: [segments, targets], both centred on the middle of the labels' range
    scaled: labels from 0 to 1 over that range
    """

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    values: Float[np.ndarray, "seeds segments targets"]
    labels: Float[np.ndarray, "segments targets"]
    scaled: Float[np.ndarray, "segments targets"]


@dataclass(frozen=True)
class Scores:
    """Of a row's finished runs on one data set.

    seeds: of each row of ``found``, which is in the table's units
    predictions: of the first run, which says what the test set is
    """

    seeds: tuple[int, ...]
    found: LeaveOneOut
    predictions: Predictions

    def of(self, seeds: Sequence[int], lost: Sequence[int] = ()) -> LeaveOneOut:
        """Rows of these seeds in their order; NaN for those that are ``lost``."""
        rows = [self.seeds.index(seed) for seed in seeds]
        gone = np.isin(seeds, lost)
        whole, without = self.found.whole[rows], self.found.without[rows]
        return LeaveOneOut(np.where(gone, np.nan, whole), np.where(gone[:, None], np.nan, without), self.found.sizes)


def score_runs(runs: Sequence[Run], metric: str) -> Scores:
    """A metric of finished runs, from their predictions. Of several targets the mean, if the metric's name has none.

    Raises ValueError if the runs were tested on different segments, or predictions do not give what the record says.
    """
    of_runs = [read_predictions(run, metric) for run in runs]
    for run, one in zip(runs, of_runs, strict=True):
        check_same_segments(of_runs[0], one, f"{runs[0].folder} and {run.folder}")
    first = of_runs[0]
    values = np.concatenate([one.values for one in of_runs])
    found = leave_out(find_metric(metric), values, first)
    recorded = np.array([run.record["test"][metric] for run in runs], dtype=np.float64)  # None → NaN
    off = np.abs(found.whole - recorded) > 1e-6 * np.maximum(1.0, np.abs(recorded))  # False where either is NaN
    for run, wrong, mine, theirs in zip(runs, off, found.whole, recorded, strict=True):
        if wrong:
            raise ValueError(
                f"Predictions and metrics are of one run, but {run.folder} records {metric} {theirs} and its "
                f"{records.PREDICTIONS} gives {mine:g}; remove the folder and run again."
            )
    scale, defined = find_metric(metric).scale, np.isfinite(recorded)
    whole = np.where(defined, scale * found.whole, np.nan)
    without = np.where(defined[:, None], scale * found.without, np.nan)
    return Scores(tuple(run.seed for run in runs), LeaveOneOut(whole, without, found.sizes), first)


def leave_out(what: Metric, values: Float[np.ndarray, "seeds segments targets"], test: Predictions) -> LeaveOneOut:
    """The metric without each video. One that is no function of sums is computed anew each time."""
    targets = range(values.shape[-1])
    sides = [(values, test.scaled)] if what.joint else [(values[..., i], test.labels[:, i]) for i in targets]
    parts = []
    for p, y in sides:
        counted = None if what.keeps is None else what.keeps(y)
        if what.sums is not None:
            parts.append(leave_out_videos(p, y, test.groups, what.sums, counted=counted))
        else:
            parts.append(leave_out_slowly(p, y, test.groups, what.value, counted=counted))
    return average(parts)


def read_predictions(run: Run, metric: str) -> Predictions:
    """Of one run, all targets or the one that the metric names. A segment without a group is its own video."""
    frame = records.read_table(run.folder, records.PREDICTIONS, dtype={"id": str, "group": str}, keep_default_na=False)
    target = metric.rpartition("/")[0]
    suffixes = [column.removeprefix("label") for column in frame.columns if column == "label" or column.startswith("label_")]
    if target:
        suffixes = [f"_{target}"]
    low, high = run.record["label_range"]
    prediction, label = (frame[[f"{side}{s}" for s in suffixes]].to_numpy(np.float64) for side in ("prediction", "label"))
    groups = frame["group"] if "group" in frame else frame["id"]
    middle = (low + high) / 2
    return Predictions(tuple(frame["id"]), tuple(groups), (prediction - middle)[None], label - middle, (label - low) / (high - low))


def check_same_segments(one: Predictions, other: Predictions, whose: str) -> None:
    """Raise ValueError unless both are of the same segments in one order, with the same labels."""
    same = {
        "ids": one.ids == other.ids,
        "groups": one.groups == other.groups,
        "labels": np.array_equal(one.labels, other.labels),
    }
    if not all(same.values()):
        wrong = next(name for name, equal in same.items() if not equal)
        raise ValueError(
            f"Rows are compared on the same test segments, but the {wrong} in {records.PREDICTIONS} of {whose} differ; run both "
            "again on the same data."
        )
