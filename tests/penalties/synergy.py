"""Synergy penalties of small modalities, views for them, and a fit of their critics."""

import torch

from mdm.penalties.base import View
from mdm.penalties.synergy import Synergy
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
