"""What critics and contrastive heads say of every test segment, and whether it is so (Colombo et al., 5.4; Han et al., 5.2)."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.figure import Figure

import mdm
from mdm.hints import Count
from mdm.studies._base import Frames, Rows, Study, StudyRun, Tables
from mdm.studies.explanation.picture import draw_explanation
from mdm.studies.explanation.segments import draw_again, explain
from mdm.studies.explanation.wording import render_summary
from mdm.studies.explanation.worth import find_critics, find_scored, measure_ranking, measure_relation, pick_cases, pick_examples


@dataclass(frozen=True)
class Explanation(Study):
    """Of runs with a dependency penalty (measured only, or not) or of MMIM, whatever their model and data.

        mdm study study=explanation experiment=mdm/table3 [study.examples=4] [study.new=4000]

    segments.csv   a row per run and test segment: words, label, prediction, T and MMIM's scores, energy of audio and video, marks
    rankings.csv   a row per run: how well low T finds the segments that are marked contradictory, beside other scores
    scores.csv     a row per run and modality: MMIM's scores, and how far predictions move without the modality
    examples.csv   the lowest and highest T, and MMIM's cases, of each row's first seed

    examples: at either end; 0 for none of any kind
    new: segments drawn anew from the population of synthetic data, on which the rankings are measured as well; 0 for none
    """

    title: str | None = None
    examples: Count = 4
    new: Count = 4000

    def measure(self, run: StudyRun) -> Tables:
        """Every test segment of a run, what the scores are worth, and examples."""
        trained, keys = mdm.load(run.folder), {"data": run.data, "row": run.row, "seed": run.seed}
        own, label_range = explain(trained), trained.splits.spec.label_range
        sets, again = {"test": own}, draw_again(trained.data, self.new) if self.new else None
        if again is not None:
            sets["new"] = explain(trained, again)
        rankings: Rows = []
        scores: Rows = []
        for on, rows in sets.items():
            rankings += [{**keys, "critic": c, "on": on, **measure_ranking(rows, c, label_range)} for c in find_critics(rows)]
            scores += [{**keys, "modality": m, "on": on, **measure_relation(rows, m)} for m in find_scored(rows)]
        examples: Rows = []
        if self.examples and run.first:
            examples += [
                {**keys, "by": c, **segment} for c in find_critics(own) for segment in pick_examples(own, c, self.examples)
            ]
            if find_scored(own) and "label" in own[0]:
                examples += [{**keys, "by": "scores", **segment} for segment in pick_cases(own, label_range)]
        return {"segments": [{**keys, **segment} for segment in own], "rankings": rankings, "scores": scores, "examples": examples}

    def summary(self, frames: Frames) -> str:
        """Rankings by critic, scores by modality, examples, and the paper's cases beside MMIM's."""
        return render_summary(frames)

    def figure(self, frames: Frames) -> Figure:
        """A line of panels for each data set and critic, and one for each MMIM."""
        return draw_explanation(frames)
