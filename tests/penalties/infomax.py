"""InfoMax penalties of three modalities, views for them, and H and q written out."""

import math
from functools import cache

import numpy as np
import torch

from mdm.penalties.base import View
from mdm.penalties.infomax import InfoMax
from mdm.types import Fusion

DIMS = {"language": 5, "audio": 2, "video": 3}
ROWS = 16


def build(dims=DIMS, **options):
    torch.manual_seed(0)
    return InfoMax(8, options.pop("weight", 1.0), dims, {}, **options)


def view(values, label=None) -> View:
    rows = len(next(iter(values.values())))
    if label is None:
        label = torch.zeros(rows, 1)
    elif not isinstance(label, torch.Tensor):
        label = torch.tensor(label, dtype=torch.float32)[:, None]
    return View(Fusion(torch.zeros(rows, 1), torch.zeros(rows, 8), values), None, label)


def random_view(seed=0, rows=ROWS, dims=DIMS):
    """Half of the rows are of each sign, in changing order."""
    rng = torch.Generator().manual_seed(seed)
    values = {m: torch.randn(rows, d, generator=rng) * (1 + torch.arange(d)) for m, d in dims.items()}
    sign = torch.ones(rows, 1)
    sign[torch.randperm(rows, generator=rng)[: rows // 2]] = -1
    return view(values, sign * (0.1 + torch.rand(rows, 1, generator=rng)))


def fit(penalty, given, steps, lr=1e-2):
    optimizer = torch.optim.Adam(penalty.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        penalty.critic_loss(given.detach()).backward()
        optimizer.step()
    return penalty


def number(value):
    return float(value.detach())


def detached(values):
    return {key: number(value) for key, value in values.items()}


# ---- H and q, by hand


def mixture_entropy(groups, weights, covariance="diagonal", ridge=1e-4):
    """Σ w (−log w + ½ log((2πe)^k |S + rI|)), the determinant by LU and the covariance by a loop over rows."""
    total = 0.0
    for rows, w in zip(groups, weights, strict=True):
        rows = np.asarray(rows.detach(), dtype=np.float64)
        k, mean = rows.shape[1], rows.mean(0)
        s = sum(np.outer(r - mean, r - mean) for r in rows) / len(rows)
        s = np.diag(np.diag(s)) if covariance == "diagonal" else s
        total += w * (-math.log(w) + 0.5 * (k * math.log(2 * math.pi * math.e) + math.log(np.linalg.det(s + ridge * np.eye(k)))))
    return total


# ---- Gaussians

N = 3000
A = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, -0.5], [0.8, 0.0, 0.3]])


def linear_gaussian(noise, seed):
    """y = A x + ε, x ~ N(0, I), ε ~ N(0, noise)."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(N, 3, generator=rng)
    y = x @ A.T + torch.randn(N, 3, generator=rng) @ torch.linalg.cholesky(noise).T
    return view({"language": x, "audio": y})


INDEPENDENT = torch.diag(torch.tensor([0.3, 0.5, 0.2]))


@cache
def fitted_q(noise):
    """What stage one learns does not depend on how H is taken."""
    penalty = build({"language": 3, "audio": 3}, classes="one", hidden=32)
    return fit(penalty, linear_gaussian(noise, seed=1), 300).state_dict()


def fitted(noise, **options):
    penalty = build({"language": 3, "audio": 3}, classes="one", hidden=32, **options)
    penalty.load_state_dict(fitted_q(noise))
    return penalty
