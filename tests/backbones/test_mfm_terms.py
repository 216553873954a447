"""MFM's own terms: reconstruction of real steps, and what its prior does and does not see."""

import math
from dataclasses import replace

import pytest
import torch
from backbones.mfm import FEATURES, LENGTHS, batch, build, decoded, spec, three
from torch.nn import functional as F

from mdm.backbones.decoders import Decoder
from mdm.backbones.mfm import SPREAD, prior_distance
from mdm.types import Batch, Feature, Fusion, Sequence

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
