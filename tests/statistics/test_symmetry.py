"""Triples of differences: by hand, and how often symmetric and skewed laws are called skewed."""

import inspect
import math

import numpy as np
import pytest

from mdm.statistics.symmetry import DRAWS, Symmetry, check_symmetry, draw_leans, measure_lean


def check(*d: float) -> Symmetry:
    return check_symmetry(np.array(d, dtype=np.float64), np.zeros(len(d)))


def test_lean_by_hand():
    """0, 1, 3, 9: in all four triples the upper side is longer. 0, 1, 2, 9: one of four is even. Turned round, it leans down."""
    assert check(3, 0, 9, 1).lean == 1
    assert check(0, 1, 2, 9).lean == 0.75
    assert check(0, -1, -2, -9).lean == -0.75
    assert check(-2, -1, 0, 1, 2).lean == 0
    assert (check(-2, -1, 0, 1, 2).p, check(4, 4, 4, 4).p, check(1, 2), check(1)) == (
        1,
        1,
        Symmetry(2, 0, 1),
        Symmetry(1, 0, 1),
    )


def test_what_rounding_leaves_has_no_side():
    """.7 − .6, .8 − .6 and .9 − .6 are no even distances in floating point."""
    assert (0.7 - 0.6) + (0.9 - 0.6) - 2 * (0.8 - 0.6) != 0
    found = check_symmetry(np.array([0.7, 0.8, 0.9]), np.array([0.6, 0.6, 0.6]))
    assert found.lean == 0


@pytest.mark.parametrize(
    ("n", "law", "low", "high"),
    [
        (5, "normal", 0.01, 0.05),  # a lean of ±1 alone, .026 of them
        (10, "normal", 0.04, 0.06),
        (20, "normal", 0.04, 0.06),
        (10, "uniform", 0.03, 0.08),
        (10, "t3", 0.06, 0.13),
        (20, "t3", 0.09, 0.16),
        (10, "difference of exponentials", 0.05, 0.11),
        (10, "exponential", 0.37, 0.47),
        (20, "exponential", 0.78, 0.87),
        (20, "lognormal", 0.89, 0.96),
    ],
)
def test_skewed_differences_are_told_and_symmetric_ones_seldom(n, law, low, high):
    """.05 of normal differences, by its making; of ten exponential ones .42, of twenty .82. 4000 draws, whose rates are off by less
    than 4 √(¼/4000) = .03."""
    g, shape = np.random.default_rng(7), (4000, n)
    draw = {
        "normal": lambda: g.normal(size=shape),
        "uniform": lambda: g.random(shape),
        "t3": lambda: g.standard_t(3, shape),
        "difference of exponentials": lambda: g.exponential(size=shape) - g.exponential(size=shape),
        "exponential": lambda: g.exponential(size=shape),
        "lognormal": lambda: g.lognormal(size=shape),
    }[law]
    drawn = np.sort(draw_leans(n))
    p = (1 + len(drawn) - np.searchsorted(drawn, np.abs(measure_lean(draw())) - 1e-12)) / (1 + len(drawn))
    assert low <= np.mean(p < 0.05) <= high


@pytest.mark.parametrize("n", [3, 10, 60])
def test_p_is_the_share_of_draws(n):
    d, law = np.random.default_rng(n).exponential(size=n), draw_leans(n)
    found = check(*d)
    assert found.lean == measure_lean(d[None])[0]
    assert found.p == (1 + sum(value >= abs(found.lean) - 1e-12 for value in law)) / (1 + len(law))
    assert len(law) == DRAWS if n < 60 else 300 < len(law) < DRAWS
    moved = check(*(5 - 3 * d))
    assert (moved.lean, moved.p) == (pytest.approx(-found.lean), found.p)


def test_the_warning_says_which_way():
    assert Symmetry(10, 0.4, 0.05).warning == ""
    assert Symmetry(20, -0.4, 0.0311).warning == (
        "the differences of the 20 runs are skewed downwards (lean −.40, p = .031): a few runs decide their mean"
    )


def test_what_has_no_symmetry_is_refused():
    bare = inspect.unwrap(check_symmetry)
    with pytest.raises(ValueError, match=r"check_symmetry takes .* got shapes \[2\] and \[3\]"):
        bare(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="Expected finite values to tell symmetry of, got infinite ones"):
        bare(np.ones(3), np.array([1, math.inf, 2]))
