"""What studies share: colours, widths, a mean in words, a table in Markdown, a figure in its files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator

from mdm.statistics import mean_interval
from mdm.tables.escapes import INDEXED

COLOURS = ("0.35", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""A grey, then Okabe and Ito's, which people of any colour vision tell apart."""

ONE, TWO = 3.3, 6.9
"""Inches: the width of one column of a paper, and of both."""


def choose_columns(panels: int) -> tuple[int, float]:
    """Panels beside each other, and the figure's width: two in one column of a paper, four in both where there are more than six.

    >>> choose_columns(1), choose_columns(4), choose_columns(9)
    ((1, 3.3), (2, 3.3), (4, 6.9))
    """
    return (4, TWO) if panels > 6 else (min(2, panels), ONE)


def limit_scale(axes: Axes, values: np.ndarray) -> None:
    """Hold the y axis to three times the range of the values that were measured, whatever intervals or printed numbers want.

    With two seeds a 95 % t interval is 18 times as long as they are apart, and would press all else together.
    """
    finite = values[np.isfinite(values)]
    if len(finite):
        low, high = float(finite.min()), float(finite.max())
        span = (high - low) or abs(high) * 0.05 or 1.0
        bottom, top = axes.get_ylim()
        axes.set_ylim(max(bottom, low - span), min(top, high + span))


def set_math(figure: Figure) -> None:
    """Set a letter with an index, as L_kl, as mathematics wherever a figure says it."""
    for axis in filter(lambda axis: isinstance(axis.get_major_locator(), FixedLocator), figure.findobj(Axis)):
        labels = [label.get_text() for label in axis.get_ticklabels()]
        axis.set_ticklabels(list(map(format_math, labels)))
    for text in figure.findobj(Text):
        text.set_text(format_math(text.get_text()))


def format_math(text: str) -> str:
    """Text in which a letter with an index is mathematics of Matplotlib's.

    >>> format_math("MAG + L_kl on acc2_pos"), format_math("$f_y$ and T_θ")
    ('MAG + $L_{kl}$ on acc2_pos', '$f_y$ and $T_{θ}$')
    """
    parts = text.split("$")  # every second one is mathematics already
    parts[::2] = [INDEXED.sub(lambda found: f"${found[1]}_{{{found[2]}}}$", part) for part in parts[::2]]
    return "$".join(parts)


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
        set_math(figure)
        figure.savefig(folder / "figure.pdf", metadata={"CreationDate": None})
        figure.savefig(folder / "figure.png", dpi=200)
