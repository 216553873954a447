"""Synergy: each part against its closed form, what the printed forms degenerate to, and that the corrected ones do not."""

import math
from copy import deepcopy

import pytest
import torch
from torch import nn

from mdm import estimators
from mdm.penalties.base import View
from mdm.penalties.cnetwork import Coupling, Mlps, Moments, Predictors, paired_mmd2, printed_kl, printed_mmd
from mdm.penalties.pairs import standardize_columns
from mdm.penalties.synergy import FACTORS, Synergy
from mdm.types import Fusion

DIMS = {"language": 5, "audio": 3, "video": 4}
Z = 6
ALONE = {
    "l2": {"alignment": 0, "kurtosis": 0},
    "alignment": {"l2": 0, "kurtosis": 0},
    "kurtosis": {"l2": 0, "alignment": 0, "kurtosis": 1},
}


def build(dims=DIMS, z_dim=Z, seed=0, weight=1.0, part=None, **options) -> Synergy:
    torch.manual_seed(seed)
    return Synergy(z_dim, weight, dims, **(ALONE[part] if part else {}), **options)


def view(unimodal, z) -> View:
    return View(Fusion(torch.zeros(len(z), 1), z, unimodal), None, torch.zeros(len(z), 1))


def random_view(rows=32, seed=0, dims=DIMS, z_dim=Z, grad=False, scale=1.0) -> View:
    """Columns of different sizes and laws that share a direction."""
    rng = torch.Generator().manual_seed(seed)
    shared = torch.randn(rows, 1, generator=rng)

    def values(d):
        noise = torch.randn(rows, d, generator=rng)
        return (scale * (shared + noise + 0.3 * noise.square())).requires_grad_(grad)

    return view({m: values(d) for m, d in dims.items()}, values(z_dim))


def leaves(v: View):
    return [*v.joint.unimodal.values(), v.joint.z]


def total(penalty, v):
    return sum(penalty(v).values())


def fit(penalty, views, lr=1e-3):
    optimizer = torch.optim.Adam(penalty.parameters(), lr=lr)
    for v in views:
        optimizer.zero_grad()
        penalty.critic_loss(v).backward()
        optimizer.step()
    return penalty


def equicorrelated(rows, d, rho, modalities, rng):
    """For each of d columns, `modalities` standard normals with pairwise correlation ρ."""
    shared = torch.randn(rows, d, generator=rng)
    noise = (torch.randn(rows, d, generator=rng) for _ in range(modalities))
    return [math.sqrt(rho) * shared + math.sqrt(1 - rho) * e for e in noise]


# ---- what all parts keep


@pytest.mark.parametrize("divergence", ["mmd", "kl"])
def test_terms_are_weight_times_gamma_times_the_parts(divergence):
    penalty = build(divergence=divergence, weight=0.3, l2=1.0, alignment=2.0, kurtosis=0.5).eval()
    v = random_view()
    with torch.no_grad():
        estimate, terms = penalty.estimate(v), penalty(v)
    assert [name.removesuffix("_term") for name in terms] == list(estimate) == ["l2", "alignment", "kurtosis"]
    for part, gamma in (("l2", 1.0), ("alignment", 2.0), ("kurtosis", 0.5)):
        torch.testing.assert_close(terms[f"{part}_term"], 0.3 * gamma * estimate[part])


@pytest.mark.parametrize("mode", ["corrected", "literal"])
@pytest.mark.parametrize("divergence", ["mmd", "kl"])
@pytest.mark.parametrize("part", ALONE)
def test_a_part_alone_is_that_part_and_builds_no_other(part, divergence, mode):
    options = {"divergence": divergence, "mode": mode}
    whole, alone = build(kurtosis=1, **options).eval(), build(part=part, **options).eval()
    alone.load_state_dict({key: value for key, value in whole.state_dict().items() if key in alone.state_dict()})
    v = random_view()
    with torch.no_grad():
        assert set(alone(v)) == {f"{part}_term"}
        torch.testing.assert_close(total(alone, v), whole(v)[f"{part}_term"])
    owners = {"l2": {"q"}, "alignment": {"projections", "g", "t"}, "kurtosis": {"moments"}}
    assert {key.split(".")[0] for key in alone.state_dict()} <= owners[part]
    trained = {"l2": True, "kurtosis": False, "alignment": divergence == "kl" or mode == "literal"}
    assert bool(list(alone.parameters())) == trained[part]


@pytest.mark.parametrize("divergence", ["mmd", "kl"])
@pytest.mark.parametrize("part", ALONE)
def test_nothing_is_won_by_scale_or_place(part, divergence):
    """The derivative along a factor and along a shift of any column is 0; the tolerance is rounding, relative to the gradient."""
    penalty = build(part=part, divergence=divergence).train()
    for seed in range(5):
        penalty(random_view(seed=seed + 1))
    v = random_view(grad=True)
    total(penalty, v).backward()
    reached = [t for t in leaves(v) if t.grad.any()]
    assert len(reached) == (3 if part == "l2" else 4)
    for t in reached:
        size = t.grad.norm() * t.detach().norm()
        assert size > 1e-4
        assert float((t.grad * t.detach()).sum(0).abs().max() / size) < 1e-5
        assert float(t.grad.sum(0).abs().max() / size) < 1e-5


@pytest.mark.parametrize("divergence", ["mmd", "kl"])
def test_values_do_not_change_with_units(divergence):
    penalty = build(divergence=divergence).eval()
    with torch.no_grad():
        one, other = (penalty.estimate(random_view(scale=scale)) for scale in (1.0, 100.0))
    for part in one:
        torch.testing.assert_close(one[part], other[part], rtol=1e-4, atol=1e-5)


SHAPES = {
    "two": ({"language": 300, "video": 1}, 4),
    "four": ({"a": 2, "b": 7, "c": 1, "d": 3}, 64),
    "equal": ({"language": 6, "audio": 6, "video": 6}, 6),
}


@pytest.mark.parametrize("rows", ["many", "few", "two", "one", "absent", "absent in part", "constant"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("divergence", ["mmd", "kl"])
def test_values_and_gradients_are_finite_for_any_width_and_rows(divergence, shape, rows):
    dims, z_dim = SHAPES[shape]
    penalty = build(dims, z_dim, divergence=divergence).train()
    n = {"few": 5, "two": 2, "one": 1}.get(rows, 32)
    for seed in range(3):
        v = random_view(n, seed, dims, z_dim)
        with torch.no_grad():
            last = list(dims)[-1]
            if rows in ("absent", "absent in part"):
                v.joint.unimodal[last][: n if rows == "absent" else 20] = 0
            if rows == "constant":
                for t in leaves(v):
                    t.fill_(100.3)
        for t in leaves(v):
            t.requires_grad_()
        loss = total(penalty, v) + penalty.critic_loss(v)
        loss.backward()
        values = [loss, *penalty.estimate(v).values(), *(t.grad for t in leaves(v)), *(p.grad for p in penalty.parameters())]
        assert all(torch.isfinite(value).all() for value in values)
    assert all(torch.isfinite(value).all() for value in penalty.state_dict().values())


def test_half_precision_representations_are_judged_in_full():
    penalty, v = build(divergence="kl").eval(), random_view()
    half = view({m: u.bfloat16() for m, u in v.joint.unimodal.items()}, v.joint.z.bfloat16())
    full = view({m: u.float() for m, u in half.joint.unimodal.items()}, half.joint.z.float())
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        got = penalty(half)
    for part, value in penalty(full).items():
        assert got[part].dtype == torch.float32
        torch.testing.assert_close(got[part], value.detach())


# ---- L2


@pytest.mark.parametrize("modalities", [2, 3])
def test_l2_approaches_the_variance_that_no_prediction_explains(modalities):
    """Per column 1 − ρ² with one other modality, (1−ρ)(1+2ρ)/(1+ρ) with two: the conditional variance of standard normals.

    Below it no Q can go but by the sampling error, 1.5 % at 4000 rows; 10 % are for a Q of 200 steps.
    """
    rho, d, rng = 0.8, 2, torch.Generator().manual_seed(0)
    truth = 1 - rho**2 if modalities == 2 else (1 - rho) * (1 + 2 * rho) / (1 + rho)
    names = list(DIMS)[:modalities]

    def rows(n):
        return view(dict(zip(names, equicorrelated(n, d, rho, modalities, rng), strict=True)), torch.zeros(n, 2))

    penalty = fit(build(dict.fromkeys(names, d), 2, part="l2"), (rows(128) for _ in range(200)), lr=5e-3)
    with torch.no_grad():
        assert 0.97 * truth < float(penalty.estimate(rows(4000))["l2"]) < 1.1 * truth


def test_independent_modalities_have_all_of_their_variance_to_themselves():
    rng = torch.Generator().manual_seed(0)

    def rows(n):
        return view({m: torch.randn(n, d, generator=rng) for m, d in DIMS.items()}, torch.zeros(n, Z))

    penalty = fit(build(part="l2"), (rows(256) for _ in range(100)))
    with torch.no_grad():
        assert float(penalty.estimate(rows(4000))["l2"]) == pytest.approx(1, abs=0.03)


def test_predictors_are_networks_of_their_own_that_never_see_their_target():
    torch.manual_seed(0)
    widths = [5, 3, 4]
    q, parts = Predictors(widths, 7, 8), [torch.randn(6, d) for d in widths]
    with torch.no_grad():
        errors = q(torch.cat(parts, 1), torch.zeros(3, 6, 7))
        for i, d in enumerate(widths):
            x = torch.cat([p if j != i else torch.zeros_like(p) for j, p in enumerate(parts)], 1)
            for layer, (weight, bias) in enumerate(zip(q.layers.weights, q.layers.biases, strict=True)):
                x = (nn.functional.leaky_relu(x) if layer else x) @ weight[i] + bias[i]
            assert layer == 3
            torch.testing.assert_close(errors[i, :, :d], x[:, :d].square())
            assert not errors[i, :, d:].any()


def test_networks_of_different_widths_begin_as_layers_of_their_own():
    """Uniform in ±1/√fan-in: a maximum of many draws is within 2 % of the limit."""
    torch.manual_seed(0)
    net = Mlps(2, [100, 64, 3], fan_in=[4, 100])
    for weight, limit in zip([*net.weights[0], net.weights[1]], (0.5, 0.1, 0.125), strict=True):
        assert float(weight.abs().max().detach()) == pytest.approx(limit, rel=0.02)


def test_targets_can_be_held_still():
    """Then only what predicts moves: the gradient that reaches audio comes from the prediction of the others."""
    gradients = {}
    for detach in (False, True):
        v = random_view(grad=True)
        total(build(part="l2", detach_targets=detach), v).backward()
        gradients[detach] = v.joint.unimodal["audio"].grad
    assert gradients[True].norm() > 0
    assert not torch.allclose(gradients[True], gradients[False])


def test_the_error_is_a_mean_over_rows_columns_and_modalities():
    penalty, v = build(part="l2").eval(), random_view()
    with torch.no_grad():
        given = torch.cat([standardize_columns(u) for u in v.joint.unimodal.values()], 1)
        want = 0.0
        for i, (name, d) in enumerate(DIMS.items()):
            x = given * penalty.q.inputs[i]
            for layer, (weight, bias) in enumerate(zip(penalty.q.layers.weights, penalty.q.layers.biases, strict=True)):
                x = (nn.functional.leaky_relu(x) if layer else x) @ weight[i] + bias[i]
            want += float((x[:, :d] - standardize_columns(v.joint.unimodal[name])).square().mean()) / 3
        assert float(penalty.estimate(v)["l2"]) == pytest.approx(want, rel=1e-5)


def scale_after_training(mode):
    """Q and an encoder that may only choose the size of its output, both descending L_L2 as in appendix D."""
    rng, penalty = torch.Generator().manual_seed(0), build(part="l2", mode=mode)
    size = torch.ones((), requires_grad=True)
    optimizer = torch.optim.SGD([*penalty.parameters(), size], lr=1e-4)
    for _ in range(50):
        v = view({m: size * torch.randn(32, d, generator=rng) for m, d in DIMS.items()}, torch.zeros(32, Z))
        optimizer.zero_grad()
        total(penalty, v).backward()
        optimizer.step()
    return float(size.detach())


def test_l2_as_printed_collapses_by_scale_and_the_corrected_one_does_not():
    """L(cZ) = c²·L(Z): independent modalities, of which nothing can be predicted, shrink until the error is 0. Corrected, the slope
    along c is 0 up to rounding, of which 50 steps add up some 10⁻⁵."""
    assert scale_after_training("literal") < 0.1
    assert scale_after_training("corrected") == pytest.approx(1, abs=1e-3)


def test_l2_as_printed_is_a_sum_over_the_batch():
    v = random_view()
    twice = view({m: torch.cat([u, u]) for m, u in v.joint.unimodal.items()}, torch.cat([v.joint.z, v.joint.z]))
    with torch.no_grad():
        for mode, factor in (("literal", 2), ("corrected", 1)):
            penalty = build(part="l2", mode=mode).eval()
            assert float(penalty.estimate(twice)["l2"]) == pytest.approx(factor * float(penalty.estimate(v)["l2"]), rel=1e-5)
        raw = build(part="l2", mode="literal").eval()
        target = penalty._representations(v)
        assert target[0].mean(0).abs().max() < 1e-5, "the corrected form standardises"
        errors = raw.q(raw._representations(v)[0][:, :12], raw._representations(v)[1][:-1])
        torch.testing.assert_close(raw.estimate(v)["l2"], errors.sum())


# ---- MMD


def test_mmd_is_its_definition_over_pairs_of_different_segments():
    torch.manual_seed(0)
    x, y = torch.randn(2, 3, 6, 4)
    y = 2 * y + x
    got = paired_mmd2(x, y, FACTORS)
    for i in range(3):
        scale = float(estimators.median_scale(x[i], y[i]))

        def k(a, b, scale=scale):
            return sum(math.exp(-float((a - b).square().sum()) / (c * scale)) for c in FACTORS) / len(FACTORS)

        want = 0.0
        for j in range(6):
            for m in range(6):
                if j != m:
                    want += k(x[i, j], x[i, m]) + k(y[i, j], y[i, m]) - k(x[i, j], y[i, m]) - k(y[i, j], x[i, m])
        assert float(got[i]) == pytest.approx(want / 30, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(("mean", "variance"), [(1.0, 1.0), (0.0, 4.0)])
def test_mmd_of_gaussians_has_its_closed_form(mean, variance):
    """N(0, I) against N(μ, vI), ‖μ‖ = mean, k = e^{−‖·‖²/s}: E(0,2) + E(0,2v) − 2E(μ,1+v) with
    E(Δ,S) = (1+2S/s)^{−d/2}·e^{−‖Δ‖²/(s+2S)}, at the s that the median gave. Values are about 0.1, sampling errors 0.004."""
    d, rng = 5, torch.Generator().manual_seed(0)
    x, y = torch.randn(1, 800, d, generator=rng), math.sqrt(variance) * torch.randn(1, 800, d, generator=rng)
    y[..., 0] += mean
    median = float(estimators.median_scale(x[0], y[0]))
    want = 0.0
    for factor in FACTORS:
        s = factor * median

        def e(shift, total, s=s):
            return (1 + 2 * total / s) ** (-d / 2) * math.exp(-(shift**2) / (s + 2 * total))

        want += (e(0, 2) + e(0, 2 * variance) - 2 * e(mean, 1 + variance)) / len(FACTORS)
    assert float(paired_mmd2(x, y, FACTORS)) == pytest.approx(want, abs=0.01)


def test_equal_laws_of_dependent_rows_have_mean_zero():
    """x_j and y_j share three quarters of their variance. Counting the pairs of one segment with the others would give
    −2(E k(x_j, y_j) − E k(x_j, y_l))/n, some −0.02 here; the mean of 300 samples has an error of 0.001."""
    rng = torch.Generator().manual_seed(0)
    shared, noise = torch.randn(300, 16, 4, generator=rng), torch.randn(2, 300, 16, 4, generator=rng)
    x, y = math.sqrt(0.75) * shared + 0.5 * noise
    ours = float(paired_mmd2(x, y, [1.0]).mean())
    theirs = [estimators.mmd2(a, b, [float(estimators.median_scale(a, b))]) for a, b in zip(x, y, strict=True)]
    assert abs(ours) < 0.003
    assert float(torch.stack(theirs).mean()) < -0.015


def test_one_sample_has_no_distance_from_itself():
    x = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(0))
    assert (paired_mmd2(x, x, FACTORS).abs() < 1e-7).all()


def test_identity_leaves_no_parameters_and_compares_the_projections():
    penalty, v = build(part="alignment").eval(), random_view()
    assert not list(penalty.parameters())
    z = standardize_columns(v.joint.z) @ penalty.projections[3, :Z]
    want = 0.0
    for i, (name, d) in enumerate(DIMS.items()):
        x = standardize_columns(v.joint.unimodal[name]) @ penalty.projections[i, :d]
        assert x.shape[1] == 3, "as narrow as the narrowest"
        want += float(paired_mmd2(x[None], z[None], FACTORS)) / 3
    assert float(penalty.estimate(v)["alignment"]) == pytest.approx(want, rel=1e-4)


@pytest.mark.parametrize("mode", ["corrected", "literal"])
def test_projections_have_the_stated_variances(mode):
    """As printed 1/k, which keeps norms; corrected 1/d_i, which makes the norms of standardised columns equal."""
    dims = {"language": 300, "audio": 80}
    projections = build(dims, 200, part="alignment", mode=mode).projections
    assert projections.shape == (3, 300, 16)
    for r, d in zip(projections, (300, 80, 200), strict=True):
        assert float(r[:d].square().mean()) == pytest.approx(1 / 16 if mode == "literal" else 1 / d, rel=0.1)
        assert not r[d:].any()


def test_coupling_is_invertible_whatever_its_weights():
    """det = 1 at every point, and images of different points differ."""
    torch.manual_seed(0)
    for k in (2, 3, 5):
        g = Coupling(1, k, 8)
        with torch.no_grad():
            for p in g.parameters():
                p.mul_(3)
        for _ in range(3):
            jacobian = torch.autograd.functional.jacobian(lambda x, g=g, k=k: g(x.view(1, 1, k)).flatten(), torch.randn(k))
            assert float(torch.linalg.det(jacobian.double()).abs()) == pytest.approx(1, rel=1e-4)
        assert not torch.allclose(jacobian, torch.eye(k), atol=0.1)


HELD_OUT = 400


def frozen_rows(n, rng):
    """Language is N(0, I), Z a mixture of two Gaussians with the same two moments, both of width 6."""
    z = 0.4 * torch.randn(n, 6, generator=rng) + math.sqrt(0.84) * torch.randn(n, 1, generator=rng).sign()
    return view({"language": torch.randn(n, 6, generator=rng)}, z)


@pytest.mark.parametrize(("g", "mode", "sign"), [("mlp", "corrected", 1), ("mlp", "literal", 1), ("coupling", "corrected", -1)])
def test_the_printed_map_descends_the_distance_and_the_coupling_ascends_it(g, mode, sign):
    """g's own loss is ± the distance, value and gradient."""
    penalty, v = build({"language": 6}, 6, part="alignment", g=g, mode=mode), frozen_rows(64, torch.Generator().manual_seed(0))
    losses = penalty.critic_loss(v), sign * penalty.estimate(v)["alignment"]
    torch.testing.assert_close(*losses)
    ours, wanted = (torch.autograd.grad(loss, list(penalty.g.parameters())) for loss in losses)
    assert any(gradient.any() for gradient in wanted)
    for gradient, want in zip(ours, wanted, strict=True):
        torch.testing.assert_close(gradient, want)


@pytest.mark.parametrize("mode", ["corrected", "literal"])
def test_a_map_that_lowers_the_distance_has_a_vacuous_minimum(mode):
    """The encoder is frozen, its two laws differ, and stay so. A map without slopes sends all rows to one point: the distance is 0,
    in rounding of its n² terms of size 1, and only the distance without a map still tells the laws apart."""
    penalty = build({"language": 6}, 6, part="alignment", g="mlp", mode=mode).eval()
    v = frozen_rows(HELD_OUT, torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = penalty.estimate(v)
        penalty.g.weights[-1].zero_()
        after = penalty.estimate(v)
    rounding = 1e-5 * (HELD_OUT**2 if mode == "literal" else 1)
    assert abs(float(after["alignment"])) < rounding < float(before["alignment_identity"])
    assert float(after["spread"]) == pytest.approx(0, abs=1e-6)
    assert float(before["spread"]) > 1e-3
    torch.testing.assert_close(after["alignment_identity"], before["alignment_identity"], rtol=0, atol=0)


def test_a_coupling_leaves_the_distance_as_it_is_and_can_only_raise_it():
    """With networks that say 0 it re-orders columns, which no distance between rows sees: the supremum over its weights, which it
    ascends, is the distance without a map or more. That a bijection brings no laws together is
    `test_coupling_is_invertible_whatever_its_weights`."""
    v = frozen_rows(HELD_OUT, torch.Generator().manual_seed(1))
    coupling, plain = (build({"language": 6}, 6, part="alignment", g=g).eval() for g in ("coupling", None))
    plain.projections.copy_(coupling.projections)
    with torch.no_grad():
        for p in coupling.g.parameters():
            p.zero_()
        torch.testing.assert_close(coupling.estimate(v)["alignment"], plain.estimate(v)["alignment"], rtol=1e-4, atol=1e-6)


def test_mmd_as_printed_grows_with_the_square_of_the_rows():
    torch.manual_seed(0)
    x, y = torch.randn(2, 1, 40, 3)
    want = estimators.mmd2(x[0], 2 * y[0], [6.0], unbiased=False) * 40**2
    torch.testing.assert_close(printed_mmd(x, 2 * y)[0], want, rtol=1e-4, atol=1e-3)


# ---- KL


def gaussian_rows(n, rho, rng):
    """Language: two columns of correlation ρ; Z: two independent ones."""
    a, b = torch.randn(2, n, 1, generator=rng)
    return view({"language": torch.cat([a, rho * a + math.sqrt(1 - rho**2) * b], 1)}, torch.randn(n, 2, generator=rng))


@pytest.mark.parametrize("flip", [False, True])
def test_kl_approaches_the_closed_form_in_each_direction(flip):
    """KL(N(0,R)‖N(0,I)) = −½ log(1−ρ²) = 0.22 at ρ = 0.6; the other way ρ²/(1−ρ²) + ½ log(1−ρ²) = 0.34. R_i are set to I."""
    rho, rng = 0.6, torch.Generator().manual_seed(0)
    own = -0.5 * math.log(1 - rho**2)
    truth = rho**2 / (1 - rho**2) - own if flip else own
    penalty = build({"language": 2}, 2, part="alignment", divergence="kl", flip=flip)
    penalty.projections.copy_(torch.eye(2))
    fit(penalty, (gaussian_rows(256, rho, rng) for _ in range(200)), lr=3e-3)
    with torch.no_grad():
        assert float(penalty.estimate(gaussian_rows(20_000, rho, rng))["alignment"]) == pytest.approx(truth, rel=0.15)


def test_t_knows_which_modality_it_looks_at():
    penalty, v = build(part="alignment", divergence="kl").eval(), random_view()
    same = view(dict.fromkeys(DIMS, v.joint.z), v.joint.z)
    penalty = build(dict.fromkeys(DIMS, Z), part="alignment", divergence="kl").eval()
    with torch.no_grad():
        penalty.projections[:] = penalty.projections[0].clone()
        p, q = penalty._scores(*penalty._projected(penalty._representations(same)[1]))
    assert not torch.allclose(q[0], q[1])
    torch.testing.assert_close(p, q)


def test_kl_as_printed_has_the_supremum_kl_minus_one():
    """N(1,1) against N(0,1), KL = ½, T = log p/q = x − ½: the printed form gives ½ − 1."""
    rng = torch.Generator().manual_seed(0)
    p, q = torch.randn(2, 200_000, generator=rng)
    joint, product = p + 1 - 0.5, q - 0.5
    assert float(printed_kl(joint, product)) == pytest.approx(-0.5, abs=0.01)
    assert float(estimators.donsker_varadhan(joint, product)) == pytest.approx(0.5, abs=0.01)
    # Any factor e^c on the exponential only loses: c ↦ c − e^c has its maximum −1 at 0.
    assert all(float(printed_kl(joint + c, product + c)) < -0.5 for c in (-0.5, 0.5))


def test_in_literal_mode_the_critic_raises_what_map_and_encoder_lower():
    """One step each of T and of g on the critic's loss moves the printed bound up and down."""
    v = random_view()
    for name, sign in (("t", 1), ("g", -1)):
        penalty = build(part="alignment", divergence="kl", mode="literal")
        before = float(penalty.estimate(v)["alignment"].detach())
        penalty.critic_loss(v).backward()
        with torch.no_grad():
            for p in getattr(penalty, name).parameters():
                p -= 1e-3 * p.grad
        assert sign * (float(penalty.estimate(v)["alignment"].detach()) - before) > 0


# ---- kurtosis


def one_variable(z, **options) -> tuple[Synergy, View]:
    penalty = build({"language": 1}, z.shape[1], part="kurtosis", variables="fused", **options)
    return penalty, view({"language": z[:, :1]}, z)


FREE = {"clip": 1e6, "ridge": 1e-7}
"""Neither clipping nor a ridge."""

LAWS = {
    "gaussian": (torch.randn, lambda p: p * (p + 2)),
    "uniform": (torch.rand, lambda p: p * (p - 1) + 1.8 * p),
    # The difference of two exponentials.
    "laplace": (
        lambda *s, generator: torch.rand(2, *s, generator=generator).log().diff(dim=0)[0],
        lambda p: p * (p - 1) + 6 * p,
    ),
}


@pytest.mark.parametrize("p", [1, 5, 20])
@pytest.mark.parametrize("law", LAWS)
def test_kurtosis_of_known_laws(law, p):
    """Independent columns of kurtosis b: κ = p(p−1) + pb, divided by p(p+2). At 20 000 rows the error is below 5 %."""
    draw, kappa = LAWS[law]
    z = draw(20_000, p, generator=torch.Generator().manual_seed(0))
    penalty, v = one_variable(z, **FREE)
    got = float(penalty.estimate(v)["kurtosis"])
    assert got == pytest.approx(kappa(p) / (p * (p + 2)), rel=0.05)
    assert got == pytest.approx(float(estimators.mardia_kurtosis(z)) / (p * (p + 2)), rel=1e-3)


def test_every_variable_has_its_own_kurtosis():
    v = random_view(400)
    got = build(part="kurtosis", **FREE).estimate(v)["kurtosis"]
    want = [float(estimators.mardia_kurtosis(t)) / (t.shape[1] * (t.shape[1] + 2)) for t in leaves(v)]
    assert float(got) == pytest.approx(sum(want) / 4, rel=1e-3)
    fused = build(part="kurtosis", variables="fused", **FREE).estimate(v)["kurtosis"]
    assert float(fused) == pytest.approx(want[-1], rel=1e-3)


def test_defaults_read_near_one_for_gaussians_of_any_width():
    """After as many batches as a training fold has, on others."""
    rng = torch.Generator().manual_seed(0)
    for p in (4, 32, 128):
        penalty, _ = one_variable(torch.randn(4, p, generator=rng))
        for _ in range(40):
            penalty(one_variable(torch.randn(32, p, generator=rng))[1])
        got = float(penalty.eval().estimate(one_variable(torch.randn(2000, p, generator=rng))[1])["kurtosis"])
        assert got == pytest.approx(1, abs=0.06)


def test_the_covariance_moves_without_the_bias_of_its_beginning():
    """S_t = (αS' + (1−α)C), S' begins at 0, S = S'/(1−α^t); here C of standardised, unclipped columns."""
    penalty, _ = one_variable(torch.randn(4, 3), decay=0.7, **FREE)
    s, moments = torch.zeros(3, 3), penalty.moments
    for t in range(1, 6):
        z = torch.randn(10, 3, generator=torch.Generator().manual_seed(t)) @ torch.randn(3, 3)
        penalty(one_variable(z)[1])
        x = standardize_columns(z)
        s = 0.7 * s + 0.3 * x.T @ x / 10
        torch.testing.assert_close(moments.scatter[0] / moments.rows, s / (1 - 0.7**t))


def test_larger_batches_count_by_their_rows():
    penalty, _ = one_variable(torch.randn(4, 3), decay=0.5, **FREE)
    small, large = torch.randn(8, 3), torch.randn(24, 3)
    for z in (small, large):
        penalty(one_variable(z)[1])
    a, b = (standardize_columns(z).T @ standardize_columns(z) for z in (small, large))
    torch.testing.assert_close(penalty.moments.scatter[0] / penalty.moments.rows, (0.5 * a + b) / (0.5 * 8 + 24))


@pytest.mark.parametrize("mode", ["corrected", "literal"])
def test_only_stage_two_in_training_moves_the_covariance(mode):
    penalty, v = build(mode=mode, weight=0.1), random_view()
    state = deepcopy(penalty.state_dict())

    def moved():
        return not all(torch.equal(value, state[key]) for key, value in penalty.state_dict().items())

    penalty.train()
    penalty.estimate(v), penalty.critic_loss(v)
    assert not moved()
    penalty.eval()
    penalty(v), penalty.estimate(v)
    assert not moved()
    penalty.train()
    penalty(v)
    assert moved()


def test_a_resumed_covariance_goes_on_bit_for_bit():
    whole, broken = build(), build()
    for seed in range(3):
        whole(random_view(seed=seed)), broken(random_view(seed=seed))
    resumed = build(seed=5)
    resumed.load_state_dict(broken.state_dict())
    with torch.no_grad():
        for seed in range(3, 6):
            assert whole(random_view(seed=seed)) == resumed(random_view(seed=seed))


def few_rows(n, p):
    """n ≤ p + 1 random rows about 0 whose n − 1 singular values are 1 to 2, so that rounding does not decide what S inverts to."""
    z = torch.randn(n, p, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    left, _, right = torch.linalg.svd(z - z.mean(0), full_matrices=False)
    return (left[:, : n - 1] * torch.linspace(1, 2, n - 1) @ right[: n - 1]).float()


@pytest.mark.parametrize("n", [2, 5, 6])
def test_few_rows_alone_say_nothing_and_the_moving_covariance_does(n):
    """At n ≤ p + 1 rows with their own S, m_i is the same for each, so κ/(p(p+2)) is p/(p+2) whatever they are."""
    penalty, v = one_variable(few_rows(n, 5), clip=1e6, ridge=1e-4)
    assert float(penalty.estimate(v)["kurtosis"]) == pytest.approx(5 / 7, rel=2e-3)
    for seed in range(30):
        penalty(one_variable(torch.randn(32, 5, generator=torch.Generator().manual_seed(seed)))[1])
    v.joint.z.requires_grad_()
    value = penalty(v)["kurtosis_term"]
    value.backward()
    if n > 2:  # two standardised rows are ±1
        assert abs(float(value.detach()) - 5 / 7) > 0.01
        assert v.joint.z.grad.norm() > 1e-3


def test_kurtosis_as_printed_has_no_gradient_at_p_plus_one_rows():
    """κ = p² exactly, from a batch of n = p + 1 rows and no ridge; Shankar's (2022) batches are 32 or 64."""
    z = few_rows(9, 8).requires_grad_()
    penalty, v = one_variable(z, mode="literal", clip=1e6, ridge=1e-12)
    value = penalty(v)["kurtosis_term"]
    value.backward()
    assert float(value.detach()) == pytest.approx(64, rel=1e-4)
    assert z.grad.norm() < 1e-2
    rows = torch.randn(90, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    penalty, v = one_variable(rows, mode="literal", clip=1e6, ridge=1e-12)
    penalty(v)["kurtosis_term"].backward()
    assert rows.grad.norm() > 1, "what it is with rows enough"


def test_kurtosis_as_printed_tends_to_a_hundredth_of_itself():
    """S → C/(1−α), so κ → (1−α)²·p(p+2), 0.24 in the place of 24 for p = 4, α = 0.9; corrected it stays 1."""
    literal, corrected = (
        one_variable(torch.zeros(4, 4), mode=m, decay=0.9, clip=1e6, ridge=1e-7)[0] for m in ("literal", "corrected")
    )
    rng = torch.Generator().manual_seed(0)
    values = []
    for _ in range(80):
        v = one_variable(torch.randn(1000, 4, generator=rng))[1]
        values.append((float(literal(v)["kurtosis_term"]), float(corrected(v)["kurtosis_term"])))
    late = torch.tensor(values[-30:]).mean(0)
    assert values[0][0] == pytest.approx(24, rel=0.1)
    assert float(late[0]) == pytest.approx(0.24, rel=0.05)
    assert float(late[1]) == pytest.approx(1, rel=0.05)


def test_kurtosis_as_printed_shrinks_z_by_4ακ():
    """With S* = C/(1−α), αS* + C = S*, m ∝ s²/(α + s²(1−α)): ∂κ/∂s = 4ακ at s = 1. Corrected: 0."""
    z = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    for mode in ("literal", "corrected"):
        penalty, v = one_variable(z, mode=mode, decay=0.9, clip=1e6, ridge=1e-7)
        for _ in range(200):
            penalty(v)
        size = torch.ones((), requires_grad=True)
        value = penalty(view({"language": z[:, :1]}, size * z))["kurtosis_term"]
        value.backward()
        want = 4 * 0.9 * float(value.detach()) if mode == "literal" else 0
        assert float(size.grad) == pytest.approx(want, rel=1e-3, abs=1e-5)


def test_one_outlier_ruins_the_printed_kurtosis_only():
    """Of 256 rows one is a thousand lengths away. Clipped in S alone it reads a million times p(p+2) = 24."""
    z = torch.randn(256, 4, generator=torch.Generator().manual_seed(0))
    far = z.clone()
    far[0] *= 1000 / far[0].norm()

    def kurtosis(rows, **options):
        penalty, v = one_variable(rows, **options)
        return float(penalty(v)["kurtosis_term"])

    printed = {"mode": "literal", "clip": 10.0, "ridge": 1e-6}
    assert kurtosis(z, **printed) == pytest.approx(24, rel=0.15)
    assert kurtosis(far, **printed) > 1e7
    assert kurtosis(z) == pytest.approx(1, rel=0.15)
    assert 0.5 < kurtosis(far) < 2


def test_long_differences_are_shortened_in_both_places():
    """Lengths 1, 1, 1, 10 about 0 and clip 3: the fourth counts as 3."""
    x = torch.tensor([[[1.0, 0], [0, 1], [-1, 0], [0, -10]]])
    moments = Moments([2], decay=0.5, clip=3.0, ridge=1e-6)
    got = float(moments(x, update=True))
    d = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -3]])
    torch.testing.assert_close(moments.scatter[0], d.T @ d)
    m = ((d @ torch.linalg.inv(d.T @ d / 4)) * d).sum(1)
    assert got == pytest.approx(float(m.square().mean() / m.mean() ** 2) * 2 / 4, rel=1e-4)


def test_a_printed_covariance_without_rank_is_refused():
    penalty, v = one_variable(torch.arange(6.0).view(6, 1).expand(6, 3), mode="literal", ridge=1e-30)
    with pytest.raises(ValueError, match="singular"):
        penalty(v)


# ---- lowering it


@pytest.mark.parametrize("part", ["alignment", "kurtosis"])
def test_lowering_a_part_does_what_it_says(part):
    """A map of heavy-tailed sources is trained against one part: laws come together, tails become lighter, nothing vanishes."""
    rng = torch.Generator().manual_seed(0)

    def sources(n):
        heavy = torch.randn(n, 4, generator=rng) * torch.randn(n, 1, generator=rng).abs()
        return heavy, torch.randn(n, 4, generator=rng)

    torch.manual_seed(0)
    penalty = build({"language": 4}, 4, part=part)
    network = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 4))
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)

    def measured():
        torch.manual_seed(1)
        x, z = sources(1000)
        with torch.no_grad():
            y = network(z)
            return float(penalty.eval().estimate(view({"language": x}, y))[part]), float(y.std())

    before, _ = measured()
    penalty.train()
    for _ in range(150):
        x, z = sources(64)
        optimizer.zero_grad()
        total(penalty, view({"language": x}, network(z))).backward()
        optimizer.step()
    after, size = measured()
    assert after < before - 0.01
    assert size > 0.1


# ---- refusals


def test_a_model_without_unimodal_representations_is_refused():
    with pytest.raises(ValueError, match=r"needs unimodal representations beside Z, 2 or more.*offers none"):
        build(dims={})
    with pytest.raises(ValueError, match="2 or more for these parts, but the model offers language"):
        build(dims={"language": 3})
    build(dims={"language": 3}, part="alignment")
    build(dims={}, part="kurtosis", variables="fused")


@pytest.mark.parametrize("gammas", [{"l2": -1.0}, {"l2": 0, "alignment": 0, "kurtosis": 0}, {"kurtosis": float("nan")}])
def test_weights_of_parts_are_checked(gammas):
    with pytest.raises(ValueError, match="weights of its parts, >= 0 and one at least > 0"):
        build(**gammas)


@pytest.mark.parametrize(
    ("option", "value"),
    [("projection", 0), ("hidden", 0), ("clip", 0.5), ("ridge", 0.0), ("bound", 0.0), ("decay", 1.0), ("decay", float("nan"))],
)
def test_numbers_out_of_range_are_refused(option, value):
    with pytest.raises(ValueError, match=f"{option}={value}"):
        build(**{option: value})


def test_couplings_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"Coupling takes two numbers at least.*the projection has 1"):
        build(g="coupling", projection=1)
    with pytest.raises(ValueError, match="the divergence is kl"):
        build(g="coupling", divergence="kl")
