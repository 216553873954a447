"""DMD: what its own terms are in cases derived by hand, and how wide it is."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from mdm.backbones.distillation import Distillation, margin_of_triplets
from mdm.backbones.dmd import DMD
from mdm.types import Batch, DataSpec, Feature, Sequence

FEATURES = {"language": Feature(6), "audio": Feature(5), "video": Feature(4)}


def spec(features=FEATURES):
    return DataSpec(features, ("y",), (-3.0, 3.0), (0.25,), aligned=False)


def batch():
    rng = torch.Generator().manual_seed(0)
    mask = torch.arange(4) < torch.tensor([4, 2, 3, 4, 1])[:, None]
    sequences = {m: Sequence(torch.randn(5, 4, f.dim, generator=rng), mask) for m, f in FEATURES.items()}
    label = torch.tensor([[1.0], [-2.0], [1.0], [0.0], [torch.nan]])
    return Batch(tuple("abcde"), sequences, label, 4)


def build(**options):
    torch.manual_seed(0)
    return DMD(spec(), **{"dim": 8, "heads": 2, "edges": (5, 4), **options}).eval()


def terms_of(backbone, b):
    encoded = backbone.encode(b)
    return backbone.own_terms(b, encoded, backbone.fuse(encoded))


def test_z_of_the_published_width():
    """9·50 numbers: six of private memories and three of common ones."""
    backbone = build(dim=50, heads=10)
    assert backbone.z_dim == 450
    assert backbone(batch()).z.shape == (5, 450)
    assert ((backbone(batch()).z > 0) & (backbone(batch()).z < 1)).all()


def test_a_decoder_that_returns_private_codes_equal_to_steps_costs_only_overlap():
    """D = [I, 0] and W_m = I: x̂ = x, W_m x̂ = s; with W = −I every cosine of s and c is −1, which costs nothing."""
    backbone = build(margin=0.0)
    with torch.no_grad():
        backbone.common.weight.copy_(-torch.eye(8))
        for m in FEATURES:
            backbone.private[m].weight.copy_(torch.eye(8))
            backbone.decode[m].weight.copy_(torch.cat([torch.eye(8), torch.zeros(8, 8)], 1))
        assert terms_of(backbone, batch())["decoupling"] < 1e-10
        backbone.decode["audio"].weight.zero_()
        b = batch()
        steps = backbone.encode(b)["audio"]["steps"]
        want = 0.1 * 2 * steps.values[steps.mask].square().mean()
        torch.testing.assert_close(terms_of(backbone, b)["decoupling"], want)
        overlap = build(margin=0.3)
        overlap.load_state_dict(backbone.state_dict(), strict=False)
        overlap.common.weight.copy_(torch.eye(8))
        for align in overlap.align.values():
            align.weight.zero_()
            align.bias.fill_(1.0)
        # Cosines of 1: three modalities' overlap, and triplets whose cosines are all 1 cost .15 |y_i − y_n| (labels 1, −2, 1, 0).
        triplets = 0.15 * (2 * (3 + 1) / 2 + (3 + 3 + 2) / 3 + (1 + 2 + 1) / 3) / 4
        torch.testing.assert_close(terms_of(overlap, b)["decoupling"], want + 0.1 * 0.3 * (3 + triplets))


def test_tasks_are_the_errors_of_seven_heads_on_labelled_rows():
    backbone, b = build(), batch()
    with torch.no_grad():
        for head in (*backbone.common_heads.values(), *backbone.private_heads.values(), backbone.joint_head):
            head.out.weight.zero_()
            head.out.bias.fill_(0.5)
        # |.5 − y| for 1, −2, 1, 0: mean 1.
        torch.testing.assert_close(terms_of(backbone, b)["tasks"], torch.tensor(7.0))


def test_terms_of_weight_0_are_left_out():
    backbone = build(tasks=0.0, distillation=0.0, decoupling=0.0)
    assert terms_of(backbone, batch()) == {}


def test_edges_sum_to_1_and_a_prior_prefers_language():
    torch.manual_seed(0)
    graph = Distillation(("language", "audio", "video"), 1, 6, 5, apart=True)
    edges = graph.find_edges(torch.randn(3, 7, 1), torch.randn(3, 7, 6))
    torch.testing.assert_close(edges.sum(0), torch.ones(7))
    assert graph.pairs == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    e = torch.tensor([0.0, 0.0, 4.0, 4.0, 4.0, 0.0]).exp()
    torch.testing.assert_close(graph.prior, e / e.sum())


@pytest.mark.parametrize("apart", [False, True])
def test_distillation_is_its_formula(apart):
    torch.manual_seed(0)
    graph = Distillation(("language", "audio", "video"), 2, 6, 5, apart)
    p, r = torch.randn(3, 7, 2), torch.randn(3, 7, 6)
    with torch.no_grad():
        edges = graph.find_edges(p, r)
        want = 10 * (edges.mean(1) - graph.prior).square().sum()
        for n, (j, i) in enumerate(itertools.permutations(range(3), 2)):
            weight = edges[n] + graph.prior[n]
            want += (weight * (p[j] - p[i]).abs().sum(1)).mean()
            if apart:
                want += 10 * F.cosine_similarity(r[j], r[i]).clamp(min=0).mean() * weight.mean()
        torch.testing.assert_close(graph(p, r), want)


def test_teachers_learn_nothing_from_their_pupils():
    """With edges that read nothing, only p_j of each pair has a gradient: that of a sum of signs."""
    graph = Distillation(("language", "audio"), 1, 2, 3)
    with torch.no_grad():
        graph.edge.weight.zero_()
    p = torch.tensor([[[2.0]], [[1.0]]], requires_grad=True)
    graph(p, torch.zeros(2, 1, 2)).backward()
    torch.testing.assert_close(p.grad.flatten(), torch.tensor([1.0, -1.0]) * (0.5 + graph.prior))


def triplets_by_hand(codes, label):
    flat = [(c, y) for row, y in zip(codes, label, strict=True) for c in row]
    each = []
    for i, (c, y) in enumerate(flat):
        near = [d for k, (d, z) in enumerate(flat) if k != i and torch.equal(z, y)]
        far = [(d, z) for d, z in flat if not torch.equal(z, y)]
        if near and far:
            cos = torch.nn.CosineSimilarity(dim=0)
            each.append(
                sum(max(0.0, 0.15 * float((y - z).abs().mean()) - cos(c, p) + cos(c, n)) for p in near for n, z in far)
                / (len(near) * len(far))
            )
    return torch.stack(each).mean()


def test_triplets_are_those_counted_one_by_one():
    torch.manual_seed(0)
    codes, label = torch.randn(5, 2, 4), torch.tensor([[1.0], [1.0], [-2.0], [0.5], [-2.0]])
    torch.testing.assert_close(margin_of_triplets(codes, label), triplets_by_hand(codes, label))


def test_codes_that_are_one_hot_by_label_cost_nothing():
    """Cosines 1 and 0, so that a margin of .15·|y_i − y_n| ≤ 1 is kept."""
    label = torch.tensor([[0.0], [1.0], [2.0], [0.0]])
    codes = torch.eye(3)[label.long().flatten()][:, None].expand(-1, 3, -1)
    assert margin_of_triplets(codes, label) == 0
    assert margin_of_triplets(codes[:1], label[:1]) == 0  # without a negative


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        ({"audio": Feature(5), "video": Feature(4)}, {}, "DMD needs language"),
        ({"language": Feature(6)}, {}, "DMD needs language and another modality"),
        (FEATURES, {"heads": 3}, "heads that divide dim"),
        (FEATURES, {"kernel": 2}, "odd kernels"),
        (FEATURES, {"edges": [3]}, "two numbers of edges"),
    ],
)
def test_what_cannot_be_built_is_refused(features, options, message):
    with pytest.raises(ValueError, match=message):
        DMD(spec(features), **options)
