"""Real steps alone: what is packed comes back, and LSTMs over packed steps are torch's own, with their gradients."""

import pytest
import torch
from torch import nn

from mdm.backbones.layers import last_state, masked_mean
from mdm.backbones.packing import WIDE, Packed, Recurrence, can_pack, pack, read_by_length, run_lstm
from mdm.types import Sequence

LENGTHS = [[4, 0, 7, 4, 1], [3, 3], [1], [0, 0, 2], [0, 0]]


def sequence(lengths, dim=3, dtype=torch.float64, more=0):
    torch.manual_seed(len(lengths))
    time = max(*lengths, 1) + more
    mask = torch.arange(time) < torch.tensor(lengths)[:, None]
    return Sequence(torch.randn(len(lengths), time, dim, dtype=dtype), mask)


def reference(lstm: nn.LSTM, given: Sequence) -> torch.Tensor:
    """torch's own packed LSTM, which refuses rows without steps: they are given one, and set to zero afterwards."""
    lengths = given.lengths.clamp(min=1)
    packed = nn.utils.rnn.pack_padded_sequence(given.values, lengths, batch_first=True, enforce_sorted=False)
    out, _ = nn.utils.rnn.pad_packed_sequence(lstm(packed)[0], batch_first=True, total_length=given.mask.shape[1])
    return out * given.mask.unsqueeze(-1)


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_what_is_packed_comes_back(lengths):
    given = sequence(lengths, more=2)
    packed = pack(given)
    assert packed.sizes == [n for t in range(max(lengths)) if (n := sum(length > t for length in lengths))]
    back = packed.unpack(packed.values, given.mask)
    assert torch.equal(back.values, given.values * given.mask.unsqueeze(-1))
    for row, length in enumerate(lengths):
        expected = given.values[row, length - 1] if length else torch.zeros(3, dtype=torch.float64)
        assert torch.equal(packed.at_last_step()[row], expected)
    before = packed.unpack(packed.before(packed.values), given.mask).values
    assert torch.equal(before[:, 1:], (given.values * given.mask.unsqueeze(-1))[:, :-1] * given.mask[:, 1:].unsqueeze(-1))
    assert not before[:, 0].any()


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("layers", [1, 3])
def test_an_lstm_over_packed_steps_is_that_of_torch_and_so_are_its_gradients(lengths, layers):
    given, lstm = sequence(lengths), nn.LSTM(3, 4, layers, batch_first=True).double()
    given.values.requires_grad_()
    packed = pack(given)
    ours = packed.unpack(run_lstm(lstm, packed).values, given.mask).values
    theirs = reference(lstm, given)
    torch.testing.assert_close(ours, theirs, atol=1e-14, rtol=0)
    weights = torch.randn_like(ours)
    leaves = [given.values, *lstm.parameters()]
    for a, b in zip(
        torch.autograd.grad((ours * weights).sum(), leaves), torch.autograd.grad((theirs * weights).sum(), leaves), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-13, rtol=0)


def test_gradients_of_states_and_cells_are_those_of_differences():
    torch.manual_seed(0)
    x, w_ih, w_hh, bias = (torch.randn(*shape, dtype=torch.float64) for shape in ((6, 3), (8, 3), (8, 2), (8,)))
    leaves = [leaf.requires_grad_() for leaf in (x, w_ih, w_hh, bias)]
    assert torch.autograd.gradcheck(lambda *given: Recurrence.apply(*given, [3, 2, 1]), leaves)
    assert torch.autograd.gradcheck(lambda *given: Recurrence.apply(*given, [3, 2, 1])[1], leaves)
    assert Recurrence.apply(x, w_ih, w_hh, bias, [3, 2, 1])[0].grad_fn is not None
    (first,) = torch.autograd.grad(Recurrence.apply(*leaves, [3, 2, 1])[0].square().sum(), [x], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_the_last_state_is_the_same_in_training_and_in_evaluation(lengths):
    lstm = nn.LSTM(256, 128, 2, batch_first=True)
    given = sequence(lengths, 256, torch.float32)
    assert can_pack(lstm.train(), given.values)
    trained = last_state(lstm, given)
    assert not can_pack(lstm.eval(), given.values)
    torch.testing.assert_close(trained, last_state(lstm, given), atol=1e-6, rtol=0)


def test_dropout_between_layers_has_its_rate():
    lstm = nn.LSTM(3, 400, 2, batch_first=True, dropout=0.25).train()
    kept = []
    packed = pack(sequence([5, 4], dtype=torch.float32))
    original = Packed.holds
    try:
        Packed.holds = lambda self, values: kept.append((values == 0).double().mean().item()) or original(self, values)
        run_lstm(lstm, packed)
    finally:
        Packed.holds = original
    assert kept[0] == kept[2] == 0
    assert kept[1] == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 3600) ** 0.5)


def test_only_what_pays_is_packed():
    values = torch.zeros(1, 1, 1)
    assert not can_pack(nn.LSTM(16, WIDE // 16 - 1), values)
    assert can_pack(nn.LSTM(16, WIDE // 16), values)
    assert not can_pack(nn.LSTM(16, WIDE // 16, bidirectional=True), values)
    with torch.autocast("cpu", torch.bfloat16):
        assert not can_pack(nn.LSTM(16, WIDE // 16), values)


@pytest.mark.parametrize("lengths", [list(range(24)), [9] * 24, [1, 40] * 12], ids=["mixed", "alike", "short and long"])
def test_groups_of_like_length_give_what_the_batch_gives(lengths):
    """Rows come back in their places; places that are never read are never there."""
    steps = {"audio": sequence(lengths, 3), "video": sequence([n // 2 for n in lengths], 2)}
    widths = []

    def read(given):
        widths.append(given["audio"].mask.shape[1])
        z = torch.cat([masked_mean(each) for each in given.values()], dim=1)
        return {"z": z, "audio": z[:, :3]}

    grouped, whole = read_by_length(read, steps), read(steps)
    assert torch.allclose(grouped["z"], whole["z"], atol=1e-14)
    assert torch.equal(grouped["audio"], grouped["z"][:, :3])
    expected = {0: [7, 15, 23], 9: [9], 1: [1, 40, 40]}[lengths[0]]
    assert widths[:-1] == expected
