"""The losses of runs while they trained, every part apart, with the best epoch marked (paper 001, Figure 2).

    python scripts/traces.py experiment=mmim/figure2  [the overrides of its sweep] [mixed=true]
    python scripts/traces.py folder=outputs/single/synthetic/lmf/kl/seed=0

Any run that was trained, of any model and penalty. Prints, for every loss, whether it is lowest where the best epoch ends. Writes
figure.pdf, figure.png, lowest.csv (a row per run and loss) and summary.md to outputs/<name>/traces/, or to traces/ in the run's
folder. The numbers of the figure are the curve.csv of each run.
"""

import sys
from pathlib import Path
from typing import Any

import pandas as pd
from hydra import initialize_config_dir
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mdm.boundary import ended
from mdm.runs import records
from mdm.runs.progress import quiet
from mdm.study import COLOURS, alone, finished_runs, mean_and_interval, piped, write_figure
from mdm.tables.gather import without_mixed
from mdm.traces import lowest, traced

CONFIGS = Path(__file__).resolve().parents[1] / "configs"

Runs = list[tuple[str, str, int, Path]]
"""(label, data, seed, folder)"""


def main(arguments: list[str]) -> None:
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return
    quiet()
    one = alone(arguments, "Losses are read of an experiment or of one folder=…")
    if one is not None:
        record = records.read_record(one)
        label = f"{record['model']} · {record['penalty']}"
        folder = one / "traces"
        folder.mkdir(exist_ok=True)
        trace(f"{label} on {record['data']}", folder, [(label, record["data"], record["seed"], one)], [])
        return
    overrides, mixed = without_mixed(arguments)
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        study = finished_runs(overrides, mixed)
    runs = [(study.table.rows[cell.row].label, cell.data, run.seed, run.folder) for cell, run in study.runs]
    trace(study.table.title, study.folder("traces"), runs, study.notes)


def trace(title: str, folder: Path, runs: Runs, notes: list[str]) -> None:
    """Numbers, summary and figure of some runs."""
    found, panels = [], []
    for label, data, seed, place in runs:
        curve, chosen = records.read_table(place, records.CURVE), records.read_record(place)["selected"]
        keys = {"data": data, "row": label, "seed": seed}
        found += [{**keys, **row} for row in lowest(curve, chosen["by"], chosen["epoch"])]
        panels.append((keys, chosen["epoch"], curve.epoch, traced(curve, chosen["by"])))
    records.write_table(folder / "lowest.csv", found)
    text = "\n\n".join([f"# {title}: losses", summary(pd.DataFrame(found)), *notes]) + "\n"
    records.write_atomically(folder / "summary.md", text)
    print(text, end="")
    write_figure(folder, lambda: drawn(panels))


def summary(found: pd.DataFrame) -> str:
    heads = ["", "loss", "runs", "lowest at the best epoch", "epochs from the best to the lowest"]
    heads += ["share of other epochs where lower", "at the best", "lowest", "last"]
    lines = [heads]
    for (data, row, loss), of in found.groupby(["data", "row", "loss"], sort=False):
        later = of.lowest_epoch - of.chosen_epoch
        values = (f"{of[name].mean():.3f}" for name in ("at_chosen", "lowest", "last"))
        cells = [
            f"{row} on {data}",
            loss,
            str(len(of)),
            f"{int((later == 0).sum())} of {len(of)}",
            mean_and_interval(later, 2),
            mean_and_interval(of["rank"], 2),
        ]
        lines.append([*cells, *values])
    return piped(lines) + "\n\nMeans of epochs, weights and signs included; mean and 95 % t interval over seeds."


# ---- figure


def drawn(runs: list[Any]) -> Figure:
    """A column for each kind of loss, a row for each row of the table; a line a seed, a dot where its best epoch ends."""
    rows = list(dict.fromkeys((keys["data"], keys["row"]) for keys, *_ in runs))
    kinds = list(dict.fromkeys(kind for *_, panels in runs for kind in panels))
    figure = Figure(figsize=(0.6 + 2.3 * len(kinds), 0.5 + 2.1 * len(rows)), layout="constrained")
    grid: Any = figure.subplots(len(rows), len(kinds), squeeze=False, sharex=True)
    for i, (data, row) in enumerate(rows):
        mine = [run for run in runs if (run[0]["data"], run[0]["row"]) == (data, row)]
        for j, kind in enumerate(kinds):
            axes = grid[i, j]
            if any(kind in panels for *_, panels in mine):
                draw_panel(axes, mine, kind)
            else:
                axes.set_axis_off()
            axes.set_title(kind if i == 0 else "", fontsize=8)
            axes.set_xlabel("epoch" if i == len(rows) - 1 else "")
        grid[i, 0].set_ylabel(f"{row}, {data}")
    dot = Line2D([], [], color="black", marker="o", ms=3.5, ls="", label="the best epoch, chosen on validation; a line a seed")
    figure.legend(handles=[dot], loc="outside lower center", frameon=False, fontsize=7.5)
    return figure


def draw_panel(axes: Axes, runs: list[Any], kind: str) -> None:
    names = list(dict.fromkeys(name for *_, panels in runs for name in panels.get(kind, {})))
    for k, name in enumerate(names):
        colour = "black" if name == "sum" else COLOURS[1 + k % (len(COLOURS) - 1)]
        for n, (_, chosen, epochs, panels) in enumerate(runs):
            line = panels.get(kind, {}).get(name)
            if line is not None:
                axes.plot(epochs, line, color=colour, lw=1, alpha=0.7, label=name if n == 0 else "")
                axes.plot(epochs[epochs == chosen], line[epochs == chosen], color=colour, marker="o", ms=3.5, ls="")
    axes.grid(color="0.92", lw=0.5)
    axes.legend(frameon=False, fontsize=6.5)


if __name__ == "__main__":
    with ended():
        main(sys.argv[1:])
