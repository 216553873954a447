"""Dependence, flow and exchange of factors where they are known."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from made_factors import build_untrained
from sklearn.metrics import roc_auc_score

from mdm.data.lexicon import KINDS, VOCABULARY
from mdm.estimators import hsic
from mdm.studies.factors import dependence, exchange
from mdm.studies.factors.dependence import KERNELS, measure_depen
from mdm.studies.factors.exchange import Probe, measure_generation, split_variance
from mdm.studies.factors.gradient_flow import (
    SENTIMENT,
    differentiate,
    differentiate_all,
    rank_within,
    remove_position,
)
from mdm.studies.factors.inference import Inferred, average_generated, infer

ROOT = Path(__file__).resolve().parents[1]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rng():
    return np.random.default_rng(0)


# Figure 9a ----------------------------------------------------------------------------------------------


def population(rho, s):
    """HSIC of a bivariate normal for k = e^{−(a−b)²/2s} on both sides, by integrals of Gaussians."""
    joint = 1 / math.sqrt((1 + 2 / s) ** 2 - (2 * rho / s) ** 2)
    cross = s / (1 + s) / math.sqrt((1 + 1 / (1 + s)) ** 2 - (rho / (1 + s)) ** 2)
    return joint + 1 / (1 + 2 / s) - 2 * cross


@pytest.mark.parametrize("rho", [0.5, 0.9])
def test_the_literal_kernel_is_that_of_bandwidth_one(rho):
    x, noise = normal(1200, 1), normal(1200, 1, seed=1)
    value, null, p = measure_depen(x, rho * x + math.sqrt(1 - rho**2) * noise, "literal", 9, rng())
    truth = population(rho, 1) / population(1, 1)
    assert truth == pytest.approx({0.5: 0.1466, 0.9: 0.6964}[rho], abs=1e-4)
    assert value == pytest.approx(truth, abs=0.03)
    assert abs(null) < 0.01
    assert p == 1 / 10


@pytest.mark.parametrize("kernel", KERNELS)
def test_dependence_is_hsic(kernel):
    x = normal(60, 3)
    y = x[:, :2] + normal(60, 2, seed=1)
    scale, unbiased = KERNELS[kernel]
    value, _, _ = measure_depen(x, y, kernel, 1, rng())
    assert value == pytest.approx(float(hsic(x, y, scale, scale, unbiased=unbiased, normalized=True)), abs=1e-5)
    assert measure_depen(x, x, kernel, 1, rng())[0] == pytest.approx(1)


def test_a_collapsed_factor_is_a_constant():
    """Rows that differ by rounding of float32 only, which a median bandwidth would blow up."""
    y = normal(60, 3)
    x = 5 + 1e-7 * y
    assert measure_depen(x, y, "corrected", 1, rng()) == (0, 0, 1)
    assert float(hsic(x, y, normalized=True)) == 0
    assert float(hsic(5 + 1e-3 * y, y, normalized=True)) > 0.9


def test_a_permutation_is_of_rows():
    """The one permutation that is drawn, applied by hand."""
    x = normal(30, 3)
    y = x + normal(30, 3, seed=1)
    order = rng().permutation(30)
    expected = float(hsic(x[order].double(), y.double(), 2.0, 2.0, unbiased=False, normalized=True))
    assert measure_depen(x, y, "literal", 1, rng())[1] == pytest.approx(expected)


def test_the_literal_reading_of_independent_data_is_one():
    """Supplement F's bandwidth in 32 dimensions: 1 whatever comes, and 1 permuted; debiased it is 0."""
    x, y = normal(300, 32), normal(300, 20, seed=1)
    value, null, p = measure_depen(x, y, "literal", 19, rng())
    assert value > 0.999
    assert null == pytest.approx(value, abs=1e-4)
    corrected, null, p = measure_depen(x, y, "corrected", 99, rng())
    assert abs(corrected) < 0.02
    assert abs(null) < 0.005
    assert p > 0.05


def test_the_mean_over_permutations_has_a_closed_form():
    """tr(HKH) tr(HLH)/(n − 1) over the norms; 0 for the U-centred."""
    x, y = normal(40, 2), normal(40, 2, seed=1)
    grams = [dependence.normalise_gram(z, 2.0, False) for z in (x, y)]
    _, null, _ = measure_depen(x, y, "literal", 2000, rng())
    # The diagonal of centred_gram's argument is k − 1 = 0, which centring does not see.
    assert null == pytest.approx(float(grams[0].trace() * grams[1].trace()) / 39, rel=0.03)
    assert measure_depen(x, y, "corrected", 2000, rng())[1] == pytest.approx(0, abs=0.003)


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_is_constant_tells_nothing(kernel):
    assert measure_depen(torch.ones(20, 3), normal(20, 2), kernel, 9, rng()) == (0, 0, 1)


# Figure 9b ----------------------------------------------------------------------------------------------


def test_flow_of_a_linear_decoder_is_the_norm_of_its_matrices():
    """x̂^t = A_t f: ‖A_t‖²_F. The gradient of Σ_j x̂_j^t would give ‖1ᵀA_t‖², another number."""
    a = normal(5, 4, 3)
    found = differentiate(lambda f: torch.einsum("tdk,nk->ntd", a, f), normal(2, 3, seed=1))
    expected = a.double().square().sum((1, 2))
    assert found[0].numpy() == pytest.approx(expected.numpy(), rel=1e-6)
    assert torch.equal(found[0], found[1])
    wrong = a.sum(1).square().sum(1)
    assert (abs(wrong / expected - 1) > 0.1).all()


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    return build_untrained(tmp_path_factory.mktemp("fresh"))


@pytest.mark.parametrize("modality", ["language", "audio"])
def test_flow_is_the_norm_of_the_jacobian(fresh, modality):
    """Of every step, by reverse mode, a segment at a time; words by their probabilities."""
    of = infer(fresh, "valid")
    found = differentiate_all(fresh, of, modality)
    for i in (0, 3, 7):
        n = int(of.lengths[modality][i])
        own = of.parts[f"f_{modality}"][i : i + 1]

        def made(f_y, own=own, n=n):
            steps = fresh.backbone.decode(modality, {"f_y": f_y[None], f"f_{modality}": own}, torch.tensor([n]))[0]
            return steps.softmax(1) if modality == "language" else steps

        jacobian = torch.autograd.functional.jacobian(made, of.parts["f_y"][i])
        assert found[i, :n] == pytest.approx(jacobian.double().square().sum((1, 2)).numpy(), rel=1e-3)
        assert np.isnan(found[i, n:]).all()


def test_auc_is_sklearn_s_within_each_segment():
    generator = rng()
    score, real = generator.normal(size=(6, 9)).round(1), np.arange(9) < np.array([9, 7, 5, 9, 1, 8])[:, None]
    hit = (generator.random((6, 9)) < 0.4) & real
    hit[3] = False
    both = [i for i in range(6) if 0 < hit[i].sum() < real[i].sum()]
    expected = [roc_auc_score(hit[i, real[i]], score[i, real[i]]) for i in both]
    assert rank_within(score, hit, real) == pytest.approx(np.array(expected))
    assert len(both) == 3
    with pytest.raises(ValueError, match=r"no segment has both; use more segments"):
        rank_within(score[3:4], hit[3:4], real[3:4])


def test_what_position_explains():
    """A level for each segment and a course over t are all explained; what is added besides is what is left of it."""
    real = np.arange(8) < np.array([8, 5, 6, 8, 3])[:, None]
    course = np.arange(5.0)[:, None] - 0.7 * np.arange(8.0) ** 1.5
    share, rest = remove_position(course, real)
    assert share == pytest.approx(1)
    assert np.abs(rest[real]).max() < 1e-9
    assert np.isnan(rest[~real]).all()
    noise = rng().normal(size=real.shape)
    assert remove_position(course + noise, real)[1][real] == pytest.approx(remove_position(noise, real)[1][real], abs=1e-9)
    flat, rest = remove_position(np.zeros((5, 8)), real)
    assert flat == 0
    assert (rest[real] == 0).all()


def test_a_flow_that_knows_the_words_is_found():
    """Position hides it: flow falls by orders of magnitude, and at words of sentiment a little larger; without t it is seen."""
    generator, real = rng(), np.arange(12) < generator_lengths()[:, None]
    hit = (generator.random(real.shape) < 0.3) & real
    logs = -3.0 * np.arange(12) + 0.2 * hit + 0.01 * generator.normal(size=real.shape)
    _, rest = remove_position(logs, real)
    assert rank_within(rest, hit, real).mean() > 0.95
    assert rank_within(logs, hit, real).mean() < 0.65


def generator_lengths():
    return np.random.default_rng(1).integers(4, 13, size=60)


def test_words_of_sentiment_are_the_lexicon_s():
    assert {VOCABULARY[i] for i in SENTIMENT} == {word for words in KINDS[1:5] for word in words}
    assert {"terrible", "lovely", "brilliant", "dull"} & {VOCABULARY[i] for i in SENTIMENT} == {
        "terrible",
        "brilliant",
        "dull",
    }


# Conditional generation ---------------------------------------------------------------------------------


def test_shares_of_a_crossed_design():
    """s_ij = a_i + 2 b_j + c_i d_j, all signs balanced: variances 1, 4 and 1."""
    a = np.array([1.0, 1, -1, -1])
    other = np.array([1.0, -1, 1, -1])
    both = a[:, None] + 2 * a[None] + other[:, None] * other[None]
    assert split_variance(both[:, :, None]) == pytest.approx((1 / 6, 4 / 6, 1 / 6))
    two = np.stack([np.broadcast_to(a[:, None], (4, 4)), np.broadcast_to(3 * a[None], (4, 4))], axis=2)
    assert split_variance(two) == pytest.approx((0.1, 0.9, 0))
    assert all(math.isnan(share) for share in split_variance(np.ones((4, 4, 2))))


def test_a_probe_reads_what_is_there_and_takes_it_out():
    x = normal(500, 4).numpy() * np.array([1, 10, 100, 1], np.float32) + 5
    label = (x[:, 0] - x[:, 2] / 100).astype(np.float64)
    probe = Probe.fitted(x, label)
    assert exchange.r_squared(label, probe.read(x)) > 0.999
    assert np.corrcoef(x[:, 1], probe.rest(x)[:, 1])[0, 1] > 0.99  # what is not read stays
    assert np.abs(probe.rest(x) @ probe.weight).max() < 1e-9
    constant = Probe.fitted(np.ones((20, 3), np.float32), np.arange(20.0))
    assert constant.read(np.zeros((2, 3))) == pytest.approx([9.5, 9.5])


def test_correlation():
    x = np.array([1.0, 2, 4, 3])
    assert exchange.correlation(x, 3 - 2 * x) == pytest.approx(-1)
    assert exchange.correlation(x, x**2) == pytest.approx(np.corrcoef(x, x**2)[0, 1])
    assert math.isnan(exchange.correlation(x, np.ones(4)))


def test_generation_follows_the_factor_that_the_decoder_reads(fresh, monkeypatch):
    """Decoders that copy f_y into the first coordinate and f_m into the second; the label is the first mean frame."""
    of = infer(fresh, "train")
    n, width = len(of.label), {"language": len(VOCABULARY), "audio": 5, "video": 20}
    f_y, f_m = normal(n, 4, seed=2), normal(n, 3, seed=3)
    planted = Inferred(
        of.ids,
        f_y[:, 0].numpy().astype(np.float64),
        of.lengths,
        {"f_y": f_y, **{f"f_{m}": f_m for m in width}},
        {m: torch.nn.functional.pad(torch.stack([f_y[:, 0], 3 * f_m[:, 0]], 1), (0, d - 2)) for m, d in width.items()},
        of.words,
    )

    def decode(modality, parts, lengths):
        frame = torch.stack([parts["f_y"][:, 0], parts[f"f_{modality}"][:, 0]], 1)
        return torch.nn.functional.pad(frame, (0, width[modality] - 2))[:, None].expand(-1, int(lengths.max()), -1)

    monkeypatch.setattr(fresh.backbone, "decode", decode)
    rows = {(row["modality"], row["styles"]): row for row in measure_generation(fresh, planted, planted, 64)}
    found = rows["audio", "segments"]
    assert found["probe"] > 0.999
    assert found["weight_y"] == pytest.approx(1, abs=1e-3)
    assert found["weight_own"] == pytest.approx(0, abs=1e-3)
    assert found["sentiment_y"] > 0.999
    assert found["style_own"] > 0.999
    assert found["r2"] == pytest.approx(found["weight_y"] ** 2 + found["weight_own"] ** 2)
    assert math.isnan(rows["audio", "prior"]["weight_own"])
    assert measure_generation(fresh, planted, planted, 500) == list(rows.values())


def test_means_are_of_real_steps(fresh):
    """However far a batch is padded, and in whatever blocks it is decoded."""
    of = infer(fresh, "train")
    for m in ("language", "video"):
        made = average_generated(fresh, m, of.parts, of.lengths[m])
        one = {name: part[5:6] for name, part in of.parts.items()}
        steps = fresh.backbone.decode(m, one, of.lengths[m][5:6]).detach()[0]
        assert made[5].numpy() == pytest.approx((steps.softmax(1) if m == "language" else steps).mean(0).numpy(), abs=1e-5)
    feature = fresh.splits.spec.features["language"]
    ids = [feature.vocabulary.index(VOCABULARY[word]) for word in of.words[5]]
    shares = np.bincount(ids, minlength=feature.dim) / len(ids)
    assert of.means["language"][5].numpy() == pytest.approx(shares, abs=1e-6)
    (batch,) = fresh.batches("valid")
    frames = batch.sequences["video"]
    valid = infer(fresh, "valid")
    assert valid.means["video"][2].numpy() == pytest.approx(frames.values[2, frames.mask[2]].mean(0).numpy(), abs=1e-5)
