"""CENET: what its module adds to the pieces, and when that is nothing."""

import pytest
import torch

from mdm.backbones.cenet import CENET
from mdm.backbones.text import Pieces
from mdm.types import Batch, DataSpec, Feature, Sequence

FEATURES = {"language": Feature(9, tokens=True), "audio": Feature(5), "video": Feature(4)}


def spec(features=FEATURES):
    return DataSpec(features, ("y",), (-3.0, 3.0), (0.25,), aligned=False)


def batch(frames=3):
    rng = torch.Generator().manual_seed(0)
    mask = torch.ones(4, 5, dtype=torch.bool)
    sequences = {"language": Sequence(torch.randint(2, 9, (4, 5), generator=rng), mask)}
    for m in ("audio", "video"):
        sequences[m] = Sequence(torch.randn(4, frames, FEATURES[m].dim, generator=rng), torch.ones(4, frames, dtype=torch.bool))
    return Batch(tuple("abcd"), sequences, torch.zeros(4, 1))


def build(**options):
    torch.manual_seed(0)
    return CENET(spec(), **{"hidden": 6, **options}).eval()


def test_without_an_output_map_it_is_the_language_model_alone():
    model, b = build(), batch()
    with torch.no_grad():
        model.enhance.out.weight.zero_()
        model.enhance.out.bias.zero_()
        pieces = Pieces.of(model.encode(b)["language"])
        alone = model.text.model(input_ids=pieces.ids, attention_mask=pieces.mask.long()).last_hidden_state[:, 0]
        torch.testing.assert_close(model(b).z, alone)


def test_of_one_frame_every_piece_reads_its_value():
    """Attention to one frame has weight 1, whatever the scale: h moves by W [V_m e_m] + b."""
    with torch.no_grad():
        moved = []
        for scale in ("sqrt", "official"):
            model, b = build(scale=scale), batch(frames=1)
            frames = {m: model.encode(b)[m]["frames"] for m in ("audio", "video")}
            h = torch.randn(4, 7, 64, generator=torch.Generator().manual_seed(1))
            values = [model.enhance.key_value[m](frames[m].values)[..., 6:] for m in frames]
            want = h + model.enhance.out(torch.cat(values, 2)).expand_as(h)
            torch.testing.assert_close(model.enhance(h, frames), want, atol=1e-5, rtol=1e-5)
            moved.append(want)
    assert torch.equal(*moved)


def test_official_scores_are_multiplied_by_eight():
    """Of two frames, against softmax(8·QKᵀ)V written out."""
    model, b = build(scale="official"), batch(frames=2)
    enhance = model.enhance
    with torch.no_grad():
        frames = model.encode(b)["audio"]["frames"]
        h = torch.randn(4, 7, 64, generator=torch.Generator().manual_seed(1))
        keys, values = enhance.key_value["audio"](frames.values).chunk(2, 2)
        want = (8 * enhance.query["audio"](h) @ keys.transpose(1, 2)).softmax(2) @ values
        torch.testing.assert_close(enhance._read("audio", h, frames), want, atol=1e-5, rtol=1e-5)


def test_number_of_parameters():
    """d_m + 1 and h + 1 to h of frames; d + 1 and 2(h + 1) to h of attention; M·h + 1 to d; the head's d + 1."""
    model = build()
    own = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in model.text.parameters())
    assert own == (6 + 5) * 6 + 2 * (7 * 6 + 65 * 6 + 2 * 7 * 6) + 13 * 64 + 65


def test_what_it_cannot_be_built_of_is_refused():
    with pytest.raises(ValueError, match="CENET needs language and at least one other"):
        CENET(spec({"language": FEATURES["language"]}))
    with pytest.raises(ValueError, match=r"inject: expected a layer that is not the last of text_encoder=tiny, 1 … 1, got 2"):
        build(inject=2)
