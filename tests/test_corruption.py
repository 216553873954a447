"""Corruptions: each does what its name says, and every backbone bears it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from corrupted import KEPT_VIDEO, batch_of, compose_run, generator
from omegaconf import OmegaConf

from mdm.data.base import PADDING
from mdm.runs.build import build_learner, build_splits
from mdm.studies.robustness.corruption import (
    Corruption,
    add_noise,
    average_frames,
    corrupt,
    replace_by_means,
)
from mdm.types import Batch
from mdm.types import Sequence as Steps

ROOT = Path(__file__).resolve().parents[1]
MODELS = {path.stem: OmegaConf.load(path) for path in sorted((ROOT / "configs/model").glob("*.yaml"))}
BACKBONES = [name for name, node in MODELS.items() if "backbone" in node and "images" not in node.backbone]
"""Of segments that have the modalities below."""
SUBSETS = [(), ("language",), ("video",), ("audio", "video")]


# Corruptions --------------------------------------------------------------------------------------------


def test_what_is_kept_is_untouched_and_nothing_is_changed_in_place():
    batch = batch_of()
    before = {m: s.values.clone() for m, s in batch.sequences.items()}
    for corruption in ("absent", "zero", "noise"):
        found = corrupt(batch, Corruption(KEPT_VIDEO, corruption), means={})
        assert found.sequences["video"] is batch.sequences["video"]
        assert (found.ids, found.label is batch.label) == (batch.ids, True)
        for m in ("language", "audio"):
            assert not torch.equal(found.sequences[m].values, before[m])
    assert all(torch.equal(s.values, before[m]) for m, s in batch.sequences.items())


def test_absent_has_no_step_and_zero_keeps_them_all():
    batch = batch_of()
    absent = corrupt(batch, Corruption(KEPT_VIDEO, "absent"), means={}).sequences
    zero = corrupt(batch, Corruption(KEPT_VIDEO, "zero"), means={}).sequences
    for m in ("language", "audio"):
        assert absent[m].lengths.tolist() == [0] * 5
        assert torch.equal(zero[m].mask, batch.sequences[m].mask)
        assert set(zero[m].values.unique().tolist()) == {PADDING}


def test_the_mean_is_that_of_all_real_steps():
    """By hand: steps 1, 3 and 8 of two rows, one of them a padded step's neighbour, have the mean 4."""
    values = torch.tensor([[[1.0], [3.0]], [[8.0], [99.0]]])
    steps = Steps(values, torch.tensor([[True, True], [True, False]]))
    batch = Batch(("a", "b"), {"audio": steps}, torch.zeros(2, 1))
    means = average_frames([batch, batch])
    assert {m: v.tolist() for m, v in means.items()} == {"audio": [4.0]}
    assert replace_by_means(steps, "audio", means).values[..., 0].tolist() == [[4.0, 4.0], [4.0, 0.0]]


def test_the_mean_is_zero_after_standard_scaling_and_not_after_another():
    for scale, zero in (("standard", True), ("none", False)):
        splits = build_splits(compose_run(f"data.scale={scale}", "data.max_steps=null"))
        means = average_frames(splits.in_order("train"))
        assert set(means) == {"audio", "video"}
        assert bool((means["audio"].abs() < 1e-5).all()) == zero


def test_words_have_no_mean():
    with pytest.raises(ValueError, match=r"but language comes as words or tokens; remove it by absent, zero or noise"):
        corrupt(batch_of(), Corruption(("audio",), "mean"), means=average_frames([batch_of()]))


# Noise --------------------------------------------------------------------------------------------------


def test_no_noise_changes_nothing_and_full_noise_is_another_row():
    """Rows of one length: at level 1 they are the same rows in another order, and none has kept its place."""
    rng = generator(1)
    for values in (torch.randn(9, 4, 3, generator=rng), torch.randint(2, 1000, (9, 4), generator=rng)):
        steps = Steps(values, torch.ones(9, 4, dtype=torch.bool))
        assert torch.equal(add_noise(steps, "audio", 0.0, generator()).values, values)
        full = add_noise(steps, "audio", 1.0, generator()).values
        flat, rows = full.reshape(9, -1), values.reshape(9, -1)
        origin = [(rows == row).all(1).nonzero().item() for row in flat]
        assert sorted(origin) == list(range(9))
        assert all(i != j for i, j in enumerate(origin))


def test_half_noise_is_half_of_each():
    steps = batch_of().sequences["video"]
    full, half = (add_noise(steps, "video", level, generator()).values for level in (1.0, 0.5))
    torch.testing.assert_close(half, (steps.values + full) / 2)


def test_words_are_replaced_at_their_rate_and_stay_replaced():
    values = torch.arange(2, 2 + 40 * 50).reshape(40, 50)
    steps = Steps(values, torch.ones(40, 50, dtype=torch.bool))
    changed = {level: add_noise(steps, "language", level, generator()).values != values for level in (0.25, 0.5)}
    for level, where in changed.items():
        # 2,000 draws: five standard deviations.
        assert abs(where.float().mean().item() - level) < 5 * (level * (1 - level) / 2000) ** 0.5
    assert not (changed[0.25] & ~changed[0.5]).any()


def test_a_shorter_partner_is_repeated_and_padding_anywhere_stays():
    """Two rows, so each takes from the other: of [7, 8] and [1, 2, 3] become [1, 2] and [7, 8, 7]."""
    values = torch.tensor([[0, 7, 0, 8], [1, 2, 3, 0]])
    mask = torch.tensor([[False, True, False, True], [True, True, True, False]])
    found = add_noise(Steps(values, mask), "language", 1.0, generator())
    assert found.values.tolist() == [[0, 1, 0, 2], [7, 8, 7, 0]]
    frames = add_noise(Steps(values.float().unsqueeze(-1), mask), "audio", 1.0, generator())
    assert frames.values[..., 0].tolist() == found.values.tolist()
    assert torch.equal(found.mask, mask)


def test_rows_without_the_modality_neither_give_nor_take():
    audio = batch_of().sequences["audio"]
    found = add_noise(audio, "audio", 1.0, generator())
    assert found.lengths.tolist() == audio.lengths.tolist()
    assert not found.values[1].any()
    assert found.values[audio.mask].any(1).all()
    none = Steps(torch.zeros(3, 2, 4), torch.zeros(3, 2, dtype=torch.bool))
    assert torch.equal(add_noise(none, "audio", 1.0, generator()).values, none.values)


def test_noise_is_a_function_of_seed_modality_and_batch():
    batch, setting = batch_of(), Corruption((), "noise", 0.5)

    def values(m="video", **of):
        return corrupt(batch, setting, means={}, **of).sequences[m].values

    assert torch.equal(values(seed=3, index=1), values(seed=3, index=1))
    assert not torch.equal(values(seed=3), values(seed=4))
    assert not torch.equal(values(seed=3), values(seed=3, index=1))
    without_audio = corrupt(batch, Corruption(("audio",), "noise", 0.5), means={}, seed=3).sequences["video"].values
    assert torch.equal(without_audio, values(seed=3))


def test_noise_needs_two_segments():
    with pytest.raises(ValueError, match=r"only one segment of the batch has video; use another corruption, or a larger test"):
        add_noise(batch_of().sequences["video"][:1], "video", 1.0, generator())


# Every backbone -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", BACKBONES)
def test_every_backbone_bears_every_corruption(model):
    splits = build_splits(compose_run(f"model={model}"))
    backbone = build_learner(compose_run(f"model={model}"), splits).eval().backbone
    batch, means = next(iter(splits.valid())), average_frames(splits.in_order("train"))
    with torch.no_grad():
        clean = backbone(batch).prediction
        for kept in SUBSETS:
            for corruption in ("absent", "zero", "noise", *(["mean"] if "language" in kept else [])):
                found = backbone(corrupt(batch, Corruption(kept, corruption), means=means)).prediction
                assert found.shape == clean.shape
                assert torch.isfinite(found).all(), (kept, corruption)
                if not kept and corruption == "absent" and batch.context is None:
                    assert float(np.ptp(found.numpy())) < 1e-4  # nothing is left to tell segments apart, but their place in a video
                else:
                    assert not torch.equal(found, clean), (kept, corruption)


@pytest.mark.parametrize(("model", "passes"), [("magbert", False), ("magxlnet", False), ("wsabert", True), ("lmf", True)])
def test_whether_audio_and_video_reach_a_prediction_without_words(model, passes):
    """MAG gives frames to words: without any they have nowhere to go, and with padding words they have. Others need no words."""
    splits = build_splits(compose_run(f"model={model}"))
    backbone = build_learner(compose_run(f"model={model}"), splits).eval().backbone
    batch, kept = next(iter(splits.valid())), ("audio", "video")
    with torch.no_grad():
        spread = {
            c: float(np.ptp(backbone(corrupt(batch, Corruption(kept, c), means={})).prediction.numpy())) for c in ("absent", "zero")
        }
    assert (spread["absent"] > 1e-5) == passes
    assert spread["zero"] > 1e-5
