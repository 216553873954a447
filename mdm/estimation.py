"""Before any model: what an estimator makes of Gaussians, whose dependence has a closed form (paper 000, Figure 1).

Z is M modalities of d numbers side by side. Each of the d coordinates is an M-variate standard Gaussian with correlations ρ (as in
`mdm.data.gaussian`), so P = N(0, R ⊗ I_d), R = (1 − ρ) I + ρ 11ᵀ, and the product of the marginals is Q = N(0, I). A *cell* is one
critic on one such law: the real penalty is trained on it and then read out on rows that it has not seen.

Every draw of a cell is a function of its seed and purpose, so cells with one seed see the same normals, whatever the critic and
whatever ρ, and nothing depends on how many cells run at once.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from mdm.data.gaussian import total_correlation
from mdm.estimators import donsker_varadhan, f_divergence
from mdm.penalties.base import View
from mdm.penalties.dependency import Dependency
from mdm.seeds import Stream, derive, generator
from mdm.types import Fusion
from mdm.workers import pool

MEASURES = ("kl", "f", "wasserstein")

ARGUMENTS = [key for key in inspect.signature(Dependency).parameters if key not in ("weight", "measure") and "dim" not in key]
"""What a cell may say of its penalty beside its measure."""

NAMED = ("setting", "name", "measure", "modalities", "dim", "rho", "seed", "batch_size", "rows")
"""What a row of numbers says of its cell."""

WINDOW = 20
"""Batches before a mark whose own estimates are averaged."""


# ---- closed forms


def spectrum(rho: float, dim: int, modalities: int) -> list[tuple[float, int]]:
    """Eigenvalues of R ⊗ I_d and how often each occurs: 1 + (M−1)ρ d times, 1 − ρ (M−1)d times.

    Raises ValueError where `total_correlation` does.
    """
    total_correlation(rho, dim, modalities)
    return [(1 + (modalities - 1) * rho, dim), (1 - rho, (modalities - 1) * dim)]


def divergence(name: str, rho: float, dim: int, modalities: int) -> float | None:
    """D_f(P‖Q) for the names of `mdm.estimators.DIVERGENCES`; None where there is no closed form (Jensen–Shannon, total variation).

    With λ the eigenvalues of R ⊗ I_d: KL ½ Σ (λ − 1 − log λ), which is the total correlation; KL(Q‖P) ½ Σ (1/λ − 1 + log λ);
    ∫(p−q)²/q ∏ (λ(2−λ))^{−½} − 1, infinite where a λ ≥ 2; ∫(√p−√q)² 2 − 2 ∏ λ^{¼} ((1+λ)/2)^{−½}.
    """
    values = spectrum(rho, dim, modalities)
    if name == "kl":
        return total_correlation(rho, dim, modalities)
    if name == "reverse_kl":
        return sum(k * (1 / v - 1 + math.log(v)) for v, k in values) / 2
    if name == "pearson":
        if max(v for v, _ in values) >= 2:
            return math.inf
        return math.expm1(-sum(k * math.log(v * (2 - v)) for v, k in values) / 2)
    if name == "squared_hellinger":
        return -2 * math.expm1(sum(k * (math.log(v) / 4 - math.log((1 + v) / 2) / 2) for v, k in values))
    return None


def wasserstein_bounds(rho: float, dim: int, modalities: int) -> tuple[float, float]:
    """Lower and upper bound on W1(P, Q), less than 1 % apart for d = 20.

    √(Σ_λ χ_k² (√λ−1)²) ≤ W1 ≤ E‖(Λ^{½} − I) z‖, z ~ N(0, I), χ_k = E‖N(0, I_k)‖, k the multiplicity of λ. Below, the witness is a
    weighted sum of the distances to 0 within each eigenspace; above, the coupling is x ↦ Λ^{½} x. The upper is the integral
    E√W = π^{−½} ∫_0^∞ (1 − E e^{−u²W}) u^{−2} du, with u = s·tan θ, by Gauss–Legendre.
    """
    stretch = [(abs(math.sqrt(v) - 1), k) for v, k in spectrum(rho, dim, modalities)]
    scale = math.sqrt(sum(k * a * a for a, k in stretch))
    if scale == 0:
        return 0.0, 0.0
    chi = {k: math.sqrt(2) * math.exp(math.lgamma((k + 1) / 2) - math.lgamma(k / 2)) for _, k in stretch}
    lower = math.sqrt(sum((a * chi[k]) ** 2 for a, k in stretch))
    nodes, weights = np.polynomial.legendre.leggauss(200)
    theta = (nodes + 1) * np.pi / 4
    u = np.tan(theta) / scale
    laplace = np.exp(-sum(k * np.log1p(2 * (a * u) ** 2) for a, k in stretch) / 2)
    return lower, float(scale * (weights * (1 - laplace) / np.sin(theta) ** 2).sum() * np.pi / 4 / math.sqrt(math.pi))


def truth(measure: str, rho: float, dim: int, modalities: int, of: str = "kl") -> tuple[float | None, float | None]:
    """Lower and upper bound on what a measure estimates, equal where it is known; of: the divergence, for ``f``."""
    if measure == "wasserstein":
        return wasserstein_bounds(rho, dim, modalities)
    value = divergence(of if measure == "f" else "kl", rho, dim, modalities)
    return value, value


def sigmoid_caps(rho: float, dim: int, modalities: int, draws: int = 100_000) -> dict[str, float]:
    """The most that a critic in [0, 1] (Table 4's) can read for each measure, by sampling r = log p/q.

    f: NWJ at clip(1 + r, 0, 1). kl: Donsker–Varadhan at clip(r + c, 0, 1), the best c. wasserstein, when nothing bounds the slope:
    the total variation P(r > 0) − Q(r > 0).
    """
    rng = np.random.default_rng(0)
    p, q = np.zeros(draws), np.zeros(draws)
    for v, k in spectrum(rho, dim, modalities):
        squares = rng.chisquare(k, draws)  # the same for both: for ρ → 0 noise vanishes with the difference
        p -= ((1 - v) * squares + k * math.log(v)) / 2
        q -= ((1 / v - 1) * squares + k * math.log(v)) / 2

    def values(c: float) -> tuple[np.ndarray, np.ndarray]:
        return np.clip(p + c, 0, 1), np.clip(q + c, 0, 1)

    f = values(1.0)
    shifts = np.linspace(-np.quantile(p, 0.99), 1 - np.quantile(q, 0.01), 200)
    kl = max(float(t.mean() - np.log(np.exp(s).mean())) for t, s in map(values, shifts))
    return {
        "kl": kl,
        "f": float(f[0].mean() - np.exp(f[1] - 1).mean()),
        "wasserstein": float((p > 0).mean() - (q > 0).mean()),
    }


def log_ratio(z: Float[Tensor, "n width"], rho: float, dim: int, modalities: int) -> Float[Tensor, " n"]:
    """r = log p/q, the best critic: −½ xᵀ(R⁻¹ − I)x − ½ log det R, summed over the coordinates."""
    precision = torch.linalg.inv(correlation(rho, modalities)) - torch.eye(modalities, dtype=torch.float64)
    x = z.double().unflatten(1, (modalities, dim))
    return -torch.einsum("nid,ij,njd->n", x, precision, x) / 2 + total_correlation(rho, dim, modalities)


def correlation(rho: float, modalities: int) -> Float[Tensor, "m m"]:
    return (1 - rho) * torch.eye(modalities, dtype=torch.float64) + rho


# ---- one cell


@dataclass(frozen=True)
class Cell:
    """One critic on one law.

    name, setting: what a person calls the critic, and how it gets its rows
    measure: ``kl``, ``f`` or ``wasserstein``
    rho, modalities, dim: the law; Z has modalities·dim numbers
    penalty: further arguments of `Dependency`. Z is not normalised unless they say so: its law would no longer be known
    marks: the steps after which is measured, increasing; the last is their number
    batch_size: rows of a step
    rows: of a fixed training set, which is read over and over; None: new rows for every step
    held_out, products: rows to measure on, and the samples of the product that are made of them. An estimate of more than about
        log(held_out·products) nats cannot be trusted, by whichever critic
    lr: of Adam

    Raises ValueError on numbers out of their range, unknown arguments of the penalty, or a law that is none.
    """

    name: str
    setting: str
    measure: str
    rho: float
    modalities: int
    dim: int
    seed: int
    penalty: Mapping[str, Any]
    marks: Sequence[int]
    batch_size: int
    rows: int | None
    held_out: int
    products: int
    lr: float

    def __post_init__(self) -> None:
        total_correlation(self.rho, self.dim, self.modalities)
        derive(self.seed, "")
        unknown = sorted(set(self.penalty) - set(ARGUMENTS))
        if unknown or self.measure not in MEASURES:
            raise ValueError(
                f"A critic has measures among {', '.join(MEASURES)} and options among {', '.join(ARGUMENTS)}, but {self.name} has "
                f"{self.measure!r} and {', '.join(unknown) or 'no other options'}; set estimate.critics.{self.name}."
            )
        if not self.marks or list(self.marks) != sorted(set(self.marks)) or self.marks[0] < 1 or not self.lr > 0:
            raise ValueError(
                "A critic takes at least one step, of positive size, and is measured after increasing numbers of them, but "
                f"marks={list(self.marks)} and lr={self.lr} came; set estimate.cell.marks and estimate.cell.lr."
            )
        least = min(self.batch_size, self.held_out, self.batch_size if self.rows is None else self.rows)
        if least < max(2, self.modalities) or (self.rows is not None and self.rows < self.batch_size) or self.products < 1:
            raise ValueError(
                "Modalities are re-paired among at least as many rows as there are modalities, in batches no larger than the "
                f"training set, but batch_size={self.batch_size}, rows={self.rows}, held_out={self.held_out} and "
                f"products={self.products} came with {self.modalities} modalities; set estimate.cell or estimate.settings."
            )


def draw(cell: Cell, n: int, rng: torch.Generator) -> Float[Tensor, "n modalities dim"]:
    """Rows of P. The normals depend on the stream alone, not on ρ."""
    normals = torch.randn(n, cell.modalities, cell.dim, generator=rng)
    return torch.einsum("ij,njd->nid", factor(cell.rho, cell.modalities), normals)


@cache
def factor(rho: float, modalities: int) -> Float[Tensor, "m m"]:
    """R = factor factorᵀ."""
    return torch.linalg.cholesky(correlation(rho, modalities)).float()


def view_of(x: Float[Tensor, "n modalities dim"], products: int, rng: torch.Generator) -> View:
    """Rows and samples of the product made of them: each modality but the first moves by an offset of its own, drawn anew."""
    n, modalities, _ = x.shape
    moved = []
    for _ in range(products):
        offsets = 1 + torch.randperm(n - 1, generator=rng)[: modalities - 1]
        moved += [torch.stack([x[:, 0], *(x[:, m].roll(int(o), 0) for m, o in enumerate(offsets, start=1))], 1)]
    joint, others = (Fusion(torch.zeros(len(rows), 1), rows.flatten(1)) for rows in (x, torch.cat(moved)))
    return View(joint, others, torch.zeros(n, 1))


@torch.no_grad()
def read_out(penalty: Dependency, view: View) -> float:
    """The penalty's estimate, in evaluation mode."""
    training = penalty.training
    penalty.eval()
    value = float(penalty.estimate(view)["estimate"])
    penalty.train(training)
    return value


def slopes(penalty: Dependency, view: View, rng: torch.Generator, rows: int = 2000) -> tuple[float, float]:
    """Mean and largest ‖∇T‖ at random points between joint and product rows, and at the rows themselves."""
    assert view.product is not None
    penalty.eval()
    n = min(rows, len(view.joint.z), len(view.product.z))
    a, b = (penalty.critic.prepare(fusion.z[:n]) for fusion in (view.joint, view.product))
    mix = torch.rand(n, 1, generator=rng)
    points = torch.cat([a, b, mix * a + (1 - mix) * b]).requires_grad_()
    (gradient,) = torch.autograd.grad(penalty.critic.score(points).sum(), points)
    norms = gradient.norm(dim=1)
    penalty.train()
    return float(norms[-n:].mean()), float(norms.max())


def batches(cell: Cell, products: int) -> Iterator[View]:
    """Endless views to train on: new rows every time, or some of the fixed ones."""
    rng = generator(cell.seed, "training rows")
    fixed = None if cell.rows is None else draw(cell, cell.rows, rng)
    while True:
        if fixed is None:
            x = draw(cell, cell.batch_size, rng)
        else:
            x = fixed[torch.randperm(len(fixed), generator=rng)[: cell.batch_size]]
        yield view_of(x, products, rng)


def measured(cell: Cell) -> list[dict[str, Any]]:
    """Train a cell's critic and read it out at each mark: one row of numbers a mark.

    estimate: on held-out rows, evaluation mode; exact: what the best critic, log p/q, reads on the same rows; train: mean over the
    last batches of what the critic reads on the batch that it was just fitted on; truth, truth_upper: see `truth`; slope_mean,
    slope_max: see `slopes`, for the distance only; ms_per_step: processor time of a step, without drawing its rows.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the order of a sum, so its last bits, would depend on it
    try:
        with Stream(cell.seed, "critic").active():
            return _measured(cell)
    finally:
        torch.set_num_threads(threads)


def _measured(cell: Cell) -> list[dict[str, Any]]:
    options = {"normalize": False, **cell.penalty}
    penalty = Dependency(z_dim=cell.modalities * cell.dim, weight=1.0, measure=cell.measure, **options).train()
    optimizer = torch.optim.Adam(penalty.parameters(), lr=cell.lr, fused=True)
    unseen = generator(cell.seed, "held-out rows")
    held_out = view_of(draw(cell, cell.held_out, unseen), cell.products, unseen)
    lower, upper = truth(cell.measure, cell.rho, cell.dim, cell.modalities, options.get("divergence", "kl"))
    best = exact(cell, held_out, options.get("divergence", "kl"))
    rows, seconds = [], 0.0
    recent: list[float] = []
    for step, batch in zip(range(1, cell.marks[-1] + 1), batches(cell, penalty.products), strict=False):
        started = time.process_time()
        optimizer.zero_grad()
        penalty.critic_loss(batch).backward()
        optimizer.step()
        seconds += time.process_time() - started
        if any(mark - WINDOW < step <= mark for mark in cell.marks):
            recent.append(read_out(penalty, batch))
        if step in cell.marks:
            slope = slopes(penalty, held_out, unseen) if cell.measure == "wasserstein" else (None, None)
            rows.append(
                {
                    **{key: getattr(cell, key) for key in NAMED},
                    "step": step,
                    "estimate": read_out(penalty, held_out),
                    "exact": best,
                    "truth": lower,
                    "truth_upper": upper,
                    "train": float(np.mean(recent)),
                    "slope_mean": slope[0],
                    "slope_max": slope[1],
                    "ms_per_step": 1e3 * seconds / step,
                }
            )
            recent = []
    return rows


def exact(cell: Cell, view: View, of: str) -> float | None:
    """What log p/q itself reads on these rows: the error of a read-out, without that of a critic. None for the distance."""
    if cell.measure == "wasserstein":
        return None
    assert view.product is not None
    joint, others = (log_ratio(f.z, cell.rho, cell.dim, cell.modalities) for f in (view.joint, view.product))
    return float(donsker_varadhan(joint, others) if cell.measure == "kl" else f_divergence(joint, others, of, log_ratio=True))


# ---- many cells


def plan(
    laws: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, Mapping[str, Any]],
    critics: Mapping[str, Mapping[str, Any]],
    cell: Mapping[str, Any],
    seeds: int,
) -> list[Cell]:
    """Every critic of every setting, on each of its laws, with each seed.

    laws: name → ``modalities`` and ``rhos``
    settings: name → keys of a cell that differ there; ``critics`` and ``laws``, names, all where they are left out; ``label``
    critics: name → ``measures``, ``penalty``; how they are drawn
    cell: keys that all share

    Raises ValueError if there is no cell, on a name that is none, and where `Cell` does.
    """
    cells = []
    for setting, own in settings.items():
        chosen = {"critics": own.get("critics", critics), "laws": own.get("laws", laws)}
        for group, names in (("critics", critics), ("laws", laws)):
            if not set(chosen[group]) <= set(names):
                raise ValueError(
                    f"The {group} of a setting are among {', '.join(names)}, but {setting} has {', '.join(chosen[group])}; set "
                    f"estimate.settings.{setting}.{group}."
                )
        keys = {**cell, **{key: value for key, value in own.items() if key not in ("critics", "laws", "label")}}
        for name, law, seed in product(chosen["critics"], chosen["laws"], range(seeds)):
            options = {**keys, "name": name, "setting": setting, "seed": seed, "modalities": laws[law]["modalities"]}
            options["penalty"] = {**keys.get("penalty", {}), **critics[name]["penalty"]}
            for measure, rho in product(critics[name]["measures"], laws[law]["rhos"]):
                cells.append(Cell(**{**options, "measure": measure, "rho": rho}))
    if not cells:
        raise ValueError("An experiment needs a law, a setting, a critic and a seed at least, but has no cell; set estimate.")
    return cells


def all_measured(cells: Sequence[Cell], jobs: int) -> Iterator[list[dict[str, Any]]]:
    """`measured` of each cell, in their order, ``jobs`` at a time, each with one thread."""
    yield from pool(jobs, return_as="generator")(joblib.delayed(measured)(cell) for cell in cells)


def over_seeds(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Per law, setting, critic and measure after the last step: mean, spread and extremes over seeds, and the means of the rest."""
    frame = pd.DataFrame(list(rows))
    frame = frame[frame.step == frame.groupby(["setting", "name"]).step.transform("max")]
    keys = ["setting", "measure", "modalities", "name", "rho", "step"]
    others = ["truth", "truth_upper", "exact", "train", "slope_mean", "slope_max", "ms_per_step"]
    numbers = frame.assign(**frame[others].astype(float))
    groups = numbers.groupby(keys, sort=False)
    spread = groups.estimate.agg(["mean", "std", "min", "max"])
    return spread.join(groups[others].mean()).reset_index()
