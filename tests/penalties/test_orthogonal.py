"""The orthogonal constraint: both forms by hand, and what each of them cannot see."""

import pytest
import torch
from torch import nn

from mdm.penalties.base import View
from mdm.penalties.orthogonal import Orthogonal
from mdm.types import Fusion

DIMS = {"language": 3, "audio": 3, "video": 3}


def build(dims=DIMS, parts=None, **options):
    return Orthogonal(8, options.pop("weight", 1.0), dims, parts or {}, **options)


def view(values, parts=None) -> View:
    rows = len(next(iter(values.values())))
    return View(Fusion(torch.zeros(rows, 1), torch.zeros(rows, 8), values, parts or {}), None, torch.zeros(rows, 1))


def one(form, a, b):
    return float(build({"x": a.shape[1], "y": b.shape[1]}, form=form).estimate(view({"x": a, "y": b}))["x_y"])


T = torch.tensor([1.0, -2.0, 3.0, -1.0, -1.0])
ZERO = torch.zeros(5)


def test_gram_does_not_see_that_one_determines_the_other():
    """(t, 0) and (0, t) have orthogonal rows, though the first is the second: the printed form is 0, that of features is not."""
    a, b = torch.stack([T, ZERO], 1), torch.stack([ZERO, T], 1)
    assert one("gram", a, b) == 0
    assert one("features", a, b) > 0.1


def test_features_do_not_see_what_is_not_linear():
    """t and t² are uncorrelated for symmetric t."""
    t = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])
    a, b = t.sign().unsqueeze(1), t.abs().sub(1.2).sign().unsqueeze(1)
    assert one("features", a, b) == pytest.approx(0, abs=1e-6)
    assert one("gram", a, b) > 0


def test_the_term_is_plus_weight_times_the_sum_over_pairs():
    torch.manual_seed(0)
    values = {m: torch.randn(10, 3) for m in DIMS}
    parts = {"shared": torch.randn(10, 3)}
    penalty = build(parts={"shared": 3}, shared="shared", weight=0.3)
    estimate = penalty.estimate(view(values, parts))
    latent = ["language_audio", "language_video", "audio_video"]
    assert list(estimate) == [*latent, "language_shared", "audio_shared", "video_shared"]
    torch.testing.assert_close(penalty(view(values, parts))["term"], 0.3 * sum(estimate.values()))
    assert not list(penalty.parameters())


@pytest.mark.parametrize("form", ["features", "gram"])
def test_lowering_it_lowers_correlation(form):
    torch.manual_seed(0)
    source = torch.randn(64, 4)
    maps = nn.ModuleList([nn.Linear(4, 2) for _ in range(2)])
    optimizer, penalty = torch.optim.Adam(maps.parameters(), lr=1e-2), build({"x": 2, "y": 2}, form=form, weight=1e-2)
    values = []
    for _ in range(200):
        given = view(dict(zip("xy", (f(source) for f in maps), strict=True)))
        values.append(float(penalty.estimate(given)["x_y"].detach()))
        optimizer.zero_grad()
        penalty(given)["term"].backward()
        optimizer.step()
    assert values[-1] < 0.1 * values[0]


def test_refusals():
    with pytest.raises(ValueError, match=r"needs equal widths, but x \(2\) and y \(3\) differ; use form=features"):
        build({"x": 2, "y": 3}, form="gram")
    with pytest.raises(ValueError, match="needs at least two of them"):
        build({})
