"""Which divergence a mutual dependency penalty measures, on a finite alphabet, where sample means are expectations."""

import math

import pytest
import torch
from penalties.dependency import build, number, view
from torch import nn

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
