"""Representations of MIRD, how far they lie apart and how much they depend on one another: what three studies measure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from mdm import estimators
from mdm.backbones.base import Backbone
from mdm.penalties.pairs import standardize_columns
from mdm.runs import records
from mdm.runs.trained import Trained
from mdm.seeds import derive
from mdm.statistics import t_interval
from mdm.studies._fresh import draw_fresh
from mdm.studies._probe import Pairs, measure_held_out
from mdm.types import Batch

SHARED = "shared"
Codes = Mapping[str, Float[Tensor, "_ d"]]
"""Modality, or ``shared`` → its representation of the same n segments."""
HSIC_ROWS = 2000
"""Of which the kernel matrices are made; they have the square of it."""


@dataclass(frozen=True)
class Three:
    """Representations of segments to fit on, to stop on and to measure on."""

    fit: Codes
    stop: Codes
    measure: Codes


# ---- representations


@torch.no_grad()
def encode(backbone: Backbone, batches: Iterable[Batch]) -> dict[str, Float[Tensor, "n d"]]:
    """z_m of every modality, and z_S, in evaluation mode.

    Raises ValueError if the model has no shared representation, or they are not all of one width.
    """
    widths = {**backbone.unimodal_dims, **{name: d for name, d in backbone.part_dims.items() if name == SHARED}}
    if SHARED not in widths or len(widths) < 2 or len(set(widths.values())) > 1:
        raise ValueError(
            f"Disentanglement is of representations of one width, one of them shared, but {type(backbone).__name__} has "
            f"{', '.join(f'{name} ({d})' for name, d in widths.items()) or 'none'}; use model=mird."
        )
    backbone.eval()
    fusions = [backbone(batch) for batch in batches]
    return {name: torch.cat([f.parts[name] if name == SHARED else f.unimodal[name] for f in fusions]).float() for name in widths}


def encode_folds(trained: Trained, sizes: Mapping[str, int] | None) -> Three:
    """Representations of new segments; of the run's own folds, the first of which the model has seen, where ``sizes`` is None."""
    if sizes is None:
        return Three(*(encode(trained.backbone, trained.batches(fold)) for fold in ("train", "valid", "test")))
    new = draw_fresh(trained, sizes)
    return Three(*(encode(trained.backbone, new.in_order(fold)) for fold in ("train", "valid", "test")))


# ---- separation


def stack_clouds(of: Codes) -> Float[np.ndarray, "rows d"]:
    """All representations one over the other in the order of ``of``, each of the d axes standardised over all rows at once."""
    return standardize_columns(torch.cat(list(of.values()))).numpy()


def measure_separation(of: Codes) -> dict[str, float]:
    """How well the representations can be told apart: 0 or chance where they have one law, 1 where their clouds do not touch.

    silhouette: mean over rows of (b − a) / max(a, b), a the mean distance to rows of the same representation, b the least mean
        distance to those of another
    accuracy: share of rows whose representation a linear classifier names, fitted on the other four fifths of the segments; with m
        representations chance is 1/m
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import silhouette_score
    from sklearn.model_selection import GroupKFold, cross_val_score

    rows, n = stack_clouds(of), len(next(iter(of.values())))
    name, segment = np.repeat(np.arange(len(of)), n), np.tile(np.arange(n), len(of))
    classifier = LogisticRegression(max_iter=1000)
    hits = cross_val_score(classifier, rows, name, groups=segment, cv=GroupKFold(5))
    return {"silhouette": float(silhouette_score(rows, name)), "accuracy": float(hits.mean())}


def project(of: Codes, seed: int) -> Float[np.ndarray, "rows 2"]:
    """t-SNE of `stack_clouds`, as the figure shows it; neither its distances nor its sizes of clusters mean anything."""
    from sklearn.manifold import TSNE

    return TSNE(init="pca", perplexity=30, random_state=seed).fit_transform(stack_clouds(of)).astype(np.float64)


# ---- dependence


def measure_dependence(of: Three, seed: int, steps: int) -> list[dict[str, str | float]]:
    """``pair``, ``measure`` and ``value`` for each pair (x, y) of representations; all are 0 where they are independent.

    linear: share of the variance of y that x predicts linearly, and the other way round, on average; what an orthogonal constraint
        can remove. Fitted on ``fit``; below 0 where what was fitted does not hold
    hsic: debiased and normalised, median bandwidth
    nats: lower bound on I(x; y), by a critic fitted afterwards (`mdm.probe`)
    """
    rows: list[dict[str, str | float]] = []
    for a, b in combinations(of.measure, 2):
        x, y = (standardize_columns(of.measure[m][:HSIC_ROWS]) for m in (a, b))
        there = predict_linearly(of.fit[a], of.fit[b], of.measure[a], of.measure[b])
        back = predict_linearly(of.fit[b], of.fit[a], of.measure[b], of.measure[a])
        fit, stop, measure = (pair_segments(part[a], part[b], seed) for part in (of.fit, of.stop, of.measure))
        found = {
            "linear": (there + back) / 2,
            "hsic": float(estimators.hsic(x, y, normalized=True)),
            "nats": measure_held_out(fit, stop, measure, seed, steps),
        }
        rows += [{"pair": f"{a}–{b}", "measure": name, "value": value} for name, value in found.items()]
    return rows


def pair_segments(x: Float[Tensor, "n d_x"], y: Float[Tensor, "n d_y"], seed: int, samples: int = 4) -> Pairs:
    """[x; y] of segments as they are, and of x with another segment's y: cyclic shifts by distinct non-zero offsets."""
    rng = np.random.default_rng(derive(seed, "disentanglement shifts"))
    offsets = 1 + rng.permutation(len(x) - 1)[:samples]
    moved = torch.stack([torch.cat([x, y.roll(int(k), 0)], 1) for k in offsets])
    return Pairs(torch.cat([x, y], 1), moved)


def predict_linearly(
    x: Float[Tensor, "n d_x"], y: Float[Tensor, "n d_y"], new_x: Float[Tensor, "m d_x"], new_y: Float[Tensor, "m d_y"]
) -> float:
    """R² of a least-squares map x → y on new rows, every axis of y counting by its variance.

    Singular values below 1e-3 of the largest are left out: a collapsed representation predicts by its rounding otherwise.
    """
    centre_x, centre_y = x.mean(0), y.mean(0)
    weights = torch.linalg.pinv((x - centre_x).double(), rtol=1e-3) @ (y - centre_y).double()
    rest = (new_y - centre_y).double() - (new_x - centre_x).double() @ weights
    total = (new_y - centre_y).double().square().sum()
    return float(1 - rest.square().sum() / total) if total > 0 else 0.0


def count_dimensions(x: Float[Tensor, "n d"]) -> float:
    """(Σ λ)² / Σ λ², λ the eigenvalues of the covariance: d if all directions vary alike, 1 if one does, 0 if none."""
    covariance = torch.cov(x.double().T)
    return float(covariance.trace().square() / covariance.square().sum().clamp(min=torch.finfo(torch.float64).tiny))


def measure_run(trained: Trained, sizes: Mapping[str, int] | None, steps: int) -> list[dict[str, str | float]]:
    """Everything of one run, as rows of ``pair``, ``measure`` and ``value``; ``pair`` is one representation, or ``all``."""
    seed = int(trained.record["seed"])
    of = encode_folds(trained, sizes)
    rows: list[dict[str, str | float]] = [
        {"pair": "all", "measure": name, "value": value}
        for name, value in measure_separation(encode(trained.backbone, trained.batches("test"))).items()
    ]
    rows += [{"pair": name, "measure": "dimensions", "value": count_dimensions(x)} for name, x in of.measure.items()]
    return rows + measure_dependence(of, seed, steps)


# ---- estimates while training


def read_estimates(folder: Path) -> list[dict[str, str | float]]:
    """CLUB's estimate at every epoch of a run, summed over pairs of representations, on validation and on training rows.

    By the critic beside the model where there is one (``penalty=club``), else by the model's own.

    Raises ValueError if the run has neither.
    """
    curve = records.read_table(folder, records.CURVE)
    rows: list[dict[str, str | float]] = []
    for fold in ("valid", "train"):
        found = [[c for c in curve if c.startswith(f"{fold}/{owner}/") and not c.endswith("/term")] for owner in ("club", "own")]
        columns = next(filter(None, found), [])
        if not columns:
            raise ValueError(
                f"An estimate per epoch is in the curve of a run with CLUB, but {folder} has none; add penalty=club "
                "penalty.measure_only=true to its row."
            )
        total = curve[columns].sum(axis=1, skipna=False)
        rows += [{"fold": fold, "epoch": float(e), "value": float(v)} for e, v in zip(curve["epoch"], total, strict=True)]
    return rows


# ---- single segments


def pick_cases(trained: Trained, n: int) -> list[dict[str, str | float]]:
    """The first test segment of each of the first n videos: label, prediction, and the mean |cosine| of its representations.

    Cosines are of representations standardised over the test fold, each by itself, averaged over all pairs; independent ones in d
    dimensions have about √(2 / (π d)), not 0.

    Raises ValueError if the test fold has fewer videos.
    """
    backbone = trained.backbone
    batches = list(trained.batches("test"))
    ids = [i for batch in batches for i in batch.ids]
    segments = trained.data
    place = {name: i for i, name in enumerate(segments.ids)}
    first: dict[str, int] = {}
    for row, name in enumerate(ids):
        first.setdefault(str(segments.group[place[name]]), row)
    if len(first) < n:
        raise ValueError(f"Cases are of {n} videos, but the test fold has {len(first)}; lower study.cases.")
    with torch.no_grad():
        prediction = torch.cat([backbone(batch).prediction for batch in batches])[:, 0]
    cosine = average_cosine(encode(backbone, batches))
    label = torch.cat([batch.label for batch in batches])[:, 0]
    return [
        {
            "id": ids[row],
            "words": segments.words(place[ids[row]]) if "words" in segments.text else "",
            "truth": float(label[row]),
            "prediction": float(prediction[row]),
            "cosine": float(cosine[row]),
        }
        for row in list(first.values())[:n]
    ]


def average_errors(folder: Path) -> list[dict[str, str | float]]:
    """Mean |error| of a run on the whole test fold, as a case called ``all``."""
    predictions = records.read_table(folder, records.PREDICTIONS)
    return [{"id": "all", "error": float((predictions["prediction"] - predictions["label"]).abs().mean())}]


def average_cosine(of: Codes) -> Float[Tensor, " n"]:
    """|cosine| of the representations of each segment, mean over pairs, each standardised over the rows by itself."""
    each = [torch.nn.functional.normalize(standardize_columns(x), dim=1) for x in of.values()]
    return torch.stack([(x * y).sum(1).abs() for x, y in combinations(each, 2)]).mean(0)


# ---- over seeds


def compare_rows(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]], of: Sequence[str]) -> pd.DataFrame:
    """Each row against its baseline, paired by seed: ``n``, ``difference`` and its 95 % t interval ``low``, ``high``.

    rows: columns ``row``, ``seed``, ``value`` and those of ``of``, by whose values they are taken apart; pairs: (row, baseline)
    """
    found = []
    for key, group in rows.groupby(list(of), sort=False):
        wide = group.pivot(index="seed", columns="row", values="value")
        for row, baseline in pairs:
            if row in wide and baseline in wide:
                both = wide[[row, baseline]].dropna().to_numpy(dtype=np.float64)
                low, high = t_interval(both[:, 0], both[:, 1])
                mean = float((both[:, 0] - both[:, 1]).mean())
                found.append(
                    {
                        **dict(zip(of, key, strict=True)),
                        "row": row,
                        "baseline": baseline,
                        "n": len(both),
                        "difference": mean,
                        "low": low,
                        "high": high,
                    }
                )
    return pd.DataFrame(found)
