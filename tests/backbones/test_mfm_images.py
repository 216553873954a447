"""MFM for images: a pair at a time from the equations, decoders that return to every size, and refusals."""

from dataclasses import replace

import pytest
import torch
from backbones.mfm_images import IMAGES, TARGETS, batch, build, spec, terms_of
from torch import nn
from torch.nn import functional as F

from mdm.backbones.mfm_images import decoder, encoder
from mdm.types import Batch, DataSpec, Feature, Sequence

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
