"""Bounds from a critic's values: exact critics on finite alphabets, order, caps and refusals."""

import inspect
import math

import pytest
import torch
from estimators.alphabets import ALPHABETS, alphabet

from mdm.estimators import donsker_varadhan, f_divergence, kantorovich_rubinstein, logistic_loss, nwj

# ---- exact critics


@pytest.mark.parametrize(("p", "q"), ALPHABETS)
@pytest.mark.parametrize("constant", [0.0, -3.0, 0.7, 50.0])
def test_donsker_varadhan_is_kl_at_the_log_ratio_plus_any_constant(p, q, constant):
    """E_P[r + c] − log E_Q[e^{r+c}] = KL + c − (log Σ q·p/q + c) = KL."""
    ratio, sample_p, sample_q, kl, _ = alphabet(p, q)
    t = ratio + constant
    assert float(donsker_varadhan(t[sample_p], t[sample_q])) == pytest.approx(kl, abs=1e-6)


@pytest.mark.parametrize(("p", "q"), ALPHABETS)
def test_nwj_is_kl_at_one_plus_the_log_ratio_and_loses_one_over_e_without_the_one(p, q):
    """T = 1 + r: 1 + KL − E_Q[p/q] = KL. T = r: KL − E_Q[p/q]/e = KL − 1/e."""
    ratio, sample_p, sample_q, kl, _ = alphabet(p, q)
    assert float(nwj(1 + ratio[sample_p], 1 + ratio[sample_q])) == pytest.approx(kl, abs=1e-6)
    assert float(nwj(ratio[sample_p], ratio[sample_q])) == pytest.approx(kl - 1 / math.e, abs=1e-6)


@pytest.mark.parametrize(("p", "q"), ALPHABETS)
def test_no_critic_exceeds_kl_in_the_population(p, q):
    _, sample_p, sample_q, kl, _ = alphabet(p, q)
    rng = torch.Generator().manual_seed(0)
    for t in 3 * torch.randn(200, len(p), generator=rng, dtype=torch.float64):
        assert float(donsker_varadhan(t[sample_p], t[sample_q])) <= kl + 1e-9
        assert float(nwj(t[sample_p], t[sample_q])) <= kl + 1e-9


@pytest.mark.parametrize(("p", "q"), ALPHABETS)
def test_logistic_loss_is_minimal_at_the_log_ratio(p, q):
    """At T = r: E_P[log((p+q)/p)] + E_Q[log((p+q)/q)] = 2 log 2 − 2 JS; the loss is convex, so no gradient means minimal."""
    ratio, sample_p, sample_q, _, js = alphabet(p, q)
    t = ratio.clone().requires_grad_()
    loss = logistic_loss(t[sample_p], t[sample_q])
    assert float(loss.detach()) == pytest.approx(2 * math.log(2) - 2 * js, abs=1e-6)
    (slope,) = torch.autograd.grad(loss, t)
    assert slope.abs().max() < 1e-12
    rng = torch.Generator().manual_seed(0)
    for step in torch.randn(50, len(p), generator=rng, dtype=torch.float64):
        assert logistic_loss((ratio + step)[sample_p], (ratio + step)[sample_q]) > loss


def test_a_critic_that_knows_nothing_has_the_loss_of_a_coin():
    assert float(logistic_loss(torch.zeros(5), torch.zeros(9))) == pytest.approx(2 * math.log(2), abs=1e-6)


# ---- order, caps, numbers


@pytest.mark.parametrize("scale", [0.01, 1.0, 10.0])
def test_donsker_varadhan_is_never_below_nwj(scale):
    """log u ≤ u / e for every u > 0, with u = E_Q[e^T]; equality iff u = e."""
    rng = torch.Generator().manual_seed(0)
    for n, m in ((1, 1), (3, 8), (32, 32), (100, 7)):
        joint, prod = (scale * torch.randn(size, generator=rng, dtype=torch.float64) for size in (n, m))
        assert donsker_varadhan(joint, prod) >= nwj(joint, prod) - 1e-12
        at_e = prod + 1 - torch.logsumexp(prod, 0) + math.log(m)  # now E_Q[e^T] = e
        assert float(nwj(joint, at_e)) == pytest.approx(float(donsker_varadhan(joint, at_e)), abs=1e-6)


def test_a_critic_between_zero_and_one_is_capped():
    """Largest at T = 1 on P and 0 on Q: DV 1 − log 1 = 1, NWJ 1 − e^{−1}, difference 1."""
    rng = torch.Generator().manual_seed(0)
    one, zero = torch.ones(8), torch.zeros(8)
    caps = {donsker_varadhan: 1.0, nwj: 1 - 1 / math.e, kantorovich_rubinstein: 1.0}
    for estimator, cap in caps.items():
        assert float(estimator(one, zero)) == pytest.approx(cap, abs=1e-6)
        for _ in range(200):
            assert estimator(torch.rand(8, generator=rng), torch.rand(8, generator=rng)) <= cap + 1e-6


def test_large_critic_values_do_not_overflow_donsker_varadhan():
    """T = 500 everywhere on Q: log E_Q[e^T] = 500, although e^500 is infinite in single precision."""
    assert float(donsker_varadhan(torch.full((4,), 501.0), torch.full((4,), 500.0))) == pytest.approx(1.0, abs=1e-3)


def test_the_misprints_of_the_paper_reward_constants():
    """Colombo et al. (2021) as printed, P = Q and T constant, where every divergence is 0 and the corrected forms are at most 0.

    Eq. 7 with e^{T^{-1}}: T − e^{1/T} = 98.99 at T = 100, and grows. Eq. 8 with a log: t − log t = 6.91 at t = 0.001, and grows.
    """
    eq7 = [float(t.mean() - torch.exp(1 / t).mean()) for t in (torch.full((5,), v) for v in (2.0, 100.0, 1e4))]
    assert eq7 == pytest.approx([2 - math.exp(0.5), 98.98995, 9998.9999], rel=1e-5)
    eq8 = [float(t.mean() - torch.log(t.mean())) for t in (torch.full((5,), v) for v in (1e-3, 1e-6, 1e-9))]
    assert eq8 == pytest.approx([6.908755, 13.815512, 20.723266], rel=1e-5)
    for v in (1e-9, 1e-3, 2.0, 100.0, 1e4):
        t = torch.full((5,), v, dtype=torch.float64)
        assert abs(float(donsker_varadhan(t, t))) < 1e-9
        assert float(nwj(t, t)) <= 1e-12
        assert float(kantorovich_rubinstein(t, t)) == 0


ALL = [donsker_varadhan, nwj, kantorovich_rubinstein, logistic_loss, f_divergence]


@pytest.mark.parametrize("estimator", ALL)
def test_estimators_refuse_what_is_no_vector_of_values(estimator):
    """Annotated shapes are checked in tests and free in production: what users meet is the function without its annotations."""
    with pytest.raises(ValueError, match="non-empty"):
        estimator(torch.empty(0), torch.ones(3))
    with pytest.raises(ValueError, match="non-empty"):
        estimator(torch.ones(3), torch.empty(0))
    bare = inspect.unwrap(estimator)
    with pytest.raises(ValueError, match=r"joint has shape \[3, 1\]"):
        bare(torch.ones(3, 1), torch.ones(3))
    with pytest.raises(ValueError, match=r"product has shape \[\]"):
        bare(torch.ones(3), torch.tensor(1.0))
