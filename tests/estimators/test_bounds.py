"""Bounds from a critic's values or scores: finite alphabets, where sample means are expectations; order, caps and refusals."""

import inspect
import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cityblock, jensenshannon
from scipy.special import rel_entr
from torch import nn

from mdm.estimators import DIVERGENCES, donsker_varadhan, f_divergence, info_nce, kantorovich_rubinstein, logistic_loss, nwj

ALPHABETS = [
    # Counts of each symbol under P and under Q: sample means are expectations, without error.
    ([4, 2, 1, 1], [1, 1, 2, 4]),
    ([5, 3, 1], [2, 2, 2]),
    ([7, 1], [1, 3]),
    ([1, 2, 3, 4, 5], [3, 3, 3, 3, 3]),
]


def alphabet(p, q):
    """Counts → (log p/q of each symbol, symbols of P's sample, symbols of Q's sample, KL, JS), in double precision."""
    p, q = torch.tensor(p), torch.tensor(q)
    symbols = torch.arange(len(p))
    sample_p, sample_q = symbols.repeat_interleave(p), symbols.repeat_interleave(q)
    p, q = p.double() / p.sum(), q.double() / q.sum()
    middle = (p + q) / 2
    kl = float((p * (p / q).log()).sum())
    js = float((p * (p / middle).log()).sum() + (q * (q / middle).log()).sum()) / 2
    return (p / q).log(), sample_p, sample_q, kl, js


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


# ---- any f

BY_HAND = {
    # f'(u), and D_f of two vectors of probabilities, by other libraries where they have it
    "kl": (lambda u: 1 + u.log(), lambda p, q: rel_entr(p, q).sum()),
    "reverse_kl": (lambda u: -1 / u, lambda p, q: rel_entr(q, p).sum()),
    "pearson": (lambda u: 2 * (u - 1), lambda p, q: ((p - q) ** 2 / q).sum()),
    "squared_hellinger": (lambda u: 1 - u**-0.5, lambda p, q: ((np.sqrt(p) - np.sqrt(q)) ** 2).sum()),
    "jensen_shannon": (lambda u: (2 * u / (1 + u)).log(), lambda p, q: 2 * jensenshannon(p, q) ** 2),
    "total_variation": (lambda u: (u - 1).sign() / 2, lambda p, q: cityblock(p, q) / 2),
}


def test_every_divergence_has_its_oracle():
    assert set(BY_HAND) == set(DIVERGENCES)


def probabilities(p, q):
    return np.array(p) / sum(p), np.array(q) / sum(q)


@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize(("p", "q"), ALPHABETS)
def test_f_divergence_is_exact_at_the_derivative_of_f(p, q, name):
    """E_P[f'(u)] − E_Q[f*(f'(u))] = E_Q[f(u)] with u = p/q. Total variation from v = log u only as |v| → ∞."""
    slope, distance = BY_HAND[name]
    ratio, sample_p, sample_q, *_ = alphabet(p, q)
    truth = distance(*probabilities(p, q))
    t = slope(ratio.exp())
    assert float(f_divergence(t[sample_p], t[sample_q], name)) == pytest.approx(truth, abs=1e-12)
    v = 1e3 * ratio if name == "total_variation" else ratio
    assert float(f_divergence(v[sample_p], v[sample_q], name, log_ratio=True)) == pytest.approx(truth, abs=1e-12)


@pytest.mark.parametrize(("p", "q"), ALPHABETS)
def test_total_variation_at_the_log_ratio_itself_is_half_the_triangular_discrimination(p, q):
    """½ tanh(½ log p/q) = ½ (p − q)/(p + q)."""
    ratio, sample_p, sample_q, *_ = alphabet(p, q)
    a, b = probabilities(p, q)
    value = f_divergence(ratio[sample_p], ratio[sample_q], "total_variation", log_ratio=True)
    assert float(value) == pytest.approx(((a - b) ** 2 / (a + b)).sum() / 2, abs=1e-12)


@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize(("p", "q"), ALPHABETS)
def test_no_critic_exceeds_the_divergence_in_the_population(p, q, name):
    slope, distance = BY_HAND[name]
    _, sample_p, sample_q, *_ = alphabet(p, q)
    truth = distance(*probabilities(p, q))
    rng = torch.Generator().manual_seed(0)
    for v in 2 * torch.randn(100, len(p), generator=rng, dtype=torch.float64):
        both = f_divergence(v[sample_p], v[sample_q], name, log_ratio=True)
        assert float(both) <= truth + 1e-9
        if name != "total_variation":  # its f' is a step, which the log ratio smoothes
            t = slope(v.exp())
            assert float(f_divergence(t[sample_p], t[sample_q], name)) == pytest.approx(float(both), rel=1e-9, abs=1e-9)
        else:
            t = torch.rand(len(p), generator=rng, dtype=torch.float64) - 0.5
            assert float(f_divergence(t[sample_p], t[sample_q], name)) <= truth + 1e-9


@pytest.mark.parametrize("name", [name for name in BY_HAND if name != "total_variation"])
@pytest.mark.parametrize(("p", "q"), ALPHABETS)
def test_the_slope_of_an_f_divergence_is_zero_at_the_log_ratio(p, q, name):
    """So that a critic that is trained on any of them ends at log p/q."""
    ratio, sample_p, sample_q, *_ = alphabet(p, q)
    v = ratio.clone().requires_grad_()
    (slope,) = torch.autograd.grad(f_divergence(v[sample_p], v[sample_q], name, log_ratio=True), v)
    assert slope.abs().max() < 1e-12


def test_f_divergence_knows_its_relatives():
    """kl is NWJ; jensen_shannon at log ratios v is 2 log 2 − the logistic loss; total variation is a difference of means."""
    rng = torch.Generator().manual_seed(0)
    for scale in (0.1, 1.0, 10.0):
        joint, prod = (scale * torch.randn(n, generator=rng) for n in (40, 70))
        assert f_divergence(joint, prod) == nwj(joint, prod)
        assert float(f_divergence(joint, prod, log_ratio=True)) == pytest.approx(float(nwj(joint + 1, prod + 1)), rel=1e-5)
        js = float(f_divergence(joint, prod, "jensen_shannon", log_ratio=True))
        assert js == pytest.approx(2 * math.log(2) - float(logistic_loss(joint, prod)), rel=1e-5, abs=1e-6)
        bounded = [torch.tanh(x) / 2 for x in (joint, prod)]
        assert f_divergence(*bounded, "total_variation") == kantorovich_rubinstein(*bounded)


LARGEST = {"kl": 88, "reverse_kl": 88, "pearson": 44, "squared_hellinger": 176, "jensen_shannon": 1e30, "total_variation": 1e30}


@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_f_divergence_of_large_log_ratios_is_finite_in_single_precision(name, signs):
    """For |v| ≤ 80, ≤ 44 for Pearson, whose conjugate is e^{2v}; the docstring has the largest v of each."""
    for size in (min(80, LARGEST[name]), LARGEST[name]):
        joint, prod = (torch.tensor([s * size], dtype=torch.float32, requires_grad=True) for s in signs)
        value = f_divergence(joint, prod, name, log_ratio=True)
        assert torch.isfinite(value)
        assert all(torch.isfinite(g).all() for g in torch.autograd.grad(value, [joint, prod]))


@pytest.mark.parametrize("name", ["kl", "pearson", "squared_hellinger"])
def test_f_divergence_beyond_single_precision_is_minus_infinity(name):
    """A value that is not finite stops a run; the docstring says from where on, and double precision goes on."""
    v = torch.tensor([0.0]), torch.tensor([LARGEST[name] + 2.0])
    assert float(f_divergence(*v, name, log_ratio=True)) == -math.inf
    assert math.isfinite(f_divergence(*(x.double() for x in v), name, log_ratio=True))


@pytest.mark.parametrize(
    ("name", "last", "first"),
    [
        ("kl", 50.0, math.inf),
        ("reverse_kl", -1e-6, 0.0),
        ("pearson", 50.0, -math.inf),
        ("squared_hellinger", 0.999, 1.0),
        ("jensen_shannon", 0.693, 0.6932),
        ("total_variation", 0.5, 0.501),
        ("total_variation", -0.5, -0.501),
    ],
)
def test_values_out_of_the_domain_of_the_conjugate_are_refused(name, last, first):
    fine, bad = torch.tensor([-0.3, last]), torch.tensor([-0.3, first])
    assert torch.isfinite(f_divergence(fine, fine, name))
    for joint, prod in ((fine, bad), (bad, fine), (fine, bad.new_tensor([math.nan])), (fine, bad.new_tensor([-math.inf]))):
        with pytest.raises(ValueError, match=rf"conjugate of {name} takes finite critic values, .* but these reach from"):
            f_divergence(joint.requires_grad_(), prod, name)


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


# ---- InfoNCE


def test_info_nce_of_scores_that_know_all_or_nothing():
    """log n for scores that single the diagonal out, 0 for equal ones, and below for wrong ones."""
    assert float(info_nce(1e3 * torch.eye(8))) == pytest.approx(math.log(8))
    assert float(info_nce(torch.full((8, 8), 3.7))) == pytest.approx(0, abs=1e-6)
    assert float(info_nce(-torch.eye(8))) < 0


def test_info_nce_by_hand_and_by_direction():
    """[[0, log 3], [0, 0]]: rows log 2 + ½(−log 4 − log 2) = ½ log ½; columns log 2 + ½(−log 2 − log 4), the same by symmetry.

    [[log 3, log 3], [0, 0]]: equal within rows, 0; columns log 2 + ½(log ¾ + log ¼) = ½ log ¾.
    """
    log3 = math.log(3)
    assert float(info_nce(torch.tensor([[0.0, log3], [0.0, 0.0]]))) == pytest.approx(math.log(0.5) / 2)
    scores = torch.tensor([[log3, log3], [0.0, 0.0]])
    assert float(info_nce(scores)) == pytest.approx(0, abs=1e-6)
    assert float(info_nce(scores.T)) == pytest.approx(math.log(0.75) / 2)


@pytest.mark.parametrize("n", [2, 8, 32])
def test_info_nce_of_cosines_has_its_range(n):
    """At most log n − log(1 + (n−1)·e^{−n/(n−1)}) < 1, attained by a simplex (n = 32: .9773), whatever the vectors."""
    most = math.log(n) - math.log(1 + (n - 1) * math.exp(-n / (n - 1)))
    simplex = torch.eye(n, dtype=torch.float64) - 1 / n
    simplex = simplex / simplex.norm(dim=1, keepdim=True)
    assert float(info_nce(simplex @ simplex.T)) == pytest.approx(most, abs=1e-9)
    assert most < 1
    for seed in range(20):
        g, h = nn.functional.normalize(
            torch.randn(2, n, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=2
        )
        assert float(info_nce(g @ h.T)) <= most + 1e-9
        assert float(info_nce(1e4 * g @ h.T)) <= math.log(n) + 1e-9


@pytest.mark.parametrize(("n", "chance", "least"), [(8, 2.0794, 1.1732), (32, 3.4657, 2.4884), (64, 4.1589, 3.1702)])
def test_the_loss_of_cosines_moves_by_less_than_one_nat(n, chance, least):
    """log n − InfoNCE: log n at equal scores, log(1 + (n−1)·e^{−n/(n−1)}) at best.

    One anchor alone is between log(1 + (n−1)e^{−2}) and log(1 + (n−1)e²), where its candidates are all at −1 or at 1.
    """
    assert math.log(n) - float(info_nce(torch.zeros(n, n))) == pytest.approx(chance, abs=1e-4)
    simplex = (torch.eye(n, dtype=torch.float64) - 1 / n) * n / (n - 1)  # cosines of its corners: 1, else −1/(n−1)
    assert math.log(n) - float(info_nce(simplex)) == pytest.approx(least, abs=1e-4)
    assert chance - least < 1
    for sign in (1, -1):
        anchor = sign * (2 * torch.eye(n, dtype=torch.float64) - 1)
        assert math.log(n) - float(info_nce(anchor)) == pytest.approx(math.log(1 + (n - 1) * math.exp(-2 * sign)), abs=1e-9)


@pytest.mark.parametrize(("n", "cap"), [(8, 2.079), (64, 4.159)])
def test_info_nce_of_much_dependence_is_its_cap(n, cap):
    """ρ = .9 in 20 dimensions, 16.6 nats, with the exact log ratio as score: log n."""
    rho, rng = 0.9, torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, n, 20, generator=rng, dtype=torch.float64)
    y = rho * x + math.sqrt(1 - rho**2) * noise
    ratio = ((y.square()[None] - (y[None] - rho * x[:, None]).square() / (1 - rho**2)) / 2).sum(2)
    assert cap - 0.02 < float(info_nce(ratio)) <= math.log(n)


def test_info_nce_is_a_lower_bound():
    """x, y standard normal, ρ = .9 and the exact log ratio as score: below I = .830, and closer with more candidates."""
    rho, rng = 0.9, torch.Generator().manual_seed(0)
    values = {}
    for n in (4, 64):
        x, noise = torch.randn(2, 200, n, generator=rng, dtype=torch.float64)
        y = rho * x + math.sqrt(1 - rho**2) * noise
        a, b = x[:, :, None], y[:, None, :]
        ratio = -((b - rho * a) ** 2) / (2 * (1 - rho**2)) + b**2 / 2
        values[n] = float(torch.stack([info_nce(r) for r in ratio]).mean())
    assert 0.4 < values[4] < values[64] < -0.5 * math.log(1 - rho**2)
