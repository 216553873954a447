"""Laws whose dependence is known: closed forms against one another and against samples, and what the best critic reads."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from mdm.data.gaussian import total_correlation
from mdm.estimators import DIVERGENCES
from mdm.penalties.dependency import Dependency
from mdm.seeds import generator
from mdm.studies.estimation.cells import (
    CriticCell,
    build_view,
    draw_batches,
    draw_rows,
    measure_slopes,
    read_exactly,
    read_out,
)
from mdm.studies.estimation.closed_forms import (
    bound_wasserstein,
    compute_divergence,
    draw_sigmoid_caps,
    find_truth,
    list_eigenvalues,
    log_ratio,
)


def cell(**keys):
    small = {"name": "critic", "setting": "fresh", "measure": "kl", "rho": 0.6, "modalities": 2, "dim": 2, "seed": 0, "penalty": {}}
    return CriticCell(
        **{**small, "marks": [5, 10], "batch_size": 16, "rows": None, "held_out": 64, "products": 2, "lr": 1e-2, **keys}
    )


# ---- closed forms


def test_spectrum_is_that_of_the_correlation_matrix():
    found = sorted(v for value, k in list_eigenvalues(0.3, 2, 3) for v in [value] * k)
    matrix = np.kron(0.7 * np.eye(3) + 0.3, np.eye(2))
    assert found == pytest.approx(list(np.linalg.eigvalsh(matrix)))


@pytest.mark.parametrize(("modalities", "rho"), [(2, 0.6), (2, -0.6), (3, 0.4), (3, -0.3)])
def test_kl_by_its_definition(modalities, rho):
    """½ Σ (λ − 1 − log λ), and Σ λ is the trace of a correlation matrix."""
    expected = sum(k * (v - 1 - math.log(v)) for v, k in list_eigenvalues(rho, 5, modalities)) / 2
    assert compute_divergence("kl", rho, 5, modalities) == pytest.approx(expected)
    assert (
        find_truth("kl", rho, 5, modalities)
        == find_truth("f", rho, 5, modalities)
        == (compute_divergence("kl", rho, 5, modalities),) * 2
    )


def test_divergences_of_two_modalities_by_their_formulas():
    """For d coordinates of correlation ρ: KL(Q‖P) = d[ρ²/(1−ρ²) + ½ log(1−ρ²)], ∫(p−q)²/q = (1−ρ²)^{−d} − 1, and
    ∫(√p−√q)² = 2 − 2[(1−ρ²)^¼/(1−ρ²/4)^½]^d; for d = 2, ρ = 0.6 that is 0.6787, 1.4414 and 2·0.12088."""
    rho, d = 0.6, 2
    assert compute_divergence("reverse_kl", rho, d, 2) == pytest.approx(d * (rho**2 / (1 - rho**2) + math.log(1 - rho**2) / 2))
    assert compute_divergence("pearson", rho, d, 2) == pytest.approx((1 - rho**2) ** -d - 1)
    hellinger = 2 - 2 * ((1 - rho**2) ** 0.25 / (1 - rho**2 / 4) ** 0.5) ** d
    assert compute_divergence("squared_hellinger", rho, d, 2) == pytest.approx(hellinger)
    found = [compute_divergence(name, rho, d, 2) for name in ("reverse_kl", "pearson", "squared_hellinger")]
    assert found == pytest.approx([0.6787, 1.4414, 2 * 0.12088], abs=1e-4)


def test_divergences_of_three_modalities_against_samples():
    """E_Q[f(p/q)], with p/q from `log_ratio`; E_Q[(p/q)²] is infinite once 1 + 2ρ ≥ 2."""
    x = torch.randn(400_000, 3, generator=generator(0, "samples"))
    ratio = log_ratio(x, 0.2, 1, 3).exp()
    for name, f in {
        "kl": ratio * ratio.log(),
        "reverse_kl": -ratio.log(),
        "pearson": (ratio - 1) ** 2,
        "squared_hellinger": (ratio.sqrt() - 1) ** 2,
    }.items():
        assert float(f.mean()) == pytest.approx(compute_divergence(name, 0.2, 1, 3), abs=5 * float(f.std()) / len(f) ** 0.5), name
    assert compute_divergence("pearson", 0.5, 1, 3) == math.inf


def test_what_has_no_closed_form_is_not_known():
    assert {name for name in DIVERGENCES if compute_divergence(name, 0.5, 2, 2) is None} == {"jensen_shannon", "total_variation"}
    assert find_truth("f", 0.5, 2, 2, "total_variation") == (None, None)


@pytest.mark.parametrize(
    ("modalities", "rho", "bounds"),
    [
        (2, 0.3, (0.951, 0.957)),
        (2, 0.6, (2.001, 2.012)),
        (2, 0.9, (3.452, 3.468)),
        (3, 0.3, (1.557, 1.563)),
        (3, 0.6, (3.145, 3.160)),
        (3, 0.9, (5.226, 5.248)),
    ],
)
def test_wasserstein_lies_between_a_witness_and_a_coupling(modalities, rho, bounds):
    """For d = 20; the upper ones printed here are means of samples. W2 = √(Σ (√λ−1)²) is above both."""
    lower, upper = bound_wasserstein(rho, 20, modalities)
    assert (lower, upper) == pytest.approx(bounds, abs=1.5e-3)
    assert lower < upper < math.sqrt(sum(k * (math.sqrt(v) - 1) ** 2 for v, k in list_eigenvalues(rho, 20, modalities)))


def test_the_coupling_against_samples():
    """E‖(Λ^½ − I) z‖ of 200,000 z."""
    stretch = np.concatenate([np.full(k, math.sqrt(v) - 1) for v, k in list_eigenvalues(0.7, 3, 3)])
    lengths = np.linalg.norm(stretch * np.random.default_rng(0).standard_normal((200_000, len(stretch))), axis=1)
    assert bound_wasserstein(0.7, 3, 3)[1] == pytest.approx(lengths.mean(), abs=5 * lengths.std() / len(lengths) ** 0.5)
    assert bound_wasserstein(0.0, 3, 3) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("modalities", "rho", "caps"),
    [
        (2, 0.1, (0.088, 0.045, 0.176)),
        (2, 0.5, (0.732, 0.471, 0.788)),
        (3, 0.3, (0.654, 0.414, 0.718)),
        (3, 0.9, (1, 1 - 1 / math.e, 1)),
    ],
)
def test_caps_of_a_sigmoid(modalities, rho, caps):
    """Computed apart, by other samples; where nothing can be confused, DV 1, NWJ 1 − 1/e and total variation 1."""
    assert tuple(draw_sigmoid_caps(rho, 20, modalities).values()) == pytest.approx(caps, abs=0.008)


# ---- rows


def test_rows_have_the_law_and_their_product_has_not():
    a = cell(modalities=3, dim=2, rho=0.4)
    x = draw_rows(a, 20_000, generator(0, "rows"))
    view = build_view(x, 2, generator(0, "shifts"))
    expected = np.kron(0.6 * np.eye(3) + 0.4, np.eye(2))
    assert np.cov(view.joint.z.T.numpy()) == pytest.approx(expected, abs=0.05)
    assert np.cov(view.product.z.T.numpy()) == pytest.approx(np.eye(6), abs=0.05)
    assert len(view.product.z) == 40_000


def test_no_row_keeps_a_partner():
    """Rows of the number of the row: none of the product has two modalities of one row."""
    x = torch.arange(5.0)[:, None, None].expand(5, 3, 1)
    for seed in range(20):
        z = build_view(x, 2, generator(seed, "shifts")).product.z
        assert all(len(set(row.tolist())) == 3 for row in z)


def test_streams_do_not_depend_on_rho_or_critic():
    """ρ = 0 is the normals themselves, and the first modality is the same for every ρ."""
    x, y = (draw_rows(cell(rho=rho), 10, generator(0, "rows")) for rho in (0.0, 0.6))
    assert torch.equal(x[:, 0], y[:, 0])
    a, b = (next(draw_batches(cell(name=name, penalty=penalty), 1)) for name, penalty in (("a", {}), ("b", {"hidden": 4})))
    assert torch.equal(a.joint.z, b.joint.z)
    assert torch.equal(a.product.z, b.product.z)


def test_fixed_rows_are_read_over_and_over():
    views = draw_batches(cell(rows=20), 1)
    seen = torch.cat([next(views).joint.z for _ in range(30)])
    assert len(seen.unique(dim=0)) == 20
    assert len(next(draw_batches(cell(rows=20), 1)).joint.z.unique(dim=0)) == 16


# ---- read-outs


class LogRatio(nn.Module):
    """The best critic."""

    def __init__(self, a, plus=0.0):
        super().__init__()
        self.a, self.plus = a, plus

    def prepare(self, z):
        return z

    def score(self, z):
        return log_ratio(z, self.a.rho, self.a.dim, self.a.modalities).float() + self.plus

    forward = score


@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize(("measure", "training", "plus"), [("kl", "bound", 5.0), ("f", "bound", 1.0), ("f", "logistic", 0.0)])
def test_the_best_critic_reads_the_truth(modalities, measure, training, plus):
    """Donsker–Varadhan whatever constant is added, NWJ at 1 + log p/q, or at log p/q where the penalty adds the 1.

    The variance of r under P is ½ Σ (λ−1)², that of e^r under Q ∏ (λ(2−λ))^{−½} − 1: for three modalities 0.96 and 2.9, so each
    mean has a standard error of 0.007.
    """
    a = cell(measure=measure, modalities=modalities, rho=0.4)
    rng = generator(0, "rows")
    view = build_view(draw_rows(a, 20_000, rng), 3, rng)
    penalty = Dependency(z_dim=2 * modalities, weight=1.0, measure=measure, training=training, output="linear", normalize=False)
    penalty.critic = LogRatio(a, plus)
    found = read_out(penalty, view)
    assert found == pytest.approx(read_exactly(a, view, "kl"), abs=1e-4)
    assert found == pytest.approx(total_correlation(0.4, 2, modalities), abs=0.05)


def test_other_divergences_are_read_at_their_best_critic():
    a = cell(measure="f", rho=0.4)
    rng = generator(0, "rows")
    view = build_view(draw_rows(a, 20_000, rng), 3, rng)
    for name in ("reverse_kl", "squared_hellinger", "pearson"):
        assert read_exactly(a, view, name) == pytest.approx(compute_divergence(name, 0.4, 2, 2), abs=0.06), name


def test_slopes_of_a_linear_critic():
    """T(z) = 3 z_1 − 4 z_2 has the slope 5 everywhere."""

    class Linear(LogRatio):
        def score(self, z):
            return 3 * z[:, 0] - 4 * z[:, 1]

    a = cell(measure="wasserstein", penalty={"training": "bound"})
    penalty = Dependency(z_dim=4, weight=1.0, measure="wasserstein", training="bound", normalize=False)
    penalty.critic = Linear(a)
    rng = generator(0, "rows")
    assert measure_slopes(penalty, build_view(draw_rows(a, 50, rng), 1, rng), rng) == pytest.approx((5.0, 5.0))
