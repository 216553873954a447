"""The statistics network: Table 4 as printed, ranges, slopes, and the gradient penalty's closed form."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mdm.penalties.critics import Critic, gradient_penalty


def build(dim=16, **options):
    torch.manual_seed(0)
    return Critic(dim, **options)


def rows(n=32, dim=16, scale=1.0, seed=0):
    return scale * torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


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
@pytest.mark.parametrize("spectral", [False, True])
def test_one_value_per_row_in_the_range_of_the_output(architecture, output, spectral):
    critic = build(architecture=architecture, output=output, bound=3.0, normalize=False, spectral=spectral)
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
        ({"architecture": "deep"}, "deep"),
        ({"output": "relu"}, "relu"),
        ({"dim": 3, "architecture": "table4"}, "d >= 4, but d = 3"),
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


# ---- slopes


@pytest.mark.parametrize("architecture", ["plain", "table4"])
@pytest.mark.parametrize("output", ["linear", "tanh", "sigmoid"])
def test_spectral_norm_makes_the_critic_one_lipschitz(architecture, output):
    """Each linear map has norm 1, LeakyReLU and the outputs slopes of at most 1 (sigmoid 1/4), so |T(x) − T(y)| ≤ ‖x − y‖.

    Power iteration meets the norm from below, hence many train-mode calls and 0.1 % to spare. Dropout would rescale: in eval.
    """
    critic = build(architecture=architecture, output=output, spectral=True, normalize=False)
    with torch.no_grad():
        for layer in critic.layers:
            if isinstance(layer, nn.Linear):
                layer.parametrizations.weight.original.mul_(20)  # undone by the norm
        critic.train()
        for _ in range(200):
            critic(rows(2))
        critic.eval()
        slope = 0.25 if output == "sigmoid" else 1.0
        for scale in (0.01, 1.0, 10.0):
            x, y = rows(2000, scale=scale, seed=1), rows(2000, scale=scale, seed=2)
            assert ((critic(x) - critic(y)).abs() <= 1.001 * slope * (x - y).norm(dim=1) + 1e-6).all()
        for layer in critic.layers:
            if isinstance(layer, nn.Linear):
                assert float(torch.linalg.matrix_norm(layer.weight, 2)) == pytest.approx(1, rel=1e-3)


def test_without_a_device_slopes_are_free():
    critic = build(normalize=False)
    with torch.no_grad():
        for p in critic.parameters():
            p.mul_(20)
        x, y = rows(100, seed=1), rows(100, seed=2)
        assert ((critic(x) - critic(y)).abs() > (x - y).norm(dim=1)).any()


def linear_critic(w, **options):
    """T(x) = ⟨w, x⟩, whose gradient is w everywhere."""
    critic = build(len(w), normalize=False, **options)
    layer = nn.Linear(len(w), 1)
    layer.weight.data = w[None]
    critic.layers = nn.Sequential(layer)
    return critic


@pytest.mark.parametrize("length", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("slope", [1.0, 2.0])
def test_gradient_penalty_of_a_linear_critic(length, slope):
    """(‖w‖ − slope)² at every point."""
    w = length * F.normalize(rows(1, 5)[0], dim=0)
    value = gradient_penalty(linear_critic(w), rows(9, 5), rows(9, 5, seed=1), slope)
    assert float(value.detach()) == pytest.approx((length - slope) ** 2, abs=1e-6)


def test_gradient_penalty_pulls_at_the_critic_only():
    """∂(‖w‖ − 1)² / ∂w = 2 (‖w‖ − 1) w / ‖w‖."""
    w = torch.tensor([0.0, 3.0, 4.0])
    critic = linear_critic(w.clone())
    joint, product = rows(9, 3).requires_grad_(), rows(9, 3, seed=1).requires_grad_()
    gradient_penalty(critic, joint, product).backward()
    torch.testing.assert_close(critic.layers[0].weight.grad[0], 2 * (5 - 1) * w / 5)
    assert joint.grad is None
    assert product.grad is None


def test_gradient_penalty_looks_between_joint_and_product_rows():
    """A critic with slope 2 where x > 0 and ½ where x < 0: rows on one side only see that side's slope."""
    critic = build(1, normalize=False)
    critic.layers = nn.Sequential(nn.Linear(1, 1, bias=False), nn.LeakyReLU(0.25), nn.Linear(1, 1, bias=False))
    critic.layers[0].weight.data, critic.layers[2].weight.data = torch.tensor([[2.0]]), torch.tensor([[1.0]])
    right, left = rows(500, 1).abs() + 0.1, -rows(500, 1).abs() - 0.1
    penalty = {
        "right": gradient_penalty(critic, right, right),  # (2 − 1)²
        "left": gradient_penalty(critic, left, left),  # (½ − 1)²
        "across": gradient_penalty(critic, right, left),  # between the two: points lie on both sides
    }
    assert float(penalty["right"].detach()) == pytest.approx(1.0)
    assert float(penalty["left"].detach()) == pytest.approx(0.25)
    assert 0.35 < float(penalty["across"].detach()) < 0.9


@pytest.mark.parametrize("training", [False, True])
def test_gradient_penalty_leaves_the_mode_alone_and_sees_no_dropout(training):
    critic = build(architecture="table4", dropout=0.9).train(training)
    values = []
    for _ in range(2):
        torch.manual_seed(3)
        mixture = gradient_penalty(critic, rows(), rows(seed=1))
        assert all(m.training is training for m in critic.modules())
        values.append(mixture.detach())
        torch.rand(7)
    torch.manual_seed(3)
    values.append(gradient_penalty(critic.eval(), rows(), rows(seed=1)).detach())
    assert values[0] == values[1] == values[2]


def test_gradient_penalty_restores_the_mode_after_an_error():
    critic = build(architecture="table4").train()
    critic.layers[-1] = nn.Linear(3, 1)  # does not fit
    with pytest.raises(RuntimeError):
        gradient_penalty(critic, rows(), rows(seed=1))
    assert all(m.training for m in critic.modules())


def test_gradient_penalty_is_on_the_normalised_input():
    """Lipschitz claims are about T of the prepared representation, so the penalty does not see its scale."""
    critic = build(normalize=True)
    values = []
    for scale in (1.0, 100.0):
        torch.manual_seed(0)
        values.append(float(gradient_penalty(critic, rows(scale=scale), rows(scale=scale, seed=1)).detach()))
    assert values[0] == pytest.approx(values[1], rel=1e-3)
