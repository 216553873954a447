"""After runs: their losses while they trained, with the best epoch marked (paper 001, Figure 2).

Paper 001 draws a point per 20 steps and reads off one run that, where the best epoch ends, L_BA is lowest while L_CPC and the task
loss still fall. A record holds the mean of every epoch, of every model and penalty, so the same can be asked of many runs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

TASK, OWN = "task", "own terms"


def traced(curve: pd.DataFrame, select: str) -> dict[str, dict[str, pd.Series]]:
    """A panel for each kind of quantity of a curve: panel → line → its values by epoch; lines without a value are left out.

    ``task``: the training loss, and ``select``, the column that the checkpoint is chosen by. ``own terms``: what the model's own
    paper adds to the loss (MMIM's CPC), and their sum. For each penalty, ``penalty <name>``: what it adds, and the sum of several
    (``own``: the model's, as MMIM's L_BA); and ``estimate <name>``: what it measures, on training and on validation rows. Weights
    and signs of losses are included.

    Raises ValueError if the curve is not that of a run that was trained.
    """
    if "train/task" not in curve or select not in curve:
        raise ValueError(
            f"Losses are traced in the curve of a trained run, which has train/task and {select}, but this one has "
            f"{', '.join(curve)}; choose a run of another model than baseline."
        )
    panels: dict[str, dict[str, pd.Series]] = {TASK: {"train": curve["train/task"], select: curve[select]}}
    names = [name for name in curve if name.startswith("train/") and name != "train/task" and curve[name].notna().any()]
    for name in names:
        first, _, rest = name.removeprefix("train/").partition("/")
        twin = f"valid/{first}/{rest}"
        if not rest:
            panels.setdefault(OWN, {})[first] = curve[name]
        elif twin in curve:
            panels.setdefault(f"estimate {first}", {}).update({f"{rest}, train": curve[name], f"{rest}, valid": curve[twin]})
        else:
            panels.setdefault(f"penalty {first}", {})[rest] = curve[name]
    for panel, lines in panels.items():
        if panel != TASK and not panel.startswith("estimate ") and len(lines) > 1:
            lines["sum"] = pd.concat(lines.values(), axis=1).sum(axis=1, skipna=False)
    return panels


def lowest(curve: pd.DataFrame, select: str, epoch: int) -> list[dict[str, Any]]:
    """Of every loss (the sum where a penalty has several terms): where it is lowest, beside the chosen epoch.

    chosen_epoch, lowest_epoch, epochs; at_chosen, lowest, last: its values; rank: the share of the other epochs in which it is
    lower than at the chosen one, 0 if it is lowest there
    """
    rows = []
    for panel, lines in traced(curve, select).items():
        if panel.startswith("estimate "):
            continue
        for name, line in lines.items():
            if panel != TASK and name != "sum" and len(lines) > 1:
                continue
            values = line.to_numpy(dtype=np.float64)
            at = float(values[curve.epoch.to_numpy() == epoch][0])
            known = values[np.isfinite(values)]
            rows.append(
                {
                    "loss": panel if panel != TASK else "task, train" if name == "train" else name,
                    "chosen_epoch": epoch,
                    "lowest_epoch": int(curve.epoch[line.idxmin()]) if len(known) else -1,
                    "epochs": len(values),
                    "at_chosen": at,
                    "lowest": float(known.min()) if len(known) else math.nan,
                    "last": float(values[-1]),
                    "rank": float((known < at).sum() / (len(known) - 1)) if len(known) > 1 and math.isfinite(at) else math.nan,
                }
            )
    return rows
