"""Pieces of words are the tokenizer's own; special ones, truncation, words of other folds, and the frames that follow a word."""

import pytest
import torch
from backbones.text import ROWS, WORDS, needs_minilm, save_bert, save_xlnet, sequence_of, words
from transformers import AutoTokenizer

from mdm.backbones.encoders import find_folder
from mdm.backbones.text import TextEncoder, frames_of_pieces
from mdm.data.base import UNKNOWN
from mdm.types import Feature, Sequence


@pytest.fixture(params=["bert", "xlnet"])
def family(request):
    return request.param


@pytest.fixture
def folder(family, tmp_path):
    """A small encoder with its tokenizer, as people keep them."""
    {"bert": save_bert, "xlnet": save_xlnet}[family](tmp_path / family)
    return tmp_path / family


def assert_as_tokenizer(pieces, tokenizer, rows, **options):
    """Each row's pieces and their words are what the tokenizer makes of the row alone."""
    for i, row in enumerate(rows):
        expected = tokenizer(row, is_split_into_words=True, **options)
        assert pieces.ids[i][pieces.mask[i]].tolist() == expected["input_ids"]
        assert pieces.word[i][pieces.mask[i]].tolist() == [-1 if w is None else w for w in expected.word_ids()]
        assert (pieces.word[i][~pieces.mask[i]] == -1).all()


@pytest.mark.parametrize("front", [0, 2])
def test_pieces_are_those_of_the_tokenizer(family, folder, front):
    encoder = TextEncoder(words(), family, str(folder))
    pieces = encoder.pieces(sequence_of(ROWS, front=front))
    assert_as_tokenizer(pieces, AutoTokenizer.from_pretrained(folder), ROWS)


@needs_minilm
def test_pieces_are_those_of_a_real_tokenizer():
    vocabulary = (
        "<pad>",
        "<unk>",
        "the",
        "movie",
        "unbelievably",
        "2012",
        "It's",
        "don't",
        "café",
        "cinematographically",
        "…",
        "sp",
    )
    rows = [list(vocabulary[2:]), ["the", "don't"], ["cinematographically"] * 3]
    encoder = TextEncoder(words(vocabulary), "bert", "minilm")
    pieces = encoder.pieces(sequence_of(rows, vocabulary))
    assert (encoder.count > 1).sum() > 3
    assert_as_tokenizer(pieces, AutoTokenizer.from_pretrained(find_folder("minilm")), rows)


@pytest.mark.parametrize("max_pieces", [3, 5, 6, 20])
def test_truncation_keeps_the_first_pieces_and_the_special_ones(family, folder, max_pieces):
    encoder = TextEncoder(words(), family, str(folder), max_pieces=max_pieces)
    pieces = encoder.pieces(sequence_of(ROWS))
    assert pieces.ids.shape[1] <= max_pieces
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert_as_tokenizer(pieces, tokenizer, ROWS, truncation=True, max_length=max_pieces)


def test_an_encoder_reads_no_more_pieces_than_it_has_positions(tmp_path):
    save_bert(tmp_path)
    encoder = TextEncoder(words(), "bert", str(tmp_path), max_pieces=50)
    assert encoder.max_pieces == 20
    pieces = encoder.pieces(sequence_of([["good"] * 40]))
    assert encoder(pieces).last_hidden_state.shape == (1, 20, 16)


def test_xlnet_reads_any_number_of_pieces(tmp_path):
    save_xlnet(tmp_path)
    pieces = TextEncoder(words(), "xlnet", str(tmp_path)).pieces(sequence_of([["good"] * 700]))
    assert pieces.ids.shape == (1, 702)


def test_special_pieces_stand_where_the_family_has_them():
    """Random encoders number [CLS] and [SEP] behind the words."""
    sequence = sequence_of([["good", "bad"], ["movie"]])
    n = len(WORDS)
    bert = TextEncoder(words(), "bert").pieces(sequence)
    assert bert.ids.tolist() == [[n, 2, 3, n + 1], [n, 4, n + 1, 0]]
    assert bert.word.tolist() == [[-1, 0, 1, -1], [-1, 0, -1, -1]]
    assert bert.mask.tolist() == [[True] * 4, [True, True, True, False]]
    xlnet = TextEncoder(words(), "xlnet").pieces(sequence)
    assert xlnet.ids.tolist() == [[2, 3, n + 1, n], [0, 4, n + 1, n]]
    assert xlnet.word.tolist() == [[0, 1, -1, -1], [-1, 0, -1, -1]]
    assert xlnet.mask.tolist() == [[True] * 4, [False, True, True, True]]


@pytest.mark.parametrize("rows", [[["good", "bad"], []], [[], []]])
def test_a_row_without_words_has_the_special_pieces_only(family, rows):
    encoder = TextEncoder(words(), family).eval()
    sequence = sequence_of(rows, front=1)
    pieces = encoder.pieces(sequence)
    order = [encoder.last, encoder.first] if family == "xlnet" else [encoder.first, encoder.last]
    assert pieces.ids[1][pieces.mask[1]].tolist() == order
    assert (pieces.word[1] == -1).all()
    assert torch.isfinite(encoder(pieces).last_hidden_state).all()


def test_a_random_encoder_does_not_know_words_of_other_folds(family):
    """And is the same, bit for bit, however many of them there are."""
    torch.manual_seed(0)
    encoder = TextEncoder(words(others=len(WORDS) - 3), family)
    pieces = encoder.pieces(sequence_of([["good", "bad", "movie"]]))
    assert pieces.ids[0][pieces.word[0] >= 0].tolist() == [2, UNKNOWN, UNKNOWN]
    torch.manual_seed(0)
    without = TextEncoder(words(WORDS[:3]), family)
    assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), without.parameters(), strict=True))


def test_a_pretrained_encoder_knows_words_of_other_folds(family, folder):
    known, unknown = (TextEncoder(words(others=n), family, str(folder)) for n in (0, 3))
    assert torch.equal(known.pieces(sequence_of(ROWS)).ids, unknown.pieces(sequence_of(ROWS)).ids)


def test_a_pretrained_encoder_knows_token_ids_of_other_folds(family, folder):
    size = len(AutoTokenizer.from_pretrained(folder))
    encoder = TextEncoder(Feature(5, tokens=True, others=size - 5), family, str(folder))
    pieces = encoder.pieces(Sequence(torch.tensor([[size - 1]]), torch.ones(1, 1, dtype=torch.bool)))
    assert pieces.ids[0][pieces.word[0] >= 0].tolist() == [size - 1]
    with pytest.raises(ValueError, match=f"but they reach {size} and"):
        TextEncoder(Feature(5, tokens=True, others=size - 4), family, str(folder))


def test_the_reserved_words_are_one_piece_each(family, folder):
    """They are names of ids, not words to be spelled."""
    encoder = TextEncoder(words(), family, str(folder))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pieces = encoder.pieces(Sequence(torch.tensor([[UNKNOWN, 2]]), torch.ones(1, 2, dtype=torch.bool)))
    assert pieces.ids[0][pieces.word[0] == 0].tolist() == [tokenizer.unk_token_id]


def test_token_ids_are_read_as_they_are_but_for_special_ones(family, folder):
    """Frames belong to steps of the data, so a dropped special id still counts as a step."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoder = TextEncoder(Feature(len(tokenizer), tokens=True), family, str(folder))
    ids = torch.tensor([[tokenizer.cls_token_id, 9, 11, tokenizer.sep_token_id, 10]])
    pieces = encoder.pieces(Sequence(ids, torch.ones_like(ids, dtype=torch.bool)))
    assert pieces.ids[0][pieces.word[0] >= 0].tolist() == [9, 11, 10]
    assert pieces.word[0][pieces.word[0] >= 0].tolist() == [1, 2, 4]


def test_pieces_make_the_round_trip_through_parts(family):
    encoder = TextEncoder(words(), family)
    pieces = encoder.pieces(sequence_of(ROWS))
    back = type(pieces).of(pieces.parts())
    assert back.ids is pieces.ids
    assert back.mask is pieces.mask
    assert back.word is pieces.word
    assert all(len(part) == len(ROWS) for part in pieces.parts().values())


def test_frames_follow_the_words_of_the_pieces():
    """Row 0: frames behind a step of padding; its word 1 has two pieces. Row 1 has fewer frames than words."""
    frames = torch.tensor([[[1e3], [1.0], [2.0], [3.0]], [[4.0], [1e3], [1e3], [1e3]]], requires_grad=True)
    mask = torch.tensor([[False, True, True, True], [True, False, False, False]])
    word = torch.tensor([[-1, 0, 1, 1, 2, -1], [-1, 0, 1, -1, -1, -1]])
    got = frames_of_pieces(Sequence(frames, mask), word)
    assert got[..., 0].tolist() == [[0, 1, 2, 2, 3, 0], [0, 4, 0, 0, 0, 0]]
    got.sum().backward()
    assert frames.grad[..., 0].tolist() == [[0, 1, 2, 1], [1, 0, 0, 0]]
