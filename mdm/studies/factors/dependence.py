"""Figure 9a: normalised HSIC of factors and what is generated of them, beside permutations (Tsai et al., 2019, Eq. 5)."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mdm import estimators
from mdm.estimators.kernels import centred_gram, is_constant
from mdm.runs.trained import Trained
from mdm.seeds import derive
from mdm.studies.factors.inference import Inferred, Row, average_generated, require_mfm

ROWS = 2000
"""Of which kernel matrices are made; they have the square of it."""
LEVEL = 0.05
"""A ratio of debiased dependences is given where its denominator is told from 0 at this level."""

KERNELS: dict[str, tuple[float | None, bool]] = {"literal": (2.0, False), "corrected": (None, True)}
"""s in e^{−‖a−b‖²/s}, None for the median of the squared distances, and whether the estimate is debiased. ``literal``: σ = 1, so
s = 2σ² = 2, whatever the dimension and the scale (supplement F), biased as in Eq. 5."""


def measure_depen(
    x: Float[Tensor, "n d_x"], y: Float[Tensor, "n d_y"], kernel: str, permutations: int, rng: np.random.Generator
) -> tuple[float, float, float]:
    """HSIC_norm (Eq. 5; `mdm.estimators.hsic`), its mean over permutations of the rows of x, and the p of the permutation test.

    p = (1 + those that reach the value) / (1 + permutations). 0, 0 and 1 where either side is constant.
    """
    scale, unbiased = KERNELS[kernel]
    k, l_ = (normalise_gram(z, scale, unbiased) for z in (x, y))
    value, null = float((k * l_).sum()), list[float]()
    for _ in range(permutations):
        order = torch.from_numpy(rng.permutation(len(k)))
        null.append(float((k[order][:, order] * l_).sum()))
    # A permutation that changes nothing must reach the value, whatever rounding says.
    reached = sum(other >= value - 1e-12 for other in null)
    return value, float(np.mean(null)), (1 + reached) / (1 + permutations)


def normalise_gram(z: Float[Tensor, "n d"], scale: float | None, unbiased: bool) -> Float[Tensor, "n n"]:
    """The centred kernel matrix over its Frobenius norm: HSIC_norm is the product of two. Zeros if rows differ by rounding only."""
    if is_constant(z):
        return torch.zeros(len(z), len(z), dtype=torch.float64)
    z = z.double()
    s = estimators.median_scale(z) if scale is None else scale
    distances = torch.cdist(z, z).square().fill_diagonal_(0)
    gram = centred_gram(torch.expm1(-distances / s), unbiased)
    return gram / gram.norm()


def measure_ratios(trained: Trained, of: Inferred, permutations: int) -> list[Row]:
    """A row for each modality and kernel, on the segments that have the modality.

    y, own: Depen(F_y, X̂_m) and Depen(F_m, X̂_m); both: Depen(F_y, F_m), which the factorisation wants at 0. With ``_null`` and
        ``_p`` from permutations
    ratio: y / own; for debiased values NaN unless own's p is at most `LEVEL`, as it is anything where own is 0

    Raises ValueError on too few permutations for that level.
    """
    if 1 / (1 + permutations) > LEVEL:
        raise ValueError(
            f"Dependence is told from chance at p <= {LEVEL}, which takes {round(1 / LEVEL) - 1} permutations, got {permutations}; "
            "set study.permutations."
        )
    rng = np.random.default_rng(derive(int(trained.record["seed"]), "factor permutations"))
    rows: list[Row] = []
    for m in require_mfm(trained).reads:
        there = torch.nonzero(of.lengths[m] > 0)[:ROWS, 0]
        parts = {name: part[there] for name, part in of.parts.items()}
        made = average_generated(trained, m, parts, of.lengths[m][there])
        f_y, f_m = parts["f_y"], parts[f"f_{m}"]
        for kernel in KERNELS:
            found: dict[str, float] = {}
            for name, (a, b) in {"y": (f_y, made), "own": (f_m, made), "both": (f_y, f_m)}.items():
                found[name], found[f"{name}_null"], found[f"{name}_p"] = measure_depen(a, b, kernel, permutations, rng)
            told = (kernel == "literal" or found["own_p"] <= LEVEL) and found["own"] != 0
            ratio = found["y"] / found["own"] if told else math.nan
            rows.append({"modality": m, "kernel": kernel, **found, "ratio": ratio})
    return rows
