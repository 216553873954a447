"""Checkpoints of a run: the last epoch's and the best one's, each whole at any moment; how the best one is chosen and read back."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from mdm.data.seal import Selection, select
from mdm.ownership import Owner
from mdm.runs.options import TrainerOptions
from mdm.runs.precision import DTYPES, convert_backbone
from mdm.runs.records import BEST, CURVE, LAST
from mdm.runs.selection import find_best_row, has_ended
from mdm.runs.untrusted import load_weights
from mdm.training.curve import name_metric
from mdm.training.learner import Learner


class Checkpoints(Checkpoint):
    """After every epoch the last checkpoint, then, if it is the best so far, the best one; the end of training where it has waited.

    Lightning's own writes the last one only when a new best is saved, so that a run killed after 30 epochs without a better one
    would begin 30 epochs back.
    """

    def __init__(self, owner: Owner, options: TrainerOptions):
        self.owner, self.options = owner, options

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        self.owner.check()
        trainer.save_checkpoint(self.owner.folder / LAST, weights_only=False)  # the optimisers too, to go on from
        mend_best(self.owner.folder, pl_module.curve, self.options)
        trainer.should_stop = has_ended(pl_module.curve, self.options)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints that appear in one rename: a killed run leaves the last whole one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            torch.save(checkpoint, temporary)
            os.replace(temporary, path)
        finally:  # a full disk is not filled further by half a checkpoint
            temporary.unlink(missing_ok=True)


def mend_best(folder: Path, curve: list[dict[str, float]], options: TrainerOptions) -> None:
    """Make the last checkpoint the best one where its epoch is the best: a run may be killed between the two."""
    if find_best_row(curve, options) == len(curve) - 1:
        copy_whole(folder / LAST, folder / BEST)


def copy_whole(source: Path, target: Path) -> None:
    """Another name for a file's content, in one rename; a copy where the file system knows no second names."""
    if target.exists() and target.samefile(source):  # renaming one name of a file to another does nothing, and leaves both
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    os.replace(temporary, target)


def choose_checkpoint(learner: Learner, options: TrainerOptions, folder: Path) -> Selection:
    """The checkpoint with the best validation metric, whose weights the learner has afterwards.

    Raises RuntimeError unless the checkpoint that lies there is of the curve's best epoch, and of this very training.
    """
    curve = learner.curve
    best, key = find_best_row(curve, options), name_metric(options.select)
    checkpoint = restore(learner, folder / BEST, options.precision)
    if repr(checkpoint["curve"]) != repr(curve[: best + 1]):  # to the last bit, and NaN is NaN
        raise RuntimeError(
            f"A test fold opens with the checkpoint of the best epoch, {int(curve[best]['epoch'])}, but {folder / BEST} is of "
            "another epoch or another training; remove the folder and run again."
        )
    return select(folder / BEST, folder / CURVE, int(curve[best]["epoch"]), key, curve[best][key])


def restore(learner: Learner, path: Path, precision: str) -> dict[str, Any]:
    """Give a learner the weights of a checkpoint that was trained in a precision, as single ones; returns the whole checkpoint.

    Raises ValueError where `load_weights` does.
    """
    if precision not in DTYPES:
        return load_weights(learner, path)
    convert_backbone(learner, DTYPES[precision])
    checkpoint = load_weights(learner, path)
    convert_backbone(learner, torch.float32)
    return checkpoint
