"""MFM for images: its own terms, and what a missing image leaves out of them."""

from dataclasses import replace

import pytest
import torch
from backbones.mfm_images import batch, build, terms_of
from torch.nn import functional as F

from mdm.backbones.mfm import prior_distance
from mdm.types import Sequence


def lacking(b, modality, rows):
    s = b.sequences[modality]
    mask = s.mask.clone()
    mask[rows] = False
    return replace(b, sequences={**b.sequences, modality: Sequence(s.values, mask)})


def test_reconstruction_is_the_mean_square_over_pixels():
    weights = {"svhn": 2.0, "mnist": 0.5}
    backbone, b = build(reconstruction_weight=weights), batch()
    parts, terms = backbone(b).parts, terms_of(backbone, b)
    assert set(terms) == {"reconstruction_svhn", "reconstruction_mnist", "prior"}
    for m, s in b.sequences.items():
        error = (backbone.decode(m, parts).flatten(1) - s.values[:, 0]).square().mean()
        torch.testing.assert_close(terms[f"reconstruction_{m}"], weights[m] * error)


@pytest.mark.parametrize("options", [{}, {"kernel_scale": "official"}, {"kernel_scale": "multi"}])
def test_the_prior_s_term_is_that_of_mfm(options):
    backbone, b = build(prior_weight=0.3, **options), batch()
    z = [backbone(b).parts[f"z_{name}"] for name in ("y", "svhn", "mnist")]
    scale = options.get("kernel_scale", "corrected")
    torch.testing.assert_close(terms_of(backbone, b)["prior"], 0.3 * prior_distance(torch.cat(z, 1), scale, "closed"))
    backbone.mmd = "per_factor"
    expected = 0.3 * sum(prior_distance(code, scale, "closed") for code in z)
    torch.testing.assert_close(terms_of(backbone, b)["prior"], expected)


def test_what_a_segment_lacks_is_neither_reconstructed_nor_asked_to_follow_the_prior():
    backbone = build(mmd="per_factor", prior_weight=1.0, reconstruction_weight=1.0)
    b = lacking(lacking(batch(), "svhn", [1, 2]), "mnist", [2])
    fusion, terms = backbone(b), terms_of(backbone, b)
    assert (fusion.unimodal["svhn"][1:3] == 0).all()
    assert torch.equal(fusion.parts["z_svhn"][1], fusion.parts["z_svhn"][2])
    have = {"svhn": torch.tensor([0, 3, 4]), "mnist": torch.tensor([0, 1, 3, 4]), "y": torch.tensor([0, 1, 3, 4])}
    for m in ("svhn", "mnist"):
        rows = have[m]
        made = backbone.decode(m, fusion.parts)[rows].flatten(1)
        torch.testing.assert_close(terms[f"reconstruction_{m}"], (made - b.sequences[m].values[rows, 0]).square().mean())
    expected = sum(prior_distance(fusion.parts[f"z_{name}"][rows], "corrected", "closed") for name, rows in have.items())
    torch.testing.assert_close(terms["prior"], expected)
    backbone.mmd = "joint"
    z = torch.cat([fusion.parts[f"z_{name}"] for name in ("y", "svhn", "mnist")], 1)[have["svhn"]]
    torch.testing.assert_close(terms_of(backbone, b)["prior"], prior_distance(z, "corrected", "closed"))


def test_a_batch_without_a_modality_has_finite_terms():
    backbone, b = build(), lacking(batch(), "mnist", slice(None))
    terms = terms_of(backbone, b)
    assert terms["reconstruction_mnist"].item() == 0
    assert "prior" not in terms  # no row has all codes
    sum(terms.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in backbone.parameters() if p.grad is not None)


def test_padding_changes_no_own_term():
    """Garbage in front of the image, and in the place of one that is not there."""
    backbone, b = build(), lacking(batch(), "svhn", [1])
    moved = {
        m: Sequence(F.pad(s.values, (0, 0, 2, 0), value=1e3), F.pad(s.mask, (2, 0), value=False)) for m, s in b.sequences.items()
    }
    torch.testing.assert_close(terms_of(backbone, replace(b, sequences=moved)), terms_of(backbone, b))


def test_own_terms_are_full_precision_under_autocast():
    backbone, b = build(), batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = terms_of(backbone, b)
    for name, value in terms_of(backbone, b).items():
        assert low[name].dtype == torch.float32
        torch.testing.assert_close(low[name], value, rtol=0.05, atol=1e-3)
