"""Stage three, penalty: the Barber–Agakov bound between unimodal representations, raised (MMIM's own penalty, Han et al., 2021).

For a pair (x, y), I(X; Y) ≥ E[log q(y|x)] + H(Y) (Eq. 3). The critic q is fitted by maximum likelihood on detached
representations, one pass before each epoch (Eq. 4, stage one); the backbone then raises the sum, through frozen q and through
H, which is that of one Gaussian per sentiment class (Eqs. 5–8), fitted on this batch and the ones before it.

The value is an estimate and no bound: Eq. 7 and a Gaussian's entropy can only exceed H(Y). For independent X and Y whose
classes coincide it reads log 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mdm import estimators
from mdm.estimators.densities import Covariance
from mdm.hints import Count, Size, require_option
from mdm.penalties.base import Penalty, View

Likelihood = Literal["gaussian", "official"]
EntropySpace = Literal["raw", "projected"]
ClassRule = Literal["paper", "official", "one"]
Prior = Literal["empirical", "equal"]
Unused = Literal["fixed", "decayed"]
History = Literal["whole", "own"]


class InfoMax(Penalty):
    """−λ·Σ over pairs of (E[log q(y|x)] + H(Y)).

    pairs: [[x, y], …], names of unimodal representations, each read as q(y|x); null: language with every other modality
    hidden: width of the two networks of q, mean and log variance, d_x → hidden → d_y each; null: d_y, as in the official code
    likelihood: ``gaussian``, log q of N(μ, diag e^s) (default); ``official``, that code's −(y − μ)²/2e^s alone, which s → ∞ makes
        0 whatever μ is, so that after some epochs neither network nor encoder learns from it
    bound: log variances are bound·tanh(·/bound), so that a pair that q predicts perfectly has a finite value; null: unbounded,
        as in the official code
    entropy_space: where H is taken. ``raw``, of y itself, as the bound asks (default); ``projected``, of tanh(W y) of width d_y/4,
        as in the official code, whose W no stage trains
    unused: of W, ``fixed`` (default), or ``decayed``: the critic's optimiser takes it for a parameter with a gradient of 0, and
        decays it where it decays, once H has had a gradient, as in the official code with the torch of its time
    covariance: ``diagonal``, as Eq. 5 is printed (default): H and q then see the same, each dimension of y alone, and the value
        is Σ_j I(X; Y_j), in which what dimensions repeat counts again. ``full``, as Eq. 6 and the official code: the value is
        I(X; Y) less the total correlation of Y given X, which a diagonal q cannot follow. Where h has few directions that is
        several nats, and to raise the value is first of all to whiten y
    classes: ``paper``, label ≥ neutral and < neutral (default); ``official``, > and <, neutral rows dropped; ``one``, a single
        Gaussian of all rows, the paper's "w/o GMM". With several targets the first decides; an unlabelled row has no polarity
    neutral: the label between the classes: 0 on the scale of MOSI and MOSEI, 3 on one from 1 to 5
    prior: of the classes. ``empirical`` (default), their shares of the rows, as Eq. 7 means; ``equal``, Eq. 8
    memory: earlier batches of the epoch whose representations, as they were then, count in H; 0 is the paper's "w/o history"
    history: what H's gradient stands for. ``whole`` (default): the rows of this batch speak for the remembered ones too, so the
        gradient is multiplied by all rows / own rows. ``own``, as in the official code: own rows move alone, hence H pulls with
        only their share against the whole likelihood, and the sum shrinks y
    skip_first: so many batches of each epoch count the likelihood without H; the official code has memory + 1
    ridge: added to the variances that H is taken of; 0 in the official code
    spare_rows: a class counts in H if it has so many rows more than dimensions (than 1 for ``diagonal``). From 3 on (default)
        H's gradient, which holds the inverse of a sample's covariance, has a finite second moment; 1 is the least that has a
        determinant. The official code counts every class, and has the logarithm of a determinant of 0 or less below 1
    z_dim, part_dims: accepted for the common call, not read

    The prior is that of the classes that count. Where none does, H is unknown and the pair is left out: likelihood alone rewards a
    constant y.

    Raises ValueError on representations that are not there, unknown names, or numbers out of range.

    >>> import torch
    >>> from mdm.penalties.base import View
    >>> from mdm.types import Fusion
    >>> rows = torch.randn(64, 3)
    >>> joint = Fusion(torch.zeros(64, 1), rows, {"language": rows, "audio": rows[:, :2]})
    >>> view = View(joint, None, label=torch.zeros(64, 1))
    >>> infomax = InfoMax(z_dim=3, weight=0.1, unimodal_dims={"language": 3, "audio": 2})
    >>> list(infomax.estimate(view)), infomax.critic_loss(view).shape
    (['language_audio'], torch.Size([]))
    """

    lowers = False
    reached: Tensor

    def __init__(
        self,
        z_dim: int,
        weight: float,
        unimodal_dims: Mapping[str, Size],
        part_dims: Mapping[str, Size] | None = None,
        pairs: Sequence[Sequence[str]] | None = None,
        hidden: Size | None = None,
        likelihood: Likelihood = "gaussian",
        bound: float | None = 6.0,
        entropy_space: EntropySpace = "raw",
        covariance: Covariance = "diagonal",
        classes: ClassRule = "paper",
        neutral: float = 0.0,
        prior: Prior = "empirical",
        memory: Count = 3,
        history: History = "whole",
        skip_first: Count = 0,
        ridge: float = 1e-4,
        unused: Unused = "fixed",
        spare_rows: Count = 3,
    ):
        super().__init__(weight)
        for name, value, options in (
            ("likelihood", likelihood, Likelihood),
            ("entropy_space", entropy_space, EntropySpace),
            ("covariance", covariance, Covariance),
            ("classes", classes, ClassRule),
            ("prior", prior, Prior),
            ("history", history, History),
            ("unused", unused, Unused),
        ):
            require_option(name, value, options)
        positive = all(number is None or number > 0 for number in (hidden, bound)) and ridge >= 0
        if min(memory, skip_first) < 0 or spare_rows < 1 or not positive:
            raise ValueError(
                "InfoMax needs hidden and bound to be positive or null, memory, skip_first and ridge >= 0 and spare_rows >= 1, got "
                f"hidden={hidden}, bound={bound}, memory={memory}, skip_first={skip_first}, ridge={ridge}, "
                f"spare_rows={spare_rows}; set these of the objective."
            )
        if unused == "decayed" and entropy_space == "raw":
            raise ValueError("InfoMax has a W that may decay in a projected space of H alone; set the objective's entropy_space.")
        self.pairs = pairs_of(unimodal_dims, pairs)
        self.likelihood, self.classes, self.neutral, self.prior, self.history = likelihood, classes, neutral, prior, history
        self.covariance, self.ridge, self.memory, self.skip_first, self.unused = covariance, ridge, memory, skip_first, unused
        self.spare_rows = spare_rows
        self.q = nn.ModuleList(Conditional(unimodal_dims[x], hidden, unimodal_dims[y], bound) for x, y in self.pairs)
        targets = dict.fromkeys(y for _, y in self.pairs)
        self.spaces = nn.ModuleDict(
            {y: Projection(unimodal_dims[y]) if entropy_space == "projected" else nn.Identity() for y in targets}
        )
        self.register_buffer("reached", torch.tensor(False), persistent=unused == "decayed")
        self.start_epoch()

    def start_epoch(self) -> None:
        self._past: list[Classes] = []
        self._batches = 0

    def estimate(self, view: View) -> dict[str, Float[Tensor, ""]]:
        """The value of each pair, of the rows of the view alone; 0, which always bounds an information, where H is unknown."""
        now, values = self._classes(view), {}
        for (x, y), likelihood in zip(self.pairs, self._likelihoods(view), strict=True):
            entropy = self._entropy(y, now, [])
            values[f"{x}_{y}"] = torch.zeros_like(likelihood) if entropy is None else likelihood + entropy
        return values

    def forward(self, view: View) -> dict[str, Float[Tensor, ""]]:
        now, past = self._classes(view), self._past if self.training else []
        skipping = self.training and self._batches < self.skip_first
        if self.training:
            self._batches += 1
            recent = [*past, [{y: rows.detach() for y, rows in one.items()} for one in now]]
            self._past = recent[-self.memory :] if self.memory else []
        likelihood = entropy = torch.zeros((), device=view.joint.z.device)
        for (_, y), value in zip(self.pairs, self._likelihoods(view), strict=True):
            h = None if skipping else self._entropy(y, now, past)
            likelihood = likelihood + value if skipping or h is not None else likelihood
            entropy = entropy + h if h is not None else entropy
            if self.training and h is not None:
                self.reached = torch.ones_like(self.reached)
        return {"likelihood": -self.weight * likelihood, "entropy": -self.weight * entropy}

    def critic_loss(self, view: View) -> Float[Tensor, ""]:
        loss = -torch.stack(self._likelihoods(view)).sum()
        if self.unused == "decayed" and self.reached:
            loss = loss + 0 * torch.stack([parameter.sum() for parameter in self.spaces.parameters()]).sum()
        return loss

    def _likelihoods(self, view: View) -> list[Float[Tensor, ""]]:
        """E[log q(y|x)] of each pair, in fp32: it divides by variances."""
        values = []
        with torch.autocast(view.joint.z.device.type, enabled=False):
            for (x, y), q in zip(self.pairs, self.q, strict=True):
                target = view.joint.unimodal[y].float()
                mean, log_variance = q(view.joint.unimodal[x].float())
                if self.likelihood == "gaussian":
                    values.append(estimators.barber_agakov(target, mean, log_variance))
                else:
                    values.append(-((target - mean).square() / (2 * log_variance.exp())).sum(1).mean())
        return values

    def _classes(self, view: View) -> Classes:
        with torch.autocast(view.joint.z.device.type, enabled=False):
            values = {y: space(view.joint.unimodal[y].float()) for y, space in self.spaces.items()}
        return [{y: value[rows] for y, value in values.items()} for rows in split_classes(view.label, self.classes, self.neutral)]

    def _entropy(self, y: str, now: Classes, past: list[Classes]) -> Float[Tensor, ""] | None:
        """H(Y) of these rows and the remembered ones together; None where no class has rows enough."""
        own = sum(len(one[y]) for one in now)
        total = own + sum(len(one[y]) for batch in past for one in batch)
        groups = []
        for c, one in enumerate(now):
            rows = one[y]
            if self.history == "whole" and own:
                rows = rows.detach() + total / own * (rows - rows.detach())
            rows = torch.cat([*(batch[c][y] for batch in past), rows])
            if len(rows) >= self.spare_rows + (1 if self.covariance == "diagonal" else rows.shape[1]):
                groups.append(rows)
        if not groups:
            return None
        shares = [1 if self.prior == "equal" else len(rows) for rows in groups]
        weights = [share / sum(shares) for share in shares]
        return estimators.gaussian_mixture_entropy(groups, weights, self.covariance, self.ridge)


Classes = list[dict[str, Tensor]]
"""class → y → its rows in the space of H, [rows, d]."""


def split_classes(label: Float[Tensor, "batch targets"], classes: str, neutral: float = 0.0) -> list[Int[Tensor, " _"]]:
    """For each class of ``paper``, ``official`` or ``one``, which rows are of it; NaN is of neither polarity."""
    y = label[:, 0] - neutral
    if classes == "one":
        return [torch.arange(len(y), device=y.device)]
    return [rows.nonzero().squeeze(1) for rows in (y >= 0 if classes == "paper" else y > 0, y < 0)]


class Conditional(nn.Module):
    """q(y|x) = N(μ(x), diag e^{s(x)}), μ and s each linear → ReLU → linear; x → (μ, s). Matrices begin Xavier-normal."""

    def __init__(self, x_dim: int, hidden: int | None, y_dim: int, bound: float | None):
        super().__init__()
        hidden = hidden or y_dim
        self.bound = bound
        self.mean, self.log_variance = (
            nn.Sequential(nn.Linear(x_dim, hidden), nn.ReLU(), nn.Linear(hidden, y_dim)) for _ in range(2)
        )
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_normal_(parameter)

    def forward(self, x: Float[Tensor, "batch d_x"]) -> tuple[Float[Tensor, "batch d_y"], Float[Tensor, "batch d_y"]]:
        raw = self.log_variance(x)
        return self.mean(x), raw if self.bound is None else self.bound * torch.tanh(raw / self.bound)


class Projection(nn.Module):
    """tanh(W y + b) of a quarter of the width, which nothing trains."""

    def __init__(self, dim: int):
        super().__init__()
        layer = nn.Linear(dim, max(dim // 4, 1))
        nn.init.xavier_normal_(layer.weight)
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, y: Float[Tensor, "batch d_y"]) -> Float[Tensor, "batch d"]:
        return torch.tanh(nn.functional.linear(y, self.weight, self.bias))


def pairs_of(unimodal: Mapping[str, int], pairs: Sequence[Sequence[str]] | None) -> list[tuple[str, str]]:
    """The pairs (x, y), by default language with every other modality, in the paper's direction.

    Raises ValueError if one is not there, or none is left.
    """
    wanted = "language and another modality"
    if pairs is None:
        result = [("language", m) for m in unimodal if m != "language"] if "language" in unimodal else []
    else:
        result = [(x, y) for x, y in pairs]
        wanted = ", ".join(f"{x} and {y}" for x, y in result) or "two modalities"
    if not result or not {name for pair in result for name in pair} <= set(unimodal):
        raise ValueError(
            f"InfoMax needs unimodal representations of {wanted}, but the model offers {', '.join(unimodal) or 'none beside Z'}; "
            "set the objective's pairs, choose data or a model that has them, or leave it out (model.own_penalty=null where it is "
            "the model's own)."
        )
    return result
