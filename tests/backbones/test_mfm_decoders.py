"""MFM's decoders: the loop they stand for, how they start, and that they can learn a sequence."""

import pytest
import torch
from backbones.mfm import LENGTHS, SMALL, batch, build, decoded
from torch import nn

from mdm.backbones.decoders import Decoder
from mdm.types import Feature, Sequence


@pytest.mark.parametrize("time", [1, 2, 9])
def test_a_decoder_is_the_loop_that_feeds_on_its_own_state(time):
    torch.manual_seed(0)
    decoder = Decoder(6, Feature(4))
    factors = torch.randn(3, 6, requires_grad=True)
    weight = torch.randn(3, time, 4)
    fast, loop = decoder(factors, time), decoded(decoder, factors, time)
    torch.testing.assert_close(fast, loop)
    gradients = [torch.autograd.grad((weight * steps).sum(), factors)[0] for steps in (fast, loop)]
    torch.testing.assert_close(*gradients)


def test_a_decoder_starts_as_the_sum_of_two_matrices_would():
    """An LSTM's weights are uniform in ±1/√h: R − W_ih must be so again, of variance 1/(3h) (90 000 draws, within 2 %)."""
    width = 150
    read, total, *_ = Decoder(width, Feature(2)).lstm.all_weights[0]
    rest = (total - read).detach()
    assert rest.abs().max() < width**-0.5 + 1e-6
    assert float(rest.var()) == pytest.approx(1 / (3 * width), rel=0.02)
    assert abs(float(torch.corrcoef(torch.stack([rest.flatten(), read.detach().flatten()]))[0, 1])) < 0.02


def test_two_matrices_are_the_same_function_and_each_learns():
    """A cell that reads the factor, then its own last state: h_t = cell(h_{t−1}, h_{t−1})."""
    torch.manual_seed(0)
    decoder, factors = Decoder(5, Feature(3), "two_matrices"), torch.rand(4, 5)
    cell = nn.LSTMCell(5, 5)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in decoder.lstm.state_dict().items()})
    h, c = cell(factors)
    states = [h]
    for _ in range(3):
        h, c = cell(h, (h, c))
        states.append(h)
    torch.testing.assert_close(decoder.states(factors, 4), torch.stack(states, 1))
    torch.stack(states, 1).square().sum().backward()
    decoder.states(factors, 4).square().sum().backward()
    for name, parameter in decoder.lstm.named_parameters():
        torch.testing.assert_close(parameter.grad, getattr(cell, name.removesuffix("_l0")).grad)


def test_a_decoder_goes_forward_and_longer_is_a_continuation():
    backbone, b = build(), batch()
    parts = backbone(b).parts
    long = backbone.decode("audio", parts, torch.full((len(b),), 9))
    short = backbone.decode("audio", parts, torch.tensor(LENGTHS))
    assert long.shape == (len(b), 9, 3)
    torch.testing.assert_close(long[:, : max(LENGTHS)], short)
    assert backbone.decode("audio", parts, torch.zeros(len(b), dtype=torch.long)).shape == (len(b), 1, 3)


@pytest.mark.filterwarnings("ignore:TF32", "ignore:`torch.jit.script` is deprecated")
def test_every_step_depends_on_the_factors_and_both_modes_of_differentiation_agree():
    """∂x̂_t/∂f_y of Eq. 7, [time, d, f_y], by one forward pass per coordinate of f_y and by one backward pass per output."""
    backbone, b = build(), batch([4])
    parts = {name: p.detach() for name, p in backbone(b).parts.items()}

    def made(f_y):
        return backbone.decode("video", {**parts, "f_y": f_y[None]}, torch.tensor([6]))[0]

    backward = torch.autograd.functional.jacobian(made, parts["f_y"][0])
    assert backward.shape == (6, 4, SMALL["f_y"])
    assert (backward.square().sum((1, 2)) > 0).all()
    with torch.backends.mkldnn.flags(enabled=False):
        torch.testing.assert_close(torch.func.jacfwd(made)(parts["f_y"][0]), backward)


def test_decoders_can_learn_a_sequence():
    """Four sequences of the same length are told apart by four factors: the error, at first their variance, falls by far."""
    torch.manual_seed(0)
    decoder, factors = Decoder(16, Feature(3)), nn.Parameter(torch.rand(4, 16))
    target = Sequence(torch.randn(4, 3, 3), torch.ones(4, 3, dtype=torch.bool))
    optimizer = torch.optim.Adam([*decoder.parameters(), factors], lr=0.02)
    first = float(decoder.cost(factors, target).detach())
    for _ in range(200):
        optimizer.zero_grad()
        cost = decoder.cost(factors, target)
        cost.backward()
        optimizer.step()
    assert float(cost.detach()) < 0.05 * first
