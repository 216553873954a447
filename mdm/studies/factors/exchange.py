"""Segments from the f_y of one and the f_m of another: what follows whom."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from mdm.runs.trained import Trained
from mdm.seeds import generator
from mdm.studies.factors.inference import Inferred, Row, average_generated, require_mfm


def measure_generation(trained: Trained, train: Inferred, of: Inferred, most: int) -> list[Row]:
    """Modalities from f_y of one segment and f_m of another (``styles=segments``) or of the prior (``prior``: G_m(z), z ~ N(0, I)).

    Every donor's f_y with every donor's f_m, all with as many steps as the median segment has, so that lengths tell of no donor.
    What is generated is read by a ridge probe that was fitted on the means of real training segments:

    probe: R² of the probe on the real segments of the fold; what it cannot read there it reads nowhere
    weight_y, weight_own: weights of the donors' labels in a regression of what is read, all standardised; r2: of both. Donors are
        crossed, so weights are correlations
    sentiment_y, sentiment_own, sentiment_both: shares of the variance of what is read that follow the donor of f_y, that of f_m,
        and neither alone (two-way analysis of variance); style_…: the same of all that the probe does not read

    most: donors at most, evenly spaced among the segments that have the modality
    """
    rng = generator(int(trained.record["seed"]), "factor prior")
    backbone, rows = require_mfm(trained), list[Row]()
    for m in backbone.reads:
        there, fit = torch.nonzero(of.lengths[m] > 0)[:, 0], (train.lengths[m] > 0).numpy()
        donors = min(most, len(there))
        probe = Probe.fitted(train.means[m][fit].numpy(), train.label[fit])
        readable = r_squared(of.label[there.numpy()], probe.read(of.means[m][there].numpy()))
        chosen = there[torch.linspace(0, len(there) - 1, donors).round().long()]
        z = torch.randn(donors, backbone.part_dims[f"z_{m}"], generator=rng)
        with torch.no_grad():
            styles = {"segments": of.parts[f"f_{m}"][chosen], "prior": backbone.factors[m](z)}
        steps = of.lengths[m][there].median().expand(donors**2)
        label = of.label[chosen.numpy()]
        for name, f_m in styles.items():
            parts = {"f_y": of.parts["f_y"][chosen].repeat_interleave(donors, 0), f"f_{m}": f_m.repeat(donors, 1)}
            made = average_generated(trained, m, parts, steps).numpy()
            said, style = probe.read(made), probe.rest(made)
            y, own = (correlation(said, each) for each in (np.repeat(label, donors), np.tile(label, donors)))
            own = own if name == "segments" else math.nan  # the prior has no label
            row: Row = {"modality": m, "styles": name, "probe": readable, "weight_y": y, "weight_own": own}
            row["r2"] = y**2 + (own**2 if name == "segments" else 0.0)
            for what, values in (("sentiment", said[:, None]), ("style", style)):
                shares = split_variance(values.reshape(donors, donors, -1))
                row |= {f"{what}_{of_}": share for of_, share in zip(("y", "own", "both"), shares, strict=True)}
            rows.append(row)
    return rows


@dataclass(frozen=True)
class Probe:
    """label ≈ w·(x − mean)/scale + offset, a ridge regression whose strength leaving one row out chooses."""

    mean: Float[np.ndarray, " d"]
    scale: Float[np.ndarray, " d"]
    weight: Float[np.ndarray, " d"]
    offset: float

    @staticmethod
    def fitted(x: Float[np.ndarray, "n d"], label: Float[np.ndarray, " n"]) -> Probe:
        from sklearn.linear_model import RidgeCV

        x = x.astype(np.float64)
        mean, spread = x.mean(0), x.std(0)
        scale = np.where(spread > 1e-9, spread, 1.0)
        model = RidgeCV(np.logspace(-2, 5, 15)).fit((x - mean) / scale, label)
        return Probe(mean, scale, model.coef_, float(model.intercept_))

    def standardised(self, x: np.ndarray) -> Float[np.ndarray, "n d"]:
        return (x.astype(np.float64) - self.mean) / self.scale

    def read(self, x: np.ndarray) -> Float[np.ndarray, " n"]:
        return self.standardised(x) @ self.weight + self.offset

    def rest(self, x: np.ndarray) -> Float[np.ndarray, "n d"]:
        """x without the direction that is read."""
        z, length = self.standardised(x), float(self.weight @ self.weight)
        return z - np.outer(z @ self.weight, self.weight) / length if length > 0 else z


def split_variance(values: Float[np.ndarray, "a b d"]) -> tuple[float, float, float]:
    """Shares of the variance over all pairs of a crossed design, summed over d, that follow the first factor, the second, neither.

    NaN if nothing varies.
    """
    centred = values - values.mean((0, 1))
    first, second = centred.mean(1, keepdims=True), centred.mean(0, keepdims=True)
    total = float((centred**2).mean((0, 1)).sum())
    if total <= 1e-20:
        return math.nan, math.nan, math.nan
    a, b = (float((each**2).mean((0, 1)).sum()) / total for each in (first, second))
    return a, b, 1 - a - b


def correlation(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> float:
    """NaN if either is constant."""
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum()) / norm if norm > 0 else math.nan


def r_squared(truth: Float[np.ndarray, " n"], predicted: Float[np.ndarray, " n"]) -> float:
    return 1 - float(((truth - predicted) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())
