"""Stage three, penalty: orthogonality of representations, the linear counterpart of CLUB (Qian et al., 2024, Eq. 9; after MISA).

It has no critic: what it lowers are squared inner products between two blocks of representations. Zero means that they are
orthogonal, not that they are independent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mdm import estimators
from mdm.estimators.moments import Form
from mdm.hints import require_option
from mdm.penalties.base import Penalty, View
from mdm.penalties.pairs import name_parts, pairs_of


class Orthogonal(Penalty):
    """+λ·Σ over pairs of `estimators.orthogonality`.

    form: ``features`` (default), mean squared inner product of the d columns, after each row was centred and brought to length
        one, as MISA's code has it: 0 where the *directions* of the rows are uncorrelated. ``gram``, squared inner products of the
        N rows, as Eq. 9 is printed: 0 where segments lie in orthogonal subspaces, which (t, 0) and (0, t) do although each
        determines the other; needs equal widths. Both grow with the number of rows, squared where the rows are dependent, so
        a weight is one for a batch size, and validation, which reads a whole fold, reports larger values than training
    pairs, shared: see `pairs_of`; the order within a pair does not matter

    Raises ValueError on an unknown form, on names that are not there, and for ``gram`` on pairs of different widths.

    >>> import torch
    >>> from mdm.penalties.base import View
    >>> from mdm.types import Fusion
    >>> rows = torch.randn(64, 3)
    >>> joint = Fusion(torch.zeros(64, 1), rows, {"language": rows, "audio": rows[:, :2]})
    >>> view = View(joint, None, label=torch.zeros(64, 1))
    >>> orthogonal = Orthogonal(z_dim=3, weight=0.1, unimodal_dims={"language": 3, "audio": 2})
    >>> list(orthogonal.estimate(view)), bool(orthogonal(view)["term"] > 0)
    (['language_audio'], True)
    """

    lowers = True

    def __init__(
        self,
        z_dim: int,
        weight: float,
        unimodal_dims: Mapping[str, int],
        part_dims: Mapping[str, int] | None = None,
        form: Form = "features",
        pairs: Sequence[Sequence[str]] | None = None,
        shared: str | None = None,
    ):
        super().__init__(weight)
        require_option("form", form, Form)
        widths = {"z": z_dim, **(part_dims or {}), **unimodal_dims}
        self.pairs = pairs_of(unimodal_dims, part_dims or {}, pairs, shared)
        unequal = [f"{a} ({widths[a]}) and {b} ({widths[b]})" for a, b in self.pairs if widths[a] != widths[b]]
        if form == "gram" and unequal:
            raise ValueError(
                f"form=gram takes inner products of rows, so it needs equal widths, but {unequal[0]} differ; use form=features."
            )
        self.form = form

    def estimate(self, view: View) -> dict[str, Float[Tensor, ""]]:
        values = name_parts(view.joint)
        return {f"{a}_{b}": estimators.orthogonality(values[a].float(), values[b].float(), self.form) for a, b in self.pairs}

    def forward(self, view: View) -> dict[str, Float[Tensor, ""]]:
        return {"term": self.weight * torch.stack(list(self.estimate(view).values())).sum()}
