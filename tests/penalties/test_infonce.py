"""InfoNCE as a penalty: log n, Gaussians with the exact critic and with fitted ones, the range of cosines, blocks of rows."""

import math

import pytest
import torch
from torch import nn

from mdm import estimators
from mdm.penalties.base import View
from mdm.penalties.infonce import DIRECTIONS, Encoders, InfoNCE
from mdm.types import Fusion

DIMS = {"language": 3, "audio": 2, "video": 4}


def build(dims=DIMS, **options):
    torch.manual_seed(options.pop("seed", 0))
    return InfoNCE(8, options.pop("weight", 1.0), dims, **options).eval()


def view(z=None, **values) -> View:
    rows = len(next(iter(values.values())))
    return View(Fusion(torch.zeros(rows, 1), torch.zeros(rows, 8) if z is None else z, values), None, torch.zeros(rows, 1))


def gaussians(rows, rho, dim=1, seed=0):
    x, noise = torch.randn(2, rows, dim, generator=torch.Generator().manual_seed(seed))
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def fitted(penalty, rho, dim=1, steps=200, rows=128, lr=5e-3):
    """A critic that saw new rows at every step."""
    optimizer = torch.optim.Adam(penalty.parameters(), lr=lr)
    for step in range(steps):
        x, y = gaussians(rows, rho, dim, seed=1 + step)
        optimizer.zero_grad()
        penalty.critic_loss(view(x=x, y=y)).backward()
        optimizer.step()
    return penalty


def one(penalty, x, y):
    with torch.no_grad():
        return float(penalty.estimate(view(x=x, y=y))["x_y"])


# ---- the bound


class Exact(nn.Module):
    """⟨(x, 1, −cρx²/2), (cy, −cρy²/2, 1)⟩ = log p(y|x)/p(y) + ½ log(1 − ρ²), with c = ρ/(1 − ρ²)."""

    def __init__(self, rho):
        super().__init__()
        self.rho, self.c = rho, rho / (1 - rho**2)

    def forward(self, values):
        x, y = values
        g = torch.cat([x, torch.ones_like(x), -self.c * self.rho * x**2 / 2], 1)
        h = torch.cat([self.c * y, -self.c * self.rho * y**2 / 2, torch.ones_like(y)], 1)
        return torch.stack([g, h])


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_the_exact_critic_attains_the_information_with_many_candidates(rho):
    """I = −½ log(1 − ρ²). Blocks of n read less, the less the smaller n. Var[log p(y|x)/p(y)] = ρ²; three standard errors."""
    truth = -0.5 * math.log(1 - rho**2)
    x, y = gaussians(4000, rho)
    error = rho / math.sqrt(4000)
    values = {}
    for block in (4, 32, 500):
        penalty = build({"x": 1, "y": 1}, block=block, normalize=False)
        penalty.encoders = Exact(rho)
        values[block] = one(penalty, x, y)
        assert values[block] < truth + 3 * error + 1e-6
    assert values[500] == pytest.approx(truth, abs=3 * error + 0.01)
    if rho:
        assert values[4] < values[32] < values[500]


@pytest.mark.parametrize("direction", sorted(DIRECTIONS))
@pytest.mark.parametrize("hidden", [64, None])
def test_a_fitted_critic_finds_the_information_of_gaussians(direction, hidden):
    """ρ = .8, 2 dimensions, I = 1.022 nats. Linear g and h lack the squares of log p(y|x)/p(y), and lose by it."""
    truth = -math.log(1 - 0.8**2)
    penalty = fitted(build({"x": 2, "y": 2}, direction=direction, hidden=hidden, block=128), 0.8, dim=2)
    value = one(penalty, *gaussians(4000, 0.8, 2))
    assert (0.85 if hidden else 0.6) * truth < value < (1.0 if hidden else 0.92) * truth
    # Nothing is found in other rows of x, in either direction.
    x, y = gaussians(4000, 0.8, 2)
    assert one(penalty, x, y.roll(1, 0)) < 0


@pytest.mark.parametrize("n", [1, 2, 8, 31])
def test_no_score_exceeds_log_n(n):
    """Even those that single out the partner: x = y, and g, h that stretch it."""
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(0))
    penalty = build({"x": 3, "y": 3}, hidden=None, dim=3, normalize=False)
    for parameter in penalty.parameters():
        parameter.data.zero_()
    penalty.encoders.weights[0].data[:] = 100 * torch.eye(3)
    x = nn.functional.normalize(x, dim=1)
    assert one(penalty, x, x) == pytest.approx(math.log(n), abs=1e-4)
    assert one(penalty, x, x) <= math.log(n) + 1e-5


@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_cosines_have_their_range(temperature):
    """At most log n − log(1 + (n−1) e^{−n/((n−1)τ)}): .977 at n = 32 and τ = 1, whatever a critic does; 3.4 of log 32 at τ = .1."""
    n = 32
    most = math.log(n) - math.log(1 + (n - 1) * math.exp(-n / ((n - 1) * temperature)))
    assert most == pytest.approx(0.9773, abs=1e-3) if temperature == 1 else most > 3.4
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(0))
    penalty = build({"x": 3, "y": 3}, scores="cosine", temperature=temperature, dim=40, hidden=64)
    optimizer = torch.optim.Adam(penalty.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        penalty.critic_loss(view(x=x, y=x)).backward()
        optimizer.step()
    assert 0.8 * most < one(penalty, x, x) <= most + 1e-4


def test_directions_and_their_mean():
    x, y = gaussians(30, 0.7, 2)
    values = {d: one(build({"x": 2, "y": 2}, direction=d), x, y) for d in DIRECTIONS}
    assert values["xy"] != pytest.approx(values["yx"], abs=1e-4)
    assert values["both"] == pytest.approx((values["xy"] + values["yx"]) / 2, abs=1e-6)
    # xy: rows of the scores are x, and each finds its y among the columns.
    penalty = build({"x": 2, "y": 2}, direction="xy", normalize=False)
    g, h = penalty.encoders([x, y])
    assert one(penalty, x, y) == pytest.approx(float(estimators.info_nce(g @ h.T).detach()), abs=1e-6)


# ---- blocks


def test_a_fold_reads_what_its_batches_read():
    """The value grows with the candidates: of 512 rows at once it would stand beside batches of 32 with another bound."""
    penalty = fitted(build({"x": 4, "y": 4}, block=32, hidden=64), 0.9, dim=4, rows=32)
    x, y = gaussians(512, 0.9, 4)
    batches = [one(penalty, x[i::16], y[i::16]) for i in range(16)]
    fold = one(penalty, x, y)
    assert fold == pytest.approx(sum(batches) / 16, abs=0.1)
    penalty.block = None
    assert one(penalty, x, y) > fold + 0.2


@pytest.mark.parametrize(("rows", "sizes"), [(20, [20]), (47, [47]), (49, [25, 24]), (229, [33, 33, 33, 33, 33, 32, 32])])
def test_blocks_are_about_as_large_as_asked_and_take_every_row_once(rows, sizes, monkeypatch):
    seen = []
    bound = estimators.info_nce
    monkeypatch.setattr(estimators, "info_nce", lambda scores: seen.append(len(scores)) or bound(scores))
    one(build({"x": 1, "y": 1}, direction="xy"), *gaussians(rows, 0.5))
    assert seen == sizes


def test_neighbours_are_in_different_blocks():
    """Rows of one video follow one another: two alike in each pair of neighbours do not meet as anchor and candidate."""
    penalty = build({"x": 8, "y": 8}, hidden=None, dim=8, normalize=False)
    for parameter in penalty.parameters():
        parameter.data.zero_()
    penalty.encoders.weights[0].data[:] = 10 * torch.eye(8)
    x = nn.functional.normalize(torch.randn(32, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    twice = x.repeat_interleave(2, 0)
    assert one(penalty, twice, twice) > math.log(32) - 0.05
    penalty.block = None
    assert one(penalty, twice, twice) == pytest.approx(math.log(32), abs=0.05)  # of log 64


# ---- the penalty


def test_the_term_is_minus_weight_times_the_sum_over_pairs_and_the_critic_has_the_same_loss():
    torch.manual_seed(0)
    values = {m: torch.randn(20, d) for m, d in DIMS.items()}
    penalty = build(weight=0.3)
    estimate = penalty.estimate(view(**values))
    assert list(estimate) == ["language_audio", "language_video", "audio_video"]
    total = sum(estimate.values())
    torch.testing.assert_close(penalty(view(**values))["term"], -0.3 * total)
    torch.testing.assert_close(penalty.critic_loss(view(**values)), -total)
    assert penalty.products == 0


def test_z_may_be_named():
    torch.manual_seed(0)
    values = {m: torch.randn(20, d) for m, d in DIMS.items()}
    assert list(build(pairs=[["audio", "z"]]).estimate(view(torch.randn(20, 8), **values))) == ["audio_z"]


def test_batched_encoders_are_the_single_ones():
    """Padding changes nothing, and each network begins as one of its own width."""
    torch.manual_seed(0)
    encoders = Encoders([2, 5, 3], hidden=7, dim=4)
    x = [torch.randn(6, width) for width in (2, 5, 3)]
    for i, (rows, got) in enumerate(zip(x, encoders(x), strict=True)):
        weights, biases = [w[i] for w in encoders.weights], [b[i] for b in encoders.biases]
        hidden = torch.relu(rows @ weights[0][: rows.shape[1]] + biases[0])
        torch.testing.assert_close(got, hidden @ weights[1] + biases[1])
    for weight, width in zip(encoders.weights[0], (2, 5, 3), strict=True):
        assert 0.7 * width**-0.5 < weight[:width].abs().max() <= width**-0.5


@pytest.mark.parametrize("scores", ["inner", "cosine"])
@pytest.mark.parametrize("x", [torch.zeros(20, 3), torch.full((20, 3), 3.7), torch.cat([torch.zeros(15, 3), torch.randn(5, 3)])])
def test_absent_and_constant_representations_have_finite_gradients(scores, x):
    x, y = x.clone().requires_grad_(), torch.randn(20, 2, requires_grad=True)
    penalty = build({"x": 3, "y": 2}, scores=scores, temperature=0.1)
    penalty.estimate(view(x=x, y=y))["x_y"].backward()
    for tensor in (x, y, *penalty.parameters()):
        assert torch.isfinite(tensor.grad).all()
    if scores == "cosine":
        # Vectors of length 0 have no direction, but are no reason to stop.
        for parameter in penalty.parameters():
            parameter.data.zero_()
        penalty.zero_grad()
        penalty.critic_loss(view(x=x, y=y)).backward()
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in penalty.parameters())


def test_scale_does_not_pay():
    x, y = gaussians(64, 0.8, 3)
    assert one(build({"x": 3, "y": 3}), 100 * x + 7, y) == pytest.approx(one(build({"x": 3, "y": 3}), x, y), abs=1e-4)
    raw = build({"x": 3, "y": 3}, normalize=False)
    assert one(raw, 100 * x, y) != pytest.approx(one(raw, x, y), abs=0.1)


def test_half_precision_is_computed_in_full():
    x, y = gaussians(32, 0.8, 3)
    penalty = build({"x": 3, "y": 3})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = penalty.estimate(view(x=x.bfloat16(), y=y.bfloat16()))["x_y"]
    assert value.dtype == torch.float32
    assert float(value.detach()) == pytest.approx(one(penalty, x.bfloat16().float(), y.bfloat16().float()), abs=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"temperature": float("inf")}, "temperature=inf"),
        ({"dim": 0}, "dim=0"),
        ({"hidden": 0}, "hidden=0"),
        ({"block": 1}, "block=1"),
        ({"pairs": [["x", "z"]]}, "x is not among them"),
    ],
)
def test_what_cannot_be_built_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        build(**options)
