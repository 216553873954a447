"""The Barber–Agakov bound: closed forms of Gaussians, H and q by hand, and what the official likelihood loses."""

import math

import pytest
import torch
from penalties.infomax import (
    INDEPENDENT,
    ROWS,
    A,
    N,
    build,
    detached,
    fit,
    fitted,
    linear_gaussian,
    mixture_entropy,
    number,
    random_view,
    view,
)

from mdm.penalties.base import View
from mdm.types import Fusion


@torch.no_grad()
def log_q(penalty, i, x, y):
    """Mean of log q(y|x), one row and one dimension after the other."""
    q, total = penalty.q[i], 0.0
    for x_row, y_row in zip(x, y, strict=True):
        mean, log_variance = q.mean(x_row), q.bound * torch.tanh(q.log_variance(x_row) / q.bound)
        for j in range(len(y_row)):
            variance = math.exp(float(log_variance[j]))
            total -= float((y_row[j] - mean[j]) ** 2) / (2 * variance) + 0.5 * math.log(2 * math.pi * variance)
    return total / len(x)


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
@pytest.mark.parametrize(("prior", "shares"), [("empirical", (0.7, 0.3)), ("equal", (0.5, 0.5))])
def test_the_estimate_of_each_pair_by_hand(covariance, prior, shares):
    penalty = build(covariance=covariance, prior=prior).eval()
    given = random_view(rows=20)
    label = torch.cat([torch.ones(13), torch.zeros(1), -torch.ones(6)])[:, None]
    given = View(given.joint, None, label)
    values = detached(penalty.estimate(given))
    assert list(values) == ["language_audio", "language_video"]
    for i, m in enumerate(("audio", "video")):
        y = given.joint.unimodal[m]
        expected = log_q(penalty, i, given.joint.unimodal["language"], y)
        expected += mixture_entropy([y[:14], y[14:]], shares, covariance)
        assert values[f"language_{m}"] == pytest.approx(expected, rel=1e-4)


def test_the_term_is_minus_the_weighted_sum_of_the_estimates():
    penalty = build(weight=0.3).eval()
    terms, values = penalty(random_view()), penalty.estimate(random_view())
    assert number(sum(terms.values())) == pytest.approx(-0.3 * number(sum(values.values())), rel=1e-5)
    assert number(terms["likelihood"]) == pytest.approx(0.3 * number(penalty.critic_loss(random_view())), rel=1e-5)


def test_pairs_are_read_in_the_direction_given():
    penalty = build(pairs=[["video", "audio"], ["audio", "language"]])
    assert list(penalty.estimate(random_view())) == ["video_audio", "audio_language"]
    assert penalty.q[0].mean[0].in_features == 3
    assert penalty.q[1].mean[-1].out_features == 5


def test_q_is_as_wide_as_y_unless_told():
    assert [q.mean[0].out_features for q in build().q] == [2, 3]
    assert [q.log_variance[0].out_features for q in build(hidden=7).q] == [7, 7]


def informations(noise):
    """(I(X; Y), Σ_j I(X; Y_j), TC(Y|X)) of `linear_gaussian`."""
    s = A @ A.T + noise
    whole = 0.5 * (torch.logdet(s) - torch.logdet(noise))
    each = 0.5 * (s.diagonal().log() - noise.diagonal().log()).sum()
    left = 0.5 * (noise.diagonal().log().sum() - torch.logdet(noise))
    return float(whole), float(each), float(left)


CORRELATED = torch.tensor([[0.3, 0.25, 0.0], [0.25, 0.5, 0.0], [0.0, 0.0, 0.2]])


def value_of(noise, **options):
    """On rows that q has not seen."""
    return number(fitted(noise, **options).estimate(linear_gaussian(noise, seed=2))["language_audio"])


def test_full_recovers_the_information_of_a_linear_gaussian_from_below():
    """A diagonal q can be the true conditional there."""
    whole, _, left = informations(INDEPENDENT)
    assert left == pytest.approx(0, abs=1e-6)
    value = value_of(INDEPENDENT, covariance="full")
    assert 0.93 * whole < value < whole + 0.03


def test_full_loses_what_a_diagonal_q_cannot_follow():
    whole, _, left = informations(CORRELATED)
    assert left > 0.2
    assert value_of(CORRELATED, covariance="full") == pytest.approx(whole - left, abs=0.12)


@pytest.mark.parametrize("noise", [INDEPENDENT, CORRELATED], ids=["independent", "correlated"])
def test_diagonal_is_the_sum_of_what_x_says_of_each_dimension(noise):
    assert value_of(noise, covariance="diagonal") == pytest.approx(informations(noise)[1], abs=0.12)


def test_classes_that_coincide_read_log_2_for_independent_pairs():
    """Eq. 7 is exact for distant classes only, so the value is no bound."""
    rng = torch.Generator().manual_seed(3)
    values = {"language": torch.randn(N, 2, generator=rng), "audio": torch.randn(N, 2, generator=rng)}
    given = view(values, torch.randn(N, 1, generator=rng))
    one, two = (build({"language": 2, "audio": 2}, classes=classes, hidden=4) for classes in ("one", "paper"))
    fit(one, given, 200)
    two.load_state_dict(one.state_dict())
    assert number(one.estimate(given)["language_audio"]) == pytest.approx(0, abs=0.02)
    assert number(two.estimate(given)["language_audio"]) == pytest.approx(math.log(2), abs=0.02)


def test_the_official_likelihood_is_best_where_q_says_nothing():
    """Without −½ log σ² the variances grow for ever and the value goes to 0, though y is half determined by x."""
    given = linear_gaussian(INDEPENDENT, seed=1)
    x = given.joint.unimodal["language"]
    spread = {}
    for likelihood, bound in (("gaussian", 6.0), ("official", None)):
        penalty = build({"language": 3, "audio": 3}, classes="one", hidden=16, likelihood=likelihood, bound=bound)
        fit(penalty, given, 250)
        spread[likelihood] = penalty.q[0](x)[1].mean(0)
        if likelihood == "official":
            assert -0.02 < -number(penalty.critic_loss(given)) < 0
            before = number(spread["official"].mean())
            fit(penalty, given, 150)
            assert number(penalty.q[0](x)[1].mean()) > before + 0.5
    torch.testing.assert_close(spread["gaussian"], INDEPENDENT.diagonal().log(), atol=0.2, rtol=0)
    assert (spread["official"] > 3).all()


def test_a_pair_that_q_predicts_perfectly_has_a_finite_value():
    x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    given = view({"language": x, "audio": torch.zeros(200, 2)})
    penalty = fit(build({"language": 2, "audio": 2}, hidden=8, classes="one", bound=4.0), given, 400)
    assert -4.001 < number(penalty.q[0](x)[1].min()) < -3.9
    # Two dimensions of bound/2 − ½ log 2π each from the likelihood; H of a constant is the ridge's.
    assert 1.9 < -number(penalty.critic_loss(given)) < 4 - math.log(2 * math.pi)
    assert number(penalty.estimate(given)["language_audio"]) < 0


# ---- what else the official code does


def test_skipped_batches_count_the_likelihood_only_and_fill_the_memory():
    official, plain = build(skip_first=2, memory=1).train(), build(memory=1).train()
    for t in range(4):
        ours, theirs = detached(plain(random_view(t))), detached(official(random_view(t)))
        assert theirs["likelihood"] == ours["likelihood"]
        assert theirs["entropy"] == (0.0 if t < 2 else ours["entropy"])
    official.start_epoch()
    assert detached(official(random_view(0)))["entropy"] == 0.0


def test_the_projected_space_is_a_fixed_random_map_to_a_quarter():
    dims = {"language": 4, "audio": 9}
    penalty = build(dims, entropy_space="projected", covariance="full").eval()
    space = penalty.spaces["audio"]
    assert space.weight.shape == (2, 9)
    assert {name.split(".")[0] for name, p in penalty.named_parameters() if p.requires_grad} == {"q", "spaces"}
    given = random_view(dims=dims)
    before = space.weight.clone()
    fit(penalty, given, 3)
    assert torch.equal(space.weight, before)
    y = given.joint.unimodal["audio"]
    projected = torch.tanh(y @ space.weight.T + space.bias)
    groups = [projected[given.label[:, 0] >= 0], projected[given.label[:, 0] < 0]]
    value = -number(penalty(given)["entropy"])
    assert value == pytest.approx(mixture_entropy(groups, [0.5, 0.5], "full"), rel=1e-4)


def test_the_official_likelihood_by_hand():
    penalty, given = build(likelihood="official", bound=None), random_view()
    total = 0.0
    for i, m in enumerate(("audio", "video")):
        for x, y in zip(given.joint.unimodal["language"], given.joint.unimodal[m], strict=True):
            mean, log_variance = penalty.q[i].mean(x), penalty.q[i].log_variance(x)
            total += number(((mean - y) ** 2 / 2 / log_variance.exp()).sum()) / ROWS
    assert number(penalty.critic_loss(given)) == pytest.approx(total, rel=1e-5)


# ---- numbers


def test_under_autocast_the_value_is_that_of_single_precision():
    penalty, given = build(covariance="full").eval(), random_view()
    plain = detached(penalty(given))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert detached(penalty(given)) == plain
    half = Fusion(given.joint.prediction, given.joint.z, {m: u.bfloat16() for m, u in given.joint.unimodal.items()})
    rounded = Fusion(given.joint.prediction, given.joint.z, {m: u.float() for m, u in half.unimodal.items()})
    assert detached(penalty(View(half, None, given.label))) == detached(penalty(View(rounded, None, given.label)))


# ---- refusals


@pytest.mark.parametrize("dims", [{}, {"audio": 2, "video": 3}, {"language": 4}])
def test_a_model_without_the_representations_is_refused(dims):
    with pytest.raises(ValueError, match="needs unimodal representations of language and another modality"):
        build(dims)


def test_pairs_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="needs unimodal representations of language and m3, but the model offers language, audio"):
        build(pairs=[["language", "m3"]])


@pytest.mark.parametrize(
    "options", [{"hidden": 0}, {"bound": 0.0}, {"memory": -1}, {"skip_first": -1}, {"ridge": -1e-9}, {"spare_rows": 0}]
)
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="hidden and bound to be positive or null"):
        build(**options)


def test_only_a_projection_may_decay():
    with pytest.raises(ValueError, match="InfoMax has a W that may decay in a projected space of H alone"):
        build(unused="decayed")
