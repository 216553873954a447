"""Stage three, penalty: the canonical correlations of representations, raised (deep CCA; ICCN, Sun et al. 2020, trains with it).

They are how far linear functions of one representation agree with linear functions of the other, each counted once. Of Gaussians
they say all of the dependence; in general a sum of 0 says only that nothing linear is shared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from mdm import estimators
from mdm.hints import Range
from mdm.penalties.base import Penalty, View
from mdm.penalties.pairs import name_parts, pairs_of, prepare_columns


class Cca(Penalty):
    """−λ·Σ over pairs of `estimators.canonical_correlation`, whose value is at most the width of the narrower one.

    pairs: [[x, y], …], names of unimodal representations or parts, or ``z``; null: every two modalities. Their order does not
        matter
    ridge: added to the diagonals of both covariances (1e-3 in deep CCA's code in circulation)
    standardize: whether each dimension is standardised over the batch, so that the ridge is relative to it (default)

    The value of a batch is biased upwards, by most of its size where rows are few: for two independent representations of 10
    dimensions it is 4.9 of 10 on 32 rows, 2.4 on 128. So it wants large batches and narrow representations; what the folds report
    is of their own rows and only comparable between folds of one size.

    Raises ValueError on names that are not there, and in use on fewer than two rows.

    >>> import torch
    >>> from mdm.penalties.base import View
    >>> from mdm.types import Fusion
    >>> rows = torch.randn(64, 3)
    >>> joint = Fusion(torch.zeros(64, 1), rows, {"language": rows, "audio": rows[:, :2]})
    >>> cca = Cca(z_dim=3, weight=0.1, unimodal_dims={"language": 3, "audio": 2})
    >>> [round(float(value), 1) for value in cca.estimate(View(joint, None, label=torch.zeros(64, 1))).values()]
    [2.0]
    """

    lowers = False

    def __init__(
        self,
        z_dim: int,
        weight: float,
        unimodal_dims: Mapping[str, int],
        part_dims: Mapping[str, int] | None = None,
        pairs: Sequence[Sequence[str]] | None = None,
        ridge: Annotated[float, Range(0, strict=True)] = 1e-3,
        standardize: bool = True,
    ):
        super().__init__(weight)
        self.pairs = pairs_of(unimodal_dims, part_dims or {}, pairs)
        self.ridge, self.standardize = ridge, standardize

    def estimate(self, view: View) -> dict[str, Float[Tensor, ""]]:
        values = name_parts(view.joint)
        used = {name: prepare_columns(values[name], self.standardize) for name in {n for pair in self.pairs for n in pair}}
        return {f"{a}_{b}": estimators.canonical_correlation(used[a], used[b], self.ridge) for a, b in self.pairs}

    def forward(self, view: View) -> dict[str, Float[Tensor, ""]]:
        return {"term": -self.weight * torch.stack(list(self.estimate(view).values())).sum()}
