"""Orders on their own: batches of like length, and the unlabelled rows that join them."""

import itertools

import numpy as np
import pytest

from mdm.data.batches import Joined, Shuffled

ROWS, BATCH = 200, 4
LENGTHS = np.random.default_rng(7).permutation(ROWS)
"""All different, so a batch of sorted rows has a span of its own."""


def by_length(rows=ROWS, seed=0, epoch=0, lengths=LENGTHS):
    return Shuffled(rows=rows, batch_size=BATCH, seed=seed, epoch=epoch, lengths=lengths)


def spans(batches):
    """The shortest and the longest of each batch."""
    return [(int(LENGTHS[rows].min()), int(LENGTHS[rows].max())) for rows in batches]


def together(batches):
    """Which rows meet, whatever the order of batches and within them."""
    return {frozenset(rows) for rows in batches}


@pytest.mark.parametrize(("rows", "sizes"), [(200, {4: 50}), (197, {4: 48, 5: 1}), (3, {3: 1})])
def test_every_row_once_an_epoch(rows, sizes):
    order = by_length(rows, lengths=LENGTHS[:rows])
    for epoch in range(3):
        order.set_epoch(epoch)
        batches = list(order)
        assert sorted(itertools.chain(*batches)) == list(range(rows))
        assert {n: sum(len(b) == n for b in batches) for n in map(len, batches)} == sizes
        assert len(order) == len(batches)


def test_order_is_a_function_of_seed_and_epoch():
    order = by_length()
    in_turn = []
    for epoch in range(4):
        order.set_epoch(epoch)
        in_turn.append(list(order))
        assert list(order) == in_turn[epoch]
        assert list(by_length(epoch=epoch)) == in_turn[epoch]
    for one, other in itertools.combinations([*in_turn, list(by_length(seed=1))], 2):
        assert one != other
        # Other rows meet, not only the same batches in another order.
        assert len(together(one) & together(other)) < len(one) / 2


@pytest.mark.parametrize("epoch", range(3))
def test_lengths_are_alike_within_runs_of_sixteen_batches(epoch):
    """50 batches are four runs, 16 + 16 + 16 + 2, each sorted: so four spans overlap somewhere, as no order of all rows has it,
    and nowhere five."""
    assert Shuffled.CHUNK == 16
    found = spans(by_length(epoch=epoch))
    overlapping = [sum(low <= length <= high for low, high in found) for length in range(ROWS)]
    assert max(overlapping) == 4
    # Four of 64 sorted rows lie close together; four random ones of 200 span 119 on average.
    assert np.median([high - low for low, high in found]) < 20


@pytest.mark.parametrize("epoch", range(3))
def test_batches_come_in_no_order_of_length(epoch):
    """Of 49 steps from a batch to the next, half go down, with a standard deviation of 2; sorted runs would go down at three."""
    shortest = [low for low, _ in spans(by_length(epoch=epoch))]
    downwards = sum(b < a for a, b in itertools.pairwise(shortest))
    assert 14 <= downwards <= 35


def test_among_equal_lengths_chance_decides():
    """Half of the rows have one step, half two: who meets whom changes between epochs, and is not the order of the table."""
    lengths = np.arange(ROWS) % 2 + 1
    one, other = (list(by_length(epoch=epoch, lengths=lengths)) for epoch in (0, 1))
    assert len(together(one) & together(other)) < 5
    assert sum(rows == sorted(rows) for rows in one) < 15  # 50 / 4! ≈ 2 by chance
    assert max(max(rows) - min(rows) for rows in one) > ROWS / 2


# Unlabelled rows ----------------------------------------------------------------------------------------

LABELLED, UNLABELLED, PER = 23, 10, 2


def joined(seed=0, epoch=0, lengths=None):
    return Joined(Shuffled(LABELLED, BATCH, seed, epoch, lengths), UNLABELLED, PER)


def unlabelled(batches):
    return [row for rows in batches for row in rows if row >= LABELLED]


@pytest.mark.parametrize("lengths", [None, LENGTHS[:LABELLED]], ids=["any length", "by length"])
def test_each_batch_has_its_labelled_rows_and_then_the_unlabelled(lengths):
    batches, plain = list(joined(lengths=lengths)), list(Shuffled(LABELLED, BATCH, 0, 0, lengths))
    for rows, own in zip(batches, plain, strict=True):
        assert rows[: len(own)] == own
        assert len(rows) == (1 + PER) * len(own)
    others = unlabelled(batches)
    assert len(others) == PER * LABELLED
    for start in range(0, len(others) - UNLABELLED + 1, UNLABELLED):
        assert sorted(others[start : start + UNLABELLED]) == list(range(LABELLED, LABELLED + UNLABELLED))


def test_the_unlabelled_order_is_a_function_of_seed_and_epoch():
    order = joined()
    in_turn = []
    for epoch in range(4):
        order.set_epoch(epoch)
        in_turn.append(unlabelled(order))
        assert unlabelled(order) == in_turn[epoch]
        assert unlabelled(joined(epoch=epoch)) == in_turn[epoch]  # as a resumed run asks
    assert len(set(map(tuple, [*in_turn, unlabelled(joined(seed=1))]))) == 5
    # Nor does one pass repeat the one before it.
    assert in_turn[0][:UNLABELLED] != in_turn[0][UNLABELLED : 2 * UNLABELLED]
