"""The pictures of the site's gallery, of numbers that are made up: what each study's picture looks like.

    python scripts/gallery.py [folder]          # docs/images

A sheet's or a frame's numbers are drawn by a generator with a fixed seed; the drawing is the studies' own.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mdm.boundary import exit_on_error
from mdm.reference import Printed
from mdm.studies._write import write_figure
from mdm.studies.grid import draw_grid
from mdm.studies.robustness.corruption import summarise_seeds
from mdm.studies.robustness.picture import draw_robustness
from mdm.studies.traces import Traced, draw_traces
from mdm.sweeps.experiment import Row, Table
from mdm.tables.gather import Run
from mdm.tables.numbers import Block, Column, Entry, Line, Sheet

ROOT = Path(__file__).resolve().parents[1]
ROWS = {"none": "LMF", "kl": "+ L_kl", "hsic": "+ HSIC", "wasserstein": "+ L_W"}


def main(arguments: list[str]) -> None:
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return
    if len(arguments) > 1 or any("=" in argument for argument in arguments):
        raise ValueError(f"scripts/gallery.py takes a folder or nothing, got {' '.join(arguments)}; correct it.")
    folder = Path(arguments[0]) if arguments else ROOT / "docs" / "images"
    for name in PICTURES:
        print(write_picture(name, folder))


def write_picture(name: str, folder: Path) -> Path:
    """Draw a picture as PNG and PDF into a folder; where the PNG lies."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        write_figure(Path(made), PICTURES[name])
        for suffix in ("png", "pdf"):
            (folder / f"{name}.{suffix}").write_bytes((Path(made) / f"figure.{suffix}").read_bytes())
    return folder / f"{name}.png"


def print_value(value: str) -> Printed:
    return Printed(value, "absolute", None, "paper_run", "")


def build_grid(seeds: int) -> Figure:
    """Four rows in two columns, with a paper's numbers, one of them beyond the scale."""
    rng = np.random.default_rng(1)
    columns = (Column("mae", "mae", 3, True), Column("acc2_pos", "acc2", 1, False))
    lines = []
    for i, (name, label) in enumerate(ROWS.items()):
        values = {
            "mae": 0.95 - 0.02 * i + 0.02 * rng.normal(size=seeds),
            "acc2_pos": 78 + 0.7 * i + rng.normal(size=seeds),
        }
        printed = {"mae": print_value(f"{0.93 - 0.01 * i:.3f}"), "acc2_pos": print_value("92.0" if i == 3 else f"{78 + i}.1")}
        entries = {metric: Entry(dict(enumerate(map(float, of))), printed[metric]) for metric, of in values.items()}
        runs = tuple(Run(seed, Path(), "finished", {}) for seed in range(seeds))
        lines.append(Line(Row(name, label, ()), runs, entries))
    declared = Table("Made up", seeds, {"synthetic": "mosi"}, {}, {}, {}, paper={"paper": "000"})
    return draw_grid(Sheet("gallery", declared, (Block("synthetic", "mosi", columns, tuple(lines), True, ""),), 3, (), ()))


def build_traces() -> Figure:
    """Two rows that have two kinds of loss in common, and one that has two of its own."""
    rng = np.random.default_rng(2)
    epochs = pd.Series(range(12))

    def fall(start: float, end: float) -> pd.Series:
        return pd.Series(end + (start - end) * np.exp(-epochs / 4) + 0.02 * rng.normal(size=12))

    runs: list[Traced] = []
    for name, label in (("none", "LMF"), ("kl", "LMF + L_kl"), ("club", "LMF + CLUB")):
        for seed in range(3):
            panels = {"task": {"train": fall(1.3, 0.5), "valid/mae": fall(1.3, 0.9)}}
            if name != "none":
                panels[f"penalty {name}"] = {"term": fall(0.0, -0.3)}
                panels[f"estimate {name}"] = {"train": fall(0.1, 1.0), "valid": fall(0.1, 0.6)}
            keys = {"data": "synthetic", "row": label, "seed": seed}
            runs.append((keys, 6 + seed, epochs, panels))
    return draw_traces(runs, {"synthetic": "stand-in for CMU-MOSI"})


def build_robustness(seeds: int) -> Figure:
    """Two rows, two seeds: the interval of a mean of two would be many times as long as the scale."""
    rng = np.random.default_rng(3)
    rows = []
    for name, label in (("none", "MAG-BERT"), ("kl", "+ L_kl")):
        for seed in range(seeds):
            keys = {
                "data": "synthetic",
                "row": name,
                "label": label,
                "seed": seed,
                "majority": 0.52,
                "constant": False,
                "corr": 0.6,
            }
            rows.append({**keys, "corruption": "none", "kept": "all", "level": 0.0, "acc2_pos": 0.8, "ratio": 1.0, "mae": 1.0})
            for corruption, levels in (("absent", (1.0,)), ("noise", (0.5, 1.0))):
                for kept in ("audio", "video", "audio+video"):
                    for level in levels:
                        ratio = 1 - 0.25 * level + 0.05 * (name == "kl") + 0.02 * float(rng.normal())
                        measured = {
                            "corruption": corruption,
                            "kept": kept,
                            "level": level,
                            "ratio": ratio,
                            "acc2_pos": 0.8 * ratio,
                            "mae": 1.0,
                        }
                        rows.append({**keys, **measured})
    runs = pd.DataFrame(rows)
    return draw_robustness(runs, summarise_seeds(runs, {"none": None, "kl": "none"}), {"synthetic": "stand-in for CMU-MOSI"})


PICTURES: dict[str, Callable[[], Figure]] = {
    "grid": partial(build_grid, 5),
    "traces": build_traces,
    "robustness": partial(build_robustness, 2),
}

if __name__ == "__main__":
    with exit_on_error():
        main(sys.argv[1:])
