"""MulT: the vectorised network against one that walks row by row, step by step and head by head through the equations."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mdm.backbones.mult import CrossModal, Layer, MulT, add_positions, find_reach
from mdm.types import Batch, DataSpec, Feature, Sequence

WORDS = Feature(9, tokens=True, vocabulary=tuple(f"w{i}" for i in range(9)))
FEATURES = {"language": WORDS, "audio": Feature(5), "video": Feature(4)}
LENGTHS = {"language": [3, 1, 4, 0], "audio": [7, 2, 0, 3], "video": [2, 6, 3, 1]}
"""Unaligned; row 2 has no audio and row 3 no words."""


def spec(**features):
    return DataSpec(features or FEATURES, ("y", "w"), (-3.0, 3.0), (0.25, -1.0), False)


def build(**options):
    torch.manual_seed(0)
    return MulT(**{"spec": spec(), "dim": 6, "embedding_dim": 7, **options}).eval()


def batch(lengths=LENGTHS, seed=0):
    rng = torch.Generator().manual_seed(seed)
    sequences = {}
    for m, feature in FEATURES.items():
        have = torch.tensor(lengths[m])
        mask = torch.arange(int(have.max())) < have[:, None]
        if feature.tokens:
            values = torch.randint(2, feature.dim, mask.shape, generator=rng) * mask
        else:
            values = torch.randn(*mask.shape, feature.dim, generator=rng)
        sequences[m] = Sequence(values, mask)
    return Batch(tuple("abcd"), sequences, torch.zeros(4, 2))


# ---- the slow network: lists of numpy vectors, one row at a time


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


# ---- what a step may read


def masks(*lengths):
    time = max(lengths)
    return Sequence(torch.zeros(len(lengths), time, 1), torch.arange(time) < torch.tensor(lengths)[:, None])


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


# ---- options


def test_initial_values_are_those_of_one_matrix_for_queries_keys_and_values():
    """Xavier's range for 3·dim rows and dim columns is √(6 / 4dim); biases are 0."""
    layer = Layer(64, 4, 0.0, 0.0, 0.0)
    for linear in (layer.query, layer.key_value):
        assert 0.95 * math.sqrt(6 / 256) < linear.weight.abs().max() <= math.sqrt(6 / 256)
        assert (linear.bias == 0).all()
    assert 0.95 * math.sqrt(6 / 128) < layer.out.weight.abs().max() <= math.sqrt(6 / 128)


def test_each_dropout_is_where_it_belongs():
    net = build(
        attention_dropout={"language": 0.1, "audio": 0.2, "video": 0.3},
        memory_dropout=0.4,
        relu_dropout=0.5,
        residual_dropout=0.6,
        embedding_dropout=0.7,
        language_dropout=0.8,
        output_dropout=0.9,
    )
    assert {pair: c.layers[0].attention_dropout.p for pair, c in net.cross.items()} == {
        "language_audio": 0.2,
        "language_video": 0.3,
        "audio_language": 0.1,
        "audio_video": 0.3,
        "video_language": 0.1,
        "video_audio": 0.2,
    }
    for block in (*net.cross.values(), *net.memory.values()):
        assert block.dropout.p == 0.7
        assert (block.layers[0].feed_forward[3].p, block.layers[0].dropout.p) == (0.5, 0.6)
    assert {m.layers[0].attention_dropout.p for m in net.memory.values()} == {0.4}
    assert {m: p.dropout.p for m, p in net.project.items()} == {"language": 0.8, "audio": 0.0, "video": 0.0}
    assert net.head.residual[2].p == 0.9


def test_embedding_dropout_acts_on_target_and_source():
    cross, seen = CrossModal(torch.nn.ModuleList([Layer(6, 2, 0.0, 0.0, 0.0)]), 6, 0.5).train(), []
    cross.layers[0].register_forward_hook(lambda _, given, out: seen.extend(given[:2]))
    cross(torch.ones(1, 200, 6), torch.ones(1, 200, 6), find_reach(masks(200), masks(200), False))
    for entered in seen:
        assert set(entered.flatten().tolist()) == {0.0, 2.0}
        assert 0.4 < (entered == 0).float().mean() < 0.6
    assert not torch.equal(*seen)


def test_attention_dropout_drops_what_is_read_of_that_source_in_training_only():
    net = build(attention_dropout={"language": 0.0, "audio": 0.5, "video": 0.0}, residual_dropout=0.0, embedding_dropout=0.0)
    target, source, among = torch.randn(1, 5, 6), torch.randn(1, 5, 6), find_reach(masks(5), masks(5), False)
    for pair, varies in (("language_audio", True), ("language_video", False)):
        cross = net.cross[pair].train()
        assert torch.equal(cross(target, source, among), cross(target, source, among)) != varies
        assert torch.equal(cross.eval()(target, source, among), cross(target, source, among))


def test_sizes():
    """Each memory is as wide as what its modality reads from the others: Z has M(M − 1)·dim coordinates."""
    net = build(dim=6)
    assert (net.z_dim, net.unimodal_dims) == (36, {"language": 6, "audio": 6, "video": 6})
    assert build(spec=spec(audio=Feature(5), video=Feature(4))).z_dim == 12


def test_garbage_inside_an_absent_modality_does_not_matter():
    net, data = build(), batch()
    audio = data.sequences["audio"]
    values = audio.values.clone()
    values[2] = 1e4
    changed = replace(data, sequences={**data.sequences, "audio": Sequence(values, audio.mask)})
    assert torch.equal(net(data).z, net(changed).z)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"spec": spec(audio=Feature(5))}, "two modalities.* only audio"),
        ({"heads": 4}, "heads that divide dim.*dim=6, heads=4"),
        ({"dim": 0}, "dim=0"),
        ({"layers": 0}, "layers=0"),
        ({"memory_layers": 0}, "memory_layers=0"),
        ({"kernel": 2}, "odd kernels.*'audio': 2"),
        ({"kernel": {"language": 1, "audio": 0, "video": 1}}, "odd kernels"),
        ({"kernel": {"language": 1}}, "kernel must be one number, or a number for each"),
        ({"attention_dropout": {"text": 0.1}}, "attention_dropout must be one number"),
    ],
)
def test_refusals(options, match):
    with pytest.raises(ValueError, match=match):
        build(**options)
