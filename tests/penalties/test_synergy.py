"""Synergy: what all parts keep, what lowering each of them does, and refusals."""

import pytest
import torch
from penalties.synergy import ALONE, build, leaves, random_view, total, view
from torch import nn

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
