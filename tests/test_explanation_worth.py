"""What scores of segments are worth: what is known of synthetic ones, AUC, rankings against libraries, and examples."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from mdm.data.gaussian import gaussian
from mdm.data.synthetic import synthetic
from mdm.studies.explanation.segments import recall_latents
from mdm.studies.explanation.worth import (
    compute_auc,
    compute_chance,
    measure_ranking,
    pick_cases,
    pick_examples,
    spearman,
)

# ---- what is known of synthetic segments


def test_the_best_critic_s_mean_is_the_total_correlation():
    segments = synthetic(train=20_000, valid=10, test=10, shared_dim=1, rho=0.5, contradiction=0.3)
    best = recall_latents(segments)["best_T"]
    assert best.mean() == pytest.approx(segments.truth["total_correlation"], abs=5 * best.std() / len(best) ** 0.5)


def test_agreement_is_negative_where_segments_contradict():
    segments = synthetic(train=500, valid=10, test=10, contradiction=0.3)
    found = recall_latents(segments)
    assert np.array_equal(found["agreement"] < 0, segments.marks["contradictory"])


def test_the_best_critic_finds_every_contradiction_where_nothing_else_is_shared():
    """With ρ = 0 log p/q is log 4(1 − q) or log 4q; with much else shared it finds but some of them."""
    alone, beside = (synthetic(train=2000, valid=10, test=10, rho=rho, contradiction=0.2) for rho in (0.0, 0.8))
    assert compute_auc(-recall_latents(alone)["best_T"], alone.marks["contradictory"]) == 1
    assert set(recall_latents(alone)["best_T"].round(6)) == {round(np.log(3.2), 6), round(np.log(0.8), 6)}
    assert 0.55 < compute_auc(-recall_latents(beside)["best_T"], beside.marks["contradictory"]) < 0.85


def test_of_other_data_nothing_is_known():
    assert recall_latents(gaussian(train=20, valid=10, test=10)) == {}


# ---- what it is worth


def test_auc_and_rank_correlation_against_libraries():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 9, 200).astype(float), rng.normal(size=200)  # x has ties
    assert compute_auc(x, y > 0.5) == pytest.approx(roc_auc_score(y > 0.5, x))
    assert spearman(x, x + y) == pytest.approx(spearmanr(x, x + y).statistic)
    y[3] = np.nan
    assert spearman(x, y) == pytest.approx(spearmanr(x, y, nan_policy="omit").statistic)


def test_what_cannot_be_ranked_is_nan():
    x = np.arange(4.0)
    assert np.isnan(compute_auc(x, np.zeros(4, bool)))
    assert np.isnan(compute_auc(x, np.ones(4, bool)))
    assert np.isnan(compute_auc(np.array([0, 1, np.nan, 2]), x > 1))
    assert np.isnan(spearman(x, np.ones(4)))
    assert np.isnan(spearman(x[:2], x[:2]))
    assert np.isnan(compute_chance(0, 5))


def test_chance_against_scores_that_know_nothing():
    """AUC = (sum of the ranks of 12 of 60 − 12·13/2)/(12·48), ranks in random order."""
    ranks = np.random.default_rng(0).permuted(np.tile(np.arange(1, 61), (20_000, 1)), axis=1)
    assert compute_chance(12, 48) == pytest.approx(1.96 * np.std((ranks[:, :12].sum(1) - 78) / 576), rel=0.02)


def test_ranking_by_hand():
    """T and best T are low for the two contradictory segments, one of which has a small prediction, and neither a large error."""
    names = ("contradictory", "T", "best_T", "agreement", "label", "prediction")
    values = [(True, -2, -1, -1, 0, 0.1), (True, -1, -2, -2, 2, 2.1), (False, 1, 3, 1, 1, 2), (False, 2, 4, 2, -1, 1)]
    rows = [{"id": "a", "words": "b", **dict(zip(names, value, strict=True))} for value in values]
    found = measure_ranking(rows, "T", (-3.0, 3.0))
    assert (found["segments"], found["contradictory"]) == (4, 2)
    assert (found["auc_T"], found["auc_best"]) == (1, 1)
    # |prediction| 0.1, 2.1 against 2, 1: three of four pairs the right way, less one; errors 0.1, 0.1 against 1, 2: none.
    assert (found["auc_prediction"], found["auc_error"]) == (0.5, 0)
    assert found["rank_agreement"] == pytest.approx(spearmanr([-2, -1, 1, 2], [-1, -2, 1, 2]).statistic)
    real = [{name: row[name] for name in ("id", "words", "T", "label", "prediction")} for row in rows]
    found = measure_ranking(real, "T", (-3.0, 3.0))
    assert np.isnan([found[name] for name in ("auc_T", "auc_best", "chance", "rank_agreement")]).all()
    assert np.isfinite(found["rank_error"])


# ---- examples


def test_examples_are_the_extremes():
    rows = [{"id": str(i), "T": float(t)} for i, t in enumerate([3, 0, 5, 1, 4, 2])]
    assert [(row["end"], row["T"]) for row in pick_examples(rows, "T", 2)] == [("L", 0), ("L", 1), ("H", 5), ("H", 4)]
    for k in (0, 4):
        with pytest.raises(ValueError, match=f"examples at both ends of 6 segments, got examples={k}; use 1 to 3"):
            pick_examples(rows, "T", k)


def test_cases_follow_their_rule():
    pairs = [(2.0, 1.0), (1.0, 0.9), (-1.0, -1.5), (0.1, 0.1), (0.0, 3.0), (-2.0, 0.0)]
    rows = [{"label": label, "prediction": prediction} for label, prediction in pairs]
    found = [(row["case"], row["label"]) for row in pick_cases(rows, (-3.0, 3.0))]
    assert found == [("positive", 1.0), ("negative", -1.0), ("neutral", 0.1), ("worst", 0.0)]
    assert [row["case"] for row in pick_cases(rows[:2], (-3.0, 3.0))] == ["positive", "worst"]
