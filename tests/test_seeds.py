"""Streams of random draws: stable, apart from one another, and without a trace in torch's global generators."""

import zlib
from itertools import pairwise

import numpy as np
import pytest
import torch

from mdm.seeds import Stream, derive, generator, global_state, set_global_state

NAMES = (
    "weights",
    "order",
    "critic batches",
    "critic kl",
    "critic own",
    "penalty",
    "shifts",
    "dropout",
    "validation",
    "replay kl",
    "replay own",
)


def from_manual_seed(seed, n):
    """The first n draws of torch's generator after ``seed``, by a generator apart."""
    return torch.rand(n, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def restore():
    before = torch.get_rng_state()
    yield
    torch.set_rng_state(before)


# derive -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "name", "index", "crc", "expected"),
    [
        (0, "weights", 0, 449999704, 8056890350693258407),
        (7, "order", 0, 4113142680, 4256815825578742963),
        (7, "order", 3, 4113142680, 6337482956484146007),
        (2**40, "x", 0, 2363233923, 5329835461855834790),
    ],
)
def test_derived_seeds_stay(seed, name, index, crc, expected):
    """NumPy's SeedSequence, whose output is promised never to change, hashes (seed, CRC-32 of the name, index) to the
    words w0, w1; the seed is the upper 63 of the 64 bits w0 w1. Records made years apart are to be comparable."""
    assert zlib.crc32(name.encode()) == crc
    w0, w1 = np.random.SeedSequence([seed, crc, index]).generate_state(2)
    assert derive(seed, name, index) == expected == (int(w0) * 2**32 + int(w1)) // 2


def test_derived_seeds_differ():
    """Over 20 seeds, 11 names and 20 indices: 4400 draws of 63 bits collide with probability 1e-12."""
    seeds = [derive(seed, name, index) for seed in range(20) for name in NAMES for index in range(20)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= s < 2**63 for s in seeds)


def test_derived_seeds_use_all_bits():
    """Each of the 63 bits is a fair coin over 2000 names: 1000 ± 6 · 22.4."""
    seeds = np.array([derive(0, f"name {i}") for i in range(2000)], dtype=np.int64)
    ones = np.array([(seeds >> bit & 1).sum() for bit in range(63)])
    assert (np.abs(ones - 1000) < 135).all()


def test_index_zero_is_the_default():
    assert derive(3, "order") == derive(3, "order", 0)


@pytest.mark.parametrize(("seed", "index"), [(-1, 0), (0, -1), (-7, 3)])
def test_negative_seeds(seed, index):
    for function in (derive, generator):
        with pytest.raises(ValueError, match=f"non-negative integer, got {min(seed, index)}"):
            function(seed, "order", index)


def test_a_generator_is_seeded_by_derive_and_draws_apart():
    before = torch.get_rng_state()
    g = generator(5, "order", 2)
    torch.testing.assert_close(torch.rand(4, generator=g), from_manual_seed(derive(5, "order", 2), 4), rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), before)


# Stream -------------------------------------------------------------------------------------------------


def test_a_stream_is_seeded_by_derive():
    with Stream(3, "weights").active():
        drawn = torch.rand(6)
    assert torch.equal(drawn, from_manual_seed(derive(3, "weights"), 6))


def test_a_stream_leaves_the_global_generator_as_it_was():
    torch.manual_seed(11)
    before = torch.get_rng_state()
    stream = Stream(0, "dropout")
    assert torch.equal(torch.get_rng_state(), before)
    with stream.active():
        torch.rand(100)
        torch.nn.Linear(3, 3)
        torch.manual_seed(4)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(torch.rand(5), from_manual_seed(11, 5))


def test_a_stream_continues_where_it_stopped():
    """Normal draws of odd number too: the generator keeps the second of a pair."""
    torch.manual_seed(11)
    stream, whole = Stream(0, "dropout"), Stream(0, "dropout")
    parts = []
    for n in (1, 4, 3):
        with stream.active():
            parts.append(torch.randn(n))
        torch.rand(17)
    with whole.active():
        assert torch.equal(torch.cat([torch.randn(n) for n in (1, 4, 3)]), torch.cat(parts))


def test_streams_do_not_disturb_one_another():
    alone = {}
    for name in NAMES:
        with Stream(1, name).active():
            alone[name] = torch.rand(6)
    streams = {name: Stream(1, name) for name in NAMES}
    mixed = {name: [] for name in NAMES}
    for turn in range(3):
        for name in NAMES if turn % 2 else reversed(NAMES):
            with streams[name].active():
                mixed[name].append(torch.rand(2))
    for name in NAMES:
        assert torch.equal(torch.cat(mixed[name]), alone[name])
    assert not any(torch.equal(a, b) for a, b in pairwise(alone.values()))


def test_one_stream_inside_another():
    outer, inner = Stream(0, "outer"), Stream(0, "inner")
    with outer.active():
        a = torch.rand(2)
        with inner.active():
            b = torch.rand(3)
        c = torch.rand(2)
    assert torch.equal(torch.cat([a, c]), from_manual_seed(derive(0, "outer"), 4))
    assert torch.equal(b, from_manual_seed(derive(0, "inner"), 3))


def test_an_exception_puts_the_global_generator_back():
    """And the stream counts what was drawn before it."""
    torch.manual_seed(11)
    before, stream = torch.get_rng_state(), Stream(0, "dropout")

    def diverge():
        with stream.active():
            torch.rand(2)
            raise RuntimeError("diverged")

    with pytest.raises(RuntimeError, match="diverged"):
        diverge()
    assert torch.equal(torch.get_rng_state(), before)
    with stream.active():
        assert torch.equal(torch.rand(3), from_manual_seed(derive(0, "dropout"), 5)[2:])


def test_a_stream_s_state_can_be_saved_and_set():
    stream = Stream(0, "dropout")
    with stream.active():
        torch.rand(3)
    saved = [state.clone() for state in stream.state]
    with stream.active():
        expected = torch.rand(4)
    other = Stream(99, "dropout")
    other.state = saved
    with other.active():
        assert torch.equal(torch.rand(4), expected)


def test_global_state_goes_round():
    torch.manual_seed(8)
    state = global_state()
    drawn = torch.rand(5)
    torch.manual_seed(9)
    set_global_state(state)
    assert torch.equal(torch.rand(5), drawn)
