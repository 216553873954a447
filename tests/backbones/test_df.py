"""DF: what its joint network reads, what its own terms are, and where the joint loss ends."""

import pytest
import torch
from omegaconf import OmegaConf

from mdm.backbones.df import DF
from mdm.runs.members import make
from mdm.types import Batch, DataSpec, Feature, Sequence

FEATURES = {"language": Feature(6), "audio": Feature(5), "video": Feature(4)}


def spec():
    return DataSpec(FEATURES, ("y", "z"), (0.0, 1.0), (0.25, 0.5), aligned=False)


def batch(labelled=None):
    rng = torch.Generator().manual_seed(0)
    sequences = {
        m: Sequence(torch.randn(8, 3, f.dim, generator=rng), torch.ones(8, 3, dtype=torch.bool)) for m, f in FEATURES.items()
    }
    label = torch.rand(8, 2, generator=rng)
    if labelled is not None:
        label[labelled:] = torch.nan
    return Batch(tuple(map(str, range(8))), sequences, label, labelled)


def build(**options):
    torch.manual_seed(0)
    return DF(spec(), **options).eval()


def test_a_joint_network_that_averages_scores_predicts_their_mean():
    """Weights 1/3 on scores and 0 on complements; a constant keeps ReLU open and is taken away at the end."""
    backbone, b = build(z_dim=2), batch()
    with torch.no_grad():
        first, second = backbone.joint[0], backbone.joint[2]
        first.weight.zero_()
        first.bias.fill_(10.0)
        for m in range(3):
            for target in range(2):
                first.weight[target, 2 * m + target] = 1 / 3
        second.weight.copy_(torch.eye(2))
        second.bias.zero_()
        backbone.head.weight.copy_(torch.eye(2))
        backbone.head.bias.fill_(-10.0)
        fusion = backbone(b)
        torch.testing.assert_close(fusion.prediction, torch.stack(list(fusion.parts.values())).mean(0), atol=1e-5, rtol=0)


def test_complements_are_those_within_the_range_of_labels():
    """A network that reads s and s̄ alike sees their sum alone, low + high for each modality and target."""
    backbone, b = build(z_dim=1), batch()
    read = []
    backbone.joint.register_forward_hook(lambda _, given, out: read.append(given[0]))
    with torch.no_grad():
        fusion = backbone(b)
    scores = torch.cat(list(fusion.parts.values()), 1)
    torch.testing.assert_close(read[0], torch.cat([scores, 1 - scores], 1))


@pytest.mark.parametrize("detach", [True, False])
def test_the_joint_loss_ends_at_detached_scores(detach):
    backbone, b = build(detach_scores=detach), batch()
    backbone(b).prediction.square().sum().backward()
    below = [*backbone.encoders.parameters(), *backbone.scores.parameters()]
    assert all(p.grad is None for p in below) == detach


@pytest.mark.parametrize(("error", "power"), [("absolute", 1), ("squared", 2)])
def test_own_terms_are_errors_of_labelled_rows(error, power):
    backbone, b = build(unimodal_weight=0.5, unimodal_error=error), batch(labelled=5)
    encoded = backbone.encode(b)
    fusion = backbone.fuse(encoded)
    terms = backbone.own_terms(b, encoded, fusion)
    assert list(terms) == ["unimodal_language", "unimodal_audio", "unimodal_video"]
    for m in FEATURES:
        want = 0.5 * ((fusion.parts[f"score_{m}"] - b.label)[:5].abs() ** power).sum() / 10
        torch.testing.assert_close(terms[f"unimodal_{m}"], want)
    assert build(unimodal_weight=0).own_terms(b, encoded, fusion) == {}


def test_scores_that_nothing_trains_are_refused():
    with pytest.raises(ValueError, match="detach_scores: expected unimodal_weight > 0"):
        build(detach_scores=True, unimodal_weight=0)


def test_unknown_errors_are_refused():
    node = OmegaConf.create({"backbone": {"_target_": "mdm.backbones.df.DF", "unimodal_error": "log"}})
    with pytest.raises(ValueError, match=r"backbone\.unimodal_error: expected one of absolute, squared, got 'log'"):
        make(node.backbone, spec=spec())
