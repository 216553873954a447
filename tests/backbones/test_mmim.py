"""MMIM: CPC row by row, its exact range, and encoders and fusion from their equations."""

import inspect
import math
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from mdm.backbones.mmim import MMIM, score_contrast
from mdm.types import Batch, DataSpec, Feature, Sequence

WORDS = Feature(9, tokens=True, vocabulary=tuple(f"w{i}" for i in range(9)))
FEATURES = {"language": WORDS, "audio": Feature(5), "video": Feature(4)}
LENGTHS = {"language": [3, 1, 4, 2, 3], "audio": [7, 2, 0, 3, 5], "video": [2, 6, 3, 1, 0]}
"""Unaligned; the third row has no audio, the last no video."""
CPC = {"language", "audio", "video"}


def spec(**features):
    return DataSpec(features or FEATURES, ("y",), (-3.0, 3.0), (0.25,), False)


def build(given=None, **options):
    torch.manual_seed(0)
    return MMIM(**{"spec": given or spec(), "hidden": 6, "dim": 3, "z_dim": 8, **options}).eval()


def batch(features=FEATURES, seed=0):
    rng = torch.Generator().manual_seed(seed)
    sequences = {}
    for m, feature in features.items():
        have = torch.tensor(LENGTHS[m])
        mask = torch.arange(int(have.max())) < have[:, None]
        size = (len(have), int(have.max()))
        if feature.tokens:
            values = torch.randint(2, feature.dim, size, generator=rng) * mask
        else:
            values = torch.randn(*size, feature.dim, generator=rng) * mask[:, :, None]
        sequences[m] = Sequence(values, mask)
    return Batch(tuple(map(str, range(5))), sequences, torch.zeros(5, 1))


def terms_of(model, given):
    encoded = model.encode(given)
    return model.own_terms(given, encoded, model.fuse(encoded))


# ---- encoders and fusion


def test_text_is_the_last_layer_at_cls():
    model, given = build(), batch()
    h = model.encode(given)["language"]["h"]
    first, last = model.text.first, model.text.last
    for i, row in enumerate(given.sequences["language"].values):
        words = row[row > 0].tolist()
        hidden = model.text.model(input_ids=torch.tensor([[first, *words, last]])).last_hidden_state
        torch.testing.assert_close(h[i], hidden[0, 0], atol=1e-5, rtol=1e-5)


def lstm_state(lstm, steps, suffix=""):
    """h_T of a plain loop over the steps (gates in torch's order)."""
    weights = [getattr(lstm, f"{name}_l0{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    h = c = torch.zeros(lstm.hidden_size)
    for x in steps:
        i, f, g, o = (weights[0] @ x + weights[1] @ h + weights[2] + weights[3]).chunk(4)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
    return h


@pytest.mark.parametrize("bidirectional", [False, True])
def test_frames_are_a_linear_map_of_the_last_state(bidirectional):
    model, given = build(bidirectional=bidirectional), batch()
    for m in ("audio", "video"):
        encoder, sequence = model.encoders[m], given.sequences[m]
        for i, n in enumerate(LENGTHS[m]):
            steps = sequence.values[i, :n]
            state = lstm_state(encoder.lstm, steps)
            if bidirectional:
                state = torch.cat([state, lstm_state(encoder.lstm, steps.flip(0), "_reverse")])
            expected = encoder.project.weight @ state + encoder.project.bias
            torch.testing.assert_close(model.encode(given)[m]["h"][i], expected, atol=1e-5, rtol=1e-5)


def test_language_as_vectors_is_the_last_state_itself():
    features = {"language": Feature(6), "audio": Feature(5)}
    model, given = build(spec(**features), language_hidden=7), batch(features)
    assert model.unimodal_dims == {"language": 7, "audio": 3}
    h = model.encode(given)["language"]["h"]
    for i, n in enumerate(LENGTHS["language"]):
        expected = lstm_state(model.encoders["language"].lstm, given.sequences["language"].values[i, :n])
        torch.testing.assert_close(h[i], expected, atol=1e-5, rtol=1e-5)


def test_z_and_the_prediction_from_their_equations():
    model, given = build(), batch()
    fusion = model(given)
    x = torch.cat([fusion.unimodal[m] for m in FEATURES], 1)
    first, second = model.fusion[1], model.fusion[3]
    z = torch.tanh(torch.tanh(x @ first.weight.T + first.bias) @ second.weight.T + second.bias)
    torch.testing.assert_close(fusion.z, z)
    torch.testing.assert_close(fusion.prediction, z @ model.head.weight.T + model.head.bias)


def test_each_modality_may_have_its_own_hidden_size():
    model = build(hidden={"audio": 2, "video": 5})
    assert (model.encoders["audio"].lstm.hidden_size, model.encoders["video"].lstm.hidden_size) == (2, 5)
    assert model.unimodal_dims == {"language": 64, "audio": 3, "video": 3}


def test_matrices_begin_xavier_normal_and_the_bias_at_the_mean_of_the_labels():
    model = build(z_dim=128, hidden=64)
    for weight in (model.fusion[3].weight, model.cpc["language"].weight, model.encoders["audio"].lstm.weight_hh_l0):
        assert float(weight.std().detach()) == pytest.approx(math.sqrt(2 / sum(weight.shape)), rel=0.05)
    assert model.head.bias.tolist() == [0.25]


# ---- CPC


def loops(h, prediction, axis, temperature=1.0):
    """−mean_i log(e^{s_ii} / Σ_j e^{s_ij}) (Eqs. 10–11), with s_ij = cos(G(Z_i), h_j) and for ``z`` s_ij = cos(G(Z_j), h_i)."""

    def score(i, j):
        p, x = prediction[i], h[j]
        return float(p @ x) / math.sqrt(float(p @ p) * float(x @ x)) / temperature

    total, n = 0.0, len(h)
    for i in range(n):
        others = [score(i, j) if axis == "h" else score(j, i) for j in range(n)]
        total -= math.log(math.exp(score(i, i)) / sum(math.exp(s) for s in others))
    return total / n


@pytest.fixture
def pairs():
    rng = torch.Generator().manual_seed(4)
    return torch.randn(6, 3, generator=rng), torch.randn(6, 3, generator=rng) * 5


@pytest.mark.parametrize("axis", ["h", "z"])
@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_contrastive_row_by_row(pairs, axis, temperature):
    value = score_contrast(*pairs, axis, temperature)
    assert float(value) == pytest.approx(loops(*pairs, axis, temperature), rel=1e-5)


def test_the_axes_are_two_numbers_and_change_places_with_the_sides(pairs):
    h, prediction = pairs
    assert abs(float(score_contrast(h, prediction, "h") - score_contrast(h, prediction, "z"))) > 1e-3
    assert float(score_contrast(h, prediction, "h")) == pytest.approx(float(score_contrast(prediction, h, "z")), rel=1e-6)


def test_lengths_do_not_count(pairs):
    h, prediction = pairs
    stretched = score_contrast(h * torch.arange(1, 7)[:, None], 0.01 * prediction)
    torch.testing.assert_close(stretched, score_contrast(h, prediction))


@pytest.mark.parametrize("axis", ["h", "z"])
@pytest.mark.parametrize("n", [2, 8, 32])
def test_the_range_of_cosines_is_less_than_one_nat_below_log_n(n, axis):
    """The least loss is log(1 + (n − 1)·e^{−n/(n−1)}): Jensen over anchors, and Σ_i⟨g_i − ḡ, h_i − h̄⟩ ≤ n. A simplex attains it:
    n unit vectors with cosine −1/(n − 1) between any two."""
    simplex = torch.eye(n) - 1 / n
    least = math.log(1 + (n - 1) * math.exp(-n / (n - 1)))
    assert float(score_contrast(simplex, simplex, axis)) == pytest.approx(least, rel=1e-5)
    assert math.log(n) - least < 1
    same = torch.ones(n, 3)
    assert float(score_contrast(same, same, axis)) == pytest.approx(math.log(n), rel=1e-5)
    # Whatever is learned: 200 steps on free vectors end above it, and near.
    torch.manual_seed(0)
    h, g = torch.randn(n, n).requires_grad_(), torch.randn(n, n).requires_grad_()
    optimizer = torch.optim.Adam([h, g], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        loss = score_contrast(h, g, axis)
        loss.backward()
        optimizer.step()
    assert least - 1e-5 <= float(loss.detach()) < least + 0.1


def test_a_temperature_lifts_the_bound():
    simplex = torch.eye(32) - 1 / 32
    assert float(score_contrast(simplex, simplex, temperature=0.1)) < 0.01


def test_no_row_and_one_row_give_zero():
    assert float(score_contrast(torch.randn(0, 3), torch.randn(0, 3))) == 0.0
    assert float(score_contrast(torch.randn(1, 3), torch.randn(1, 3))) == pytest.approx(0.0, abs=1e-6)


def test_in_half_precision_scores_stay_single(pairs):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = score_contrast(*pairs)
    assert value.dtype == torch.float32
    assert float(value) == float(score_contrast(*pairs))


@pytest.mark.parametrize("axis", ["h", "z"])
def test_terms_are_of_the_rows_that_have_the_modality(axis):
    model, given = build(alpha=0.3, cpc_axis=axis), batch()
    fusion = model(given)
    terms = terms_of(model, given)
    assert set(terms) == {f"cpc_{m}" for m in CPC}
    for m in CPC:
        rows = [i for i, n in enumerate(LENGTHS[m]) if n > 0]
        head = model.cpc[m]
        prediction = (fusion.z @ head.weight.T + head.bias)[rows].detach()
        expected = 0.3 * loops(fusion.unimodal[m][rows].detach(), prediction, axis)
        assert float(terms[f"cpc_{m}"].detach()) == pytest.approx(expected, rel=1e-4)


def test_terms_need_no_labels():
    model, given = build(), batch()
    unlabelled = Batch(given.ids, given.sequences, torch.full((5, 1), float("nan")), labelled=2)
    assert terms_of(model, unlabelled) == terms_of(model, given)


def test_cpc_may_leave_modalities_out():
    assert set(terms_of(build(cpc=["audio"]), batch())) == {"cpc_audio"}
    assert terms_of(build(cpc=[]), batch()) == {}


def test_cpc_pulls_at_z_and_at_what_it_predicts():
    model, given = build(cpc=["audio"]), batch()
    sum(terms_of(model, given).values()).backward()
    for part in (model.cpc, model.fusion, model.encoders["audio"], model.encoders["video"], model.text.model.embeddings):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())


def test_a_batch_in_which_no_row_has_a_modality_has_finite_gradients():
    features = {"language": Feature(6), "audio": Feature(5)}
    model, given = build(spec(**features)).train(), batch(features)
    absent = {m: Sequence(s.values, torch.zeros_like(s.mask)) for m, s in given.sequences.items()}
    sequences = {**given.sequences, "language": absent["language"]}
    given = Batch(given.ids, sequences, given.label)
    fusion = model(given)
    (fusion.prediction.sum() + sum(terms_of(model, given).values())).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


# ---- config and refusals


def test_the_own_penalty_is_one_pass_before_each_epoch(config):
    own = config("model=mmim").model.own_penalty
    assert own.objective._target_.endswith("InfoMax")
    assert (own.critic.interleave, own.critic.batches, own.critic.steps, own.weight) == ("epoch", "fresh", 1, 0.1)
    assert config("model=mmim", "model.own_penalty=null").model.own_penalty is None


def test_the_file_names_every_option():
    node = OmegaConf.load(Path(__file__).parents[2] / "configs/model/mmim.yaml").backbone
    options = dict(list(inspect.signature(MMIM).parameters.items())[1:])
    assert {k: v for k, v in node.items() if k != "_target_"} == {k: p.default for k, p in options.items()}


@pytest.mark.parametrize(
    "options", [{"alpha": 0.0}, {"temperature": 0.0}, {"dim": 0}, {"hidden": 0}, {"z_dim": 0}, {"language_hidden": 0}]
)
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="sizes of at least 1, alpha > 0 and temperature > 0"):
        build(**options)


@pytest.mark.parametrize("options", [{"hidden": {"audio": 3}}, {"hidden": {"audio": 3, "video": 3, "m3": 3}}, {"cpc": ["m3"]}])
def test_modalities_that_the_data_have_not_are_refused(options):
    with pytest.raises(ValueError, match="one for each of audio, video, and cpc a list of some of language, audio, video"):
        build(**options)
