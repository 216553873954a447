"""BBFN: what its gates do to MulT's layer, what the discriminator costs, and how wide Z is."""

import math

import pytest
import torch

from mdm.backbones.bbfn import BBFN
from mdm.backbones.mult import find_reach
from mdm.types import Batch, DataSpec, Feature, Sequence

FEATURES = {"language": Feature(6), "audio": Feature(5), "video": Feature(4)}


def spec(features=FEATURES):
    return DataSpec(features, ("y",), (-3.0, 3.0), (0.25,), aligned=False)


def batch():
    rng = torch.Generator().manual_seed(0)
    mask = torch.arange(4) < torch.tensor([4, 2, 3])[:, None]
    sequences = {m: Sequence(torch.randn(3, 4, f.dim, generator=rng), mask) for m, f in FEATURES.items()}
    return Batch(tuple("abc"), sequences, torch.zeros(3, 1))


def build(**options):
    torch.manual_seed(0)
    return BBFN(spec(), **{"dim": 8, "heads": 2, **options}).eval()


def open_gates(layer, passed, kept):
    """Gates that are these shares for every segment: σ(b) with weights of 0."""
    for gate in layer.gates:
        gate.weight.zero_()
        for part, share in zip(gate.bias.chunk(2), (passed, kept), strict=True):
            part.fill_(math.log(share / (1 - share)) if share < 1 else 1e4)


def test_with_open_gates_a_layer_is_that_of_mult():
    model, b = build(), batch()
    layer = model.stacks["audio"][0]
    with torch.no_grad():
        open_gates(layer, 1, 1)
        steps = {m: model.encode(b)[m]["steps"] for m in ("language", "audio")}
        (language, audio), _ = layer(steps["language"], steps["audio"])
        for out, mult, (m, source) in (
            (language, layer.layers[0], ("language", "audio")),
            (audio, layer.layers[1], ("audio", "language")),
        ):
            want = mult(steps[m].values, steps[source].values, find_reach(steps[m], steps[source], False))
            torch.testing.assert_close(out.values, want)


def test_gates_weigh_what_was_read_and_what_was_there():
    """With feed-forward maps of 0: x ← .25·read + .75·x."""
    model, b = build(), batch()
    layer = model.stacks["video"][0]
    with torch.no_grad():
        open_gates(layer, 0.25, 0.75)
        for each in layer.layers:
            each.feed_forward[-1].weight.zero_()
        steps = {m: model.encode(b)[m]["steps"] for m in ("language", "video")}
        (language, _), _ = layer(steps["language"], steps["video"])
        read = layer.layers[0].read(steps["language"].values, steps["video"].values, find_reach(*steps.values(), False))
        torch.testing.assert_close(language.values, 0.25 * read + 0.75 * steps["language"].values)


def test_a_discriminator_that_tells_nothing_costs_log_two():
    """And one that tells language by logit 2 and the other by −1 costs (softplus(−2) + softplus(−1))/2."""
    model, b = build(discrimination=0.1), batch()
    encoded = model.encode(b)
    fusion = model.fuse(encoded)
    with torch.no_grad():
        for name, want in (("told_audio", math.log(2)), ("told_video", (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 2)):
            logits = [0.0, 0.0] if name == "told_audio" else [2.0, -1.0]
            fusion.parts[name].copy_(torch.tensor(logits * 2).expand(3, 4))
            assert float(model.own_terms(b, encoded, fusion)[name]) == pytest.approx(0.1 * want, rel=1e-6)
    assert build(discrimination=0.0).own_terms(b, encoded, fusion) == {}


def test_z_is_as_wide_as_published():
    """Four first steps of 40 numbers."""
    assert build(dim=40, heads=5, layers=5).z_dim == 160


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"audio": Feature(5), "video": Feature(4)}, "BBFN needs language"),
        ({"language": Feature(6)}, "at least one other modality"),
        ({"language": Feature(6), "audio": Feature(9, tokens=True)}, "audio as tokens"),
    ],
)
def test_data_that_it_cannot_read_are_refused(features, message):
    with pytest.raises(ValueError, match=message):
        BBFN(spec(features))


@pytest.mark.parametrize("options", [{"dim": 8, "heads": 3}, {"dim": 9, "heads": 3}, {"kernel": 2}], ids=str)
def test_widths_that_do_not_fit_are_refused(options):
    with pytest.raises(ValueError, match="BBFN needs an even dim that heads divide and odd kernels"):
        build(**options)
