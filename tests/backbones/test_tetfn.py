"""TETFN: its published numbers of parameters, its text-enhanced pairs, and what stands for a modality alone."""

import pytest
import torch

from mdm.backbones.mult import add_positions, find_reach
from mdm.backbones.tetfn import TETFN, find_maximum
from mdm.types import Batch, DataSpec, Feature, Sequence

FEATURES = {"language": Feature(6), "audio": Feature(5), "video": Feature(4)}


def spec(features=FEATURES):
    return DataSpec(features, ("y",), (-3.0, 3.0), (0.25,), aligned=False)


def build(**options):
    torch.manual_seed(0)
    return TETFN(spec(), **{"dim": 8, "heads": 2, "feature": 3, "z_dim": 5, **options}).eval()


@pytest.mark.parametrize(
    ("features", "hidden", "feature", "parameters"),
    [
        ((768, 5, 20), (16, 64), (32, 32, 16), 1_254_224),
        ((768, 74, 35), (32, 32), (64, 32, 16), 1_257_360),
    ],
    ids=["MOSI", "MOSEI"],
)
def test_sizes_of_mmsa_have_its_numbers_of_parameters(features, hidden, feature, parameters):
    """Without BERT, whose last layer is read as vectors of language."""
    backbone = TETFN(
        spec(dict(zip(FEATURES, map(Feature, features), strict=True))),
        hidden=dict(zip(("audio", "video"), hidden, strict=True)),
        feature=dict(zip(FEATURES, feature, strict=True)),
        **{"dim": 50, "heads": 5, "layers": 2, "z_dim": 64},
    )
    assert sum(p.numel() for p in backbone.parameters()) == parameters


def test_what_audio_reads_of_video_has_read_the_language():
    """Of identical modalities the pair is two stacked cross-modal transformers; Z of audio has it beside what language gives."""
    backbone, steps = build(), Sequence(torch.randn(3, 4, 8), torch.ones(3, 4, dtype=torch.bool))
    encoded = {m: backbone.encode(batch())[m] | {"steps": steps} for m in FEATURES}
    read = []
    backbone.memory["audio"].register_forward_hook(lambda _, given, out: read.append(given[0].values))
    with torch.no_grad():
        backbone.fuse(encoded)
        x, reach = add_positions(steps.values), find_reach(steps, steps, True)
        enhanced = add_positions(backbone.enhance["audio_video"](x, x, reach))
        want = torch.cat([backbone.cross["audio_language"](x, x, reach), backbone.cross["audio_video"](x, enhanced, reach)], 2)
    torch.testing.assert_close(read[0], want)
    assert sorted(backbone.enhance) == ["audio_video", "video_audio"]


def batch():
    rng = torch.Generator().manual_seed(0)
    mask = torch.ones(3, 4, dtype=torch.bool)
    return Batch(
        tuple("abc"), {m: Sequence(torch.randn(3, 4, f.dim, generator=rng), mask) for m, f in FEATURES.items()}, torch.zeros(3, 1)
    )


def test_a_maximum_is_over_real_steps():
    values = torch.tensor([[[1.0, -5.0], [2.0, -7.0], [9.0, 9.0]], [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert find_maximum(Sequence(values, mask)).tolist() == [[2.0, -5.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"audio": Feature(5), "video": Feature(4)}, "TETFN needs language"),
        ({"language": Feature(6)}, "at least one other modality"),
        ({"language": Feature(6), "audio": Feature(9, tokens=True)}, "audio as tokens"),
    ],
)
def test_data_that_it_cannot_read_are_refused(features, message):
    with pytest.raises(ValueError, match=message):
        TETFN(spec(features))


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="heads: expected a divisor of dim=8, got 3"):
        build(heads=3)
