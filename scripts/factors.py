"""What MFM's factors do to the segments that it generates: Figure 9 of paper 003, with what would be read if nothing were there.

    python scripts/factors.py experiment=mfm/figure9 [the overrides of its sweep] [jobs=2] [mixed=true]
    python scripts/factors.py folder=outputs/single/synthetic/mfm/none/seed=0

Reads finished runs of `model=mfm` (`mdm.factors` says what is measured) on their test segments. Writes to
outputs/<name>/factors/, or factors/ in the run's folder:

    ratios.csv       a row per run, modality and kernel: what X̂ depends on, F_y or F_m, what permutations give, the ratio
    flow.csv         a row per run and modality: does flow find the words of sentiment, how much of it is position
    steps.csv        flow at each step of the segment in the figure, beside the geometric mean over all segments at that step
    generation.csv   a row per run, modality and source of styles: what follows the donor of f_y, what that of f_m
    figure.pdf, figure.png, summary.md

The section ``study`` says how many permutations and donors there are; any of its keys can be set.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from hydra import initialize_config_dir
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mdm import factors
from mdm.boundary import ended
from mdm.data.synthetic import MODALITIES, WEIGHTS
from mdm.hints import Range, Size
from mdm.reference import read
from mdm.runs import records
from mdm.runs.progress import quiet
from mdm.runs.trained import load
from mdm.statistics import mean_interval
from mdm.study import (
    COLOURS,
    alone,
    composed,
    finished_runs,
    kind_of,
    mean_and_interval,
    of_each,
    piped,
    without_jobs,
    write_figure,
)
from mdm.sweeps.experiment import read_section
from mdm.tables.gather import without_mixed

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


@dataclass(frozen=True)
class Section:
    """The section ``study``."""

    kind: str
    title: str
    permutations: Size
    donors: Annotated[int, Range(2)]


ALONE = {"title": "What MFM's factors do to what is generated", "permutations": 49, "donors": 100}
"""The section ``study`` of a single run."""
GREY, BLUE, _, GREEN, PINK, ORANGE, SKY = COLOURS
HUES = {"language": BLUE, "audio": GREEN, "video": ORANGE}
PAPER = {"language": "language", "audio": "acoustic", "video": "visual"}
"""Modalities as the paper calls them."""
TINY = float(np.finfo(np.float64).tiny)
FILES = ("ratios", "flow", "steps", "generation")


def main(arguments: list[str]) -> None:
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return
    quiet()
    overrides, mixed = without_mixed(arguments)
    overrides, jobs = without_jobs(overrides)
    one = alone(overrides, "Factors are read of an experiment or of one folder=…")
    if one is not None:
        trained = load(one)
        run = {"data": trained.cfg.data.name, "row": "run", "label": "MFM", "seed": int(trained.record["seed"])}
        study(ALONE, [(run, one)], one / "factors", {}, [], 1)
        return
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = composed(overrides)
        kind = kind_of(cfg)
        if kind != "factors":
            raise ValueError(
                f"Factors are read where an experiment has a section study of the kind factors, but {cfg.name} has "
                f"{kind}; choose experiment=mfm/figure9."
            )
        section = read_section(cfg, "study", Section)
        found = finished_runs(overrides, mixed, loaded=True)
        runs = [
            ({"data": cell.data, "row": cell.row, "label": found.table.rows[cell.row].label, "seed": run.seed}, run.folder)
            for cell, run in found.runs
        ]
        study(section, runs, found.folder("factors"), found.table.data, found.notes, jobs)


def study(
    section: Mapping[str, Any],
    runs: Sequence[tuple[Mapping[str, Any], Path]],
    folder: Path,
    stands_for: Mapping[str, str],
    notes: Sequence[str],
    jobs: int,
) -> None:
    """Load, measure, write, print; ``stands_for``: data → the paper's data set."""
    folder.mkdir(parents=True, exist_ok=True)
    of_runs = of_each(measured, [(section, own, place) for own, place in runs], jobs, "runs")
    tables = {name: pd.DataFrame([row for found in of_runs for row in found[name]]) for name in FILES}
    for name, table in tables.items():
        records.write_table(folder / f"{name}.csv", table.to_dict("records"))
    text = "\n\n".join([f"# {section['title']}", *summary(tables, stands_for), *notes]) + "\n"
    records.write_atomically(folder / "summary.md", text)
    print(text, end="")
    write_figure(folder, lambda: drawn(tables))


def measured(section: Mapping[str, Any], own: Mapping[str, Any], folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of one run for each file."""
    trained = load(folder)
    of, train = factors.inferred(trained, "test"), factors.inferred(trained, "train")
    flow, flows = factors.flow_statistics(trained, of)
    found = {
        "ratios": factors.ratios(trained, of, section["permutations"]),
        "flow": flow,
        "steps": shown(trained.splits.segments.words, trained.splits.segments.ids, of, flows),
        "generation": factors.generation(trained, train, of, section["donors"]),
    }
    return {name: [{**own, **row} for row in rows] for name, rows in found.items()}


def shown(words: Any, ids: Sequence[str], of: factors.Inferred, flows: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Flow in one segment: of those of 8 to 16 steps (of all, if there are none) the first with most words of sentiment.

    Chosen by its words alone, so that nothing is known of its flow.
    """
    steps = np.max([lengths.numpy() for lengths in of.lengths.values()], axis=0)
    fitting = np.flatnonzero((steps >= 8) & (steps <= 16))
    fitting = fitting if len(fitting) else np.flatnonzero(steps)
    of_sentiment = [sum(word in factors.SENTIMENT for word in of.words[i]) if of.words else 0 for i in fitting]
    one = int(fitting[int(np.argmax(of_sentiment))])
    text = words(list(ids).index(of.ids[one])).split()[-int(steps[one]) :]  # data.max_steps keeps the last
    rows = []
    for m, flow in flows.items():
        for t in range(int(of.lengths[m][one])):
            rows.append(
                {
                    "id": of.ids[one],
                    "modality": m,
                    "step": t + 1,
                    "word": text[t] if t < len(text) else "",
                    "sentiment": bool(of.words) and t < len(of.words[one]) and of.words[one][t] in factors.SENTIMENT,
                    "flow": float(flow[one, t]),
                    "mean": float(np.exp(np.nanmean(np.log(np.maximum(flow[:, t], TINY))))),
                }
            )
    return rows


# ---- summary


def summary(tables: Mapping[str, pd.DataFrame], stands_for: Mapping[str, str]) -> list[str]:
    parts = []
    for data in dict.fromkeys(tables["ratios"].data):
        here = {name: table[table.data == data] for name, table in tables.items()}
        seeds = here["ratios"].seed.nunique()
        parts += [f"## {data}, test segments; mean and 95 % t interval over {seeds} seed(s)", *ratios_said(here, data, stands_for)]
        parts += [*flow_said(here), *generation_said(here)]
    return parts


def ratios_said(here: Mapping[str, pd.DataFrame], data: str, stands_for: Mapping[str, str]) -> list[str]:
    printed = {
        row["metric"]: row["value"]
        for row in read("results")
        if (row["paper"], row["table"], row["dataset"]) == ("003", "F9a", stands_for.get(data, data))
    }
    head = ["", "modality", "kernel", "Depen(F_y, X̂)", "permuted", "Depen(F_a, X̂)", "permuted", "ratio: median [range]", "printed"]
    independent = [["", "modality", "Depen(F_y, F_a)", "literal", "permuted", "runs with p ≤ .05"]]
    lines = []
    for (_, m, kernel), mine in here["ratios"].groupby(["row", "modality", "kernel"], sort=False):
        names = [mine.label.iloc[0], m]
        some = f" ({mine.ratio.notna().sum()} of {len(mine)} runs)" if mine.ratio.isna().any() else ""
        values = [mean_and_interval(mine[column]) for column in ("y", "y_null", "own", "own_null")]
        lines.append(
            [
                *names,
                kernel,
                *values,
                median_and_range(mine.ratio) + some,
                printed.get(f"hsic_ratio_{PAPER.get(m, m)}", "–"),
            ]
        )
        if kernel == "corrected":
            literal = here["ratios"].loc[lambda r, mine=mine, m=m: (r.row == mine.row.iloc[0]) & (r.modality == m)]
            literal = literal[literal.kernel == "literal"]
            told = f"{(mine.both_p <= factors.LEVEL).sum()} of {len(mine)}"
            others = [mean_and_interval(literal[column]) for column in ("both", "both_null")]
            independent.append([*names, mean_and_interval(mine.both), *others, told])
    parts = [
        "**Normalised HSIC (Eq. 5), literal (σ = 1, biased) and corrected (median bandwidth, debiased)**",
        piped([head, *lines]),
        "Permuted: the mean after the segments of one side were shuffled, what is read where nothing is there. A ratio is of two "
        "numbers that must both be told from it; a corrected one is left out where its denominator is not (permutation p > .05). "
        "Its mean over runs would be that of the smallest denominator, hence median and range.",
        orders(here["ratios"], data),
        "**F_y and F_a, which the factorisation wants independent: corrected value; the literal one with what it reads permuted**",
        piped(independent),
    ]
    return [part for part in parts if part]


def median_and_range(values: pd.Series) -> str:
    x = values.dropna()
    return f"{x.median():.3f} [{x.min():.3f}, {x.max():.3f}]" if len(x) else "–"


def orders(rows: pd.DataFrame, data: str) -> str:
    """How often the ratios, and their numerators alone, order the modalities as the planted weights of the label do."""
    planted = [m for _, m in sorted(zip(WEIGHTS, MODALITIES, strict=True), reverse=True)]
    if not data.startswith("synthetic") or set(rows.modality) != set(planted):
        return ""
    lines = [["", "kernel", "by", "language first", f"{' > '.join(planted)}", "mean ranks (1: largest)"]]
    for (row, kernel), mine in rows.groupby(["row", "kernel"], sort=False):
        for by, column in (("ratio", "ratio"), ("Depen(F_y, X̂)", "y"), ("smallest Depen(F_a, X̂)", "own")):
            wide = mine.pivot(index="seed", columns="modality", values=column)[planted].dropna()
            wide = -wide if column == "own" else wide
            ranks = wide.rank(axis=1, ascending=False)
            first, all_ = (ranks[planted[0]] == 1).sum(), (ranks == [1, 2, 3]).all(axis=1).sum()
            means = ", ".join(f"{m} {ranks[m].mean():.1f}" for m in planted)
            label = rows[rows.row == row].label.iloc[0]
            lines.append([label, str(kernel), by, f"{first} of {len(wide)}", f"{all_} of {len(wide)}", means])
    weights = ", ".join(f"{m} {w:g}" for w, m in zip(WEIGHTS, MODALITIES, strict=True))
    return (
        f"**Does the ratio say which modality matters? The label's planted weights are {weights}; chance has language first in a "
        f"third of the runs, the whole order in a sixth**\n\n{piped(lines)}"
    )


def flow_said(here: Mapping[str, pd.DataFrame]) -> list[str]:
    head = ["", "modality", "explained by t", "AUC of flow", "AUC without t", "AUC of t", "AUC of expected sentiment"]
    lines = []
    for (_, m), mine in here["flow"].groupby(["row", "modality"], sort=False):
        values = [
            mean_and_interval(mine[c]) if c in mine else "–" for c in ("position", "auc", "auc_rest", "auc_t", "auc_expected")
        ]
        lines.append([mine.label.iloc[0], m, *values])
    half = (here["flow"].auc_high - here["flow"].auc_low).mean() / 2
    chance = f" Over test segments the interval of one run is ±{half:.3f}, which those over seeds do not contain."
    return [
        "**Gradient flow (Eq. 7): is it larger at words of sentiment than at others of the segment? Chance is .5**",
        piped([head, *lines]),
        "Explained by t: share of the variance of log flow within segments that the step's number explains. Expected sentiment: "
        "the probability that the decoder of language gives to words of sentiment at that step; at .5 it does not know where they "
        f"are, and its flow cannot.{chance if np.isfinite(half) else ''}",
    ]


def generation_said(here: Mapping[str, pd.DataFrame]) -> list[str]:
    head = ["", "modality", "f_a from", "probe R²", "weight of f_y's label", "weight of f_a's label", "R²"]
    head += ["sentiment: f_y", "f_a", "neither", "style: f_y", "f_a", "neither"]
    columns = ["probe", "weight_y", "weight_own", "r2"]
    columns += [f"{what}_{of}" for what in ("sentiment", "style") for of in ("y", "own", "both")]
    lines = [
        [mine.label.iloc[0], m, styles, *(mean_and_interval(mine[column], 2) for column in columns)]
        for (_, m, styles), mine in here["generation"].groupby(["row", "modality", "styles"], sort=False)
    ]
    return [
        "**Conditional generation: f_y of one segment, f_a of another or of the prior; what a probe of real segments reads of it**",
        piped([head, *lines]),
        "Probe: ridge from the mean real frame (share of each word) to the label, fitted on training segments, its R² on real test "
        "segments. Weights are standardised, on the labels of the donors. Shares of variance over all pairs of donors, of the "
        "sentiment that the probe reads and of all else in the mean frame: what follows the donor of f_y, that of f_a, and "
        "neither alone.",
    ]


# ---- figure


def drawn(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Of the first data set: a line of panels for each row of the table, and flow in one segment for the first."""
    data = tables["ratios"].data.iloc[0]
    here = {name: table[table.data == data] for name, table in tables.items()}
    names = list(dict.fromkeys(here["ratios"].row))
    figure = Figure(figsize=(7.2, 1.9 * len(names) + 3.4), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=[1.9 * len(names), 3.4])
    grid: Any = halves[0].subplots(len(names), 4, squeeze=False, sharey="col")
    for axes, row in zip(grid, names, strict=True):
        mine = {name: table[table.row == row] for name, table in here.items()}
        for panel, kernel in zip(axes[:2], factors.KERNELS, strict=True):
            draw_dependence(panel, mine["ratios"][mine["ratios"].kernel == kernel])
        draw_ratios(axes[2], mine["ratios"])
        draw_shares(axes[3], mine["generation"][mine["generation"].styles == "segments"])
        axes[0].set_ylabel(f"{mine['ratios'].label.iloc[0]}\n\nHSIC, normalised")
        axes[2].set_ylabel("ratio (log scale)")
        axes[3].set_ylabel("share that follows $f_y$")
    titles = ("literal: σ = 1, biased", "corrected", "ratio $r_i$ (Eq. 5)", "generated segments")
    for panel, title in zip(grid[0], titles, strict=True):
        panel.set_title(title, fontsize=8)
    marks = {"$F_y$, $\\hat X$": (BLUE, "o"), "$F_a$, $\\hat X$": (ORANGE, "s"), "permuted": (GREY, "_")}
    marks |= {"ratio: literal": (GREY, "D"), "corrected": (SKY, "^"), "sentiment": (GREEN, "o"), "style": (PINK, "s")}
    handles = [Line2D([], [], color=c, marker=mark, ms=4, ls="", label=label) for label, (c, mark) in marks.items()]
    halves[0].legend(handles=handles, loc="outside lower center", ncols=7, frameon=False, fontsize=7, handletextpad=0.1)
    of_first = [here[name][here[name].row == names[0]] for name in ("steps", "flow")]
    draw_flow(halves[1], *of_first)
    return figure


def dots(axes: Axes, x: float, values: pd.Series, colour: str, mark: str, middle: tuple[float, float, float]) -> None:
    """A dot a seed; beside them the middle of their values and its ends."""
    axes.plot([x + 0.06] * len(values), values, color=colour, ls="", marker=".", ms=3, alpha=0.5, mec="none")
    centre, low, high = middle
    axes.plot([x - 0.04] * 2, [low, high], color=colour, lw=1.1)
    axes.plot(x - 0.04, centre, color=colour, marker=mark, ms=3.5)


def average(values: pd.Series) -> tuple[float, float, float]:
    """Mean and 95 % interval."""
    return float(values.mean()), *mean_interval(values.to_numpy(dtype=np.float64))


def ticks(axes: Axes, modalities: Sequence[str]) -> None:
    axes.set_xticks(range(len(modalities)), [m if len(m) < 6 else f"{m[:4]}." for m in modalities])
    axes.set_xlim(-0.5, len(modalities) - 0.5)
    axes.grid(axis="y", color="0.92", lw=0.5)


def draw_dependence(axes: Axes, rows: pd.DataFrame) -> None:
    """Numerator and denominator for each modality, and what permutations give, a bar across."""
    modalities = list(dict.fromkeys(rows.modality))
    for x, m in enumerate(modalities):
        mine = rows[rows.modality == m]
        for shift, name, colour, mark in ((-0.2, "y", BLUE, "o"), (0.2, "own", ORANGE, "s")):
            dots(axes, x + shift, mine[name], colour, mark, average(mine[name]))
            axes.plot([x + shift - 0.17, x + shift + 0.17], [mine[f"{name}_null"].mean()] * 2, color=GREY, lw=1.2)
    axes.set_ylim(-0.05, 1.05)
    ticks(axes, modalities)


def draw_ratios(axes: Axes, rows: pd.DataFrame) -> None:
    """Both kernels for each modality, median and range; 1 is where F_y and F_a tell alike. A ratio below 0 has no place here."""
    modalities = list(dict.fromkeys(rows.modality))
    for x, m in enumerate(modalities):
        mine = rows[rows.modality == m]
        for shift, kernel, colour, mark in ((-0.2, "literal", GREY, "D"), (0.2, "corrected", SKY, "^")):
            values = mine[mine.kernel == kernel].ratio
            values = values[values > 0]
            if len(values):
                dots(axes, x + shift, values, colour, mark, (values.median(), values.min(), values.max()))
    axes.set_yscale("log")
    axes.axhline(1, color="0.5", lw=0.6, zorder=0)
    ticks(axes, modalities)


def draw_shares(axes: Axes, rows: pd.DataFrame) -> None:
    """Of the variance of sentiment and of style: the share that follows the donor of f_y."""
    modalities = list(dict.fromkeys(rows.modality))
    for x, m in enumerate(modalities):
        mine = rows[rows.modality == m]
        for shift, values, colour, mark in ((-0.2, mine.sentiment_y, GREEN, "o"), (0.2, mine.style_y, PINK, "s")):
            dots(axes, x + shift, values, colour, mark, average(values))
    axes.set_ylim(-0.03, 1.03)
    ticks(axes, modalities)


def draw_flow(figure: Any, rows: pd.DataFrame, found: pd.DataFrame) -> None:
    """Flow over the words of one segment, a thin line a seed, their mean thick; dashed the mean over all segments at that step."""
    panels: Any = figure.subplots(1, rows.modality.nunique(), squeeze=False)[0]
    for axes, (m, mine) in zip(panels, rows.groupby("modality", sort=False), strict=True):
        colour = HUES.get(str(m), GREY)
        for _, seed in mine.groupby("seed"):
            axes.plot(seed.step, seed.flow, color=colour, lw=0.5, alpha=0.4)
        for column, style in (("flow", "-"), ("mean", "--")):
            # Levels of runs differ by orders of magnitude: the geometric mean is in the middle of the lines.
            line = mine.assign(log=np.log(np.maximum(mine[column], TINY))).groupby("step").log.mean()
            axes.plot(
                line.index, np.exp(line), color=colour if style == "-" else "black", lw=1.5 if style == "-" else 0.9, ls=style
            )
        one = mine[mine.seed == mine.seed.iloc[0]]
        axes.set_yscale("log")
        axes.set_xticks(one.step, one.word if one.word.any() else one.step, rotation=90, fontsize=6.5)
        for label, of_sentiment in zip(axes.get_xticklabels(), one.sentiment, strict=True):
            if of_sentiment:
                label.set_fontweight("bold")
        for step in one.step[one.sentiment]:
            axes.axvspan(step - 0.4, step + 0.4, color="0.93", lw=0, zorder=0)
        of_all = found[found.modality == m]
        finds = f", AUC {of_all.auc.mean():.2f}" if of_all.auc.notna().all() else ""
        axes.set_title(f"{m}{finds}; t explains {100 * of_all.position.mean():.0f} %", fontsize=7.5)
        axes.grid(axis="y", color="0.92", lw=0.5)
    panels[0].set_ylabel(r"flow $\|\partial\hat{x}^t/\partial f_y\|_F^2$")
    handles = [
        Line2D([], [], color=GREY, lw=1.5, label="this segment (thin: each seed)"),
        Line2D([], [], color="black", lw=0.9, ls="--", label="all segments, geometric mean at that step"),
        Line2D([], [], color="0.9", lw=6, label="words of sentiment"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=7)


if __name__ == "__main__":
    with ended():
        main(sys.argv[1:])
