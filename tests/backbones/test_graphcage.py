"""GraphCAGE: its published number of parameters, routing by hand, and what does not matter to its graphs."""

import pytest
import torch

from mdm.backbones.graphcage import GraphCAGE, vote_for_nodes, vote_for_one
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
    return GraphCAGE(spec(), **{"dim": 8, "nodes": 3, "capsule": 5, "max_steps": 6, **options}).eval()


def test_official_sizes_have_the_official_numbers_of_parameters():
    """MOSI of MulT's files: 35,929,491, of which 35,526,144 make sequences graphs."""
    features = {"language": Feature(300), "audio": Feature(5), "video": Feature(20)}
    steps = {"language": 50, "audio": 375, "video": 500}
    with torch.device("meta"):
        sizes = {"dim": 30, "heads": 5, "layers": 5, "nodes": 20, "capsule": 32, "capsules": "positional", "max_steps": steps}
        model = GraphCAGE(spec(features), **sizes)
    assert sum(p.numel() for p in model.graphs.parameters()) == 35_526_144
    assert sum(p.numel() for p in model.parameters()) == 35_929_491


def test_without_routing_every_step_votes_alike():
    """node_i = tanh(Σ_t p_{t,i}/n) over real steps."""
    votes, mask = torch.randn(2, 4, 3, 5), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool()
    want = torch.stack([votes[0].sum(0), votes[1, :2].sum(0)]).div(3).tanh()
    torch.testing.assert_close(vote_for_nodes(votes, mask, 0), want)
    torch.testing.assert_close(vote_for_one(votes[:, 0], 0), votes[:, 0].mean(1).tanh())


def test_a_round_of_routing_by_hand():
    """Two nodes, one step, capsules of one number p = (1, −1): node = tanh(±½), b = ½'s tanh for both, so c stays ½."""
    votes = torch.tensor([[[[1.0], [-1.0]]]])
    mask = torch.ones(1, 1, dtype=torch.bool)
    half = torch.tensor(0.5).tanh()
    torch.testing.assert_close(vote_for_nodes(votes, mask, 1)[0, :, 0], torch.stack([half, -half]))
    # p = (2, 0): node = (tanh 1, 0), b = (2 tanh 1, 0), c = σ(2 tanh 1) of node 1.
    votes = torch.tensor([[[[2.0], [0.0]]]])
    want = (2 * (2 * torch.tensor(1.0).tanh()).sigmoid()).tanh()
    torch.testing.assert_close(vote_for_nodes(votes, mask, 1)[0, :, 0], torch.stack([want, torch.tensor(0.0)]))


def test_routing_has_no_gradient_of_its_own():
    """∂node_i/∂p_{t,i} = c_{t,i}(1 − node²), c held."""
    votes = torch.randn(1, 2, 3, 1, dtype=torch.float64, requires_grad=True)
    nodes = vote_for_nodes(votes, torch.ones(1, 2, dtype=torch.bool), 2)
    (gradient,) = torch.autograd.grad(nodes.sum(), votes)
    shares = gradient[..., 0] / (1 - nodes[:, None, :, 0].square())
    torch.testing.assert_close(shares.sum(2), torch.ones(1, 2, dtype=torch.float64))


def test_the_order_of_nodes_does_not_matter():
    model, b, order = build(), batch(), torch.tensor([2, 0, 1])
    with torch.no_grad():
        before = model(b).z
        for graph in model.graphs.values():
            graph.weight.copy_(graph.weight[order])
        for weight in model.readouts:
            weight.copy_(weight[order])
        torch.testing.assert_close(model(b).z, before)


def test_without_queries_nodes_are_apart():
    """A = I: a node's convolution is a network of that node alone."""
    model = build()
    with torch.no_grad():
        graph = model.graphs["audio"]
        graph.query.weight.zero_()
        x, edges = graph(torch.randn(2, 4, 16), torch.ones(2, 4, dtype=torch.bool))
        assert torch.equal(edges, torch.eye(3).expand(2, -1, -1))
        layer = model.convolutions[0]
        torch.testing.assert_close(layer(x, edges)[:, 1:2], layer.outer(layer.inner(x[:, 1:2])).tanh())


def test_its_own_term_is_the_norm_of_its_matrices():
    model, b = build(penalty=0.1), batch()
    norms = sum(graph.weight.square().sum().sqrt() for graph in model.graphs.values())
    encoded = model.encode(b)
    torch.testing.assert_close(model.own_terms(b, encoded, model.fuse(encoded))["capsules"], 0.1 * norms)
    assert build(penalty=0).own_terms(b, encoded, model.fuse(encoded)) == {}


def test_what_it_cannot_be_built_of_is_refused():
    with pytest.raises(ValueError, match="GraphCAGE needs two modalities"):
        GraphCAGE(spec({"audio": Feature(5)}))
    with pytest.raises(ValueError, match="heads: expected a divisor of dim=8, got 3"):
        build(heads=3)
