"""Stage three, penalty: HSIC between representations, raised (in Tsai et al., 2019, a measure; as an objective future work).

The Hilbert–Schmidt independence criterion compares which segments are alike in x with which are alike in y. It is 0 exactly if
x and y are independent, needs no critic and no density, and sees any form of dependence; but it is no information: not in nats,
and not invariant under maps of x. To raise it is to give two representations the same geometry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mdm import estimators
from mdm.penalties.base import Penalty, View
from mdm.penalties.pairs import name_parts, pairs_of, prepare_columns


class Hsic(Penalty):
    """−λ·Σ over pairs of `estimators.hsic`, k(a, b) = e^{−‖a−b‖²/2σ²} (Tsai et al., 2019, Eq. 5 and supplement F).

    pairs: [[x, y], …], names of unimodal representations or parts, or ``z``; null: every two modalities. Their order does not
        matter
    bandwidth: σ. ``median`` (default), for each side the median distance between the rows at hand over √2, without gradient; or a
        number, 1 in Tsai et al. (2019). Where that is far below √d no two rows are alike: K ≈ I, and the value is 1 (biased) or 0
        (debiased) for whatever comes
    unbiased: whether the value has mean 0 for independent rows, so that it is below 0 about half of the time (default). Else it
        is positive there, of the order 1/rows, and a fold's value is not to be compared with a batch's
    normalized: whether it is divided by √(HSIC(x, x)·HSIC(y, y)), as Eq. 5 has it: at most 1, there for representations of the same
        geometry (default). Else its size depends on how widely the rows spread in units of σ
    standardize: whether each dimension is standardised over the batch, by statistics that carry gradient (default). Then neither
        does the scale of a dimension count, nor does the term push it. A median bandwidth alone keeps the value, but not its
        gradient, free of the common scale, and lets an encoder inflate the dimensions that two modalities share

    An estimate takes memory for (rows of the fold)² numbers.

    Raises ValueError on a bandwidth that is no positive number, on names that are not there, and in use on fewer than four rows
    (two if biased).

    >>> import torch
    >>> from mdm.penalties.base import View
    >>> from mdm.types import Fusion
    >>> rows = torch.randn(64, 3)
    >>> joint = Fusion(torch.zeros(64, 1), rows, {"language": rows, "audio": rows[:, :2]})
    >>> view = View(joint, None, label=torch.zeros(64, 1))
    >>> hsic = Hsic(z_dim=3, weight=0.1, unimodal_dims={"language": 3, "audio": 2})
    >>> list(hsic.estimate(view)), bool(hsic(view)["term"] < 0)
    (['language_audio'], True)
    """

    lowers = False

    def __init__(
        self,
        z_dim: int,
        weight: float,
        unimodal_dims: Mapping[str, int],
        part_dims: Mapping[str, int] | None = None,
        pairs: Sequence[Sequence[str]] | None = None,
        bandwidth: float | str = "median",
        unbiased: bool = True,
        normalized: bool = True,
        standardize: bool = True,
    ):
        super().__init__(weight)
        if bandwidth != "median" and (isinstance(bandwidth, str) or not 0 < bandwidth < float("inf")):
            raise ValueError(
                f"HSIC's bandwidth is median or a positive number, got {bandwidth!r}; set penalty.objective.bandwidth."
            )
        self.pairs = pairs_of(unimodal_dims, part_dims or {}, pairs)
        self.scale = None if isinstance(bandwidth, str) else 2 * bandwidth**2
        self.unbiased, self.normalized, self.standardize = unbiased, normalized, standardize

    def estimate(self, view: View) -> dict[str, Float[Tensor, ""]]:
        wanted = {name for pair in self.pairs for name in pair}
        values = {
            name: prepare_columns(value, self.standardize) for name, value in name_parts(view.joint).items() if name in wanted
        }
        return {f"{a}_{b}": self._of(values[a], values[b]) for a, b in self.pairs}

    def forward(self, view: View) -> dict[str, Float[Tensor, ""]]:
        return {"term": -self.weight * torch.stack(list(self.estimate(view).values())).sum()}

    def _of(self, x: Tensor, y: Tensor) -> Float[Tensor, ""]:
        return estimators.hsic(x, y, self.scale, self.scale, self.unbiased, self.normalized)
