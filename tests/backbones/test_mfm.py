"""MFM: a row at a time from the equations, its decoders as the loop they stand for, and what its prior does and does not see."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mdm.backbones.decoders import Decoder
from mdm.backbones.mfm import MFM, SPREAD, prior_distance
from mdm.types import Batch, DataSpec, Feature, Fusion, Sequence

FEATURES = {"language": Feature(6), "audio": Feature(3), "video": Feature(4)}
LENGTHS = [4, 1, 5, 2, 3]
SMALL = {"hidden": 6, "memory": 4, "z_y": 5, "f_y": 4, "z_m": 7, "f_m": 3, "embedding_dim": 5, "attention": 6, "proposal": 6}
VARIANTS = ("mfm", "M_A", "M_B", "M_C", "M_D", "M_E")


def spec(aligned=True, **features):
    return DataSpec(features or FEATURES, ("y",), (-3.0, 3.0), (0.25,), aligned)


def build(data=None, **options):
    torch.manual_seed(0)
    return MFM(data or spec(), **{**SMALL, **options}).eval()


def batch(lengths=LENGTHS, seed=0):
    rng = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    sequences = {
        m: Sequence(torch.randn(*mask.shape, f.dim, generator=rng) * mask.unsqueeze(-1), mask) for m, f in FEATURES.items()
    }
    return Batch(tuple(map(str, range(len(lengths)))), sequences, torch.randn(len(lengths), 1, generator=rng))


def three(language, audio, video):
    return {"language": language, "audio": audio, "video": video}


# ---- the model


@pytest.mark.parametrize(
    ("dims", "options", "parameters"),
    [
        # The official code's best on MOSI, and MMSA's on MOSI and MOSEI (which has 1278 where 128 was meant).
        (
            (300, 5, 20),
            {"z_y": 32, "z_m": three(32, 8, 80), "f_y": 16, "f_m": three(88, 8, 8), "hidden": three(88, 64, 48), "memory": 64}
            | {"attention": 128, "proposal": 128, "retain": 128, "update": 128},
            700_694,
        ),
        (
            (768, 5, 20),
            {"z_y": 80, "z_m": three(64, 80, 80), "f_y": 64, "f_m": three(32, 16, 64), "hidden": three(128, 32, 128), "memory": 64}
            | {"attention": 32, "proposal": 64, "retain": 32, "update": 64},
            1_370_810,
        ),
        (
            (768, 74, 35),
            {"z_y": 32, "z_m": three(256, 80, 80), "f_y": 16, "f_m": three(32, 80, 32), "hidden": three(256, 32, 256), "memory": 64}
            | {"attention": 1278, "proposal": 32, "retain": 64, "update": 128},
            5_840_380,
        ),
    ],
)
def test_published_sizes_give_the_published_number_of_parameters(dims, options, parameters):
    backbone = MFM(spec(**{m: Feature(d) for m, d in zip(FEATURES, dims, strict=True)}), **options)
    assert sum(p.numel() for p in backbone.parameters()) == parameters


def cell_of(lstm):
    """The step of an ``nn.LSTM`` of one layer."""
    cell = nn.LSTMCell(lstm.input_size, lstm.hidden_size)
    cell.load_state_dict({name.removesuffix("_l0"): p for name, p in lstm.state_dict().items()})
    return cell


def last_of(cell, steps):
    h = c = torch.zeros(1, cell.hidden_size)
    for x in steps:
        h, c = cell(x[None], (h, c))
    return h


def two_layers(network, x):
    """ReLU(W₂ ReLU(W₁ x)), without dropout."""
    return torch.relu(network[3](torch.relu(network[0](x))))


def slow(backbone, rows, i, variant):
    """Row i alone: (prediction, z, parts), step by step from the equations; the memory of MFN has tests of its own."""
    steps = {m: s.values[i][s.mask[i]] for m, s in rows.sequences.items()}
    codes = {}
    if variant in ("mfm", "M_A", "M_C", "M_E"):
        h, cells = {}, {}
        for m, x in steps.items():
            h[m] = c = torch.zeros(1, 6)
            cells[m] = []
            for x_t in x:
                h[m], c = backbone.lstms[m].cell(x_t[None], (h[m], c))
                cells[m].append(c)
        side_by_side = torch.cat([torch.stack(c, 1) for c in cells.values()], 2)
        u = backbone.memory(Sequence(side_by_side, torch.ones(side_by_side.shape[:2], dtype=torch.bool)))
        codes["y"] = backbone.code(torch.cat([*h.values(), u], 1))
    if variant == "M_A":
        steps["all"] = torch.cat(list(steps.values()), 1)
    for name in {"M_A": ("all",), "M_C": (), "M_E": ()}.get(variant, tuple(steps)):
        encoder = backbone.encoders[name]
        codes[name] = encoder.project(last_of(cell_of(encoder.lstm), steps[name]))
    factors = {name: two_layers(backbone.factors[name], code) for name, code in codes.items()}
    z = factors["y"] if "y" in factors else torch.cat(list(factors.values()), 1)
    if variant == "M_D":
        prediction = F.linear(z, backbone.head.weight, backbone.head.bias)
    else:
        prediction = backbone.head[3](torch.relu(backbone.head[0](z)))
    return prediction, z, {f"z_{n}": v for n, v in codes.items()} | {f"f_{n}": v for n, v in factors.items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_its_equations(variant):
    backbone, b = build(variant=variant), batch()
    with torch.no_grad():
        fusion = backbone(b)
        for i in range(len(b)):
            prediction, z, parts = slow(backbone, b, i, variant)
            torch.testing.assert_close(fusion.prediction[i : i + 1], prediction)
            torch.testing.assert_close(fusion.z[i : i + 1], z)
            torch.testing.assert_close({name: p[i : i + 1] for name, p in fusion.parts.items()}, parts)


OWN = ("language", "audio", "video")


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_dropout_is_where_its_option_says(variant):
    rates = {"y_dropout": 0.11, "head_dropout": 0.22, "m_dropout": three(0.33, 0.44, 0.55)}
    memory = {"attention": 0.61, "proposal": 0.62, "retain": 0.63, "update": 0.64}
    backbone = build(variant=variant, **rates, **{f"{name}_dropout": p for name, p in memory.items()})
    expected = {} if variant == "M_D" else {"head.2": 0.22}
    if variant not in ("M_B", "M_D"):
        expected |= {"factors.y.2": 0.11, "memory.attention.2": 0.61, "memory.proposal.2": 0.62}
        expected |= {"memory.retain.1": 0.63, "memory.update.1": 0.64}
    own = {"M_A": {"all": 0.33}, "M_C": {}, "M_E": {}}.get(variant, rates["m_dropout"])
    expected |= {f"factors.{name}.2": p for name, p in own.items()}
    assert {name: m.p for name, m in backbone.named_modules() if isinstance(m, nn.Dropout)} == expected


@pytest.mark.parametrize(
    ("variant", "codes", "reads", "unimodal"),
    [
        ("mfm", ("y", *OWN), lambda m: ("y", m), "states"),
        ("M_A", ("y", "all"), lambda m: ("y", "all"), "states"),
        ("M_B", OWN, lambda m: (m,), "factors"),
        ("M_C", ("y",), lambda m: ("y",), "states"),
        ("M_D", OWN, None, "factors"),
        ("M_E", ("y",), None, "states"),
    ],
)
def test_table_2(variant, codes, reads, unimodal):
    """Which codes there are, which factors each decoder reads, and what is trained beside the task."""
    backbone, b = build(variant=variant), batch()
    encoded = backbone.encode(b)
    fusion = backbone.fuse(encoded)
    assert set(fusion.parts) == {f"{kind}_{name}" for kind in "zf" for name in codes}
    terms = backbone.own_terms(b, encoded, fusion)
    if reads is None:
        assert terms == {}
        assert len(backbone.decoders) == 0
    else:
        assert set(terms) == {*(f"reconstruction_{m}" for m in OWN), "prior"}
    for m in OWN:
        assert backbone.unimodal_dims[m] == (SMALL["hidden"] if unimodal == "states" else SMALL["f_m"])
        if unimodal == "factors":
            assert torch.equal(fusion.unimodal[m], fusion.parts[f"f_{m}"])
        if reads is not None:
            made = backbone.decode(m, fusion.parts, b.sequences[m].lengths)
            for name in codes:
                other = backbone.decode(m, {**fusion.parts, f"f_{name}": fusion.parts[f"f_{name}"] + 1}, b.sequences[m].lengths)
                assert torch.equal(other, made) == (name not in reads(m))


@pytest.mark.parametrize("variant", VARIANTS)
def test_numbers_for_each_modality_serve_every_variant(variant):
    """Also those with fewer codes: M_A's has the widths of language, as in the official code."""
    numbers = {"z_m": three(4, 3, 2), "f_m": three(2, 3, 4), "m_dropout": three(0.1, 0.2, 0.3), "hidden": three(5, 6, 7)}
    backbone, b = build(variant=variant, **numbers), batch()
    widths = {"M_A": {"z_all": 4, "f_all": 2}, "M_C": {}, "M_E": {}}.get(
        variant, {f"{kind}_{m}": numbers[f"{kind}_m"][m] for kind in "zf" for m in OWN}
    )
    assert {name: d for name, d in backbone.part_dims.items() if not name.endswith("_y")} == widths
    fusion = backbone(b)
    assert {name: p.shape[1] for name, p in fusion.parts.items()} == backbone.part_dims
    assert fusion.z.shape[1] == backbone.z_dim == (9 if variant in ("M_B", "M_D") else SMALL["f_y"])


# ---- decoders


def decoded(decoder, factors, time):
    """The official loop: the factor is the first step's input, the last hidden state that of every later one."""
    read, total, *biases = decoder.lstm.all_weights[0]
    cell = nn.LSTMCell(decoder.lstm.input_size, decoder.lstm.hidden_size)
    with torch.no_grad():
        for p, value in zip(cell.parameters(), (read, total - read, *biases), strict=True):
            p.copy_(value)
    h = c = torch.zeros_like(factors)
    given, steps = factors, []
    for _ in range(time):
        h, c = cell(given, (h, c))
        given = h
        steps.append(decoder.output(h))
    return torch.stack(steps, 1)


@pytest.mark.parametrize("time", [1, 2, 9])
def test_a_decoder_is_the_loop_that_feeds_on_its_own_state(time):
    torch.manual_seed(0)
    decoder = Decoder(6, Feature(4))
    factors = torch.randn(3, 6, requires_grad=True)
    weight = torch.randn(3, time, 4)
    fast, loop = decoder(factors, time), decoded(decoder, factors, time)
    torch.testing.assert_close(fast, loop)
    gradients = [torch.autograd.grad((weight * steps).sum(), factors)[0] for steps in (fast, loop)]
    torch.testing.assert_close(*gradients)


def test_a_decoder_starts_as_the_sum_of_two_matrices_would():
    """An LSTM's weights are uniform in ±1/√h: R − W_ih must be so again, of variance 1/(3h) (90 000 draws, within 2 %)."""
    width = 150
    read, total, *_ = Decoder(width, Feature(2)).lstm.all_weights[0]
    rest = (total - read).detach()
    assert rest.abs().max() < width**-0.5 + 1e-6
    assert float(rest.var()) == pytest.approx(1 / (3 * width), rel=0.02)
    assert abs(float(torch.corrcoef(torch.stack([rest.flatten(), read.detach().flatten()]))[0, 1])) < 0.02


def test_two_matrices_are_the_same_function_and_each_learns():
    """A cell that reads the factor, then its own last state: h_t = cell(h_{t−1}, h_{t−1})."""
    torch.manual_seed(0)
    decoder, factors = Decoder(5, Feature(3), "two_matrices"), torch.rand(4, 5)
    cell = nn.LSTMCell(5, 5)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in decoder.lstm.state_dict().items()})
    h, c = cell(factors)
    states = [h]
    for _ in range(3):
        h, c = cell(h, (h, c))
        states.append(h)
    torch.testing.assert_close(decoder.states(factors, 4), torch.stack(states, 1))
    torch.stack(states, 1).square().sum().backward()
    decoder.states(factors, 4).square().sum().backward()
    for name, parameter in decoder.lstm.named_parameters():
        torch.testing.assert_close(parameter.grad, getattr(cell, name.removesuffix("_l0")).grad)


def test_a_decoder_goes_forward_and_longer_is_a_continuation():
    backbone, b = build(), batch()
    parts = backbone(b).parts
    long = backbone.decode("audio", parts, torch.full((len(b),), 9))
    short = backbone.decode("audio", parts, torch.tensor(LENGTHS))
    assert long.shape == (len(b), 9, 3)
    torch.testing.assert_close(long[:, : max(LENGTHS)], short)
    assert backbone.decode("audio", parts, torch.zeros(len(b), dtype=torch.long)).shape == (len(b), 1, 3)


@pytest.mark.filterwarnings("ignore:TF32", "ignore:`torch.jit.script` is deprecated")
def test_every_step_depends_on_the_factors_and_both_modes_of_differentiation_agree():
    """∂x̂_t/∂f_y of Eq. 7, [time, d, f_y], by one forward pass per coordinate of f_y and by one backward pass per output."""
    backbone, b = build(), batch([4])
    parts = {name: p.detach() for name, p in backbone(b).parts.items()}

    def made(f_y):
        return backbone.decode("video", {**parts, "f_y": f_y[None]}, torch.tensor([6]))[0]

    backward = torch.autograd.functional.jacobian(made, parts["f_y"][0])
    assert backward.shape == (6, 4, SMALL["f_y"])
    assert (backward.square().sum((1, 2)) > 0).all()
    with torch.backends.mkldnn.flags(enabled=False):
        torch.testing.assert_close(torch.func.jacfwd(made)(parts["f_y"][0]), backward)


def test_decoders_can_learn_a_sequence():
    """Four sequences of the same length are told apart by four factors: the error, at first their variance, falls by far."""
    torch.manual_seed(0)
    decoder, factors = Decoder(16, Feature(3)), nn.Parameter(torch.rand(4, 16))
    target = Sequence(torch.randn(4, 3, 3), torch.ones(4, 3, dtype=torch.bool))
    optimizer = torch.optim.Adam([*decoder.parameters(), factors], lr=0.02)
    first = float(decoder.cost(factors, target).detach())
    for _ in range(200):
        optimizer.zero_grad()
        cost = decoder.cost(factors, target)
        cost.backward()
        optimizer.step()
    assert float(cost.detach()) < 0.05 * first


# ---- reconstruction terms


def test_reconstruction_is_the_mean_square_over_real_steps():
    weights = three(1.0, 0.01, 0.5)
    backbone, b = build(reconstruction_weight=weights), batch()
    encoded = backbone.encode(b)
    fusion = backbone.fuse(encoded)
    terms = backbone.own_terms(b, encoded, fusion)
    for m, s in b.sequences.items():
        factors = torch.cat([fusion.parts["f_y"], fusion.parts[f"f_{m}"]], 1)
        errors = [
            (decoded(backbone.decoders[m], factors[i : i + 1], n)[0] - s.values[i, :n]).square().flatten()
            for i, n in enumerate(LENGTHS)
        ]
        torch.testing.assert_close(terms[f"reconstruction_{m}"], weights[m] * torch.cat(errors).mean())


@pytest.mark.parametrize("variant", ["mfm", "M_A", "M_B", "M_C"])
def test_padding_changes_no_own_term(variant):
    """Two more steps of garbage in front; the official code would reconstruct them."""
    backbone, b = build(variant=variant), batch()
    garbage = {
        m: Sequence(F.pad(s.values, (0, 0, 2, 0), value=1e3), F.pad(s.mask, (2, 0), value=False)) for m, s in b.sequences.items()
    }
    results = []
    for rows in (b, replace(b, sequences=garbage)):
        encoded = backbone.encode(rows)
        results.append(backbone.own_terms(rows, encoded, backbone.fuse(encoded)))
    torch.testing.assert_close(*results)


def test_words_cost_their_negative_log_likelihood():
    """One where all ids are equally likely; logits a, 0, 0, … for word 0 … by hand."""
    decoder = Decoder(3, Feature(9, tokens=True))
    target = Sequence(torch.tensor([[4, 2, 0], [3, 0, 0]]), torch.tensor([[True, True, False], [True, False, False]]))
    with torch.no_grad():
        decoder.output.weight.zero_()
        decoder.output.bias.zero_()
        assert float(decoder.cost(torch.rand(2, 3), target)) == pytest.approx(1)
        decoder.output.bias[4] = math.log(8)  # probabilities 8/16 for word 4, 1/16 for each other
        expected = (math.log(2) + 2 * math.log(16)) / 3 / math.log(9)
        assert float(decoder.cost(torch.rand(2, 3), target)) == pytest.approx(expected)


def test_what_a_segment_lacks_is_neither_reconstructed_nor_asked_to_follow_the_prior():
    backbone, b = build(mmd="per_factor"), batch()
    lacks = b.sequences["audio"].mask.clone()
    lacks[1:3] = False
    b = replace(b, sequences={**b.sequences, "audio": Sequence(b.sequences["audio"].values, lacks)})
    encoded = backbone.encode(b)
    fusion = backbone.fuse(encoded)
    have = torch.tensor([0, 3, 4])
    whole = {m: s[have] for m, s in b.sequences.items()}
    factors = torch.cat([fusion.parts["f_y"], fusion.parts["f_audio"]], 1)
    terms = backbone.own_terms(b, encoded, fusion)
    torch.testing.assert_close(terms["reconstruction_audio"], backbone.decoders["audio"].cost(factors[have], whole["audio"]))
    z = {name: p for name, p in fusion.parts.items() if name.startswith("z_")}
    expected = sum(prior_distance(code[have] if name == "z_audio" else code, "corrected", "closed") for name, code in z.items())
    torch.testing.assert_close(terms["prior"], expected)
    backbone.mmd = "joint"
    expected = prior_distance(torch.cat(list(z.values()), 1)[have], "corrected", "closed")
    torch.testing.assert_close(backbone.own_terms(b, encoded, fusion)["prior"], expected)


def test_a_batch_without_a_modality_has_finite_terms():
    backbone, b = build(), batch()
    nothing = Sequence(b.sequences["audio"].values, torch.zeros_like(b.sequences["audio"].mask))
    b = replace(b, sequences={**b.sequences, "audio": nothing})
    encoded = backbone.encode(b)
    terms = backbone.own_terms(b, encoded, backbone.fuse(encoded))
    assert terms["reconstruction_audio"].item() == 0
    assert "prior" not in terms  # no row has all codes
    sum(terms.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in backbone.parameters() if p.grad is not None)


def test_own_terms_are_finite_in_half_precision(half_precision):
    backbone, b = build(data=spec(language=Feature(9, tokens=True), audio=Feature(3), video=Feature(4))), batch()
    words = Sequence(torch.randint(1, 9, b.sequences["audio"].mask.shape), b.sequences["audio"].mask)
    b = replace(b, sequences={**b.sequences, "language": words})
    with half_precision():
        encoded = backbone.encode(b)
        low = backbone.own_terms(b, encoded, backbone.fuse(encoded))
    encoded = backbone.encode(b)
    full = backbone.own_terms(b, encoded, backbone.fuse(encoded))
    for name, value in low.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, full[name], rtol=0.03, atol=0)


# ---- the prior


@pytest.mark.parametrize("kernel_scale", ["official", "corrected", "multi"])
def test_sampled_is_closed_in_the_mean_but_for_a_constant(kernel_scale):
    """The samples of the prior pair with themselves n of n² times: E[sampled] = closed + (1 − E k(g, g′)) / n."""
    n, d = 8, 6
    torch.manual_seed(0)
    z = 0.7 * torch.randn(n, d) + 0.5
    scales = {"official": [d * d], "corrected": [2 * d], "multi": [2 * d * s for s in SPREAD]}[kernel_scale]
    within = sum((1 + 4 / s) ** (-d / 2) for s in scales) / len(scales)
    draws = torch.stack([prior_distance(z, kernel_scale, "sampled") for _ in range(500)])
    expected = float(prior_distance(z, kernel_scale, "closed")) + (1 - within) / n
    assert float(draws.mean()) == pytest.approx(expected, abs=4 * float(draws.std()) / 500**0.5)


@pytest.mark.parametrize("d", [32, 80, 256])
@pytest.mark.parametrize("prior", ["closed", "sampled"])
def test_the_official_kernel_prefers_a_collapsed_code_to_samples_of_the_prior(d, prior):
    """A batch of 32. Collapsed to 0, the closed form is 1 + (1 + 4/s)^{−d/2} − 2 (1 + 2/s)^{−d/2}; samples cost about 1/32."""
    torch.manual_seed(d)
    collapsed = torch.zeros(32, d)
    cost = {}
    for scale in ("official", "corrected", "multi"):
        samples = torch.stack([prior_distance(torch.randn(32, d), scale, prior) for _ in range(50)]).mean()
        collapse = torch.stack([prior_distance(collapsed, scale, prior) for _ in range(50)]).mean()
        cost[scale] = float(collapse) / float(samples)
    assert cost["official"] < 1
    assert cost["corrected"] > 3
    assert cost["multi"] > 3
    s = 2.0 * d
    expected = 1 + (1 + 4 / s) ** (-d / 2) - 2 * (1 + 2 / s) ** (-d / 2)
    assert float(prior_distance(collapsed, "corrected", "closed")) == pytest.approx(expected, abs=1e-5)


def prior_term(backbone, **codes):
    """The prior's term for given codes of many segments."""
    n = len(next(iter(codes.values())))
    mask = torch.ones(n, 1, dtype=torch.bool)
    rows = Batch(
        tuple(map(str, range(n))),
        {m: Sequence(torch.zeros(n, 1, f.dim), mask) for m, f in FEATURES.items()},
        torch.zeros(n, 1),
    )
    parts = {f"z_{name}": z for name, z in codes.items()} | {f"f_{m}": torch.zeros(n, 3) for m in FEATURES}
    fusion = Fusion(torch.zeros(n, 1), torch.zeros(n, 4), {}, parts)
    return float(backbone.own_terms(rows, {}, fusion)["prior"])


def test_only_the_joint_term_sees_that_codes_depend_on_one_another():
    """Two codes that are copies u, u with u ~ N(0, I₄), and d = 8, s = 16. Along u + u′ the joint code has variance 2, along
    u − u′ none, so with n → ∞ MMD² = (1 + 8/s)^{−2} + (1 + 4/s)^{−4} − 2 (1 + 6/s)^{−2} (1 + 2/s)^{−2} = 0.0182."""
    n, s = 1500, 16
    truth = (1 + 8 / s) ** -2 + (1 + 4 / s) ** -4 - 2 * (1 + 6 / s) ** -2 * (1 + 2 / s) ** -2
    assert truth == pytest.approx(0.0182, abs=5e-5)
    torch.manual_seed(0)
    u, w = torch.randn(n, 4), torch.randn(n, 4)
    joint, per_factor = (build(variant="M_B", mmd=mmd, prior_weight=1.0) for mmd in ("joint", "per_factor"))
    # Of M_B's three codes the third is a single constant zero, which adds the same to both sides of each comparison.
    floor = (1 - (1 + 8 / s) ** -2) / n
    assert prior_term(joint, language=u, audio=u) == pytest.approx(truth + floor, rel=0.1)
    assert prior_term(joint, language=u, audio=w) < 0.002
    same, apart = (prior_term(per_factor, language=u, audio=other) for other in (u, w))
    assert max(same, apart) < 0.002


def test_weights_scale_their_terms():
    b = batch()
    results = []
    for factor in (1, 3):
        backbone = build(reconstruction_weight=0.2 * factor, prior_weight=0.5 * factor)
        encoded = backbone.encode(b)
        results.append(backbone.own_terms(b, encoded, backbone.fuse(encoded)))
    torch.testing.assert_close({name: 3 * value for name, value in results[0].items()}, results[1])


# ---- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"z_y": 0}, r"widths must be at least 1 .* \{'z_y': 0\}"),
        ({"hidden": three(6, 0, 6)}, r"\{'hidden.audio': 0\}"),
        ({"prior_weight": -1.0}, r"weights at least 0, but \{'prior_weight': -1.0\}"),
        ({"reconstruction_weight": three(1.0, -0.1, 1.0)}, r"\{'reconstruction_weight.audio': -0.1\}"),
        ({"z_m": {"language": 4}}, "z_m must be one number, or a number for each of language, audio, video"),
        ({"reconstruction_weight": {"audio": 1.0}}, "reconstruction_weight must be one number, or a number for each"),
    ],
)
def test_what_cannot_be_built_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_variants_without_the_memory_take_unaligned_data(variant):
    if variant in ("M_B", "M_D"):
        assert build(spec(aligned=False), variant=variant).z_dim == 3 * SMALL["f_m"]
    else:
        with pytest.raises(ValueError, match="needs word-aligned data"):
            build(spec(aligned=False), variant=variant)
