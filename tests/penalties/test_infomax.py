"""The Barber–Agakov bound: closed forms of Gaussians, what the official likelihood loses, and the memory of H by hand."""

import math
from functools import cache

import numpy as np
import pytest
import torch

from mdm import estimators
from mdm.penalties.base import View
from mdm.penalties.infomax import InfoMax, split_classes
from mdm.types import Fusion

DIMS = {"language": 5, "audio": 2, "video": 3}
ROWS = 16
NAN = float("nan")


def build(dims=DIMS, **options):
    torch.manual_seed(0)
    return InfoMax(8, options.pop("weight", 1.0), dims, {}, **options)


def view(values, label=None) -> View:
    rows = len(next(iter(values.values())))
    if label is None:
        label = torch.zeros(rows, 1)
    elif not isinstance(label, torch.Tensor):
        label = torch.tensor(label, dtype=torch.float32)[:, None]
    return View(Fusion(torch.zeros(rows, 1), torch.zeros(rows, 8), values), None, label)


def random_view(seed=0, rows=ROWS, dims=DIMS):
    """Half of the rows are of each sign, in changing order."""
    rng = torch.Generator().manual_seed(seed)
    values = {m: torch.randn(rows, d, generator=rng) * (1 + torch.arange(d)) for m, d in dims.items()}
    sign = torch.ones(rows, 1)
    sign[torch.randperm(rows, generator=rng)[: rows // 2]] = -1
    return view(values, sign * (0.1 + torch.rand(rows, 1, generator=rng)))


def fit(penalty, given, steps, lr=1e-2):
    optimizer = torch.optim.Adam(penalty.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        penalty.critic_loss(given.detach()).backward()
        optimizer.step()
    return penalty


def number(value):
    return float(value.detach())


def detached(values):
    return {key: number(value) for key, value in values.items()}


# ---- H and q, by hand


def mixture_entropy(groups, weights, covariance="diagonal", ridge=1e-4):
    """Σ w (−log w + ½ log((2πe)^k |S + rI|)), the determinant by LU and the covariance by a loop over rows."""
    total = 0.0
    for rows, w in zip(groups, weights, strict=True):
        rows = np.asarray(rows.detach(), dtype=np.float64)
        k, mean = rows.shape[1], rows.mean(0)
        s = sum(np.outer(r - mean, r - mean) for r in rows) / len(rows)
        s = np.diag(np.diag(s)) if covariance == "diagonal" else s
        total += w * (-math.log(w) + 0.5 * (k * math.log(2 * math.pi * math.e) + math.log(np.linalg.det(s + ridge * np.eye(k)))))
    return total


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


# ---- Gaussians


N = 3000
A = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, -0.5], [0.8, 0.0, 0.3]])


def linear_gaussian(noise, seed):
    """y = A x + ε, x ~ N(0, I), ε ~ N(0, noise)."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(N, 3, generator=rng)
    y = x @ A.T + torch.randn(N, 3, generator=rng) @ torch.linalg.cholesky(noise).T
    return view({"language": x, "audio": y})


def informations(noise):
    """(I(X; Y), Σ_j I(X; Y_j), TC(Y|X)) of `linear_gaussian`."""
    s = A @ A.T + noise
    whole = 0.5 * (torch.logdet(s) - torch.logdet(noise))
    each = 0.5 * (s.diagonal().log() - noise.diagonal().log()).sum()
    left = 0.5 * (noise.diagonal().log().sum() - torch.logdet(noise))
    return float(whole), float(each), float(left)


INDEPENDENT = torch.diag(torch.tensor([0.3, 0.5, 0.2]))
CORRELATED = torch.tensor([[0.3, 0.25, 0.0], [0.25, 0.5, 0.0], [0.0, 0.0, 0.2]])


@cache
def fitted_q(noise):
    """What stage one learns does not depend on how H is taken."""
    penalty = build({"language": 3, "audio": 3}, classes="one", hidden=32)
    return fit(penalty, linear_gaussian(noise, seed=1), 300).state_dict()


def fitted(noise, **options):
    penalty = build({"language": 3, "audio": 3}, classes="one", hidden=32, **options)
    penalty.load_state_dict(fitted_q(noise))
    return penalty


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


# ---- classes


def test_rows_of_classes():
    label = torch.tensor([0.5, 0.0, -0.2, NAN, 3.0, -0.0])[:, None]
    expected = {"paper": ([0, 1, 4, 5], [2]), "official": ([0, 4], [2]), "one": ([0, 1, 2, 3, 4, 5],)}
    for classes, rows in expected.items():
        assert tuple(one.tolist() for one in split_classes(label, classes)) == rows
        assert tuple(one.tolist() for one in split_classes(label + 3, classes, neutral=3.0)) == rows


def test_a_scale_without_negative_labels_has_its_own_neutral_one():
    given = random_view()
    shifted = View(given.joint, None, given.label + 3)
    assert build(neutral=3.0).estimate(shifted) == build().estimate(given)
    assert build().estimate(shifted) == build(classes="one").estimate(given)


def test_the_first_of_several_targets_decides():
    given = random_view()
    other = torch.randn(ROWS, 1, generator=torch.Generator().manual_seed(9))
    both = View(given.joint, None, torch.cat([given.label, other], 1))
    assert build().estimate(both) == build().estimate(given)
    assert build().estimate(View(given.joint, None, other)) != build().estimate(given)


def test_unlabelled_rows_count_in_the_likelihood_and_in_no_class():
    given, penalty = random_view(), build().eval()
    label = given.label.clone()
    label[10:] = NAN
    terms = detached(penalty(View(given.joint, None, label)))
    assert terms["likelihood"] == detached(penalty(given))["likelihood"]
    few = View(given.joint[slice(10)], None, label[:10])
    assert terms["entropy"] == pytest.approx(detached(penalty(few))["entropy"], rel=1e-6)


@pytest.mark.parametrize("spare", [3, 1])
@pytest.mark.parametrize(("covariance", "dims"), [("diagonal", {"audio": 1, "video": 1}), ("full", {"audio": 2, "video": 3})])
def test_a_class_counts_from_so_many_rows(covariance, dims, spare):
    """So many more than dimensions, of which ``diagonal`` sees one at a time; below, the other class alone speaks for H."""
    for m, dim in dims.items():
        enough = dim + spare
        penalty = build({"language": 5, m: DIMS[m]}, covariance=covariance, spare_rows=spare).eval()
        given = random_view()
        y = given.joint.unimodal[m]
        for few in (enough - 1, enough):
            label = torch.where(torch.arange(ROWS) < few, -1.0, 1.0)[:, None]
            value = -number(penalty(View(given.joint, None, label))["entropy"])
            if few < enough:
                expected = mixture_entropy([y[few:]], [1.0], covariance)
            else:
                expected = mixture_entropy([y[:few], y[few:]], [few / ROWS, 1 - few / ROWS], covariance)
            assert value == pytest.approx(expected, rel=1e-4)


def test_from_four_rows_on_the_gradient_has_a_second_moment():
    """‖∇ ½ log s²‖² = 1/(N s²), and N s² ~ χ²_{N−1} has the mean inverse 1/(N − 3): finite from N = 4."""
    rng = torch.Generator().manual_seed(0)
    for n in (7, 12):
        squares = []
        for _ in range(800):
            y = torch.randn(n, 1, generator=rng).requires_grad_()
            estimators.gaussian_mixture_entropy([y], [1.0], "diagonal", 1e-9).backward()
            squares.append(float(y.grad.square().sum()))
        assert np.mean(squares) == pytest.approx(1 / (n - 3), rel=0.1)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("label", [[1.0, -1.0], [NAN, NAN], [1.0, NAN]])
def test_without_any_class_the_pair_is_left_out(label, training):
    """Not the likelihood alone, which a constant y maximises; and never NaN."""
    penalty = build().train(training)
    given = random_view(rows=2)
    given = view({m: u.requires_grad_() for m, u in given.joint.unimodal.items()}, label)
    assert detached(penalty(given)) == {"likelihood": 0.0, "entropy": 0.0}
    assert detached(penalty.estimate(given)) == {"language_audio": 0.0, "language_video": 0.0}
    # Stage one needs no class.
    assert torch.isfinite(penalty.critic_loss(given))


def test_one_pair_may_be_left_out_while_another_counts():
    """Five rows of a class are enough for the covariance of two dimensions, not for that of three."""
    given = view(random_view(rows=5).joint.unimodal, [1.0] * 5)
    penalty = build(covariance="full").eval()
    values = detached(penalty.estimate(given))
    assert values["language_video"] == 0.0
    assert values["language_audio"] != 0.0
    assert sum(detached(penalty(given)).values()) == pytest.approx(-values["language_audio"], rel=1e-5)


def test_a_constant_representation_has_a_finite_value_and_gradient():
    values = {**random_view().joint.unimodal, "audio": torch.full((ROWS, 2), 7.0)}
    values = {m: u.requires_grad_() for m, u in values.items()}
    for covariance in ("diagonal", "full"):
        terms = build(covariance=covariance)(view(values, random_view().label))
        sum(terms.values()).backward()
        assert all(torch.isfinite(v) for v in terms.values())
        assert all(torch.isfinite(u.grad).all() for u in values.values())


# ---- memory


@pytest.mark.parametrize("memory", [0, 1, 2])
@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_memory_by_hand(memory, covariance):
    """H of batch t is that of the rows of batches t − memory … t, class by class."""
    penalty = build({"language": 5, "video": 3}, memory=memory, covariance=covariance, weight=0.5).train()
    batches = [random_view(seed) for seed in range(5)]
    for t, given in enumerate(batches):
        entropy = number(penalty(given)["entropy"])
        rows = torch.cat([b.joint.unimodal["video"] for b in batches[max(0, t - memory) : t + 1]])
        label = torch.cat([b.label for b in batches[max(0, t - memory) : t + 1]])[:, 0]
        groups = [rows[label >= 0], rows[label < 0]]
        expected = mixture_entropy(groups, [len(g) / len(rows) for g in groups], covariance)
        assert entropy == pytest.approx(-0.5 * expected, rel=1e-4)


def test_an_epoch_begins_without_memory():
    penalty = build(memory=2).train()
    alone = detached(penalty(random_view(0)))
    assert detached(penalty(random_view(0, rows=32))) != alone
    penalty.start_epoch()
    assert detached(penalty(random_view(0))) == alone


def test_memory_gives_a_class_the_rows_that_a_batch_has_not():
    """Eight rows are four of each class, too few for a covariance of five; twice as many are enough."""
    dims = {"language": 2, "video": 5}
    penalty = build(dims, covariance="full", memory=1).train()
    assert detached(penalty(random_view(0, 8, dims))) == {"likelihood": 0.0, "entropy": 0.0}
    assert detached(penalty(random_view(1, 8, dims)))["entropy"] != 0.0


def test_remembered_rows_get_no_gradient():
    penalty = build(memory=1).train()
    first, second = random_view(0), random_view(1)
    for given in (first, second):
        for u in given.joint.unimodal.values():
            u.requires_grad_()
    penalty(first)
    sum(penalty(second).values()).backward()
    assert all(u.grad is None for u in first.joint.unimodal.values())
    assert all(u.grad.abs().sum() > 0 for u in second.joint.unimodal.values())


def test_evaluation_neither_reads_nor_writes_the_memory():
    penalty = build(memory=1).eval()
    alone = detached(penalty(random_view(0)))
    penalty.train()(random_view(1))
    assert detached(penalty.eval()(random_view(0))) == alone
    penalty.estimate(random_view(2))
    with_memory = detached(penalty.train()(random_view(0)))
    again = build(memory=1).train()
    again(random_view(1))
    assert detached(again(random_view(0))) == with_memory != alone


def test_the_critic_and_the_estimate_leave_the_memory_alone():
    penalty = build(memory=1).train()
    alone = detached(penalty(random_view(0)))
    penalty.start_epoch()
    penalty.critic_loss(random_view(1))
    penalty.estimate(random_view(2))
    assert detached(penalty(random_view(0))) == alone


def entropy_gradient(penalty, given):
    y = given.joint.unimodal["audio"].clone().requires_grad_()
    penalty(view({**given.joint.unimodal, "audio": y}, given.label))["entropy"].backward()
    return y.grad


@pytest.mark.parametrize(("history", "share"), [("whole", 1.0), ("own", 1 / 3)])
def test_the_gradient_of_remembered_rows_that_are_the_same(history, share):
    """If this batch comes for the third time H is what it was, and all its rows together would move it as they did."""
    penalty = build(memory=2, history=history).train()
    first = entropy_gradient(penalty, random_view())
    entropy_gradient(penalty, random_view())
    torch.testing.assert_close(entropy_gradient(penalty, random_view()), share * first)


@pytest.mark.parametrize("history", ["whole", "own"])
def test_with_a_fitted_q_only_the_whole_gradient_leaves_the_scale_alone(history):
    """At s = 1, d/ds of E log q(s·y|x) is −d and of H(s·Y) is +d, of which ``own`` leaves the share of this batch's rows."""
    penalty, given = fitted(INDEPENDENT, memory=3, history=history).train(), linear_gaussian(INDEPENDENT, seed=1)
    for _ in range(3):
        penalty(given)
    s = torch.ones((), requires_grad=True)
    u = given.joint.unimodal
    sum(penalty(view({"language": u["language"], "audio": s * u["audio"]})).values()).backward()
    slope = {"whole": 0.0, "own": 3 * (1 - 1 / 4)}[history]  # of the loss: > 0 means that a step down shrinks y
    assert float(s.grad) == pytest.approx(slope, abs=0.1)


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
