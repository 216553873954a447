"""Distances of central moments, and orthogonality."""

import numpy as np
import pytest
import torch
from scipy.stats import moment

from mdm.estimators import central_moment_discrepancy, orthogonality


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- moments


def test_cmd_is_the_sum_of_distances_of_central_moments():
    x, y = normal(12, 3).sigmoid(), normal(9, 3, seed=1).sigmoid()
    terms = [np.linalg.norm(x.mean(0) - y.mean(0))]
    terms += [np.linalg.norm(moment(x, k) - moment(y, k)) for k in range(2, 8)]
    for moments in (1, 2, 5, 7):
        assert float(central_moment_discrepancy(x, y, moments)) == pytest.approx(sum(terms[:moments]), rel=1e-9)


def test_cmd_by_hand():
    """{0, 1, 1, 0}: mean ½, moments ¼, 0, 1/16, 0. {0, 0, 0, 1}: ¼, and (3·(−¼)^k + (¾)^k)/4 = 3/16, 3/32, 21/256, 15/256."""
    x, y = torch.tensor([[0.0], [1.0], [1.0], [0.0]]), torch.tensor([[0.0], [0.0], [0.0], [1.0]])
    expected = 1 / 4 + 1 / 16 + 3 / 32 + (21 / 256 - 16 / 256) + 15 / 256
    assert float(central_moment_discrepancy(x, y)) == pytest.approx(expected)
    assert float(central_moment_discrepancy(y, x)) == pytest.approx(expected)


# ---- orthogonality


def test_orthogonality_of_features_by_hand():
    """Centred a = (1, −1, 0), so rows of length one are (1, −1, 0); b = rows (3, 4), (−3, −4), (0, 0) → (.6, .8), (−.6, −.8), 0.

    ÂᵀB̂ = (1.2, 1.6), mean of squares (1.44 + 2.56)/2 = 2. A common offset changes nothing.
    """
    a, b = torch.tensor([[1.0], [-1.0], [0.0]]), torch.tensor([[3.0, 4.0], [-3.0, -4.0], [0.0, 0.0]])
    assert float(orthogonality(a, b)) == pytest.approx(2, rel=1e-5)
    assert float(orthogonality(a + 5, b - 2)) == pytest.approx(2, rel=1e-5)


def test_orthogonality_of_features_is_its_definition_entry_by_entry():
    a, b = normal(6, 3), normal(6, 2, seed=1)
    rows = []
    for x in (a, b):
        centred = x - x.mean(0)
        rows.append(centred / (centred.norm(dim=1, keepdim=True) + 1e-6))
    total = sum(float((rows[0][:, i] * rows[1][:, j]).sum()) ** 2 for i in range(3) for j in range(2))
    assert float(orthogonality(a, b)) == pytest.approx(total / 6, rel=1e-9)


def test_norms_of_rows_carry_no_gradient():
    """With them as constants c_i the gradient of mean((ÂᵀB̂)²) is 2/(d_a d_b)·B̂(B̂ᵀÂ)/c_i, columns centred."""
    a, b = normal(6, 3).requires_grad_(), normal(6, 2, seed=1)
    (gradient,) = torch.autograd.grad(orthogonality(a, b), a)
    centred = [(x - x.mean(0)).detach() for x in (a, b)]
    lengths = [x.norm(dim=1, keepdim=True) + 1e-6 for x in centred]
    hat = [x / c for x, c in zip(centred, lengths, strict=True)]
    expected = 2 / 6 * hat[1] @ (hat[1].T @ hat[0]) / lengths[0]
    torch.testing.assert_close(gradient, expected - expected.mean(0))


@pytest.mark.parametrize("value", [0.0, 0.3, -7.0, 1234.5])
@pytest.mark.parametrize("n", [2, 31, 97])
def test_rows_that_are_all_alike_pull_at_nothing(value, n):
    """A collapsed code: what is left of its rows without their mean is rounding, which has no direction."""
    rng = torch.Generator().manual_seed(n)
    other = torch.randn(n, 4, generator=rng, requires_grad=True)
    same = (value * torch.linspace(0.5, 1.5, 5)).repeat(n, 1).requires_grad_()
    for a, b in ((same, other), (other, same), (same, same)):
        found = orthogonality(a, b)
        gradients = torch.autograd.grad(found, [same, other], allow_unused=True)
        assert float(found.detach()) == 0
        assert all(g is None or not g.any() for g in gradients)


def test_one_row_at_the_mean_pulls_at_nothing():
    """(3, 3) is the mean of the others, and stays 0; the rest has a gradient of the size that 1/norm gives."""
    a = torch.tensor([[2.3, 3.0], [3.7, 3.0], [3.0, 2.2], [3.0, 3.8], [3.0, 3.0]], requires_grad=True)
    b = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(orthogonality(a, b), a)
    assert float(gradient.abs().max()) < 10


@pytest.mark.parametrize("spread", [1e-1, 1e-2, 1e-3])
def test_nearly_equal_rows_count_as_their_differences_do(spread):
    """The value of 5 + δ·x is that of x, and the gradient 1/δ times as large, as of whatever does not know the scale. To 1e-6/δ,
    which keeps norms from 0, and to the rounding of single precision, 5·2⁻²⁴/δ."""
    rng = torch.Generator().manual_seed(1)
    x, b = torch.randn(40, 3, generator=rng), torch.randn(40, 4, generator=rng)

    def at(a):
        a = a.requires_grad_()
        found = orthogonality(a, b)
        return found.detach(), torch.autograd.grad(found, a)[0]

    (value, gradient), (near, steep) = at(x.clone()), at(5 + spread * x)
    limit = 20 * 1e-6 / spread
    assert float(near) == pytest.approx(float(value), rel=limit + 1e-4)
    assert float((spread * steep - gradient).norm() / gradient.norm()) < limit + 1e-4


def test_what_the_two_forms_of_orthogonality_see():
    """a = (t, 0), b = (0, t): the printed form is 0 though each is the other. (t, 0), (u, 0) uncorrelated: the reverse."""
    t = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    u = torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64)
    zero = torch.zeros_like(t)
    a, b, c = torch.stack([t, zero], 1), torch.stack([zero, t], 1), torch.stack([u, zero], 1)
    assert float(orthogonality(a, b, "gram")) == 0
    assert float(orthogonality(a, b)) == pytest.approx(4**2 / 4, rel=1e-4)  # one of four entries is Σ t² = 4
    assert float(orthogonality(a, c)) == pytest.approx(0, abs=1e-12)
    assert float(orthogonality(a, c, "gram")) == 16  # Σ_ij (t_i u_j)²


def test_orthogonality_of_rows_is_the_printed_norm():
    a, b = normal(7, 3), normal(7, 3, seed=1)
    assert float(orthogonality(a, b, "gram")) == pytest.approx(np.linalg.norm(a @ b.T) ** 2, rel=1e-9)


def test_orthogonality_of_features_is_of_directions_not_of_columns():
    """The covariance of x and y is 0; that of their signs is not: (1, −1, −1, −1)·(0, 1, −1, −1) = 1."""
    x, y = torch.tensor([3.0, -1, -1, -1])[:, None], torch.tensor([0.0, 2, -1, -1])[:, None]
    assert (x * y).sum() == 0
    torch.testing.assert_close(orthogonality(x, y), torch.tensor(1.0), atol=1e-4, rtol=0)
