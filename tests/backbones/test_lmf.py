"""LMF: low-rank fusion is tensor fusion with a weight tensor of low rank."""

import math

import pytest
import torch
from torch import nn

from mdm.backbones.lmf import LMF, low_rank_fusion
from mdm.types import Batch, DataSpec, Feature, Sequence

DIMS, OUT, ROWS = {"language": 3, "audio": 2, "video": 4}, 5, 6
FEATURES = {"language": Feature(7), "audio": Feature(5), "video": Feature(4)}


def spec(**features):
    return DataSpec(features or FEATURES, ("y",), (-3.0, 3.0), (0.25,), False)


def build(**options):
    torch.manual_seed(0)
    return LMF(**{"spec": spec(), "language_hidden": 8, "hidden": 4, **options}).eval()


def batch(rows=ROWS, time=3):
    rng = torch.Generator().manual_seed(0)
    mask = torch.ones(rows, time, dtype=torch.bool)
    sequences = {m: Sequence(torch.randn(rows, time, f.dim, generator=rng), mask) for m, f in FEATURES.items()}
    return Batch(tuple(map(str, range(rows))), sequences, torch.zeros(rows, 1))


@pytest.fixture
def representations():
    rng = torch.Generator().manual_seed(1)
    return {m: torch.randn(ROWS, d, generator=rng, dtype=torch.float64) for m, d in DIMS.items()}


def tensor_fusion(representations, w, bias):
    """h = W · ([1; z_l] ⊗ [1; z_a] ⊗ [1; z_v]) + b, with W [d_l + 1, d_a + 1, d_v + 1, o] in full."""
    ones = torch.ones(ROWS, 1, dtype=torch.float64)
    a, b, c = (torch.cat([ones, z], 1) for z in representations.values())
    return torch.einsum("na,nb,nc,abco->no", a, b, c, w) + bias


@pytest.mark.parametrize("rank", [1, 2, 7])
def test_low_rank_fusion_is_tensor_fusion_with_a_sum_of_rank_one_tensors(representations, rank):
    """W = Σ_r w_r f_l^{(r)} ⊗ f_a^{(r)} ⊗ f_v^{(r)}, output by output."""
    rng = torch.Generator().manual_seed(rank)
    factors = {m: torch.randn(rank, d + 1, OUT, generator=rng, dtype=torch.float64) for m, d in DIMS.items()}
    weights, bias = (torch.randn(size, generator=rng, dtype=torch.float64) for size in (rank, OUT))
    w = sum(
        weight * factors["language"][r][:, None, None] * factors["audio"][r][None, :, None] * factors["video"][r][None, None]
        for r, weight in enumerate(weights)
    )
    got = low_rank_fusion(representations, factors, weights, bias)
    torch.testing.assert_close(got, tensor_fusion(representations, w, bias), atol=1e-9, rtol=1e-9)


def test_enough_rank_reproduces_any_weight_tensor(representations):
    """R = (d_l + 1)(d_a + 1): term (i, j) picks coordinates i and j of the first two and weighs the third by W[i, j]."""
    rng = torch.Generator().manual_seed(5)
    n, m, k = (d + 1 for d in DIMS.values())
    w = torch.randn(n, m, k, OUT, generator=rng, dtype=torch.float64)
    i, j = (index.flatten() for index in torch.meshgrid(torch.arange(n), torch.arange(m), indexing="ij"))
    factors = {
        "language": torch.eye(n, dtype=torch.float64)[i].unsqueeze(2).expand(-1, -1, OUT),
        "audio": torch.eye(m, dtype=torch.float64)[j].unsqueeze(2).expand(-1, -1, OUT),
        "video": w[i, j],
    }
    bias = torch.zeros(OUT, dtype=torch.float64)
    got = low_rank_fusion(representations, factors, torch.ones(n * m, dtype=torch.float64), bias)
    torch.testing.assert_close(got, tensor_fusion(representations, w, bias), atol=1e-9, rtol=1e-9)


def test_the_constant_lets_a_single_modality_speak():
    """All representations zero: h = Σ_r w_r ∏_m F_m^{(r)}[0] + b."""
    rng = torch.Generator().manual_seed(0)
    factors = {m: torch.randn(3, d + 1, OUT, generator=rng) for m, d in DIMS.items()}
    weights, bias = torch.randn(3, generator=rng), torch.randn(OUT, generator=rng)
    got = low_rank_fusion({m: torch.zeros(2, d) for m, d in DIMS.items()}, factors, weights, bias)
    constant = torch.stack([f[:, 0] for f in factors.values()]).prod(0)
    torch.testing.assert_close(got, (weights @ constant + bias).expand(2, -1))


def test_the_model_is_its_parts():
    backbone, b = build(z_dim=OUT, rank=3), batch()
    with torch.no_grad():
        fusion = backbone(b)
        unimodal = {m: encoder(b.sequences[m]) for m, encoder in backbone.encoders.items()}
        z = low_rank_fusion(unimodal, dict(backbone.factors.items()), backbone.rank_weights[0], backbone.bias)
        torch.testing.assert_close(fusion.unimodal, unimodal)
        torch.testing.assert_close(fusion.z, z)
        torch.testing.assert_close(fusion.prediction, backbone.head[-1](z))
    assert backbone.head[-1].bias.tolist() == [0.25]
    # z_l has half as many units as the LSTM; the others are as wide as their network.
    assert backbone.unimodal_dims == {"language": 4, "audio": 4, "video": 4}
    assert backbone.z_dim == OUT


def test_modalities_are_pooled_over_their_real_steps():
    backbone, b = build(), batch()
    s = b.sequences["audio"]
    s.mask[:, 2] = False
    with torch.no_grad():
        short = backbone.encoders["audio"](s)
        mean = Sequence(s.values[:, :2].mean(1, keepdim=True), torch.ones(ROWS, 1, dtype=torch.bool))
        torch.testing.assert_close(short, backbone.encoders["audio"](mean))


def test_running_statistics_see_joint_rows_only():
    """`encode` moves them, as far as its momentum goes; `fuse`, which also takes product rows, does not."""
    backbone, b = build().train(), batch()
    norm = backbone.encoders["audio"].norm
    encoded = backbone.encode(b)
    mean = b.sequences["audio"].values.mean(1).mean(0)
    torch.testing.assert_close(norm.running_mean, norm.momentum * mean)
    before = norm.running_mean.clone()
    backbone.fuse(encoded)
    assert torch.equal(norm.running_mean, before)


def test_unit_initialisation_has_a_constant_of_one_and_the_rest_of_variance_one_over_d():
    """400·4·64 normal draws have a standard deviation within 1 %."""
    backbone = build(rank=400, z_dim=64)
    for m, factor in backbone.factors.items():
        assert (factor[:, 0] == 1).all()
        assert float(factor[:, 1:].std().detach()) == pytest.approx(backbone.unimodal_dims[m] ** -0.5, rel=0.01)


def test_official_initialisation_is_xavier_of_the_tensor():
    """Xavier reads [R, d + 1, o] as fan-in (d + 1)·o and fan-out R·o: σ = √(2 / ((d + 1 + R)·o)). 10⁵ draws, within 1 %."""
    rank, out = 400, 64
    backbone = build(rank=rank, z_dim=out, init="official")
    for m, factor in backbone.factors.items():
        sigma = math.sqrt(2 / ((backbone.unimodal_dims[m] + 1 + rank) * out))
        assert float(factor.std().detach()) == pytest.approx(sigma, rel=0.01)


def test_unit_initialisation_gives_z_a_scale_that_official_does_not():
    """Three factors of scale (9·64/2)^−½ ≈ 0.06 multiply to less than 1e-3; the constants of 1 keep a sum over modalities."""
    with torch.no_grad():
        scale = {init: float(build(init=init, rank=4, z_dim=64)(batch()).z.std(0).mean()) for init in ("unit", "official")}
    assert scale["official"] < 1e-2
    assert scale["unit"] > 10 * scale["official"]


@pytest.mark.parametrize("options", [{"z_dim": 0}, {"rank": 0}, {"z_dim": -1}])
def test_what_cannot_be_built_is_refused(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"{name}="):
        build(**options)


def test_words_are_embedded_and_data_need_no_alignment():
    backbone = build(spec=spec(language=Feature(9, tokens=True), audio=Feature(5)), embedding_dim=3)
    assert isinstance(backbone.encoders["language"].steps.embedding, nn.Embedding)
    assert backbone.encoders["language"].lstm.input_size == 3
    words = Sequence(torch.randint(1, 9, (2, 4)), torch.ones(2, 4, dtype=torch.bool))
    sounds = Sequence(torch.randn(2, 7, 5), torch.ones(2, 7, dtype=torch.bool))
    b = Batch(("a", "b"), {"language": words, "audio": sounds}, torch.zeros(2, 1))
    with torch.no_grad():
        assert backbone(b).z.shape == (2, backbone.z_dim)


def test_without_a_head_the_fused_vector_is_the_prediction():
    backbone = build(z_dim=1, head="none")
    fusion = backbone(batch())
    assert fusion.prediction is fusion.z


def test_a_head_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"z_dim must be the number of targets \(1\), but is 3; set model\.backbone\.z_dim, or"):
        build(head="none", z_dim=3)


def test_each_place_of_dropout_has_its_rate():
    rates = {"language": 0.1, "audio": 0.2, "video": 0.3, "head": 0.4}
    backbone = build(dropout=rates)
    found = {m: next(x.p for x in encoder.modules() if isinstance(x, nn.Dropout)) for m, encoder in backbone.encoders.items()}
    assert found | {"head": backbone.head[0].p} == rates
    with pytest.raises(ValueError, match="dropout must be one number, or a number for each of language, audio, video, head"):
        build(dropout={"language": 0.1})
