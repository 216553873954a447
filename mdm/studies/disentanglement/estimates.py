"""Estimated mutual information of MIRD's representations at every epoch (Qian et al., 2024, Figure 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pandas as pd
from matplotlib.figure import Figure

from mdm.studies._base import Frames, Study, StudyRun, Tables
from mdm.studies.disentanglement._shared import (
    OF_ROWS,
    draw_legend,
    pair_rows,
    render_differences,
)
from mdm.studies.disentanglement.representations import (
    compare_rows,
    read_estimates,
)


@dataclass(frozen=True)
class Estimates(Study):
    """What CLUB read while a run trained, held out and on training rows.

        mdm study experiment=mird/figure5

    runs.csv          a row per run, fold and epoch
    differences.csv   rows of the table in pairs, paired by seed, at the last epoch that all runs reached
    """

    title: str | None = None

    reads: ClassVar[Literal["models", "records", "nothing"]] = "records"

    def measure(self, run: StudyRun) -> Tables:
        """CLUB's estimate at every epoch."""
        return {"runs": [{**run.keys, **row} for row in read_estimates(run.folder)]}

    def derive(self, frames: Frames) -> Mapping[str, pd.DataFrame]:
        """What rows of the table differ by at the end."""
        return {"differences": compare_rows(find_last(frames["runs"]), pair_rows(frames.labels), ["data", "fold"])}

    def summary(self, frames: Frames) -> str:
        """The last epoch that all runs reached."""
        return "\n\n".join([f"# {frames.title}", *render_estimates(frames["runs"], frames.labels), *frames.notes]) + "\n"

    def figure(self, frames: Frames) -> Figure:
        """Epoch against the estimate, a thin line a seed, their mean thick."""
        return draw_estimates(frames["runs"])


def find_last(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the last epoch that all runs reached."""
    return rows[rows.epoch == rows.groupby(["data", "row", "seed"]).epoch.max().min()]


def render_estimates(rows: pd.DataFrame, labels: Mapping[str, str]) -> list[str]:
    """The last epoch that all runs reached."""
    end = find_last(rows)
    last = end.epoch.iloc[0]
    parts = [
        f"**{data}, epoch {last:g}: CLUB summed over pairs, nats; mean and 95 % t interval over {here.seed.nunique()} seed(s); "
        "paired differences**\n\n" + render_differences(here, "fold", labels, {"valid": "held out", "train": "training rows"})
        for data, here in end.groupby("data", sort=False)
    ]
    parts.append(
        "CLUB with a fitted q is neither an upper nor a lower bound: held-out rows that q does not fit lower it without any limit. "
        "The paper prints about 0.4 without and 0.2 with unlabelled data, on training batches and codes as they are; here they "
        "are standardised. experiment=mird/figure4 measures what is left with critics that are fitted afterwards."
    )
    return parts


def draw_estimates(rows: pd.DataFrame) -> Figure:
    """Epoch against the estimate, a thin line a seed, their mean thick."""
    figure = Figure(figsize=(7.2, 2.7), layout="constrained")
    panels: Any = figure.subplots(1, 2)
    for axes, (fold, title) in zip(panels, {"valid": "held-out rows", "train": "training rows"}.items(), strict=True):
        here = rows[rows.fold == fold]
        for i, row in enumerate(dict.fromkeys(rows.row)):
            mine, colour = here[here.row == row], OF_ROWS[i % len(OF_ROWS)]
            for _, seed in mine.groupby("seed"):
                axes.plot(seed.epoch, seed.value, color=colour, lw=0.5, alpha=0.5)
            mean = mine.groupby("epoch").value.mean()
            axes.plot(mean.index, mean, color=colour, lw=1.4, marker="o", ms=2.5)
        axes.axhline(0, color="0.5", lw=0.6, zorder=0)
        axes.set_yscale("symlog", linthresh=1)  # constraints differ by orders of magnitude, and estimates may be below 0
        axes.set_ylim(min(0.0, 1.5 * here.value.min()), 1.5 * here.value.max())
        axes.set(xlabel="epoch", title=title)
        axes.grid(color="0.92", lw=0.5)
    panels[0].set_ylabel("CLUB, sum over pairs, nats")
    draw_legend(figure, rows)
    return figure
