"""Multimodal sentiment models trained with measures of how much the modalities depend on one another.

The package is the path of a video segment to a number that can be believed, a stage after the other:

    extras      packages that not everybody needs
    compose     where configs are, and Hydra at work on them
    boundary    an error → one message and a status, at the edge of every command
    hints       does a value keep an annotation, and how is that said
    ownership   one process at a time in a folder
    workers     processes of a pool, which end with the one that started them
    formats     files that people have → one store on disk                        (mdm prepare)
    data        a store, or data whose dependence is known → batches; the test fold sealed
    estimators  critic outputs or representations → bounds and distances
    backbones   batch → each modality encoded → fused Z and a prediction
    penalties   Z of joint and product rows → a term of the loss, and a critic that estimates it
    metrics     predictions and labels → named numbers
    untrusted   files of a record, read as data within bounds
    records     what a run leaves on disk, verified when it is read               (mdm verify)
    loggers     beside the record, while it trains: Weights & Biases, TensorBoard
    members     what a config may build, by kind
    trials      optimisers and losses on a few numbers
    naming      a config → its penalties, and the folder of its record
    config      the schema of a run's config, checked once
    run         one run: config → data, backbone, penalties, learner → choose on validation → test once → record
    trained     after a run: its model back in one line, for new segments and for studies
    statistics  paired runs → differences, intervals, stars
    experiment  an experiment file → the cells of its table, each a run per seed
    search      grids of settings → the best on validation, as a file of configs/tuned      (mdm search)
    reference   the numbers that the papers print
    tables      an experiment file, records and printed numbers → Markdown, LaTeX, HTML and CSV     (mdm table)
    study       from a command line to an experiment's finished runs
    studies     PICK ONE: what finished runs can be asked: numbers, words, a picture        (mdm study)
    report      all of it on one HTML page, with training curves and how it was run     (mdm report)
    attempt     one run of many: its log, its traceback, its way back into a queue
    sweep       many runs: what is missing, through any launcher
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
