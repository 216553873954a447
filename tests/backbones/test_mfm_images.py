"""MFM for images: a pair at a time from the equations, decoders that return to every size, and what a missing image leaves out."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mdm.backbones.mfm import prior_distance
from mdm.backbones.mfm_images import MFMImages, decoder, encoder
from mdm.types import Batch, DataSpec, Feature, Sequence

IMAGES = {"svhn": [3, 9, 8], "mnist": [1, 12, 12]}
SMALL = {"images": IMAGES, "channels": [4, 6], "hidden": 7, "z_y": 5, "f_y": 4, "z_m": 3, "f_m": 6}
TARGETS = ("0", "1", "2")


def spec(**features):
    features = {m: Feature(n) for m, n in (features or {"svhn": 216, "mnist": 144}).items()}
    return DataSpec(features, TARGETS, (0.0, 1.0), (0.2, 0.3, 0.5), False)


def build(data=None, **options):
    torch.manual_seed(0)
    return MFMImages(data or spec(), **{**SMALL, **options}).eval()


def batch(rows=5, seed=0):
    rng = torch.Generator().manual_seed(seed)
    mask = torch.ones(rows, 1, dtype=torch.bool)
    sequences = {m: Sequence(torch.rand(rows, 1, n, generator=rng), mask) for m, n in (("svhn", 216), ("mnist", 144))}
    return Batch(tuple(map(str, range(rows))), sequences, torch.eye(3)[torch.arange(rows) % 3])


def lacking(b, modality, rows):
    s = b.sequences[modality]
    mask = s.mask.clone()
    mask[rows] = False
    return replace(b, sequences={**b.sequences, modality: Sequence(s.values, mask)})


def terms_of(backbone, b):
    encoded = backbone.encode(b)
    return backbone.own_terms(b, encoded, backbone.fuse(encoded))


# ---- the model


def convolved(network, image):
    """Two convolutions of step 2 and a layer, each with a ReLU; channels normalised over the image in two groups, or not at all."""
    layers, x = list(network), image[None]
    for _ in range(2):
        conv = layers.pop(0)
        x = F.conv2d(x, conv.weight, conv.bias, stride=2, padding=1)
        if isinstance(layers[0], nn.GroupNorm):
            norm = layers.pop(0)
            parts = x.reshape(norm.num_groups, -1)
            centred = parts - parts.mean(1, keepdim=True)
            x = (centred / (centred.square().mean(1, keepdim=True) + norm.eps).sqrt()).reshape(x.shape)
            x = x * norm.weight[:, None, None] + norm.bias[:, None, None]
        x = torch.relu(x)
        assert isinstance(layers.pop(0), nn.ReLU)
    flat, last, _ = layers
    return torch.relu(F.linear(flat(x), last.weight, last.bias))


def two_layers(network, x):
    return torch.relu(network[3](torch.relu(network[0](x))))


def test_it_is_its_equations():
    backbone, b = build(), batch()
    with torch.no_grad():
        fusion = backbone(b)
        for i in range(len(b)):
            image = {m: b.sequences[m].values[i, 0].reshape(shape) for m, shape in IMAGES.items()}
            u = {m: convolved(backbone.states[m], image[m]) for m in IMAGES}
            z = {m: backbone.codes[m](convolved(backbone.encoders[m], image[m])) for m in IMAGES}
            z["y"] = backbone.code(torch.cat([u["svhn"], u["mnist"]], 1))
            f = {name: two_layers(backbone.factors[name], code) for name, code in z.items()}
            prediction = backbone.head[3](torch.relu(backbone.head[0](f["y"])))
            torch.testing.assert_close(fusion.prediction[i : i + 1], prediction)
            torch.testing.assert_close(fusion.z[i : i + 1], f["y"])
            torch.testing.assert_close({m: v[i : i + 1] for m, v in fusion.unimodal.items()}, u)
            parts = {f"z_{n}": v for n, v in z.items()} | {f"f_{n}": v for n, v in f.items()}
            torch.testing.assert_close({n: v[i : i + 1] for n, v in fusion.parts.items()}, parts)


def test_each_decoder_reads_the_label_factor_and_its_own():
    backbone = build()
    parts = backbone(batch()).parts
    for m, shape in IMAGES.items():
        made = backbone.decode(m, parts)
        assert made.shape == (5, *shape)
        assert ((made > 0) & (made < 1)).all()
        for name in ("y", "svhn", "mnist"):
            other = backbone.decode(m, {**parts, f"f_{name}": parts[f"f_{name}"] + 1})
            assert torch.equal(other, made) == (name not in ("y", m))


def test_drawn_codes_make_factors_as_encoded_ones_do():
    backbone, b = build(), batch()
    parts = backbone(b).parts
    codes = {name: parts[f"z_{name}"] for name in ("y", "svhn", "mnist")}
    torch.testing.assert_close(backbone.generate(codes), {n: p for n, p in parts.items() if n.startswith("f_")})


@pytest.mark.parametrize("height", [4, 5, 6, 7, 28, 32, 33])
@pytest.mark.parametrize("halvings", [1, 2])
def test_decoders_return_to_the_size_that_encoders_left(height, halvings):
    """All of the image is made of the factor: no row or column is a constant padding."""
    torch.manual_seed(0)
    shape, channels = (2, height, height + 1), (3, 4)[:halvings]
    assert encoder(shape, channels, 5, normalised=False)(torch.rand(1, *shape)).shape == (1, 5)
    made = decoder(6, shape, channels, 50)(torch.randn(30, 6))
    assert made.shape == (30, *shape)
    assert (made.std(0) > 0).all()


def test_an_encoder_that_normalises_sees_a_faint_digit_as_a_strong_one_and_the_other_does_not():
    """Of a tenth of the contrast: nearly the same state."""
    torch.manual_seed(0)
    image = torch.rand(1, 1, 32, 32)
    image = image - image.mean()
    changes = {}
    for normalised in (True, False):
        network = encoder((1, 32, 32), (8, 8), 50, normalised)
        nn.init.zeros_(network[0].bias)
        with torch.no_grad():
            before, after = network(image), network(0.1 * image)
        changes[normalised] = float((after - before).norm() / before.norm())
    assert changes[True] < 0.01
    assert changes[False] > 0.5


def test_codes_begin_about_as_wide_as_the_prior():
    """Where its kernel has a slope: by torch's own default they had a standard deviation of a few hundredths, or tens."""
    data = DataSpec({"svhn": Feature(3072), "mnist": Feature(784)}, TARGETS, (0.0, 1.0), (0.2, 0.3, 0.5), False)
    backbone = build(data, images={"svhn": [3, 32, 32], "mnist": [1, 28, 28]}, channels=[16, 32, 64], hidden=128)
    mask = torch.ones(64, 1, dtype=torch.bool)
    rows = Batch(
        tuple(map(str, range(64))),
        {m: Sequence(torch.rand(64, 1, f.dim), mask) for m, f in data.features.items()},
        torch.zeros(64, 3),
    )
    with torch.no_grad():
        parts = backbone(rows).parts
    for name in ("y", "svhn", "mnist"):
        assert 0.2 < float(parts[f"z_{name}"].square().mean().sqrt()) < 3, name


# ---- variants


@pytest.mark.parametrize("present", [("svhn", "mnist"), ("svhn",), ("mnist",)])
def test_the_baseline_has_neither_decoders_nor_prior(present):
    """MM, and with one modality UM: a prediction alone, of the images that the data have."""
    dims = {"svhn": 216, "mnist": 144}
    backbone, b = build(spec(**{m: dims[m] for m in present}), variant="mm"), batch()
    b = replace(b, sequences={m: b.sequences[m] for m in present})
    assert terms_of(backbone, b) == {}
    assert set(backbone.part_dims) == set(backbone(b).parts) == {"z_y", "f_y"}
    assert set(backbone.unimodal_dims) == set(present)
    assert not [name for name, _ in backbone.named_parameters() if name.split(".")[0] in ("encoders", "codes", "decoders")]


def test_the_baseline_begins_with_the_weights_of_the_model():
    """What they share comes first, so that runs of one seed are pairs."""
    of_model, of_baseline = build().state_dict(), build(variant="mm").state_dict()
    for name, value in of_baseline.items():
        assert torch.equal(value, of_model[name])


# ---- own terms


def test_reconstruction_is_the_mean_square_over_pixels():
    weights = {"svhn": 2.0, "mnist": 0.5}
    backbone, b = build(reconstruction_weight=weights), batch()
    parts, terms = backbone(b).parts, terms_of(backbone, b)
    assert set(terms) == {"reconstruction_svhn", "reconstruction_mnist", "prior"}
    for m, s in b.sequences.items():
        error = (backbone.decode(m, parts).flatten(1) - s.values[:, 0]).square().mean()
        torch.testing.assert_close(terms[f"reconstruction_{m}"], weights[m] * error)


@pytest.mark.parametrize("options", [{}, {"kernel_scale": "official"}, {"kernel_scale": "multi"}])
def test_the_prior_s_term_is_that_of_mfm(options):
    backbone, b = build(prior_weight=0.3, **options), batch()
    z = [backbone(b).parts[f"z_{name}"] for name in ("y", "svhn", "mnist")]
    scale = options.get("kernel_scale", "corrected")
    torch.testing.assert_close(terms_of(backbone, b)["prior"], 0.3 * prior_distance(torch.cat(z, 1), scale, "closed"))
    backbone.mmd = "per_factor"
    expected = 0.3 * sum(prior_distance(code, scale, "closed") for code in z)
    torch.testing.assert_close(terms_of(backbone, b)["prior"], expected)


def test_what_a_segment_lacks_is_neither_reconstructed_nor_asked_to_follow_the_prior():
    backbone = build(mmd="per_factor", prior_weight=1.0, reconstruction_weight=1.0)
    b = lacking(lacking(batch(), "svhn", [1, 2]), "mnist", [2])
    fusion, terms = backbone(b), terms_of(backbone, b)
    assert (fusion.unimodal["svhn"][1:3] == 0).all()
    assert torch.equal(fusion.parts["z_svhn"][1], fusion.parts["z_svhn"][2])
    have = {"svhn": torch.tensor([0, 3, 4]), "mnist": torch.tensor([0, 1, 3, 4]), "y": torch.tensor([0, 1, 3, 4])}
    for m in ("svhn", "mnist"):
        rows = have[m]
        made = backbone.decode(m, fusion.parts)[rows].flatten(1)
        torch.testing.assert_close(terms[f"reconstruction_{m}"], (made - b.sequences[m].values[rows, 0]).square().mean())
    expected = sum(prior_distance(fusion.parts[f"z_{name}"][rows], "corrected", "closed") for name, rows in have.items())
    torch.testing.assert_close(terms["prior"], expected)
    backbone.mmd = "joint"
    z = torch.cat([fusion.parts[f"z_{name}"] for name in ("y", "svhn", "mnist")], 1)[have["svhn"]]
    torch.testing.assert_close(terms_of(backbone, b)["prior"], prior_distance(z, "corrected", "closed"))


def test_a_batch_without_a_modality_has_finite_terms():
    backbone, b = build(), lacking(batch(), "mnist", slice(None))
    terms = terms_of(backbone, b)
    assert terms["reconstruction_mnist"].item() == 0
    assert "prior" not in terms  # no row has all codes
    sum(terms.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in backbone.parameters() if p.grad is not None)


def test_padding_changes_no_own_term():
    """Garbage in front of the image, and in the place of one that is not there."""
    backbone, b = build(), lacking(batch(), "svhn", [1])
    moved = {
        m: Sequence(F.pad(s.values, (0, 0, 2, 0), value=1e3), F.pad(s.mask, (2, 0), value=False)) for m, s in b.sequences.items()
    }
    torch.testing.assert_close(terms_of(backbone, replace(b, sequences=moved)), terms_of(backbone, b))


def test_own_terms_are_full_precision_under_autocast():
    backbone, b = build(), batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = terms_of(backbone, b)
    for name, value in terms_of(backbone, b).items():
        assert low[name].dtype == torch.float32
        torch.testing.assert_close(low[name], value, rtol=0.05, atol=1e-3)


def test_it_can_learn_pairs():
    """Twelve pairs of images, each told apart and made again from its codes: from chance to none wrong."""
    backbone, b = build(channels=[8, 8], hidden=32, z_y=8, f_y=16, head_dropout=0.0).train(), batch(12)
    optimizer = torch.optim.Adam(backbone.parameters(), lr=0.008)
    first = terms_of(backbone, b)["reconstruction_svhn"].item()
    for _ in range(100):
        encoded = backbone.encode(b)
        fusion = backbone.fuse(encoded)
        terms = backbone.own_terms(b, encoded, fusion)
        optimizer.zero_grad()
        (F.cross_entropy(fusion.prediction, b.label) + sum(terms.values())).backward()
        optimizer.step()
    assert (backbone.eval()(b).prediction.argmax(1) == b.label.argmax(1)).all()
    assert terms_of(backbone, b)["reconstruction_svhn"].item() < 0.7 * first


# ---- what is refused


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"svhn": 216, "audio": 5}, r"needs flattened images.*\(svhn \[3, 9, 8\], mnist \[1, 12, 12\]\), but audio has 5 numbers"),
        ({"svhn": 217}, "svhn has 217 numbers a step; use data=svhn_mnist or synthetic_digits"),
    ],
)
def test_data_without_images_are_refused(features, message):
    with pytest.raises(ValueError, match=message):
        build(spec(**features))


def test_words_are_no_image():
    data = DataSpec({"mnist": Feature(144, tokens=True)}, TARGETS, (0.0, 1.0), (0.2, 0.3, 0.5), False)
    with pytest.raises(ValueError, match=r"needs flattened images.* but mnist has 144 words a step"):
        build(data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": [4, 4, 4, 4]}, r"Each of 4 convolutions halves an image, but svhn is \[3, 9, 8\]; shorten"),
        ({"hidden": 0}, r"widths must be at least 1 .* \{'hidden': 0\}"),
        ({"channels": []}, r"\{'channels': 0\}"),
        ({"channels": [4, 0]}, r"\{'channels.1': 0\}"),
        ({"f_m": {"svhn": 3, "mnist": 0}}, r"\{'f_m.mnist': 0\}"),
        (
            {"reconstruction_weight": {"svhn": -1.0, "mnist": 1.0}},
            r"weights at least 0, but \{'reconstruction_weight.svhn': -1.0\}",
        ),
        ({"z_m": {"svhn": 3}}, "z_m must be one number, or a number for each of svhn, mnist"),
    ],
)
def test_what_cannot_be_built_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_numbers_for_an_image_that_the_data_lack_do_no_harm():
    """So that UM takes the options of MM."""
    assert build(spec(mnist=144), z_m={"svhn": 3, "mnist": 4}).part_dims["z_mnist"] == 4


def test_a_segment_of_several_steps_is_refused():
    b = batch()
    two = Sequence(b.sequences["mnist"].values.repeat(1, 2, 1), torch.ones(5, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="one step of mnist, but a row with 2 came"):
        build()(replace(b, sequences={**b.sequences, "mnist": two}))
