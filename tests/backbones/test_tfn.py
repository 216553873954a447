"""TFN: its tensor by definition, and the identity with low-rank fusion in both directions."""

import itertools

import pytest
import torch
from torch import nn

from mdm.backbones.lmf import low_rank_fusion
from mdm.backbones.tfn import TFN, Bounded, CheapDropout, tensor_fusion
from mdm.types import Batch, DataSpec, Feature, Sequence

DIMS, OUT, ROWS = {"language": 3, "audio": 2, "video": 4}, 5, 6
FEATURES = {"language": Feature(7), "audio": Feature(5), "video": Feature(4)}


def spec(label_range=(-3.0, 3.0), label_mean=(0.25,), **features):
    return DataSpec(features or FEATURES, tuple(f"y{i}" for i in range(len(label_mean))), label_range, label_mean, False)


def build(**options):
    torch.manual_seed(0)
    return TFN(**{"spec": spec(), "z_dim": 9, "hidden": 8, "language_hidden": 6, "language_out": 3, **options}).eval()


def batch(rows=ROWS, time=3):
    rng = torch.Generator().manual_seed(0)
    mask = torch.ones(rows, time, dtype=torch.bool)
    sequences = {m: Sequence(torch.randn(rows, time, f.dim, generator=rng), mask) for m, f in FEATURES.items()}
    return Batch(tuple(map(str, range(rows))), sequences, torch.zeros(rows, 1))


@pytest.fixture
def representations():
    rng = torch.Generator().manual_seed(1)
    return {m: torch.randn(ROWS, d, generator=rng, dtype=torch.float64) for m, d in DIMS.items()}


def test_the_tensor_is_all_products_last_modality_fastest(representations):
    got = tensor_fusion(representations.values())
    n, m, k = (d + 1 for d in DIMS.values())
    assert got.shape == (ROWS, n * m * k)
    with_one = [[[1.0, *row] for row in z.tolist()] for z in representations.values()]
    for row, a, b, c in itertools.product(range(ROWS), range(n), range(m), range(k)):
        expected = with_one[0][row][a] * with_one[1][row][b] * with_one[2][row][c]
        assert float(got[row, (a * m + b) * k + c]) == pytest.approx(expected, rel=1e-12)


def test_the_ones_keep_each_modality_and_each_pair(representations):
    """Coordinates with index 0 elsewhere are the modality itself; all representations zero leave one coordinate."""
    tensor = tensor_fusion(representations.values()).unflatten(1, [d + 1 for d in DIMS.values()])
    language, audio, video = representations.values()
    assert torch.equal(tensor[:, 1:, 0, 0], language)
    assert torch.equal(tensor[:, 0, 1:, 0], audio)
    assert torch.equal(tensor[:, 0, 0, 1:], video)
    torch.testing.assert_close(tensor[:, 1:, 0, 1:], language[:, :, None] * video[:, None, :])
    empty = tensor_fusion([torch.zeros(1, d) for d in DIMS.values()])
    assert empty[0].nonzero().tolist() == [[0]]
    assert empty[0, 0] == 1


@pytest.mark.parametrize("rank", [1, 4])
def test_low_rank_fusion_is_a_linear_map_of_the_tensor(representations, rank):
    """LMF → TFN: W = Σ_r w_r F_l^{(r)} ⊗ F_a^{(r)} ⊗ F_v^{(r)}, in the order of the tensor's coordinates."""
    rng = torch.Generator().manual_seed(rank)
    factors = {m: torch.randn(rank, d + 1, OUT, generator=rng, dtype=torch.float64) for m, d in DIMS.items()}
    weights, bias = (torch.randn(size, generator=rng, dtype=torch.float64) for size in (rank, OUT))
    w = torch.einsum("r,rao,rbo,rco->oabc", weights, *factors.values()).flatten(1)
    got = nn.functional.linear(tensor_fusion(representations.values()), w, bias)
    torch.testing.assert_close(got, low_rank_fusion(representations, factors, weights, bias), atol=1e-9, rtol=1e-9)


def test_a_linear_map_of_the_tensor_is_low_rank_fusion_with_a_term_for_each_coordinate(representations):
    """TFN → LMF: term (a, b, c) is e_a ⊗ e_b ⊗ W[·, a, b, c]·e_c, so any W is a sum of rank-one terms."""
    rng = torch.Generator().manual_seed(2)
    sizes = [d + 1 for d in DIMS.values()]
    coordinates = list(itertools.product(*map(range, sizes)))
    layer = nn.Linear(len(coordinates), OUT, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=rng))
    factors = {m: torch.zeros(len(coordinates), n, OUT, dtype=torch.float64) for m, n in zip(DIMS, sizes, strict=True)}
    for r, (a, b, c) in enumerate(coordinates):
        factors["language"][r, a] = 1
        factors["audio"][r, b] = 1
        factors["video"][r, c] = layer.weight[:, r].detach()
    with torch.no_grad():
        weights = torch.ones(len(coordinates), dtype=torch.float64)
        got = low_rank_fusion(representations, factors, weights, layer.bias)
        torch.testing.assert_close(got, layer(tensor_fusion(representations.values())), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("output", ["bounded", "linear"])
def test_the_model_is_its_parts(output):
    backbone, b = build(output=output), batch()
    with torch.no_grad():
        fusion = backbone(b)
        unimodal = {m: encoder(b.sequences[m]) for m, encoder in backbone.encoders.items()}
        first, second = backbone.after[1], backbone.after[3]
        z = torch.relu(second(torch.relu(first(tensor_fusion(unimodal.values())))))
        torch.testing.assert_close(fusion.unimodal, unimodal)
        torch.testing.assert_close(fusion.z, z)
        linear = backbone.head.linear if output == "bounded" else backbone.head
        y = z @ linear.weight.T + linear.bias
        torch.testing.assert_close(fusion.prediction, 6 / (1 + torch.exp(-y)) - 3 if output == "bounded" else y)
    assert backbone.z_dim == 9
    assert backbone.unimodal_dims == {"language": 3, "audio": 8, "video": 8}


def test_bounded_output_starts_at_the_mean_and_stays_within_the_labels_range():
    """At Z = 0 the mean of each target is predicted, here in [1, 5]; one at an end of the range starts 1 % inside it."""
    head = Bounded(4, spec((1.0, 5.0), (2.0, 4.5, 5.0)))
    with torch.no_grad():
        torch.testing.assert_close(head(torch.zeros(1, 4)), torch.tensor([[2.0, 4.5, 4.96]]))
        assert head(torch.full((1, 4), 1e4)).clamp(1, 5).equal(head(torch.full((1, 4), 1e4)))


@pytest.mark.parametrize(
    ("size", "hidden", "language_out"),
    [(70_785, {"audio": 32, "video": 32}, 64), (5_525, {"audio": 4, "video": 16}, 64), (140_481, {"audio": 32, "video": 128}, 32)],
    ids=["official", "re-implementation", "MMSA on MOSI"],
)
def test_published_widths_have_the_published_tensor(size, hidden, language_out):
    backbone = build(hidden=hidden, language_out=language_out, z_dim=1)
    assert backbone.after[1].in_features == size


@pytest.mark.parametrize("output", ["bounded", "linear"])
def test_every_dropout_is_where_its_option_says(output):
    backbone = build(output=output, dropout=0.11, language_dropout=0.22, tensor_dropout=0.33)
    assert {name: m.p for name, m in backbone.named_modules() if isinstance(m, nn.Dropout)} == {
        "encoders.language.project.0": 0.22,
        "encoders.audio.project.0": 0.11,
        "encoders.video.project.0": 0.11,
        "after.0": 0.33,
    }


@pytest.mark.parametrize("p", [0.3, 0.5])
def test_cheap_dropout_is_dropout(p):
    """Each of four coordinates that share a draw is kept with 1 − p, on its own; what is kept is divided by 1 − p."""
    torch.manual_seed(0)
    drop, x = CheapDropout(p), torch.full((250, 401), 2.0, requires_grad=True)
    out = drop(x)
    kept = out != 0
    torch.testing.assert_close(out[kept], torch.full_like(out[kept], 2 / (1 - p)))
    out.sum().backward()
    torch.testing.assert_close(x.grad, kept / (1 - p))
    draws = kept.flatten()[: kept.numel() // 4 * 4].view(-1, 4).double()
    # 25,062 draws: a share is within 5 standard deviations of its mean.
    bound = 5 * (p * (1 - p) / len(draws)) ** 0.5
    assert (draws.mean(0) - (1 - p)).abs().max() < bound
    correlation = torch.corrcoef(draws.T) - torch.eye(4)
    assert correlation.abs().max() < 5 / len(draws) ** 0.5
    assert not torch.equal(out, drop(x))


def test_cheap_dropout_draws_from_the_global_generator_and_rests_in_evaluation():
    x = torch.randn(3, 10)
    drop = CheapDropout(0.5)
    torch.manual_seed(3)
    first = drop(x)
    torch.manual_seed(3)
    assert torch.equal(drop(x), first)
    assert torch.equal(drop.eval()(x), x)
    assert torch.equal(CheapDropout(0.0)(x), x)
    assert (CheapDropout(1.0)(x) == 0).all()


def test_running_statistics_see_joint_rows_only():
    backbone, b = build().train(), batch()
    norm = backbone.encoders["audio"].norm
    encoded = backbone.encode(b)
    mean = b.sequences["audio"].values.mean(1).mean(0)
    torch.testing.assert_close(norm.running_mean, norm.momentum * mean)
    before = norm.running_mean.clone()
    backbone.fuse(encoded)
    assert torch.equal(norm.running_mean, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"z_dim": 0}, "z_dim=0"),
        ({"hidden": 0}, "'audio': 0"),
        ({"language_out": -1}, "language_out=-1"),
        ({"hidden": {"audio": 4}}, "a number for each of audio, video, but is"),
    ],
)
def test_what_cannot_be_built_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
