"""What an estimator makes of Gaussians, whose dependence has a closed form (Colombo et al., 2021, Figure 1).

Z is M modalities of d numbers side by side. Each of the d coordinates is an M-variate standard Gaussian with correlations ρ (as in
`mdm.data.gaussian`), so P = N(0, R ⊗ I_d), R = (1 − ρ) I + ρ 11ᵀ, and the product of the marginals is Q = N(0, I). A *cell* is one
critic on one such law: the real penalty is trained on it and then read out on rows that it has not seen.

Every draw of a cell is a function of its seed and purpose, so cells with one seed see the same normals, whatever the critic and
whatever ρ, and nothing depends on how many cells run at once.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, cast, get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from mdm.data.gaussian import total_correlation
from mdm.estimators import DivergenceName, donsker_varadhan, f_divergence
from mdm.penalties.base import View
from mdm.penalties.dependency import Dependency, Measure
from mdm.seeds import Stream, derive, generator
from mdm.studies.estimation.closed_forms import correlation, find_truth, log_ratio
from mdm.types import Fusion

MEASURES = get_args(Measure)

ARGUMENTS = [key for key in inspect.signature(Dependency).parameters if key not in ("weight", "measure") and "dim" not in key]
"""What a cell may say of its penalty beside its measure."""

NAMED = ("setting", "name", "measure", "modalities", "dim", "rho", "seed", "batch_size", "rows")
"""What a row of numbers says of its cell."""

WINDOW = 20
"""Batches before a mark whose own estimates are averaged."""


# ---- one cell


@dataclass(frozen=True)
class CriticCell:
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

    Raises ValueError on numbers out of their range, on unknown arguments of the penalty, and on a law that does not exist.
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
                f"{self.measure!r} and {', '.join(unknown) or 'no other options'}; set study.critics.{self.name}."
            )
        if not self.marks or list(self.marks) != sorted(set(self.marks)) or self.marks[0] < 1 or not self.lr > 0:
            raise ValueError(
                "A critic takes at least one step, of positive size, and is measured after increasing numbers of them, got "
                f"marks={list(self.marks)} and lr={self.lr}; set study.cell.marks and study.cell.lr."
            )
        least = min(self.batch_size, self.held_out, self.batch_size if self.rows is None else self.rows)
        if least < max(2, self.modalities) or (self.rows is not None and self.rows < self.batch_size) or self.products < 1:
            raise ValueError(
                "Modalities are re-paired among at least as many rows as there are modalities, in batches no larger than the "
                f"training set, got batch_size={self.batch_size}, rows={self.rows}, held_out={self.held_out} and "
                f"products={self.products} with {self.modalities} modalities; set study.cell or study.settings."
            )


def draw_rows(cell: CriticCell, n: int, rng: torch.Generator) -> Float[Tensor, "n modalities dim"]:
    """Rows of P. The normals depend on the stream alone, not on ρ."""
    normals = torch.randn(n, cell.modalities, cell.dim, generator=rng)
    return torch.einsum("ij,njd->nid", factorise(cell.rho, cell.modalities), normals)


@cache
def factorise(rho: float, modalities: int) -> Float[Tensor, "m m"]:
    """R = factor factorᵀ."""
    return torch.linalg.cholesky(correlation(rho, modalities)).float()


def build_view(x: Float[Tensor, "n modalities dim"], products: int, rng: torch.Generator) -> View:
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


def measure_slopes(penalty: Dependency, view: View, rng: torch.Generator, rows: int = 2000) -> tuple[float, float]:
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


def draw_batches(cell: CriticCell, products: int) -> Iterator[View]:
    """Endless views to train on: new rows every time, or some of the fixed ones."""
    rng = generator(cell.seed, "training rows")
    fixed = None if cell.rows is None else draw_rows(cell, cell.rows, rng)
    while True:
        if fixed is None:
            x = draw_rows(cell, cell.batch_size, rng)
        else:
            x = fixed[torch.randperm(len(fixed), generator=rng)[: cell.batch_size]]
        yield build_view(x, products, rng)


def measure_cell(cell: CriticCell) -> list[dict[str, Any]]:
    """Train a cell's critic and read it out at each mark: one row of numbers a mark.

    estimate: on held-out rows, evaluation mode; exact: what the best critic, log p/q, reads on the same rows; train: mean over the
    last batches of what the critic reads on the batch that it was just fitted on; truth, truth_upper: see `find_truth`; slope_mean,
    slope_max: see `measure_slopes`, for the distance only; ms_per_step: processor time of a step, without drawing its rows.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the order of a sum, so its last bits, would depend on it
    try:
        with Stream(cell.seed, "critic").active():
            return _measure_marks(cell)
    finally:
        torch.set_num_threads(threads)


def _measure_marks(cell: CriticCell) -> list[dict[str, Any]]:
    options = {"normalize": False, **cell.penalty}
    penalty = Dependency(z_dim=cell.modalities * cell.dim, weight=1.0, measure=cast(Measure, cell.measure), **options).train()
    optimizer = torch.optim.Adam(penalty.parameters(), lr=cell.lr, fused=True)
    unseen = generator(cell.seed, "held-out rows")
    held_out = build_view(draw_rows(cell, cell.held_out, unseen), cell.products, unseen)
    lower, upper = find_truth(cell.measure, cell.rho, cell.dim, cell.modalities, options.get("divergence", "kl"))
    best = read_exactly(cell, held_out, options.get("divergence", "kl"))
    rows, seconds = [], 0.0
    recent: list[float] = []
    for step, batch in zip(range(1, cell.marks[-1] + 1), draw_batches(cell, penalty.products), strict=False):
        started = time.process_time()
        optimizer.zero_grad()
        penalty.critic_loss(batch).backward()
        optimizer.step()
        seconds += time.process_time() - started
        if any(mark - WINDOW < step <= mark for mark in cell.marks):
            recent.append(read_out(penalty, batch))
        if step in cell.marks:
            slope = measure_slopes(penalty, held_out, unseen) if cell.measure == "wasserstein" else (None, None)
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


def read_exactly(cell: CriticCell, view: View, of: DivergenceName) -> float | None:
    """What log p/q itself reads on these rows: the error of a read-out, without that of a critic. None for the distance."""
    if cell.measure == "wasserstein":
        return None
    assert view.product is not None
    joint, others = (log_ratio(f.z, cell.rho, cell.dim, cell.modalities) for f in (view.joint, view.product))
    return float(donsker_varadhan(joint, others) if cell.measure == "kl" else f_divergence(joint, others, of, log_ratio=True))


# ---- many cells


def plan_cells(
    laws: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, Mapping[str, Any]],
    critics: Mapping[str, Mapping[str, Any]],
    cell: Mapping[str, Any],
    seeds: int,
) -> list[CriticCell]:
    """Every critic of every setting, on each of its laws, with each seed.

    laws: name → ``modalities`` and ``rhos``
    settings: name → keys of a cell that differ there; ``critics`` and ``laws``, names, all where they are left out; ``label``
    critics: name → ``measures``, ``penalty``; how they are drawn
    cell: keys that all share

    Raises ValueError if there is no cell, on an unknown name, and where `CriticCell` does.
    """
    cells = []
    for setting, own in settings.items():
        chosen = {"critics": own.get("critics", critics), "laws": own.get("laws", laws)}
        for group, names in (("critics", critics), ("laws", laws)):
            if not set(chosen[group]) <= set(names):
                raise ValueError(
                    f"The {group} of a setting are among {', '.join(names)}, but {setting} has {', '.join(chosen[group])}; set "
                    f"study.settings.{setting}.{group}."
                )
        keys = {**cell, **{key: value for key, value in own.items() if key not in ("critics", "laws", "label")}}
        for name, law, seed in product(chosen["critics"], chosen["laws"], range(seeds)):
            options = {**keys, "name": name, "setting": setting, "seed": seed, "modalities": laws[law]["modalities"]}
            options["penalty"] = {**keys.get("penalty", {}), **critics[name]["penalty"]}
            for measure, rho in product(critics[name]["measures"], laws[law]["rhos"]):
                cells.append(CriticCell(**{**options, "measure": measure, "rho": rho}))
    if not cells:
        raise ValueError("An experiment needs a law, a setting, a critic and a seed at least, but has no cell; set study.")
    return cells


def summarise_seeds(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Per law, setting, critic and measure after the last step: mean, spread and extremes over seeds, and the means of the rest."""
    frame = pd.DataFrame(list(rows))
    frame = frame[frame.step == frame.groupby(["setting", "name"]).step.transform("max")]
    keys = ["setting", "measure", "modalities", "name", "rho", "step"]
    others = ["truth", "truth_upper", "exact", "train", "slope_mean", "slope_max", "ms_per_step"]
    numbers = frame.assign(**frame[others].astype(float))
    groups = numbers.groupby(keys, sort=False)
    spread = groups.estimate.agg(["mean", "std", "min", "max"])
    return spread.join(groups[others].mean()).reset_index()
