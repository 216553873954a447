"""Does a penalty change the dependence of Z on rows that nothing was fitted on? Rows of a table, paired by seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import mdm
from mdm.hints import Size
from mdm.statistics import mean_interval, t_interval
from mdm.studies._base import Frames, Study, StudyRun, Tables
from mdm.studies._fresh import draw_fresh
from mdm.studies._probe import encode_pairs, measure_held_out
from mdm.studies._write import COLOURS, format_mean, render_table

METRICS = ("dependence", "valid_mae", "test_mae")


@dataclass(frozen=True)
class Dependence(Study):
    """Each chosen checkpoint, probed on new segments of the population that its data were drawn from (`mdm.studies._probe`).

        mdm train -m experiment=mdm/dependence
        mdm study experiment=mdm/dependence jobs=2

    runs.csv          a row per run: dependence of Z in nats, errors, the chosen epoch, seconds of training
    differences.csv   each row of the table against its baseline, paired by seed

    fresh: new segments to fit a critic, to stop it and to measure on; steps: of the critic
    """

    fresh: Mapping[str, Size] = field(default_factory=lambda: {"train": 16000, "valid": 3000, "test": 6000})
    steps: Size = 3000
    title: str | None = None

    def measure(self, run: StudyRun) -> Tables:
        """The dependence of one run's Z, beside what it learned."""
        trained = mdm.load(run.folder)
        new, record = draw_fresh(trained, self.fresh), trained.record
        fit, stop, held_out = (encode_pairs(trained.backbone, new.in_order(fold), run.seed) for fold in ("train", "valid", "test"))
        row = {
            **run.keys,
            "dependence": measure_held_out(fit, stop, held_out, steps=self.steps),
            "valid_mae": record["valid"]["mae"],
            "test_mae": record["test"]["mae"],
            "epoch": record["selected"]["epoch"],
            "seconds": record["seconds"],
        }
        return {"runs": [row]}

    def derive(self, frames: Frames) -> Mapping[str, pd.DataFrame]:
        """Each row against its baseline in each metric: the mean difference and its 95 % t interval."""
        found = []
        for data, here in frames["runs"].groupby("data", sort=False):
            for metric in METRICS:
                wide = here.pivot(index="seed", columns="row", values=metric)
                for row, baseline in frames.baselines.items():
                    if row in wide and baseline in wide:
                        both = wide[[row, baseline]].dropna().to_numpy(np.float64)
                        low, high = t_interval(both[:, 0], both[:, 1])
                        gap = {"n": len(both), "difference": float((both[:, 0] - both[:, 1]).mean()), "low": low, "high": high}
                        found.append({"data": data, "metric": metric, "row": row, "baseline": baseline, **gap})
        return {"differences": pd.DataFrame(found)}

    def summary(self, frames: Frames) -> str:
        """Means of every row, and what it differs from its baseline by."""
        parts = [f"# {frames.title}"]
        for data, here in frames["runs"].groupby("data", sort=False):
            lines = [["", "seeds", "dependence, nats", "difference", "validation MAE", "difference", "test MAE", "difference"]]
            for row, mine in here.groupby("row", sort=False):
                line = [frames.labels[str(row)], str(len(mine))]
                for metric in METRICS:
                    line += [format_mean(mine[metric], 4), format_difference(frames["differences"], str(data), metric, str(row))]
                lines.append(line)
            parts += [
                f"**{data}: mean and 95 % t interval over seeds; differences to the baseline, paired by seed**",
                render_table(lines),
            ]
        parts.append(
            "Dependence: a lower bound on KL(p_Z ‖ product of the marginals), by a critic that was fitted afterwards, on new "
            "segments that neither the run nor the critic has seen."
        )
        return "\n\n".join([*parts, *frames.notes]) + "\n"

    def figure(self, frames: Frames) -> Figure:
        """Dependence by row: a dot a seed, the mean and its 95 % interval; of the first data set."""
        rows = frames["runs"][frames["runs"].data == frames["runs"].data.iloc[0]]
        figure = Figure(figsize=(3.6, 2.6), layout="constrained")
        axes = figure.subplots()
        for x, (_, mine) in enumerate(rows.groupby("row", sort=False)):
            colour, values = COLOURS[x % len(COLOURS)], mine.dependence.to_numpy(np.float64)
            axes.plot([x + 0.1] * len(values), values, color=colour, ls="", marker=".", ms=4, alpha=0.5, mec="none")
            axes.plot([x - 0.05] * 2, mean_interval(values), color=colour, lw=1.2)
            axes.plot(x - 0.05, values.mean(), color=colour, marker="o", ms=4)
        axes.set_xticks(range(rows.row.nunique()), list(dict.fromkeys(rows.label)), rotation=20, ha="right")
        axes.set_xlim(-0.5, rows.row.nunique() - 0.5)
        axes.set_ylabel("dependence of Z, nats, held out")
        axes.grid(axis="y", color="0.92", lw=0.5)
        return figure


def format_difference(found: pd.DataFrame, data: str, metric: str, row: str) -> str:
    """A difference with its interval, nothing without a baseline."""
    if found.empty:
        return ""
    mine = found[(found.data == data) & (found.metric == metric) & (found.row == row)]
    if mine.empty:
        return ""
    one = mine.iloc[0]
    return f"{one.difference:+.4f}" + ("" if np.isnan(one.low) else f" [{one.low:+.4f}, {one.high:+.4f}]")
