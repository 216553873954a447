"""GPFN: what its convolutions and pools are where edges are known, and that steps have no order."""

import pytest
import torch

from mdm.backbones.gpfn import GPFN
from mdm.types import Batch, DataSpec, Feature, Sequence

FEATURES = {"language": Feature(6), "audio": Feature(5), "video": Feature(4)}


def batch():
    rng = torch.Generator().manual_seed(0)
    mask = torch.arange(4) < torch.tensor([4, 2, 3])[:, None]
    sequences = {m: Sequence(torch.randn(3, 4, f.dim, generator=rng), mask) for m, f in FEATURES.items()}
    return Batch(tuple("abc"), sequences, torch.zeros(3, 1))


def build(**options):
    torch.manual_seed(0)
    spec = DataSpec(FEATURES, ("y",), (-3.0, 3.0), (0.25,), aligned=False)
    return GPFN(spec, **{"dim": 8, "nodes": 3, **options}).eval()


def test_without_queries_a_convolution_is_a_map_of_each_node():
    """edges=relu: A = I. edges=softmax: A averages real nodes, so all are alike."""
    x, mask = torch.randn(2, 4, 8), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool()
    with torch.no_grad():
        for edges in ("relu", "softmax"):
            layer = build(edges=edges).joint
            layer.query.weight.zero_()
            mean = torch.stack([x[0].mean(0), x[1, :2].mean(0)]).unsqueeze(1).expand(-1, 4, -1)
            want = layer.map(x if edges == "relu" else mean).relu()
            out = layer(x, mask)
            torch.testing.assert_close(out[mask], want[mask])
            assert (out[~mask] == 0).all()


@pytest.mark.parametrize("edges", ["relu", "softmax"])
def test_edges_of_a_real_node_sum_to_one(edges):
    x, mask = torch.randn(2, 4, 8), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool()
    with torch.no_grad():
        a = build(edges=edges).joint.connect(x, mask)
    torch.testing.assert_close(a.sum(2)[mask], torch.ones(6))
    assert (a[1, :, 2:] == 0).all()


def test_without_scores_a_pool_is_the_mean():
    pool, x = build().pools["audio"], torch.randn(2, 4, 8)
    with torch.no_grad():
        pool.score.weight.zero_()
        torch.testing.assert_close(pool(x, torch.ones(2, 4, dtype=torch.bool)), x.mean(1, keepdim=True).expand(-1, 3, -1))


@pytest.mark.parametrize("edges", ["relu", "softmax"])
def test_the_order_of_steps_does_not_matter(edges):
    """Convolutions move with their nodes, and pools do not see an order."""
    model, b = build(edges=edges), batch()
    turned = {m: Sequence(s.values.flip(1), s.mask.flip(1)) for m, s in b.sequences.items()}
    with torch.no_grad():
        torch.testing.assert_close(model(Batch(b.ids, turned, b.label)).z, model(b).z)


def test_number_of_parameters():
    """Projections; for each of 2·3 + 1 convolutions 2d² of edges and (d + 1)d; pools; the head."""
    model = build(pooled=2, head=5)
    pools = 3 * 3 * 8 + 2 * 8
    assert sum(p.numel() for p in model.parameters()) == 15 * 8 + 7 * (2 * 64 + 72) + pools + (17 * 5 + 6)
