"""MIRD: one shared representation and one of each modality; its own penalty."""

import pytest
import torch
from backbones.mird import DIM, FEATURES, LENGTHS, batch, build, losses, spec
from torch import nn
from transformers import BertConfig, BertModel, BertTokenizer

from mdm.backbones.text import Pieces
from mdm.runs.build import build_learner, build_splits
from mdm.types import Batch, Feature, Sequence

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
