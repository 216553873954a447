"""MulT's options: initial values, places of dropout, sizes, and refusals."""

import math
from dataclasses import replace

import pytest
import torch
from backbones.mult import batch, build, masks, spec

from mdm.backbones.mult import CrossModal, Layer, find_reach
from mdm.types import Feature, Sequence


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
