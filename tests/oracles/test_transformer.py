"""MAG-BERT, MAG-XLNet, WSA-BERT, MIRD, MMIM, MISA, Self-MM, MulT and CLUB against frozen runs of their official code."""

from __future__ import annotations

import math

import pytest
import torch
from oracles.contract import (
    FORWARD,
    GRADIENT,
    TRAJECTORY,
    Built,
    build,
    columns_difference,
    forward_difference,
    gradient_difference,
    largest,
    loss_difference,
    spread_differences,
    terms,
    train,
    trajectory_differences,
)
from oracles.disentangled import club_names, misa_order
from oracles.frozen import Frozen, load, read, read_gradients
from oracles.transformer import SYSTEMS, split_stacked

from mdm.backbones import encoders
from mdm.penalties.base import View
from mdm.penalties.club import Club
from mdm.types import Fusion

CASES = [(name, "") for name in SYSTEMS] + [(name, "padded/") for name, system in SYSTEMS.items() if system.padded]
PARTS = {
    "magbert": {"task": "task"},
    "mult": {"task": "task"},
    "misa": {part: part for part in ("task", "similarity", "reconstruction")},
    "mird": {"task": "task", "club": "own/term"} | {m: f"reconstruct_{m}" for m in ("language", "audio", "video")},
}
"""Official loss part → ours, where both are in the same units; the rest is tested by itself."""
WHOLE = ("magbert", "mmim")
BY_DEFAULT = ("magbert", "magxlnet", "wsabert_mlp", "mird_lstm", "mmim", "misa", "selfmm", "mult")
"""Which train their 20 steps, and which pass once; the others are slow."""


@pytest.fixture(autouse=True)
def small_xlnet(monkeypatch):
    """A random encoder of the frozen size."""
    monkeypatch.setitem(encoders.SHAPES, "tiny", {"hidden": 16, "layers": 2, "heads": 2})


def frozen_of(name: str) -> Frozen:
    frozen = Frozen(name)
    return split_stacked(frozen) if name == "mult" else frozen


def slow_but(names, values):
    """Parameters, slow but for some systems' main case."""
    return [pytest.param(*v, marks=() if v[0] in names and v[1:] in ((), ("",)) else pytest.mark.slow) for v in values]


def outputs(name: str, frozen: Frozen, case: str):
    order = misa_order(frozen) if name == "misa" else slice(None)
    known = {
        "prediction": lambda backbone, fusion, batch: fusion.prediction,
        "z": lambda backbone, fusion, batch: fusion.z[:, order],
    }
    known["z_shared"] = lambda backbone, fusion, batch: fusion.parts["shared"]
    for m in ("language", "audio", "video"):
        known[m] = known[f"z_{m}"] = known[f"projected_{m}"] = lambda backbone, fusion, batch, m=m: fusion.unimodal[m]
        for kind in ("private", "shared", "feature", "prediction"):
            known[f"{kind}_{m}"] = lambda backbone, fusion, batch, key=f"{kind}_{m}": fusion.parts[key]
    return {key: known[key] for key in frozen.group("out/", case) if key in known}


def give_labels(built: Built) -> None:
    """Self-MM's labels of the first batch are the generated ones of the frozen run."""
    backbone, n = built.learner.backbone, len(built.first)
    for kind, m in enumerate(("language", "audio", "video"), start=1):
        backbone.labels[kind, :n] = torch.tensor(built.frozen.arrays[f"official/generated_{m}"]).view(n, 1)
        backbone.known[kind, :n] = True


@pytest.mark.parametrize(("name", "case"), slow_but(BY_DEFAULT, CASES))
def test_forward_pass_loss_parts_and_gradients(config, tmp_path, name, case):
    frozen = frozen_of(name)
    built = build(SYSTEMS[name], frozen, config, tmp_path, case)
    assert forward_difference(built, outputs(name, frozen, case)) < FORWARD
    if name == "selfmm":
        give_labels(built)
    assert loss_difference(built, PARTS.get(name.split("_")[0].replace("magxlnet", "magbert"), {"task": "task"})) < FORWARD
    built.learner.penalties.train()
    for penalty in built.learner.penalties.values():
        penalty.start_epoch()
    assert gradient_difference(built, critics=not name.startswith("mird")) < GRADIENT


@pytest.mark.parametrize(("name", "case"), slow_but(WHOLE, CASES))
def test_twenty_steps_of_the_learner(config, tmp_path, name, case):
    built = build(SYSTEMS[name], frozen_of(name), config, tmp_path, case)
    found = trajectory_differences(built, tmp_path / "run")
    assert max(found.values()) < TRAJECTORY, found


@pytest.mark.parametrize("name", slow_but(BY_DEFAULT, [(name,) for name in SYSTEMS]))
def test_places_and_rates_of_dropout(config, tmp_path, name):
    assert columns_difference(build(SYSTEMS[name], frozen_of(name), config, tmp_path)) < FORWARD


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_initial_spreads(config, tmp_path, name):
    assert spread_differences(build(SYSTEMS[name], frozen_of(name), config, tmp_path)) == []


# ---- parts in other units, and other passes


def test_mmim_in_both_stages(config, tmp_path):
    """Likelihoods and cosines by pair, the critics' gradient, and the loss of a third batch with the memory of the second."""
    frozen = Frozen("mmim")
    built = build(SYSTEMS["mmim"], frozen, config, tmp_path)
    learner, expected = built.learner, frozen.group("loss/")
    learner.backbone.eval()
    batches, own = list(built.loader), learner.penalties["own"]
    found, alpha = terms(learner, batches[0]), learner.backbone.alpha
    for m in ("language", "audio", "video"):
        assert float(found[f"cpc_{m}"].detach()) / alpha == pytest.approx(float(expected[f"nce_{m}"]), abs=FORWARD)
    with torch.no_grad():
        views = [View(learner.backbone(batch), None, batch.label) for batch in batches]
        pairs = [f"likelihood_{x}_{y}" for x, y in own.pairs]
        assert largest(dict(zip(pairs, own._likelihoods(views[0]), strict=True)), {key: expected[key] for key in pairs}) < FORWARD
    learner.zero_grad()
    own.requires_grad_(True)
    own.critic_loss(views[0]).backward()
    names = {name: place for name, place in built.names.items() if f"grad0/{name}" in frozen.arrays}
    assert names
    assert largest(read_gradients(learner, names), frozen.group("grad0/")) < GRADIENT
    # H here is Σ_c ½ (−log ½ + ½ log det S_c + d/2 log 2πe) of two pairs; the official code leaves the constants out.
    own.train()
    own.start_epoch()
    own(views[0]), own(views[1])
    value = -own(views[2])["entropy"] / own.weight
    width = own.spaces["audio"].bias.shape[0]
    constants = 2 * (math.log(2) + width / 2 * math.log(2 * math.pi * math.e))
    theirs = sum(float(expected[f"entropy_{x}_{y}"]) for x, y in own.pairs)
    assert float(value.detach()) == pytest.approx(theirs + constants, abs=FORWARD)


def test_mmim_decays_its_unused_projection_where_gradients_are_filled_with_zeros(config, tmp_path):
    frozen = Frozen("mmim")
    built = build(SYSTEMS["mmim"], frozen, config, tmp_path, extra=["model.own_penalty.objective.unused=decayed"])
    names = {name: place for name, place in built.names.items() if "entropy_prj" in name}
    start = read(built.learner, names)
    trajectory_differences(built, tmp_path / "run")
    moved, expected = read(built.learner, names), frozen.group("after20_zero_filled/")
    assert set(expected) == set(names)
    assert largest(moved, expected) < TRAJECTORY * largest(start, expected)


def test_misa_differs_from_the_official_difference_by_its_weight_alone(config, tmp_path):
    frozen = Frozen("misa")
    built = build(SYSTEMS["misa"], frozen, config, tmp_path)
    built.learner.backbone.eval()
    found = terms(built.learner, built.first)["difference"].detach() / frozen.used["diff"]
    assert float(found) == pytest.approx(float(frozen.group("loss/")["difference"]), abs=FORWARD)


def test_misa_cuts_the_texts_of_a_batch_at_its_longest_segment(config, tmp_path):
    """A batch without a long segment: its texts lose pieces that they would keep in another."""
    frozen = Frozen("misa")
    short = build(SYSTEMS["misa"], frozen, config, tmp_path / "short", "short/")
    batch = next(iter(short.load([frozen.arrays["short/official/rows"].tolist()])))
    with torch.no_grad():
        prediction = short.learner.backbone.eval()(batch).prediction
    assert (prediction - frozen.group("out/", "short/")["prediction"]).abs().max() < FORWARD


def test_selfmm_weighs_its_own_losses_by_how_far_labels_have_moved(config, tmp_path):
    built = build(SYSTEMS["selfmm"], Frozen("selfmm"), config, tmp_path)
    give_labels(built)
    assert loss_difference(built, {m: f"unimodal_{m}" for m in ("language", "audio", "video")}) < FORWARD


@pytest.mark.slow
def test_selfmm_moves_its_labels_as_the_official_code(config, tmp_path):
    """After six epochs, from the second of which on they move."""
    built = build(SYSTEMS["selfmm"], Frozen("selfmm"), config, tmp_path, extra=["trainer.max_epochs=6"])
    train(built, tmp_path / "run")
    for kind, m in enumerate(("language", "audio", "video"), start=1):
        ours, theirs = built.learner.backbone.labels[kind, :, 0], torch.tensor(built.frozen.arrays[f"log/labels_{m}"][-1])
        assert (ours - theirs.flatten()).abs().max() < 1e-3


@pytest.mark.parametrize(("name", "case"), slow_but(BY_DEFAULT, [case for case in CASES if case[0].startswith("mird")]))
def test_mird_fits_its_critics_to_half_the_official_loss(config, tmp_path, name, case):
    frozen = Frozen(name)
    built = build(SYSTEMS[name], frozen, config, tmp_path, case)
    learner, own = built.learner, built.learner.penalties["own"]
    with torch.no_grad():
        fusion = learner.backbone.eval()(built.first)
    loss = 2 * own.critic_loss(View(fusion, None, built.first.label)) - sum(own.conditional.widths) * math.log(2 * math.pi)
    assert float(loss.detach()) == pytest.approx(float(frozen.group("loss/", case)["learning"]), abs=FORWARD)
    loss.backward()
    expected = {key: value for key, value in frozen.group("grad/", case).items() if key.startswith("clubs.")}
    assert largest(read_gradients(learner, {key: built.names[key] for key in expected}), expected) < GRADIENT


def test_club():
    """One pair: estimate, critic's loss and its gradient. The official loss is twice −log q without the constant."""
    frozen = Frozen("club")
    hidden = frozen.used["hidden"] // 2
    x, y = (torch.tensor(frozen.arrays[f"input/{name}"]) for name in "xy")
    club = Club(1, 1.0, {"x": x.shape[1], "y": y.shape[1]}, hidden=hidden, normalize=False)
    names = club_names("", "conditional", 0, x.shape[1], y.shape[1], hidden)
    load(club, names, frozen.parameters)
    view = View(Fusion(y[:, :1], y[:, :1], {"x": x, "y": y}), None, y[:, :1])
    assert float(club.estimate(view)["x_y"].detach()) == pytest.approx(float(frozen.group("out/")["estimate"]), abs=FORWARD)
    loss = 2 * club.critic_loss(view) - y.shape[1] * math.log(2 * math.pi)
    assert float(loss.detach()) == pytest.approx(float(frozen.group("loss/")["learning"]), abs=FORWARD)
    loss.backward()
    assert largest(read_gradients(club, names), frozen.group("grad/")) < GRADIENT
