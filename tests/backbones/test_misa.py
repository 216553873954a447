"""MISA: stacked LSTMs, projections, codes and the tokens they become, step by step; the own terms; frozen layers."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import moment

from mdm.backbones.misa import MISA, StackedLSTM
from mdm.types import Batch, DataSpec, Feature, Sequence

WORDS = Feature(9, tokens=True, vocabulary=tuple(f"w{i}" for i in range(9)))
FEATURES = {"language": WORDS, "audio": Feature(5), "video": Feature(4)}
VECTORS = {**FEATURES, "language": Feature(6)}
LENGTHS = {"language": [3, 1, 4, 2], "audio": [7, 2, 0, 5], "video": [2, 6, 3, 1], "m3": [1, 2, 3, 4]}
"""Unaligned, and row 2 has no audio."""
DIM = 6


def spec(features=FEATURES):
    return DataSpec(features, ("y",), (-3.0, 3.0), (0.25,), False)


def build(features=FEATURES, **options):
    torch.manual_seed(0)
    return MISA(**{"spec": spec(features), "dim": DIM, "feedforward": 9, **options}).eval()


def batch(features=FEATURES, rows=4) -> Batch:
    rng = torch.Generator().manual_seed(0)
    sequences = {}
    for m, feature in features.items():
        have = torch.tensor(LENGTHS[m])
        mask = torch.arange(int(have.max())) < have[:, None]
        if feature.tokens:
            values = torch.randint(2, feature.dim, mask.shape, generator=rng) * mask
        else:
            values = torch.randn(*mask.shape, feature.dim, generator=rng)
        sequences[m] = Sequence(values, mask)[:rows]
    return Batch(tuple("abcd"[:rows]), sequences, torch.zeros(rows, 1))


def terms_of(backbone, b):
    encoded = backbone.encode(b)
    fusion = backbone.fuse(encoded)
    return backbone.own_terms(b, encoded, fusion), fusion


# ---- one modality: [time, d] → u_m → p_m → codes


def direction(lstm, suffix, steps):
    """All states of one direction, in the order in which it reads: i, f, g, o of W_ih x + b_ih + W_hh h + b_hh."""
    w_ih, w_hh, b_ih, b_hh = (getattr(lstm, f"{name}_l0{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    h = c = torch.zeros(w_hh.shape[1])
    states = []
    for x in steps:
        i, f, g, o = (w_ih @ x + b_ih + w_hh @ h + b_hh).chunk(4)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        states.append(h)
    return states


def stacked(encoder, steps):
    """[forward and backward final state of the first LSTM; of the second, which reads the normalised states of the first]."""
    finals = []
    for lstm in (encoder.first, encoder.second):
        forward, backward = direction(lstm, "", steps), direction(lstm, "_reverse", steps.flip(0))
        finals += [forward[-1], backward[-1]]
        both = torch.stack([torch.cat(pair) for pair in zip(forward, reversed(backward), strict=True)])
        centred = both - both.mean(1, keepdim=True)
        steps = centred / (both.var(1, keepdim=True, correction=0) + 1e-5).sqrt() * encoder.norm.weight + encoder.norm.bias
    return torch.cat(finals)


def test_stacked_lstms_are_their_recursion_over_real_steps():
    torch.manual_seed(1)
    encoder, b = StackedLSTM(5), batch()
    with torch.no_grad():
        encoder.norm.weight.uniform_(0.5, 2)
        encoder.norm.bias.normal_()
        got = encoder(b.sequences["audio"])
        for i, n in enumerate(LENGTHS["audio"]):
            want = stacked(encoder, b.sequences["audio"].values[i, :n]) if n else torch.zeros(20)
            torch.testing.assert_close(got[i], want)


def test_recurrent_matrices_begin_orthogonal():
    """All four: 4d × d with orthonormal columns."""
    matrices = [p for name, p in StackedLSTM(5).named_parameters() if "weight_hh" in name]
    assert len(matrices) == 4
    for w in matrices:
        torch.testing.assert_close(w.T @ w, torch.eye(5), atol=1e-5, rtol=0)


def test_language_is_the_mean_over_all_pieces_or_stacked_lstms():
    backbone, b = build(), batch()
    with torch.no_grad():
        got = backbone.encode(b)["language"]["projected"]
        for i, n in enumerate(LENGTHS["language"]):
            ids = [[9, *b.sequences["language"].values[i, :n].tolist(), 10]]  # [CLS] and [SEP] of a random encoder of 9 words
            mean = backbone.text.model(input_ids=torch.tensor(ids)).last_hidden_state[0].mean(0)
            torch.testing.assert_close(got[i], backbone.project["language"](mean), atol=1e-5, rtol=1e-5)
    vectors = build(VECTORS)
    assert vectors.text is None
    assert vectors.encoders["language"].dim == 24


def test_codes_and_fusion_are_their_equations():
    """p = LN(ReLU(Wu + b)); codes σ(Wp + b), the shared map one for all; the transformer layer token by token, norm last."""
    heads = 2
    backbone, b = build(VECTORS, heads=heads), batch(VECTORS)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.uniform_(-1, 1)
        fusion = backbone(b)
        tokens = []
        for kind in ("private", "shared"):
            for m in VECTORS:
                linear, norm = backbone.project[m][0], backbone.project[m][2]
                u = torch.relu(backbone.encoders[m](b.sequences[m]) @ linear.weight.T + linear.bias)
                p = torch.nn.functional.layer_norm(u, (DIM,), norm.weight, norm.bias)
                torch.testing.assert_close(fusion.unimodal[m], p)
                code = (backbone.private[m] if kind == "private" else backbone.shared)[0]
                tokens.append(torch.sigmoid(p @ code.weight.T + code.bias))
                torch.testing.assert_close(fusion.parts[f"{kind}_{m}"], tokens[-1])
        layer, x = backbone.transformer, torch.stack(tokens, 1)
        attended = torch.zeros_like(x)
        q, k, v = (x @ layer.self_attn.in_proj_weight.T + layer.self_attn.in_proj_bias).chunk(3, 2)
        for head in torch.arange(DIM).chunk(heads):
            for row in range(len(x)):
                weights = (q[row][:, head] @ k[row][:, head].T / len(head) ** 0.5).softmax(1)
                attended[row][:, head] = weights @ v[row][:, head]
        x = layer.norm1(x + layer.self_attn.out_proj(attended))
        x = layer.norm2(x + layer.linear2(torch.relu(layer.linear1(x))))
        torch.testing.assert_close(fusion.z, torch.cat([x[:, i] for i in range(6)], 1), atol=1e-5, rtol=1e-5)


def test_a_modality_that_is_not_there_has_constant_codes():
    """Whatever the other modalities say: row 2 has no audio."""
    backbone, b = build(), batch()
    frames = {m: Sequence(s.values if m == "language" else s.values + 1, s.mask) for m, s in b.sequences.items()}
    with torch.no_grad():
        for kind in ("projected", "private", "shared"):
            first, second = (backbone.encode(given)["audio"][kind] for given in (b, replace(b, sequences=frames)))
            torch.testing.assert_close(first[2], second[2], atol=0, rtol=0)
            assert (first[0] - second[0]).abs().max() > 1e-4


# ---- own terms


def cmd(x, y):
    differences = [x.mean(0) - y.mean(0), *(moment(x, k) - moment(y, k) for k in range(2, 6))]
    return sum(np.linalg.norm(d) for d in differences)


def overlap(a, b):
    rows = [x - x.mean(0) for x in (a, b)]
    rows = [x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-6) for x in rows]
    return np.mean((rows[0].T @ rows[1]) ** 2)


@pytest.mark.parametrize("features", [FEATURES, {m: FEATURES[m] for m in ("audio", "video")}, {**FEATURES, "m3": Feature(3)}])
def test_own_terms_are_those_of_the_official_code(features):
    """For M modalities M(M−1)/2 pairs of shared codes (mean), M + M(M−1)/2 differences (sum), M reconstructions (mean)."""
    weights = {"similarity": 0.7, "difference": 0.2, "reconstruction": 1.5}
    backbone, b = build(features, **weights), batch(features)
    with torch.no_grad():
        terms, fusion = terms_of(backbone, b)
        private, shared = ({m: fusion.parts[f"{kind}_{m}"].numpy() for m in features} for kind in ("private", "shared"))
        rebuilt = {m: backbone.rebuild[m](fusion.parts[f"private_{m}"] + fusion.parts[f"shared_{m}"]) for m in features}
    pairs = list(combinations(features, 2))
    want = {
        "similarity": np.mean([cmd(shared[i], shared[j]) for i, j in pairs]),
        "difference": sum(overlap(private[m], shared[m]) for m in features)
        + sum(overlap(private[i], private[j]) for i, j in pairs),
        "reconstruction": np.mean([((rebuilt[m] - fusion.unimodal[m]) ** 2).mean() for m in features]),
    }
    assert set(terms) == set(want)
    for name, value in terms.items():
        assert float(value) == pytest.approx(weights[name] * want[name], rel=1e-4)


@pytest.mark.parametrize("name", ["similarity", "difference", "reconstruction"])
def test_a_term_without_weight_is_not_there(name):
    backbone = build(**{name: 0.0})
    terms, fusion = terms_of(backbone, batch())
    assert set(terms) == {"similarity", "difference", "reconstruction"} - {name}
    (fusion.prediction.sum() + sum(terms.values())).backward()
    assert all(p.grad is not None for p in backbone.parameters())  # nothing is left that only the term would train


def test_where_gradients_of_the_terms_go():
    """The target of the reconstruction is moved too, unless detached; what rebuilds learns either way."""

    def pull(target):
        backbone, b = build(target=target), batch()
        encoded = backbone.encode(b)
        p = encoded["audio"]["projected"]
        fusion = backbone.fuse(encoded)
        error = backbone.own_terms(b, encoded, fusion)["reconstruction"]
        rebuilt = backbone.rebuild["audio"](fusion.parts["private_audio"] + fusion.parts["shared_audio"])
        direct = 2 * (p - rebuilt) / p.numel() / 3  # of the mean over three modalities, as if the codes stood still
        weight = backbone.rebuild["audio"].weight
        return *torch.autograd.grad(error, [p, weight]), direct.detach()

    attached, weight, direct = pull("attached")
    detached, same, _ = pull("detached")
    torch.testing.assert_close(attached - detached, direct, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(weight, same)
    assert detached.abs().max() > 0


@pytest.mark.parametrize("name", ["similarity", "difference", "reconstruction"])
def test_a_step_down_a_term_lowers_it_as_far_as_its_gradient_says(name):
    """A step of −δL/‖∇L‖² ∇L takes the share δ = 10⁻⁴ of L away, up to δ². No term is constant, and none is cut off from what could
    lower it; how far 60 steps of Adam come differs by a factor of ten between samples. The gradient of the difference holds the
    lengths of rows constant, which move too, so that less of the share is gone."""
    backbone = build(VECTORS, target="attached").double().eval()
    rng = torch.Generator().manual_seed(0)
    sequences = {
        m: Sequence(torch.randn(32, 5, f.dim, generator=rng).double(), torch.ones(32, 5, dtype=torch.bool))
        for m, f in VECTORS.items()
    }
    b = Batch(tuple(map(str, range(32))), sequences, torch.zeros(32, 1).double())
    before = terms_of(backbone, b)[0][name]
    before.backward()
    reached = [p for p in backbone.parameters() if p.grad is not None]
    before, square = before.detach(), sum(p.grad.square().sum() for p in reached)
    assert square > 0
    with torch.no_grad():
        for p in reached:
            p -= 1e-4 * before / square * p.grad
        after = terms_of(backbone, b)[0][name]
    share = float(1 - after / before)
    assert 0 < share < 1e-4 if name == "difference" else share == pytest.approx(1e-4, rel=0.1)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_batch_of_one_has_finite_terms_and_gradients(rows):
    """One row has no spread: central moments and centred rows are 0, so are the gradients of their norms; two may be equal."""
    backbone, b = build(), batch(rows=1)
    if rows == 2:
        b = Batch(("a", "b"), {m: s[torch.tensor([0, 0])] for m, s in b.sequences.items()}, torch.zeros(2, 1))
    terms, _ = terms_of(backbone, b)
    assert all(torch.isfinite(value) for value in terms.values())
    assert float(terms["difference"].detach()) == pytest.approx(0, abs=1e-6)
    sum(terms.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in backbone.parameters() if p.grad is not None)


def test_equal_shared_codes_have_no_distance_and_finite_gradients():
    """Two modalities with one content, one encoder and one projection: the CMD is 0, where a norm has no derivative."""
    features = {"audio": Feature(5), "video": Feature(5)}
    backbone, b = build(features), batch()
    for modules in (backbone.encoders, backbone.project):
        modules["video"].load_state_dict(modules["audio"].state_dict())
    audio = b.sequences["audio"]
    terms, _ = terms_of(backbone, Batch(b.ids, {"audio": audio, "video": audio}, b.label))
    assert float(terms["similarity"].detach()) == 0
    sum(terms.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in backbone.parameters() if p.grad is not None)


# ---- frozen layers


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_frozen_layers_are_the_embeddings_and_the_first_ones(layers):
    backbone = build(freeze_layers=layers)
    frozen = {name for name, p in backbone.named_parameters() if not p.requires_grad}
    prefixes = ["text.model.embeddings.", *(f"text.model.encoder.layer.{i}." for i in range(layers))] if layers else []
    assert frozen == {name for name, _ in backbone.named_parameters() if name.startswith(tuple(prefixes))}
    assert bool(frozen) == bool(layers)


def test_no_graph_is_kept_of_frozen_layers_and_values_are_the_same():
    free, frozen, b = build(), build(freeze_layers=1), batch()
    graph = []
    handle = frozen.text.model.encoder.layer[0].register_forward_hook(
        lambda _, __, output: graph.append((output[0] if isinstance(output, tuple) else output).requires_grad)
    )
    torch.testing.assert_close(frozen(b).prediction, free(b).prediction, atol=0, rtol=0)
    handle.remove()
    assert graph == [False]
    frozen(b).prediction.sum().backward()
    assert frozen.text.model.encoder.layer[1].output.dense.weight.grad.abs().sum() > 0


# ---- refusals


def test_refusals():
    with pytest.raises(ValueError, match="needs at least two modalities to tell what they share, but the data have audio"):
        build({"audio": Feature(5)})
    with pytest.raises(ValueError, match="needs vectors for what is not language, but audio comes as tokens"):
        build({**FEATURES, "audio": WORDS})
    for options in ({"dim": 7}, {"heads": 0}, {"feedforward": 0}):
        with pytest.raises(ValueError, match="dim a multiple of heads, but dim="):
            build(**options)
    for name in ("similarity", "difference", "reconstruction"):
        with pytest.raises(ValueError, match=f"weights >= 0, but .*{name}=-1"):
            build(**{name: -1.0})
    with pytest.raises(ValueError, match="freeze_layers needs that many layers of a text encoder, of which there are 2, but is 3"):
        build(freeze_layers=3)
    with pytest.raises(ValueError, match="of which there are 0, but is 1"):
        build(VECTORS, freeze_layers=1)
