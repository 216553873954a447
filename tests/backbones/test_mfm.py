"""MFM: a row at a time from the equations, the variants of Table 2, and what cannot be built."""

import pytest
import torch
from backbones.mfm import FEATURES, SMALL, batch, build, spec, three
from torch import nn
from torch.nn import functional as F

from mdm.backbones.mfm import MFM
from mdm.types import Feature, Sequence

VARIANTS = ("mfm", "M_A", "M_B", "M_C", "M_D", "M_E")


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
