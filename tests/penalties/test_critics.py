"""The statistics network: Table 4 as printed, the range of its output, and what it reads."""

import pytest
import torch
from penalties.statistics_networks import build, rows
from torch import nn
from torch.nn import functional as F

from mdm.penalties.critics import Critic


def linear_maps(critic):
    return [(m.in_features, m.out_features) for m in critic.modules() if isinstance(m, nn.Linear)]


# ---- architecture


@pytest.mark.parametrize("d", [4, 16, 128, 10])
def test_table4_has_the_widths_as_printed(d):
    """d → d/2 → d → d → d/4 → d/4 → 1, LeakyReLU and dropout after each but the last."""
    critic = build(d, architecture="table4", dropout=0.4)
    h, q = d // 2, d // 4
    assert linear_maps(critic) == [(d, h), (h, d), (d, d), (d, q), (q, q), (q, 1)]
    assert [type(m) for m in critic.layers] == [nn.Linear, nn.LeakyReLU, nn.Dropout] * 5 + [nn.Linear]
    assert {m.p for m in critic.modules() if isinstance(m, nn.Dropout)} == {0.4}
    expected = (d + 1) * h + (h + 1) * d + (d + 1) * d + (d + 1) * q + (q + 1) * q + (q + 1)
    assert sum(p.numel() for p in critic.parameters()) == expected


def test_plain_has_two_hidden_layers_and_no_dropout():
    critic = build(6, hidden=20)
    assert linear_maps(critic) == [(6, 20), (20, 20), (20, 1)]
    assert sum(p.numel() for p in critic.parameters()) == 7 * 20 + 21 * 20 + 21
    assert not any(isinstance(m, nn.Dropout) for m in critic.modules())


@pytest.mark.parametrize("architecture", ["plain", "table4"])
@pytest.mark.parametrize("output", ["linear", "tanh", "sigmoid"])
@pytest.mark.parametrize("maps", ["free", "spectral_norm", "orthonormal"])
def test_one_value_per_row_in_the_range_of_the_output(architecture, output, maps):
    critic = build(architecture=architecture, output=output, bound=3.0, normalize=False, maps=maps)
    low, high = {"linear": (-float("inf"), float("inf")), "tanh": (-3.0, 3.0), "sigmoid": (0.0, 1.0)}[output]
    for scale in (1e-3, 1.0, 1e3, 1e6):
        value = critic(rows(scale=scale))
        assert value.shape == (32,)
        assert torch.isfinite(value).all()
        assert ((value >= low) & (value <= high)).all()


def test_outputs_are_functions_of_one_linear_value():
    """tanh: bound·tanh(v / bound), with slope 1 at 0; sigmoid: 1 / (1 + e^{−v})."""
    v = build(output="linear")(rows())
    torch.testing.assert_close(build(output="tanh", bound=0.5)(rows()), 0.5 * torch.tanh(v / 0.5))
    torch.testing.assert_close(build(output="tanh", bound=1e4)(rows()), v, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(build(output="sigmoid")(rows()), torch.sigmoid(v))


def test_rows_are_scored_alone():
    critic = build(architecture="table4").eval()
    z = rows()
    torch.testing.assert_close(torch.cat([critic(z[:5]), critic(z[5:])]), critic(z))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dim": 3, "architecture": "table4"}, "d >= 4, but d = 3"),
        ({"dim": 2}, "d >= 3, but d = 2"),
        ({"hidden": 0}, "hidden=0"),
        ({"dropout": 1.0}, r"dropout=1\.0"),
        ({"dropout": -0.1}, r"dropout=-0\.1"),
        ({"bound": 0.0}, r"bound=0\.0"),
        ({"bound": float("inf")}, "bound=inf"),
        ({"bound": float("nan")}, "bound=nan"),
        ({"noise": -1.0}, r"noise=-1\.0"),
        ({"noise": float("nan")}, "noise=nan"),
    ],
)
def test_what_cannot_be_built_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        build(**options)


def test_a_plain_critic_takes_any_width():
    assert build(1, normalize=False)(rows(dim=1)).shape == (32,)


# ---- what T reads


def test_normalisation_makes_scale_and_offset_irrelevant():
    critic = build(normalize=True)
    z = rows()
    for scale, offset in ((0.5, 0.0), (30.0, 0.0), (1.0, 7.0), (3.0, -2.0)):
        torch.testing.assert_close(critic(scale * z + offset), critic(z), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(critic.prepare(z), F.layer_norm(z, (16,)))
    # Without affine parameters, which could undo it.
    assert all(isinstance(m, nn.Linear | nn.LeakyReLU | nn.Sequential | Critic) for m in critic.modules())


def test_without_normalisation_scale_matters():
    critic, z = build(normalize=False), rows()
    assert torch.equal(critic.prepare(z), z)
    assert (critic(3 * z) - critic(z)).abs().max() > 1e-2


def test_half_precision_representations_are_read_in_single():
    assert build().prepare(rows().bfloat16()).dtype == torch.float32
    assert build()(rows().bfloat16()).dtype == torch.float32


def test_noise_acts_on_the_prepared_input_in_training_only():
    """Standard deviation 0.5 of 32·16 draws per call, 200 calls: within 1 %."""
    critic, z = build(noise=0.5), rows()
    clean = build().prepare(z)
    assert torch.equal(critic.eval().prepare(z), clean)
    critic.train()
    noise = torch.stack([critic.prepare(z) - clean for _ in range(200)])
    assert float(noise.std()) == pytest.approx(0.5, rel=0.01)
    assert float(noise.mean()) == pytest.approx(0, abs=0.01)
    torch.testing.assert_close(critic.prepare(1000 * z).std(), critic.prepare(z).std(), atol=0.05, rtol=0.05)  # after normalising
