"""Modality drop: each corruption does what its name says, every backbone bears it, and the numbers follow from the predictions."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from scipy import stats

import mdm
from mdm.data.base import PADDING
from mdm.runs.build import build_learner, build_splits
from mdm.runs.naming import record_folder
from mdm.runs.protocol import run
from mdm.studies.robustness import Robustness
from mdm.studies.robustness.corruption import (
    CELL,
    Corruption,
    add_noise,
    average_frames,
    corrupt,
    evaluate_settings,
    list_settings,
    replace_by_means,
    summarise_seeds,
)
from mdm.types import Batch
from mdm.types import Sequence as Steps

ROOT = Path(__file__).resolve().parents[1]
SMALL = ["data.segments.train=48", "data.segments.valid=16", "data.segments.test=40", "trainer.max_epochs=1", "data.max_steps=6"]
MODELS = {path.stem: OmegaConf.load(path) for path in sorted((ROOT / "configs/model").glob("*.yaml"))}
BACKBONES = [name for name, node in MODELS.items() if "backbone" in node and "images" not in node.backbone]
"""Of segments that have the modalities below."""
SUBSETS = [(), ("language",), ("video",), ("audio", "video")]
KEPT_VIDEO = ("video",)


def compose_run(*overrides):
    """The composed config of a run of a second."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("train", [*SMALL, *overrides])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch_of(rows=5, time=4):
    """Words, frames and frames; row 1 has no audio, and the lengths differ."""
    rng = generator()
    lengths = {m: torch.arange(rows) % time + 1 for m in ("language", "audio", "video")}
    lengths["audio"] = lengths["audio"].clone()
    lengths["audio"][1] = 0
    sequences = {}
    for m, n in lengths.items():
        mask = torch.arange(time) < n[:, None]
        values = torch.randint(2, 30, (rows, time), generator=rng) if m == "language" else torch.randn(rows, time, 3, generator=rng)
        sequences[m] = Steps(values * mask if m == "language" else values * mask.unsqueeze(-1), mask)
    return Batch(tuple(f"s{i}" for i in range(rows)), sequences, torch.randn(rows, 1, generator=rng))


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


# Settings -----------------------------------------------------------------------------------------------


def test_settings_are_every_choice_under_every_corruption():
    found = list_settings([["audio"], []], ["absent", "noise"], [0.5, 1])
    assert found == [
        *(Corruption(("audio",), "absent"), Corruption((), "absent")),
        *(Corruption(("audio",), "noise", 0.5), Corruption((), "noise", 0.5)),
        *(Corruption(("audio",), "noise", 1.0), Corruption((), "noise", 1.0)),
    ]


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"kept": [["audio"]], "corruptions": ["blur"]}, r"by some of absent, zero, mean, noise, but .*\['blur'\]"),
        ({"kept": [], "corruptions": ["zero"]}, "name at least one of each"),
        ({"kept": [["audio"]], "corruptions": []}, "name at least one of each"),
        ({"kept": [["audio"]], "corruptions": ["noise"]}, "Noise, and nothing else, has levels from 0 to 1"),
        ({"kept": [["audio"]], "corruptions": ["zero"], "levels": [1]}, "correct one of them"),
        ({"kept": [["audio"]], "corruptions": ["noise"], "levels": [1.5]}, r"study\.levels is \[1\.5\]"),
    ],
)
def test_sections_that_say_nothing_possible(section, said):
    with pytest.raises(ValueError, match=said):
        Robustness(**section)


@pytest.mark.parametrize("kept", [("language", "audio", "video"), ("smell",)])
def test_something_is_removed_and_what_is_kept_is_there(kept):
    with pytest.raises(ValueError, match=r"language, audio, video are kept and at least one is removed, got .*; correct"):
        corrupt(batch_of(), Corruption(kept, "absent"), means={})


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
                if not kept and corruption == "absent":
                    assert float(np.ptp(found.numpy())) < 1e-4  # nothing is left to tell segments apart
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


# Numbers ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    cfg = compose_run("model=lmf", "trainer.max_epochs=3", f"paths.outputs={tmp_path_factory.mktemp('robust')}")
    run(cfg)
    return mdm.load(record_folder(cfg, ()))


def test_a_run_is_measured_as_it_is_and_in_every_setting(trained):
    wanted = [Corruption((), "absent"), Corruption(KEPT_VIDEO, "zero"), Corruption(("language", "video"), "mean")]
    rows = evaluate_settings(trained, wanted)
    assert [(r["kept"], r["corruption"], r["level"]) for r in rows] == [
        ("language+audio+video", "none", 0.0),
        *(("nothing", "absent", 1.0), ("video", "zero", 1.0), ("language+video", "mean", 1.0)),
    ]
    assert {m: rows[0][m] for m in ("acc2_pos", "mae")} == {m: trained.record["test"][m] for m in ("acc2_pos", "mae")}
    assert [r["ratio"] for r in rows] == [r["acc2_pos"] / rows[0]["acc2_pos"] for r in rows]
    # A constant: correlated with nothing, and as often right as one of the two signs.
    label = torch.cat([b.label for b in trained.batches("test")]).numpy()
    share = float((label > 0).sum() / (label != 0).sum())
    assert np.isnan(rows[1]["corr"])
    assert rows[1]["acc2_pos"] in (pytest.approx(share), pytest.approx(1 - share))
    assert [r["majority"] for r in rows] == pytest.approx([max(share, 1 - share)] * 4)
    assert [r["constant"] for r in rows] == [False, True, False, False]


def test_a_run_without_accuracy_has_no_ratio(trained, monkeypatch):
    monkeypatch.setattr("mdm.studies.robustness.corruption.evaluate", lambda *_: {"acc2_pos": 0.0, "mae": 1.0, "corr": 0.0})
    with pytest.raises(ValueError, match=r"to an Acc-2 above 0, but that of .* is 0\.0; take a run and a test fold"):
        evaluate_settings(trained, [])


def table(ratios, row="kl", **of):
    cell = {"data": "d", "row": row, "label": row, "kept": "audio", "corruption": "zero", "level": 1.0, **of}
    rest = {"mae": 1.0, "corr": 0.5, "majority": 0.5, "constant": False}
    return [{**cell, "seed": s, "ratio": r, "acc2_pos": r / 2, **rest} for s, r in ratios.items()]


def test_intervals_and_differences_are_paired_by_seed():
    """Against scipy: seed 7 has no partner, and the order of the rows says nothing."""
    ours, base = {0: 0.7, 1: 0.9, 2: 0.8, 7: 0.1}, {2: 0.75, 1: 0.7, 0: 0.65}
    other_level = table({0: 0.0, 1: 0.0, 2: 0.0}, row="none", level=0.5)
    runs = pd.DataFrame(table(ours) + table(base, row="none") + other_level)
    found = summarise_seeds(runs, {"kl": "none", "none": None}).set_index(["row", "level"])
    row = found.loc[("kl", 1.0)]
    assert row.seeds == 4
    test = stats.ttest_1samp(list(ours.values()), 0).confidence_interval()
    assert [row.ratio, row.ratio_low, row.ratio_high] == pytest.approx([0.625, *test])
    d = [ours[s] - base[s] for s in range(3)]
    low, high = stats.ttest_1samp(d, 0).confidence_interval()
    assert [row.ratio_difference, row.ratio_difference_low, row.ratio_difference_high] == pytest.approx([np.mean(d), low, high])
    assert row.ratio_p == 2 / 2**3
    assert row.acc2_pos_difference == pytest.approx(np.mean(d) / 2)
    assert found.loc["none"].filter(like="difference", axis=1).isna().all(axis=None)
    assert list(summarise_seeds(runs, {"kl": "none", "none": None})[CELL[1]]) == ["kl", "none", "none"]


def test_runs_with_constant_predictions_are_counted():
    runs = pd.DataFrame(table({0: 0.6, 1: 0.7}))
    runs.loc[0, ["corr", "constant"]] = [np.nan, True]
    found = summarise_seeds(runs, {"kl": None}).iloc[0]
    assert (found.constant, found["corr"]) == (1, 0.5)


# The study ----------------------------------------------------------------------------------------------


def script(name, *arguments):
    command = [sys.executable, str(ROOT / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=300)


def test_an_experiment_from_its_runs_to_its_figure(tmp_path):
    given = ["experiment=mdm/robustness", *SMALL, "seed=0,1", "penalty=none,kl", f"paths.outputs={tmp_path}"]
    trained = script("train.py", "-m", *given)
    assert trained.returncode == 0, trained.stderr
    found = script("scripts/study.py", *given, "study.levels=[1]", "jobs=2")
    assert found.returncode == 0, found.stderr
    folder = tmp_path / "mdm/robustness/robustness"
    assert {path.name for path in folder.iterdir()} == {"runs.csv", "settings.csv", "summary.md", "figure.pdf", "figure.png"}
    assert found.stdout == (folder / "summary.md").read_text()
    assert "2 seeds" in found.stdout
    runs, cells = pd.read_csv(folder / "runs.csv"), pd.read_csv(folder / "settings.csv")
    assert len(runs) == 2 * len(cells)
    assert set(runs.row) == {"none", "kl"}
    assert (folder / "figure.png").stat().st_size > 10_000


def test_an_experiment_without_a_study(tmp_path):
    found = script("scripts/study.py", "experiment=mdm/table1", f"paths.outputs={tmp_path}")
    assert (found.returncode, "Traceback" in found.stderr) == (2, False)
    assert "A study is chosen by study=…, or by an experiment that declares one, but mdm/table1 declares none" in found.stderr
