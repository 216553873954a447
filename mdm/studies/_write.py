"""What studies share: colours, a mean in words, a table in Markdown, a figure in its files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from mdm.statistics import mean_interval

COLOURS = ("0.35", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""A grey, then Okabe and Ito's, which people of any colour vision tell apart."""


def format_mean(values: Iterable[float], digits: int = 3) -> str:
    """Mean and 95 % t interval over seeds, as text: without the interval for one value, a dash where a seed has no value."""
    x = np.array(list(values), dtype=np.float64)
    if not len(x) or not np.isfinite(x).all():
        return "–"
    low, high = mean_interval(x)
    return f"{x.mean():.{digits}f}" + ("" if np.isnan(low) else f" [{low:.{digits}f}, {high:.{digits}f}]")


def render_table(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose first line is its head."""
    head, *rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join([head, "|---" * len(lines[0]) + "|", *rows])


def write_figure(folder: Path, draw: Callable[[], Figure]) -> None:
    """What ``draw`` draws, as figure.pdf, which is the same to the byte each time, and figure.png."""
    # TrueType fonts, so that the text of a PDF can be edited and searched.
    with matplotlib.rc_context({"pdf.fonttype": 42, "font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = draw()
        figure.savefig(folder / "figure.pdf", metadata={"CreationDate": None})
        figure.savefig(folder / "figure.png", dpi=200)
