"""A linear fusion of the component-wise Gaussian modalities, and the closed forms of what it holds of their dependence."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch
from torch import nn

from mdm.backbones.base import Backbone
from mdm.data.gaussian import gaussian_total_correlation
from mdm.types import Fusion

D, M, RHO, K, WIDTH, VALID, WEIGHT = 5, 3, 0.6, 6, 2, 512, 10.0
SIGMA = np.kron((1 - RHO) * np.eye(M) + RHO, np.eye(D))  # modality by modality


class LinearFusion(Backbone):
    """Z = A [x_1; …; x_M] and U_m = B_m x_m, a linear head on Z."""

    def __init__(self, spec):
        super().__init__()
        dims = {m: feature.dim for m, feature in spec.features.items()}
        self.z_dim, self.unimodal_dims = K, dict.fromkeys(dims, WIDTH)
        self.a = nn.Linear(sum(dims.values()), K, bias=False)
        self.b = nn.ModuleDict({m: nn.Linear(d, WIDTH, bias=False) for m, d in dims.items()})
        self.head = nn.Linear(K, 1)

    def encode(self, batch):
        return {m: {"x": sequence.values[:, 0]} for m, sequence in batch.sequences.items()}

    def fuse(self, encoded):
        z = self.a(torch.cat([parts["x"] for parts in encoded.values()], 1))
        return Fusion(self.head(z), z, {m: b(encoded[m]["x"]) for m, b in self.b.items()})


@dataclass(frozen=True)
class Linear:
    """A and B_m, of which all closed forms are functions."""

    a: np.ndarray
    b: dict[str, np.ndarray]

    @classmethod
    def of(cls, backbone):
        a, *b = (layer.weight.detach().double().numpy().copy() for layer in (backbone.a, *backbone.b.values()))
        return cls(a, dict(zip(backbone.b, b, strict=True)))

    @property
    def kl(self):
        """KL(N(0, P) ‖ N(0, Q)), P = AΣAᵀ, Q = AAᵀ: the dependence that is left in Z."""
        p, q = self.a @ SIGMA @ self.a.T, self.a @ self.a.T
        return (np.trace(np.linalg.solve(q, p)) - K + np.linalg.slogdet(q)[1] - np.linalg.slogdet(p)[1]) / 2

    @property
    def bures(self):
        """W2 of two Gaussians, √(tr P + tr Q − 2 tr (Q^½ P Q^½)^½), of what layer normalisation leaves.

        It takes each row's mean and length. So P and Q are those of centred columns, each brought to total variance K: the W2 of Z
        itself would grow with |A|, which the critic does not see. (The normalised rows are no Gaussians; this is the same
        geometry, not their W1, for which see the assignment below.)
        """
        a = self.a - self.a.mean(0)
        p, q = ((c * K / np.trace(c)) for c in (a @ SIGMA @ a.T, a @ a.T))
        root = scipy.linalg.sqrtm(q).real
        return math.sqrt(max(2 * K - 2 * np.trace(scipy.linalg.sqrtm(root @ p @ root).real), 0.0))

    @property
    def information(self):
        """I(U_i; U_j) of every pair."""
        values = {}
        for (i, x), (j, y) in itertools.combinations(self.b.items(), 2):
            covariance = np.block([[x @ x.T, RHO * x @ y.T], [RHO * y @ x.T, y @ y.T]])
            values[f"{i}_{j}"] = gaussian_total_correlation(covariance, [WIDTH, WIDTH])
        return values

    @property
    def by_dimension(self):
        """Σ_k I(U_l; U_mk) = −½ Σ_k log(1 − R²_k) for language l and each other modality m: what infomax is about.

        Its q and its entropy are of each dimension alone, so what two dimensions of U_m repeat counts twice, and to raise the
        value the encoder may give up a dimension of U_m for a copy of another. I(U_l; U_m) need not rise with it, and does not.
        """
        x, values = self.b["language"], {}
        for m in ("audio", "video"):
            cross = RHO * self.b[m] @ x.T
            explained = np.diag(cross @ np.linalg.solve(x @ x.T, cross.T)) / np.diag(self.b[m] @ self.b[m].T)
            values[f"language_{m}"] = float(-np.log1p(-explained).sum() / 2)
        return values

    def of_measure(self, name):
        if name in ("kl", "f", "wasserstein"):
            return {"estimate": self.kl}
        return self.by_dimension if name == "infomax" else self.information
