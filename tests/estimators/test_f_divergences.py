"""Any f-divergence from a critic's values: on finite alphabets, where sample means are expectations, and far out."""

import math

import numpy as np
import pytest
import torch
from estimators.alphabets import ALPHABETS, alphabet
from scipy.spatial.distance import cityblock, jensenshannon
from scipy.special import rel_entr

from mdm.estimators import DIVERGENCES, f_divergence, kantorovich_rubinstein, logistic_loss, nwj

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
