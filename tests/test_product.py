"""Samples of the product of the marginals: no matched pairs, permutations, neighbours in length, honest lengths."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from mdm.training.product import NEIGHBOURS, batch_lengths, detach_all, move, product, shifts, stretch
from mdm.types import Batch, Sequence

FARTHEST = 2 * NEIGHBOURS - 2
"""Groups have at most 2·NEIGHBOURS − 1 rows, so ranks by length differ by one less at the most."""


def generator(seed=0):
    return np.random.default_rng(seed)


def sequence(lengths, time=None, dim=None, front=False):
    """Step t of row i holds 100 i + t (+ ½ per further dimension); padding holds −1."""
    lengths = torch.as_tensor(lengths)
    time = time or max(int(lengths.max()), 1)
    step = torch.arange(time) - (time - lengths[:, None] if front else 0)
    mask = (step >= 0) & (step < lengths[:, None])
    values = torch.where(mask, 100 * torch.arange(len(lengths))[:, None] + step, -1)
    if dim is not None:
        values = torch.where(mask[:, :, None], values[:, :, None] + 0.5 * torch.arange(dim), -1.0)
    return Sequence(values, mask)


def real(s, row):
    """The real steps of a row."""
    return s.values[row][s.mask[row]]


# ---- which row moves where


@pytest.mark.parametrize("modalities", [2, 3, 4])
@pytest.mark.parametrize("kind", ["equal", "varied", "absent"])
def test_no_two_modalities_keep_partners_and_each_is_a_permutation(modalities, kind):
    """All sizes, all pairs of modalities: a kept pair would be a joint sample among the product's."""
    rng = generator(modalities)
    for size in range(24 if kind == "absent" else max(3, modalities), 41):
        lengths = np.full((modalities, size), 7) if kind == "equal" else rng.integers(kind == "varied", 5, (modalities, size))
        for _ in range(3):
            index = shifts(lengths, rng)
            places = index[0]
            assert (np.diff(places) > 0).all()
            assert kind != "equal" or len(places) == size
            present = lengths > 0
            for a, b in combinations(range(modalities), 2):
                both = present[a, places] & present[b, places]
                assert (index[a] != index[b])[both].all()
            for rows in index:
                assert (np.sort(rows) == places).all()
                assert (present[:, rows] == present[:, places]).all(), "a pair's missing modalities betray it"


def test_as_many_rows_as_modalities_are_enough():
    for size in (2, 3, 4, 12):
        index = shifts(np.ones((size, size), dtype=int), generator())
        assert all(len(set(index[:, place])) == size for place in range(size))


@pytest.mark.parametrize("size", [3, 8, 15, 16, 17, 64, 333])
def test_partners_are_neighbours_in_length(size):
    lengths = np.arange(1, size + 1)  # all different, sorted: a row's number is its rank
    for draw in range(5):
        index = shifts(np.stack([lengths] * 3), generator(draw))
        assert np.abs(index - np.arange(size)).max() <= FARTHEST


def test_neighbourhood_is_that_of_the_longest_modality_whatever_the_order_of_rows():
    rng = generator()
    lengths = rng.permutation(np.arange(1, 65))
    other = np.ones(64, dtype=int)
    index = shifts(np.stack([other, lengths, other]), rng)
    assert np.abs(lengths[index] - lengths).max() <= FARTHEST


@pytest.mark.parametrize("modality", [1, 2])
def test_partners_are_uniform_where_lengths_are_equal(modality):
    """16 rows, two groups of 8 drawn at random: each of the 15 others is as likely. χ² with 14 degrees of freedom, 99.99 %."""
    rng, draws = generator(1), 3000
    lengths = np.full((3, 16), 4)
    partners = np.bincount([shifts(lengths, rng)[modality, 0] for _ in range(draws)], minlength=16)
    assert partners[0] == 0
    expected = draws / 15
    assert ((partners[1:] - expected) ** 2 / expected).sum() < chi2.ppf(0.9999, 14)


def test_draws_are_the_generators():
    lengths = generator(9).integers(1, 20, (3, 32))
    np.testing.assert_array_equal(shifts(lengths, generator(4)), shifts(lengths, generator(4)))
    rng = generator(4)
    assert (shifts(lengths, rng) != shifts(lengths, rng)).any()
    state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    shifts(lengths, rng)
    assert torch.equal(torch.get_rng_state(), state[0])
    assert (np.random.get_state()[1] == state[1]).all()  # noqa: NPY002


def test_one_modality_and_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="at least two"):
        shifts(np.ones((1, 8), dtype=int), generator())
    for modalities, size in ((2, 1), (3, 2), (4, 3)):
        with pytest.raises(ValueError, match=f"at least {modalities} rows .* but a batch of {size} has none such"):
            shifts(np.ones((modalities, size), dtype=int), generator())


# ---- stretching


@pytest.mark.parametrize(
    ("have", "want", "steps"),
    [
        # ⌊t·L/n⌋ for t < n
        (3, 5, [0, 0, 1, 1, 2]),
        (5, 3, [0, 1, 3]),
        (5, 2, [0, 2]),
        (1, 4, [0, 0, 0, 0]),
        (4, 1, [0]),
        (2, 4, [0, 0, 1, 1]),
        (4, 4, [0, 1, 2, 3]),
        (7, 0, []),
        (0, 4, []),
        (0, 0, []),
    ],
)
@pytest.mark.parametrize("dim", [None, 3])
def test_stretching_reads_evenly_spaced_steps(have, want, steps, dim):
    before = sequence([7, have], dim=dim)
    after = stretch(before, torch.arange(2), torch.tensor([2, want]))
    assert after.lengths.tolist() == [2, len(steps)]
    torch.testing.assert_close(real(after, 1), before.values[1, steps])


@pytest.mark.parametrize("dim", [None, 2])
def test_stretching_to_the_own_length_changes_nothing(dim):
    before = sequence([3, 0, 5, 1], dim=dim)
    after = stretch(before, torch.arange(4), before.lengths)
    assert torch.equal(after.mask, before.mask)
    assert torch.equal(after.values[after.mask], before.values[before.mask])


def test_nothing_but_empty_sequences_stays_nothing():
    after = stretch(sequence([0, 0], time=3, dim=2), torch.arange(2), torch.tensor([4, 2]))
    assert not after.mask.any()
    assert after.values.shape[0] == 2


# ---- moving


def test_vectors_move_by_row():
    x = torch.randn(5, 3)
    index = np.array([4, 2, 0, 1, 3])
    assert torch.equal(move(x, index, np.ones(5, dtype=np.int64)), x[index])


@pytest.mark.parametrize("front", [False, True])
@pytest.mark.parametrize("dim", [None, 2])
def test_masks_travel_and_padding_may_stand_in_front(front, dim):
    lengths = np.array([2, 5, 3, 1])
    before = sequence(lengths, dim=dim, front=front)
    index = np.array([1, 0, 3, 2])
    after = move(before, index, lengths[index])  # each keeps its length
    for place, row in enumerate(index):
        assert torch.equal(real(after, place), real(before, row))


def segments(lengths, dims=(None, 2, 3), front=False):
    """Lengths [modalities, rows] as a batch of sequences that say where they come from."""
    rows, time = lengths.shape[1], int(lengths.max())
    sequences = {f"m{i}": sequence(have, time, dims[i], front) for i, have in enumerate(lengths)}
    return Batch(tuple(map(str, range(rows))), sequences, torch.zeros(rows, 1))


def origin(values):
    """Which row real steps came from."""
    first = values if values.ndim == 1 else values[:, 0]
    rows = set((first // 100).long().tolist())
    assert len(rows) <= 1, "steps of different rows were mixed"
    return rows


@pytest.mark.parametrize("front", [False, True])
def test_product_rows_have_the_lengths_of_the_joint_rows(front):
    """Aligned data: a place keeps its length in every modality, contents come from the row that moved there, in order."""
    lengths = np.stack([generator(2).integers(1, 12, 24)] * 3)
    batch = segments(lengths, front=front)
    np.testing.assert_array_equal(batch_lengths(batch), lengths)
    encoded = {name: {"steps": s, "row": torch.arange(24)} for name, s in batch.sequences.items()}
    index = shifts(lengths, generator(3))
    moved = product(encoded, index, lengths)
    assert list(moved) == list(encoded)
    for m, parts in enumerate(moved.values()):
        assert torch.equal(parts["row"], torch.from_numpy(index[m]))
        assert parts["steps"].lengths.tolist() == lengths[m].tolist()
        for place in range(24):
            steps = real(parts["steps"], place)
            assert origin(steps) == {index[m, place]}
            assert (steps.diff(dim=0) >= 0).all()


def test_lengths_of_each_modality_are_its_own_where_data_are_unaligned():
    lengths = generator(2).integers(1, 12, (3, 24))
    encoded = {name: {"steps": s} for name, s in segments(lengths).sequences.items()}
    moved = product(encoded, shifts(lengths, generator(3)), lengths)
    np.testing.assert_array_equal([p["steps"].lengths.tolist() for p in moved.values()], lengths)


def test_an_absent_modality_takes_its_absence_along():
    """Row 1 lacks m1. `shifts` would not move it among the others; if something does, absence stays absence."""
    lengths = np.array([[4, 3, 4, 4], [4, 0, 4, 4]])
    encoded = {name: {"steps": s} for name, s in segments(lengths, dims=(None, 2)).sequences.items()}
    index = np.array([[0, 1, 2, 3], [2, 3, 1, 0]])
    moved = product(encoded, index, lengths)["m1"]["steps"]
    assert moved.lengths.tolist() == [4, 0, 0, 4]
    assert [origin(real(moved, place)) for place in range(4)] == [{2}, set(), set(), {0}]


def test_a_segment_without_anything_stays_without_anything():
    lengths = np.array([[2, 0, 2], [2, 0, 2]])
    encoded = {name: {"steps": s} for name, s in segments(lengths, dims=(None, 2)).sequences.items()}
    index = shifts(lengths, generator())
    moved = product(encoded, index, lengths)
    for parts in moved.values():
        assert parts["steps"].mask.any(1).tolist() == [bool(place != 1) for place in index[0]]


def test_rows_of_a_rare_pattern_get_no_place():
    """Two complete rows are too few for three modalities; the three rows without the first make a product of two."""
    lengths = np.array([[5, 5, 0, 0, 0], [5, 5, 5, 5, 5], [5, 5, 5, 5, 5]])
    index = shifts(lengths, generator())
    assert index[0].tolist() == [2, 3, 4]
    assert (index[1] != index[2]).all()


def test_product_does_not_touch_what_it_was_given():
    lengths = generator().integers(1, 6, (3, 9))
    encoded = {name: {"steps": s} for name, s in segments(lengths).sequences.items()}
    before = {name: (parts["steps"].values.clone(), parts["steps"].mask.clone()) for name, parts in encoded.items()}
    product(encoded, shifts(lengths, generator()), lengths)
    for name, (values, mask) in before.items():
        assert torch.equal(encoded[name]["steps"].values, values)
        assert torch.equal(encoded[name]["steps"].mask, mask)


def test_gradient_follows_a_row_to_its_new_place():
    x = torch.zeros(3, 4, 2, requires_grad=True)
    s = Sequence(x, torch.ones(3, 4, dtype=torch.bool))
    moved = move(s, np.array([1, 2, 0]), np.full(3, 2))
    (grad,) = torch.autograd.grad(moved.values[0][moved.mask[0]].sum(), x)
    expected = torch.zeros(3, 4, 2)
    expected[1, [0, 2]] = 1  # place 0 has row 1, read at ⌊t·4/2⌋
    assert torch.equal(grad, expected)


def test_detached_keeps_values_and_drops_the_graph():
    x = torch.randn(2, 3, 1, requires_grad=True)
    encoded = {"a": {"steps": Sequence(2 * x, torch.ones(2, 3, dtype=torch.bool)), "z": 3 * x[:, 0]}}
    out = detach_all(encoded)["a"]
    assert not out["steps"].values.requires_grad
    assert not out["z"].requires_grad
    assert torch.equal(out["z"], 3 * x[:, 0])
    assert torch.equal(out["steps"].values, 2 * x)


def test_the_law_of_product_rows_on_a_linear_gaussian_case():
    """Z = A x of three correlated Gaussian modalities: joint rows have the covariance A Σ Aᵀ, product rows A diag(Σ_mm) Aᵀ.

    The divergence between the two fitted Gaussians is then the closed form ½[tr((AAᵀ)⁻¹AΣAᵀ) − k + log|AAᵀ| − log|AΣAᵀ|]
    for unit variances, which for a square A is the total correlation of the modalities.
    """
    d, rho, rows, repeats = 2, 0.6, 512, 40
    rng = generator(1)
    correlation = np.kron((1 - rho) * np.eye(3) + rho, np.eye(d))
    a = rng.standard_normal((3 * d, 3 * d)) + 3 * np.eye(3 * d)
    joint, moved = [], []
    for _ in range(repeats):
        x = rng.multivariate_normal(np.zeros(3 * d), correlation, size=rows)
        blocks = {f"m{m}": {"x": torch.from_numpy(x[:, m * d : (m + 1) * d])} for m in range(3)}
        lengths = np.ones((3, rows), int)
        paired = product(blocks, shifts(lengths, rng), lengths)
        joint.append(x @ a.T)
        moved.append(torch.cat([parts["x"] for parts in paired.values()], dim=1).numpy() @ a.T)
    joint, moved = np.concatenate(joint), np.concatenate(moved)
    n = len(joint)
    # Entries of a sample covariance have a standard error of at most √(2/n) times the largest variance.
    for sample, law in ((joint, a @ correlation @ a.T), (moved, a @ a.T)):
        assert np.abs(np.cov(sample.T) - law).max() < 5 * np.sqrt(2 / n) * law.max()
    p, q = np.cov(joint.T), np.cov(moved.T)
    divergence = 0.5 * (np.trace(np.linalg.solve(q, p)) - 3 * d + np.linalg.slogdet(q)[1] - np.linalg.slogdet(p)[1])
    truth = -d / 2 * (2 * np.log(1 - rho) + np.log(1 + 2 * rho))
    assert divergence == pytest.approx(truth, rel=0.03)
