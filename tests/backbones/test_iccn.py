"""ICCN: what its convolutions read, how many parameters it has, and what its own penalty raises."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch.nn import functional as F

from mdm import estimators
from mdm.backbones.iccn import ICCN
from mdm.penalties.base import View
from mdm.runs.members import make
from mdm.types import Batch, DataSpec, Feature, Sequence

FEATURES = {"language": Feature(6), "audio": Feature(5), "video": Feature(4)}


def spec(features=FEATURES):
    return DataSpec(features, ("y",), (-3.0, 3.0), (0.25,), aligned=False)


def batch(rows=4):
    rng = torch.Generator().manual_seed(0)
    sequences = {
        m: Sequence(torch.randn(rows, 3, f.dim, generator=rng), torch.ones(rows, 3, dtype=torch.bool)) for m, f in FEATURES.items()
    }
    return Batch(tuple(map(str, range(rows))), sequences, torch.zeros(rows, 1))


def build(**options):
    torch.manual_seed(0)
    return ICCN(spec(), **{"dim": 8, "channels": 4, "correlated": 2, **options}).eval()


def test_a_convolution_reads_the_outer_product():
    """Written out for one row: y = relu(conv(relu(conv(h_l h_mᵀ)))) with maxima of 2 × 2 between."""
    backbone, b = build(), batch()
    with torch.no_grad():
        encoded = backbone.encode(b)
        text, audio = encoded["language"]["h"][1], encoded["audio"]["h"][1]
        image = torch.tensor([[[[float(i * j) for j in audio] for i in text]]])
        first, second, last = (backbone.images["audio"].network[k] for k in (0, 3, 7))
        image = F.max_pool2d(F.conv2d(image, first.weight, first.bias, padding=1).relu(), 2)
        image = F.max_pool2d(F.conv2d(image, second.weight, second.bias, padding=1).relu(), 2)
        want = last.weight @ image.flatten() + last.bias
        torch.testing.assert_close(backbone.fuse(encoded).parts["text_audio"][1], want, atol=1e-6, rtol=1e-5)


def test_text_based_parts_depend_on_products_alone():
    """(2h_l)(h_m/2)ᵀ is h_l h_mᵀ, to the bit."""
    backbone, b = build(), batch()
    with torch.no_grad():
        encoded = backbone.encode(b)
        scaled = {m: {"h": part["h"] * (2.0 if m == "language" else 0.5)} for m, part in encoded.items()}
        before, after = backbone.fuse(encoded), backbone.fuse(scaled)
    for name in ("text_audio", "text_video"):
        assert torch.equal(before.parts[name], after.parts[name])
    assert not torch.equal(before.prediction, after.prediction)


def test_number_of_parameters():
    """LSTMs 4h(d + h + 2), h = 32 of language with a map to 8; norms; CNNs 10c + (9c + 1)c + (c·2² + 1)k; head of 8 + 2·2."""
    lstm = {m: 4 * h * (f.dim + h + 2) for (m, f), h in zip(FEATURES.items(), (32, 8, 8), strict=True)}
    cnn = 10 * 4 + (9 * 4 + 1) * 4 + (4 * 2**2 + 1) * 2
    assert sum(p.numel() for p in build().parameters()) == sum(lstm.values()) + 33 * 8 + 3 * 16 + 2 * cnn + 13


def test_its_own_penalty_is_the_correlation_of_its_text_based_parts():
    """With the numbers of its file: −weight·Σ_i σ_i of standardised columns, and its gradient reaches encoders of both."""
    with initialize_config_dir(str(Path(__file__).parents[2] / "configs"), version_base="1.3"):
        node = compose("train", ["model=iccn"]).model.own_penalty
    backbone = build().double()
    b = batch(40).to("cpu", dtype=torch.float64)
    encoded = backbone.encode(b)
    fusion = backbone.fuse(encoded)
    penalty = make(
        node.objective,
        z_dim=backbone.z_dim,
        weight=node.weight,
        unimodal_dims=backbone.unimodal_dims,
        part_dims=backbone.part_dims,
    )
    term = penalty(View(fusion, None, label=b.label))["term"]
    a, v = ((p - p.mean(0)) / p.std(0, correction=0) for p in (fusion.parts["text_audio"], fusion.parts["text_video"]))
    want = -node.weight * estimators.canonical_correlation(a, v, node.objective.ridge)
    torch.testing.assert_close(term.double(), want.double(), atol=1e-5, rtol=1e-5)
    term.backward()
    assert all(p.grad.abs().sum() > 0 for m in FEATURES for p in backbone.encoders[m].parameters())


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"audio": Feature(5), "video": Feature(4)}, "ICCN needs language"),
        ({"language": Feature(6)}, "at least one other modality"),
        ({"language": Feature(6), "audio": Feature(9, tokens=True)}, "audio as tokens"),
    ],
)
def test_data_that_it_cannot_read_are_refused(features, message):
    with pytest.raises(ValueError, match=message):
        ICCN(spec(features))
