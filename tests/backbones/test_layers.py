"""Steps: words that training has not stand for the unknown word; all else is as it came."""

import pytest
import torch

from mdm.backbones.layers import Steps
from mdm.data.base import PADDING, UNKNOWN
from mdm.types import Feature, Sequence

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
