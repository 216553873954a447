"""MIRD's decoders rebuild the input; its losses are logarithms."""

import math

import pytest
import torch
from backbones.mird import LENGTHS, batch, build, losses
from torch import nn
from torch.nn import functional as F

from mdm.backbones.mird import FLOOR, LogMSE
from mdm.backbones.mird_decoder import Decoder, cross_entropy
from mdm.types import Batch, Sequence

# ---- decoders


def step_by_step(decoder, code, steps):
    """The recursion as it is written: the first input is the code, each later one the state before it."""
    h = c = torch.zeros_like(code)
    given, states = code, []
    for _ in range(steps):
        i, f, g, o = (
            given @ decoder.cell.weight_ih.T + decoder.cell.bias_ih + h @ decoder.cell.weight_hh.T + decoder.cell.bias_hh
        ).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        given = h
        states.append(h)
    return torch.stack(states, 1)


@pytest.mark.parametrize("steps", [1, 2, 40])
def test_the_decoder_in_one_call_is_the_decoder_step_by_step(steps):
    torch.manual_seed(0)
    decoder, code = Decoder(8, 3).double(), torch.randn(5, 8, dtype=torch.float64, requires_grad=True)
    got, want = decoder.states(code, steps), step_by_step(decoder, code, steps)
    torch.testing.assert_close(got, want, atol=1e-12, rtol=1e-12)
    weigh = torch.randn_like(want)
    wrt = [code, *decoder.cell.parameters()]
    for a, b in zip(torch.autograd.grad((got * weigh).sum(), wrt), torch.autograd.grad((want * weigh).sum(), wrt), strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


def test_reconstruction_is_of_real_steps_by_hand():
    """Row by row, step by step: squares over real frames, −log p of real pieces, the special ones among them."""
    backbone, b = build(reconstruction="plain"), batch()
    with torch.no_grad():
        encoded = backbone.encode(b)
        fusion = backbone.fuse(encoded)
        got = backbone.own_terms(b, encoded, fusion)
        for m in ("audio", "video"):
            squares = []
            for i, s in enumerate(b.sequences[m].values):
                code = torch.cat([fusion.parts["shared"][i : i + 1], fusion.unimodal[m][i : i + 1]], 1)
                for t in range(LENGTHS[m][i]):
                    state = step_by_step(backbone.decoders[m], code, t + 1)[0, -1]
                    squares += ((backbone.decoders[m].project(state) - s[t]) ** 2).tolist()
            assert float(got[f"reconstruct_{m}"]) == pytest.approx(sum(squares) / len(squares), rel=1e-5)
        surprise = []
        for i, n in enumerate(LENGTHS["language"]):
            ids = [9, *b.sequences["language"].values[i, :n].tolist(), 10]
            code = torch.cat([fusion.parts["shared"][i : i + 1], fusion.unimodal["language"][i : i + 1]], 1)
            states = step_by_step(backbone.decoders["language"], code, len(ids))[0]
            scores = backbone.decoders["language"].project(states)
            surprise += [float(torch.logsumexp(row, 0) - row[k]) for row, k in zip(scores, ids, strict=True)]
        assert float(got["reconstruct_language"]) == pytest.approx(sum(surprise) / len(surprise), rel=1e-5)


def test_segments_without_a_label_can_be_left_out_of_the_reconstruction():
    """Then it is that of the others alone."""
    whole = batch()
    few = Batch(whole.ids[:2], {m: s[slice(2)] for m, s in whole.sequences.items()}, whole.label[:2])
    of_two = Batch(whole.ids, whole.sequences, whole.label, labelled=2)
    with torch.no_grad():
        expected = losses(build(), few)
        found = losses(build(reconstruct_unlabeled=False), of_two)
        assert {m: float(v) for m, v in found.items()} == {m: pytest.approx(float(v), rel=1e-5) for m, v in expected.items()}
        all_rows = losses(build(), of_two)
        assert all_rows == losses(build(), whole)
        assert all_rows["reconstruct_language"] != found["reconstruct_language"]


def test_logarithms_of_the_same_losses_by_default():
    with torch.no_grad():
        plain, log = losses(build(reconstruction="plain"), batch()), losses(build(), batch())
    assert set(plain) == set(log) == {"reconstruct_language", "reconstruct_audio", "reconstruct_video"}
    assert {m: pytest.approx(float(v.log()), rel=1e-5) for m, v in plain.items()} == {m: float(v) for m, v in log.items()}


def test_units_of_the_features_do_not_weigh_the_gradient_of_a_logarithm():
    """d log(k·L) = d log L: features and their reconstruction ten times as large pull at z_S as before."""

    def pull(scale):
        backbone, b = build(), batch()
        encoded = backbone.encode(b)
        fusion = backbone.fuse(encoded)
        encoded["video"]["frames"] = Sequence(scale * b.sequences["video"].values, b.sequences["video"].mask)
        with torch.no_grad():
            for p in backbone.decoders["video"].project.parameters():
                p.mul_(scale)
        term = backbone.own_terms(b, encoded, fusion)["reconstruct_video"]
        return torch.autograd.grad(term, fusion.parts["shared"])[0]

    torch.testing.assert_close(pull(10.0), pull(1.0), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("reconstruction", ["log", "plain"])
def test_a_modality_that_no_row_has_is_no_loss(reconstruction):
    backbone, b = build(reconstruction=reconstruction), batch()
    s = b.sequences["audio"]
    b.sequences["audio"] = Sequence(s.values, torch.zeros_like(s.mask))
    terms = losses(backbone, b)
    assert float(terms["reconstruct_audio"].detach()) == 0
    sum(terms.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in backbone.parameters() if p.grad is not None)


def test_rows_without_a_label_are_rebuilt_too():
    with torch.no_grad():
        assert losses(build(), batch(math.nan)) == losses(build(), batch())


def test_pieces_in_chunks_are_pieces_at_once():
    torch.manual_seed(0)
    project, ids = nn.Linear(5, 11), torch.randint(0, 11, (23,))
    results = []
    for chunk in (100, 23, 7):
        states = torch.randn(23, 5, generator=torch.Generator().manual_seed(1)).requires_grad_()
        loss = cross_entropy(states, project, ids, chunk)
        results.append((loss.detach(), *torch.autograd.grad(loss, [states, *project.parameters()])))
    want = F.cross_entropy(project(torch.randn(23, 5, generator=torch.Generator().manual_seed(1))), ids)
    torch.testing.assert_close(results[0][0], want.detach())
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])


def test_fusing_decodes_nothing():
    """Samples of the product go through `fuse` too and have nothing to rebuild."""
    backbone, b, calls = build(), batch(), []
    for decoder in backbone.decoders.values():
        decoder.cell.register_forward_hook(lambda *_: calls.append(1))
    encoded = backbone.encode(b)
    fusion = backbone.fuse(encoded)
    assert not calls
    backbone.own_terms(b, encoded, fusion)
    assert len(calls) == 3


def test_without_reconstruction_there_are_no_decoders():
    backbone = build(reconstruction="none")
    assert not list(backbone.decoders.parameters())
    assert losses(backbone, batch()) == {}


# ---- losses


def test_log_mse_by_hand():
    """Errors 1 and 3: log 5, and its gradient 2·error / (n·MSE)."""
    prediction = torch.tensor([[1.0], [4.0]], requires_grad=True)
    loss = LogMSE()(prediction, torch.tensor([[0.0], [1.0]]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(math.log(5))
    torch.testing.assert_close(prediction.grad, torch.tensor([[2 * 1 / 10], [2 * 3 / 10]]))


def test_log_mse_of_a_perfect_batch_is_that_of_the_floor():
    prediction = torch.zeros(2, 1, requires_grad=True)
    loss = LogMSE()(prediction, torch.zeros(2, 1))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(math.log(FLOOR))
    assert (prediction.grad == 0).all()
