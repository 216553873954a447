"""Mutual dependency penalties of small representations, and views for them."""

import torch

from mdm.penalties.base import View
from mdm.penalties.dependency import Dependency
from mdm.types import Fusion

DIM, ROWS = 8, 40


def build(**options):
    torch.manual_seed(0)
    return Dependency(**{"z_dim": DIM, "weight": 0.5, **options}).eval()


def view(joint=None, product=None):
    rng = torch.Generator().manual_seed(0)
    joint = torch.randn(ROWS, DIM, generator=rng) + 1 if joint is None else joint
    product = torch.randn(ROWS, DIM, generator=rng) if product is None else product
    nothing = torch.zeros(len(joint), 1)
    return View(Fusion(nothing, joint), Fusion(torch.zeros(len(product), 1), product), nothing)


def number(values):
    (value,) = values.values()
    return float(value.detach())
