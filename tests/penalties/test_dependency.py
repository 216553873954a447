"""Mutual dependency penalties: which bound is read off which critic, their options, and the sign of Eq. 5."""

import math

import numpy as np
import pytest
import torch
from penalties.dependency import DIM, ROWS, build, number, view
from torch import nn

from mdm import estimators
from mdm.penalties.base import View

# ---- which bound

MEASURES = {"kl": estimators.donsker_varadhan, "f": estimators.nwj, "wasserstein": estimators.kantorovich_rubinstein}
FITS = [("kl", "bound"), ("kl", "logistic"), ("kl", "ema"), ("f", "bound"), ("f", "logistic"), ("wasserstein", "bound")]


@pytest.mark.parametrize(("measure", "training"), FITS)
def test_the_estimate_is_the_bound_at_the_critic(measure, training):
    """A critic fitted with the logistic loss stands at log p/q, where NWJ wants 1 + log p/q."""
    penalty, v = build(measure=measure, training=training), view()
    with torch.no_grad():
        t, s = penalty.critic(v.joint.z), penalty.critic(v.product.z)
    plus = 1 if measure == "f" and training == "logistic" else 0
    expected = float(MEASURES[measure](t + plus, s + plus))
    assert number(penalty.estimate(v)) == pytest.approx(expected, abs=1e-6)
    assert number(penalty(v)) == pytest.approx(-0.5 * expected, abs=1e-6)


@pytest.mark.parametrize(("measure", "training"), FITS)
def test_the_critic_minimises_minus_its_bound_or_the_logistic_loss(measure, training):
    v = view()
    penalty = build(measure=measure, training=training)
    with torch.no_grad():
        logistic = estimators.logistic_loss(penalty.critic(v.joint.z), penalty.critic(v.product.z))
    # An average that has seen no batch is this batch's, and the bound at it DV itself.
    expected = float(logistic) if training == "logistic" else -number(penalty.estimate(v))
    assert float(penalty.critic_loss(v).detach()) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("measure", "training"), [("wasserstein", "logistic"), ("wasserstein", "ema"), ("f", "ema")])
def test_a_critic_trains_on_what_its_measure_allows(measure, training):
    with pytest.raises(ValueError, match="trains on its own bound, or logistically"):
        build(measure=measure, training=training)


def test_numbers_of_joint_and_product_rows_need_not_agree():
    rng = torch.Generator().manual_seed(0)
    penalty, v = build(), view(torch.randn(10, DIM, generator=rng), torch.randn(30, DIM, generator=rng))
    with torch.no_grad():
        expected = estimators.donsker_varadhan(penalty.critic(v.joint.z), penalty.critic(v.product.z))
    assert number(penalty.estimate(v)) == pytest.approx(float(expected), abs=1e-6)


def test_score_is_the_critic_on_joint_rows_without_dropout():
    penalty, v = build(critic="table4"), view()
    assert torch.equal(penalty.score(v), penalty.critic(v.joint.z))
    assert torch.equal(penalty.score(v), penalty.score(v))


@pytest.mark.parametrize("measure", MEASURES)
def test_no_difference_gives_no_estimate(measure):
    """P = Q, sample by sample: DV ≤ 0 by Jensen's inequality, NWJ below it, the difference 0."""
    z = view().joint.z
    value = number(build(measure=measure, training="bound").estimate(view(z, z.flip(0))))
    assert value <= 1e-6
    if measure == "wasserstein":
        assert value == pytest.approx(0, abs=1e-6)


def test_a_sigmoid_caps_what_can_be_seen():
    """Rows that nothing could confuse: at most DV 1, NWJ 1 − 1/e, total variation 1, and the tanh's bound lets more through."""
    v = view(torch.full((ROWS, DIM), 5.0), torch.full((ROWS, DIM), -5.0))
    estimates = {}
    for measure, output in [*((m, "sigmoid") for m in MEASURES), ("kl", "tanh")]:
        penalty = build(measure=measure, output=output, training="bound", normalize=False)
        optimizer = torch.optim.Adam(penalty.parameters(), lr=1e-2)
        for _ in range(100):
            optimizer.zero_grad()
            penalty.critic_loss(v).backward()
            optimizer.step()
        estimates[measure, output] = number(penalty.estimate(v))
    for measure, cap in (("kl", 1.0), ("f", 1 - 1 / math.e), ("wasserstein", 1.0)):
        assert 0.95 * cap < estimates[measure, "sigmoid"] <= cap + 1e-6
    assert 10 < estimates["kl", "tanh"] <= 2 * 8 + 1e-4  # T in [−8, 8]


@pytest.mark.parametrize("lipschitz", ["orthonormal", "none"])
def test_looking_at_a_penalty_in_training_leaves_its_weights(lipschitz):
    penalty, v = build(measure="kl", lipschitz=lipschitz).train(), view()
    with torch.no_grad():
        for p in penalty.parameters():
            p.add_(0.01)
    before = [p.clone() for p in penalty.parameters()]
    penalty(v), penalty.estimate(v)
    penalty.eval().critic_loss(v)
    assert all(torch.equal(p, old) for p, old in zip(penalty.parameters(), before, strict=True))
    penalty.train().critic_loss(v)
    assert all(torch.equal(p, old) for p, old in zip(penalty.parameters(), before, strict=True)) is (lipschitz == "none")


def test_scale_of_z_does_not_pay():
    """Without normalising, Wasserstein grows with Z, and an encoder that maximises it only inflates; with it, it does not."""
    v = view()
    larger = view(10 * v.joint.z, 10 * v.product.z)
    options = {"measure": "wasserstein", "training": "bound", "output": "linear"}
    normalised, raw = build(**options), build(normalize=False, **options)
    assert number(normalised.estimate(larger)) == pytest.approx(number(normalised.estimate(v)), abs=1e-4)
    for name, p in raw.critic.named_parameters():
        if name.endswith("bias"):
            p.data.zero_()  # then T(cz) = c·T(z), as of every critic where Z is large
    assert number(raw.estimate(larger)) == pytest.approx(10 * number(raw.estimate(v)), rel=1e-3)


# ---- options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"measure": "kl", "divergence": "pearson"},
            "got 'pearson' with measure='kl'",
        ),
        ({"measure": "wasserstein", "training": "bound", "divergence": "pearson"}, "Only measure=f"),
        ({"ema_rate": 0.0}, r"ema_rate=0\.0"),
        ({"ema_rate": 1.0}, r"ema_rate=1\.0"),
        ({"ema_rate": float("nan")}, "ema_rate=nan"),
        ({"shifts": 0}, "shifts=0"),
        ({"gradient_penalty_weight": 0.0}, r"gradient_penalty_weight=0\.0"),
        ({"gradient_penalty_weight": float("inf")}, "gradient_penalty_weight=inf"),
        ({"z_dim": 3, "critic": "table4"}, "d = 3"),
        ({"weight": 0.0}, "positive number"),
        ({"weight": float("nan")}, "positive number"),
    ],
)
def test_what_cannot_be_built_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        build(**options)


def test_options_reach_the_critic():
    critic = build(critic="table4", output="sigmoid", dropout=0.1, noise=0.2, normalize=False, bound=3.0).critic
    assert (critic.output, critic.bound, critic.noise, critic.normalize) == ("sigmoid", 3.0, 0.2, False)
    assert {m.p for m in critic.modules() if isinstance(m, nn.Dropout)} == {0.1}
    assert build(hidden=7).critic.layers[0].out_features == 7


def test_parameters_are_the_critics_and_product_rows_are_asked_for():
    penalty = build(unimodal_dims={"language": 3})
    assert {id(p) for p in penalty.parameters()} == {id(p) for p in penalty.critic.parameters()}
    assert penalty.products == 1
    assert build(shifts=4).products == 4


def test_product_rows_that_did_not_come_are_our_own_mistake():
    v = view()
    with pytest.raises(AssertionError, match="product rows"):
        build().estimate(View(v.joint, None, v.label))


# ---- the sign of Eq. 5


def kl_of(a, sigma):
    """KL(N(0, AΣAᵀ) ‖ N(0, AAᵀ)), the exact dependence left in Z = Ax."""
    p, q = a @ sigma @ a.T, a @ a.T
    return (np.trace(np.linalg.solve(q, p)) - len(p) + np.linalg.slogdet(q)[1] - np.linalg.slogdet(p)[1]) / 2


@pytest.mark.parametrize("sign", [1, pytest.param(-1, marks=pytest.mark.slow)])
def test_an_encoder_that_minimises_the_term_keeps_what_the_modalities_share(sign):
    """Two modalities of 3 coordinates, correlation 0.9, Z = Ax in 3 dimensions: the sign of Eq. 5 raises the exact KL(Z ‖ Z̄).

    The largest is that of the three differences, of variance 0.1 to 1: 3·½(0.1 − 1 − log 0.1) = 2.10 (the total correlation is
    −½·3·log(1 − 0.81) = 2.49). The other sign lowers it.
    """
    d, rho = 3, 0.9
    sigma = np.kron(np.array([[1, rho], [rho, 1]]), np.eye(d))
    rng = torch.Generator().manual_seed(0)
    encoder = nn.Linear(2 * d, d, bias=False)
    encoder.weight.data = torch.randn(d, 2 * d, generator=rng) / 2
    penalty = build(z_dim=d, weight=1.0, normalize=False).train()
    critic_optimizer = torch.optim.Adam(penalty.parameters(), lr=2e-3)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-2)

    def fused():
        x, noise, other = torch.randn(3, 128, d, generator=rng)
        real = torch.cat([x, rho * x + math.sqrt(1 - rho**2) * noise], 1)
        return view(encoder(real), encoder(torch.cat([x, other], 1)))

    before = kl_of(encoder.weight.detach().double().numpy(), sigma)
    for _ in range(120):
        for _ in range(4):
            critic_optimizer.zero_grad()
            penalty.critic_loss(fused().detach()).backward()
            critic_optimizer.step()
        optimizer.zero_grad()
        (sign * sum(penalty(fused()).values())).backward()
        optimizer.step()
    after = kl_of(encoder.weight.detach().double().numpy(), sigma)
    assert after > 1.5 * before if sign > 0 else after < 0.5 * before
