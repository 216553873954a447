"""The statistics network: Table 4 as printed, ranges, slopes and what holds them, and the gradient penalty's closed form."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mdm.penalties.critics import Critic, MaxMin, gradient_penalty, orthonormal


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


# ---- slopes


@pytest.mark.parametrize("architecture", ["plain", "table4"])
@pytest.mark.parametrize("output", ["linear", "tanh", "sigmoid"])
def test_spectral_norm_makes_the_critic_one_lipschitz(architecture, output):
    """Each linear map has norm 1, LeakyReLU and the outputs slopes of at most 1 (sigmoid 1/4), so |T(x) − T(y)| ≤ ‖x − y‖.

    Power iteration meets the norm from below, hence many train-mode calls and 0.1 % to spare. Dropout would rescale: in eval.
    """
    critic = build(architecture=architecture, output=output, maps="spectral_norm", normalize=False)
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


def multiply_norms(critic):
    return math.prod(float(torch.linalg.matrix_norm(m.weight.detach(), 2)) for m in critic.layers if isinstance(m, nn.Linear))


@pytest.mark.parametrize("architecture", ["plain", "table4"])
def test_no_critic_in_the_middle_of_training_is_steeper_than_one(architecture):
    """Weights that have just moved, for which power iteration has not caught up: while training the product of the norms of 40
    critics passes 1, in evaluation mode it is 1 for each of them, up to rounding."""
    training, evaluated = [], []
    for seed in range(40):
        torch.manual_seed(seed)
        critic = Critic(16, architecture, hidden=16, maps="spectral_norm").train()
        optimizer = torch.optim.Adam(critic.parameters(), lr=0.03)
        for step in range(3):
            optimizer.zero_grad()
            (critic(rows(20, seed=step)).mean() - critic(rows(20, seed=50 + step)).mean()).backward()
            optimizer.step()
        training.append(multiply_norms(critic))
        critic.eval()
        evaluated.append(multiply_norms(critic))
        x, y = critic.prepare(rows(200, seed=1)), critic.prepare(rows(200, seed=2))
        assert ((critic.score(x) - critic.score(y)).abs() <= (1 + 1e-5) * (x - y).norm(dim=1) + 1e-6).all()
    assert max(training) > 1.01
    assert max(abs(product - 1) for product in evaluated) < 1e-5


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


@pytest.mark.parametrize("architecture", ["plain", "table4"])
@pytest.mark.parametrize("output", ["linear", "tanh", "sigmoid"])
def test_slopes_are_those_of_autograd(architecture, output):
    """∇T, and the derivative of a penalty on it by every weight, against going through the graph twice."""
    critic = build(architecture=architecture, output=output, bound=0.5, normalize=False).double().eval()
    points = rows(20).double().requires_grad_()
    (expected,) = torch.autograd.grad(critic.score(points).sum(), points, create_graph=True)
    slopes = critic.slopes(points.detach())
    torch.testing.assert_close(slopes, expected)
    weights = list(critic.parameters())
    pulls = [
        torch.autograd.grad(((s.norm(dim=1) - 1) ** 2).mean(), weights, materialize_grads=True, allow_unused=True)
        for s in (slopes, expected)
    ]
    assert any(float(pull.abs().max()) > 1e-3 for pull in pulls[0])
    for mine, other in zip(*pulls, strict=True):
        torch.testing.assert_close(mine, other)


def test_slopes_of_held_maps_are_our_own_mistake():
    with pytest.raises(AssertionError, match="no other maps"):
        build(maps="orthonormal").slopes(rows())
    with pytest.raises(AssertionError, match="only orthonormal maps"):
        build().tighten()


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_gradient_penalty_of_unequal_numbers_of_rows_takes_as_many_of_each(noise):
    critic = build(noise=noise)
    values = []
    for extra in (rows(seed=1), torch.cat([rows(seed=1), 100 * rows(seed=2)])):
        torch.manual_seed(0)
        values.append(float(gradient_penalty(critic, rows(), extra).detach()))
    assert values[0] == values[1]


# ---- orthonormal maps


def singular_values(w):
    return torch.linalg.svdvals(w.detach().double())


def maps_of(critic):
    return [layer for layer in critic.layers if isinstance(layer, nn.Linear)]


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9), (1, 7), (7, 1)])
def test_an_iteration_takes_each_singular_value_to_a_polynomial_of_it(shape):
    """s → s(3 − s²)/2 with the singular vectors unchanged; W by its singular values."""
    k = min(shape)
    u, v = (torch.linalg.qr(rows(n, k, seed=n)).Q.double() for n in shape)
    s = torch.tensor([0.9, 1.1, 1.0, 0.8, 1.2, 0.95][:k], dtype=torch.float64)
    expected = u @ torch.diag(s * (3 - s**2) / 2) @ v.T
    torch.testing.assert_close(orthonormal(u @ torch.diag(s) @ v.T), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1e-3, 0.3, 1.0, 3.0, 1e4])
@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (1, 30)])
def test_no_matrix_is_taken_above_norm_one(shape, scale):
    """Also those whose singular values exceed √3, where the polynomial alone would blow up."""
    w = scale * rows(*shape)
    assert float(singular_values(orthonormal(w)).max()) <= 1 + 1e-5  # rounding of 30 products
    for _ in range(60):
        w = orthonormal(w)
    if scale:  # and again and again leads to an orthonormal one
        assert float((singular_values(w) - 1).abs().max()) < 1e-5


@pytest.mark.parametrize("units", [1, 2, 5, 8])
def test_maxmin_moves_units_about_and_a_slope_keeps_its_norm(units):
    x = rows(50, units).requires_grad_()
    y = MaxMin()(x)
    assert torch.equal(y.detach().sort(1).values, x.detach().sort(1).values)
    half = units // 2
    assert (y[:, :half] >= y[:, half : 2 * half]).all()
    back = rows(50, units, seed=1)
    (slope,) = torch.autograd.grad(y, x, back)
    torch.testing.assert_close(slope.norm(dim=1), back.norm(dim=1))


@pytest.mark.parametrize("steps", [0, 40])
@pytest.mark.parametrize(("architecture", "dim"), [("plain", 6), ("table4", 18)])
def test_orthonormal_maps_stay_so_under_an_optimiser_and_make_the_critic_one_lipschitz(architecture, dim, steps):
    """|T(x) − T(y)| ≤ ‖x − y‖ (1 + 10⁻⁵), near and far, in double precision; each map within 10⁻³ of orthonormal."""
    critic = build(dim, architecture=architecture, maps="orthonormal", normalize=False, hidden=15)
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
    for step in range(steps):
        critic.tighten()
        optimizer.zero_grad()
        (critic(rows(dim=dim, seed=step)) * rows(dim=1, seed=step + 1)[:, 0]).sum().backward()
        optimizer.step()
    for layer in maps_of(critic):
        values = singular_values(layer.weight)
        assert float(values.max()) <= 1 + 1e-5
        assert float(values.min()) >= 1 - 1e-3
    critic = critic.double().eval()
    for scale in (1e-4, 1.0, 100.0):
        x = rows(3000, dim, seed=1).double()
        y = x + scale * rows(3000, dim, seed=2).double()
        quotient = (critic.score(x) - critic.score(y)).abs() / (x - y).norm(dim=1)
        assert float(quotient.detach().max()) <= 1 + 1e-5


def test_slopes_have_norm_one_where_no_map_widens():
    """Orthonormal rows from 16 to 8 to 8 to 1 and permutations between: ∇T has norm 1 everywhere, where LeakyReLU shrinks it."""
    for maps, least in (("orthonormal", 1 - 1e-5), ("spectral_norm", 0.0)):
        points = rows(100).requires_grad_()
        critic = build(16, hidden=8, maps=maps, normalize=False).eval()
        (slopes,) = torch.autograd.grad(critic.score(points).sum(), points)
        norms = slopes.norm(dim=1)
        assert least <= float(norms.min())
        assert float(norms.max()) <= 1 + 1e-3
    assert float(norms.max()) < 0.9  # what is lost without


def test_tightening_changes_the_weights_that_the_optimiser_moves_and_hardly_the_map():
    critic = build(maps="orthonormal")
    with torch.no_grad():
        for layer in maps_of(critic):
            layer.parametrizations.weight.original += 0.003 * torch.randn_like(layer.weight)
    before = [singular_values(layer.parametrizations.weight.original) for layer in maps_of(critic)]
    assert all(0.002 < (b - 1).abs().max() < 0.3 for b in before)
    z = rows()
    value = critic(z).detach()
    critic.tighten()
    after = [singular_values(layer.parametrizations.weight.original) for layer in maps_of(critic)]
    assert all((a - 1).abs().max() < 0.5 * (b - 1).abs().max() for a, b in zip(after, before, strict=True))
    torch.testing.assert_close(critic(z).detach(), value, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("maps", ["free", "orthonormal"])
def test_under_autocast_values_are_those_without(maps):
    critic = build(maps=maps)
    expected = critic(rows()).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = critic(rows()).detach()
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)


def test_dropout_of_table4_is_off_in_evaluation_and_breaks_the_slope_in_training():
    """What dropout keeps it divides by 1 − p, five times over: a claim about slopes is one about evaluation mode."""
    critic = build(architecture="table4", maps="orthonormal", dropout=0.4, normalize=False)
    x, y = rows(2000, seed=1), 1e-3 * rows(2000, seed=2)

    def quotient():
        values = []
        for z in (x, x + y):
            torch.manual_seed(0)  # the same dropout for both
            values.append(critic(z).detach())
        return float(((values[1] - values[0]).abs() / y.norm(dim=1)).max())

    assert quotient() > 1.1
    critic.eval()
    assert quotient() <= 1 + 1e-3  # single precision at a distance of 10⁻³
    assert torch.equal(critic(x), critic(x))
