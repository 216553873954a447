"""Small statistics networks and rows for them."""

import torch

from mdm.penalties.critics import Critic


def build(dim=16, **options):
    torch.manual_seed(0)
    return Critic(dim, **options)


def rows(n=32, dim=16, scale=1.0, seed=0):
    return scale * torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))
