"""Multimodal sentiment models trained with measures of how much the modalities depend on one another.

The package is the path of a video segment to a number that can be believed, a stage after the other:

    boundary    an error → one message and a status, at the edge of every command
    hints       does a value keep an annotation, and how is that said
    ownership   one process at a time in a folder
    workers     processes of a pool, which end with the one that started them
    formats     files that people have → one store on disk                        (scripts/prepare.py)
    data        a store, or data whose dependence is known → batches; the test fold sealed
    estimators  critic outputs or representations → bounds and distances
    backbones   batch → each modality encoded → fused Z and a prediction
    penalties   Z of joint and product rows → a term of the loss, and a critic that estimates it
    metrics     predictions and labels → named numbers
    training    one training loop for every backbone and every penalty; samples of the product of the marginals; baselines
    runs        one run: config → build → fit → choose on validation → test once → record; and its model back from the record
    sweeps      an experiment, a grid or a search → its runs, and what of them is missing, through any launcher
    cost        a model → its parameters and multiply–accumulates
    probe       after a run: the dependence of its Z on rows that nothing was fitted on
    estimation  before any: what the critics make of Gaussians, whose dependence is known
    permutation exact tests by signs and labels that might have fallen otherwise
    statistics  paired runs → differences, intervals, stars
    reference   the numbers that the papers print
    tables      an experiment file, records and printed numbers → Markdown, LaTeX, HTML and CSV     (scripts/table.py)
    study       what scripts share that make tables, figures and pages of an experiment's runs
    explanation a finished run → what its critic says of each segment, and whether it is so     (scripts/explain.py)
    traces      curves → every loss, and where it is lowest                       (scripts/traces.py)
    robustness  a finished run without some of its modalities → what is left of it    (scripts/robustness.py)
    disentanglement    runs of MIRD → how far its representations lie apart, and how much they depend on one another
    generation  runs of MFM on pairs of images → what each of its codes decides in the images it makes    (scripts/generation.py)
    factors     runs of MFM → what its factors do to the segments it makes, beside what chance reads      (scripts/factors.py)
    report      all of it on one HTML page, with training curves and how it was run     (scripts/report.py)

Imports go only back along this path.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mdm.runs.trained import Trained


def load(folder: str | Path) -> Trained:
    """The run that finished in a folder: its model, its data and how it reads new segments (`mdm.runs.trained`)."""
    from mdm.runs import trained  # torch takes seconds to import

    return trained.load(folder)
