"""What the log says of a bound that is below 0: that it says nothing, or contradicts itself; once."""

import logging

import pytest
import torch

from mdm.penalties.club import Club
from mdm.penalties.dependency import Dependency
from mdm.penalties.hsic import Hsic
from mdm.penalties.infomax import InfoMax
from mdm.penalties.infonce import InfoNCE
from mdm.penalties.orthogonal import Orthogonal
from mdm.penalties.synergy import Synergy
from mdm.runs.progress import NEGATIVE, explain_negative
from mdm.runs.protocol import run


def curve(**estimates):
    """Rows of a curve: quantity with / for _, → its values on validation."""
    names = {name.replace("_", "/", 1): values for name, values in estimates.items()}
    epochs = len(next(iter(names.values())))
    return [
        {f"{fold}/{name}": values[epoch] for name, values in names.items() for fold in ("train", "valid")} | {"valid/mae": -1.0}
        for epoch in range(epochs)
    ]


def test_which_penalties_are_bounds():
    """A mean that is 0 for independent rows (HSIC), an estimate that errs to both sides (InfoMax) and distances are none."""
    below, above, neither = (Dependency, InfoNCE), (Club,), (Hsic, InfoMax, Orthogonal, Synergy)
    assert {penalty.bound_from for penalty in below} == {"below"}
    assert {penalty.bound_from for penalty in above} == {"above"}
    assert {penalty.bound_from for penalty in neither} == {None}


@pytest.mark.parametrize(("side", "meaning"), [("below", "says nothing"), ("above", "contradicts itself")])
def test_a_negative_bound_is_explained_in_the_first_epoch_that_has_one(side, meaning):
    rows = curve(club_a_b=[0.2, -0.5, -0.7, 0.1, -0.2], club_a_c=[0.2, 0.5, -0.25, 0.1, 0.2])
    said = [explain_negative(rows[: epoch + 1], {"club": side}) for epoch in range(5)]
    assert said == [[], [f"club/a_b -0.500 is a bound from {side}: {NEGATIVE[side]}"], [], [], []]
    assert meaning in said[1][0]


def test_what_is_no_bound_may_be_negative():
    assert explain_negative(curve(hsic_a_b=[-0.5]), {"hsic": None}) == []
    assert explain_negative(curve(kl_estimate=[0.0]), {"kl": "below"}) == []


def test_each_penalty_is_explained_by_itself():
    rows = curve(kl_estimate=[-0.1, -0.1], club_a_b=[0.3, -0.5])
    sides = {"kl": "below", "club": "above"}
    assert [len(explain_negative(rows[:n], sides)) for n in (1, 2)] == [1, 1]
    assert explain_negative(rows, sides)[0].startswith("club/a_b -0.500 is a bound from above")


def test_the_log_of_a_run_says_it_once(config, caplog, monkeypatch):
    monkeypatch.setattr(Dependency, "estimate", lambda self, view: {"estimate": torch.tensor(-0.25)})
    with caplog.at_level(logging.WARNING, logger="mdm.runs.progress"):
        run(config("model=lmf", "penalty=kl", "trainer.max_epochs=2"))
    said = [r.message for r in caplog.records if "is a bound from" in r.message]
    assert said == [f"kl/estimate -0.250 is a bound from below: {NEGATIVE['below']}"]
