"""Mutual dependency penalties: which bound is read off which critic, by which loss it is fitted, and the sign of Eq. 5."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from mdm import estimators
from mdm.penalties.base import View
from mdm.penalties.critics import gradient_penalty
from mdm.penalties.dependency import Dependency
from mdm.training.product import shifts
from mdm.types import Fusion

DIM, ROWS = 8, 40


def build(**options):
    torch.manual_seed(0)
    return Dependency(**{"z_dim": DIM, "weight": 0.5, **options}).eval()


def view(joint=None, product=None):
    rng = torch.Generator().manual_seed(0)
    joint = torch.randn(ROWS, DIM, generator=rng) + 1 if joint is None else joint
    product = torch.randn(ROWS, DIM, generator=rng) if product is None else product
    nothing = torch.zeros(len(joint), 1)
    return View(Fusion(nothing, joint), Fusion(torch.zeros(len(product), 1), product), nothing)


def number(values):
    (value,) = values.values()
    return float(value.detach())


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


# ---- which divergence, on a finite alphabet: sample means are expectations, so nothing is between an estimate and its bound

COUNTS_P, COUNTS_Q = torch.tensor([8, 4, 2, 1, 1]), torch.tensor([1, 2, 3, 4, 6])
SYMBOLS = 3 * torch.eye(len(COUNTS_P))
P, Q = COUNTS_P / 16, COUNTS_Q / 16
TRUTH = {
    "kl": (P * (P / Q).log()).sum(),
    "reverse_kl": (Q * (Q / P).log()).sum(),
    "pearson": ((P - Q) ** 2 / Q).sum(),
    "squared_hellinger": ((P.sqrt() - Q.sqrt()) ** 2).sum(),
    "jensen_shannon": (P * (2 * P / (P + Q)).log() + Q * (2 * Q / (P + Q)).log()).sum(),
    "total_variation": (P - Q).abs().sum() / 2,
}


def alphabet():
    return view(SYMBOLS.repeat_interleave(COUNTS_P, 0), SYMBOLS.repeat_interleave(COUNTS_Q, 0))


def fitted(steps=250, lr=1e-2, **options):
    penalty = build(z_dim=len(P), normalize=False, hidden=32, **options).train()
    optimizer = torch.optim.Adam(penalty.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        penalty.critic_loss(alphabet()).backward()
        optimizer.step()
    return penalty.eval()


class Given(nn.Module):
    """A critic that knows its value at each symbol."""

    def __init__(self, values):
        super().__init__()
        self.values = nn.Parameter(values.float())

    def prepare(self, z):
        return z

    def score(self, z):
        return (z / 3) @ self.values

    def forward(self, z):
        return self.score(z)


OPTIMA = {
    # What the critic's value stands for, at which every bound is tight: T itself, or log p/q.
    ("kl", "bound"): 1 + (P / Q).log(),
    ("pearson", "bound"): 2 * (P / Q - 1),
    **{(name, "bound"): (P / Q).log() for name in ("reverse_kl", "squared_hellinger", "jensen_shannon")},
    **{(name, "logistic"): (P / Q).log() for name in TRUTH if name != "total_variation"},
    ("total_variation", "bound"): 40 * (P - Q).sign(),
}


@pytest.mark.parametrize(("divergence", "training"), OPTIMA)
def test_at_its_optimal_critic_the_estimate_is_the_divergence(divergence, training):
    penalty = build(z_dim=len(P), measure="f", divergence=divergence, training=training, bound=4.0)
    penalty.critic = Given(OPTIMA[divergence, training])
    assert number(penalty.estimate(alphabet())) == pytest.approx(float(TRUTH[divergence]), rel=1e-5)
    # And there the critic has nothing to learn: total variation's step is flat, the others are at a maximum.
    penalty.critic_loss(alphabet()).backward()
    assert float(penalty.critic.values.grad.abs().max()) < 1e-6


@pytest.mark.parametrize("divergence", TRUTH)
@pytest.mark.parametrize("training", ["bound", "logistic"])
def test_a_fitted_critic_comes_near_the_divergence_from_below(divergence, training):
    """Total variation read off log p/q is ½ Σ (p − q)²/(p + q) instead, for T = ½ tanh(½ log p/q) = ½ (p − q)/(p + q)."""
    output = "tanh" if training == "logistic" else "linear"
    penalty = fitted(measure="f", divergence=divergence, training=training, output=output, bound=4.0)
    truth = float(TRUTH[divergence])
    if (divergence, training) == ("total_variation", "logistic"):
        truth = float(((P - Q) ** 2 / (P + Q)).sum() / 2)
        assert truth < 0.9 * float(TRUTH["total_variation"])
    assert number(penalty.estimate(alphabet())) == pytest.approx(truth, rel=0.03)
    assert number(penalty.estimate(alphabet())) < float(TRUTH[divergence]) + 1e-5


def test_jensen_shannon_trained_on_its_bound_is_the_logistic_loss():
    """log 2 + logsigmoid(v) on P, softplus(v) − log 2 on Q: 2 log 2 less the loss of telling them apart."""
    v = view()
    a, b = (build(measure="f", divergence="jensen_shannon", training=training) for training in ("bound", "logistic"))
    assert float(a.critic_loss(v).detach()) == pytest.approx(float(b.critic_loss(v).detach()) - 2 * math.log(2), abs=1e-6)


@pytest.mark.parametrize("divergence", TRUTH)
@pytest.mark.parametrize("training", ["bound", "logistic"])
def test_no_row_pulls_harder_than_an_exponential_of_the_bound(divergence, training):
    """Slope of the estimate by one row's value anywhere within ±bound: at most 2e⁸; Pearson on its bound T/2 + 1 ≤ 5."""
    bound = 4.0 if (divergence, training) == ("pearson", "logistic") else 8.0
    penalty = build(measure="f", divergence=divergence, training=training, bound=bound)
    values = torch.linspace(-bound, bound, 201).repeat(2, 1).requires_grad_()
    penalty.read_out(*values).backward()
    steepest = 201 * float(values.grad.abs().max())
    assert steepest <= (5 if (divergence, training) == ("pearson", "bound") else 2 * math.exp(8)) + 1e-2


@pytest.mark.parametrize("options", [{"output": "linear"}, {"output": "tanh", "bound": 8.0}])
def test_pearson_of_an_unbounded_log_ratio_is_refused(options):
    with pytest.raises(ValueError, match=r"output=tanh and bound <= 4.*set penalty\.objective\.bound=4"):
        build(measure="f", divergence="pearson", training="logistic", **options)
    build(measure="f", divergence="pearson", training="bound", **options)
    build(measure="f", divergence="pearson", training="logistic", output="sigmoid")


def test_fitted_values_are_log_ratios():
    """Logistic: log p/q; DV: that and any constant; NWJ: that and 1; at every symbol."""
    for measure, training, plus in (
        ("kl", "logistic", 0),
        ("f", "logistic", 0),
        ("f", "bound", 1),
        ("kl", "bound", None),
        ("kl", "ema", None),
    ):
        values = fitted(measure=measure, training=training, output="linear").critic(SYMBOLS).detach()
        difference = values - (P / Q).log()
        difference = difference - (difference.mean() if plus is None else plus)
        assert float(difference.abs().max()) < 0.1, (measure, training)


# ---- the moving average


class Linear(nn.Module):
    """T = θx."""

    def __init__(self, theta):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta))

    def prepare(self, z):
        return z

    def score(self, z):
        return self.theta * z[:, 0]


def gradients(training, theta=1.5, m=32, batches=1500):
    """dL/dθ of many batches, Q = N(0, 1) and E_P[x] = 0, so that all of it is the second term's."""
    rng = torch.Generator().manual_seed(0)
    penalty = build(z_dim=1, normalize=False, training=training).train()
    penalty.critic = Linear(theta)
    zero = torch.zeros(1, 1)
    result = []
    for _ in range(batches):
        loss = penalty.critic_loss(view(zero, torch.randn(m, 1, generator=rng)))
        (slope,) = torch.autograd.grad(loss, penalty.critic.theta)
        result.append(float(slope))
    return np.array(result)


def test_the_moving_average_takes_the_bias_out_of_the_gradient():
    """log E_Q[e^{θx}] = θ²/2 has the slope θ = 1.5; 32 rows alone give 1.29 (theory: a ratio of two means of the same rows).

    E[(x e^{θx})²] = e^{2θ²}(1 + 4θ²), so with the true average one batch's slope has the variance (e^{θ²}(1 + 4θ²) − θ²)/m, 1.70².
    """
    theta, m = 1.5, 32
    naive, average = gradients("bound"), gradients("ema")
    deviation = math.sqrt((math.exp(theta**2) * (1 + 4 * theta**2) - theta**2) / m)
    assert deviation == pytest.approx(1.70, abs=0.01)
    assert naive.mean() == pytest.approx(1.290, abs=0.03)  # deviation .46 / √1500 = .012
    assert average.mean() == pytest.approx(theta, abs=0.13)  # 1.7 / √1500 = .044
    assert naive.std() == pytest.approx(0.46, abs=0.05)
    assert average.std() == pytest.approx(deviation, rel=0.2)


def test_the_average_is_a_geometric_one_that_begins_with_the_first_batch():
    penalty, rate = build(training="ema", ema_rate=0.2).train(), 0.2
    views = [view(product=torch.randn(ROWS, DIM, generator=torch.Generator().manual_seed(i))) for i in range(4)]
    with torch.no_grad():
        means = [penalty.critic(v.product.z).exp().mean() for v in views]
    expected = means[0]
    for v, mean in zip(views, means, strict=True):
        expected = (1 - rate) * expected + rate * mean
        loss = penalty.critic_loss(v)
        assert float(penalty.log_average) == pytest.approx(math.log(float(expected)), abs=1e-5)
        # The bound at it, a lower bound on the batch's DV.
        with torch.no_grad():
            value = penalty.critic(v.joint.z).mean() - (expected.log() + mean / expected - 1)
        assert -float(loss.detach()) == pytest.approx(float(value), abs=1e-5)
        assert -float(loss.detach()) <= number(penalty.estimate(v)) + 1e-6


def test_the_average_moves_in_a_critic_step_only():
    penalty, v = build(training="ema").train(), view()
    penalty.critic_loss(v)
    before = penalty.log_average.clone()
    other = view(product=3 * v.product.z)
    penalty.estimate(other), penalty(other), penalty.score(other)
    penalty.eval().critic_loss(other)
    assert torch.equal(penalty.log_average, before)
    penalty.train().critic_loss(other)
    assert not torch.equal(penalty.log_average, before)


def test_the_average_survives_a_checkpoint():
    penalty, other, v = build(training="ema").train(), build(training="ema").train(), view()
    for _ in range(3):
        penalty.critic_loss(v)
    other.load_state_dict(penalty.state_dict())
    assert torch.isfinite(other.log_average)
    assert torch.equal(penalty.critic_loss(v), other.critic_loss(v))
    assert "log_average" not in build().state_dict()


def test_a_far_batch_pulls_no_harder_than_the_rate_allows():
    """e^T / a ≤ 1 / rate, because the average includes the batch: finite where e^T alone is not."""
    penalty = build(z_dim=1, normalize=False, training="ema", ema_rate=0.05).train()
    penalty.critic = Linear(1.0)
    for scale in (0.0, 1000.0):
        loss = penalty.critic_loss(view(torch.zeros(1, 1), torch.full((4, 1), scale)))
    # log a = 1000 + log rate to within rounding, and the surrogate −(0 − (log a + 1/rate − 1)).
    assert float(loss.detach()) == pytest.approx(1000 + math.log(0.05) + 20 - 1, abs=1e-3)


# ---- what holds and what does not


def test_on_a_batch_that_can_be_told_apart_only_dv_on_its_bound_pays_forever():
    """Scale T on rows where min over P > max over Q: DV grows without end, NWJ and the average's bound fall in the end.

    That is why an unbounded critic diverges in small batches; the logistic loss only flattens (slope at most 1 a row).
    """
    joint, product = torch.tensor([2.0, 3.0]), torch.tensor([-1.0, 1.0])
    dv, nwj, logistic = [], [], []
    for scale in (1.0, 10.0, 100.0, 1000.0):
        t, u = scale * joint, scale * product
        dv.append(float(estimators.donsker_varadhan(t, u)))
        nwj.append(float(estimators.nwj(t, u)))
        t.requires_grad_()
        (slope,) = torch.autograd.grad(estimators.logistic_loss(t, u), t)
        logistic.append(float(slope.abs().max()))
    assert dv == sorted(dv)
    assert dv[-1] > 1000
    assert nwj[-1] == -math.inf
    assert max(logistic) <= 0.5


@pytest.mark.parametrize(("rows", "k"), [(8, 1), (8, 8), (32, 8)])
def test_more_shifts_lower_the_variance_of_the_product_side(rows, k):
    """T = xy on N(0, 1) values, whose mean over a re-paired batch has the variance 1/n.

    Two re-pairings are correlated where they pair a row alike, which any two do with probability 1/(n − 1): K of them have the
    variance (1 + (K − 1)/(n − 1)) / (Kn). 800 batches: standard error 5 % of it.
    """
    rng, draws = torch.Generator().manual_seed(0), np.random.default_rng(0)
    penalty = build(measure="wasserstein", training="bound", output="linear", shifts=k)
    assert penalty.products == k

    class Product(Linear):
        def score(self, z):
            return z[:, 0] * z[:, 1]

    penalty.critic = Product(1.0)
    estimates = []
    for _ in range(800):
        x = torch.randn(rows, 2, generator=rng)
        index = np.concatenate([shifts(np.ones((2, rows), int), draws) for _ in range(k)], axis=1)
        assert index.shape == (2, k * rows)
        moved = torch.stack([x[index[0], 0], x[index[1], 1]], 1)
        estimates.append(number(penalty.estimate(view(torch.zeros(1, 2), moved))))
    expected = (1 + (k - 1) / (rows - 1)) / (k * rows)
    assert np.var(estimates) == pytest.approx(expected, rel=0.15)


# ---- slopes


def test_gradient_penalty_is_added_to_the_critics_loss_with_its_weight():
    v = view()
    plain = build(measure="wasserstein", training="bound", output="linear")
    held = build(
        measure="wasserstein", training="bound", output="linear", lipschitz="gradient_penalty", gradient_penalty_weight=4.0
    )
    torch.manual_seed(1)  # the penalty's points are random
    prepare = plain.critic.prepare
    expected = plain.critic_loss(v) + 4 * gradient_penalty(plain.critic, prepare(v.joint.z), prepare(v.product.z))
    torch.manual_seed(1)
    torch.testing.assert_close(held.critic_loss(v), expected)
    # A device for the critic: what is reported and added to the task loss is the bound.
    assert number(held.estimate(v)) == pytest.approx(number(plain.estimate(v)))


def test_gradient_penalty_is_on_the_normalised_input():
    """Lipschitz claims are about T of the prepared representation, so the loss does not see the scale of Z."""
    v, values = view(), []
    for scale in (1.0, 100.0):
        torch.manual_seed(0)
        penalty = build(measure="wasserstein", training="bound", output="linear", lipschitz="gradient_penalty")
        values.append(float(penalty.critic_loss(view(scale * v.joint.z, scale * v.product.z)).detach()))
    assert values[0] == pytest.approx(values[1], rel=1e-3)


@pytest.mark.parametrize(
    ("lipschitz", "constrained"),
    [("spectral_norm", True), ("orthonormal", True), ("gradient_penalty", False), ("none", False)],
)
def test_held_maps_are_all_maps_or_none(lipschitz, constrained):
    maps = [m for m in build(lipschitz=lipschitz).modules() if isinstance(m, nn.Linear)]
    assert len(maps) == 3
    assert all(parametrize.is_parametrized(m, "weight") is constrained for m in maps)


def test_valid_devices_stay_below_the_distance_and_orthonormal_maps_reach_it():
    """Rows of Q, moved by 0.3 on every axis: T = ⟨w, z⟩ along the move has the slope 1, and no estimate more than 0.3·√8."""
    distance, estimates = 0.3 * math.sqrt(DIM), {}
    for lipschitz in ("spectral_norm", "orthonormal"):
        rng = torch.Generator().manual_seed(0)
        penalty = build(measure="wasserstein", training="bound", output="linear", lipschitz=lipschitz, normalize=False).train()
        optimizer = torch.optim.Adam(penalty.parameters(), lr=3e-3)
        for _ in range(150):
            x = torch.randn(ROWS, DIM, generator=rng)
            optimizer.zero_grad()
            penalty.critic_loss(view(x + 0.3, x)).backward()
            optimizer.step()
        x = torch.randn(2000, DIM, generator=rng)
        estimates[lipschitz] = number(penalty.eval().estimate(view(x + 0.3, x))) / distance
    assert 0.2 < estimates["spectral_norm"] <= 1.001
    assert 0.97 < estimates["orthonormal"] <= 1 + 1e-5


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
