"""What explanations of many segments come to, in words and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mdm.reference import read_rows
from mdm.studies._base import Frames
from mdm.studies._write import format_mean, render_table
from mdm.studies.explanation.segments import MARK
from mdm.studies.explanation.worth import find_scored


def render_summary(frames: Frames) -> str:
    """For each critic how well it ranks, for each modality what its score tells, examples, and the paper's cases."""
    labels = frames.labels
    parts = [f"# {frames.title}", *frames.notes]
    rankings, scores, examples = frames["rankings"], frames["scores"], frames["examples"]
    for (data, critic, on), group in group_by(rankings, ["data", "critic", "on"]):
        where = "new segments of the same population" if on == "new" else "the test fold"
        heading = f"## {critic} on {group.segments.iloc[0]} segments of {data}: {where}"
        parts += [
            heading,
            *(render_marked(group, labels, frames.baselines) if group.contradictory.iloc[0] else render_unmarked(group, labels)),
        ]
    for (data, row, on), group in group_by(scores, ["data", "row", "on"]):
        parts.append(f"## Scores of {labels[row]} on {data}, {'new segments' if on == 'new' else 'the test fold'}")
        heads = {"score": "s", "score_other": "s of other segments", "moved": "prediction moves by"}
        heads |= {"rank_moved": "ρ(s, moves)", "rank_excess_moved": "ρ(s − other, moves)"}
        lines = [["modality", *heads.values()]]
        lines += [[m, *(format_mean(of[name]) for name in heads)] for m, of in group.groupby("modality", sort=False)]
        parts += [render_table(lines), f"{count_runs(group.seed.nunique())}; mean and 95 % t interval; ρ: Spearman, over segments."]
    for (data, row, by), group in group_by(examples, ["data", "row", "by"]):
        parts.append(f"## Examples of {labels[row]} on {data}, seed {group.seed.iloc[0]}")
        parts.append(render_table(list_cases(group) if by == "scores" else list_extremes(group, by)))
    if len(scores):
        parts += ["## The paper's cases (Han et al., 2021, Table 5)", render_table(list_printed_cases())]
    return "\n\n".join(parts) + "\n"


def group_by(frame: pd.DataFrame, by: list[str]) -> Any:
    return frame.groupby(by, sort=False) if len(frame) else ()


def render_marked(group: pd.DataFrame, labels: Mapping[str, str], baselines: Mapping[str, str]) -> list[str]:
    """Where the contradictory segments are known: does low T find them?"""
    heads = {"auc_T": "low T", "auc_prediction": "small prediction", "auc_error": "large error", "auc_best": "log p/q"}
    ranks = {"rank_agreement": "ρ(T, agreement)", "rank_error": "ρ(T, error)"}
    lines = [["", "runs", *(f"AUC of {head}" for head in heads.values()), "low T − small prediction", "low T − baseline"]]
    lines[0] += ranks.values()
    for row, of in group.groupby("row", sort=False):
        against, baseline = "–", baselines.get(str(row))
        if baseline in set(group.row):
            pairs = of.set_index("seed").auc_T.sub(group[group.row == baseline].set_index("seed").auc_T).dropna()
            against = f"{format_mean(pairs)} ({labels[str(baseline)]})" if len(pairs) else "–"
        cells = [format_mean(of[name]) if name != "auc_best" else f"{of.auc_best.mean():.3f}" for name in heads]
        cells += [format_mean(of.auc_T - of.auc_prediction), against, *(format_mean(of[name]) for name in ranks)]
        lines.append([labels[str(row)], str(len(of)), *cells])
    first = group.iloc[0]
    return [
        render_table(lines),
        f"How well a score finds the {first.contradictory} of {first.segments} segments that are marked contradictory; mean and "
        "95 % t interval over seeds (of paired differences, too), which all read the same segments: of a score that knows nothing, "
        f"95 % of the AUCs lie in 0.5 ± {first.chance:.3f}. log p/q, of the latents, is what a critic of KL reads at best: "
        "other things may find contradiction better. agreement is v_l (v_a + v_v)/2 of the valences; ρ: Spearman.",
    ]


def render_unmarked(group: pd.DataFrame, labels: Mapping[str, str]) -> list[str]:
    """Where they are not: how T goes with the error."""
    lines = [["", "runs", "ρ(T, error)", "ρ(T, distance of the label from the middle)"]]
    for row, of in group.groupby("row", sort=False):
        lines.append([labels[str(row)], str(len(of)), format_mean(of.rank_error), format_mean(of.rank_label)])
    note = "Spearman over segments; mean and 95 % t interval over seeds. Nothing marks the contradictory segments of these data."
    return [render_table(lines), note]


def list_extremes(group: pd.DataFrame, critic: str) -> list[list[str]]:
    energies = [name for name in group if name.startswith("energy_") and group[name].notna().any()]
    marks = [name for name in (MARK, "agreement") if name in group and group[name].notna().any()]
    heads = ["", critic, "words", *find_targets(group), *(name.replace("_", " ") for name in energies), *marks]
    return [heads] + [
        [
            row.end,
            format_short(row[critic]),
            row.words or "–",
            *(format_short(row[name]) for name in [*find_targets(group), *energies]),
        ]
        + [("yes" if row[name] else "no") if name == MARK else format_short(row[name]) for name in marks]
        for _, row in group.iterrows()
    ]


def find_targets(group: pd.DataFrame) -> list[str]:
    return [name for name in group if name.split("_")[0] in ("label", "prediction") and group[name].notna().any()]


def list_cases(group: pd.DataFrame) -> list[list[str]]:
    names = find_scored(group.dropna(axis=1, how="all").to_dict("records"))
    heads = ["case", "words", " / ".join(f"s {m}" for m in names), "prediction", "label"]
    return [heads] + [
        [
            row.case,
            row.words or "–",
            " / ".join(format_score(row[f"s_{m}"]) for m in names),
            f"{row.prediction:+.2f}",
            f"{row.label + 0.0:+.2f}",
        ]
        for _, row in group.iterrows()
    ]


def list_printed_cases() -> list[list[str]]:
    of_case: dict[str, dict[str, str]] = {}
    for cell in read_rows("results"):
        if (cell["paper"], cell["table"]) == ("001", "T5"):
            of_case.setdefault(cell["penalty_or_variant"], {})[cell["metric"]] = cell["value"]
    names = ("s_zt", "s_zv", "s_za")
    rows = [[case, " / ".join(format_score(float(of[n])) for n in names), of["pred"], of["truth"]] for case, of in of_case.items()]
    return [["case", "s language / s video / s audio", "prediction", "label"], *rows]


def format_score(score: float) -> str:
    """As the paper prints it: bold from 0.8 on."""
    return "–" if np.isnan(score) else f"**{score:.2f}**" if score >= 0.8 else f"{score:.2f}"


def format_short(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.2f}"


def count_runs(n: int) -> str:
    return f"{n} run{'s' if n > 1 else ''}"
