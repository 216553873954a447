"""What critics and contrastive heads say of every test segment, and whether it is so.

    python scripts/explain.py experiment=mdm/table3  [the overrides of its sweep] [examples=4] [new=4000] [jobs=2] [mixed=true]
    python scripts/explain.py experiment=mmim/table5
    python scripts/explain.py folder=outputs/single/synthetic/lmf/kl/seed=0

Reads finished runs with a dependency penalty (measured only, or not) or of MMIM, whatever their model and data. Writes to
outputs/<name>/explanation/, or explanation/ in the run's folder:

    segments.csv   a row per run and test segment: words, label, prediction, T and MMIM's scores, energy of audio and video, marks
    rankings.csv   a row per run: how well low T finds the segments that are marked contradictory, beside other scores
    scores.csv     a row per run and modality: MMIM's scores, and how far predictions move without the modality
    examples.csv   the lowest and highest T, and MMIM's cases, of each row's first seed
    figure.pdf, figure.png, summary.md

new: segments drawn anew from the population of synthetic data, on which the rankings are measured as well; 0 for none
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hydra import initialize_config_dir
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import mdm
from mdm.boundary import ended
from mdm.explanation import MARK, Rows, cases, dependence, drawn_again, examples, explained, ranking
from mdm.reference import read
from mdm.runs import records
from mdm.runs.progress import quiet
from mdm.statistics import mean_interval
from mdm.study import COLOURS, alone, finished_runs, mean_and_interval, of_each, piped, without_jobs, write_figure

CONFIGS = Path(__file__).resolve().parents[1] / "configs"

HUES = COLOURS[1:]
"""Without the grey, in which what T is compared with is drawn."""

OPTIONS = {"examples": "4", "new": "4000", "jobs": "1", "mixed": "false"}
"""What is no override, and its default."""


@dataclass(frozen=True)
class Study:
    """The runs to explain: (row, data, seed, folder); what a row is called, and which it is compared with."""

    title: str
    folder: Path
    runs: list[tuple[str, str, int, Path]]
    labels: Mapping[str, str]
    baselines: Mapping[str, str]
    notes: Sequence[str] = ()


def main(arguments: list[str]) -> None:
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return
    quiet()
    said = dict(argument.split("=", 1) for argument in arguments if "=" in argument and argument.split("=", 1)[0] in OPTIONS)
    options = {**OPTIONS, **said}
    numbers = [options[key] for key in ("examples", "new")]
    if not all(n.isascii() and n.isdecimal() and len(n) < 8 for n in numbers) or options["mixed"] not in ("true", "false"):
        raise ValueError(f"examples and new are whole numbers and mixed is true or false, but {said} came; correct it.")
    jobs = without_jobs([f"jobs={options['jobs']}"])[1]
    rest = [argument for argument in arguments if argument.split("=", 1)[0] not in OPTIONS]
    one = alone(rest, "Runs of an experiment are explained, or one of folder=…")
    if one is not None:
        record = records.read_record(one)
        name = f"{record['model']} · {record['penalty']}"
        run = (record["penalty"], record["data"], record["seed"], one)
        study = Study(f"{name} on {record['data']}", run[3] / "explanation", [run], {record["penalty"]: name}, {})
    else:
        study = declared(rest, options["mixed"] == "true")
    explain(study, int(options["examples"]), int(options["new"]), jobs)


def declared(overrides: list[str], mixed: bool) -> Study:
    """The finished runs of an experiment.

    Raises ValueError where its declaration, the command line or the records break a contract, or if no run has finished.
    """
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        found = finished_runs(overrides, mixed, loaded=True)
    runs = [(cell.row, cell.data, run.seed, run.folder) for cell, run in found.runs]
    labels = {name: row.label for name, row in found.table.rows.items()}
    baselines = {name: row.baseline for name, row in found.table.rows.items() if row.baseline}
    return Study(found.table.title, found.folder("explanation"), runs, labels, baselines, found.notes)


def explain(study: Study, k: int, new: int, jobs: int) -> None:
    """Read every run, write the numbers, print what they come to."""
    first: dict[tuple[str, str], int] = {}
    for row, data, seed, _ in study.runs:
        first.setdefault((data, row), seed)
    calls = [(run, k if run[2] == first[run[1], run[0]] else 0, new) for run in study.runs]
    of_runs = of_each(read_run, calls, jobs, "runs")
    study.folder.mkdir(parents=True, exist_ok=True)
    found = {name: [row for of_run in of_runs for row in of_run[name]] for name in of_runs[0]}
    for name, rows in found.items():
        if rows:
            records.write_table(study.folder / f"{name}.csv", rows)
    frames = {name: pd.DataFrame(rows) for name, rows in found.items()}
    text = summary(study, frames)
    records.write_atomically(study.folder / "summary.md", text)
    print(text, end="")
    write_figure(study.folder, lambda: drawn(study, frames))


def read_run(which: tuple[str, str, int, Path], k: int, new: int) -> dict[str, Rows]:
    """The rows of one run for each file; ``k`` examples at either end, and cases, or none of both for 0."""
    row, data, seed, folder = which
    trained, run = mdm.load(folder), {"data": data, "row": row, "seed": seed}
    own, label_range = explained(trained), trained.splits.spec.label_range
    sets, again = {"test": own}, drawn_again(trained.splits.segments, new) if new else None
    if again is not None:
        sets["new"] = explained(trained, again)
    rankings: Rows = []
    scores: Rows = []
    for on, rows in sets.items():
        rankings += [{**run, "critic": c, "on": on, **ranking(rows, c, label_range)} for c in critics_of(rows)]
        scores += [{**run, "modality": m, "on": on, **dependence(rows, m)} for m in scored(rows)]
    shown: Rows = []
    if k:
        shown += [{**run, "by": c, **segment} for c in critics_of(own) for segment in examples(own, c, k)]
        if scored(own) and "label" in own[0]:
            shown += [{**run, "by": "scores", **segment} for segment in cases(own, label_range)]
    return {"segments": [{**run, **segment} for segment in own], "rankings": rankings, "scores": scores, "examples": shown}


def critics_of(rows: Rows) -> list[str]:
    return [name for name in rows[0] if name == "T" or name.startswith("T_")]


def scored(rows: Rows) -> list[str]:
    """The modalities that MMIM scores."""
    return [name[2:] for name in rows[0] if name.startswith("s_") and not name.endswith("_other")]


# ---- summary


def summary(study: Study, frames: Mapping[str, pd.DataFrame]) -> str:
    parts = [f"# {study.title}"]
    parts += study.notes
    rankings, scores, shown = frames["rankings"], frames["scores"], frames["examples"]
    for (data, critic, on), group in grouped(rankings, ["data", "critic", "on"]):
        where = "new segments of the same population" if on == "new" else "the test fold"
        heading = f"## {critic} on {group.segments.iloc[0]} segments of {data}: {where}"
        parts += [heading, *(marked(study, group) if group.contradictory.iloc[0] else unmarked(study, group))]
    for (data, row, on), group in grouped(scores, ["data", "row", "on"]):
        parts.append(f"## Scores of {study.labels[row]} on {data}, {'new segments' if on == 'new' else 'the test fold'}")
        heads = {"score": "s", "score_other": "s of other segments", "moved": "prediction moves by"}
        heads |= {"rank_moved": "ρ(s, moves)", "rank_excess_moved": "ρ(s − other, moves)"}
        lines = [["modality", *heads.values()]]
        lines += [[m, *(mean_and_interval(of[name]) for name in heads)] for m, of in group.groupby("modality", sort=False)]
        parts += [piped(lines), f"{counted(group.seed.nunique())}; mean and 95 % t interval; ρ: Spearman, over segments."]
    for (data, row, by), group in grouped(shown, ["data", "row", "by"]):
        parts.append(f"## Examples of {study.labels[row]} on {data}, seed {group.seed.iloc[0]}")
        parts.append(piped(scored_cases(group) if by == "scores" else extremes(group, by)))
    if len(scores):
        parts += ["## The paper's cases (001, Table 5)", piped(printed_cases())]
    return "\n\n".join(parts) + "\n"


def grouped(frame: pd.DataFrame, by: list[str]) -> Any:
    return frame.groupby(by, sort=False) if len(frame) else ()


def marked(study: Study, group: pd.DataFrame) -> list[str]:
    """Where the contradictory segments are known: does low T find them?"""
    heads = {"auc_T": "low T", "auc_prediction": "small prediction", "auc_error": "large error", "auc_best": "log p/q"}
    ranks = {"rank_agreement": "ρ(T, agreement)", "rank_error": "ρ(T, error)"}
    lines = [["", "runs", *(f"AUC of {head}" for head in heads.values()), "low T − small prediction", "low T − baseline"]]
    lines[0] += ranks.values()
    for row, of in group.groupby("row", sort=False):
        against, baseline = "–", study.baselines.get(str(row))
        if baseline in set(group.row):
            pairs = of.set_index("seed").auc_T.sub(group[group.row == baseline].set_index("seed").auc_T).dropna()
            against = f"{mean_and_interval(pairs)} ({study.labels[str(baseline)]})" if len(pairs) else "–"
        cells = [mean_and_interval(of[name]) if name != "auc_best" else f"{of.auc_best.mean():.3f}" for name in heads]
        cells += [mean_and_interval(of.auc_T - of.auc_prediction), against, *(mean_and_interval(of[name]) for name in ranks)]
        lines.append([study.labels[str(row)], str(len(of)), *cells])
    first = group.iloc[0]
    return [
        piped(lines),
        f"How well a score finds the {first.contradictory} of {first.segments} segments that are marked contradictory; mean and "
        "95 % t interval over seeds (of paired differences, too), which all read the same segments: of a score that knows nothing, "
        f"95 % of the AUCs lie in 0.5 ± {first.chance:.3f}. log p/q, of the latents, is what a critic of KL reads at best: "
        "other things may find contradiction better. agreement is v_l (v_a + v_v)/2 of the valences; ρ: Spearman.",
    ]


def unmarked(study: Study, group: pd.DataFrame) -> list[str]:
    lines = [["", "runs", "ρ(T, error)", "ρ(T, distance of the label from the middle)"]]
    for row, of in group.groupby("row", sort=False):
        lines.append([study.labels[str(row)], str(len(of)), mean_and_interval(of.rank_error), mean_and_interval(of.rank_label)])
    note = "Spearman over segments; mean and 95 % t interval over seeds. Nothing marks the contradictory segments of these data."
    return [piped(lines), note]


def extremes(group: pd.DataFrame, critic: str) -> list[list[str]]:
    energies = [name for name in group if name.startswith("energy_") and group[name].notna().any()]
    marks = [name for name in (MARK, "agreement") if name in group and group[name].notna().any()]
    heads = ["", critic, "words", *targets(group), *(name.replace("_", " ") for name in energies), *marks]
    return [heads] + [
        [row.end, short(row[critic]), row.words or "–", *(short(row[name]) for name in [*targets(group), *energies])]
        + [("yes" if row[name] else "no") if name == MARK else short(row[name]) for name in marks]
        for _, row in group.iterrows()
    ]


def targets(group: pd.DataFrame) -> list[str]:
    return [name for name in group if name.split("_")[0] in ("label", "prediction") and group[name].notna().any()]


def scored_cases(group: pd.DataFrame) -> list[list[str]]:
    names = scored(group.dropna(axis=1, how="all").to_dict("records"))
    heads = ["case", "words", " / ".join(f"s {m}" for m in names), "prediction", "label"]
    return [heads] + [
        [
            row.case,
            row.words or "–",
            " / ".join(bold(row[f"s_{m}"]) for m in names),
            f"{row.prediction:+.2f}",
            f"{row.label + 0.0:+.2f}",
        ]
        for _, row in group.iterrows()
    ]


def printed_cases() -> list[list[str]]:
    of_case: dict[str, dict[str, str]] = {}
    for cell in read("results"):
        if (cell["paper"], cell["table"]) == ("001", "T5"):
            of_case.setdefault(cell["penalty_or_variant"], {})[cell["metric"]] = cell["value"]
    names = ("s_zt", "s_zv", "s_za")
    rows = [[case, " / ".join(bold(float(of[n])) for n in names), of["pred"], of["truth"]] for case, of in of_case.items()]
    return [["case", "s language / s video / s audio", "prediction", "label"], *rows]


def bold(score: float) -> str:
    """As the paper prints it: bold from 0.8 on."""
    return "–" if np.isnan(score) else f"**{score:.2f}**" if score >= 0.8 else f"{score:.2f}"


def short(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.2f}"


def counted(n: int) -> str:
    return f"{n} run{'s' if n > 1 else ''}"


# ---- figure


def drawn(study: Study, frames: Mapping[str, pd.DataFrame]) -> Figure:
    """A line of panels for each data set and critic, and one for each MMIM."""
    lines: list[tuple[Any, ...]] = []
    for (data, critic), group in grouped(frames["rankings"], ["data", "critic"]):
        lines.append((critic_panels, study, group, frames["segments"][frames["segments"].data == data], critic))
    for (_, row), group in grouped(frames["scores"], ["data", "row"]):
        lines.append((score_panels, study.labels[row], group))
    figure = Figure(figsize=(7.2, 0.3 + 3.1 * len(lines)), layout="constrained")
    grid: Any = figure.subplots(len(lines), 2, squeeze=False)
    for axes, (draw, *arguments) in zip(grid, lines, strict=True):
        draw(*axes, *arguments)
    return figure


def critic_panels(left: Axes, right: Axes, study: Study, group: pd.DataFrame, segments: pd.DataFrame, critic: str) -> None:
    rows = list(dict.fromkeys(group.row))
    known = bool(group.contradictory.iloc[0])
    value = "auc_T" if known else "rank_error"
    group = group[group.on == ("new" if "new" in set(group.on) else "test")]
    if known:
        half = group.chance.iloc[0]
        left.axvspan(0.5 - half, 0.5 + half, color="0.93", lw=0)
        left.axvline(group.auc_best.mean(), color="black", lw=1, ls="--")
        left.annotate("log p/q", (group.auc_best.mean(), -0.6), (3, 0), textcoords="offset points", fontsize=6.5, va="center")
    left.axvline(0.5 if known else 0, color="0.5", lw=0.8)
    for i, row in enumerate(rows):
        mine = group[group.row == row]
        dots(left, i, mine[value], HUES[i % len(HUES)])
        if known:
            label = "AUC of small predictions, mean" if i == 0 else ""
            left.plot(mine.auc_prediction.mean(), i, color="0.3", marker="|", ms=10, mew=1.5, ls="", label=label)
    if known:
        left.legend(frameon=False, fontsize=6.5, loc="upper center", bbox_to_anchor=(0.5, -0.17))
    left.set_yticks(range(len(rows)), [study.labels[row] for row in rows])
    left.set_ylim(len(rows) - 0.4, -0.9)
    if known:
        left.set_xlim(min(0.4, group[value].min() - 0.05), 1)  # an interval of few seeds may reach beyond, an AUC cannot
    said = f"{group.segments.iloc[0]} {'new' if 'new' in set(group.on) else 'test'} segments"
    left.set_xlabel(f"AUC: low {critic} finds contradictory segments" if known else f"rank correlation of {critic} and |error|")
    left.set_title(f"{said}; dots: seeds", fontsize=8)
    left.grid(axis="x", color="0.92", lw=0.5)
    for i, row in enumerate(rows):
        mine = segments[segments.row == row]
        colour = HUES[i % len(HUES)]
        if known:
            line = "-" if i < len(HUES) else ":"
            right.plot(*by_agreement(mine, critic), color=colour, ls=line, marker="o", ms=2.5, lw=1.1, label=study.labels[row])
        else:
            one = mine[mine.seed == mine.seed.min()]
            label = next(name for name in one if name.split("_")[0] == "label")
            right.scatter(one[label], one[critic], s=6, color=colour, lw=0, alpha=0.8, label=study.labels[row])
    if known:
        first = segments[(segments.row == rows[0]) & (segments.seed == segments.seed.min())]
        right.plot(*by_agreement(first, "best_T"), color="black", ls="--", lw=1, label="log p/q")
        right.axvline(0, color="0.5", lw=0.8)
    right.set_xlabel("agreement (below 0: contradictory)" if known else "label")
    right.set_ylabel(f"mean rank of {critic} in its run (0 low, 1 high)" if known else critic)
    right.set_title("test segments by tenths of their agreement" if known else "test segments, first seed", fontsize=8)
    right.grid(color="0.92", lw=0.5)
    right.legend(frameon=False, fontsize=6.5, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2)


def by_agreement(segments: pd.DataFrame, score: str) -> tuple[Any, Any]:
    """Mean agreement and mean rank of a score, of the tenths of the segments by agreement; ranks within each run."""
    rank = segments.groupby("seed")[score].rank(pct=True)
    tenth = segments.agreement.rank(pct=True).mul(10).sub(1e-9).astype(int)
    return segments.agreement.groupby(tenth).mean(), rank.groupby(tenth).mean()


def score_panels(left: Axes, right: Axes, label: str, group: pd.DataFrame) -> None:
    group = group[group.on == ("new" if "new" in set(group.on) else "test")]
    names = list(dict.fromkeys(group.modality))
    for i, m in enumerate(names):
        mine = group[group.modality == m]
        dots(left, i - 0.15, mine.score, HUES[0], "own segment" if i == 0 else "")
        dots(left, i + 0.15, mine.score_other, HUES[1], "other segments" if i == 0 else "")
        dots(right, i - 0.15, mine.rank_moved, HUES[0], "score" if i == 0 else "")
        dots(right, i + 0.15, mine.rank_excess_moved, HUES[2], "score − other segments'" if i == 0 else "")
    right.axvline(0, color="0.5", lw=0.8)
    left.set_xlabel("mean score, cos(G(Z), h)")
    right.set_xlabel("rank correlation with how far the prediction moves")
    for axes, title in ((left, f"{label}: scores by modality"), (right, "does a score tell dependence?")):
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_title(title, fontsize=8)
        axes.grid(axis="x", color="0.92", lw=0.5)
        axes.legend(frameon=False, fontsize=6.5, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2)


def dots(axes: Axes, at: float, values: pd.Series, colour: str, label: str = "") -> None:
    """Every seed, their mean, and its interval."""
    x = values.to_numpy(np.float64)
    mean, (low, high) = x.mean(), mean_interval(x) if np.isfinite(x).all() else (np.nan, np.nan)
    axes.scatter(values, np.full(len(values), at - 0.16), s=9, color=colour, alpha=0.6, lw=0)
    axes.errorbar(mean, at, xerr=[[mean - low], [high - mean]], color=colour, marker="D", ms=3.5, capsize=2, lw=1.1, label=label)


if __name__ == "__main__":
    with ended():
        main(sys.argv[1:])
