"""MAG in the transformer: where the gate stands, Z, the representations of single modalities, and refusals."""

import math

import pytest
import torch
from backbones.mag import DIM, DIMS, gate_by_hand, loud
from torch import nn
from torch.nn import functional as F

from mdm.backbones.mag import MAG, Gate
from mdm.types import Batch, DataSpec, Feature, Sequence

WORDS = Feature(12, tokens=True, vocabulary=tuple(f"w{i}" for i in range(12)))
FEATURES = {"language": WORDS, "audio": Feature(5), "video": Feature(4)}
LENGTHS = [4, 1, 3]


def spec(features=None, aligned=True):
    return DataSpec(features or FEATURES, ("y",), (-3.0, 3.0), (0.25,), aligned)


def build(seed=0, features=None, **options):
    torch.manual_seed(seed)
    return MAG(spec(features), **options).eval()


def batch(features=None, lengths=LENGTHS, seed=0):
    rng = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    sequences = {}
    for m, f in (features or FEATURES).items():
        size = (len(lengths), max(lengths))
        values = torch.randint(2, f.dim, size, generator=rng) if f.tokens else torch.randn(*size, f.dim, generator=rng)
        sequences[m] = Sequence(values, mask)
    return Batch(tuple(map(str, range(len(lengths)))), sequences, torch.zeros(len(lengths), 1))


@pytest.mark.parametrize("beta", [-1.0, math.nan])
def test_a_negative_beta_is_refused(beta):
    with pytest.raises(ValueError, match=rf"The gate needs beta >= 0, but {beta} came; set model\.backbone\.beta"):
        Gate(DIM, DIMS, beta)


# ---- the gate in the transformer


def bert_by_hand(mag, ids, mask, frames, inject):
    """BERT from its weights (post-norm, exact GELU), one row at a time without padding; → [CLS] of the last layer."""
    w = {key.removeprefix("text.model."): value for key, value in mag.state_dict().items()}
    heads = mag.text.model.config.num_attention_heads

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], 1e-12)

    def gated(x, i, n):
        x = x.unsqueeze(0)
        return gate_by_hand(mag.gate, x, {m: f[i : i + 1, :n] for m, f in frames.items()}, torch.relu)[0]

    rows = []
    for i in range(len(ids)):
        n = int(mask[i].sum())
        x = w["embeddings.word_embeddings.weight"][ids[i, :n]] + w["embeddings.position_embeddings.weight"][:n]
        x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        if inject == 0:
            x = gated(x, i, n)
        for layer in range(mag.text.model.config.num_hidden_layers):
            name = f"encoder.layer.{layer}"
            q, k, v = (
                linear(x, f"{name}.attention.self.{part}").reshape(n, heads, -1).transpose(0, 1)
                for part in ("query", "key", "value")
            )
            attended = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(q.shape[2]), dim=2) @ v
            attended = linear(attended.transpose(0, 1).reshape(n, -1), f"{name}.attention.output.dense")
            x = norm(x + attended, f"{name}.attention.output.LayerNorm")
            inner = F.gelu(linear(x, f"{name}.intermediate.dense"))
            x = norm(x + linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")
            if inject == layer + 1:
                x = gated(x, i, n)
        rows.append(x[0])
    return torch.stack(rows)


def frames_by_hand(batch, front=1, behind=1):
    """[special] a frame per word [special] padding: a random encoder has one piece per word."""
    return {
        m: F.pad(s.values.masked_fill(~s.mask[..., None], 0), (0, 0, front, behind))
        for m, s in batch.sequences.items()
        if m != "language"
    }


@pytest.mark.parametrize("inject", [0, 1])
def test_mag_bert_is_bert_with_the_gate_written_out(inject):
    mag, b = build(inject=inject), batch()
    loud(mag.gate)
    words = b.sequences["language"]
    ids, mask = F.pad(words.values.masked_fill(~words.mask, 0), (1, 1)), F.pad(words.mask, (2, 0), value=True)
    ids[:, 0] = mag.text.first
    ids[torch.arange(3), words.lengths + 1] = mag.text.last
    with torch.no_grad():
        got = mag(b)
        expected = bert_by_hand(mag, ids, mask, frames_by_hand(b), inject)
    torch.testing.assert_close(got.z, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(got.prediction, expected @ mag.head[1].weight.T + mag.head[1].bias, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("inject", [0, 1])
def test_mag_xlnet_is_xlnet_with_the_input_of_a_layer_replaced(inject):
    """The official code's place, reached in another way: before layer ``inject``, row by row, so that nothing is padded."""
    mag, b = build(family="xlnet", inject=inject), batch()
    loud(mag.gate)
    fused = mag(b)
    layer = mag.text.model.layer[inject]
    for i, n in enumerate(LENGTHS):
        ids = torch.tensor([[*b.sequences["language"].values[i, :n].tolist(), mag.text.last, mag.text.first]])
        frames = {m: f[i : i + 1, : n + 2] for m, f in frames_by_hand(b, front=0, behind=2).items()}

        def change(_, given, frames=frames):
            time_first = given[0]
            return (gate_by_hand(mag.gate, time_first.transpose(0, 1), frames, torch.relu).transpose(0, 1), *given[1:])

        handle = layer.register_forward_pre_hook(change)
        segments = torch.tensor([[0] * (n + 1) + [2]])
        with torch.no_grad():
            hidden = mag.text.model(ids, token_type_ids=segments, use_mems=False).last_hidden_state
        handle.remove()
        torch.testing.assert_close(fused.z[i], hidden[0, -1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["bert", "xlnet"])
def test_no_hook_stays(family):
    mag = build(family=family, inject=1)
    mag(batch())
    mag.gate.forward = None  # what is called in the middle of the transformer fails
    with pytest.raises(TypeError):
        mag(batch())
    assert not any(module._forward_hooks for module in mag.modules())


# ---- Z and the representations of single modalities


def test_z_is_the_pooler_s_output_on_request():
    mag = build(z="pooler")
    fused = mag(batch())
    mag.z = "cls"
    cls = mag(batch()).z
    dense = mag.text.model.pooler.dense
    torch.testing.assert_close(fused.z, torch.tanh(dense(cls)))
    assert not any("pooler" in name for name, _ in build(z="cls").named_parameters())


def test_xlnet_has_a_pooler_of_its_own_on_request():
    mag = build(family="xlnet", inject=1, z="pooler")
    fused = mag(batch())
    mag.z = "cls"
    cls = mag(batch()).z
    torch.testing.assert_close(fused.z, torch.tanh(mag.pooler[0](cls)))
    assert not any("pooler" in name for name, _ in build(family="xlnet", inject=1).named_parameters())


@pytest.mark.parametrize("options", [{}, {"inject": 1}, {"family": "xlnet", "inject": 1}, {"family": "xlnet"}])
def test_unimodal_representations_are_what_the_gate_adds_up(options):
    """Audio and video: the mean over frames of W_m x + b_m. Language: the mean over words of what enters the gate, which the
    other modalities do not touch and the special pieces do not join."""
    mag, b = build(**options), batch()
    loud(mag.gate)
    entering = []
    mag.gate.register_forward_pre_hook(lambda _, given: entering.append(given[0]))
    unimodal = mag(b).unimodal
    for m in ("audio", "video"):
        for i, n in enumerate(LENGTHS):
            x = torch.stack([mag.gate.project[m](b.sequences[m].values[i, t]) for t in range(n)])
            torch.testing.assert_close(unimodal[m][i], x.mean(0))
    width = entering[0].shape[1]
    for i, n in enumerate(LENGTHS):
        first = width - 2 - n if mag.text.family == "xlnet" else 1
        torch.testing.assert_close(unimodal["language"][i], entering[0][i, first : first + n].mean(0))
    louder = {m: s if m == "language" else Sequence(s.values * 9, s.mask) for m, s in b.sequences.items()}
    other = mag(Batch(b.ids, louder, b.label))
    assert torch.equal(other.unimodal["language"], unimodal["language"])


def test_an_absent_modality_is_zero():
    mag, b = loud(build()), batch()
    gone = {m: Sequence(s.values, torch.zeros_like(s.mask)) for m, s in b.sequences.items()}
    unimodal = mag(Batch(b.ids, gone, b.label)).unimodal
    assert not any(u.any() for u in unimodal.values())


def test_frames_beyond_the_words_are_not_read():
    """Where a segment's audio is longer than its text, as in a sample of the product."""
    mag, b = build(), batch()
    loud(mag.gate)
    audio = b.sequences["audio"]
    longer = Sequence(
        torch.cat([audio.values, torch.ones(3, 2, 5)], 1), torch.cat([audio.mask, torch.ones(3, 2, dtype=torch.bool)], 1)
    )
    full = mag(Batch(b.ids, {**b.sequences, "audio": longer}, b.label))
    torch.testing.assert_close(full.z[0], mag(b).z[0])


def test_words_beyond_the_pieces_are_not_read():
    features = {"language": WORDS}
    mag = build(features=features, max_pieces=4)
    long, short = batch(features, [5]), batch(features, [2])
    short.sequences["language"].values.copy_(long.sequences["language"].values[:, :2])
    torch.testing.assert_close(mag(long).z, mag(short).z)


@pytest.mark.parametrize("family", ["bert", "xlnet"])
def test_language_alone_is_the_transformer_with_one_more_norm(family):
    """h = 0: the gate is LN(e), and has no other parameter."""
    features = {"language": WORDS}
    mag = build(features=features, family=family)
    assert {name for name, _ in mag.gate.named_parameters()} == {"norm.weight", "norm.bias"}
    assert mag(batch(features)).unimodal.keys() == {"language"}


def test_dropout_off_makes_training_deterministic():
    """Attention's too, which is a number inside the library and no module that is called."""
    for family in ("bert", "xlnet"):
        mag = build(family=family).train()
        for module in mag.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        torch.testing.assert_close(mag(batch()).z, mag.eval()(batch()).z)


# ---- refusals


def test_unaligned_data_are_refused():
    with pytest.raises(ValueError, match="needs word-aligned data, but these are unaligned"):
        MAG(spec(aligned=False))
    MAG(spec({"language": WORDS}, aligned=False))  # nothing to align


def test_data_without_language_are_refused():
    with pytest.raises(ValueError, match="MAG needs language"):
        MAG(spec({"audio": Feature(5), "video": Feature(4)}))


def test_word_vectors_are_refused():
    with pytest.raises(ValueError, match="needs text as words or tokens"):
        MAG(spec({"language": Feature(300), "audio": Feature(5)}))


def test_tokens_as_frames_are_refused():
    with pytest.raises(ValueError, match=r"needs vectors .* but audio comes as tokens; set data\.modalities"):
        MAG(spec({"language": WORDS, "audio": Feature(9, tokens=True)}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inject": 2}, r"inject is in 0 … 1 with text_encoder=tiny, but is 2; set model\.backbone\.inject"),
        ({"inject": -1}, "but is -1"),
        ({"gelu": "tanh"}, r"BERT's gelu is exact, but gelu=tanh came, which is XLNet's; set model\.backbone\.gelu=exact"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
