"""SAL-CNN: who gets noise and where, what the selection converges to, and its text network step by step."""

import pytest
import torch
from torch.nn import functional as F

from mdm.backbones.sal_cnn import SALCNN, TextCNN
from mdm.types import Batch, DataSpec, Feature, Sequence

FEATURES = {"language": Feature(8), "audio": Feature(5)}
IDS = ("a[0]", "a[1]", "b[0]", "b[1]", "b[2]", "c")


def spec(features=FEATURES):
    return DataSpec(features, ("y",), (-3.0, 3.0), (0.25,), False, IDS)


def batch(ids=IDS):
    rng = torch.Generator().manual_seed(0)
    sequences = {
        m: Sequence(torch.randn(len(ids), 4, f.dim, generator=rng), torch.ones(len(ids), 4, dtype=torch.bool))
        for m, f in FEATURES.items()
    }
    return Batch(ids, sequences, torch.zeros(len(ids), 1))


def build(**options):
    torch.manual_seed(0)
    return SALCNN(spec(), **{"channels": (3, 2), "hidden": 4, "dropout": 0.0, "z_dim": 6, **options})


def selected():
    """A model that has found speaker b in the first coordinate of audio."""
    backbone = build()
    with torch.no_grad():
        backbone.own["audio"][1, 0] = 2.0
    return backbone


def test_noise_is_where_the_speaker_was_found_and_as_large():
    """σ|δ|: standard deviation ½·2 = 1 in one coordinate of b, 0 elsewhere; of 20,000 draws it has an error of 1/√40,000."""
    backbone, u = selected(), torch.zeros(20_000, 4)
    torch.manual_seed(1)
    made = backbone._add_noise("audio", u, torch.ones(20_000, dtype=torch.long))
    assert abs(made[:, 0].std() - 1) < 5 / 200
    assert (made[:, 1:] == 0).all()
    for speaker in (0, 3):  # a, and one that training has not
        assert (backbone._add_noise("audio", u, torch.full((20_000,), speaker)) == 0).all()


def test_evaluation_has_no_noise():
    backbone, b = selected(), batch()
    noisy = backbone(b).prediction.flatten()
    backbone.eval()
    plain = backbone(b).prediction.flatten()
    assert torch.equal(plain, backbone(b).prediction.flatten())
    backbone.train()
    assert not torch.equal(noisy, backbone(b).prediction.flatten())


def test_no_selection_is_the_network_alone():
    backbone, b = build(selection=0.0), batch()
    assert not list(backbone.own.parameters())
    assert backbone.own_terms(b, backbone.encode(b), backbone(b)) == {}
    assert torch.equal(backbone(b).z, backbone(b).z)


def test_selection_finds_the_median_of_each_speaker():
    """Without sparsity c + δ_b is a median over b's segments: with three of them, the middle one; with one, that one."""
    backbone, b = build(sparsity=0.0), batch()
    backbone.eval()
    encoded = backbone.encode(b)
    fusion = backbone.fuse(encoded)
    learned = [*backbone.own.parameters(), *backbone.common.parameters()]
    rate = 0.05
    for step in range(1500):
        optimizer = torch.optim.SGD(learned, lr=rate * 40)
        optimizer.zero_grad()
        backbone.own_terms(b, encoded, fusion)["selection"].backward(retain_graph=True)
        optimizer.step()
        rate = 0.05 * (1 - step / 1500)
    for m in FEATURES:
        found = backbone.common[m] + backbone.own[m]
        torch.testing.assert_close(found[1], fusion.unimodal[m][2:5].median(0).values, atol=0.02, rtol=0)
        torch.testing.assert_close(found[2], fusion.unimodal[m][5], atol=0.02, rtol=0)


def test_great_sparsity_leaves_no_speaker():
    """|u − c − δ| falls by at most |δ|, so δ = 0 is the least for a weight of 1 or more, and one step from 0 comes back."""
    backbone, b = build(sparsity=1.5), batch()
    encoded = backbone.encode(b)
    fusion = backbone.fuse(encoded)
    with torch.no_grad():
        for m in FEATURES:
            at_zero = backbone.own_terms(b, encoded, fusion)["selection"]
            backbone.own[m].normal_()
            assert backbone.own_terms(b, encoded, fusion)["selection"] > at_zero
            backbone.own[m].zero_()


def test_selection_does_not_move_the_representation():
    backbone, b = selected(), batch()
    encoded = backbone.encode(b)
    backbone.own_terms(b, encoded, backbone.fuse(encoded))["selection"].backward()
    assert all(p.grad is None for p in backbone.encoders.parameters())


def test_the_text_network_is_its_convolutions_over_real_steps():
    torch.manual_seed(0)
    net, x, lengths = TextCNN(Feature(9), 0, (3, 2)), torch.randn(3, 5, 9), [5, 2, 0]
    with torch.no_grad():
        got = net(Sequence(x, torch.arange(5) < torch.tensor(lengths)[:, None]))
        for row, n in enumerate(lengths):
            if n == 0:
                assert (got[row] == 0).all()
                continue
            first = F.max_pool2d(net.first(x[row : row + 1, None, :n]), (1, 2)).tanh()
            second = F.max_pool2d(net.second(first), (1, 2)).tanh()
            torch.testing.assert_close(got[row], second.amax(2).flatten())
    assert net.dim == got.shape[1] == 2 * 2


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ValueError, match="channels: expected those of two convolutions"):
        build(channels=[3])
    with pytest.raises(ValueError, match="needs language of at least 4 coordinates"):
        SALCNN(spec({"language": Feature(3)}))
