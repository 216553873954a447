"""MFM's factors on segments (Tsai et al., 2019, section 3.4 and Figure 9): what F_y and each F_m do to what is generated.

MFM decodes each modality from F_y, which all modalities and the label share, and from its own F_m. Tsai et al. (2019) read three
things off a trained model, and each is measured here beside what it would read if nothing were there:

    ratios       Depen(F_y, X̂_m) / Depen(F_m, X̂_m), Eq. 5: how informative a modality is of the label, the paper says. Beside
                 both dependences stands what they are after the segments of one side were permuted
    flow         ‖∂x̂_m^t/∂f_y‖²_F, Eq. 7: large at the words that carry sentiment, the paper says. A decoder reads its factors
                 at the first step only and no word at all, so flow may be a function of t; how much of it is, is measured
    generation   f_y of one segment with f_m of another, or of the prior: labels follow F_y and styles F_m, the paper says

x̂ is what `MFM.decode` gives, for words their probabilities: log probabilities are known but for a constant, and the embedding of
words differs from run to run in scale. A segment as one vector, X̂, is the mean over its real steps, as the paper's supplement F
has it (it prints 1/n for 1/T). For words it is the share of each word that the decoder expects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from matplotlib.figure import Figure

import mdm
from mdm.hints import Range, Size
from mdm.studies._base import Frames, Study, StudyRun, Tables
from mdm.studies.factors.dependence import measure_ratios
from mdm.studies.factors.exchange import measure_generation
from mdm.studies.factors.gradient_flow import measure_flow, pick_steps
from mdm.studies.factors.inference import infer
from mdm.studies.factors.picture import draw_factors
from mdm.studies.factors.wording import render_factors


@dataclass(frozen=True)
class Factors(Study):
    """Of runs of ``model=mfm``, on their test segments.

        mdm study experiment=mfm/figure9
        mdm study study=factors folder=outputs/single/synthetic/mfm/none/seed=0

    ratios.csv       a row per run, modality and kernel: what X̂ depends on, F_y or F_m, what permutations give, the ratio
    flow.csv         a row per run and modality: does flow find the words of sentiment, how much of it is position
    steps.csv        flow at each step of the segment in the figure, beside the geometric mean over all segments at that step
    generation.csv   a row per run, modality and source of styles: what follows the donor of f_y, what that of f_m

    permutations: of segments, for each dependence
    donors: segments that exchange factors, every one with every other
    """

    title: str | None = "What MFM's factors do to what is generated"
    permutations: Size = 49
    donors: Annotated[int, Range(2)] = 100

    def measure(self, run: StudyRun) -> Tables:
        """The rows of one run for each file."""
        trained = mdm.load(run.folder)
        of, train = infer(trained, "test"), infer(trained, "train")
        flow, flows = measure_flow(trained, of)

        def place_words(i: int) -> list[str]:
            return trained.splits.place_words(trained.data.words(i).split())

        found = {
            "ratios": measure_ratios(trained, of, self.permutations),
            "flow": flow,
            "steps": pick_steps(place_words, trained.data.ids, of, flows),
            "generation": measure_generation(trained, train, of, self.donors),
        }
        return {name: [{**run.keys, **row} for row in rows] for name, rows in found.items()}

    def summary(self, frames: Frames) -> str:
        """Ratios, flow and generation for each data set, beside what would be read if nothing were there."""
        parts = render_factors(frames.tables, frames.experiment.table.data)
        return "\n\n".join([f"# {frames.title}", *parts, *frames.notes]) + "\n"

    def figure(self, frames: Frames) -> Figure:
        """Of the first data set: a line of panels for each row of the table, and flow in one segment for the first."""
        return draw_factors(frames.tables)
