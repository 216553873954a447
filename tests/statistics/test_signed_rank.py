"""Signed ranks, against scipy where it is exact, enumerations of all patterns, and cases done by hand."""

import inspect
import itertools
import math

import numpy as np
import pytest
from scipy import stats

from mdm.statistics.signed_rank import compute_tail, count_positive_ranks, invert, signed_rank, walsh_averages, wilcoxon

GENERATORS = [np.random.default_rng(seed) for seed in range(8)]


def array(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)


def paired(d) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of whole numbers with these differences."""
    d = np.asarray(d, dtype=np.float64)
    y = np.arange(len(d), dtype=np.float64)
    return y + d, y


# ---- p


@pytest.mark.parametrize("n", [1, 2, 5, 10, 20, 45])
def test_wilcoxon_without_ties_is_scipys_exact_one(n):
    for g in GENERATORS:
        x, y = g.normal(size=n) + 0.5, g.normal(size=n)
        assert wilcoxon(x, y) == pytest.approx(stats.wilcoxon(x, y, method="exact").pvalue, rel=1e-12)
        assert wilcoxon(y, x) == wilcoxon(x, y)


@pytest.mark.parametrize("n", [4, 9])
def test_wilcoxon_with_ties_and_zeros_is_scipys_permutation_of_pratts_ranks(n):
    for g in GENERATORS:
        d = g.integers(-3, 4, n)
        if not d.any():
            continue
        method = stats.PermutationMethod(n_resamples=2**n)
        expected = stats.wilcoxon(d.astype(float), zero_method="pratt", method=method).pvalue
        assert wilcoxon(*paired(d)) == pytest.approx(expected, rel=1e-12)


def test_wilcoxon_by_hand():
    """d = 3, 2, −1, 0: Pratt's ranks are 4, 3, 2 and |±4 ± 3 ± 2| is 9, 5, 3, 1, each twice; ours is 4 + 3 − 2 = 5, so 4 of 8."""
    assert wilcoxon(*paired([3, 2, -1, 0])) == 0.5
    assert wilcoxon(*paired([2, 2, 2, 2, 2])) == 2 / 2**5  # n = 5 never reaches .05
    assert wilcoxon(*paired([0, 0, 0])) == 1


def test_split_zeros_by_hand():
    """The zero's rank of 1 has a sign in every pattern too: of |±4 ± 3 ± 2 ± 1| = 10, 8, 6, 4, 4, 2, 2, 0 three reach 5."""
    assert wilcoxon(*paired([3, 2, -1, 0]), zeros="split") == 3 / 8
    assert wilcoxon(*paired([0, 0, 0]), zeros="split") == 1


@pytest.mark.parametrize("zeros", ["pratt", "split"])
@pytest.mark.parametrize("n", [1, 4, 9])
def test_every_pattern_of_signs_is_counted(n, zeros):
    """Signs of zeros too where they are split; their own are 0, half a rank for each side."""
    for g in GENERATORS:
        d = g.integers(-3, 5, n)
        ranks = stats.rankdata(np.abs(d))
        observed = abs((np.sign(d) * ranks).sum())
        signed = ranks if zeros == "split" else ranks[d != 0]
        sums = [abs(np.dot(signs, signed)) for signs in itertools.product((1, -1), repeat=len(signed))]
        assert wilcoxon(*paired(d), zeros=zeros) == np.mean(np.array(sums) >= observed)


@pytest.mark.parametrize("n", [4, 9])
def test_split_zeros_are_scipys_where_it_is_exact(n):
    """Its permutations leave zeros without a sign, as Pratt. Its exact law gives them one, and knows no ties: one zero, no tie."""
    for g in GENERATORS:
        d = g.permutation(np.arange(n)) * g.choice([-1, 1], n)
        expected = stats.wilcoxon(d.astype(float), zero_method="zsplit", method="exact").pvalue
        statistic = abs((np.sign(d) * (np.abs(d) + 1)).sum())
        if (statistic + n * (n + 1) // 2) % 2 == 0:  # otherwise half a rank lies between two values of its law
            assert wilcoxon(*paired(d), zeros="split") == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("n", "zeros"), [(5, 0), (6, 1), (10, 0), (10, 3), (4, 4)])
def test_the_smallest_p_counts_zeros(n, zeros):
    """2/2^(n − zeros), and 1 where nothing differs; other differences with as many zeros never give a smaller one."""
    found = signed_rank(*paired([0] * zeros + list(range(1, n - zeros + 1))))
    assert found.p == found.smallest_p == min(2 / 2 ** (n - zeros), 1)
    assert (found.n, found.zeros) == (n, zeros)
    for g in GENERATORS:
        d = np.concatenate([np.zeros(zeros), g.integers(1, 4, n - zeros) * g.choice([-1, 1], n - zeros)])
        for how in ("pratt", "split"):
            other = signed_rank(*paired(d), zeros=how)
            assert other.p >= other.smallest_p
    assert signed_rank(*paired([0, 0, 1, 2, 3, 4]), zeros="split").smallest_p == wilcoxon(
        *paired([0, 0, 1, 2, 3, 4]), zeros="split"
    )


# ---- shift and interval


def test_shift_and_interval_by_hand():
    """Averages of 1, 2, 6: 1, 1½, 2, 3½, 4, 6; their median is 2¾. At level ¾ one value of W⁺ may go on either side: P(0) = ⅛."""
    found = signed_rank(*paired([1, 2, 6]), level=0.75)
    assert walsh_averages(array(1, 2, 6)).tolist() == [1, 1.5, 2, 3.5, 4, 6]
    assert (found.shift, found.interval, found.level) == (2.75, (1, 6), 0.75)
    assert signed_rank(*paired([1, 2, 6]), level=0.5).interval == (1.5, 4)


@pytest.mark.parametrize(("n", "k"), [(5, 0), (6, 1), (8, 4), (10, 9), (12, 14), (20, 53)])
def test_how_many_averages_are_left_out_is_in_the_tables(n, k):
    """Critical values of Wilcoxon's T at .05, two-sided: 0, 3, 8, 13, 52 for n = 6, 8, 10, 12, 20; none for 5."""
    averages = np.arange(n * (n + 1) / 2)
    low, high, reached = invert(averages, n, 0.95)
    assert (low, high) == ((averages[k - 1], averages[-k]) if k else (-math.inf, math.inf))
    assert reached >= 0.95
    below = count_positive_ranks(np.arange(1, n + 1)).cumsum()
    assert 2 * below[k] > 0.05  # one more would be too many


@pytest.mark.parametrize("n", [6, 9, 10])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_interval_is_what_the_test_does_not_reject(n, level):
    """The test of d − θ for θ between all neighbouring averages, and beyond them."""
    for g in GENERATORS[:4]:
        d = g.normal(0.5, 1, n)
        found = signed_rank(d, np.zeros(n), level=level)
        ends = walsh_averages(d)
        for shift in (ends[0] - 1, *((ends[:-1] + ends[1:]) / 2), ends[-1] + 1):
            kept = found.interval[0] <= shift <= found.interval[1]
            assert kept == (stats.wilcoxon(d - shift, method="exact").pvalue > 1 - level + 1e-12)
        assert found.interval[0] <= found.shift <= found.interval[1]


def test_intervals_cover_at_the_level_that_they_reach():
    """Whatever the symmetric law; four standard errors of 2000."""
    for draw in ("normal", "standard_cauchy"):
        g, zero = np.random.default_rng(0), np.zeros(8)
        found = [signed_rank(getattr(g, draw)(size=8), zero) for _ in range(2000)]
        reached = found[0].level
        assert reached == pytest.approx(1 - 2 * 5 / 2**8)  # W⁺ of 0, 1, 2 in one way each, 3 in two
        covered = np.mean([one.interval[0] <= 0 <= one.interval[1] for one in found])
        assert covered == pytest.approx(reached, abs=4 * math.sqrt(reached * (1 - reached) / 2000))


def test_shifts_move_with_the_values_and_turn_with_their_sign():
    for g in GENERATORS:
        d, zero = g.normal(size=11), np.zeros(11)
        found, moved, turned = (signed_rank(v, zero) for v in (d, 2 * d + 3, -d))
        assert moved.shift == pytest.approx(2 * found.shift + 3)
        assert moved.interval == pytest.approx(tuple(2 * end + 3 for end in found.interval))
        assert turned.shift == pytest.approx(-found.shift)
        assert turned.interval == pytest.approx((-found.interval[1], -found.interval[0]))
        assert (turned.p, turned.rank_biserial) == (found.p, -found.rank_biserial)


# ---- effect


def test_rank_biserial_correlation_by_hand():
    """3, 2, −1: (3 + 2 − 1)/6. With a zero, which has rank 1: (4 + 3 − 2)/10. All on one side: ±1."""
    assert signed_rank(*paired([3, 2, -1])).rank_biserial == pytest.approx(4 / 6)
    assert signed_rank(*paired([3, 2, -1, 0])).rank_biserial == 0.5
    assert signed_rank(*paired([1, 2, 2])).rank_biserial == 1
    assert signed_rank(*paired([-1, -2, -2])).rank_biserial == -1
    assert signed_rank(*paired([0, 0])).rank_biserial == 0


@pytest.mark.parametrize("n", [5, 12])
def test_rank_biserial_correlation_is_by_scipys_sums(n):
    for g in GENERATORS:
        d = g.normal(0.5, 1, n)
        above = stats.wilcoxon(d, alternative="greater").statistic  # W⁺
        assert signed_rank(d, np.zeros(n)).rank_biserial == pytest.approx(4 * above / (n * (n + 1)) - 1)


# ---- refusals


def test_what_has_no_signed_ranks_is_refused():
    bare = inspect.unwrap(signed_rank)
    with pytest.raises(ValueError, match=r"signed_rank takes .* and the same seeds on both sides, got shapes \[2\] and \[3\]"):
        bare(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match=r"got 1 pairs with an infinite value and level=0\.95; a run that diverged has no shift"):
        bare(array(np.inf, 1), array(np.inf, 1))
    for level in (0.0, 1.0):
        with pytest.raises(ValueError, match="Expected finite values and a level between 0 and 1"):
            bare(np.ones(3), np.zeros(3), level=level)
    with pytest.raises(ValueError, match="Expected zeros to be one of pratt, split, got 'wilcox'; use 'pratt'"):
        inspect.unwrap(compute_tail)(np.ones(3, dtype=int), np.ones(3, dtype=int), "wilcox")
