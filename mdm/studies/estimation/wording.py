"""What critics made of Gaussians, in tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

NAMES = {"kl": "KL (Donsker–Varadhan)", "f": "f", "wasserstein": "Wasserstein-1"}
UNITS = {"kl": "nats", "f": "nats", "wasserstein": "distance"}


def render_estimates(found: pd.DataFrame, options: Mapping[str, Any]) -> str:
    """A Markdown table for each setting, measure and M. Where rows are fixed, what a critic reads on its batches stands beside."""
    parts = []
    for (setting, measure, modalities), group in found.groupby(["setting", "measure", "modalities"], sort=False):
        laws = group.drop_duplicates("rho").sort_values("rho")
        extra = [c for c in ("slope_mean", "slope_max", "ms_per_step") if group[c].notna().any()]
        lines = [[*(f"ρ = {rho:g}" for rho in laws.rho), *(c.replace("_", " ") for c in extra)]]
        names = ["", "truth"]
        lines.append([format_bounds(*pair) for pair in zip(laws.truth, laws.truth_upper, strict=True)])
        if laws.exact.notna().any():
            names.append("log p/q on the same rows")
            lines.append([format_short(value) for value in laws.exact])
        for name, mine in group.groupby("name", sort=False):
            names.append(options["critics"][name]["label"])
            cells = [f"{format_short(r['mean'])} ± {format_short(r['std'])}" for _, r in mine.sort_values("rho").iterrows()]
            if options["settings"][setting].get("rows", options["cell"]["rows"]) is not None:
                cells = [f"{c} (batch {format_short(t)})" for c, t in zip(cells, mine.sort_values("rho").train, strict=True)]
            lines.append([*cells, *(format_short(mine[c].max() if c == "slope_max" else mine[c].mean()) for c in extra)])
        width = len(lines[0])
        text = [
            f"| {name} | " + " | ".join([*line, *[""] * (width - len(line))]) + " |"
            for name, line in zip(names, lines, strict=True)
        ]
        where = f"M = {modalities}, {options['settings'][setting]['label']}, after {laws.step.iloc[0]:,} steps"
        title = f"**{NAMES[measure]}{name_divergences(group, options)}, {UNITS[measure]}, {where}**"
        parts.append("\n".join([title, "", text[0], "|---" * (width + 1) + "|", *text[1:]]))
    return "\n\n".join(parts) + "\n"


def name_divergences(found: pd.DataFrame, options: Mapping[str, Any]) -> str:
    """Which divergence, or divergences, the critics of ``f`` estimate; nothing for the other measures."""
    names = {options["critics"][name]["penalty"].get("divergence", "kl") for name in found[found.measure == "f"].name}
    return f" ({', '.join(sorted(names)).replace('_', ' ')})" if names else ""


def format_short(value: float) -> str:
    """Two decimals, or two digits of what is large; no sign before a zero."""
    return "–" if np.isnan(value) else f"{value + 0.0:.2f}".replace("-0.00", "0.00") if abs(value) < 1000 else f"{value:.2g}"


def format_bounds(lower: float, upper: float) -> str:
    """Two bounds, one number where they agree."""
    return format_short(lower) if format_short(lower) == format_short(upper) else f"{format_short(lower)}–{format_short(upper)}"
