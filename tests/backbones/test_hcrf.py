"""HCRF and its forms: sums over paths by brute force, identities of special cases, and which frames are joined."""

from itertools import product

import pytest
import torch

from mdm.backbones.hcrf import HCRF
from mdm.backbones.neighbours import join_neighbours
from mdm.types import Batch, DataSpec, Feature, Sequence

FEATURES = {"language": Feature(3), "audio": Feature(4), "video": Feature(2)}
LENGTHS = (5, 3, 1)


def spec(features=FEATURES, targets=("y",), aligned=True):
    return DataSpec(features, targets, (-1.0, 1.0), (0.0,) * len(targets), aligned)


def batch(features=FEATURES, lengths=LENGTHS, targets=1):
    rng = torch.Generator().manual_seed(0)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    sequences = {
        m: Sequence(torch.randn(*mask.shape, f.dim, generator=rng, dtype=torch.float64), mask) for m, f in features.items()
    }
    label = torch.rand(len(lengths), targets, generator=rng, dtype=torch.float64) * 2 - 1
    return Batch(tuple(map(str, range(len(lengths)))), sequences, label)


def build(features=FEATURES, targets=("y",), aligned=True, **options):
    torch.manual_seed(0)
    return HCRF(spec(features, targets, aligned), **options).double().eval()


def centre(log_z):
    return log_z - log_z.mean(-1, keepdim=True)


def by_hand(model, b, row, target):
    """log Z_y of every class as a sum over all joint paths, from the parameters as the equations name them."""
    (chain,), ((field,),) = model.chains, model.fields
    _, _, owned, states = model.shape
    length = int(b.sequences["language"].lengths[row])
    local = []  # view → [time, class or 1, state]
    for view in chain:
        scores = sum(model.scores[m].linear(b.sequences[m].values[row, :length]) for m in view)
        local.append(scores.unflatten(1, model.shape)[:, 0, target])
    classes = field.edge.shape[2]
    joint = list(product(range(states), repeat=len(chain)))
    totals = []
    for y in range(classes):
        paths = []
        for path in product(joint, repeat=length):
            score = torch.zeros((), dtype=torch.float64)
            for t, at in enumerate(path):
                for c, h in enumerate(at):
                    score = score + local[c][t, y if owned > 1 else 0, h]
                    if field.vertex is not None:
                        score = score + field.vertex[c, target, y, h]
                    if t > 0:
                        score = score + field.edge[c, target, y, path[t - 1][c], h]
                for weight, (c, d) in zip(field.link if field.links else [], field.links, strict=True):
                    score = score + weight[target, y, at[c], at[d]]
                if t > 0:
                    for weight, (c, d) in zip(field.couple if field.couplings else [], field.couplings, strict=True):
                        score = score + weight[target, y, path[t - 1][c], at[d]]
            paths.append(score)
        totals.append(torch.stack(paths).logsumexp(0))
    return torch.stack(totals)


@pytest.mark.parametrize(
    "options",
    [
        {"hidden": 3},
        {"hidden": 3, "states": "disjoint"},
        {"hidden": 2, "views": "multi", "topology": "linked_coupled"},
        {"hidden": 2, "views": "multi", "topology": "coupled", "states": "disjoint"},
    ],
    ids=str,
)
def test_z_sums_over_all_paths(options):
    """Two views of two states over four steps have 4⁴ paths; a chain of three states over five steps has 3⁵."""
    early = "views" not in options
    features = FEATURES if early else {m: FEATURES[m] for m in ("language", "video")}
    model, b = build(features, ("y", "w"), **options), batch(features, LENGTHS if early else (4, 3, 1), targets=2)
    with torch.no_grad():
        z = model(b).z.unflatten(1, (2, -1))
        for row, target in product(range(3), range(2)):
            torch.testing.assert_close(z[row, target], centre(by_hand(model, b, row, target)), atol=1e-12, rtol=0)


def test_without_edges_steps_are_apart():
    """log Z_y = Σ_t log Σ_h exp(s_t + V)."""
    model, b = build(hidden=3), batch()
    with torch.no_grad():
        field = model.fields[0][0]
        field.edge.zero_()
        steps = sum(model.scores[m].linear(b.sequences[m].values) for m in FEATURES)  # [row, time, state]
        each = (steps.unsqueeze(2) + field.vertex[0, 0]).logsumexp(3) * b.sequences["audio"].mask.unsqueeze(2)
        torch.testing.assert_close(model(b).z, centre(each.sum(1)), atol=1e-12, rtol=0)


def test_one_state_of_each_class_is_a_softmax_of_summed_frames():
    """p = softmax_y Σ_t ⟨U_y, x_t⟩ without edges, and the prediction is its mean of −1, 0, 1."""
    model, b = build(hidden=1, states="disjoint"), batch()
    with torch.no_grad():
        model.fields[0][0].edge.zero_()
        weight = torch.cat([model.scores[m].linear.weight for m in FEATURES], 1)
        frames = torch.cat([(b.sequences[m].values * b.sequences[m].mask.unsqueeze(2)).sum(1) for m in FEATURES], 1)
        p = (frames @ weight.T).softmax(1)
        torch.testing.assert_close(model(b).prediction, p @ torch.tensor([[-1.0], [0.0], [1.0]]).double(), atol=1e-12, rtol=0)


def test_of_one_shared_state_the_data_cancel():
    """log Z_y − log Z_y' = T(V_y − V_y') + (T − 1)(E_y − E_y'), whatever x is."""
    model, b = build(hidden=1), batch()
    field = model.fields[0][0]
    with torch.no_grad():
        length = torch.tensor(LENGTHS, dtype=torch.float64)[:, None]
        want = length * field.vertex[0, 0, :, 0] + (length - 1) * field.edge[0, 0, :, 0, 0]
        torch.testing.assert_close(model(b).z, centre(want), atol=1e-12, rtol=0)


@pytest.mark.parametrize("topology", ["linked", "coupled"])
def test_views_without_ties_are_summed(topology):
    """With L and couplings of 0 the exact sum over the product of states is that of each view alone."""
    tied, apart, b = build(hidden=3, views="multi", topology=topology), build(hidden=3, views="multi"), batch()
    with torch.no_grad():
        field = tied.fields[0][0]
        (field.link if topology == "linked" else field.couple).zero_()
        apart.scores.load_state_dict(tied.scores.state_dict())
        for c, (one,) in enumerate(apart.fields):
            one.vertex.copy_(field.vertex[c : c + 1])
            one.edge.copy_(field.edge[c : c + 1])
        torch.testing.assert_close(tied(b).z, apart(b).z, atol=1e-12, rtol=0)


def test_one_view_is_the_early_form():
    features = {"audio": Feature(4)}
    one, early = (build(features, hidden=3, **options) for options in ({"views": "multi", "topology": "linked"}, {}))
    early.load_state_dict(one.state_dict())
    torch.testing.assert_close(one(batch(features)).z, early(batch(features)).z)


def test_marginals_are_the_gradient_of_log_z():
    model, b = build(hidden=2, views="multi", topology="coupled"), batch()
    scores, mask = model._join([[model.encode(b)[m]["scores"]] for m in FEATURES])
    field = model.fields[0][0]
    there = mask.unsqueeze(1)
    nodes = field.find_nodes(scores[0]).detach().contiguous().requires_grad_()
    reached, total = field(nodes, there)
    (gradient,) = torch.autograd.grad(total.sum(), nodes)
    with torch.no_grad():
        marginals = field.find_marginals(nodes, there, reached, total)
    real = there[:, :, None, :, None].expand_as(nodes)
    torch.testing.assert_close(marginals[real], gradient[real], atol=1e-12, rtol=0)
    torch.testing.assert_close(marginals.sum(4), torch.ones_like(marginals[..., 0]))


@pytest.mark.parametrize("threshold", [0.0, 1e9], ids=["none joined", "all joined"])
def test_rows_of_which_no_step_or_every_step_is_joined_stop(threshold):
    """They have what the first layer says alone."""
    model, b = build(hidden=3, layers=3, threshold=threshold), batch()
    fusion = model(b)
    assert torch.equal(fusion.z, fusion.parts["layer_1"])
    assert (fusion.parts["layer_2"] == 0).all()


def test_an_upper_layer_reads_the_means_of_groups():
    """c a little above the least change joins those two neighbours alone; layer 2 is a field of one layer on the means."""
    features = {"audio": Feature(4)}
    model, b = build(features, hidden=3, layers=2), batch(features, (6,))
    with torch.no_grad():
        scores, mask = model._join([[model.encode(b)["audio"]["scores"]]])
        field, there = model.fields[0][0], mask.unsqueeze(1)
        nodes = field.find_nodes(scores[0])
        p = field.find_marginals(nodes, there, *field(nodes, there))
        change = (p[1:] - p[:-1]).abs().sum((2, 4)).flatten()
        model.threshold = 1.001 * float(change.min())
        group = torch.arange(6) - (torch.arange(6) > change.argmin()).long()
        means = torch.stack([b.sequences["audio"].values[0, group == g].mean(0) for g in range(5)])[None]
        one = build(features, hidden=3)
        one.scores["audio"].linear.weight.copy_(model.scores["audio"].linear.weight[3:])
        one.fields[0][0].load_state_dict(model.fields[0][1].state_dict())
        alone = one(Batch(("0",), {"audio": Sequence(means, torch.ones(1, 5, dtype=torch.bool))}, b.label))
        torch.testing.assert_close(model(b).parts["layer_2"], alone.z, atol=1e-12, rtol=0)
        torch.testing.assert_close(model(b).z, model(b).parts["layer_1"] + alone.z, atol=1e-12, rtol=0)


def test_groups_by_hand():
    """In order .05, .1, .2 pairs are joined and have τ .3, .35, .45; then .5 and .9 are above both sides' least. With .25 in the
    place of .5, it is within .3 and .35: the first four are one group, of τ .25 + .5/4."""
    assert join_neighbours([0.1, 0.5, 0.05, 0.9, 0.2], 0.5) == [0, 0, 1, 1, 2, 2]
    assert join_neighbours([0.1, 0.25, 0.05, 0.9, 0.2], 0.5) == [0, 0, 0, 0, 1, 1]
    assert join_neighbours([], 0.5) == [0]


def test_own_terms_are_the_likelihood_of_the_nearest_class():
    model, b = build(hidden=3), batch()
    encoded = model.encode(b)
    fusion = model.fuse(encoded)
    nearest = (b.label[:, 0].round() + 1).long()
    want = torch.nn.functional.cross_entropy(fusion.z, nearest)
    torch.testing.assert_close(model.own_terms(b, encoded, fusion)["layer_1"], want)


@pytest.mark.parametrize(
    ("options", "number"),
    [
        ({"hidden": 4}, 4 * 9 + 3 * 4 + 3 * 16),
        ({"hidden": 4, "states": "disjoint"}, 4 * 3 * 9 + 3 * 16),
        ({"hidden": 4, "views": "multi", "topology": "linked_coupled", "layers": 2}, 2 * (4 * 9 + 3 * (3 * 4 + (3 + 3 + 6) * 16))),
    ],
    ids=str,
)
def test_number_of_parameters(options, number):
    """Three classes, 9 coordinates; see the docstring."""
    assert sum(p.numel() for p in build(**options).parameters()) == number


@pytest.mark.parametrize(
    ("aligned", "options", "message"),
    [
        (True, {"topology": "linked"}, "topology: expected none with views=early"),
        (True, {"views": "multi", "layers": 2}, "layers: expected 1 with views=multi and topology=none"),
        (False, {}, "HCRF compares the modalities step by step"),
    ],
)
def test_forms_that_do_not_exist_are_refused(aligned, options, message):
    with pytest.raises(ValueError, match=message):
        build(aligned=aligned, **options)


def test_chains_apart_need_no_alignment():
    assert build(aligned=False, views="multi").z_dim == 3
