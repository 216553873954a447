"""Rows of like length go through a transformer together on a CPU: the same numbers and gradients, and every row in its place."""

import pytest
import torch

from mdm.backbones import packing
from mdm.backbones.mag import MAG
from mdm.backbones.text import TextEncoder
from mdm.types import Batch, DataSpec, Feature, Sequence

WORDS = Feature(40, tokens=True, vocabulary=tuple(f"w{i}" for i in range(40)))
LENGTHS = [3, 30, 5, 29, 4, 2, 28, 6, 3] * 3


def batch():
    rng = torch.Generator().manual_seed(0)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    words = torch.randint(2, 40, mask.shape, generator=rng)
    frames = torch.randn(*mask.shape, 5, generator=rng)
    sequences = {"language": Sequence(words, mask), "audio": Sequence(frames, mask)}
    return Batch(tuple(map(str, LENGTHS)), sequences, torch.zeros(len(LENGTHS), 1))


def run(module, call, monkeypatch, worth):
    """What a call gives, its gradients, and how many rows each pass through the transformer had."""
    monkeypatch.setattr(packing, "WORTH", worth)
    rows = []
    counting = module.text if isinstance(module, MAG) else module
    hook = counting.model.register_forward_hook(lambda _, __, output: rows.append(len(output[0])))
    module.zero_grad()
    found = call()
    sum(tensor.square().mean() for tensor in found).backward()
    hook.remove()
    return found, {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}, rows


def compare(divided, whole):
    assert divided[2] == [9, 9, 9]
    assert whole[2] == [27]
    for a, b in zip(divided[0], whole[0], strict=True):
        torch.testing.assert_close(a, b, atol=2e-6, rtol=0)
    assert divided[1].keys() == whole[1].keys()
    for name, gradient in divided[1].items():
        torch.testing.assert_close(gradient, whole[1][name], atol=2e-6, rtol=0)


def test_bert_by_groups_is_bert_at_once(monkeypatch):
    torch.manual_seed(0)
    text = TextEncoder(WORDS, pooler=True).eval()
    pieces = text.pieces(batch().sequences["language"])

    def call():
        output = text(pieces)
        return output.last_hidden_state * pieces.mask.unsqueeze(2), output.pooler_output

    compare(*(run(text, call, monkeypatch, worth) for worth in (1.0, 0.0)))


def test_what_bert_makes_of_padding_is_zero():
    text = TextEncoder(WORDS).eval()
    pieces = text.pieces(batch().sequences["language"])
    hidden = text(pieces).last_hidden_state
    assert hidden.shape[:2] == pieces.ids.shape
    short = pieces.mask.sum(1) < 10
    assert not hidden[short][:, 10:].any()


@pytest.mark.parametrize("inject", [0, 1])
def test_mag_by_groups_is_mag_at_once(monkeypatch, inject):
    torch.manual_seed(0)
    spec = DataSpec({"language": WORDS, "audio": Feature(5)}, ("y",), (-3.0, 3.0), (0.25,), True)
    mag = MAG(spec, inject=inject).eval()

    def call():
        fusion = mag(batch())
        return fusion.prediction, fusion.z, *fusion.unimodal.values()

    compare(*(run(mag, call, monkeypatch, worth) for worth in (1.0, 0.0)))


def test_xlnet_whose_padding_stands_in_front_is_not_divided():
    text = TextEncoder(WORDS, "xlnet").eval()
    assert len(text.divide(text.pieces(batch().sequences["language"]))) == 1
