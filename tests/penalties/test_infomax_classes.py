"""The Barber–Agakov bound's entropy by hand: rows of classes, and the memory that gives a class more of them."""

import numpy as np
import pytest
import torch
from penalties.infomax import (
    DIMS,
    INDEPENDENT,
    ROWS,
    build,
    detached,
    fitted,
    linear_gaussian,
    mixture_entropy,
    number,
    random_view,
    view,
)

from mdm import estimators
from mdm.penalties.base import View
from mdm.penalties.infomax import split_classes

NAN = float("nan")


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
