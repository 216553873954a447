"""Stage three, penalty: CLUB, an upper bound on mutual information that is lowered (MIRD's own penalty, Qian et al., 2024).

For a pair (x, y) of representations, Î = E[log q(y|x)] − E_x E_y[log q(y|x)] (Eqs. 10–12). With the true conditional in the place
of q this is I(X; Y) + KL(p_x p_y ‖ p_xy), so never below the information, and 0 exactly if x and y are independent; with a
q that fits badly it may be anything. So the critic q is fitted by maximum likelihood (Eq. 13) on detached representations, five
steps a batch (T' of Algorithm 1), *before* the backbone's step; official code fits it after.

The value of a batch that q was just fitted on is too high: from 1284 independent pairs of 64-d vectors a q that has seen them
for 30 epochs reads some 13 nats. Only what validation reports is an estimate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mdm import estimators
from mdm.hints import Size, require_option
from mdm.penalties.base import Penalty, View
from mdm.penalties.pairs import Direction, name_parts, pad_columns, pairs_of, prepare_columns


class Club(Penalty):
    """+λ·Σ over pairs of the CLUB upper bound: dependence is lowered.

    pairs: [[x, y], …], names of unimodal representations or parts, or z, each read as q(y|x); null: see `pairs_of`
    shared, direction: for ``pairs: null``, see `pairs_of`
    hidden: width of the two networks of q, mean and log variance, d_x → hidden → d_y each (16 in official code)
    bound: log variances are bound·tanh(·); 1 in official code
    normalize: whether each dimension of x and y is standardised over the batch, by statistics that carry gradient (default).
        Information does not change by it. Without it, as in paper and official code, variances of q between 1/e and e say
        that whatever is small is noise: an encoder that shrinks its output lowers the value and keeps the dependence
    labelled_only: leave out segments without a label (Qian et al., 2024, Table 6)
    Raises ValueError on names that are not there, an unknown direction, fewer than one pair, or numbers out of range.

    >>> import torch
    >>> from mdm.penalties.base import View
    >>> from mdm.types import Fusion
    >>> rows = torch.randn(64, 3)
    >>> joint = Fusion(torch.zeros(64, 1), rows, {"language": rows, "audio": rows[:, :2]})
    >>> view = View(joint, None, label=torch.zeros(64, 1))
    >>> club = Club(z_dim=3, weight=0.1, unimodal_dims={"language": 3, "audio": 2})
    >>> list(club.estimate(view)), club.critic_loss(view).shape
    (['language_audio'], torch.Size([]))
    """

    lowers = True
    bound_from = "above"

    def __init__(
        self,
        z_dim: int,
        weight: float,
        unimodal_dims: Mapping[str, Size],
        part_dims: Mapping[str, Size] | None = None,
        pairs: Sequence[Sequence[str]] | None = None,
        shared: str | None = None,
        direction: Direction = "paper",
        hidden: Size = 16,
        bound: float = 1.0,
        normalize: bool = True,
        labelled_only: bool = False,
    ):
        super().__init__(weight)
        require_option("direction", direction, Direction)
        if hidden < 1 or not bound > 0:
            raise ValueError(
                f"CLUB needs hidden >= 1 and bound > 0, got hidden={hidden} and bound={bound}; set the objective's hidden and "
                "bound."
            )
        part_dims = part_dims or {}
        self.pairs = pairs_of(unimodal_dims, part_dims, pairs, shared, direction)
        self.normalize, self.labelled_only = normalize, labelled_only
        widths = {"z": z_dim, **part_dims, **unimodal_dims}
        self.conditional = Conditionals([(widths[x], widths[y]) for x, y in self.pairs], hidden, bound)

    def estimate(self, view: View) -> dict[str, Float[Tensor, ""]]:
        y, mean, log_variance = (self._by_pair(t) for t in self._conditionals(view))
        return {f"{a}_{b}": estimators.club(y[i], mean[i], log_variance[i]) for i, (a, b) in enumerate(self.pairs)}

    def forward(self, view: View) -> dict[str, Float[Tensor, ""]]:
        # Bound and likelihood are sums over the dimensions of y, so all pairs side by side are one.
        return {"term": self.weight * estimators.club(*self._conditionals(view))}

    def critic_loss(self, view: View) -> Float[Tensor, ""]:
        return -estimators.barber_agakov(*self._conditionals(view))

    def _conditionals(self, view: View) -> tuple[Tensor, Tensor, Tensor]:
        """y of all pairs side by side, and the means and log variances of q(y|x)."""
        fusion = view.joint[~view.label.isnan().any(1)] if self.labelled_only else view.joint
        wanted = {name for pair in self.pairs for name in pair}
        values = {name: prepare_columns(value, self.normalize) for name, value in name_parts(fusion).items() if name in wanted}
        y = torch.cat([values[b] for _, b in self.pairs], dim=1)
        return y, *self.conditional([values[a] for a, _ in self.pairs])

    def _by_pair(self, side_by_side: Tensor) -> tuple[Tensor, ...]:
        return side_by_side.split(self.conditional.widths, dim=1)


class Conditionals(nn.Module):
    """Several q(y|x) = N(μ(x), diag exp(bound·tanh(s(x)))), μ and s networks of one hidden layer, as one batched network.

    widths_of: (d_x, d_y) of each. Narrower ones are filled up with zeros, so six small networks cost the calls of one.
    Weights begin as those of ``nn.Linear`` of their true width.
    """

    def __init__(self, widths_of: Sequence[tuple[int, int]], hidden: int, bound: float):
        super().__init__()
        self.bound = bound
        self.widths = [y for _, y in widths_of]
        self.dim = max(x for x, _ in widths_of)
        n, out = len(widths_of), max(self.widths)
        self.first = nn.Parameter(torch.empty(n, self.dim, 2 * hidden))
        self.first_bias = nn.Parameter(torch.empty(n, 1, 2 * hidden))
        # Axis 1: mean and log variance.
        self.second = nn.Parameter(torch.empty(n, 2, hidden, out))
        self.second_bias = nn.Parameter(torch.empty(n, 2, 1, out))
        for i, (x, _) in enumerate(widths_of):
            for parameter in (self.first, self.first_bias):
                nn.init.uniform_(parameter.data[i], -(x**-0.5), x**-0.5)
        for parameter in (self.second, self.second_bias):
            nn.init.uniform_(parameter, -(hidden**-0.5), hidden**-0.5)

    def forward(self, x: Sequence[Float[Tensor, "batch _"]]) -> tuple[Float[Tensor, "batch d"], Float[Tensor, "batch d"]]:
        """Mean and log variance of every y, side by side. In fp32: the bound divides by variances."""
        with torch.autocast(x[0].device.type, enabled=False):
            stacked = pad_columns(x, self.dim)
            hidden = torch.baddbmm(self.first_bias, stacked, self.first).relu()
            hidden = hidden.unflatten(2, (2, -1)).transpose(1, 2)
            both = hidden @ self.second + self.second_bias
        mean, log_variance = (torch.cat([both[i, k, :, :width] for i, width in enumerate(self.widths)], dim=1) for k in (0, 1))
        return mean, self.bound * torch.tanh(log_variance)
