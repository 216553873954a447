"""What a person sees of a run: a line per epoch, its data, its closing table."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from mdm.data.splits import Splits
from mdm.runs import records
from mdm.runs.loggers import Logger
from mdm.runs.options import TrainerOptions
from mdm.runs.selection import find_best_row
from mdm.training.curve import TASK, describe_columns, name_metric
from mdm.training.learner import Learner

log = logging.getLogger(__name__)


class Progress(Callback):
    """One line per epoch in the log and in dashboards, and the curve so far as CSV."""

    def __init__(self, folder: Path, options: TrainerOptions, loggers: Sequence[Logger]):
        self.folder, self.options, self.loggers = folder, options, loggers

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        curve = pl_module.curve
        records.write_table(self.folder / records.CURVE, curve)
        for logger in self.loggers:
            logger.epoch(curve[-1])
        row, monitor = curve[-1], name_metric(self.options.select)
        estimates = [c.quantity for c in describe_columns(row).values() if (c.kind, c.fold) == ("estimate", "valid")]
        parts = "  ".join(f"{name} {row[f'valid/{name}']:.3f} (train {row[f'train/{name}']:.3f})" for name in estimates)
        log.info(
            "epoch %3d  train %.3f  %s %.4f  %s%s(%.1f s)",
            row["epoch"],
            row[TASK],
            monitor,
            row[monitor],
            parts + "  " if parts else "",
            "best  " if find_best_row(curve, self.options) == len(curve) - 1 else "",
            row["seconds"],
        )
        for line in explain_negative(curve, {name: o.penalty.bound_from for name, o in pl_module.objectives.items()}):
            log.warning(line)


def explain_negative(curve: Sequence[Mapping[str, float]], bounds: Mapping[str, str | None]) -> list[str]:
    """What it means that a bound on what is never negative is below 0: a line for each penalty, in the first epoch that has one.

    bounds: penalty → the side it bounds from (`Penalty.bound_from`). A function of the curve, so a resumed run says nothing twice.

    >>> explain_negative([{"train/kl/estimate": 0.1, "valid/kl/estimate": -0.02}], {"kl": "below"})[0][:42]
    'kl/estimate -0.020 is a bound from below: '
    """

    def find_negative(row: Mapping[str, float], penalty: str) -> dict[str, float]:
        columns = [c for c in describe_columns(row).values() if (c.kind, c.fold, c.penalty) == ("estimate", "valid", penalty)]
        return {c.quantity: row[c.name] for c in columns if row[c.name] < 0}

    lines = []
    for penalty, side in bounds.items():
        found = find_negative(curve[-1], penalty)
        if side is not None and found and not any(find_negative(row, penalty) for row in curve[:-1]):
            lines.append(
                f"{', '.join(f'{name} {value:.3f}' for name, value in found.items())} is a bound from {side}: {NEGATIVE[side]}"
            )
    return lines


NEGATIVE = {
    "below": "below 0 it says nothing, because what it bounds is never negative. Usual until the critic is fitted; where it stays "
    "so, the critic finds no dependence in rows that it was not fitted on",
    "above": "below 0 it contradicts itself, because no information is negative. Unless that is chance about 0, the critic fits "
    "these rows too badly to bound anything (it knows its own rows by heart, or nothing yet): do not read it as an information",
}
"""Side from which an estimate bounds → what its being negative means."""


def announce(splits: Splits) -> None:
    """What the run reads, and whether it is real."""
    spec, sizes = splits.spec, splits.sizes
    widths = ", ".join(f"{m} {f.dim}{' words' if f.tokens else ''}" for m, f in spec.features.items())
    log.info("data %s: %s; segments %s", splits.name, widths, ", ".join(f"{k} {v}" for k, v in sizes.items()))
    if splits.truth:
        known = ", ".join(f"{k} {v:.3f}" for k, v in splits.truth.items())
        log.info("these data are SYNTHETIC (%s); a number from them says nothing about people", known)


def announce_debug(reasons: Sequence[str], folder: Path) -> None:
    """Whether what comes is a result."""
    if reasons:
        log.warning("DEBUG run (%s): its numbers are no result; its record, in %s, says so", ", ".join(reasons), folder)


def summarize(record: dict[str, Any], folder: Path) -> None:
    """The closing table."""
    from rich.console import Console
    from rich.table import Table

    chosen_at = record["selected"]
    data = f"{record['data']}{' (synthetic)' if record['synthetic'] else ''}"
    debug = "DEBUG, no result: " if record.get("debug") else ""
    title = f"{debug}{record['model']} · {record['penalty']} · {data} · seed {record['seed']}"
    caption = (
        f"epoch {chosen_at['epoch']} of {chosen_at['epochs']}, chosen by {chosen_at['by']}; test read once; "
        f"{record['seconds']:.0f} s; {folder}"
    )
    table = Table(title=title)
    for column in ("metric", "valid", "test", "train mean on test"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for name in record["test"]:
        table.add_row(name, *(f"{record[part][name]:.4f}" for part in ("valid", "test", "test_of_train_mean")))
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    console.print(caption, highlight=False, soft_wrap=True)
