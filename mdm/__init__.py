"""Multimodal sentiment models trained with measures of how much the modalities depend on one another.

The package is the path of a video segment to a number that can be believed, a stage after the other:

    extras      packages that not everybody needs
    compose     where configs are, and Hydra at work on them
    owned       options of Lightning's Trainer that belong to a run
    boundary    an error → one message and a status, at the edge of every command
    types       what passes between the stages
    hints       does a value keep an annotation, and how is that said
    seeds       a generator for every purpose
    workers     processes of a pool, which end with the one that started them
    ownership   one process at a time in a folder
    data        a store, or data whose dependence is known → batches; the test fold sealed
    formats     PICK ONE: files that people have → one store on disk              (mdm prepare)
    estimators  critic outputs or representations → bounds and distances
    backbones   PICK ONE: batch → each modality encoded → fused Z and a prediction
    penalties   PICK ONE: Z of joint and product rows → a term of the loss, and a critic that estimates it
    metrics     predictions and labels → named numbers
    training    the one training loop; how critics are trained; floors that need none
    statistics  paired runs → differences, intervals, stars
    runs        one run: config → fit → choose on validation → test once → record (mdm train, mdm verify)
    sweeps      many runs: an experiment's cells, a grid, a search                (mdm train -m, mdm search)
    reference   the numbers that the papers print
    tables      an experiment file, records and printed numbers → Markdown, LaTeX, HTML and CSV     (mdm table)
    study       from a command line to an experiment's finished runs
    studies     PICK ONE: what finished runs can be asked: numbers, words, a picture        (mdm study)
    report      all of it on one HTML page, with training curves and how it was run     (mdm report)
    commands    what `mdm <command>` does

Imports go only back along this path.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mdm.runs.trained import Trained

    __version__: str


def load(folder: str | Path) -> Trained:
    """The run that finished in a folder: its model, its data and how it reads new segments (`mdm.runs.trained`)."""
    from mdm.runs import trained  # torch takes seconds to import

    return trained.load(folder)


def __getattr__(name: str) -> str:
    """``mdm.__version__``, as the installed package says it; looked up when it is asked for."""
    if name == "__version__":
        from importlib.metadata import version

        return version("mdm")
    raise AttributeError(f"module 'mdm' has no attribute {name!r}")
