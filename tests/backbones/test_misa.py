"""MISA: stacked LSTMs, projections, codes and the tokens they become, step by step; frozen layers; refusals."""

from dataclasses import replace

import pytest
import torch
from backbones.misa import DIM, FEATURES, LENGTHS, VECTORS, WORDS, batch, build

from mdm.backbones.misa import StackedLSTM
from mdm.types import Feature, Sequence

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
