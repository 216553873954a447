"""MISA's own terms: those of the official code, and where their gradients go."""

from itertools import combinations

import numpy as np
import pytest
import torch
from backbones.misa import FEATURES, VECTORS, batch, build
from scipy.stats import moment

from mdm.types import Batch, Feature, Sequence


def terms_of(backbone, b):
    encoded = backbone.encode(b)
    fusion = backbone.fuse(encoded)
    return backbone.own_terms(b, encoded, fusion), fusion


def cmd(x, y):
    differences = [x.mean(0) - y.mean(0), *(moment(x, k) - moment(y, k) for k in range(2, 6))]
    return sum(np.linalg.norm(d) for d in differences)


def overlap(a, b):
    rows = [x - x.mean(0) for x in (a, b)]
    rows = [x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-6) for x in rows]
    return np.mean((rows[0].T @ rows[1]) ** 2)


@pytest.mark.parametrize("features", [FEATURES, {m: FEATURES[m] for m in ("audio", "video")}, {**FEATURES, "m3": Feature(3)}])
def test_own_terms_are_those_of_the_official_code(features):
    """For M modalities M(M−1)/2 pairs of shared codes (mean), M + M(M−1)/2 differences (sum), M reconstructions (mean)."""
    weights = {"similarity": 0.7, "difference": 0.2, "reconstruction": 1.5}
    backbone, b = build(features, **weights), batch(features)
    with torch.no_grad():
        terms, fusion = terms_of(backbone, b)
        private, shared = ({m: fusion.parts[f"{kind}_{m}"].numpy() for m in features} for kind in ("private", "shared"))
        rebuilt = {m: backbone.rebuild[m](fusion.parts[f"private_{m}"] + fusion.parts[f"shared_{m}"]) for m in features}
    pairs = list(combinations(features, 2))
    want = {
        "similarity": np.mean([cmd(shared[i], shared[j]) for i, j in pairs]),
        "difference": sum(overlap(private[m], shared[m]) for m in features)
        + sum(overlap(private[i], private[j]) for i, j in pairs),
        "reconstruction": np.mean([((rebuilt[m] - fusion.unimodal[m]) ** 2).mean() for m in features]),
    }
    assert set(terms) == set(want)
    for name, value in terms.items():
        assert float(value) == pytest.approx(weights[name] * want[name], rel=1e-4)


@pytest.mark.parametrize("name", ["similarity", "difference", "reconstruction"])
def test_a_term_without_weight_is_not_there(name):
    backbone = build(**{name: 0.0})
    terms, fusion = terms_of(backbone, batch())
    assert set(terms) == {"similarity", "difference", "reconstruction"} - {name}
    (fusion.prediction.sum() + sum(terms.values())).backward()
    assert all(p.grad is not None for p in backbone.parameters())  # nothing is left that only the term would train


def test_where_gradients_of_the_terms_go():
    """The target of the reconstruction is moved too, unless detached; what rebuilds learns either way."""

    def pull(target):
        backbone, b = build(target=target), batch()
        encoded = backbone.encode(b)
        p = encoded["audio"]["projected"]
        fusion = backbone.fuse(encoded)
        error = backbone.own_terms(b, encoded, fusion)["reconstruction"]
        rebuilt = backbone.rebuild["audio"](fusion.parts["private_audio"] + fusion.parts["shared_audio"])
        direct = 2 * (p - rebuilt) / p.numel() / 3  # of the mean over three modalities, as if the codes stood still
        weight = backbone.rebuild["audio"].weight
        return *torch.autograd.grad(error, [p, weight]), direct.detach()

    attached, weight, direct = pull("attached")
    detached, same, _ = pull("detached")
    torch.testing.assert_close(attached - detached, direct, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(weight, same)
    assert detached.abs().max() > 0


@pytest.mark.parametrize("name", ["similarity", "difference", "reconstruction"])
def test_a_step_down_a_term_lowers_it_as_far_as_its_gradient_says(name):
    """A step of −δL/‖∇L‖² ∇L takes the share δ = 10⁻⁴ of L away, up to δ². No term is constant, and none is cut off from what could
    lower it; how far 60 steps of Adam come differs by a factor of ten between samples. The gradient of the difference holds the
    lengths of rows constant, which move too, so that less of the share is gone."""
    backbone = build(VECTORS, target="attached").double().eval()
    rng = torch.Generator().manual_seed(0)
    sequences = {
        m: Sequence(torch.randn(32, 5, f.dim, generator=rng).double(), torch.ones(32, 5, dtype=torch.bool))
        for m, f in VECTORS.items()
    }
    b = Batch(tuple(map(str, range(32))), sequences, torch.zeros(32, 1).double())
    before = terms_of(backbone, b)[0][name]
    before.backward()
    reached = [p for p in backbone.parameters() if p.grad is not None]
    before, square = before.detach(), sum(p.grad.square().sum() for p in reached)
    assert square > 0
    with torch.no_grad():
        for p in reached:
            p -= 1e-4 * before / square * p.grad
        after = terms_of(backbone, b)[0][name]
    share = float(1 - after / before)
    assert 0 < share < 1e-4 if name == "difference" else share == pytest.approx(1e-4, rel=0.1)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_batch_of_one_has_finite_terms_and_gradients(rows):
    """One row has no spread: central moments and centred rows are 0, so are the gradients of their norms; two may be equal."""
    backbone, b = build(), batch(rows=1)
    if rows == 2:
        b = Batch(("a", "b"), {m: s[torch.tensor([0, 0])] for m, s in b.sequences.items()}, torch.zeros(2, 1))
    terms, _ = terms_of(backbone, b)
    assert all(torch.isfinite(value) for value in terms.values())
    assert float(terms["difference"].detach()) == pytest.approx(0, abs=1e-6)
    sum(terms.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in backbone.parameters() if p.grad is not None)


def test_equal_shared_codes_have_no_distance_and_finite_gradients():
    """Two modalities with one content, one encoder and one projection: the CMD is 0, where a norm has no derivative."""
    features = {"audio": Feature(5), "video": Feature(5)}
    backbone, b = build(features), batch()
    for modules in (backbone.encoders, backbone.project):
        modules["video"].load_state_dict(modules["audio"].state_dict())
    audio = b.sequences["audio"]
    terms, _ = terms_of(backbone, Batch(b.ids, {"audio": audio, "video": audio}, b.label))
    assert float(terms["similarity"].detach()) == 0
    sum(terms.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in backbone.parameters() if p.grad is not None)
