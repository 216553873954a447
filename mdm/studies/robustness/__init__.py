"""What is left of a model when modalities fail at test time (Colombo et al., 2021, Figures 2 and 4; Shankar, 2022, Table 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

import mdm
from mdm.hints import Share
from mdm.studies._base import Frames, Study, StudyRun, Tables
from mdm.studies.robustness.corruption import evaluate_settings, list_settings, summarise_seeds
from mdm.studies.robustness.picture import draw_robustness
from mdm.studies.robustness.wording import render_summary


@dataclass(frozen=True)
class Robustness(Study):
    """Test segments predicted again without the modalities that are not kept, as the ratio of Acc-2 to the untouched run.

        mdm study experiment=mdm/figure2 [study.corruptions=[absent]]

    runs.csv       a row per run and setting
    settings.csv   a row per row of the table and setting: means, intervals, paired differences

    kept, corruptions, levels: see `mdm.studies.robustness.corruption`
    printed: the paper's column → the modalities that it keeps

    Raises ValueError where `list_settings` does.
    """

    kept: Sequence[Sequence[str]]
    corruptions: Sequence[str]
    levels: Sequence[Share] | None = None
    printed: Mapping[str, Sequence[str]] | None = None
    title: str | None = None

    def __post_init__(self) -> None:
        list_settings(self.kept, self.corruptions, self.levels)

    def measure(self, run: StudyRun) -> Tables:
        """The run as it is, and in each setting."""
        rows = evaluate_settings(mdm.load(run.folder), list_settings(self.kept, self.corruptions, self.levels))
        return {"runs": [{**run.keys, **row} for row in rows]}

    def derive(self, frames: Frames) -> Mapping[str, pd.DataFrame]:
        """Settings over seeds, and what they differ from the baselines by."""
        return {"settings": summarise_seeds(frames["runs"], {**dict.fromkeys(frames.labels), **frames.baselines})}

    def summary(self, frames: Frames) -> str:
        """A table for each data set and corruption, noise at its highest level."""
        return render_summary(frames, self.printed)

    def figure(self, frames: Frames) -> Figure:
        """For each corruption the ratio by what is kept, then its course under noise."""
        return draw_robustness(frames["runs"], frames["settings"], frames.data_names)
