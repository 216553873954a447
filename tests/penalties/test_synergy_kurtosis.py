"""Synergy's kurtosis part: known laws, the moving covariance, and what the printed form degenerates to."""

from copy import deepcopy

import pytest
import torch
from penalties.synergy import build, leaves, random_view, view

from mdm import estimators
from mdm.penalties.base import View
from mdm.penalties.cnetwork import Moments
from mdm.penalties.pairs import standardize_columns
from mdm.penalties.synergy import Synergy


def one_variable(z, **options) -> tuple[Synergy, View]:
    penalty = build({"language": 1}, z.shape[1], part="kurtosis", variables="fused", **options)
    return penalty, view({"language": z[:, :1]}, z)


FREE = {"clip": 1e6, "ridge": 1e-7}
"""Neither clipping nor a ridge."""
LAWS = {
    "gaussian": (torch.randn, lambda p: p * (p + 2)),
    "uniform": (torch.rand, lambda p: p * (p - 1) + 1.8 * p),
    # The difference of two exponentials.
    "laplace": (
        lambda *s, generator: torch.rand(2, *s, generator=generator).log().diff(dim=0)[0],
        lambda p: p * (p - 1) + 6 * p,
    ),
}


@pytest.mark.parametrize("p", [1, 5, 20])
@pytest.mark.parametrize("law", LAWS)
def test_kurtosis_of_known_laws(law, p):
    """Independent columns of kurtosis b: κ = p(p−1) + pb, divided by p(p+2). At 20 000 rows the error is below 5 %."""
    draw, kappa = LAWS[law]
    z = draw(20_000, p, generator=torch.Generator().manual_seed(0))
    penalty, v = one_variable(z, **FREE)
    got = float(penalty.estimate(v)["kurtosis"])
    assert got == pytest.approx(kappa(p) / (p * (p + 2)), rel=0.05)
    assert got == pytest.approx(float(estimators.mardia_kurtosis(z)) / (p * (p + 2)), rel=1e-3)


def test_every_variable_has_its_own_kurtosis():
    v = random_view(400)
    got = build(part="kurtosis", **FREE).estimate(v)["kurtosis"]
    want = [float(estimators.mardia_kurtosis(t)) / (t.shape[1] * (t.shape[1] + 2)) for t in leaves(v)]
    assert float(got) == pytest.approx(sum(want) / 4, rel=1e-3)
    fused = build(part="kurtosis", variables="fused", **FREE).estimate(v)["kurtosis"]
    assert float(fused) == pytest.approx(want[-1], rel=1e-3)


def test_defaults_read_near_one_for_gaussians_of_any_width():
    """After as many batches as a training fold has, on others."""
    rng = torch.Generator().manual_seed(0)
    for p in (4, 32, 128):
        penalty, _ = one_variable(torch.randn(4, p, generator=rng))
        for _ in range(40):
            penalty(one_variable(torch.randn(32, p, generator=rng))[1])
        got = float(penalty.eval().estimate(one_variable(torch.randn(2000, p, generator=rng))[1])["kurtosis"])
        assert got == pytest.approx(1, abs=0.06)


def test_the_covariance_moves_without_the_bias_of_its_beginning():
    """S_t = (αS' + (1−α)C), S' begins at 0, S = S'/(1−α^t); here C of standardised, unclipped columns."""
    penalty, _ = one_variable(torch.randn(4, 3), decay=0.7, **FREE)
    s, moments = torch.zeros(3, 3), penalty.moments
    for t in range(1, 6):
        z = torch.randn(10, 3, generator=torch.Generator().manual_seed(t)) @ torch.randn(3, 3)
        penalty(one_variable(z)[1])
        x = standardize_columns(z)
        s = 0.7 * s + 0.3 * x.T @ x / 10
        torch.testing.assert_close(moments.scatter[0] / moments.rows, s / (1 - 0.7**t))


def test_larger_batches_count_by_their_rows():
    penalty, _ = one_variable(torch.randn(4, 3), decay=0.5, **FREE)
    small, large = torch.randn(8, 3), torch.randn(24, 3)
    for z in (small, large):
        penalty(one_variable(z)[1])
    a, b = (standardize_columns(z).T @ standardize_columns(z) for z in (small, large))
    torch.testing.assert_close(penalty.moments.scatter[0] / penalty.moments.rows, (0.5 * a + b) / (0.5 * 8 + 24))


@pytest.mark.parametrize("mode", ["corrected", "literal"])
def test_only_stage_two_in_training_moves_the_covariance(mode):
    penalty, v = build(mode=mode, weight=0.1), random_view()
    state = deepcopy(penalty.state_dict())

    def moved():
        return not all(torch.equal(value, state[key]) for key, value in penalty.state_dict().items())

    penalty.train()
    penalty.estimate(v), penalty.critic_loss(v)
    assert not moved()
    penalty.eval()
    penalty(v), penalty.estimate(v)
    assert not moved()
    penalty.train()
    penalty(v)
    assert moved()


def test_a_resumed_covariance_goes_on_bit_for_bit():
    whole, broken = build(), build()
    for seed in range(3):
        whole(random_view(seed=seed)), broken(random_view(seed=seed))
    resumed = build(seed=5)
    resumed.load_state_dict(broken.state_dict())
    with torch.no_grad():
        for seed in range(3, 6):
            assert whole(random_view(seed=seed)) == resumed(random_view(seed=seed))


def few_rows(n, p):
    """n ≤ p + 1 random rows about 0 whose n − 1 singular values are 1 to 2, so that rounding does not decide what S inverts to."""
    z = torch.randn(n, p, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    left, _, right = torch.linalg.svd(z - z.mean(0), full_matrices=False)
    return (left[:, : n - 1] * torch.linspace(1, 2, n - 1) @ right[: n - 1]).float()


@pytest.mark.parametrize("n", [2, 5, 6])
def test_few_rows_alone_say_nothing_and_the_moving_covariance_does(n):
    """At n ≤ p + 1 rows with their own S, m_i is the same for each, so κ/(p(p+2)) is p/(p+2) whatever they are."""
    penalty, v = one_variable(few_rows(n, 5), clip=1e6, ridge=1e-4)
    assert float(penalty.estimate(v)["kurtosis"]) == pytest.approx(5 / 7, rel=2e-3)
    for seed in range(30):
        penalty(one_variable(torch.randn(32, 5, generator=torch.Generator().manual_seed(seed)))[1])
    v.joint.z.requires_grad_()
    value = penalty(v)["kurtosis_term"]
    value.backward()
    if n > 2:  # two standardised rows are ±1
        assert abs(float(value.detach()) - 5 / 7) > 0.01
        assert v.joint.z.grad.norm() > 1e-3


def test_kurtosis_as_printed_has_no_gradient_at_p_plus_one_rows():
    """κ = p² exactly, from a batch of n = p + 1 rows and no ridge; Shankar's (2022) batches are 32 or 64."""
    z = few_rows(9, 8).requires_grad_()
    penalty, v = one_variable(z, mode="literal", clip=1e6, ridge=1e-12)
    value = penalty(v)["kurtosis_term"]
    value.backward()
    assert float(value.detach()) == pytest.approx(64, rel=1e-4)
    assert z.grad.norm() < 1e-2
    rows = torch.randn(90, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    penalty, v = one_variable(rows, mode="literal", clip=1e6, ridge=1e-12)
    penalty(v)["kurtosis_term"].backward()
    assert rows.grad.norm() > 1, "what it is with rows enough"


def test_kurtosis_as_printed_tends_to_a_hundredth_of_itself():
    """S → C/(1−α), so κ → (1−α)²·p(p+2), 0.24 in the place of 24 for p = 4, α = 0.9; corrected it stays 1."""
    literal, corrected = (
        one_variable(torch.zeros(4, 4), mode=m, decay=0.9, clip=1e6, ridge=1e-7)[0] for m in ("literal", "corrected")
    )
    rng = torch.Generator().manual_seed(0)
    values = []
    for _ in range(80):
        v = one_variable(torch.randn(1000, 4, generator=rng))[1]
        values.append((float(literal(v)["kurtosis_term"]), float(corrected(v)["kurtosis_term"])))
    late = torch.tensor(values[-30:]).mean(0)
    assert values[0][0] == pytest.approx(24, rel=0.1)
    assert float(late[0]) == pytest.approx(0.24, rel=0.05)
    assert float(late[1]) == pytest.approx(1, rel=0.05)


def test_kurtosis_as_printed_shrinks_z_by_4ακ():
    """With S* = C/(1−α), αS* + C = S*, m ∝ s²/(α + s²(1−α)): ∂κ/∂s = 4ακ at s = 1. Corrected: 0."""
    z = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    for mode in ("literal", "corrected"):
        penalty, v = one_variable(z, mode=mode, decay=0.9, clip=1e6, ridge=1e-7)
        for _ in range(200):
            penalty(v)
        size = torch.ones((), requires_grad=True)
        value = penalty(view({"language": z[:, :1]}, size * z))["kurtosis_term"]
        value.backward()
        want = 4 * 0.9 * float(value.detach()) if mode == "literal" else 0
        assert float(size.grad) == pytest.approx(want, rel=1e-3, abs=1e-5)


def test_one_outlier_ruins_the_printed_kurtosis_only():
    """Of 256 rows one is a thousand lengths away. Clipped in S alone it reads a million times p(p+2) = 24."""
    z = torch.randn(256, 4, generator=torch.Generator().manual_seed(0))
    far = z.clone()
    far[0] *= 1000 / far[0].norm()

    def kurtosis(rows, **options):
        penalty, v = one_variable(rows, **options)
        return float(penalty(v)["kurtosis_term"])

    printed = {"mode": "literal", "clip": 10.0, "ridge": 1e-6}
    assert kurtosis(z, **printed) == pytest.approx(24, rel=0.15)
    assert kurtosis(far, **printed) > 1e7
    assert kurtosis(z) == pytest.approx(1, rel=0.15)
    assert 0.5 < kurtosis(far) < 2


def test_long_differences_are_shortened_in_both_places():
    """Lengths 1, 1, 1, 10 about 0 and clip 3: the fourth counts as 3."""
    x = torch.tensor([[[1.0, 0], [0, 1], [-1, 0], [0, -10]]])
    moments = Moments([2], decay=0.5, clip=3.0, ridge=1e-6)
    got = float(moments(x, update=True))
    d = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -3]])
    torch.testing.assert_close(moments.scatter[0], d.T @ d)
    m = ((d @ torch.linalg.inv(d.T @ d / 4)) * d).sum(1)
    assert got == pytest.approx(float(m.square().mean() / m.mean() ** 2) * 2 / 4, rel=1e-4)


def test_a_printed_covariance_without_rank_is_refused():
    penalty, v = one_variable(torch.arange(6.0).view(6, 1).expand(6, 3), mode="literal", ridge=1e-30)
    with pytest.raises(ValueError, match="singular"):
        penalty(v)
