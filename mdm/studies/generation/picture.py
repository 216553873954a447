"""Digits named and images generated, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mdm.statistics import mean_interval
from mdm.studies._write import COLOURS
from mdm.studies.generation.wording import format_code

DRAWS = 10
"""Drawn columns of the picture, for each code."""

Pictures = Mapping[str, Mapping[str, np.ndarray]]
"""What is fixed → modality → images."""


def draw_generation(accuracies: pd.DataFrame, frame: pd.DataFrame, pictures: Pictures) -> Figure:
    """5b and the shares of digits above, 5c below; of the first data set and the first row that generates."""
    accuracies, frame = (f[f.data == frame.data.iloc[0]] for f in (accuracies, frame))
    frame = frame[frame.row == frame.row.iloc[0]]
    figure = Figure(figsize=(7.2, 6.4), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=[1, 1.95])
    left, right = halves[0].subplots(1, 2, width_ratios=[1, 2])
    for x, (_, group) in enumerate(accuracies.groupby("row", sort=False)):
        draw_bar(left, x, group.accuracy.to_numpy(np.float64), COLOURS[x % len(COLOURS)], 0.7)
    left.set_xticks(range(accuracies.row.nunique()), list(dict.fromkeys(accuracies.label)), rotation=30, ha="right")
    left.set_title("(b) digits named right", fontsize=8)
    left.set_ylabel("test accuracy")
    left.set_ylim(0, 1)
    named = frame[frame.measure == "digit"]
    fixed, modalities = list(dict.fromkeys(named.fixed)), list(dict.fromkeys(named.modality))
    for i, m in enumerate(modalities):
        for x, name in enumerate(fixed):
            values = named[(named.modality == m) & (named.fixed == name)].value.to_numpy(np.float64)
            place = x + (i - (len(modalities) - 1) / 2) * 0.36
            draw_bar(right, place, values, COLOURS[(i + 1) % len(COLOURS)], 0.32, m if x == 0 else None)
    right.axhline(0.1, color="0.5", lw=0.8, ls=":")
    right.set_xticks(
        range(len(fixed)), [f"${format_code(n)[0]}_{{{n}}}$ fixed" if format_code(n) != n else WORDS[n] for n in fixed]
    )
    right.set_title("images that judges name as the source's digit (dots: seeds; dotted: chance)", fontsize=8)
    right.set_ylim(0, 1)
    if modalities:
        right.legend(frameon=False, fontsize=7.5)
    draw_samples(halves[1], pictures)
    halves[1].suptitle(f"(c) images of {frame.label.iloc[0]}, seed {frame.seed.iloc[0]}", fontsize=8)
    return figure


WORDS = {"real": "real", "all": "recon-\nstructed", "none": "all drawn"}


def draw_bar(axes: Axes, x: float, values: np.ndarray, colour: str, width: float, label: str | None = None) -> None:
    """From 0 to the mean, with its 95 % interval and a dot a seed."""
    axes.bar(x, values.mean(), width, color=colour, alpha=0.35, label=label)
    axes.plot([x] * 2, mean_interval(values), color=colour, lw=1.4)
    axes.plot([x + 0.2 * width] * len(values), values, color=colour, ls="", marker=".", ms=4, mec="none")


def draw_samples(figure: Any, pictures: Pictures) -> None:
    """A block for each code: above SVHN and MNIST in turn for each source; real, reconstructed, then drawn."""
    grid: Any = figure.subplots(2, 2)
    for axes, (fixed, images_) in zip(grid.flat, pictures.items(), strict=True):
        sheet = tile([images_[m] for m in images_])
        axes.imshow(sheet, interpolation="nearest")
        axes.set_title(f"$Z_{{{fixed}}}$ fixed, the others drawn" if fixed != "none" else "every code drawn", fontsize=8)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        if fixed != "none":
            side = max(next(iter(images_.values())).shape[3], 1) + GAP
            axes.set_xticks([0.5 * side, 1.5 * side, (2 + DRAWS / 2) * side], ["real", "again", "drawn"])
            axes.tick_params(length=0, labelsize=6.5)


GAP = 2


def tile(images_: Sequence[np.ndarray]) -> np.ndarray:
    """Images [sources, columns, channels, height, width] of several modalities → one picture, a row a source and modality."""
    side = max(max(x.shape[3:]) for x in images_) + GAP
    sources, columns = images_[0].shape[:2]
    sheet = np.ones((sources * len(images_) * side, columns * side, 3))
    for k, x in enumerate(images_):
        top, left = ((side - n) // 2 for n in x.shape[3:])
        for i in range(sources):
            for j in range(columns):
                y, z = (i * len(images_) + k) * side + top, j * side + left
                sheet[y : y + x.shape[3], z : z + x.shape[4]] = np.moveaxis(x[i, j], 0, -1)
    return sheet
