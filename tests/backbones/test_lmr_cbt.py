"""LMR-CBT: its number of parameters, what its blocks do, and along what its LSTM runs."""

from dataclasses import replace

import pytest
import torch

from mdm.backbones.lmr_cbt import LMRCBT
from mdm.types import Batch, DataSpec, Feature, Sequence

FEATURES = {"language": Feature(6), "audio": Feature(5), "video": Feature(4)}


def spec(features=FEATURES):
    return DataSpec(features, ("y",), (-3.0, 3.0), (0.25,), aligned=False)


def batch():
    rng = torch.Generator().manual_seed(0)
    mask = torch.ones(4, 3, dtype=torch.bool)
    sequences = {m: Sequence(torch.randn(4, 3, f.dim, generator=rng), mask) for m, f in FEATURES.items()}
    return Batch(tuple("abcd"), sequences, torch.zeros(4, 1))


def build(**options):
    torch.manual_seed(0)
    return LMRCBT(spec(), **{"dim": 8, **options}).eval()


def test_official_sizes_have_the_official_number_of_parameters():
    """406,523 in the authors' log at 300/74/35, of which 82 are of a layer that nothing reads."""
    features = {"language": Feature(300), "audio": Feature(74), "video": Feature(35)}
    model = LMRCBT(spec(features), dim=40, heads=8, layers=5)
    assert sum(p.numel() for p in model.parameters()) == 406_523 - 82


@pytest.mark.parametrize("lstm", ["corrected", "official"])
def test_only_the_official_lstm_carries_words_from_row_to_row(lstm):
    """Other words in row 1: as the authors have it rows 0 and 2 move, too."""
    model, b = build(lstm=lstm), batch()
    language = b.sequences["language"]
    changed = language.values.clone()
    changed[1] += 1
    with torch.no_grad():
        moved = model(b).z - model(replace(b, sequences={**b.sequences, "language": Sequence(changed, language.mask)})).z
    rows = moved.abs().amax(1) > 1e-6
    assert rows.tolist() == ([True] * 4 if lstm == "official" else [False, True, False, False])


def test_a_changed_step_sums_to_one():
    block = build().blocks["audio"]
    with torch.no_grad():
        out = block(5 * torch.randn(4, 3, 8), torch.randn(4, 8))
        torch.testing.assert_close(out.sum(2), torch.ones(4, 3))
        assert (out > 0).all()


def test_language_ignores_the_others_without_their_maps():
    """U = 0: the first part of Z, the last step of language, is the same for other audio and video; the rest is not."""
    model, b = build(), batch()
    others = {m: Sequence(s.values.flip(0), s.mask) if m != "language" else s for m, s in b.sequences.items()}
    with torch.no_grad():
        assert not torch.equal(model(b).z[:, :8], model(replace(b, sequences=others)).z[:, :8])
        for block in model.blocks.values():
            block.other.weight.zero_()
        before, after = model(b).z, model(replace(b, sequences=others)).z
    torch.testing.assert_close(before[:, :8], after[:, :8])
    assert (before[:, 8:] - after[:, 8:]).abs().max() > 1e-3


def test_what_it_cannot_be_built_of_is_refused():
    with pytest.raises(ValueError, match="LMR-CBT needs language"):
        LMRCBT(spec({"audio": Feature(5), "video": Feature(4)}))
    with pytest.raises(ValueError, match="got language alone"):
        LMRCBT(spec({"language": Feature(6)}))
    for options in ({"heads": 3}, {"dim": 9, "heads": 3}, {"kernel": 2}):
        with pytest.raises(ValueError, match="LMR-CBT needs an even dim that heads divide and an odd kernel"):
            build(**options)
