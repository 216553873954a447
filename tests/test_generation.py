"""Measures of generated images where they are known, on a model whose codes are planted, and the study on runs of a second."""

import math
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from scipy import stats
from torch import nn

import mdm
from mdm.commands.study import main
from mdm.runs import records
from mdm.runs.protocol import run
from mdm.runs.trained import Trained
from mdm.studies.generation import images as generation
from mdm.studies.generation.wording import describe_difference
from mdm.sweeps.experiment import list_cells, parse_table
from mdm.types import Batch, Sequence

pytestmark = pytest.mark.slow  # whole studies, from training to picture

ROOT = Path(__file__).resolve().parents[1]
SMALL = ["data.segments.train=96", "data.segments.valid=40", "data.segments.test=60", "trainer.max_epochs=1", "seed=0"]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Measures that are known ---------------------------------------------------------------------------------


def test_explained_by_hand():
    """Means 2 and 6: B = 2 · (4 + 4) / 1 = 16, W = (1 + 1 + 1 + 1) / 2 = 2, so (16 − 2) / (16 + 2)."""
    assert generation.measure_explained(torch.tensor([[[1.0], [3.0]], [[5.0], [7.0]]])) == pytest.approx(14 / 18)
    # A coordinate that never varies changes nothing.
    assert generation.measure_explained(torch.tensor([[[1.0, 9], [3, 9]], [[5, 9], [7, 9]]])) == pytest.approx(14 / 18)


def test_explained_is_the_share_of_the_codes_variance():
    """Of a + 2e, a and e standard normal, a fifth; nothing of e alone, without bias; all of a alone."""
    a, e = normal(400, 1, 3), normal(400, 8, 3, seed=1)
    assert generation.measure_explained(a + 2 * e) == pytest.approx(0.2, abs=0.03)
    assert generation.measure_explained(e) == pytest.approx(0, abs=0.015)
    assert generation.measure_explained(a.expand(-1, 8, -1)) == 1
    assert math.isnan(generation.measure_explained(torch.ones(3, 2, 4)))
    many = [generation.measure_explained(normal(10, 3, 1, seed=s)) for s in range(200)]
    assert abs(np.mean(many)) < 4 * np.std(many) / math.sqrt(200)


def test_entropy_of_names():
    """Of one name, 0; of four, log 4; of 3 of 4 and 1, by the formula."""
    names = torch.tensor([[2, 2, 2, 2], [0, 1, 2, 3], [0, 0, 5, 0]])
    each = [0, math.log(4), -0.75 * math.log(0.75) - 0.25 * math.log(0.25)]
    assert generation.measure_entropy(names) == pytest.approx(np.mean(each))


def test_nearer_counts_a_tie_half():
    made, source, other = torch.tensor([[0.0], [2], [1], [1]]), torch.zeros(4, 1), torch.tensor([[2.0], [2], [2], [9]])
    assert generation.measure_nearer(made, source, other) == pytest.approx((1 + 0 + 0.5 + 1) / 4)


def test_fixed_codes_stay_and_the_others_are_of_the_prior():
    codes = {"y": normal(50, 4) + 7, "svhn": normal(50, 3) + 7}
    found = generation.draw_codes(codes, ("svhn",), 100, torch.Generator().manual_seed(0))
    assert torch.equal(found["svhn"], codes["svhn"].repeat_interleave(100, 0))
    assert found["y"].shape == (5000, 4)
    assert found["y"].mean(0).abs().max() < 0.07
    torch.testing.assert_close(torch.cov(found["y"].T), torch.eye(4), atol=0.09, rtol=0)


# A model whose codes are planted --------------------------------------------------------------------------


class Plain(nn.Module):
    """[F_y; F_m] → an image whose first pixels say which number of F_y is the largest, all others by the first of F_m."""

    def __init__(self, shape):
        super().__init__()
        self.shape = shape

    def forward(self, factors):
        image = torch.sigmoid(factors[:, 10:11]).repeat(1, math.prod(self.shape)) * 0.9
        image[torch.arange(len(image)), factors[:, :10].argmax(1)] = 1
        return image.unflatten(1, self.shape)


def named(images):
    return images.flatten(1)[:, :10].argmax(1)


@pytest.fixture
def planted(trained, monkeypatch):
    """A run whose Z_y is the label and whose Z_m is the brightness; pairs of the test fold have both at random."""
    learner = deepcopy(trained.learner)
    backbone = learner.backbone
    backbone.factors = nn.ModuleDict({name: nn.Identity() for name in ("y", "svhn", "mnist")})
    backbone.decoders = nn.ModuleDict({m: Plain(shape) for m, shape in backbone.shapes.items()})
    backbone.head = nn.Identity()
    labels = torch.arange(120) % 10
    codes = {"y": 4 * torch.eye(10)[labels], "svhn": normal(120, 3, seed=1), "mnist": normal(120, 2, seed=2)}
    real = {m: backbone.decode(m, {"f_y": codes["y"], f"f_{m}": codes[m]}) for m in backbone.shapes}
    monkeypatch.setattr(generation, "encode_held_out", lambda trained, pairs: (codes, real, labels))
    return replace(trained, learner=learner)


def test_what_was_planted_is_found(planted):
    rows = pd.DataFrame(generation.measure_images(planted, {"svhn": named, "mnist": named}, 120, 16))
    found = rows.set_index(["fixed", "modality", "measure"]).value
    assert not found.index.duplicated().any()
    for m, other in (("svhn", "mnist"), ("mnist", "svhn")):
        # Whatever is fixed, images show what D reads, and both the same.
        for fixed in ("all", "y", "svhn", "mnist", "none"):
            assert found[fixed, m, "head"] == 1
            assert found[fixed, "both", "agree"] == 1
        assert found["real", m, "digit"] == found["all", m, "digit"] == found["y", m, "digit"] == 1
        assert found["y", m, "entropy"] == 0
        for fixed in ("svhn", "mnist", "none"):
            assert found[fixed, m, "digit"] == pytest.approx(0.1, abs=0.04)
            # Of 16 uniform draws of ten names, each drawn binomially often: less than log 10.
            shares = np.arange(1, 17) / 16
            expected = -10 * float((stats.binom.pmf(np.arange(1, 17), 16, 0.1) * shares * np.log(shares)).sum())
            assert found[fixed, m, "entropy"] == pytest.approx(expected, abs=0.04)
        assert found[m, m, "colour"] == pytest.approx(1, abs=1e-3)
        assert found[m, m, "pixels"] > 0.5
        assert found[m, m, "nearer"] == found["all", m, "nearer"] == 1
        for fixed in ("y", other, "none"):
            assert found[fixed, m, "colour"] == pytest.approx(0, abs=0.05)
            assert found[fixed, m, "nearer"] == pytest.approx(0.5, abs=0.1)


def test_without_judges_there_are_styles_alone(planted):
    rows = pd.DataFrame(generation.measure_images(planted, {}, 120, 4))
    assert set(rows.measure) == {"colour", "pixels", "nearer"}
    assert set(pd.DataFrame(generation.measure_images(planted, {"mnist": named}, 120, 4)).query("measure == 'digit'").modality) == {
        "mnist"
    }


def test_judges_that_disagree_agree_by_chance(planted):
    """One of them names every image 3."""
    rows = pd.DataFrame(generation.measure_images(planted, {"svhn": named, "mnist": lambda x: torch.full((len(x),), 3)}, 120, 4))
    agree = rows[(rows.fixed == "y") & (rows.measure == "agree")].value.item()
    assert agree == pytest.approx(0.1)


# On runs --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """All rows of Figure 5, in little, one seed."""
    root = tmp_path_factory.mktemp("generation")
    overrides = ["experiment=mfm/figure5", *SMALL, f"paths.outputs={root}"]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        for cell in list_cells(parse_table(compose("train", ["experiment=mfm/figure5"])), overrides):
            run(compose("train", cell.runs()[0]), cell.runs()[0])
    return root


def place(outputs, which):
    """The folder of a row by what its overrides say."""
    folders = {path.parent for path in outputs.rglob(records.METRICS)}
    (folder,) = [f for f in folders if which in f.parent.name] if which else [f for f in folders if "variant" not in str(f)]
    return folder


@pytest.fixture(scope="module")
def trained(outputs):
    return mdm.load(place(outputs, ""))


def test_codes_images_and_labels_are_those_of_the_test_fold(trained):
    codes, images, labels = generation.encode_held_out(trained, None)
    (batch,) = trained.batches("test")
    with torch.no_grad():
        parts = trained.backbone(batch).parts
    assert {name: torch.equal(z, parts[f"z_{name}"]) for name, z in codes.items()} == dict.fromkeys(("y", "svhn", "mnist"), True)
    assert torch.equal(images["svhn"].flatten(1), batch.sequences["svhn"].values[:, 0])
    assert images["mnist"].shape == (60, 1, 28, 28)
    assert torch.equal(labels, batch.label.argmax(1))
    assert torch.equal(generation.encode_held_out(trained, 7)[2], labels[:7])
    with pytest.raises(ValueError, match=r"Codes of 61 test pairs are to be fixed, but .* has 60; lower study\.pairs"):
        generation.encode_held_out(trained, 61)


def test_pairs_without_an_image_are_left_out(trained, monkeypatch):
    (batch,) = trained.batches("test")
    s = batch.sequences["mnist"]
    mask = s.mask.clone()
    mask[:10] = False
    holed = Batch(batch.ids, {**batch.sequences, "mnist": Sequence(s.values, mask)}, batch.label)
    monkeypatch.setattr(Trained, "batches", lambda self, fold: [holed])
    codes, images, labels = generation.encode_held_out(trained, None)
    assert {len(x) for x in (*codes.values(), *images.values(), labels)} == {50}
    assert torch.equal(labels, batch.label[10:].argmax(1))


@pytest.mark.parametrize("modality", ["svhn", "mnist"])
def test_a_judge_of_real_images_is_as_good_as_its_run(outputs, trained, modality):
    other = mdm.load(place(outputs, f"[{modality}]"))
    _, images, labels = generation.encode_held_out(trained, None)
    hits = generation.make_judge(other)(images[modality]) == labels
    assert float(hits.double().mean()) == pytest.approx(other.record["test"]["accuracy"])


def test_what_cannot_generate_or_judge_is_refused(outputs, trained):
    baseline = mdm.load(place(outputs, "[mnist]"))
    with pytest.raises(
        ValueError, match=r"generated by model=mfm_images with variant=mfm, but .* without decoders; correct study\.of"
    ):
        generation.require_decoders(baseline)
    with pytest.raises(ValueError, match=r"A judge reads one modality, but .* reads svhn, mnist; correct study\.judges"):
        generation.make_judge(trained)


def test_samples_are_real_again_and_drawn(trained):
    found = generation.draw_samples(trained, 2, 3)
    assert list(found) == ["y", "svhn", "mnist", "none"]
    codes, real, labels = generation.encode_held_out(trained, None)
    rows = [int((labels == k).nonzero()[0]) for k in (0, 1)]
    again, _ = generation.decode_all(trained.backbone, {name: z[rows] for name, z in codes.items()})
    for name, images in found.items():
        assert images["svhn"].shape == (2, 5, 3, 32, 32)
        if name != "none":
            np.testing.assert_array_equal(images["mnist"][:, 0], real["mnist"][rows])
            np.testing.assert_allclose(images["mnist"][:, 1], again["mnist"], atol=1e-6)
            assert len(np.unique(images["mnist"][0, 2:], axis=0)) == 3


def test_samples_of_a_planted_model(planted):
    """With Z_y fixed all show the source's digit, with Z_m fixed all images of m are as bright as the source."""
    found = generation.draw_samples(planted, 4, 6)
    for m in ("svhn", "mnist"):
        for k in range(4):
            assert (named(torch.from_numpy(found["y"][m][k])) == k).all()
            bright = {name: images[m][k].reshape(len(images[m][k]), -1)[:, 20] for name, images in found.items()}
            assert np.ptp(bright[m]) == 0
            assert len(set(bright["y"][2:])) == 6
            assert len(set(bright["none"])) == 8


@pytest.mark.slow
def test_the_study_writes_everything(outputs, capsys):
    main(["experiment=mfm/figure5", *SMALL, f"paths.outputs={outputs}", "study.pairs=20", "study.draws=3", "machine.threads=1"])
    said = capsys.readouterr().out
    folder = outputs / "mfm" / "figure5" / "generation"
    assert said == (folder / "summary.md").read_text()
    assert {path.name for path in folder.iterdir()} == {"runs.csv", "accuracies.csv", "figure.pdf", "figure.png", "summary.md"}
    accuracies = pd.read_csv(folder / "accuracies.csv")
    assert list(accuracies.row) == ["um_svhn", "um_mnist", "mm", "mfm"]
    assert "MFM − MM, paired by seed: " in said
    assert "one seed says no more" in said
    runs = pd.read_csv(folder / "runs.csv")
    assert set(runs.fixed) == {"real", "all", "y", "svhn", "mnist", "none"}
    for line in ("| real |", "| Z_mnist |", "- Z_y decides the digit of svhn: digit, ", "Codes of 20 test pairs, 3 draws"):
        assert line in said


def test_differences_are_said_plainly():
    said = describe_difference
    assert said(np.array([0.5, 0.6, 0.7]), np.array([0.1, 0.3, 0.2])).endswith(": higher.")
    assert said(np.array([0.1, 0.3, 0.2]), np.array([0.5, 0.6, 0.7])).endswith(": lower.")
    assert said(np.array([0.1, 0.3]), np.array([0.3, 0.1])).endswith(": no difference is shown.")


def test_missing_judges_are_said(outputs, tmp_path, capsys):
    """Without um_svhn of this seed nobody names its images."""
    for which in ("", "[mnist]"):
        folder = place(outputs, which)
        target = tmp_path / folder.relative_to(outputs)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(folder)
    main(["experiment=mfm/figure5", *SMALL, f"paths.outputs={tmp_path}", "study.pairs=10", "study.draws=2"])
    said = capsys.readouterr().out
    assert "1 judges have not finished; what they would name is left out." in said
    assert "2 runs have not finished and are left out." in said
    assert "- Z_y decides the digit of svhn: digit, not judged" in said


def test_the_study_says_what_it_needs(tmp_path, outputs):
    with pytest.raises(ValueError, match="has none"):
        main(["experiment=mfm/figure5", f"paths.outputs={tmp_path}"])
    with pytest.raises(ValueError, match=r"finished runs of other \(study\.of\), but of these rows none has finished"):
        main(["experiment=mfm/figure5", *SMALL, f"paths.outputs={outputs}", "study.of=[other]"])
