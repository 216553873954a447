"""MulT: the vectorised network against one that walks row by row, step by step and head by head through the equations."""

import math

import numpy as np
import pytest
import torch
from backbones.mult import batch, build, masks

from mdm.backbones.mult import CrossModal, Layer, add_positions, find_reach


def array(parameter):
    return parameter.detach().double().numpy()


def linear(layer, x):
    return array(layer.weight) @ x + array(layer.bias)


def norm(layer, x):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * array(layer.weight) + array(layer.bias)


def softmax(scores):
    weights = np.exp(np.array(scores) - max(scores))
    return weights / weights.sum()


def place(t, dim):
    half = dim // 2
    angles = [t * 10000 ** (-i / (half - 1)) for i in range(half)]
    return np.array([math.sin(a) for a in angles] + [math.cos(a) for a in angles] + [0.0] * (dim % 2))


def embed(steps):
    return [math.sqrt(len(x)) * x + place(t, len(x)) for t, x in enumerate(steps, start=1)]


def attend(layer, target, source, future_mask):
    """One layer on lists of steps."""
    out = []
    for i, x in enumerate(target):
        q = linear(layer.query, norm(layer.norm, x))
        dim = len(q)
        wide = dim // layer.heads
        read = np.zeros(dim)
        for head in range(layer.heads):
            part = slice(head * wide, (head + 1) * wide)
            scores, values = [], []
            for j, s in enumerate(source):
                if future_mask and j > i + abs(len(source) - len(target)):
                    continue
                both = linear(layer.key_value, norm(layer.norm, s))
                scores.append(q[part] @ both[:dim][part] / math.sqrt(wide))
                values.append(both[dim:][part])
            if scores:
                read[part] = softmax(scores) @ np.stack(values)
        x = x + linear(layer.out, read)
        inner_norm, wide_layer, _, _, narrow = layer.feed_forward
        out.append(x + linear(narrow, np.maximum(linear(wide_layer, norm(inner_norm, x)), 0)))
    return out


def slow(net, data, row):
    """(Z, prediction) of one row."""
    steps = {}
    for m, sequence in data.sequences.items():
        values = sequence.values[row][sequence.mask[row]]
        if m == "language":
            values = net.project[m].steps.embedding(values)
        raw, kernel = array(values), array(net.project[m].conv.weight)  # [dim, width, k]
        k = kernel.shape[2]
        steps[m] = [
            sum(
                (kernel[:, :, o] @ raw[t + o - k // 2] for o in range(k) if 0 <= t + o - k // 2 < len(raw)),
                np.zeros(len(kernel)),
            )
            for t in range(len(raw))
        ]
    z = []
    for m in steps:
        read = []
        for s in steps:
            if s != m:
                cross, x = net.cross[f"{m}_{s}"], embed(steps[m])
                for layer in cross.layers:
                    x = attend(layer, x, embed(steps[s]), net.future_mask)
                read.append([norm(cross.norm, step) for step in x])
        joined = [np.concatenate(parts) for parts in zip(*read, strict=True)]
        memory, x = net.memory[m], embed(joined)
        for layer in memory.layers:
            x = attend(layer, x, x, net.future_mask)
        width = len(net.memory[m].norm.weight)
        z.append(norm(memory.norm, x[-1]) if x else np.zeros(width))
    z = np.concatenate(z)
    first, _, _, second = net.head.residual
    return z, linear(net.head.out, z + linear(second, np.maximum(linear(first, z), 0)))


@pytest.mark.parametrize("future_mask", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"layers": 2, "memory_layers": 2, "heads": 3, "kernel": {"language": 1, "audio": 3, "video": 5}},
        {"dim": 7, "heads": 1, "kernel": 3, "memory_layers": 3},
    ],
)
def test_equals_the_equations_step_by_step(options, future_mask):
    net, data = build(**options, future_mask=future_mask), batch()
    with torch.no_grad():
        for p in net.parameters():  # biases and norms begin at values that would hide their places
            p.add_(0.1 * torch.randn(p.shape))
        fusion = net(data)
    for row in range(4):
        z, prediction = slow(net, data, row)
        np.testing.assert_allclose(fusion.z[row].numpy(), z, atol=2e-5)
        np.testing.assert_allclose(fusion.prediction[row].numpy(), prediction, atol=2e-5)


def test_unimodal_representation_is_the_mean_of_projected_steps():
    net, data = build(), batch()
    fusion = net(data)
    audio = data.sequences["audio"].values[1, :2] @ net.project["audio"].conv.weight[:, :, 0].T
    torch.testing.assert_close(fusion.unimodal["audio"][1], audio.mean(0))
    assert (fusion.unimodal["audio"][2] == 0).all()


def test_future_mask_by_hand():
    """A target of 2 steps and a source of 4: two more, so step 0 reads three steps. A third row has no source."""
    allowed = find_reach(masks(2, 2, 2), masks(4, 2, 0), future_mask=True).allowed[:, 0].int().tolist()
    assert allowed[0] == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert allowed[1] == [[1, 0, 0, 0], [1, 1, 0, 0]]
    there = find_reach(masks(2, 2, 2), masks(4, 2, 0), future_mask=True).there
    assert there.flatten().tolist() == [1, 1, 0]
    without = find_reach(masks(2, 2, 2), masks(4, 2, 0), future_mask=False).allowed[:, 0].int().tolist()
    assert without[0] == [[1, 1, 1, 1]] * 2
    assert without[1] == [[1, 1, 0, 0]] * 2


@pytest.mark.parametrize("future_mask", [True, False])
def test_in_aligned_data_no_step_reads_a_later_one(future_mask):
    torch.manual_seed(0)
    cross = CrossModal(torch.nn.ModuleList([Layer(6, 2, 0.0, 0.0, 0.0) for _ in range(2)]), 6, 0.0)
    target, source, later = torch.randn(1, 5, 6), torch.randn(1, 5, 6), torch.randn(1, 5, 6)
    later[:, :3] = source[:, :3]
    among = find_reach(masks(5), masks(5), future_mask)
    before, after = cross(target, source, among), cross(target, later, among)
    assert torch.equal(before[:, :3], after[:, :3]) == future_mask
    assert not torch.equal(before[:, 3:], after[:, 3:])


def test_nothing_is_read_of_a_source_that_is_not_there():
    torch.manual_seed(0)
    cross = CrossModal(torch.nn.ModuleList([Layer(6, 2, 0.0, 0.0, 0.0)]), 6, 0.0)
    target, source = torch.randn(2, 5, 6), torch.randn(2, 3, 6, requires_grad=True)
    out = cross(target, source, find_reach(masks(5, 5), masks(3, 0), True))
    out.square().sum().backward()
    assert torch.isfinite(out).all()
    assert (source.grad[1] == 0).all()
    assert source.grad[0].abs().sum() > 0


def test_positions_by_hand():
    """dim 4: rates 1 and 1/10000; zeros in show the place alone, ones in show √4 = 2 more."""
    got = add_positions(torch.tensor([[[0.0] * 4, [1.0] * 4]]))[0]
    want = [[math.sin(1), math.sin(1e-4), math.cos(1), math.cos(1e-4)], [math.sin(2), math.sin(2e-4), math.cos(2), math.cos(2e-4)]]
    torch.testing.assert_close(got, torch.tensor(want) + torch.tensor([[0.0], [2.0]]))
    assert add_positions(torch.zeros(1, 3, 5))[0, :, 4].tolist() == [0.0, 0.0, 0.0]
    assert torch.isfinite(add_positions(torch.zeros(1, 2, 1))).all()
    torch.testing.assert_close(add_positions(torch.zeros(1, 1, 2))[0, 0], torch.tensor([math.sin(1), math.cos(1)]))
