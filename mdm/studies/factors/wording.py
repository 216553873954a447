"""What MFM's factors do, in words and tables."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mdm.data.sentiment import LAW
from mdm.reference import read_rows
from mdm.studies._write import format_mean, render_table
from mdm.studies.factors.dependence import LEVEL

PAPER = {"language": "language", "audio": "acoustic", "video": "visual"}
"""Modalities as the paper calls them."""


def render_factors(tables: Mapping[str, pd.DataFrame], stands_for: Mapping[str, str]) -> list[str]:
    """Ratios, flow and generation for each data set; stands_for: data → the paper's data set."""
    parts = []
    for data in dict.fromkeys(tables["ratios"].data):
        here = {name: table[table.data == data] for name, table in tables.items()}
        seeds = here["ratios"].seed.nunique()
        parts += [
            f"## {data}, test segments; mean and 95 % t interval over {seeds} seed(s)",
            *render_ratios(here, data, stands_for),
        ]
        parts += [*render_flow(here), *render_generation(here)]
    return parts


def render_ratios(here: Mapping[str, pd.DataFrame], data: str, stands_for: Mapping[str, str]) -> list[str]:
    printed = {
        row["metric"]: row["value"]
        for row in read_rows("results")
        if (row["paper"], row["table"], row["dataset"]) == ("003", "F9a", stands_for.get(data, data))
    }
    head = ["", "modality", "kernel", "Depen(F_y, X̂)", "permuted", "Depen(F_a, X̂)", "permuted", "ratio: median [range]", "printed"]
    independent = [["", "modality", "Depen(F_y, F_a)", "literal", "permuted", "runs with p ≤ .05"]]
    lines = []
    for (_, m, kernel), mine in here["ratios"].groupby(["row", "modality", "kernel"], sort=False):
        names = [mine.label.iloc[0], m]
        some = f" ({mine.ratio.notna().sum()} of {len(mine)} runs)" if mine.ratio.isna().any() else ""
        values = [format_mean(mine[column]) for column in ("y", "y_null", "own", "own_null")]
        lines.append(
            [
                *names,
                kernel,
                *values,
                format_median(mine.ratio) + some,
                printed.get(f"hsic_ratio_{PAPER.get(m, m)}", "–"),
            ]
        )
        if kernel == "corrected":
            literal = here["ratios"].loc[lambda r, mine=mine, m=m: (r.row == mine.row.iloc[0]) & (r.modality == m)]
            literal = literal[literal.kernel == "literal"]
            of_runs = f"{(mine.both_p <= LEVEL).sum()} of {len(mine)}"
            others = [format_mean(literal[column]) for column in ("both", "both_null")]
            independent.append([*names, format_mean(mine.both), *others, of_runs])
    parts = [
        "**Normalised HSIC (Eq. 5), literal (σ = 1, biased) and corrected (median bandwidth, debiased)**",
        render_table([head, *lines]),
        "Permuted: the mean after the segments of one side were shuffled, what is read where nothing is there. A ratio is of two "
        "numbers that must both be told from it; a corrected one is left out where its denominator is not (permutation p > .05). "
        "Its mean over runs would be that of the smallest denominator, hence median and range.",
        render_orders(here["ratios"], data),
        "**F_y and F_a, which the factorisation wants independent: corrected value; the literal one with what it reads permuted**",
        render_table(independent),
    ]
    return [part for part in parts if part]


def format_median(values: pd.Series) -> str:
    x = values.dropna()
    return f"{x.median():.3f} [{x.min():.3f}, {x.max():.3f}]" if len(x) else "–"


def render_orders(rows: pd.DataFrame, data: str) -> str:
    """How often the ratios, and their numerators alone, order the modalities by what the label loses without each."""
    losses = LAW.losses
    planted = sorted(losses, key=losses.__getitem__, reverse=True)
    if not data.startswith("synthetic") or set(rows.modality) != set(planted):
        return ""
    lines = [["", "kernel", "by", "language first", f"{' > '.join(planted)}", "mean ranks (1: largest)"]]
    for (row, kernel), mine in rows.groupby(["row", "kernel"], sort=False):
        for by, column in (("ratio", "ratio"), ("Depen(F_y, X̂)", "y"), ("smallest Depen(F_a, X̂)", "own")):
            wide = mine.pivot(index="seed", columns="modality", values=column)[planted].dropna()
            wide = -wide if column == "own" else wide
            ranks = wide.rank(axis=1, ascending=False)
            first, all_ = (ranks["language"] == 1).sum(), (ranks == [1, 2, 3]).all(axis=1).sum()
            means = ", ".join(f"{m} {ranks[m].mean():.1f}" for m in planted)
            label = rows[rows.row == row].label.iloc[0]
            lines.append([label, str(kernel), by, f"{first} of {len(wide)}", f"{all_} of {len(wide)}", means])
    shares = ", ".join(f"{m} {100 * losses[m]:.0f} %" for m in planted)
    return (
        f"**Does the ratio say which modality matters? Without it the label loses, of its variance, {shares}; chance has "
        f"language first in a third of the runs, the whole order in a sixth**\n\n{render_table(lines)}"
    )


def render_flow(here: Mapping[str, pd.DataFrame]) -> list[str]:
    head = ["", "modality", "explained by t", "AUC of flow", "AUC without t", "AUC of t", "AUC of expected sentiment"]
    lines = []
    for (_, m), mine in here["flow"].groupby(["row", "modality"], sort=False):
        values = [format_mean(mine[c]) if c in mine else "–" for c in ("position", "auc", "auc_rest", "auc_t", "auc_expected")]
        lines.append([mine.label.iloc[0], m, *values])
    half = (here["flow"].auc_high - here["flow"].auc_low).mean() / 2
    chance = f" Over test segments the interval of one run is ±{half:.3f}, which those over seeds do not contain."
    return [
        "**Gradient flow (Eq. 7): is it larger at words of sentiment than at others of the segment? Chance is .5**",
        render_table([head, *lines]),
        "Explained by t: share of the variance of log flow within segments that the step's number explains. Expected sentiment: "
        "the probability that the decoder of language gives to words of sentiment at that step; at .5 it does not know where they "
        f"are, and its flow cannot.{chance if np.isfinite(half) else ''}",
    ]


def render_generation(here: Mapping[str, pd.DataFrame]) -> list[str]:
    head = ["", "modality", "f_a from", "probe R²", "weight of f_y's label", "weight of f_a's label", "R²"]
    head += ["sentiment: f_y", "f_a", "neither", "style: f_y", "f_a", "neither"]
    columns = ["probe", "weight_y", "weight_own", "r2"]
    columns += [f"{what}_{of}" for what in ("sentiment", "style") for of in ("y", "own", "both")]
    lines = [
        [mine.label.iloc[0], m, styles, *(format_mean(mine[column], 2) for column in columns)]
        for (_, m, styles), mine in here["generation"].groupby(["row", "modality", "styles"], sort=False)
    ]
    return [
        "**Conditional generation: f_y of one segment, f_a of another or of the prior; what a probe of real segments reads of it**",
        render_table([head, *lines]),
        "Probe: ridge from the mean real frame (share of each word) to the label, fitted on training segments, its R² on real test "
        "segments. Weights are standardised, on the labels of the donors. Shares of variance over all pairs of donors, of the "
        "sentiment that the probe reads and of all else in the mean frame: what follows the donor of f_y, that of f_a, and "
        "neither alone.",
    ]
