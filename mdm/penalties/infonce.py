"""Stage three, penalty: InfoNCE between representations, raised (CPC; in Han et al., 2021 between Z and each modality).

Which of the y_j of a batch belongs to x_i? A critic that answers by the softmax of scores s(x_i, y_j) bounds the information:
I(X; Y) ≥ log n + E[log softmax_i]. Critic and backbone both raise it. The bound is steady in minibatches, where a
Donsker–Varadhan critic diverges, and pays for that by never exceeding log n, n the number of candidates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mdm import estimators
from mdm.hints import Size, require_option
from mdm.penalties.base import Penalty, View
from mdm.penalties.pairs import name_parts, pad_columns, pairs_of, prepare_columns
from mdm.types import Fusion

Scores = Literal["inner", "cosine"]
Direction = Literal["xy", "yx", "both"]
DIRECTIONS: dict[Direction, tuple[bool, ...]] = {"xy": (False,), "yx": (True,), "both": (False, True)}
"""Name → whether the scores are transposed: rows are anchors, columns candidates."""


class InfoNCE(Penalty):
    """−λ·Σ over pairs of `estimators.info_nce` of the scores s(x, y) = ⟨g(x), h(y)⟩/τ (Han et al., 2021, Eqs. 10–12).

    pairs: [[x, y], …], names of unimodal representations or parts, or ``z``; null: every two modalities
    scores: ``inner`` (default), or ``cosine``, of g and h of length one: with τ = 1, as Han et al. (2021) have it, the bound then
        stays below 1 nat whatever the information is
    temperature: τ. Inner products learn their own scale
    direction: ``xy``, x finds its y among the y_j (Eq. 11); ``yx``, the reverse (the official code); ``both`` (default), their mean
    dim: width of g and h
    hidden: width of their one hidden layer; null (default): they are linear, and then log p(y|x)/p(y) of Gaussians, which has
        squares, is not among the scores. But a critic with a hidden layer overfits its rows sooner
    block: rows are divided into blocks of about this many (between ⅔ and ½ as many again), and each anchor finds its partner in its
        own block alone; null: among all rows. The value grows with the number of candidates, so that a fold read at once would
        be measured with another bound and another cap than batches of 32: set it to data.batch_size. The rows of a block are
        spread over the fold, because neighbours may come from one video
    normalize: whether each dimension of x and y is standardised over the rows, by statistics that carry gradient (default).
        Information does not change by it

    Raises ValueError on names that are not there, an unknown name, or numbers out of range.

    >>> import torch
    >>> from mdm.penalties.base import View
    >>> from mdm.types import Fusion
    >>> rows = torch.randn(64, 3)
    >>> joint = Fusion(torch.zeros(64, 1), rows, {"language": rows, "audio": rows[:, :2]})
    >>> view = View(joint, None, label=torch.zeros(64, 1))
    >>> infonce = InfoNCE(z_dim=3, weight=0.1, unimodal_dims={"language": 3, "audio": 2})
    >>> bool(infonce.estimate(view)["language_audio"] <= torch.tensor(32.0).log())  # never above the log of a block
    True
    """

    lowers = False
    bound_from = "below"

    def __init__(
        self,
        z_dim: int,
        weight: float,
        unimodal_dims: Mapping[str, Size],
        part_dims: Mapping[str, Size] | None = None,
        pairs: Sequence[Sequence[str]] | None = None,
        scores: Scores = "inner",
        temperature: float = 1.0,
        direction: Direction = "both",
        dim: Size = 16,
        hidden: Size | None = None,
        block: int | None = 32,
        normalize: bool = True,
    ):
        super().__init__(weight)
        require_option("scores", scores, Scores)
        require_option("direction", direction, Direction)
        if not 0 < temperature < math.inf or dim < 1 or (hidden is not None and hidden < 1) or (block is not None and block < 2):
            raise ValueError(
                "InfoNCE needs temperature > 0, dim >= 1, hidden >= 1 or null, and block >= 2 or null, got "
                f"temperature={temperature}, dim={dim}, hidden={hidden}, block={block}; set penalty.objective.*."
            )
        part_dims = part_dims or {}
        self.pairs = pairs_of(unimodal_dims, part_dims, pairs)
        self.scores, self.temperature, self.block, self.normalize = scores, temperature, block, normalize
        self.transposed = DIRECTIONS[direction]
        widths = {"z": z_dim, **part_dims, **unimodal_dims}
        sides = [x for x, _ in self.pairs] + [y for _, y in self.pairs]
        self.encoders = Encoders([widths[name] for name in sides], hidden, dim)

    def estimate(self, view: View) -> dict[str, Float[Tensor, ""]]:
        return {f"{a}_{b}": value for (a, b), value in zip(self.pairs, self._values(view.joint), strict=True)}

    def forward(self, view: View) -> dict[str, Float[Tensor, ""]]:
        return {"term": -self.weight * torch.stack(self._values(view.joint)).sum()}

    def critic_loss(self, view: View) -> Float[Tensor, ""]:
        return -torch.stack(self._values(view.joint)).sum()

    def _values(self, fusion: Fusion) -> list[Float[Tensor, ""]]:
        """The bound of each pair."""
        values = name_parts(fusion)
        with torch.autocast(fusion.z.device.type, enabled=False):
            wanted = dict.fromkeys(name for pair in self.pairs for name in pair)
            sides = {name: prepare_columns(values[name], self.normalize) for name in wanted}
            g, h = self.encoders([sides[x] for x, _ in self.pairs] + [sides[y] for _, y in self.pairs]).chunk(2)
            if self.scores == "cosine":
                # Not shorter than this, so that a vector of length 0 has a gradient to go by.
                g, h = F.normalize(g, dim=2, eps=1e-3), F.normalize(h, dim=2, eps=1e-3)
            blocks = 1 if self.block is None else max(1, round(len(fusion.z) / self.block))
            scores = [g[:, i::blocks] @ h[:, i::blocks].mT / self.temperature for i in range(blocks)]
            directions = [one.mT if transposed else one for one in scores for transposed in self.transposed]
            # One call for all pairs.
            bounds = [torch.vmap(estimators.info_nce)(one) for one in directions]
        return list(torch.stack(bounds).mean(0))


class Encoders(nn.Module):
    """Several networks to ``dim`` numbers, linear or of one hidden layer, as one batched network.

    widths: of their inputs. Narrower ones are filled up with zeros, so that six small networks cost the calls of one.
    Weights begin as those of ``nn.Linear`` of their true width.
    """

    def __init__(self, widths: Sequence[int], hidden: int | None, dim: int):
        super().__init__()
        self.width = max(widths)
        sizes = [self.width, *([] if hidden is None else [hidden]), dim]
        n = len(widths)
        self.weights = nn.ParameterList(torch.empty(n, a, b) for a, b in pairwise(sizes))
        self.biases = nn.ParameterList(torch.empty(n, 1, b) for b in sizes[1:])
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            for i, width in enumerate(widths):
                bound = (sizes[layer] if layer else width) ** -0.5
                nn.init.uniform_(weight.data[i], -bound, bound)
                nn.init.uniform_(bias.data[i], -bound, bound)

    def forward(self, x: Sequence[Float[Tensor, "batch _"]]) -> Float[Tensor, "networks batch dim"]:
        values = pad_columns(x, self.width)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            values = torch.baddbmm(bias, values.relu() if layer else values, weight)
        return values
