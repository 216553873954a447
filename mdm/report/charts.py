"""Numbers → inline SVG, drawn by matplotlib and coloured by the page.

matplotlib knows ticks, scales and layout, is a dependency already and needs no script in the page, where plotly's would be 4 MB and
Bokeh's 1 MB. What it lacks inside a page is added here: its colours become CSS variables, so that one drawing is right in light
and dark; its text stays text, in the page's font; every mark gets a ``<title>`` to hover over, and a class to be hidden by.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

SVG, LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"

SERIES = 8
"""Colours of series in the page: Okabe and Ito's, and the ink."""

PLACEHOLDERS = {"ink": "#010001", "soft": "#020001", "line": "#030001", "page": "#040001"}
PLACEHOLDERS |= {f"c{i}": f"#05{i:02x}01" for i in range(SERIES)}
"""CSS variable → the colour that matplotlib draws and that is replaced by it."""

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mdm",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": PLACEHOLDERS["line"],
    "axes.labelcolor": PLACEHOLDERS["soft"],
    "axes.titlecolor": PLACEHOLDERS["ink"],
    "text.color": PLACEHOLDERS["ink"],
    "xtick.color": PLACEHOLDERS["line"],
    "ytick.color": PLACEHOLDERS["line"],
    "xtick.labelcolor": PLACEHOLDERS["soft"],
    "ytick.labelcolor": PLACEHOLDERS["soft"],
    "grid.color": PLACEHOLDERS["line"],
    "grid.linewidth": 0.5,
    "path.simplify": True,
}


def find_colour(series: int) -> str:
    """The colour of the i-th series. Beyond `SERIES` colours repeat, with another dash (`find_dash`)."""
    return PLACEHOLDERS[f"c{series % SERIES}"]


def find_dash(series: int) -> str:
    return ("-", "--", ":", "-.")[series // SERIES % 4]


@dataclass
class Drawing:
    """A figure while it is drawn, and what to say of its marks."""

    figure: Figure
    label: str
    marks: dict[str, tuple[str, str]] = field(default_factory=dict)

    def mark(self, artist: Artist, title: str = "", css: str = "") -> None:
        """Give an artist a title to hover over and a CSS class."""
        gid = f"m{len(self.marks)}"
        artist.set_gid(gid)
        self.marks[gid] = (title, css)


@contextmanager
def open_drawing(label: str, width: float, height: float) -> Iterator[Drawing]:
    """A figure of so many pixels; draw in it and read it with `render_svg` before the context ends."""
    with matplotlib.rc_context(STYLE):
        yield Drawing(Figure(figsize=(width / 72, height / 72), layout="constrained"), label)


def render_svg(drawn: Drawing) -> str:
    """The drawing as an element of an HTML page: no width of its own, ids that no other drawing has, coordinates to 0.1."""
    text = io.StringIO()
    with warnings.catch_warnings():
        # Chinese words have no glyph in matplotlib's font, but the browser's fonts write them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        drawn.figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    for prefix, uri in (("", SVG), ("xlink", LINK)):
        ET.register_namespace(prefix, uri)
    root = ET.fromstring(text.getvalue())
    for parent in root.iter():
        for child in [c for c in parent if c.tag.endswith(("metadata", "style"))]:
            parent.remove(child)  # its <style> would be the whole page's
    prefix = f"d{hashlib.sha256((drawn.label + text.getvalue()).encode()).hexdigest()[:8]}-"
    used = set(re.findall(r"(?:href=\"#|url\(#)([^\")]+)", text.getvalue()))
    for element in root.iter():
        name = element.attrib.pop("id", "")
        title, css = drawn.marks.get(name, ("", ""))
        if title:
            ET.SubElement(element, f"{{{SVG}}}title").text = title
            element.insert(0, element[-1])
            del element[-1]
        if css or title:
            element.set("class", f"mark {css}".strip())
        if name in used:
            element.set("id", prefix + name)
    flatten(root)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("class", "chart")
    root.set("role", "img")
    root.set("aria-label", drawn.label)
    whole = ET.tostring(root, encoding="unicode")
    whole = re.sub(r"url\(#", f"url(#{prefix}", whole)
    whole = re.sub(r"xlink:href=\"#", f'href="#{prefix}', whole).replace(f' xmlns:xlink="{LINK}"', "")
    for name, placeholder in PLACEHOLDERS.items():
        whole = whole.replace(placeholder, f"var(--{name})")
    whole = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", whole)
    whole = re.sub(r"font-family:[^;\"]*;?", "", whole)
    whole = re.sub(r' (?:d|x|y|viewBox)="[^"]*"', lambda place: re.sub(r"-?\d+\.\d{2,}", round_coordinate, place[0]), whole)
    whole = re.sub(r'style="[^"]*"', lambda style: style[0].replace(": ", ":").replace("; ", ";"), whole)
    return re.sub(r"\s+", " ", whole).replace("> <", "><")


def round_coordinate(coordinate: re.Match[str]) -> str:
    return f"{float(coordinate[0]):.1f}".removesuffix(".0")


def flatten(parent: ET.Element) -> None:
    """Drop what draws nothing, half of matplotlib's output: groups of one thing, turns by zero, frames without a line."""
    for place, child in reversed(list(enumerate(parent))):
        flatten(child)
        if child.get("transform", "").startswith("rotate(-0 "):
            del child.attrib["transform"]
        if child.tag == f"{{{SVG}}}g" and not child.attrib:
            parent[place : place + 1] = list(child)
        elif (child.get("style") == "fill: none" and not child.get("id")) or (child.tag == f"{{{SVG}}}defs" and not len(child)):
            parent.remove(child)


def style_axes(axes: Axes, title: str, whole: bool = True) -> None:
    """Title on the left, light horizontal lines, whole numbers below."""
    axes.set_title(title, loc="left", fontsize=10, pad=8)
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.tick_params(length=3)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if whole:
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


@dataclass(frozen=True)
class Band:
    """A row in a chart of all rows: its mean over seeds, and the lowest and highest of them."""

    label: str
    series: int
    epoch: Float[np.ndarray, " n"]
    mean: Float[np.ndarray, " n"]
    low: Float[np.ndarray, " n"]
    high: Float[np.ndarray, " n"]


def draw_bands(title: str, rows: Sequence[Band]) -> str:
    """All rows in one chart; each of the class ``row-<series>``."""
    with open_drawing(f"{title} by epoch: {', '.join(row.label for row in rows)}", 350, 215) as drawn:
        axes = drawn.figure.subplots()
        for row in rows:
            css = f"row-{row.series}"
            if len(row.epoch) > 1:
                area = axes.fill_between(
                    row.epoch, row.low, row.high, color=find_colour(row.series), alpha=0.13, lw=0, clip_on=False
                )
                drawn.mark(area, css=css)
            one = "o" if len(row.epoch) == 1 else None
            line = axes.plot(
                row.epoch, row.mean, color=find_colour(row.series), ls=find_dash(row.series), marker=one, lw=1.8, clip_on=False
            )[0]
            drawn.mark(
                line, f"{row.label}: {row.mean[0]:.4g} in the first epoch, {row.mean[-1]:.4g} in epoch {row.epoch[-1]:g}", css
            )
        style_axes(axes, title)
        axes.set_xlabel("epoch")
        return render_svg(drawn)


@dataclass(frozen=True)
class Trace:
    """A run in a chart of one row; ``chosen``: where its checkpoint was taken, None in the fainter curve of the training rows."""

    seed: int
    epoch: Float[np.ndarray, " n"]
    value: Float[np.ndarray, " n"]
    chosen: tuple[float, float] | None


def draw_traces(title: str, series: int, folds: Mapping[str, Sequence[Trace]]) -> str:
    """A line a seed; of several folds the second is dashed and grey. Dots mark the chosen epochs."""
    with open_drawing(f"{title} by epoch, a line a seed, dots at the chosen epochs", 350, 215) as drawn:
        axes = drawn.figure.subplots()
        for i, (fold, runs) in enumerate(folds.items()):
            ink = PLACEHOLDERS["soft"] if i else find_colour(series)
            for run in runs:
                style: dict[str, Any] = {
                    "color": ink,
                    "ls": "--" if i else "-",
                    "lw": 1.0 if i else 1.2,
                    "alpha": 0.6 if i else 0.75,
                }
                line = axes.plot(run.epoch, run.value, clip_on=False, **style)[0]
                drawn.mark(line, f"seed {run.seed}, {fold}")
                if run.chosen is not None:
                    dot = axes.plot(*run.chosen, "o", color=ink, ms=4.5, mec=PLACEHOLDERS["page"], mew=0.8, clip_on=False, zorder=5)
                    drawn.mark(dot[0], f"seed {run.seed}: epoch {run.chosen[0]:g} chosen, {run.chosen[1]:.4g}")
        style_axes(axes, title)
        axes.set_xlabel("epoch")
        return render_svg(drawn)
