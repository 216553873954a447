"""The LSTM line against frozen runs of its official code: MFN, EF-LSTM, TFN, LMF, MFM and its ablations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
import torch
from oracles.contract import (
    FORWARD,
    GRADIENT,
    TRAJECTORY,
    build,
    columns_difference,
    forward_difference,
    gradient_difference,
    loss_difference,
    spread_differences,
    trajectory_differences,
)
from oracles.frozen import Frozen
from oracles.recurrent import SYSTEMS
from torch import Tensor

SUMMED = {"tfn", "lmf"}
"""Their loss is a sum over the batch."""
OUTPUTS = {
    "prediction": lambda backbone, fusion, batch: fusion.prediction,
    "z": lambda backbone, fusion, batch: fusion.z,
    **{m: lambda backbone, fusion, batch, m=m: fusion.unimodal[m] for m in ("language", "audio", "video")},
    **{
        f"rebuilt_{m}": lambda backbone, fusion, batch, m=m: backbone.decode(m, fusion.parts, batch.sequences[m].lengths).transpose(
            0, 1
        )
        for m in ("language", "audio", "video")
    },
}
CASES = [(name, case) for name in SYSTEMS for case in ("", "padded/")]


@contextmanager
def priors(frozen: Frozen, rows: list[int]) -> Iterator[None]:
    """MFM compares its codes with samples of the prior; these are the ones of the official run, for one step after the other."""
    names = [key.removeprefix("official/") for key in frozen.arrays if key.startswith("official/prior_")]
    order = sorted(names, key=["prior_y", "prior_all", "prior_language", "prior_audio", "prior_video"].index)
    draws = iter([torch.tensor(frozen.arrays[f"official/{name}"][row]) for row in rows for name in order])

    def next_draw(z: Tensor) -> Tensor:
        draw = next(draws)
        assert draw.shape == z.shape
        return draw

    with mock.patch.object(torch, "randn_like", next_draw):
        yield


@pytest.mark.parametrize(("name", "case"), CASES)
def test_forward_pass_loss_parts_and_gradients(config, tmp_path, name, case):
    frozen = Frozen(name)
    built = build(SYSTEMS[name], frozen, config, tmp_path, case)
    found = [key for key in frozen.group("out/", case) if key in OUTPUTS and not (name == "mfm_d" and key.startswith("rebuilt"))]
    assert forward_difference(built, {key: OUTPUTS[key] for key in found}) < FORWARD
    parts = [key for key in frozen.group("loss/", case) if not (name == "mfm_d" and key.startswith("reconstruction"))]
    with priors(frozen, [20]):
        assert loss_difference(built, {key: "task" if key == "task_sum" else key for key in parts}) < FORWARD
    with priors(frozen, [20]):
        assert gradient_difference(built) < GRADIENT


@pytest.mark.parametrize("name", SYSTEMS)
def test_masked_padding_predicts_what_each_segment_alone_would(config, tmp_path, name):
    """Other than official padding: what a model that is told the lengths must give."""
    frozen = Frozen(name)
    built = build(SYSTEMS[name], frozen, config, tmp_path, "padded/", ["data.padding=masked"])
    with torch.no_grad():
        found = built.learner.backbone.eval()(built.first).prediction
    assert float((found - frozen.group("alone/out/")["prediction"]).abs().max()) < FORWARD
    assert not torch.equal(found, frozen.group("out/", "padded/")["prediction"])


@pytest.mark.parametrize(("name", "case"), CASES)
def test_twenty_steps_of_the_learner(config, tmp_path, name, case):
    frozen = Frozen(name)
    built = build(SYSTEMS[name], frozen, config, tmp_path, case)
    with priors(frozen, list(range(20))):
        found = trajectory_differences(built, tmp_path / "run")
    assert max(found.values()) < TRAJECTORY, found


@pytest.mark.parametrize("name", SYSTEMS)
def test_places_and_rates_of_dropout(config, tmp_path, name):
    assert columns_difference(build(SYSTEMS[name], Frozen(name), config, tmp_path)) < FORWARD


@pytest.mark.parametrize("name", SYSTEMS)
def test_initial_spreads(config, tmp_path, name):
    assert spread_differences(build(SYSTEMS[name], Frozen(name), config, tmp_path)) == []
