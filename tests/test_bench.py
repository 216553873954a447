"""What scripts/bench.py keeps of its figures, and what it says of those that were kept before."""

import json
from itertools import count

import pytest
from _bench import Figures


@pytest.fixture
def figures():
    """A clock that goes on by one second whenever it is read: each round of the reference loop takes one."""
    clock = count()
    return Figures(lambda: float(next(clock)), steps=1)


def test_figures_are_in_units_of_the_reference_loop(figures, tmp_path):
    assert figures.note("epoch/lmf", 3.0) == 3.0
    said = figures.write(tmp_path / "new" / "bench.json", tmp_path / "none.json")
    kept = json.loads((tmp_path / "new" / "bench.json").read_text())
    assert kept["figures"] == {"epoch/lmf": 3.0}
    assert kept["unit_s"] == 1.0
    assert said.endswith("has the figures in units of the reference loop (1.000 s).")


def test_what_moved_is_said_and_nothing_else(figures, tmp_path):
    baseline = tmp_path / "bench.json"
    baseline.write_text(json.dumps({"figures": {"faster": 4.0, "slower": 1.0, "alike": 2.0, "gone": 1.0}}))
    for key, seconds in (("faster", 2.0), ("slower", 1.5), ("alike", 2.2), ("new", 1.0)):
        figures.note(key, seconds)
    assert figures.write(tmp_path / "new.json", baseline).splitlines() == [
        "2 of 3 figures that bench.json has too moved by more than 15%, in units of the reference loop (1.000 s):",
        "- faster: 0.50 times",
        "- slower: 1.50 times",
    ]
