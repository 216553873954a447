"""What every estimator keeps to: finite on degenerate samples, in single precision at least, and refusing what it cannot take."""

import inspect

import pytest
import torch

from mdm import estimators
from mdm.estimators import (
    DIVERGENCES,
    barber_agakov,
    canonical_correlation,
    central_moment_discrepancy,
    club,
    donsker_varadhan,
    f_divergence,
    gaussian_entropy,
    gaussian_mixture_entropy,
    hsic,
    info_nce,
    kantorovich_rubinstein,
    logistic_loss,
    mardia_kurtosis,
    median_scale,
    mmd2,
    mmd2_to_standard_normal,
    nwj,
    orthogonality,
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


SAMPLES = {
    "barber_agakov": lambda x, y: barber_agakov(x, y, x),
    "club": lambda x, y: club(x, y, y),
    "info_nce": lambda x, y: info_nce(x[:, :1] + y[:, 1:2].T),
    "gaussian_entropy": lambda x, y: gaussian_entropy(x) + gaussian_entropy(y, "diagonal"),
    "gaussian_mixture_entropy": lambda x, y: gaussian_mixture_entropy([x, y]),
    "mmd2": lambda x, y: mmd2(x, y, (1.0, 4.0), unbiased=len(x) > 1),
    "mmd2_biased": lambda x, y: mmd2(x, y, (1.0, 4.0), unbiased=False),
    "mmd2_to_standard_normal": lambda x, y: mmd2_to_standard_normal(x, 4.0) + mmd2_to_standard_normal(y, 4.0),
    "canonical_correlation": canonical_correlation,
    "central_moment_discrepancy": central_moment_discrepancy,
    "hsic": hsic,
    "hsic_normalized": lambda x, y: hsic(x, y, 2.0, None, normalized=True),
    "hsic_biased": lambda x, y: hsic(x, y, 2.0, None, unbiased=False),
    "hsic_biased_normalized": lambda x, y: hsic(x, y, unbiased=False, normalized=True),
    "mardia_kurtosis": lambda x, y: mardia_kurtosis(x) + mardia_kurtosis(y, ridge=0.1),
    "mardia_kurtosis_of_given_moments": lambda x, y: mardia_kurtosis(x, y.mean(0), torch.eye(x.shape[1])),
    "orthogonality": orthogonality,
    "orthogonality_gram": lambda x, y: orthogonality(x, y, "gram"),
}
DEGENERATE = {
    "equal": lambda: [torch.randn(5, 3, generator=torch.Generator().manual_seed(0))] * 2,
    "zero": lambda: [torch.zeros(5, 3)] * 2,
    "constant": lambda: [torch.ones(5, 3), torch.full((5, 3), -2.0)],
    "one row": lambda: [torch.ones(1, 3), torch.zeros(1, 3)],
}
FEWEST_ROWS = {"canonical_correlation": 2, "hsic": 4, "hsic_normalized": 4, "hsic_biased": 2, "hsic_biased_normalized": 2}
CASES = [
    (name, sample)
    for name in SAMPLES
    for sample in DEGENERATE
    # Fewer rows, or a covariance of nothing, are refused.
    if not (sample == "one row" and name in FEWEST_ROWS) and (name != "mardia_kurtosis" or sample == "equal")
]


def test_every_estimator_has_its_case():
    critics = {
        "DIVERGENCES",
        "DivergenceName",
        "donsker_varadhan",
        "f_divergence",
        "kantorovich_rubinstein",
        "logistic_loss",
        "nwj",
    }
    assert set(estimators.__all__) - critics - {"median_scale"} <= set(SAMPLES)


@pytest.mark.parametrize(("name", "sample"), CASES)
def test_values_and_gradients_are_finite_where_samples_are_degenerate(name, sample):
    x, y = (s.clone().requires_grad_() for s in DEGENERATE[sample]())
    value = SAMPLES[name](x, y)
    assert value.shape == ()
    gradients = torch.autograd.grad(value, [x, y])
    assert torch.isfinite(value)
    assert all(torch.isfinite(g).all() for g in gradients)
    if sample in ("equal", "zero") and name in ("mmd2_biased", "central_moment_discrepancy"):
        assert float(value.detach()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", SAMPLES)
def test_half_precision_is_only_that_of_the_numbers_given(name):
    """Under autocast, and on half-precision numbers, the value is that of the same numbers in double precision."""
    x, y = (normal(40, 6, seed=i).bfloat16() for i in (0, 1))
    if name == "info_nce":
        y = torch.zeros_like(y)  # its scores are sums, which would be rounded before they are given
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, exact = SAMPLES[name](x, y), SAMPLES[name](x.double(), y.double())
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(float(exact), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("estimator", [donsker_varadhan, nwj, kantorovich_rubinstein, logistic_loss, *DIVERGENCES])
def test_values_of_a_critic_in_half_precision_are_averaged_in_single(estimator, dtype):
    """300 values; a sum in half precision would stop growing before they are all in."""
    joint, prod = (normal(300, seed=i).to(dtype) for i in (0, 1))
    if isinstance(estimator, str):
        joint, prod = (v / 2 for v in (joint, prod))  # p/q in its square

    def value(p, q):
        return f_divergence(p, q, estimator, log_ratio=True) if isinstance(estimator, str) else estimator(p, q)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = value(joint, prod)
    assert got.dtype == torch.float32
    assert float(got) == pytest.approx(float(value(joint.double(), prod.double())), rel=1e-5, abs=1e-5)


def test_median_scale_of_half_precision_rows_is_single():
    x = normal(40, 6).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert float(median_scale(x)) == pytest.approx(float(median_scale(x.double())), rel=1e-5)


def test_samples_of_the_wrong_shape_are_refused():
    """The functions without their annotations, as above."""
    two, three, flat, none = torch.ones(4, 2), torch.ones(4, 3), torch.ones(4), torch.ones(0, 2)
    bare = {f.__name__: inspect.unwrap(f) for f in (barber_agakov, club, gaussian_entropy, mmd2_to_standard_normal, median_scale)}
    for call in (
        lambda: bare["barber_agakov"](flat, flat, flat),
        lambda: bare["club"](none, none, none),
        lambda: bare["gaussian_entropy"](none),
        lambda: bare["mmd2_to_standard_normal"](flat, 1.0),
        lambda: bare["median_scale"](flat, two),
        lambda: inspect.unwrap(mmd2)(two, none, [1.0]),
        lambda: inspect.unwrap(central_moment_discrepancy)(two, flat),
        lambda: inspect.unwrap(orthogonality)(flat, two),
        lambda: inspect.unwrap(hsic)(two, flat),
        lambda: inspect.unwrap(mardia_kurtosis)(flat),
    ):
        with pytest.raises(ValueError, match=r"takes rows of numbers, \[n, d\] with n and d at least 1, but"):
            call()
    for name in ("barber_agakov", "club"):
        with pytest.raises(ValueError, match=r"y \[4, 2\], mean \[4, 3\], log_variance \[4, 2\]"):
            bare[name](two, three, two)
    with pytest.raises(ValueError, match=r"one width, got \[4, 2\] and \[4, 3\]"):
        bare["median_scale"](two, three)
    for scores in (two, flat, torch.ones(0, 0)):
        with pytest.raises(ValueError, match="a matrix \\[n, n\\], got"):
            inspect.unwrap(info_nce)(scores)
    with pytest.raises(ValueError, match=r"MMD² compares samples .* got \[4, 2\] and \[4, 3\]"):
        inspect.unwrap(mmd2)(two, three, [1.0])
    with pytest.raises(ValueError, match="unbiased=True; use one width and larger batches, or unbiased=False"):
        mmd2(two[:1], two, [1.0])
    with pytest.raises(ValueError, match=r"CMD compares .* \[4, 2\] and \[4, 3\]"):
        inspect.unwrap(central_moment_discrepancy)(two, three)
    with pytest.raises(ValueError, match="got 0 moments"):
        central_moment_discrepancy(two, two, 0)
    for a, b, form in ((two, two[:3], "features"), (two, three, "gram")):
        with pytest.raises(ValueError, match=f"got form='{form}', .*; give the same rows of both"):
            inspect.unwrap(orthogonality)(a, b, form)


def test_options_out_of_range_are_refused():
    two = torch.ones(4, 2)
    for scales in ([], [1.0, 0.0], [-1.0]):
        with pytest.raises(ValueError, match="scales are positive numbers, at least one"):
            mmd2(two, two, scales)
    with pytest.raises(ValueError, match="scales are positive numbers"):
        mmd2_to_standard_normal(two, 0.0)
    with pytest.raises(ValueError, match=r"ridge: expected a number of at least 0, got -1\.0"):
        gaussian_entropy(two, ridge=-1.0)
    for classes, weights in (([], None), ([two], [0.5]), ([two, two], [1.0]), ([two, two], [1.0, 0.0]), ([two, two], [1.5, -0.5])):
        with pytest.raises(ValueError, match="at least one class and a positive weight for each, their sum 1"):
            gaussian_mixture_entropy(classes, weights)
    with pytest.raises(ValueError, match="takes rows of numbers"):
        gaussian_mixture_entropy([two, two[:0]])
