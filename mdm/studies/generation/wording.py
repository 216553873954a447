"""Digits named and images generated, in words and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mdm.statistics import t_interval
from mdm.studies._write import format_mean, render_table

NAMES = ("digit", "head", "entropy")
STYLES = ("colour", "pixels", "nearer")


def render_digits(accuracies: pd.DataFrame, baselines: Mapping[str, str]) -> list[str]:
    """5b: accuracies, and what rows differ from their baselines by, paired by seed."""
    parts = []
    for data, here in accuracies.groupby("data", sort=False):
        lines = [
            [group.label.iloc[0], str(len(group)), format_mean(group.accuracy)] for _, group in here.groupby("row", sort=False)
        ]
        parts.append(
            f"**{data}: test accuracy, mean and 95 % t interval over seeds**\n\n{render_table([['', 'seeds', 'accuracy'], *lines])}"
        )
        wide, labels = here.pivot(index="seed", columns="row", values="accuracy"), dict(zip(here.row, here.label, strict=True))
        for row, baseline in baselines.items():
            if row in wide and baseline in wide:
                both = wide[[row, baseline]].dropna().to_numpy(np.float64)
                parts.append(f"{labels[row]} − {labels[baseline]}, paired by seed: {describe_difference(both[:, 0], both[:, 1])}")
    return parts


def describe_difference(x: np.ndarray, y: np.ndarray) -> str:
    """The difference of pairs, its interval, and whether it is one."""
    mean, (low, high) = (x - y).mean(), t_interval(x, y)
    if np.isnan(low):
        return f"{mean:+.3f}; one seed says no more."
    verdict = "higher" if low > 0 else "lower" if high < 0 else "no difference is shown"
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]: {verdict}."


def render_images(frame: pd.DataFrame, pairs: int | None, draws: int) -> list[str]:
    """5c in numbers: names and styles by what is fixed, and the claims."""
    parts = []
    for (data, _), here in frame.groupby(["data", "row"], sort=False):
        title = f"{data}, {here.label.iloc[0]}: images"
        modalities = [m for m in dict.fromkeys(here.modality) if m != "both"]
        judged = here[here.measure.isin([*NAMES, "agree"])]
        columns = [(m, name) for name in NAMES for m in modalities] + [("both", "agree")]
        parts.append(f"**{title}, as judges name them**\n\n{render_by_fixed(judged, columns)}")
        columns = [(m, name) for name in STYLES for m in modalities]
        parts.append(f"**{title}, their style**\n\n{render_by_fixed(here[here.measure.isin(STYLES)], columns)}")
        parts.append(render_claims(here, modalities))
    parts.append(
        f"Codes of {pairs} test pairs, {draws} draws of the others for each; brackets: 95 % t interval over "
        "seeds. real: test images; all: reconstructions; none: every code drawn. digit: named as the pair's digit; head: named as "
        "the model's own D reads F_y; entropy: of the names under one fixed code, nats; agree: both images of a generated pair are "
        "named alike. colour, pixels: share of the variance of mean colours and of all pixels that the fixed code explains; "
        "nearer: images whose mean colour is nearer to the source's than to another's, one half by chance."
    )
    return parts


def render_by_fixed(here: pd.DataFrame, columns: Sequence[tuple[str, str]]) -> str:
    """Markdown: a line for each that is fixed, a column for each modality and measure."""
    there = [c for c in columns if ((here.modality == c[0]) & (here.measure == c[1])).any()]
    lines = []
    for fixed, mine in here.groupby("fixed", sort=False):
        cells = [mine[(mine.modality == m) & (mine.measure == name)].value for m, name in there]
        lines.append([format_code(str(fixed)), *(format_mean(values) if len(values) else "" for values in cells)])
    return render_table([["fixed", *(name if m == "both" else f"{m}: {name}" for m, name in there)], *lines])


def render_claims(here: pd.DataFrame, modalities: Sequence[str]) -> str:
    """What the paper says of labels and styles, as differences to images of which nothing is fixed."""

    def against_none(fixed: str, modality: str, measure: str) -> str:
        mine = here[(here.modality == modality) & (here.measure == measure)]
        wide = mine.pivot(index="seed", columns="fixed", values="value").dropna()
        return (
            describe_difference(wide[fixed].to_numpy(np.float64), wide["none"].to_numpy(np.float64)) if len(wide) else "not judged"
        )

    lines = [f"- Z_y decides the digit of {m}: digit, {against_none('y', m, 'digit')}" for m in modalities]
    lines += [f"- Z_{m} holds none of the label, so no difference: digit, {against_none(m, m, 'digit')}" for m in modalities]
    lines += [f"- Z_{m} decides the style of {m}: colour, {against_none(m, m, 'colour')}" for m in modalities]
    lines += [
        f"- Z_y holds none of the style, so no difference: colour of {m}, {against_none('y', m, 'colour')}" for m in modalities
    ]
    return "\n".join(["What the paper claims, as differences to images of which nothing is fixed:\n", *lines])


def format_code(fixed: str) -> str:
    """What is fixed, as the paper writes it."""
    return fixed if fixed in ("real", "all", "none") else f"Z_{fixed}"
