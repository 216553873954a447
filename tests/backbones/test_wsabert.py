"""WSA-BERT: sparsemax is a projection, words find their frames, and BERT reads what the gate makes of them."""

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn

from mdm.backbones.text import Pieces
from mdm.backbones.wsabert import WSABERT, Injection, masked_softmax, sparsemax
from mdm.types import Batch, DataSpec, Feature, Sequence

WORDS = Feature(9, tokens=True, vocabulary=tuple(f"w{i}" for i in range(9)))
FEATURES = {"language": WORDS, "audio": Feature(5), "video": Feature(4)}
LENGTHS = {"language": [3, 1, 4], "audio": [7, 2, 0], "video": [2, 6, 3]}
"""Unaligned, and the last row has no audio."""


def spec(**features):
    return DataSpec(features or FEATURES, ("y",), (-3.0, 3.0), (0.25,), False)


def build(**options):
    torch.manual_seed(0)
    return WSABERT(**{"spec": spec(), **options}).eval()


def batch(seed=0):
    rng = torch.Generator().manual_seed(seed)
    sequences = {}
    for m, feature in FEATURES.items():
        have = torch.tensor(LENGTHS[m])
        mask = torch.arange(int(have.max())) < have[:, None]
        size = (len(have), int(have.max()))
        if feature.tokens:
            values = torch.randint(2, feature.dim, size, generator=rng) * mask
        else:
            values = torch.randn(*size, feature.dim, generator=rng)
        sequences[m] = Sequence(values, mask)
    return Batch(("a", "b", "c"), sequences, torch.zeros(3, 1))


# ---- sparsemax


def nearest_on_simplex(z):
    """min ‖p − z‖² over the simplex by its faces: project on the plane of each, keep what lies in it, take the nearest."""
    best, distance = None, np.inf
    for size in range(1, len(z) + 1):
        for face in map(list, combinations(range(len(z)), size)):
            p = np.zeros(len(z))
            p[face] = z[face] - (z[face].sum() - 1) / size
            if p.min() >= 0 and ((p - z) ** 2).sum() < distance:
                best, distance = p, ((p - z) ** 2).sum()
    return best


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_sparsemax_is_the_nearest_point_of_the_simplex(scale):
    rng = np.random.default_rng(0)
    z = scale * rng.normal(size=(20, 6))
    got = sparsemax(torch.tensor(z, dtype=torch.float32), torch.ones(20, 6, dtype=torch.bool))
    want = np.stack([nearest_on_simplex(row) for row in z])
    np.testing.assert_allclose(got.numpy(), want, atol=1e-5)


@pytest.mark.parametrize(
    ("scores", "weights"),
    [
        ([1.0, 1.0, 1.0], [1 / 3, 1 / 3, 1 / 3]),
        ([2.0, 1.0, 0.1], [1.0, 0.0, 0.0]),
        ([1.0, 0.8, 0.1], [0.6, 0.4, 0.0]),
        ([0.5, 0.0], [0.75, 0.25]),
        ([0.2, 0.5, 0.3], [0.2, 0.5, 0.3]),
        ([4.0], [1.0]),
        ([1e6, 1e6 - 0.5, -1e30], [0.75, 0.25, 0.0]),
    ],
)
def test_sparsemax_by_hand(scores, weights):
    """Two scores that differ by t < 1 get (1 ± t)/2; a point of the simplex is its own; far scores change nothing."""
    got = sparsemax(torch.tensor(scores), torch.ones(len(scores), dtype=torch.bool))
    torch.testing.assert_close(got, torch.tensor(weights), atol=1e-6, rtol=0)


def test_the_jacobian_is_that_of_a_projection_on_the_support():
    """diag(s) − ssᵀ/|S|, with s the indicator of the support."""
    rng = torch.Generator().manual_seed(0)
    for _ in range(10):
        z = torch.randn(6, generator=rng)
        mask = torch.tensor([True, True, False, True, True, True])
        jacobian = torch.autograd.functional.jacobian(lambda z, mask=mask: sparsemax(z, mask), z)
        s = (sparsemax(z, mask) > 0).float()
        torch.testing.assert_close(jacobian, torch.diag(s) - torch.outer(s, s) / s.sum(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("weigh", [sparsemax, masked_softmax])
def test_weights_are_those_of_the_real_frames_alone(weigh):
    rng = torch.Generator().manual_seed(0)
    scores, mask = torch.randn(4, 3, 7, generator=rng), torch.rand(4, 1, 7, generator=rng) > 0.4
    mask[2] = False
    scores = scores.masked_fill(~mask, 1e9).requires_grad_()
    weights = weigh(scores, mask)
    assert (weights[~mask.expand_as(weights)] == 0).all()
    for i in (0, 1, 3):
        alone = weigh(scores[i][:, mask[i, 0]], torch.ones(int(mask[i].sum()), dtype=torch.bool))
        torch.testing.assert_close(weights[i][:, mask[i, 0]], alone)
        torch.testing.assert_close(weights[i].sum(-1), torch.ones(3))
    assert (weights[2] == 0).all()
    weights.square().sum().backward()
    assert torch.isfinite(scores.grad).all()
    assert (scores.grad[~mask.expand_as(scores)] == 0).all()


@pytest.mark.parametrize("weigh", [sparsemax, masked_softmax])
def test_weights_are_computed_in_full_precision(weigh):
    """In bfloat16 a sum of 400 weights would stop growing at 1/2: what is added is less than half of the last digit."""
    mask = torch.ones(400, dtype=torch.bool)
    for dtype in (torch.bfloat16, torch.float16):
        weights = weigh(torch.zeros(400, dtype=dtype), mask)
        assert weights.dtype == torch.float32
        torch.testing.assert_close(weights, torch.full((400,), 1 / 400))


# ---- attention, gate, BERT


@pytest.mark.parametrize("attention", ["sparse", "soft"])
def test_injection_is_its_equations_word_by_word(attention):
    """Eqs. 2–6 with loops: a score per frame, the weighted frame, gates, the displacement and its bound, the norm."""
    torch.manual_seed(0)
    injection = Injection(8, {m: f for m, f in FEATURES.items() if m != "language"}, attention, 0.7, 0.5, "sigmoid").eval()
    with torch.no_grad():
        for p in injection.parameters():
            p.copy_(torch.randn(p.shape) * 0.5)
        b, e = batch(), torch.randn(3, 5, 8)
        frames = {m: b.sequences[m] for m in ("audio", "video")}
        got = injection(e, frames)
        for i in range(3):
            for k in range(5):
                h = torch.zeros(8)
                for m, s in frames.items():
                    x = s.values[i][s.mask[i]]
                    found = torch.zeros(x.shape[1])
                    if len(x):
                        scores = torch.stack([e[i, k] @ (injection.keys[m].weight @ step) for step in x])
                        weights = (
                            torch.softmax(scores, 0)
                            if attention == "soft"
                            else torch.tensor(nearest_on_simplex(scores.double().numpy()), dtype=torch.float32)
                        )
                        found = sum(w * step for w, step in zip(weights, x, strict=True))
                    gate = torch.sigmoid(injection.gate.gates[m](torch.cat([found, e[i, k]])))
                    h = h + gate * injection.gate.project[m](found)
                alpha = min(0.7 * e[i, k].norm() / h.norm(), 1)
                want = nn.functional.layer_norm(e[i, k] + alpha * h, (8,), injection.gate.norm.weight, injection.gate.norm.bias)
                torch.testing.assert_close(got[i, k], want, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("pooling", ["pooler", "mean"])
def test_bert_reads_the_moved_embeddings(pooling):
    """By hand: embeddings, injection, then the layers with their own mask, then the pooling."""
    backbone, b = build(pooling=pooling), batch()
    with torch.no_grad():
        encoded = backbone.encode(b)
        fusion = backbone.fuse(encoded)
        pieces, bert = Pieces.of(encoded["language"]), backbone.text.model
        e = bert.embeddings(input_ids=pieces.ids)
        hidden = backbone.injection(e, {m: encoded[m]["frames"] for m in ("audio", "video")})
        blocked = torch.where(pieces.mask, 0.0, -1e30)[:, None, None]
        for layer in bert.encoder.layer:
            hidden = layer(hidden, blocked)
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        if pooling == "pooler":
            want = torch.tanh(bert.pooler.dense(hidden[:, 0]))
        else:
            want = torch.stack([hidden[i, : int(n)].mean(0) for i, n in enumerate(pieces.mask.sum(1))])
        torch.testing.assert_close(fusion.z, want, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(fusion.prediction, backbone.head[-1](want), atol=1e-5, rtol=1e-5)


def test_unimodal_representations_are_what_the_gate_adds_up():
    backbone, b = build(), batch()
    with torch.no_grad():
        unimodal = backbone(b).unimodal
        ids = b.sequences["language"].values[0]
        alone = backbone.text.model.embeddings(input_ids=torch.tensor([[9, *ids[:3].tolist(), 10]]))
        torch.testing.assert_close(unimodal["language"][0], alone[0, 1:4].mean(0))
        project = backbone.injection.gate.project["video"]
        torch.testing.assert_close(unimodal["video"][1], project(b.sequences["video"].values[1]).mean(0))
    assert (unimodal["audio"][2] == 0).all(), "no audio there"


def test_words_find_their_frames_wherever_they_are():
    """Frames are a set to each word: their order says nothing."""
    backbone, b = build(), batch()
    s = b.sequences["video"]
    order = torch.tensor([[1, 0, 2, 3, 4, 5], [4, 2, 0, 5, 1, 3], [2, 1, 0, 3, 4, 5]])
    moved = Sequence(s.values.gather(1, order[:, :, None].expand_as(s.values)), s.mask)
    with torch.no_grad():
        torch.testing.assert_close(backbone(Batch(b.ids, {**b.sequences, "video": moved}, b.label)).z, backbone(b).z)


def test_the_head_of_the_copy_has_three_layers():
    backbone = build(head="mlp")
    assert [(part.in_features, part.out_features) for part in backbone.head if isinstance(part, nn.Linear)] == [
        (64, 128),
        (128, 64),
        (64, 1),
    ]
    assert backbone.head[-1].bias.tolist() == [0.25]


def test_language_is_needed_as_text_and_the_rest_as_vectors():
    with pytest.raises(ValueError, match="WSA-BERT needs language, but the data have audio"):
        build(spec=spec(audio=Feature(5)))
    with pytest.raises(ValueError, match="needs text as words or tokens"):
        build(spec=spec(language=Feature(5), audio=Feature(5)))
    with pytest.raises(ValueError, match="needs vectors for what is not language, but audio comes as tokens"):
        build(spec=spec(language=WORDS, audio=Feature(5, tokens=True)))
