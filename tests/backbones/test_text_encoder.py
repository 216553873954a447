"""Text encoders: weights are the checkpoint's own, padding changes nothing, and hooks leave no trace."""

import pytest
import torch
from backbones.text import ROWS, needs_minilm, save_bert, save_xlnet, sequence_of, words
from safetensors.torch import load_file
from torch import nn
from transformers import AutoTokenizer, BertModel, XLNetModel

from mdm.backbones.encoders import find_folder
from mdm.backbones.text import TextEncoder, replace_output


@pytest.fixture(params=["bert", "xlnet"])
def family(request):
    return request.param


@pytest.fixture
def folder(family, tmp_path):
    """A small encoder with its tokenizer, as people keep them."""
    {"bert": save_bert, "xlnet": save_xlnet}[family](tmp_path / family)
    return tmp_path / family


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
