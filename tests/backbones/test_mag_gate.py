"""MAG's gate is its closed form, and so is its gradient."""

import pytest
import torch
from backbones.mag import DIM, DIMS, gate_by_hand, loud
from torch import nn
from torch.nn import functional as F

from mdm.backbones.mag import Gate


def gate_inputs(zero=True):
    rng = torch.Generator().manual_seed(0)
    e = torch.randn(3, 4, DIM, generator=rng)
    frames = {m: torch.randn(3, 4, d, generator=rng) for m, d in DIMS.items()}
    if zero:
        for x in frames.values():
            x[0], x[1, 2] = 0, 0
    return e, frames


@pytest.mark.parametrize(("activation", "act"), [("relu", torch.relu), ("sigmoid", torch.sigmoid)])
@pytest.mark.parametrize("beta", [0.0, 1e-3, 0.5, 1.0, 100.0])
@pytest.mark.parametrize("biases", [True, False])
def test_the_gate_is_its_closed_form(activation, act, beta, biases):
    """Without biases and with frames of zero h is exactly 0."""
    gate = loud(Gate(DIM, DIMS, beta=beta, activation=activation)).eval()
    if not biases:
        for layer in gate.project.values():
            nn.init.zeros_(layer.bias)
    e, frames = gate_inputs()
    torch.testing.assert_close(gate(e, frames), gate_by_hand(gate, e, frames, act), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("beta", [0.3, 1.0, 100.0])
@pytest.mark.parametrize("zero", [True, False])
def test_the_gradient_of_the_gate_is_that_of_its_closed_form(beta, zero):
    """Through α too, whether it is below 1 (its norms) or at it; and where h = 0 (frames of zero, no biases)."""
    e, frames = gate_inputs(zero)
    gate = loud(Gate(DIM, DIMS, beta=beta)).eval()
    if zero:
        for layer in gate.project.values():
            nn.init.zeros_(layer.bias)
    inputs = [e.clone().requires_grad_(), *(x.clone().requires_grad_() for x in frames.values())]
    gradients = []
    for compute in (gate, lambda e, frames: gate_by_hand(gate, e, frames, torch.relu)):
        out = compute(inputs[0], dict(zip(DIMS, inputs[1:], strict=True)))
        gradients.append(torch.autograd.grad(out.pow(3).sum(), [*inputs, *gate.parameters()]))
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-4, rtol=1e-4)


def test_the_gradient_is_finite_where_nothing_moves():
    """As the gate starts (biases 0) with frames of zero h = 0, where the gradient of a norm is not defined."""
    gate = Gate(DIM, DIMS).eval()
    e, frames = gate_inputs()
    inputs = [e.requires_grad_(), *(x.requires_grad_() for x in frames.values())]
    gate(e, frames).pow(3).sum().backward()
    assert all(torch.isfinite(x.grad).all() for x in (*inputs, *gate.parameters()))
    # There the gate is the norm of e alone.
    alone = e[0].detach().requires_grad_()
    gate.norm(alone).pow(3).sum().backward()
    torch.testing.assert_close(e.grad[0], alone.grad)


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_a_piece_moves_by_no_more_than_beta_of_its_length(beta):
    gate = loud(Gate(DIM, DIMS, beta=beta)).eval()
    gate.norm = nn.Identity()
    e, frames = gate_inputs(zero=False)
    moved = (gate(e, {m: 100 * x for m, x in frames.items()}) - e).norm(dim=2)
    torch.testing.assert_close(moved, beta * e.norm(dim=2), atol=1e-4, rtol=1e-4)
    small = (gate(e, {m: 1e-3 * x for m, x in frames.items()}) - e).norm(dim=2)
    assert (small <= beta * e.norm(dim=2) + 1e-5).all()


@pytest.mark.parametrize("dims", [DIMS, {}])
def test_with_beta_zero_or_no_modality_the_gate_is_a_layer_norm(dims):
    gate = loud(Gate(DIM, dims, beta=0.0 if dims else 1.0)).eval()
    e, frames = gate_inputs()
    expected = F.layer_norm(e, (DIM,), gate.norm.weight, gate.norm.bias)
    torch.testing.assert_close(gate(e, {m: frames[m] for m in dims}), expected)


def test_a_modality_whose_map_is_zero_might_as_well_be_absent():
    both, one = loud(Gate(DIM, DIMS)).eval(), loud(Gate(DIM, {"audio": 3})).eval()
    one.load_state_dict({key: value for key, value in both.state_dict().items() if "video" not in key})
    e, frames = gate_inputs()
    assert (both(e, frames) - one(e, frames)).abs().max() > 0.1
    for p in both.project["video"].parameters():
        nn.init.zeros_(p)
    torch.testing.assert_close(both(e, frames), one(e, frames))


def test_the_gate_starts_as_the_transformer_does():
    torch.manual_seed(0)
    gate = Gate(200, {"audio": 100})
    for layer in (gate.gates["audio"], gate.project["audio"]):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.02)
        assert layer.weight.mean().abs() < 1e-3
        assert not layer.bias.any()


def test_dropout_is_of_what_the_gate_returns():
    torch.manual_seed(0)
    gate = Gate(DIM, DIMS, dropout=0.5).train()
    e, frames = gate_inputs()
    out, expected = gate(e, frames), 2 * gate.eval()(e, frames)
    kept = out != 0
    assert 0.3 < kept.float().mean() < 0.7
    torch.testing.assert_close(out[kept], expected[kept])
