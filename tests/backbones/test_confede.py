"""ConFEDE: its contrast by hand, and what its own terms read."""

import math

import pytest
import torch

from mdm.backbones.confede import ConFEDE, contrast_around_text
from mdm.types import Batch, DataSpec, Feature, Sequence

FEATURES = {"language": Feature(6), "audio": Feature(5), "video": Feature(4)}


def spec(features=FEATURES):
    return DataSpec(features, ("y",), (-3.0, 3.0), (0.25,), aligned=False)


def batch(labelled=None):
    rng = torch.Generator().manual_seed(0)
    mask = torch.arange(4) < torch.tensor([4, 2, 3, 4])[:, None]
    sequences = {m: Sequence(torch.randn(4, 4, f.dim, generator=rng), mask) for m, f in FEATURES.items()}
    label = torch.tensor([[1.2], [0.8], [-2.0], [torch.nan if labelled else 3.0]])
    return Batch(tuple("abcd"), sequences, label, labelled)


def build(**options):
    torch.manual_seed(0)
    return ConFEDE(spec(), **{"dim": 8, "code": 6, "max_steps": 5, **options}).eval()


def test_contrast_by_hand():
    """Pair by pair: rows 0 and 1 have the rounded label 1, row 2 has −2."""
    rng = torch.Generator().manual_seed(0)
    similar, dissimilar = (torch.randn(3, 3, 5, generator=rng, dtype=torch.float64) for _ in range(2))
    label = torch.tensor([[1.2], [0.8], [-2.0]])

    def cosine(a, b):
        return float(a @ b / (a.norm() * b.norm()))

    costs, alike = [], {0: [0, 1], 1: [0, 1], 2: [2]}
    for i, same in alike.items():
        pivot = similar[0, i]
        far = [cosine(pivot, dissimilar[m, i]) for m in range(3)]
        far += [cosine(pivot, similar[0, j]) for j in range(3) if j not in same]
        near = [cosine(pivot, similar[m, j]) for m in (1, 2) for j in same] + [cosine(pivot, similar[0, j]) for j in same if j != i]
        for u in near:
            top = math.exp(u / 0.5)
            costs.append(-math.log(top / (top + sum(math.exp(v / 0.5) for v in far))))
    assert len(costs) == 5 + 5 + 2
    assert float(contrast_around_text(similar, dissimilar, label, 0.5)) == pytest.approx(sum(costs) / len(costs), rel=1e-12)


def test_equal_codes_cost_the_logarithm_of_how_many_there_are():
    """All cosines 1, one row, three modalities: each near one is among itself and three far ones, log 4."""
    codes = torch.ones(3, 1, 5)
    assert float(contrast_around_text(codes, codes, torch.zeros(1, 1), 0.5)) == pytest.approx(math.log(4), rel=1e-6)


def test_own_terms_read_labelled_rows_alone():
    """Three of four rows have a label: the terms are those of a batch of these."""
    model, b = build(), batch(labelled=3)
    three = Batch(b.ids[:3], {m: s[:3] for m, s in b.sequences.items()}, b.label[:3])
    terms = []
    for each in (b, three):
        encoded = model.encode(each)
        terms.append(model.own_terms(each, encoded, model.fuse(encoded)))
    torch.testing.assert_close(terms[0], terms[1])
    assert list(terms[0]) == ["contrast", "mono"]
    assert build(contrast=0.0, mono=0.0).own_terms(b, encoded, model.fuse(encoded)) == {}


def test_z_is_as_wide_as_published():
    """Six codes of 384, and 768–384–192–96–1 behind them."""
    model = build(code=384)
    assert model.z_dim == 2304
    assert [layer.out_features for layer in model.head if hasattr(layer, "out_features")] == [768, 384, 192, 96, 1]


def test_what_it_cannot_be_built_of_is_refused():
    with pytest.raises(ValueError, match="ConFEDE needs language"):
        ConFEDE(spec({"audio": Feature(5), "video": Feature(4)}))
    with pytest.raises(ValueError, match="at least one other modality"):
        ConFEDE(spec({"language": Feature(6)}))
    with pytest.raises(ValueError, match="heads: expected a divisor of dim=8, got 3"):
        build(heads=3)
