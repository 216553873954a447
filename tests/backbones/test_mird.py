"""MIRD: one shared representation and one of each modality; decoders that rebuild the input; losses as logarithms."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel, BertTokenizer

from mdm.backbones.mird import FLOOR, MIRD, LogMSE
from mdm.backbones.mird_decoder import Decoder, cross_entropy
from mdm.backbones.text import Pieces
from mdm.runs.build import build_learner, build_splits
from mdm.types import Batch, DataSpec, Feature, Sequence

WORDS = Feature(9, tokens=True, vocabulary=tuple(f"w{i}" for i in range(9)))
FEATURES = {"language": WORDS, "audio": Feature(5), "video": Feature(4)}
LENGTHS = {"language": [3, 1, 4], "audio": [7, 2, 0], "video": [2, 6, 3]}
"""Unaligned, and the last row has no audio."""
DIM = 6


def spec(**features):
    return DataSpec(features or FEATURES, ("y",), (-3.0, 3.0), (0.25,), False)


def build(**options):
    torch.manual_seed(0)
    return MIRD(**{"spec": spec(), "dim": DIM, "embedding_dim": 7, **options}).eval()


def batch(label=0.0):
    rng = torch.Generator().manual_seed(0)
    sequences = {}
    for m, feature in FEATURES.items():
        have = torch.tensor(LENGTHS[m])
        mask = torch.arange(int(have.max())) < have[:, None]
        size = (len(have), int(have.max()))
        if feature.tokens:
            values = torch.randint(2, feature.dim, size, generator=rng) * mask
        else:
            values = torch.randn(*size, feature.dim, generator=rng)
        sequences[m] = Sequence(values, mask)
    return Batch(("a", "b", "c"), sequences, torch.full((3, 1), label))


def losses(backbone, b):
    encoded = backbone.encode(b)
    return backbone.own_terms(b, encoded, backbone.fuse(encoded))


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


# ---- representations


def test_z_is_shared_then_each_modality():
    backbone, b = build(), batch()
    with torch.no_grad():
        fusion = backbone(b)
    torch.testing.assert_close(fusion.z, torch.cat([fusion.parts["shared"], *fusion.unimodal.values()], 1))
    assert list(fusion.unimodal) == ["language", "audio", "video"]
    assert backbone.z_dim == 4 * DIM
    assert [type(layer) for layer in backbone.head] == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]


def test_what_is_shared_reads_all_and_what_is_private_reads_one():
    backbone, b = build(), batch()
    with torch.no_grad():
        before = backbone(b)
        for m in FEATURES:
            s = b.sequences[m]
            other = Sequence((s.values % 7 + 2) * s.mask if s.values.ndim == 2 else s.values + 1, s.mask)
            after = backbone(Batch(b.ids, {**b.sequences, m: other}, b.label))
            assert not torch.allclose(after.parts["shared"], before.parts["shared"])
            assert [n for n in FEATURES if not torch.equal(after.unimodal[n], before.unimodal[n])] == [m]


def test_a_modality_of_its_own_is_the_last_state_of_an_lstm():
    backbone, b = build(), batch()
    with torch.no_grad():
        unimodal = backbone(b).unimodal
        audio, pieces = backbone.encoders["audio"], backbone.encoders["language"]
        for i, n in enumerate(LENGTHS["audio"]):
            state = audio.lstm(b.sequences["audio"].values[i : i + 1, :n])[0][:, -1] if n else torch.zeros(1, DIM)
            torch.testing.assert_close(unimodal["audio"][i], audio.project(state)[0])
        for i, n in enumerate(LENGTHS["language"]):
            ids = torch.tensor([[9, *b.sequences["language"].values[i, :n].tolist(), 10]])
            state = pieces.encoder.lstm(pieces.embedding(ids))[0][:, -1]
            torch.testing.assert_close(unimodal["language"][i], pieces.encoder.project(state)[0])


def test_a_second_bert_is_another_one():
    backbone = build(language_encoder="bert")
    first = {p.data_ptr() for p in backbone.text.parameters()}
    assert not first & {p.data_ptr() for p in backbone.encoders["language"].parameters()}
    b = batch()
    with torch.no_grad():
        encoder = backbone.encoders["language"]
        want = encoder.project(encoder.text(Pieces.of(backbone.encode(b)["language"])).pooler_output)
        torch.testing.assert_close(backbone(b).unimodal["language"], want)


def test_the_shared_encoder_begins_as_it_comes_or_at_random(tmp_path):
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(9))]
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(5)
    given = BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=20, **sizes))
    given.save_pretrained(tmp_path)
    BertTokenizer(vocab={piece: i for i, piece in enumerate(vocabulary)}).save_pretrained(tmp_path)
    as_given = given.embeddings.word_embeddings.weight
    for start, same in (("pretrained", True), ("random", False)):
        backbone = build(text_encoder=str(tmp_path), shared_init=start, language_encoder="bert", pooling="pooler")
        assert torch.equal(backbone.text.model.embeddings.word_embeddings.weight, as_given) is same
        assert torch.equal(backbone.encoders["language"].text.model.embeddings.word_embeddings.weight, as_given)
        assert set(backbone.text.model.state_dict()) == set(given.state_dict())
        backbone.train()
        assert backbone.text.model.training


def test_raw_terms_are_statistics_of_what_came_in():
    backbone, b = build(raw_terms=True), batch()
    fusion = backbone(b)
    for m in ("audio", "video"):
        for i, n in enumerate(LENGTHS[m]):
            real = b.sequences[m].values[i, :n]
            want = torch.cat([real.mean(0), real.std(0, correction=0)]) if n else torch.zeros(2 * real.shape[1])
            torch.testing.assert_close(fusion.parts[f"raw_{m}"][i], want)
    ids = b.sequences["language"].values[0, : LENGTHS["language"][0]]
    want = backbone.text.model.embeddings.word_embeddings(ids).mean(0)
    torch.testing.assert_close(fusion.parts["raw_language"][0], want.detach())
    assert not any(p.requires_grad for name, p in fusion.parts.items() if name != "shared")


def test_half_precision_rebuilds_too(half_precision):
    backbone, b = build().train(), batch()
    with half_precision():
        terms = losses(backbone, b)
    sum(terms.values()).backward()
    assert all(term.dtype == torch.float32 and torch.isfinite(term) for term in terms.values())
    assert all(torch.isfinite(p.grad).all() for p in backbone.parameters() if p.grad is not None)


def test_language_is_needed():
    with pytest.raises(ValueError, match="MIRD needs language, but the data have audio"):
        build(spec=spec(audio=Feature(5)))


# ---- with its own penalty


PAIRS = ["language_audio", "language_video", "audio_video", "language_shared", "audio_shared", "video_shared"]


def learner(config, *overrides):
    cfg = config("model=mird", *overrides)
    return build_learner(cfg, build_splits(cfg))


def test_the_own_penalty_has_the_six_networks_of_the_paper_and_nine_with_raw_terms(config):
    own = learner(config).objectives["own"]
    assert ["_".join(pair) for pair in own.penalty.pairs] == PAIRS
    assert (own.critic.steps, own.critic.batches, own.critic.interleave, own.penalty.weight) == (5, "shared", "batch", 0.1)
    raw = learner(config, "model.backbone.raw_terms=true").objectives["own"]
    more = [f"raw_{m}_shared" for m in ("language", "audio", "video")]
    assert ["_".join(pair) for pair in raw.penalty.pairs] == [*PAIRS, *more]


def test_the_other_constraints(config):
    """OC and NC of Table 5 and Figure 4."""
    cfg = config("model=mird_oc")
    other = build_learner(cfg, build_splits(cfg))
    assert not list(other.objectives["own"].penalty.parameters())
    assert ["_".join(pair) for pair in other.objectives["own"].penalty.pairs] == PAIRS
    assert {k: v for k, v in cfg.model.items() if k not in ("name", "own_penalty")} == {
        k: v for k, v in config("model=mird").model.items() if k not in ("name", "own_penalty")
    }
    assert not learner(config, "model.own_penalty=null").objectives
