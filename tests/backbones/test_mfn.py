"""MFN against its equations, step by step and segment by segment, on real steps only."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from mdm.backbones.mfn import MFN, CellStates, DeltaMemory
from mdm.backbones.packing import pack
from mdm.training.product import batch_lengths, product
from mdm.types import Batch, DataSpec, Feature, Sequence

FEATURES = {"language": Feature(11, tokens=True), "audio": Feature(5), "video": Feature(4)}
HIDDEN = {"language": 6, "audio": 2, "video": 3}


def spec(aligned=True, **features):
    return DataSpec(features or FEATURES, ("y",), (-3.0, 3.0), (0.25,), aligned)


def build(**options):
    torch.manual_seed(0)
    small = {"hidden": HIDDEN, "memory": 7, "attention": 4, "proposal": 5, "retain": 6, "update": 3, "head": 8}
    return MFN(**{"spec": spec(), "embedding_dim": 3, **small, **options}).eval()


def batch(lengths, absent=()):
    """Random segments with garbage behind; ``absent``: (row, modality) pairs that are missing."""
    rng = torch.Generator().manual_seed(0)
    time = max(lengths) + 2
    sequences = {}
    for name, f in FEATURES.items():
        have = torch.tensor([0 if (row, name) in absent else n for row, n in enumerate(lengths)])
        if f.tokens:
            values = torch.randint(1, f.dim, (len(lengths), time), generator=rng)
        else:
            values = torch.randn(len(lengths), time, f.dim, generator=rng)
        sequences[name] = Sequence(values, torch.arange(time) < have[:, None])
    return Batch(tuple(map(str, range(len(lengths)))), sequences, torch.zeros(len(lengths), 1))


def lstm_step(cell, x, h, c):
    """i, f, o = σ(W x + U h + b), g = tanh(…); c' = f·c + i·g; h' = o·tanh(c')."""
    i, f, g, o = (cell.weight_ih @ x + cell.bias_ih + cell.weight_hh @ h + cell.bias_hh).view(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def memory_step(net, before, now, u):
    """The equations of one step, each gate with its own two layers, as published; vectors, not batches."""
    window = torch.cat([before, now])
    scores = net.attention[3](torch.relu(net.attention[0](window)))
    attended = torch.exp(scores) / torch.exp(scores).sum() * window
    proposal = torch.tanh(net.proposal[3](torch.relu(net.proposal[0](attended))))
    both = torch.cat([attended, u])
    weight, bias = net.first.weight, net.first.bias
    r = net.widths[0]
    gamma1 = torch.sigmoid(net.retain[2](torch.relu(weight[:r] @ both + bias[:r])))
    gamma2 = torch.sigmoid(net.update[2](torch.relu(weight[r:] @ both + bias[r:])))
    return gamma1 * u + gamma2 * proposal


def by_hand(backbone, b, row):
    """h_T of each modality and u_T of one segment; an absent modality keeps its zero state."""
    h = {m: torch.zeros(n) for m, n in HIDDEN.items()}
    c = {m: torch.zeros(n) for m, n in HIDDEN.items()}
    u = torch.zeros(7)
    for t in range(max(int(s.lengths[row]) for s in b.sequences.values())):
        before = torch.cat(list(c.values()))
        for m, lstm in backbone.lstms.items():
            s = b.sequences[m]
            if s.mask[row, t]:
                x = lstm.steps.embedding(s.values[row, t]) if m == "language" else s.values[row, t]
                h[m], c[m] = lstm_step(lstm.cell, x, h[m], c[m])
        u = memory_step(backbone.memory, before, torch.cat(list(c.values())), u)
    return h, u


def test_the_model_is_its_equations():
    backbone = build()
    b = batch([4, 1, 6, 3, 5], absent={(3, "audio"), (4, "language")})
    with torch.no_grad():
        fusion = backbone(b)
        for row in range(5):
            h, u = by_hand(backbone, b, row)
            torch.testing.assert_close(fusion.z[row], torch.cat([*h.values(), u]), atol=1e-5, rtol=1e-5)
            for m in HIDDEN:
                torch.testing.assert_close(fusion.unimodal[m][row], h[m], atol=1e-5, rtol=1e-5)
        first, second = backbone.head[0], backbone.head[3]
        torch.testing.assert_close(fusion.prediction, second(torch.relu(first(fusion.z))))
    assert (fusion.unimodal["audio"][3] == 0).all()
    assert (fusion.unimodal["language"][4] == 0).all()
    assert second.bias.tolist() == [0.25]
    assert backbone.z_dim == 6 + 2 + 3 + 7
    assert backbone.unimodal_dims == HIDDEN


def test_states_are_those_of_nn_lstm_and_so_are_gradients():
    """h of every step; c of step t is the last c of a run over t steps."""
    torch.manual_seed(0)
    states = CellStates(Feature(5), 0, 4)
    lstm = nn.LSTM(5, 4, batch_first=True)
    for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        getattr(lstm, f"{kind}_l0").data = getattr(states.cell, kind).data.clone()
    x = torch.randn(3, 6, 5)
    h, c = states(Sequence(x, torch.ones(3, 6, dtype=torch.bool)))
    torch.testing.assert_close(h.values, lstm(x)[0])
    for t in range(6):
        torch.testing.assert_close(c.values[:, t], lstm(x[:, : t + 1])[1][1][0])
    weights = torch.randn(3, 6, 4)
    (h.values * weights).sum().backward()
    (lstm(x)[0] * weights).sum().backward()
    for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        torch.testing.assert_close(getattr(states.cell, kind).grad, getattr(lstm, f"{kind}_l0").grad)


def delta_memory():
    torch.manual_seed(0)
    return DeltaMemory(4, 3, attention=(5, 0.0), proposal=(5, 0.0), retain=(5, 0.0), update=(6, 0.0))


def test_constant_gates_make_the_memory_a_geometric_sum():
    """γ1, γ2 and û constant: u_T = γ2·û·(1 − γ1^T) / (1 − γ1), each row at its own T."""
    net, lengths = delta_memory(), torch.tensor([5, 2, 1])
    gamma1, gamma2, proposal = 0.6, 0.3, 0.5
    with torch.no_grad():
        for layer, bias in (
            (net.retain[2], math.log(gamma1 / (1 - gamma1))),
            (net.update[2], math.log(gamma2 / (1 - gamma2))),
            (net.proposal[3], math.atanh(proposal)),
        ):
            layer.weight.zero_()
            layer.bias.fill_(bias)
        u = net(Sequence(torch.randn(3, 5, 4), torch.arange(5) < lengths[:, None]))
    expected = gamma2 * proposal * (1 - gamma1**lengths) / (1 - gamma1)
    torch.testing.assert_close(u, expected[:, None].expand(-1, 3))


def test_attention_that_scores_all_alike_divides_by_the_width_of_the_window():
    """Softmax over the 2·4 coordinates of [C_{t−1}; C_t], where C_0 = 0."""
    net, cells = delta_memory(), torch.randn(2, 3, 4)
    with torch.no_grad():
        net.attention[3].weight.zero_()
        net.attention[3].bias.zero_()
        packed = pack(Sequence(cells, mask := torch.ones(2, 3, dtype=torch.bool)))
        attended = packed.unpack(net.attend(packed), mask).values
    torch.testing.assert_close(attended[..., 4:], cells / 8)
    torch.testing.assert_close(attended[:, 1:, :4], cells[:, :-1] / 8)
    assert (attended[:, 0, :4] == 0).all()


def test_a_sample_of_the_product_keeps_last_states_and_stretches_cells():
    """Lengths 6 and 3 change places: h moves whole; the memory reads cells ⌊t·6/3⌋ = 0, 2, 4, and ⌊t·3/6⌋ = 0, 0, 1, 1, 2, 2."""
    backbone, b = build(), batch([6, 3])
    index = np.array([[0, 1], [1, 0], [0, 1]])
    with torch.no_grad():
        encoded = backbone.encode(b)
        moved = backbone.fuse(product(encoded, index, batch_lengths(b)))
        for place, other, steps in ((0, 1, [0, 0, 1, 1, 2, 2]), (1, 0, [0, 2, 4])):
            assert torch.equal(moved.unimodal["audio"][place], encoded["audio"]["state"][other])
            assert torch.equal(moved.unimodal["video"][place], encoded["video"]["state"][place])
            time = len(steps)
            cells = torch.cat(
                [
                    encoded["language"]["cells"].values[place, :time],
                    encoded["audio"]["cells"].values[other, steps],
                    encoded["video"]["cells"].values[place, :time],
                ],
                dim=1,
            )
            u, before = torch.zeros(7), torch.zeros(11)
            for now in cells:
                u, before = memory_step(backbone.memory, before, now, u), now
            torch.testing.assert_close(moved.z[place, 11:], u, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("parameters", "dims", "options"),
    [
        (2_172_657, (768, 5, 20), {"hidden": (256, 32, 256), "nets": (32, 64, 256, 32, 128), "memory": 400}),
        (1_276_865, (768, 74, 35), {"hidden": (128, 32, 128), "nets": (128, 128, 256, 256, 128), "memory": 128}),
        (292_657, (300, 5, 20), {"hidden": (64, 48, 32), "nets": (32, 32, 64, 32, 64), "memory": 400}),
        (839_549, (300, 5, 20), {"hidden": (156, 80, 16), "nets": (256, 64, 128, 32, 64), "memory": 300}),
    ],
    ids=["MMSA on MOSI", "MMSA on MOSEI", "official, best error", "official, best accuracy"],
)
def test_published_sizes_have_the_published_numbers_of_parameters(parameters, dims, options):
    names = ("attention", "proposal", "retain", "update", "head")
    features = dict(zip(FEATURES, map(Feature, dims), strict=True))
    hidden = dict(zip(FEATURES, options["hidden"], strict=True))
    nets = dict(zip(names, options["nets"], strict=True))
    backbone = MFN(spec(**features), hidden=hidden, memory=options["memory"], **nets)
    assert sum(p.numel() for p in backbone.parameters()) == parameters


@pytest.mark.parametrize(
    ("option", "where"),
    [
        ("attention_dropout", "memory.attention.2"),
        ("proposal_dropout", "memory.proposal.2"),
        ("retain_dropout", "memory.retain.1"),
        ("update_dropout", "memory.update.1"),
        ("head_dropout", "head.2"),
    ],
)
def test_every_dropout_is_where_its_option_says(option, where):
    rates = {"attention_dropout": 0.11, "proposal_dropout": 0.22, "retain_dropout": 0.33, "update_dropout": 0.44}
    rates["head_dropout"] = 0.55
    dropouts = {name: m.p for name, m in build(**rates).named_modules() if isinstance(m, nn.Dropout)}
    assert dropouts[where] == rates[option]
    assert len(dropouts) == len(rates)


def test_dropout_draws_anew_at_every_step():
    """Without cells or biases the only thing that differs between steps is dropout of the gates; all else constant."""
    net = DeltaMemory(4, 3, attention=(5, 0.0), proposal=(5, 0.0), retain=(64, 0.5), update=(6, 0.0)).train()
    kept = []
    net.retain[1].register_forward_hook(lambda _, given, out: kept.append(out == 0))
    with torch.no_grad():
        net.first.bias.fill_(1.0)
        net(Sequence(torch.zeros(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)))
    assert len(kept) == 3
    assert not torch.equal(kept[0], kept[1])
    assert not torch.equal(kept[1], kept[2])


def test_unaligned_data_are_refused():
    with pytest.raises(ValueError, match="MFN compares the modalities step by step, so it needs word-aligned data"):
        build(spec=spec(aligned=False))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory": 0}, "'memory': 0"),
        ({"retain": -1}, "'retain': -1"),
        ({"hidden": {**HIDDEN, "audio": 0}}, "'hidden.audio': 0"),
        ({"hidden": {"language": 4}}, "a number for each of language, audio, video, but is"),
    ],
)
def test_what_cannot_be_built_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
