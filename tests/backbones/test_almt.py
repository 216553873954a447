"""ALMT: its published number of parameters, what its hyper representation is, and what does not matter to it."""

import pytest
import torch
from torch.nn import functional as F

from mdm.backbones.almt import ALMT
from mdm.types import Batch, DataSpec, Feature, Sequence

FEATURES = {"language": Feature(6), "audio": Feature(5), "video": Feature(4)}


def spec(features=FEATURES):
    return DataSpec(features, ("y",), (-3.0, 3.0), (0.25,), aligned=False)


def batch():
    rng = torch.Generator().manual_seed(0)
    sequences = {
        m: Sequence(torch.randn(4, 3, f.dim, generator=rng), torch.ones(4, 3, dtype=torch.bool)) for m, f in FEATURES.items()
    }
    return Batch(tuple("abcd"), sequences, torch.zeros(4, 1))


def build(**options):
    torch.manual_seed(0)
    return ALMT(spec(), **{"dim": 16, "heads": 4, "max_steps": 5, **options}).eval()


@pytest.mark.parametrize(
    ("audio", "video", "steps", "fusion", "parameters"),
    [(5, 20, 375, 2, 2_603_649), (74, 35, 500, 4, 3_223_041)],
    ids=["MOSI", "MOSEI"],
)
def test_official_sizes_have_the_official_numbers_of_parameters(audio, video, steps, fusion, parameters):
    """Without BERT: its last layer, 768 wide, is read as vectors of language."""
    features = {"language": Feature(768), "audio": Feature(audio), "video": Feature(video)}
    sizes = {"dim": 128, "head_dim": 64, "feedforward": 128, "fusion_layers": fusion}
    backbone = ALMT(spec(features), **sizes, max_steps={"language": 50, "audio": steps, "video": 500})
    assert sum(p.numel() for p in backbone.parameters()) == parameters


def test_without_an_output_map_the_hyper_representation_is_normed_ones():
    """LN of equal numbers is its bias, so y is the last layer's bias, whatever the data."""
    backbone, seen = build(start="ones"), []
    backbone.fusion.register_forward_hook(lambda _, given, out: seen.append(given[0]))
    with torch.no_grad():
        for layer in backbone.hyper:
            layer.out.weight.zero_()
            layer.out.bias.zero_()
        backbone.hyper[-1].norm.bias.copy_(torch.arange(16.0))
        backbone(batch())
    torch.testing.assert_close(seen[0], torch.arange(16.0).expand(4, 8, 16))


def test_the_order_of_another_modalitys_tokens_does_not_matter():
    backbone, b = build(), batch()
    with torch.no_grad():
        encoded = backbone.encode(b)
        before = backbone.fuse(encoded)
        encoded["audio"]["tokens"] = encoded["audio"]["tokens"][:, torch.randperm(8)]
        torch.testing.assert_close(backbone.fuse(encoded).prediction, before.prediction)
        encoded["language"]["tokens"] = encoded["language"]["tokens"].flip(1)
        assert (backbone.fuse(encoded).prediction - before.prediction).abs().max() > 1e-4


def test_a_layer_of_the_hyper_representation_is_its_equation():
    """Head by head: LN(y) + W Σ_m softmax(q k_mᵀ/√d) v_m + b, with q of the guide."""
    backbone, (y, guide, a, v) = build(), torch.randn(4, 2, 8, 16)
    layer = backbone.hyper[0]
    with torch.no_grad():
        q = layer.query(layer.guide_norm(guide))
        read = torch.zeros_like(q)
        for m, tokens in (("audio", a), ("video", v)):
            k, value = layer.key_values[m](layer.norms[m](tokens)).chunk(2, 2)
            for head in range(4):
                here = slice(4 * head, 4 * head + 4)
                read[..., here] += F.softmax(q[..., here] @ k[..., here].transpose(1, 2) / 2, 2) @ value[..., here]
        want = layer.norm(y) + read @ layer.out.weight.T + layer.out.bias
        torch.testing.assert_close(layer(y, guide, {"audio": a, "video": v}), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"audio": Feature(5), "video": Feature(4)}, "ALMT needs language"),
        ({"language": Feature(6)}, "at least one other modality"),
        ({"language": Feature(6), "audio": Feature(9, tokens=True)}, "audio as tokens"),
    ],
)
def test_data_that_it_cannot_read_are_refused(features, message):
    with pytest.raises(ValueError, match=message):
        ALMT(spec(features))


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="heads: expected a divisor of dim=16, got 3"):
        build(heads=3)
