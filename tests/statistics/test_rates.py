"""Whole tables, simulated by `scripts/significance.py`: what the two-way t stars, and what the rule before it did.

A table has 24 comparisons, and a rule that keeps its word stars one of them in .05 of tables where nothing is. A rate r of n tables
may be off by four standard errors, 4 √(r(1 − r)/n).
"""

import csv
import importlib.util
import math
import sys
from pathlib import Path

import pytest
from scipy import stats

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("significance", ROOT / "scripts" / "significance.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def off(rate: float, n: int) -> float:
    return 4 * math.sqrt(rate * (1 - rate) / n)


def count(script, scenario, chunks, seeds=10, videos=31) -> dict[str, float]:
    rows = [script.simulate(scenario, seeds, videos, chunk) for chunk in range(chunks)]
    return {name: sum(row[name] for row in rows) for name in rows[0] if name != "scenario"}


def test_luck_of_the_test_set_is_starred_by_the_old_rule_alone(script):
    """Luck as large as what runs differ by: some .6 of a hundred tables, and .05 or less by the two-way t."""
    found = count(script, "luck 1", 1)
    assert found["false_two_way"] <= 100 * (0.05 + off(0.05, 100))
    assert found["false_old"] > 100 * (0.6 - off(0.6, 100))


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario",
    [
        "luck 0",
        "luck 0.25",
        "luck 1",
        "luck 4",
        "luck 0.5, baselines of their own",
        "luck 0.5, heavy tails (t3)",
        "luck 0.5, 5 % of runs diverge, excluded",
        "correlation",
        "weighted F1",
    ],
)
def test_tables_of_nothing_have_a_star_in_one_of_twenty_at_most(script, scenario):
    for seeds in (5, 10):
        found = count(script, scenario, 3, seeds)
        assert found["false_two_way"] <= found["tables"] * (0.05 + off(0.05, 300))


@pytest.mark.slow
@pytest.mark.parametrize("effect", ["1.41", "2"])
def test_what_is_there_is_found_more_often_than_by_the_sign_flip(script, effect):
    """Without luck the sign flip stars ten differences of one side alone, Φ(δ)¹⁰ of normal ones: .44 and .79. The interval over
    videos, that has nothing to say there, agrees; the two-way t has no smallest p and finds a tenth more at least."""
    found = count(script, f"effect {effect} sd, luck 0", 2)
    n = found["tables"] * 3
    rate = stats.norm.cdf(float(effect)) ** 10
    assert found["found_old"] / n == pytest.approx(rate, abs=off(rate, n))
    assert found["found_two_way"] / n > found["found_old"] / n + 0.1
    assert found["false_two_way"] <= found["tables"] * (0.05 + off(0.05, found["tables"]))


def test_a_command_that_was_ended_goes_on_to_the_same_numbers(script, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(script, "CHUNK", 3)
    options = ["tables=6", "seeds=5", "videos=31", "scenarios=luck 0;effect 3 sd, luck 0", f"folder={tmp_path}"]
    script.main(options)
    printed, path = capsys.readouterr().out, tmp_path / "tables.csv"
    whole = sorted(path.read_text().splitlines())
    lines = path.read_text().splitlines()
    assert len(lines) == 1 + 4
    path.write_text("\n".join(lines[:3]) + "\n")
    script.main(options)
    assert sorted(path.read_text().splitlines()) == whole
    assert capsys.readouterr().out == printed
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["scenario"] == "luck 0"]
    share = sum(int(row["false_two_way"]) for row in rows) / 6
    assert f"| luck 0 | {share:.3f} (0.000) |" in printed
    monkeypatch.setattr(script, "simulate", None)
    script.main(options)  # nothing is left to do


def test_options_that_mean_nothing_are_refused(script, tmp_path):
    for options, message in (
        (["tables=many"], "Expected tables to be whole numbers from 1 to 100,000, got many; write tables=2000"),
        (["seeds=5,0"], "Expected seeds to be whole numbers from 1"),
        (["scenarios=none"], "significance.py has no key none"),
        (["table=5"], "significance.py has no key table"),
    ):
        with pytest.raises(ValueError, match=message):
            script.main([*options, f"folder={tmp_path}"])
