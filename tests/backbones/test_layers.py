"""Steps: words that training has not stand for the unknown word; all else is as it came."""

from dataclasses import replace

import pytest
import torch

from mdm.backbones.base import require_equal_padding
from mdm.backbones.layers import Steps, regressor
from mdm.backbones.tfn import Bounded
from mdm.data.base import PADDING, UNKNOWN
from mdm.types import DataSpec, Feature, Sequence

WORDS = 8


def steps(others=0):
    torch.manual_seed(0)
    return Steps(Feature(WORDS - others, tokens=True, others=others), 3)


def every_word():
    """Each id once, and once more behind the mask."""
    mask = torch.arange(2 * WORDS)[None] < WORDS
    return Sequence(torch.arange(WORDS).repeat(2)[None], mask)


@pytest.mark.parametrize("others", [0, 1, 3])
def test_words_of_other_folds_have_the_vector_of_the_unknown_word_and_the_rest_their_own(others):
    module, given = steps(others), every_word()
    vectors = module(given)
    table = module.embedding.weight
    assert torch.equal(vectors.mask, given.mask)
    for word in range(WORDS):
        assert torch.equal(vectors.values[0, word], table[word if word < WORDS - others else UNKNOWN])
    assert (vectors.values[0, PADDING] == 0).all()
    # Rows of the table differ, or equal ones would say nothing.
    assert len(torch.unique(table, dim=0)) == len(table) == WORDS - others


def test_the_gradient_of_a_word_of_other_folds_reaches_the_unknown_word_alone():
    """Σ of the vectors of 7, 7, 1, 3: the gradient of each row of the table is how often it was read."""
    module = steps(1)
    words = torch.tensor([[7, 7, 1, 3, PADDING]])
    module(Sequence(words, words != PADDING)).values.sum().backward()
    read = torch.tensor([0.0, 3.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    assert torch.equal(module.embedding.weight.grad, read[:, None].expand(WORDS - 1, 3))


def test_vectors_pass_as_they_are():
    module = Steps(Feature(4), 3)
    given = Sequence(torch.randn(2, 5, 4), torch.ones(2, 5, dtype=torch.bool))
    assert module(given) is given
    assert module.dim == 4
    assert list(module.parameters()) == []


SPEC = DataSpec({"language": Feature(9, tokens=True), "audio": Feature(3)}, ("y", "w"), (-3.0, 3.0), (0.5, -1.5), True)


def test_the_last_layer_starts_at_the_label_mean_or_as_drawn():
    """The draw is made either way, so that all later ones are the same."""
    biases, after = {}, {}
    for start in ("label_mean", "random"):
        torch.manual_seed(0)
        layer = regressor(5, replace(SPEC, head_start=start))
        biases[start], after[start] = layer.bias.tolist(), torch.rand(1)
        bounded = Bounded(5, replace(SPEC, head_start=start))
        if start == "label_mean":
            assert bounded(torch.zeros(1, 5))[0].tolist() == pytest.approx([0.5, -1.5], abs=1e-5)
        else:
            assert bounded.linear.bias.abs().max() < 5**-0.5
    assert biases["label_mean"] == [0.5, -1.5]
    assert max(map(abs, biases["random"])) < 5**-0.5, "torch draws from ±1/√d"
    assert torch.equal(after["label_mean"], after["random"])


def test_steps_that_would_no_longer_correspond_are_named():
    features = {m: replace(f, steps=None if f.tokens else 4) for m, f in SPEC.features.items()}
    with pytest.raises(
        ValueError, match=r"MFN compares .* zeros are steps of frames and language has none; use data\.text=vectors"
    ):
        require_equal_padding(replace(SPEC, features=features), "MFN")
    require_equal_padding(SPEC, "MFN")
