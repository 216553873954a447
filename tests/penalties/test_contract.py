"""What every penalty must keep, whatever it is: one case per file in configs/penalty that has an objective."""

from copy import deepcopy
from pathlib import Path

import hydra
import pytest
import torch

from mdm.penalties.base import View
from mdm.runs.members import make
from mdm.types import Fusion

ROOT = Path(__file__).parents[2] / "configs"


def composed(name):
    with hydra.initialize_config_dir(str(ROOT), version_base="1.3"):
        return hydra.compose("train", [f"penalty={name}"]).penalty


CONFIGS = {path.stem: composed(path.stem) for path in sorted((ROOT / "penalty").glob("*.yaml"))}
PENALTIES = [name for name, node in CONFIGS.items() if node.get("objective") is not None]

ROWS, DIM = 48, 8
UNIMODAL = {"language": 4, "audio": 3, "video": 5}


def build(name, weight=0.3, seed=0):
    torch.manual_seed(seed)
    return make(CONFIGS[name].objective, weight=weight, z_dim=DIM, unimodal_dims=UNIMODAL, part_dims={})


def view_of(penalty, seed=0, requires_grad=False) -> View:
    """Joint rows whose halves agree, product rows whose halves do not, unimodal representations that share a direction."""
    rng = torch.Generator().manual_seed(seed)

    def fusion(together):
        half = torch.randn(ROWS, DIM // 2, generator=rng)
        noise = torch.randn(ROWS, DIM // 2, generator=rng)
        other = 0.9 * half + 0.4 * noise if together else noise
        unimodal = {m: half[:, :1] + torch.randn(ROWS, d, generator=rng) for m, d in UNIMODAL.items()}
        z = torch.cat([half, other], 1)
        if requires_grad:
            z, unimodal = z.requires_grad_(), {m: u.requires_grad_() for m, u in unimodal.items()}
        return Fusion(z[:, :1], z, unimodal)

    joint, product = fusion(True), fusion(False)
    return View(joint, product if penalty.products else None, torch.randn(ROWS, 1, generator=rng))


def leaves(view: View) -> list[torch.Tensor]:
    return [t for f in (view.joint, view.product) if f is not None for t in (f.z, *f.unimodal.values())]


def fit(penalty, steps=20):
    """A few critic steps, as the learner takes them."""
    penalty.train()
    parameters = list(penalty.parameters())
    if parameters:
        optimizer = torch.optim.Adam(parameters, lr=1e-3)
        for step in range(steps):
            optimizer.zero_grad()
            penalty.critic_loss(view_of(penalty, seed=100 + step).detach()).backward()
            optimizer.step()
    penalty.zero_grad()
    return penalty.eval()


def total(penalty, view):
    return sum(penalty(view).values())


def numbers(penalty, view):
    with torch.no_grad():
        return {**penalty.estimate(view), **{f"term {key}": value for key, value in penalty(view).items()}}


@pytest.fixture(params=PENALTIES)
def name(request):
    return request.param


def test_a_config_has_a_critic_where_the_penalty_has_one(name):
    assert (CONFIGS[name].critic is not None) == bool(list(build(name).parameters()))


def test_there_are_penalties():
    assert {"kl", "f", "wasserstein"} <= set(PENALTIES)
    assert "none" not in PENALTIES


@pytest.mark.parametrize("training", [False, True])
def test_terms_and_estimates_are_finite_named_scalars(name, training):
    penalty = build(name).train(training)
    view = view_of(penalty)
    for values in (penalty(view), penalty.estimate(view)):
        assert values
        for key, value in values.items():
            assert isinstance(key, str)
            assert key
            assert value.shape == ()
            assert torch.isfinite(value)
    if list(penalty.parameters()):
        loss = penalty.critic_loss(view)
        assert loss.shape == ()
        assert torch.isfinite(loss)


def test_the_term_pulls_at_joint_and_product_representations(name):
    """With the critic frozen, as in stage two: no gradient may be lost on either side."""
    penalty = fit(build(name)).requires_grad_(False)
    view = view_of(penalty, requires_grad=True)
    total(penalty, view).backward()
    if penalty.products:
        for fusion in (view.joint, view.product):
            assert fusion.z.grad is not None
            assert fusion.z.grad.abs().sum() > 0
    assert any(t.grad is not None and t.grad.abs().sum() > 0 for t in leaves(view))
    assert all(t.grad is None or torch.isfinite(t.grad).all() for t in leaves(view))
    assert all(p.grad is None for p in penalty.parameters())


def test_a_step_down_the_term_moves_the_estimate_the_right_way(name):
    penalty = fit(build(name))
    view = view_of(penalty, requires_grad=True)
    before = sum(penalty.estimate(view).values()).detach()
    total(penalty, view).backward()
    slope = torch.cat([t.grad.flatten() for t in leaves(view) if t.grad is not None]).norm()
    with torch.no_grad():
        for t in leaves(view):
            if t.grad is not None:
                t -= 0.01 * t.grad / slope
    after = sum(penalty.estimate(view).values()).detach()
    assert (after < before) if penalty.lowers else (after > before)


def test_weight_scales_the_term_and_not_the_estimate(name):
    once, thrice = (build(name, weight) for weight in (0.2, 0.6))
    view = view_of(once)
    once.eval(), thrice.eval()
    with torch.no_grad():
        assert float(total(thrice, view)) == pytest.approx(3 * float(total(once, view)), rel=1e-5, abs=1e-5)
        assert once.estimate(view) == thrice.estimate(view)


def test_the_critic_learns_from_detached_representations(name):
    penalty = build(name).train()
    parameters = list(penalty.parameters())
    if not parameters:
        pytest.skip("no critic")
    view = view_of(penalty, requires_grad=True)
    penalty.critic_loss(view.detach()).backward()
    assert all(t.grad is None for t in leaves(view))
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in parameters)
    # All but an output bias, which differences of T do not see.
    assert sum(bool(p.grad.abs().sum() == 0) for p in parameters) <= 1


def test_critic_steps_lower_the_critics_loss_on_other_rows(name):
    penalty = build(name)
    if not list(penalty.parameters()):
        pytest.skip("no critic")
    view = view_of(penalty, seed=1)

    def loss():
        torch.manual_seed(0)
        return float(penalty.eval().critic_loss(view).detach())

    before = loss()
    fit(penalty, 60)
    assert loss() < before


def test_building_draws_nothing_but_its_own_weights(name):
    """Same seed, same critic; and no buffer or parameter is shared between two."""
    a, b = build(name), build(name)
    for key, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[key])
    assert not {p.data_ptr() for p in a.parameters()} & {p.data_ptr() for p in b.parameters()}


def test_state_dict_makes_the_round_trip(name):
    penalty, other = fit(build(name)), build(name, seed=1).eval()
    view = view_of(penalty)
    if list(penalty.parameters()):
        assert numbers(other, view) != numbers(penalty, view)
    other.load_state_dict(penalty.state_dict())
    assert numbers(other, view) == numbers(penalty, view)


def test_looking_does_not_change_a_penalty_in_eval(name):
    penalty = fit(build(name))
    view, state = view_of(penalty), deepcopy(penalty.state_dict())
    first = numbers(penalty, view)
    numbers(penalty, view_of(penalty, seed=9))
    assert numbers(penalty, view) == first
    assert all(torch.equal(value, state[key]) for key, value in penalty.state_dict().items())
    assert not penalty.training


def test_a_view_is_left_as_it_was(name):
    penalty = build(name).train()
    view = view_of(penalty)
    before = [t.clone() for t in leaves(view)]
    penalty(view), penalty.estimate(view)
    if list(penalty.parameters()):
        penalty.critic_loss(view).backward()
    assert all(torch.equal(t, old) for t, old in zip(leaves(view), before, strict=True))
    assert not any(t.requires_grad for t in leaves(view))


@pytest.mark.parametrize("weight", [0.0, -0.1, float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_positive_number_are_refused(name, weight):
    with pytest.raises(ValueError, match="weight must be a positive number"):
        build(name, weight)
