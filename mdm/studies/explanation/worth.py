"""Whether what networks say of segments is so: rankings, rank correlations, and examples by a rule."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from mdm.statistics.permutation import a12
from mdm.studies._base import Rows
from mdm.studies.explanation.segments import MARK


def compute_auc(score: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> float:
    """P(a positive scores higher than a negative) + ½P(equal); NaN without both. Infinities and NaN are no scores."""
    if not positive.any() or positive.all() or not np.isfinite(score).all():
        return math.nan
    return a12(score[positive], score[~positive])


def spearman(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> float:
    """Rank correlation over the pairs that are both known; NaN for fewer than 3 or where either is constant."""
    there = np.isfinite(x) & np.isfinite(y)
    if there.sum() < 3 or np.ptp(x[there]) == 0 or np.ptp(y[there]) == 0:
        return math.nan
    return float(np.corrcoef(rankdata(x[there]), rankdata(y[there]))[0, 1])


def compute_chance(positives: int, negatives: int) -> float:
    """Half of the range of 95 % of the AUCs of a score that knows nothing: 1.96 √((n₊ + n₋ + 1)/(12 n₊ n₋)) (Mann and Whitney)."""
    return 1.96 * math.sqrt((positives + negatives + 1) / (12 * positives * negatives)) if positives and negatives else math.nan


def measure_ranking(rows: Rows, critic: str, label_range: tuple[float, float]) -> dict[str, float]:
    """How well the scores of one run's segments order what the paper says that they order.

    auc_*: of finding the contradictory segments (NaN where the data do not mark them): by low T; by small |prediction|, as distance
        to the middle of the labels; by large |error|; by low best_T. rank_*: Spearman correlation of T with agreement, with |error|
        and with |label|.
    """
    columns = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in rows[0] if name not in ("id", "words")}
    middle, t = sum(label_range) / 2, columns[critic]
    label, prediction = (
        np.stack([c for n, c in columns.items() if n.split("_")[0] == what], 1) for what in ("label", "prediction")
    )
    error, size = np.abs(label - prediction).mean(1), np.abs(prediction - middle).mean(1)
    nothing = np.full(len(rows), math.nan)
    mark = columns.get(MARK, np.zeros(len(rows))) > 0
    return {
        "segments": len(rows),
        "contradictory": int(mark.sum()),
        "auc_T": compute_auc(-t, mark),
        "auc_prediction": compute_auc(-size, mark),
        "auc_error": compute_auc(error, mark),
        "auc_best": compute_auc(-columns.get("best_T", nothing), mark),
        "chance": compute_chance(int(mark.sum()), int((~mark).sum())),
        "rank_agreement": spearman(t, columns.get("agreement", nothing)),
        "rank_error": spearman(t, error),
        "rank_label": spearman(t, np.abs(label - middle).mean(1)),
    }


def measure_relation(rows: Rows, modality: str) -> dict[str, float]:
    """MMIM's score of one modality over a run's segments.

    score, score_other: means; moved: how far predictions move without the modality; rank_moved, rank_excess_moved: Spearman
    correlation of the score, and of what it exceeds that of other segments by, with moved.
    """
    own, other, shift = (
        np.array([row[name] for row in rows], dtype=np.float64)
        for name in (f"s_{modality}", f"s_{modality}_other", f"moved_{modality}")
    )
    return {
        "score": float(np.nanmean(own)),
        "score_other": float(np.nanmean(other)),
        "moved": float(np.nanmean(shift)),
        "rank_moved": spearman(own, shift),
        "rank_excess_moved": spearman(own - other, shift),
    }


def pick_examples(rows: Rows, critic: str, k: int) -> Rows:
    """The k segments with the lowest score and the k with the highest, from the extremes inwards; column ``end`` says L or H.

    Raises ValueError unless 1 ≤ k ≤ half of the segments.
    """
    if not 1 <= k <= len(rows) // 2:
        raise ValueError(f"There are examples at both ends of {len(rows)} segments, got examples={k}; use 1 to {len(rows) // 2}.")
    ordered = sorted(rows, key=lambda row: row[critic])
    return [{"end": "L"} | row for row in ordered[:k]] + [{"end": "H"} | row for row in ordered[: -k - 1 : -1]]


def pick_cases(rows: Rows, label_range: tuple[float, float]) -> Rows:
    """Four segments as in Han et al. (Table 5), by a rule: the best predicted positive, negative and neutral one, and the worst.

    Neutral: within a tenth of half the range about its middle. A kind that does not occur is left out. Column ``case`` names it.
    """
    low, high = label_range
    signs = {"positive": lambda y: y > 0.1, "negative": lambda y: y < -0.1, "neutral": lambda y: abs(y) <= 0.1}

    def error(row: dict[str, Any]) -> float:
        return abs(row["prediction"] - row["label"])

    found: Rows = []
    for kind, holds in signs.items():
        of_kind: Rows = [row for row in rows if holds((row["label"] - (low + high) / 2) / ((high - low) / 2))]
        found += [{"case": kind} | row for row in sorted(of_kind, key=error)[:1]]
    return [*found, {"case": "worst"} | max(rows, key=error)]


def find_critics(rows: Rows) -> list[str]:
    """The columns that are a critic's score."""
    return [name for name in rows[0] if name == "T" or name.startswith("T_")]


def find_scored(rows: Rows) -> list[str]:
    """The modalities that MMIM scores."""
    return [name[2:] for name in rows[0] if name.startswith("s_") and not name.endswith("_other")]
